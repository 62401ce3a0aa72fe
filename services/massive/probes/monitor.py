"""Assemble the probes: settings, schedules, publishers, and the summary for the beats."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from marketswarm.agent import Agent, first_point
from marketswarm.agent.outage_alerts import OutageAlerts
from marketswarm.agent.outage_state import PROBES
from marketswarm.bus import Bus, BusError
from marketswarm.keys import ALERT_LOG, MASSIVE_ALERTS, MASSIVE_PROBES, MASSIVE_ROSTER
from marketswarm.metrics import Family, MetricTable
from marketswarm.monitor import find_alert_target
from marketswarm.text import format_names
from services.massive.probes.probers.context import ProbeContext
from services.massive.probes.publish import ResultPublisher
from services.massive.probes.result import CONFIG, ProbeFinding, ProbeResult
from services.massive.probes.scheduler import ConcurrencyLimits, ProbePlan, ProbeScheduler
from services.massive.settings import MassiveEnvironment, ProbeSettings
from services.massive.targets import Polygon, Target, Tcp

SHOWN: Final = 4
BARS: Final = ":bars"
REDIS_PORT: Final = 6379
_HELP: Final = {
    "probe_ok{target,kind}": "1 if the last probe of the target found it as it should be, else 0.",
    "target_up{target}": "1 if the target is up, 0 if it is down, by several probes in a row.",
    "probe_seconds{target}": "How long the last probe of the target took.",
    "certificate_days{target}": "How many days the target's certificate is still good for, where it has one.",
    "results_total": "Results put on the bus.",
    "results_lost_total": "Results dropped because the bus was away for too long.",
    "events_total{kind}": "Events put on massive:alerts, which the healer copies: miss, ok, unwatched.",
    "results_waiting": "Results that the bus of the alerts has not taken yet.",
}
_METRICS: Final = MetricTable("marketswarm_massive_", _HELP)


def summarize(targets: int, latest: Mapping[str, ProbeFinding], off: Mapping[str, str]) -> str | None:
    """Return `1 of 2 targets fail: db (tcp refused)`, and which kinds are off, and which targets warn.

    Return None if nothing fails, warns or is off. `off` gives, by kind, why targets of that kind are not
    probed.
    """
    failing, warning = list[str](), list[str]()
    for name, finding in latest.items():
        result, days_left = finding.result, finding.result.facts.get("days_left")
        if not result.ok:
            failing.append(f"{name} ({result.stage} {result.error})")
        elif result.warning == "ends_soon" and days_left is not None:
            warning.append(f"{name} (ends in {days_left} days)")
        elif result.warning:
            warning.append(f"{name} ({result.warning})")
    parts = (
        failing and f"{len(failing)} of {targets} targets fail: {format_names(failing, SHOWN)}",
        off and f"off: {', '.join(f'{kind} ({why})' for kind, why in off.items())}",
        warning and f"{len(warning)} of {targets} targets warn: {format_names(warning, SHOWN)}",
    )
    return "; ".join(str(each) for each in parts if each) or None


class ProbeMonitor:
    """Run all probes of massive, and the tasks that publish their results and alerts.

    `market_stream` returns the state of our own stream of market data, None if there is none. `off` says why
    targets of a kind are not probed, by kind.
    """

    def __init__(self, me: Agent[MassiveEnvironment], market_stream: Callable[[], str | None]) -> None:
        self._me, self._limits, self._market_stream = me, ConcurrencyLimits(), market_stream
        self._settings = ProbeSettings()
        self._errors: dict[str, str | None] = {}  # the last error of each target, to log changes
        self.results = ResultPublisher(self._get_stream)
        self.alerts = OutageAlerts.start(me, PROBES)
        self.scheduler = ProbeScheduler(
            me.task,
            self._limits,
            make_context=self._make_context,
            resolve_target=self._resolve_target,
            deliver=self._deliver,
        )
        self.off: dict[str, str] = {}
        me.task(self.results.run(), name="results")

    def close(self) -> None:
        """End the threads of the probes."""
        self._limits.close()

    def follow(self, settings: ProbeSettings) -> None:
        """Apply these settings: probe their targets, except those of kinds that are off."""
        if settings is self._settings:
            return
        self._settings = settings
        kinds = dict.fromkeys(target.kind for target in settings.targets)
        self.off = {kind: why for kind in kinds if (why := self._me.settings.why_off(kind)) is not None}
        targets = [target for target in settings.targets if target.kind not in self.off]
        plans = []
        for target in targets:
            timeout_sec = target.timeout_sec or settings.timeout_sec
            timeout_sec = timeout_sec or self._me.settings.timeout_sec(target.kind)
            plans.append(ProbePlan(target, target.every_sec or settings.probe_sec, timeout_sec))
        self.scheduler.follow(plans)
        self.alerts.follow({target.name: settings.thresholds(target) for target in targets})
        names = {target.name for target in targets}
        self._errors = {name: error for name, error in self._errors.items() if name in names}

    def detail(self) -> str | None:
        """Return which targets fail, which warn, and which kinds are off, for a beat.

        Return None if there are none of these.
        """
        return summarize(len(self.scheduler.scheduled), self.scheduler.latest(), self.off)

    def problem(self) -> str | None:
        """Return None unless probes can't be made or are late, or results can't be written."""
        targets, not_made = len(self.scheduler.scheduled), len(self.scheduler.not_made)
        late, unpublished = self.scheduler.count_late(), self.results.outage.problem
        pending, refusal = self.alerts.pending_count(), self.alerts.outage.reason
        parts = (
            f"{not_made} of {targets} targets not probed: no file descriptor or memory" if not_made else None,
            unpublished and f"results not published: {unpublished}",
            refusal and f"{pending} results not judged: {refusal}",
            f"{late} of {targets} targets not probed in time" if late else None,
        )
        return "; ".join(filter(None, parts)) or None

    def collect(self) -> Iterator[Family]:
        """Use the last result and the state of each target; another thread may call this."""
        latest, states = self.scheduler.latest(), self.alerts.states.copy()
        return _METRICS.collect(
            probe_ok={(name, each.result.kind): each.result.ok for name, each in latest.items()},
            target_up={name: each.verdict != "down" for name, each in states.items()},
            probe_seconds={name: each.result.ms.get("total", 0.0) / 1000 for name, each in latest.items()},
            certificate_days={
                name: float(each.result.facts["days_left"])
                for name, each in latest.items()
                if "days_left" in each.result.facts
            },
            results_total=self.results.published,
            results_lost_total=self.results.lost,
            events_total=self.alerts.published,
            results_waiting=self.alerts.pending_count(),
        )

    def _make_context(self, plan: ProbePlan, last: ProbeFinding | None) -> ProbeContext:
        """Return the context of the next probe; the look-up is chosen by the last result."""
        environment = self._me.settings
        rest_url, ws_url = environment.find_urls(self._settings.market)
        return ProbeContext(
            plan.timeout_sec,
            self._limits.look_up_for(last),
            resolvers=environment.resolvers(),
            api_key=environment.polygon_api_key,
            rest_url=rest_url,
            ws_url=ws_url,
            market_stream=self._market_stream,
        )

    def _resolve_target(self, target: Target) -> Target | ProbeResult:
        """Return the target as it can be probed: a bus as host and port; a failed ProbeResult if it can't be.

        The API key of the market data is sent only where the environment permits it.
        """
        if isinstance(target, Polygon):
            market = self._settings.market
            if self._me.settings.refuse_key(target.url or market.rest_url, market.ws_url) is not None:
                return ProbeResult(target.kind, target.name, CONFIG, "key_refused")
        if not isinstance(target, Tcp) or target.bus is None:
            return target
        try:
            parts = urlsplit(self._me.bus(target.bus).url)
        except BusError as error:
            return ProbeResult(target.kind, target.bus, CONFIG, error.reason)
        return target.model_copy(update={"host": parts.hostname, "port": parts.port or REDIS_PORT})

    def _deliver(self, plan: ProbePlan, finding: ProbeFinding) -> None:
        """Add a result to both publishers, and log it if the target's error has changed."""
        name, result = plan.target.name, finding.result
        self.results.add(finding, plan.every_sec)
        self.alerts.add_outcome(name, finding.ts, result.error)
        if self._errors.get(name, "") != result.error:
            self._errors[name] = result.error
            write = self._me.log.warning if result.error else self._me.log.info
            write("probe.changed", target=name, where=result.where, stage=result.stage, error=result.error)

    def _get_stream(self) -> tuple[Bus, str]:
        """Return the bus and the key of the stream of results. Raises BusError.

        It is the first access point that is not for alerts or bars.
        """
        _, channel = find_alert_target(self._me.truth, self._me.settings)
        others = {channel, ALERT_LOG, MASSIVE_ALERTS, MASSIVE_ROSTER}
        points = [
            point
            for point in self._me.section.access_points.publish_to
            if point.key not in others and not point.key.endswith(BARS)
        ]
        point = first_point(points, "market-redis", MASSIVE_PROBES)
        return self._me.bus(point.bus), point.key
