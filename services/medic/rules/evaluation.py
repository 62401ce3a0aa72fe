"""Decide which alert rules hold, by what was measured and when. Pure.

A rule holds while each value of its last `for_sec` is over its limit, and until none of the last `clear_sec`
is. Missing data makes nothing true: a value that is not known, or a gap between two looks, begins the time
again, and a count has only what was seen to increase. `holds` is None while it can't be known.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.medic.metric import ALERTED_METRICS, COUNTERS, Readings, name_reading
from services.medic.rule import MonitorRule

MAX_COUNTS: Final = 400
"""The time of a count is divided into so many parts; the increases within one are joined."""


@dataclass(frozen=True, slots=True)
class RuleFinding:
    """What is known of a rule and a subject at one moment.

    `is_met` says whether the last value is over the limit, `holds` whether the rule holds; None is unknown.
    `value` is the last value: the increase of a counter, or the share of a group. `since` is when the values
    began to be over the limit.
    """

    subject: str
    rule: MonitorRule
    is_met: bool | None = None
    holds: bool | None = None
    value: float | None = None
    since: float | None = None


@dataclass(slots=True)
class _Track:
    """What one rule has seen of one subject. Times are those of `evaluate`."""

    looked_at: float | None = None
    met_since: float | None = None
    clear_since: float | None = None
    holds: bool | None = None
    counter: float | None = None
    counted_since: float | None = None
    increases: deque[tuple[float, float]] = field(default_factory=deque)

    def count(self, value: float | None, within_sec: float, now: float) -> tuple[float, bool] | None:
        """Return the increase within the last `within_sec`, and whether all of that time was counted."""
        while self.increases and self.increases[0][0] <= now - within_sec:
            self.increases.popleft()
        if value is None:
            return None
        if self.counter is None or self.counted_since is None:
            self.counted_since = now
        elif value > self.counter:
            at, before = self.increases[-1] if self.increases else (now, 0.0)
            is_near = self.increases and now - at < within_sec / MAX_COUNTS
            if is_near:  # counted as of the older one, so that nothing counts for too long
                self.increases.pop()
            increase = value - self.counter
            self.increases.append((at, before + increase) if is_near else (now, increase))
        self.counter = value
        total = sum(increase for _, increase in self.increases)
        return total, self.counted_since <= now - within_sec

    def settle(self, rule: MonitorRule, is_met: bool | None, now: float) -> bool | None:
        """Return whether the rule holds, after a value that is over the limit, is not, or is not known."""
        if is_met is None:
            self.met_since = self.clear_since = None
            return None
        if is_met:
            self.met_since, self.clear_since = self.met_since if self.met_since is not None else now, None
            if now - self.met_since >= rule.for_sec:
                self.holds = True
        else:
            self.clear_since, self.met_since = self.clear_since if self.clear_since is not None else now, None
            if not self.holds or now - self.clear_since >= rule.clear_sec:
                self.holds = False
        return self.holds


class RuleEvaluator:
    """Evaluate rules at one moment after the other."""

    def __init__(self) -> None:
        self._tracks: dict[str, tuple[MonitorRule, _Track]] = {}

    def evaluate(
        self,
        pairs: Mapping[str, tuple[str, MonitorRule]],
        readings: Readings,
        now: float,
        longest_gap_sec: float,
    ) -> dict[str, RuleFinding]:
        """Return what is known of each pair of a rule and a subject at `now`, in seconds of any clock.

        A pair that is no longer passed is forgotten, and one whose rule has changed restarts; so do all
        after more than `longest_gap_sec` without a look.
        """
        for name in self._tracks.keys() - pairs.keys():
            del self._tracks[name]
        findings = dict[str, RuleFinding]()
        for name, (subject, rule) in pairs.items():
            track = self._find_track(name, rule, now, longest_gap_sec)
            value, is_met = _measure(subject, rule, readings, track, now)
            holds = track.settle(rule, is_met, now)
            findings[name] = RuleFinding(subject, rule, is_met, holds, value, track.met_since)
        return findings

    def _find_track(self, name: str, rule: MonitorRule, now: float, longest_gap_sec: float) -> _Track:
        known_rule, track = self._tracks.get(name, (None, None))
        if track is None or (known_rule is not rule and known_rule != rule):  # to compare them takes long
            track = _Track()
            self._tracks[name] = rule, track
        if track.looked_at is not None and not 0 <= now - track.looked_at <= longest_gap_sec:
            track.met_since = track.clear_since = track.counter = track.counted_since = None
            track.increases.clear()
        track.looked_at = now
        return track


def _measure(
    subject: str, rule: MonitorRule, readings: Readings, track: _Track, now: float
) -> tuple[float | None, bool | None]:
    """Return the value of a subject, and whether it is over the limit of the rule."""
    found = readings.get(rule.metric, {})
    if rule.share_above is not None:
        return _measure_share(rule, [value for name, value in found.items() if rule.includes(name)])
    value = found.get(name_reading(subject, rule.detail))
    if rule.within_sec is None or rule.metric not in COUNTERS:
        return value, None if value is None else rule.is_met_by(value)
    counted = track.count(value, rule.within_sec, now)
    if counted is None:
        return None, None
    total, is_complete = counted
    is_met = rule.is_met_by(total)
    # what was not counted may still make the sum larger
    is_certain = is_complete or is_met is (rule.above is not None)
    return total, is_met if is_certain else None


def _measure_share(rule: MonitorRule, values: Sequence[float | None]) -> tuple[float | None, bool | None]:
    """Return the part of all subjects that is over the limit, and whether it is too large.

    Those that are not known may be over the limit, or not. Where one subject has an alert of its own, a share
    above 0 is of two at least: otherwise people get two messages about one thing.
    """
    known = [value for value in values if value is not None]
    if not known:
        return None, None
    over, unknown = sum(map(rule.is_met_by, known)), len(values) - len(known)
    limit = rule.share_above or 0.0
    fewest = 2 if limit > 0 and rule.metric in ALERTED_METRICS else 1

    def is_too_large(count: int) -> bool:
        return count >= fewest and count / len(values) > limit

    is_met = True if is_too_large(over) else None if is_too_large(over + unknown) else False
    return over / len(values), is_met
