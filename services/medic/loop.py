"""The main loop of medic: the work of the leader as a task, and what the beats say of it."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from marketswarm.agent import Agent, agent
from marketswarm.agent.loops import lead
from marketswarm.agent.outage_alerts import OutageAlerts
from marketswarm.agent.outage_state import MONITOR
from marketswarm.bus.outage import Outage
from marketswarm.truth import MEDIC, Truth
from services.medic.alert_follower import AlertFollower
from services.medic.medic import Medic
from services.medic.metrics import collect_metrics
from services.medic.owners.embedded_fleet import EmbeddedFleet, FleetLogs
from services.medic.owners.log_source import LogSource
from services.medic.owners.owner import ProcessOwner
from services.medic.planner import LEASE_SEC
from services.medic.remedies import Remedy
from services.medic.rules.monitor import RuleMonitor
from services.medic.settings import HealingSettings, MedicEnvironment, MedicSettings

if TYPE_CHECKING:
    from services.medic.diagnosis.second_tier import SecondTier

REPORT_EVERY_SEC: Final = 1.0


async def main() -> int:
    """Run the medic until it is asked to stop; return its exit code."""
    async with agent(MEDIC, MedicEnvironment) as me:
        settings_now = me.config(MedicSettings)
        if me.settings.medic_dry_run:
            me.log.warning("medic.dry_run")

        def get_settings() -> HealingSettings:
            return settings_now().settings

        owners = make_owners(me)
        folder = me.settings.medic_fleet_logs
        log_sources: list[LogSource] = [] if folder is None else [FleetLogs(folder)]
        log_sources += [owner.logs for owner in owners if owner.logs is not None]
        outages = OutageAlerts.start(
            me,
            MONITOR,
            degrade=lambda problem: me.set_degraded(problem and f"events not sent: {problem}", part="events"),
        )
        rules = RuleMonitor(me, get_settings, outages, owners, log_sources)
        second_tier = make_second_tier(me, lambda svc: get_settings().ladder_of(svc), log_sources)
        medic = Medic(me, get_settings, rules, second_tier, owners, log_sources=log_sources)
        alerts = AlertFollower(me, get_settings, medic.wake)
        followed = set[str]()

        def follow(truth: Truth) -> None:
            medic.wake()
            rules.follow(truth)
            for name in (name for name in truth.bus_names() if name not in followed):
                followed.add(name)
                me.task(alerts.follow(name), name=f"alerts of {name}")

        follow(me.truth)
        me.on_reseed(follow)
        me.expose(lambda: collect_metrics(medic, alerts))
        outage = Outage(
            me.log,
            "medic.waiting",
            "medic.resumed",
            degrade=lambda problem: me.set_degraded(problem, part=MEDIC),
        )
        me.task(lead(me, MEDIC, medic.lead, outage, life_sec=LEASE_SEC), name="medic")
        while True:
            me.set_degraded(medic.find_problem())
            me.set_detail(medic.summarize())
            await me.rest(REPORT_EVERY_SEC)
    return me.exit_code


def make_owners(me: Agent[MedicEnvironment]) -> list[ProcessOwner]:
    """Return the owners that the environment names: the embedded fleet, a container engine, systemd."""
    settings, owners = me.settings, list[ProcessOwner]()
    if settings.medic_fleet_socket is not None:
        owners.append(EmbeddedFleet(settings.medic_fleet_socket))
    if settings.medic_engine_socket is not None:
        from services.medic.owners.engine import ContainerEngine  # noqa: PLC0415 - loads httptools

        socket, project = settings.medic_engine_socket, settings.medic_engine_project
        owners.append(ContainerEngine(socket, project, me.log))
    if settings.medic_systemd is not None:
        from services.medic.owners.systemd import SystemdUnits  # noqa: PLC0415 - the extra `systemd`

        owners.append(SystemdUnits(settings.medic_systemd, settings.medic_systemd_unit, me.log))
    return owners


def make_second_tier(
    me: Agent[MedicEnvironment], get_ladder: Callable[[str], Iterable[Remedy]], logs: Sequence[LogSource]
) -> "SecondTier | None":
    """Return what is asked for diagnoses; None if the environment names nothing."""
    if me.settings.medic_diagnosis_command is None and me.settings.medic_diagnosis_url is None:
        return None
    from services.medic.diagnosis.second_tier import SecondTier  # noqa: PLC0415 - loads httpx, 9 MB

    return SecondTier(me, get_ladder, logs)
