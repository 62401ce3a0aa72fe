"""Whether something is to be told now, and to whom: silences, maintenance, flapping, causes, limits. Pure.

Each way to hold something back is a `Reason`; the first one that applies counts. Times are epoch seconds.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from marketswarm.channels import Severity
from marketswarm.channels.event_text import severity_of
from marketswarm.event import Kind
from marketswarm.operator import Silence
from marketswarm.truth import Truth, probed_as
from notifier.router.incident import Incident, Line, Reason, Say
from notifier.router.pending import Waiting
from notifier.router.policy import RATE_LIMIT_SEC, Policy, Window

CHANGES: Final = 20
HIGH: Final = 0.30
LOW: Final = 0.20


def restlessness(changes: Sequence[float], now: float, window_sec: float) -> float:
    """From 0 to 1: the last twenty changes (epoch seconds), each weighing less as `window_sec` passes."""
    weights = (1.0 - max(0.0, now - at) / window_sec for at in changes[-CHANGES:])
    return sum(max(0.0, weight) for weight in weights) / CHANGES


def flaps(changes: Sequence[float], now: float, window_sec: float, already: bool) -> bool:
    """Whether it flaps, given whether it did."""
    return restlessness(changes, now, window_sec) >= (LOW if already else HIGH)


def is_open(window: Window, now: float) -> bool:
    """Whether it began at most its length ago, by the clocks of its time zone."""
    # an iterator gives what comes after its start: we start where the earliest beginning that counts is
    earliest = int(now - window.for_sec)
    try:
        begun = next(CronSim(window.at, datetime.fromtimestamp(earliest, ZoneInfo(window.tz)))).timestamp()
    except (StopIteration, CronSimError, OverflowError, OSError, ValueError):
        return False
    return begun <= now < begun + window.for_sec


class Holding:
    """The rules in force, and the incidents that they are about."""

    def __init__(self, incidents: Mapping[str, Incident], waiting: Waiting) -> None:
        self.policy = Policy()
        self.truth = Truth()
        self.silences: tuple[Silence, ...] = ()
        self.open_channels: tuple[str, ...] = ()
        self._incidents = incidents
        self._waiting = waiting
        self._windows: tuple[float, Policy, tuple[Window, ...]] = float("nan"), self.policy, ()
        self._by_cause: dict[str, list[Incident]] | None = None

    @property
    def rate_limit_sec(self) -> float:
        """How long further misses are held back after one was told."""
        limit = self.policy.rate_limit_sec
        return RATE_LIMIT_SEC if limit is None else limit

    # -- to whom

    def severity_of(self, line: Line) -> Severity:
        """How much a line matters: what is over, little; a miss as much as its service."""
        if line.say in (Say.UP, Say.BLIP, Say.NOTE):
            return Severity.INFO
        incident = self._incidents.get(line.key)
        if line.say is Say.SETTLED and (incident is None or not incident.down):
            return Severity.INFO
        return self.severity(incident) if incident is not None else Severity.WARNING

    def severity(self, incident: Incident) -> Severity:
        """What the truth says of a service or a target; of all else, what its kind says."""
        if incident.kind is Kind.PROBE_MISS and (target := probed_as(self.truth, incident.svc)) is not None:
            return Severity(target.severity)
        section = self.truth.services.get(incident.svc)
        if incident.kind is Kind.HEARTBEAT_MISS and section is not None:
            return Severity(section.severity)
        return severity_of(incident.kind)

    def route(self, incident: Incident) -> tuple[str, ...]:
        """The open channels that news of it goes to: those of the first route that takes it, else all."""
        severity, tags = self.severity(incident), self._tags(incident)
        for route in self.policy.routes:
            if route.takes(incident.name, tags, severity):
                # people who are to be told over a way that is not there are told over all others
                return self.open_of(route.channels) or self.open_channels
        return self.open_channels

    def open_of(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Those of some channels that are open."""
        return tuple(name for name in names if name in self.open_channels)

    # -- whether

    def unwanted(self, incident: Incident, now: float) -> Reason | None:
        """Why nobody is to hear of it for now, whatever it is."""
        if not self.open_channels:
            return Reason.NOBODY
        tags = self._tags(incident)
        for silence in self.silences:
            fits = silence.matches(incident.key, tags) or silence.matches(incident.svc, tags)
            if fits and silence.active(now):
                return Reason.SILENCED
        if any(window.fits(incident.name, tags) for window in self._open_windows(now)):
            return Reason.MAINTENANCE
        return None

    def _open_windows(self, now: float) -> tuple[Window, ...]:
        """The windows of maintenance that are open, worked out once for each `now`."""
        at, policy, found = self._windows
        if at != now or policy is not self.policy:
            found = tuple(each for each in self.policy.maintenance if is_open(each, now))
            self._windows = now, self.policy, found
        return found

    def held(self, incident: Incident, now: float) -> Reason | None:
        """Why its miss is not told now."""
        unwanted = self.unwanted(incident, now)
        if unwanted is not None:
            return unwanted
        if incident.flapping:
            return Reason.FLAPPING
        if self.cause_of(incident) is not None:
            return Reason.DEPENDS
        return Reason.RATE_LIMIT if now < incident.limited_until else None

    def cause_of(self, incident: Incident) -> Incident | None:
        """What is down that it depends on, if whoever would hear of it heard of that, or is not to."""
        if incident.kind is Kind.WATCH_MISS:
            return None  # a refused channel is nobody else's doing
        for svc in self.causes(incident.svc):
            cause = self._incidents.get(svc)
            if cause is None or not cause.down or self._waiting.opening(cause.id) is not None:
                continue
            if cause.held is not None or set(self.route(incident)) <= set(cause.channels):
                return cause
        return None

    def causes(self, svc: str) -> Iterator[str]:
        """All that a service or a target depends on, nearest first."""
        seen, found = {svc}, [svc]
        for each in found:
            section = self.truth.services.get(each) or probed_as(self.truth, each)
            for other in section.depends_on if section is not None else ():
                if other not in seen:
                    seen.add(other)
                    found.append(other)
        return iter(found[1:])

    def suffering(self, cause: Incident) -> list[Incident]:
        """What is down and held back because of it, as it was when `forget_suffering` was last called."""
        if self._by_cause is None:
            self._by_cause = {}
            for each in self._incidents.values():
                if each.down and each.held is Reason.DEPENDS:
                    for svc in self.causes(each.svc):
                        self._by_cause.setdefault(svc, []).append(each)
        return self._by_cause.get(cause.key, [])

    def forget_suffering(self) -> None:
        """Have `suffering` look at the incidents anew."""
        self._by_cause = None

    def grace_sec(self, incident: Incident) -> float:
        """What a service has to come back in once what it depends on is back: as long as it may be silent."""
        return self.truth.timeout_of(incident.svc)

    # -- flapping

    def changed(self, incident: Incident, ts: float) -> None:
        """Takes note of a change."""
        incident.changes = [*incident.changes, ts][-CHANGES:]

    def begins_to_flap(self, incident: Incident, now: float) -> bool:
        """Whether it has just begun to flap; it does from then on."""
        if incident.flapping or not flaps(incident.changes, now, self.policy.flap_window_sec, already=False):
            return False
        incident.flapping = True
        return True

    def settles(self, incident: Incident, now: float) -> bool:
        """Whether it has just ceased to flap; it does not from then on."""
        if not incident.flapping or flaps(incident.changes, now, self.policy.flap_window_sec, already=True):
            return False
        incident.flapping = False
        return True

    def _tags(self, incident: Incident) -> tuple[str, ...]:
        section = self.truth.services.get(incident.svc) or probed_as(self.truth, incident.svc)
        return section.tags if section is not None and incident.name == incident.svc else ()
