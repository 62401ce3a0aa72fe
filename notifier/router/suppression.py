"""Say why a notice is held back, and which channels get it.

Silences, maintenance, flapping, inhibition by a cause, the rate limit, and the medic each are a `Decision`;
which of them counts is the order of the stages (`router.py`). Pure; times are epoch seconds.

Flapping is detected as in Icinga: the last twenty changes count, newer ones more, and flapping ends at
a lower ratio than it begins. There are no checks between the changes here, so a change counts less as
time passes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from marketswarm.channels import Severity
from marketswarm.event import Kind
from marketswarm.event_text import severity_of, severity_of_event
from marketswarm.operator.maintenance import MaintenanceWindow, is_window_open
from marketswarm.operator.silences import Silence
from marketswarm.truth import ProbeTarget, Service, Truth, find_probe_target, find_rule_target
from notifier.router.healing import MedicState, may_medic_act
from notifier.router.incident import Decision, Incident, Notice, NoticeKind, parse_known_event
from notifier.router.pending import PendingNotices
from notifier.router.policy import RATE_LIMIT_SEC, Policy

CHANGES: Final = 20
"""How many of the latest changes count."""
HIGH: Final = 0.30
"""The ratio at which flapping begins."""
LOW: Final = 0.20
"""The ratio below which flapping ends."""


def compute_flap_ratio(changes: Sequence[float], now: float, window_sec: float) -> float:
    """Return how often a service changed, from 0 to 1: each change counts less with its age."""
    weights = (1.0 - max(0.0, now - at) / window_sec for at in changes[-CHANGES:])
    return sum(max(0.0, weight) for weight in weights) / CHANGES


def is_flapping(changes: Sequence[float], now: float, window_sec: float, already: bool) -> bool:
    """`already` says whether the service flapped before."""
    return compute_flap_ratio(changes, now, window_sec) >= (LOW if already else HIGH)


def is_covered(
    incident: Incident, tags: tuple[str, ...], matches: Callable[[str, tuple[str, ...]], bool]
) -> bool:
    """Return True if a silence, a window or a route `matches` an incident with these tags, by either name."""
    return any(matches(name, tags) for name in incident.names)


class Suppression:
    """The policy, truth, silences and open channels in force, applied to incidents."""

    def __init__(self, incidents: Mapping[str, Incident], waiting: PendingNotices) -> None:
        self.policy = Policy()
        self.truth = Truth()
        self._silences: tuple[Silence, ...] = ()
        self._lasting: tuple[Silence, ...] = ()  # those that have not ended
        self.medic = MedicState()
        self.open_channels: tuple[str, ...] = ()
        self._closed_channels: tuple[str, ...] = ()
        self._incidents = incidents
        self._pending = waiting
        self._active: tuple[float, tuple[Silence, ...], tuple[Silence, ...]] = float("nan"), (), ()
        self._windows: tuple[float, Policy, tuple[MaintenanceWindow, ...]] = float("nan"), self.policy, ()
        self._routes: dict[tuple[str, Kind, Severity], tuple[str, ...]] = {}
        self._by_cause: dict[str, list[Incident]] | None = None

    def shift_times(self, by_sec: float) -> None:
        """Look again at silences that seemed to have ended; move the time at which the medic was read."""
        self._active = float("nan"), (), ()
        self._lasting = self._silences
        self.medic = replace(self.medic, read_at=self.medic.read_at + by_sec)

    def apply_policy(self, policy: Policy, truth: Truth) -> None:
        self.policy, self.truth = policy, truth
        self._routes.clear()

    def set_channels(self, names: Sequence[str], closed: Sequence[str]) -> None:
        self.open_channels, self._closed_channels = tuple(names), tuple(closed)
        self._routes.clear()

    def set_silences(self, silences: Sequence[Silence]) -> None:
        self._silences = self._lasting = tuple(silences)

    @property
    def rate_limit_sec(self) -> float:
        """How long further misses of a service are held back after a message about one, in seconds."""
        limit = self.policy.rate_limit_sec
        return RATE_LIMIT_SEC if limit is None else limit

    # -- severity and channels

    def severity_of(self, notice: Notice) -> Severity:
        """Return the severity of a notice: info for what has ended, otherwise its incident's."""
        if notice.say in (NoticeKind.UP, NoticeKind.BLIP, NoticeKind.NOTE, NoticeKind.HEALED):
            return Severity.INFO
        incident = self._incidents.get(notice.key)
        if notice.say is NoticeKind.SETTLED and (incident is None or not incident.down):
            return Severity.INFO
        return self.severity(incident) if incident is not None else Severity.WARNING

    def severity(self, incident: Incident) -> Severity:
        """Return the severity in the truth or in an event of medic or signals, or that of the kind."""
        if incident.kind in (Kind.MONITOR_MISS, Kind.SIGNALS_MISS):
            event = parse_known_event(incident.miss.encode())
            return severity_of(incident.kind) if event is None else severity_of_event(event)
        if incident.kind is Kind.PROBE_MISS:
            target = find_probe_target(self.truth, incident.svc)
            if target is not None:
                return Severity(target.severity)
        section = self.truth.services.get(incident.svc)
        if incident.kind is Kind.HEARTBEAT_MISS and section is not None:
            return Severity(section.severity)
        return severity_of(incident.kind)

    def route(self, incident: Incident) -> tuple[str, ...]:
        # two outages of one rule may have two severities: theirs stand in the events
        severity = self.severity(incident)
        which = incident.key, incident.kind, severity
        found = self._routes.get(which)
        if found is None:
            found = self._routes[which] = self._find_route(incident, severity)
        return found

    def _find_route(self, incident: Incident, severity: Severity) -> tuple[str, ...]:
        tags = self._tags(incident)
        for route in self.policy.routes:
            if is_covered(incident, tags, partial(route.matches, severity)):
                # messages for channels that are not open go over all open ones
                return self.open_of(route.channels) or self.open_channels
        return self.open_channels

    def open_of(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if name in self.open_channels)

    def closed_of(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of some channels that are configured and can't be opened at present."""
        return tuple(name for name in names if name in self._closed_channels)

    # -- reasons to hold a message back

    def reason_to_mute(self, incident: Incident, now: float) -> Decision | None:
        """Return why no message about an incident may be sent now; None if one may."""
        if not self.open_channels:
            return Decision.NO_CHANNEL
        tags = self._tags(incident)
        if any(is_covered(incident, tags, each.matches) for each in self._active_silences(now)):
            return Decision.SILENCED
        if any(is_covered(incident, tags, each.includes) for each in self._open_windows(now)):
            return Decision.MAINTENANCE
        return None

    def _active_silences(self, now: float) -> tuple[Silence, ...]:
        """Return the silences that are active, computed once for each `now`.

        Look at those that have ended no more, until the clock is set.
        """
        at, lasting, found = self._active
        if at != now or lasting is not self._lasting:
            self._lasting = tuple(each for each in self._lasting if not each.has_ended(now))
            found = tuple(each for each in self._lasting if each.is_active(now))
            self._active = now, self._lasting, found
        return found

    def _open_windows(self, now: float) -> tuple[MaintenanceWindow, ...]:
        at, policy, found = self._windows
        if at != now or policy is not self.policy:
            found = tuple(each for each in self.policy.maintenance if is_window_open(each, now))
            self._windows = now, self.policy, found
        return found

    def reason_by_flapping(self, incident: Incident, _now: float) -> Decision | None:
        return Decision.FLAPPING if incident.flapping else None

    def reason_by_cause(self, incident: Incident, _now: float) -> Decision | None:
        return Decision.DEPENDS if self.cause_of(incident) is not None else None

    def reason_by_rate(self, incident: Incident, now: float) -> Decision | None:
        return Decision.RATE_LIMIT if now < incident.limited_until else None

    def reason_by_medic(self, incident: Incident, now: float) -> Decision | None:
        return Decision.HEALING if self._waits_for_medic(incident, now) else None

    def _waits_for_medic(self, incident: Incident, now: float) -> bool:
        """Return True while the message about an outage waits for the medic.

        It waits once, from its miss on, and never for something that is critical. The miss of an outage that
        began longer ago, while no notifier ran, does not wait; neither does one while those before it, which
        the rate limit held back, are summed up: that message would say that the service is down.
        """
        limit_sec = self.policy.healing_max_hold_sec
        if incident.kind is not Kind.HEARTBEAT_MISS or incident.held not in (None, Decision.HEALING):
            return False
        if incident.kept or self._is_urgent(incident) or not may_medic_act(self.truth, incident.svc):
            return False
        held_since = now if incident.held is None else incident.held_at
        if incident.held is None and now - incident.ts >= limit_sec:
            return False
        if held_since is None or not 0 <= now - held_since < limit_sec:
            return False
        return self.medic.is_working_on(incident.svc, now - held_since, now)

    def _is_urgent(self, incident: Incident) -> bool:
        return self.severity(incident) is Severity.CRITICAL

    def cause_of(self, incident: Incident) -> Incident | None:
        """Return an outage of something that the service depends on, if that explains this one.

        It must be held back, or known to all channels of this one. The message about something critical does
        not wait for the medic either where the medic heals the cause.
        """
        if incident.kind is Kind.WATCH_MISS:
            return None  # no other service causes a refused channel, or a flooded one
        for svc in self.causes(incident.svc):
            cause = self._incidents.get(svc)
            if cause is None or not cause.down or self._pending.opening(cause.id) is not None:
                continue
            if cause.held is Decision.HEALING and self._is_urgent(incident):
                continue
            if cause.held is Decision.DEPENDS and incident.svc in self.causes(cause.svc):
                continue  # they need each other, in a truth that no check has seen: one of them leads
            if cause.held is not None or set(self.route(incident)) <= set(cause.channels):
                return cause
        return None

    def causes(self, svc: str) -> Iterator[str]:
        """Return all that a service or a target depends on, nearest first."""
        seen, found = {svc}, [svc]
        for each in found:
            section = self._find_section(each)
            for other in section.depends_on if section is not None else ():
                if other not in seen:
                    seen.add(other)
                    found.append(other)
        return iter(found[1:])

    def dependents_down(self, cause: Incident) -> list[Incident]:
        """Return the incidents held back because of a cause, as of the last call of `reset_dependents`."""
        if self._by_cause is None:
            self._by_cause = {}
            for each in self._incidents.values():
                if each.down and each.held is Decision.DEPENDS:
                    for svc in self.causes(each.svc):
                        self._by_cause.setdefault(svc, []).append(each)
        return self._by_cause.get(cause.key, [])

    def reset_dependents(self) -> None:
        self._by_cause = None

    def grace_sec(self, incident: Incident) -> float:
        """Return how long a service has to come back once its cause is back, in seconds."""
        job = self.truth.job_of(incident.svc)  # the next report of one with a schedule may be a month away
        return 0.0 if job is not None and job.schedule is not None else self.truth.timeout_of(incident.svc)

    # -- flapping

    def record_change(self, incident: Incident, ts: float, now: float) -> None:
        """Record a change at `ts` by its writer's clock, which may be ahead of ours."""
        ts = min(ts, now)
        incident.changes = [*incident.changes, ts][-CHANGES:]

    def begin_flapping(self, incident: Incident, now: float) -> None:
        """Record that an incident flaps, if it does since its latest change."""
        incident.flapping = incident.flapping or self._flaps(incident, now)

    def end_flapping(self, incident: Incident, now: float) -> bool:
        """Record that an incident flaps no longer, if so; return True if it did until now."""
        before, incident.flapping = incident.flapping, incident.flapping and self._flaps(incident, now)
        return before and not incident.flapping

    def _flaps(self, incident: Incident, now: float) -> bool:
        return is_flapping(incident.changes, now, self.policy.flap_window_sec, already=incident.flapping)

    def _tags(self, incident: Incident) -> tuple[str, ...]:
        section = self._find_section(incident.svc)
        return section.tags if section is not None and incident.name == incident.svc else ()

    def _find_section(self, svc: str) -> Service | ProbeTarget | None:
        found = self.truth.services.get(svc) or find_probe_target(self.truth, svc)
        return found or find_rule_target(self.truth, svc)
