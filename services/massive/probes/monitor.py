"""Probe all targets: what is probed when, where results go, and what the beats report."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

from marketswarm.agent import Agent, first_point
from marketswarm.bus import Bus, BusError
from marketswarm.keys import ALERT_LOG, MASSIVE_ALERTS, MASSIVE_PROBES, MASSIVE_ROSTER
from marketswarm.metrics import Family
from marketswarm.monitor import alert_target
from marketswarm.truth import AccessPoint
from services.massive.market.settings import key_refusal, rest_url, ws_url
from services.massive.probes.alerts import AlertPublisher
from services.massive.probes.metrics import collect_metrics
from services.massive.probes.probers.context import ProbeContext
from services.massive.probes.publish import ResultPublisher
from services.massive.probes.result import CONFIG, Finding, Result
from services.massive.probes.scheduler import Lanes, Plan, ProbeScheduler
from services.massive.probes.targets import Polygon, Target, Tcp
from services.massive.settings import MassiveEnvironment, ProbeSettings

SHOWN: Final = 4


def summarize(targets: int, latest: Mapping[str, Finding], off: Mapping[str, str]) -> str | None:
    """Return `1 of 2 targets fail: db (tcp refused)`, what is off, what warns; None if all is well.

    `off` gives, by kind, why targets of that kind are not probed.
    """
    failing = [each for each in latest.values() if not each.result.ok]
    warning = [each for each in latest.values() if each.result.ok and each.result.warning]
    said = [
        _counted(failing, f"of {targets} targets fail", lambda one: f"{one.result.stage} {one.result.error}"),
        f"off: {', '.join(f'{kind} ({why})' for kind, why in off.items())}" if off else "",
        _counted(warning, f"of {targets} targets warn", _warned),
    ]
    return "; ".join(filter(None, said)) or None


def _counted(some: Sequence[Finding], what: str, word: Callable[[Finding], str]) -> str:
    if not some:
        return ""
    shown = ", ".join(f"{each.target} ({word(each)})" for each in some[:SHOWN])
    more = f" and {len(some) - SHOWN} more" if len(some) > SHOWN else ""
    return f"{len(some)} {what}: {shown}{more}"


def _warned(finding: Finding) -> str:
    days_left = finding.result.facts.get("days_left")
    if finding.result.warning == "ends_soon" and days_left is not None:
        return f"ends in {days_left} days"
    return str(finding.result.warning)


BARS: Final = ":bars"
REDIS_PORT: Final = 6379


class ProbeMonitor:
    """All probes of massive."""

    def __init__(self, me: Agent[MassiveEnvironment], lanes: Lanes) -> None:
        self._me, self._lanes = me, lanes
        self._wishes = ProbeSettings()
        self._errors: dict[str, str | None] = {}
        self.publishing = ResultPublisher(self._stream)
        self.telling = AlertPublisher(self._alerts, me.boot)
        self.rounds = ProbeScheduler(
            me.task, lanes, means=self._means, placed=self._placed, deliver=self._deliver
        )
        self.off: dict[str, str] = {}
        self.market_stream: Callable[[], str | None] = lambda: None

    @classmethod
    @contextmanager
    def of(cls, me: Agent[MassiveEnvironment]) -> Iterator["ProbeMonitor"]:
        """Run the probes of an agent until the block ends; then end their threads."""
        lanes = Lanes()
        try:
            probing = cls(me, lanes)
            me.task(probing.publishing.run(), name="results")
            me.task(probing.telling.run(), name="outlook")
            yield probing
        finally:
            lanes.close()

    def follow(self, wishes: ProbeSettings) -> None:
        """Probe by these settings from now on."""
        if wishes is self._wishes:
            return
        self._wishes, settings = wishes, self._me.settings
        kinds = dict.fromkeys(target.kind for target in wishes.targets)
        self.off = {kind: why for kind in kinds if (why := settings.off(kind)) is not None}
        watched = [target for target in wishes.targets if target.kind not in self.off]
        self.rounds.follow([self._plan(target) for target in watched])
        self.telling.follow({target.name: wishes.patience(target) for target in watched})
        names = {target.name for target in watched}
        self._errors = {name: error for name, error in self._errors.items() if name in names}

    def remark(self) -> str | None:
        """Return what fails, what warns and what is off, for the detail of a beat; None if all is well."""
        return summarize(len(self.rounds.standing), self.rounds.latest(), self.off)

    def trouble(self) -> str | None:
        """Return why the work as a whole fails (results that can't be written, late probes), or None."""
        late, untold = self.rounds.late(), self.telling
        said = (
            self.publishing.trouble,
            f"{untold.waiting()} results not judged: {untold.refusal}" if untold.refusal else None,
            f"{late} of {len(self.rounds.standing)} targets not probed in time" if late else None,
        )
        return "; ".join(filter(None, said)) or None

    def collect(self) -> Iterator[Family]:
        """Yield the metrics of the probes."""
        return collect_metrics(self.rounds.latest(), dict(self.telling.known), self.publishing, self.telling)

    # -- inside

    def _plan(self, target: Target) -> Plan:
        wishes, settings = self._wishes, self._me.settings
        within_sec = target.timeout_sec or wishes.timeout_sec or settings.within_sec(target.kind)
        return Plan(target, wishes.every_sec(target), within_sec)

    def _means(self, plan: Plan, last: Finding | None) -> ProbeContext:
        settings = self._me.settings
        return ProbeContext(
            plan.within_sec,
            self._lanes.look_up(last),
            resolvers=settings.resolvers(),
            api_key=settings.polygon_api_key,
            rest_url=rest_url(self._wishes.market, settings.massive_rest_url),
            ws_url=ws_url(self._wishes.market, settings.massive_ws_url),
            market_stream=self.market_stream,
        )

    def _placed(self, target: Target) -> Target | Result:
        """Return the target as it can be probed: a bus as host and port; a failed Result if it can't.

        The market's key is sent only where the environment permits it.
        """
        if isinstance(target, Polygon):
            settings, market = self._me.settings, self._wishes.market
            named = target.url or market.rest_url, market.ws_url
            environment = settings.massive_rest_url, settings.massive_ws_url
            if key_refusal(named, environment) is not None:
                return Result(target.kind, target.name, CONFIG, "key_refused")
        if not isinstance(target, Tcp) or target.bus is None:
            return target
        try:
            parts = urlsplit(self._me.bus(target.bus).url)
        except BusError as error:
            return Result(target.kind, target.bus, CONFIG, error.reason)
        return target.model_copy(update={"host": parts.hostname, "port": parts.port or REDIS_PORT})

    def _deliver(self, plan: Plan, finding: Finding) -> None:
        name, result = plan.target.name, finding.result
        self.publishing.put(finding, plan.every_sec)
        self.telling.put(name, finding.ts, result.error)
        if self._errors.get(name, "") != result.error:
            self._errors[name] = result.error
            say = self._me.log.warning if result.error else self._me.log.info
            say("probe.changed", target=name, where=result.where, stage=result.stage, error=result.error)

    def _stream(self) -> tuple[Bus, str]:
        _, channel = alert_target(self._me.truth, self._me.settings)
        others = {channel, ALERT_LOG, MASSIVE_ALERTS, MASSIVE_ROSTER}
        points = [point for point in self._me.section.access_points.publish_to if point.key not in others]
        to = first_point(filter(_no_bars, points), "market-redis", MASSIVE_PROBES)
        return self._me.bus(to.bus), to.key

    def _alerts(self) -> Bus:
        return self._me.bus(alert_target(self._me.truth, self._me.settings)[0])


def _no_bars(point: AccessPoint) -> bool:
    return not point.key.endswith(BARS)
