"""The main loop of medic: the work of the leader as a task, what the beats say of it, and its metrics.

Another thread than the event loop's reads the metrics, on METRICS_PORT.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from marketswarm.agent import Agent, agent
from marketswarm.agent.loops import lead
from marketswarm.agent.outage_alerts import OutageAlerts
from marketswarm.agent.outage_state import MONITOR, AlertRule
from marketswarm.bus import BusError
from marketswarm.bus.outage import Outage
from marketswarm.keys import MEDIC_DRY, MEDIC_LEASE, dry_run_key, own_lease_key
from marketswarm.metrics import Family, MetricTable
from marketswarm.truth import MEDIC, SYSTEM, Truth
from services.medic.alert_follower import AlertFollower
from services.medic.decision import LEASE_SEC
from services.medic.facts import RestartOwner
from services.medic.medic import Medic
from services.medic.owners.embedded_fleet import EmbeddedFleet, FleetLogs
from services.medic.owners.log_source import LogSource
from services.medic.owners.owner import ProcessOwner
from services.medic.remedies import Remedy
from services.medic.repair import RepairState
from services.medic.rules.monitor import RuleMonitor
from services.medic.settings import HealingSettings, MedicEnvironment, MedicSettings

if TYPE_CHECKING:
    from services.medic.diagnosis.second_tier import SecondTier

REPORT_EVERY_SEC: Final = 1.0
_FORMER_LEASE: Final = MEDIC
_DRY_MONITOR: Final[AlertRule] = replace(
    MONITOR, stream=dry_run_key(MONITOR.stream), states=dry_run_key(MONITOR.states)
)
"""Where a dry run keeps what its rules find: the healer copies nothing from there, so no person is told."""
_HELP: Final = {
    "repairs{state}": "Open repairs, by their state.",
    "entries_total{what}": "Entries of timelines that were written, by what they say.",
    "orders_total{remedy,result}": "Remedies that were ordered, by the remedy and the outcome.",
    "alerts_total{what}": "Entries of the alert log that were seen, by what they were.",
    "rules_holding{rule}": "For how many subjects a rule holds.",
    "events_total{kind}": "Events put on medic:alerts, which the healer copies: miss, ok, unwatched.",
    "diagnoses_total{result}": "Questions to the second tier, by outcome.",
    "engine_requests_total{request,result}": "Requests to the container engine, by outcome.",
    "systemd_requests_total{request,result}": "Calls to systemd, by outcome.",
    "leading": "1 while this process is the one that acts.",
    "fuse_blown": "1 after too many remedies, until a person approves.",
    "round_seconds": "The processor time of the last look at the fleet.",
}
_METRICS: Final = MetricTable("marketswarm_medic_", _HELP)


async def main() -> int:
    """Run the medic until it is asked to stop; return its exit code."""
    # a dry run looks first whether a medic that heals beats
    async with agent(MEDIC, MedicEnvironment, begins_mute=lambda settings: settings.medic_dry_run) as me:
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
            _DRY_MONITOR if me.settings.medic_dry_run else MONITOR,
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
        # a dry run is no medic that heals: it must neither keep one waiting nor wait for one
        is_dry = me.settings.medic_dry_run
        leading = lead(
            me,
            MEDIC_DRY if is_dry else MEDIC_LEASE,
            medic.lead,
            outage,
            former=None if is_dry else _FORMER_LEASE,
            life_sec=LEASE_SEC,
            on_leaderless=rules.report_leaderless,
            on_other_holder=medic.give_way,
        )
        me.task(end_commands_after(leading, medic), name="medic")
        me.task(follow_other(me, medic), name="other medic")
        while True:
            me.set_degraded(medic.find_problem())
            me.set_degraded(
                next(filter(None, (each.find_problem() for each in log_sources)), None), part="logs"
            )
            me.set_detail(medic.summarize())
            await me.rest(REPORT_EVERY_SEC)
    return me.exit_code


async def end_commands_after(leading: Awaitable[None], medic: Medic) -> None:
    """Lead until cancelled; then kill the commands that are left from a term that ended with its bus."""
    try:
        await leading
    finally:
        await medic.end_commands()


async def follow_other(me: Agent[MedicEnvironment], medic: Medic) -> None:
    """Look again and again whether a dry run and a medic that heals continue side by side.

    The dry run is mute until it has looked, and again from when it finds the other one, as long as it lives:
    a beat of its own would hide that the other one has ended. The one that heals says in its beats that a dry
    run continues. Runs until it is cancelled.
    """
    is_told = False
    is_dry, bus = me.settings.medic_dry_run, me.bus(SYSTEM)
    other = own_lease_key(MEDIC, MEDIC_LEASE if is_dry else MEDIC_DRY)
    while True:
        with contextlib.suppress(BusError):  # others say that the bus is away
            is_there = bool(await bus.ask(bus.client.exists(other)))
            medic.has_dry_run = is_there and not is_dry
            me.is_mute = is_told or (is_there and is_dry)
            if me.is_mute and not is_told:
                is_told = True
                me.log.warning("medic.beats_stopped")
        await asyncio.sleep(REPORT_EVERY_SEC)


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
    """Return what is asked for diagnoses; None in a dry run, or if the environment names nothing."""
    if me.settings.medic_dry_run:
        return None
    if me.settings.medic_diagnosis_command is None and me.settings.medic_diagnosis_url is None:
        return None
    from services.medic.diagnosis.second_tier import SecondTier  # noqa: PLC0415 - loads httpx, 9 MB

    return SecondTier(me, get_ladder, logs)


def collect_metrics(medic: Medic, alerts: AlertFollower) -> Iterator[Family]:
    states = Counter(repair.state for repair in list(medic.planner.repairs.values()))
    holding = Counter(name.partition("/")[0] for name in medic.rules.holding.copy())
    return _METRICS.collect(
        repairs={state: states[state] for state in RepairState if state is not RepairState.RESOLVED},
        entries_total=medic.entries,
        orders_total=medic.orders,
        alerts_total=alerts.seen,
        rules_holding={rule: holding[rule] for rule in medic.rules.names},
        events_total=medic.rules.alerts.published,
        diagnoses_total=medic.second_tier.counts if medic.second_tier else {},
        engine_requests_total=_count_requests(medic, RestartOwner.ENGINE),
        systemd_requests_total=_count_requests(medic, RestartOwner.SYSTEMD),
        leading=medic.is_leading,
        fuse_blown=medic.planner.fuse.blown_at is not None,
        round_seconds=medic.round_sec,
    )


def _count_requests(medic: Medic, kind: RestartOwner) -> Counter[tuple[str, str]]:
    owners = (owner for owner in medic.owners if kind in owner.restarts_for)
    return sum((owner.requests.copy() for owner in owners), Counter())
