"""Count the seconds of each hour in which a service was up, down or unknown, and add them up. Pure.

An hour is named by its number: epoch seconds divided by 3600. So no hour is longer or shorter than another,
in no time zone. Of the hours of a subject only those are kept that differ from what is expected, as runs of
equal hours, because a service that is always up needs none.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from marketswarm.history.spans import KnownState, Span

HOUR_SEC: Final = 3600
WINDOWS: Final = {"24h": 24, "7d": 7 * 24, "30d": 30 * 24, "1y": 365 * 24}
"""The windows of uptime, each with its full hours. The hour that has begun is counted besides."""


class Seconds(NamedTuple):
    """Seconds in which a service was up, down, and unknown, because no healer listened."""

    up: int = 0
    down: int = 0
    unknown: int = 0

    def plus(self, other: "Seconds") -> "Seconds":
        return Seconds(self.up + other.up, self.down + other.down, self.unknown + other.unknown)

    @property
    def share(self) -> float | None:
        """The part of the known seconds in which it was up, 0 to 1; None if nothing is known."""
        known = self.up + self.down
        return self.up / known if known else None


class Run(NamedTuple):
    """Hours that follow each other, each with the same seconds; the rest of each hour was up."""

    hour: int
    hours: int
    down: int
    unknown: int

    @property
    def end(self) -> int:
        return self.hour + self.hours

    def seconds(self, hours: int) -> Seconds:
        up = HOUR_SEC - self.down - self.unknown
        return Seconds(up * hours, self.down * hours, self.unknown * hours)


@dataclass(frozen=True, slots=True)
class PastOutage:
    """A time in which a service was down, in epoch seconds; `end` is None while it lasts."""

    start: int
    end: int | None


def count_seconds(spans: Iterable[Span], start: int, end: int) -> Seconds:
    found = dict.fromkeys(KnownState, 0)
    for span in spans:
        found[span.state] += max(0, min(span.end, end) - max(span.start, start))
    return Seconds(found[KnownState.UP], found[KnownState.DOWN], found[KnownState.UNKNOWN])


def count_hours(spans: Sequence[Span], first: int, end: int) -> list[Run]:
    """Return the hours from `first` to before `end` as runs, also those in which all was up.

    The spans follow each other without holes, and cover all these hours.
    """
    runs: list[Run] = []
    at, hour = 0, first
    while hour < end:
        start = hour * HOUR_SEC
        while spans[at].end <= start:
            at += 1
        upto, hours = at + 1, 1
        if spans[at].end >= start + HOUR_SEC:  # one state for this whole hour, and perhaps for many
            hours = min(end, spans[at].end // HOUR_SEC) - hour
        while upto < len(spans) and spans[upto].start < start + HOUR_SEC:
            upto += 1
        found = count_seconds(spans[at:upto], start, start + HOUR_SEC)
        runs.append(Run(hour, hours, found.down, found.unknown))
        hour += hours
    return join_runs(runs)


def join_runs(runs: Iterable[Run]) -> list[Run]:
    """Return runs, which are in order, with neighbours of equal hours as one."""
    found: list[Run] = []
    for run in runs:
        if found and found[-1].end == run.hour and found[-1][2:] == run[2:]:
            found[-1] = found[-1]._replace(hours=found[-1].hours + run.hours)
        else:
            found.append(run)
    return found


def cut_runs(runs: Sequence[Run], first: int, end: int) -> list[Run]:
    """Return the parts of runs, which are in order, from hour `first` to before hour `end`."""
    found = []
    for at in range(max(0, bisect_right(runs, (first,)) - 1), len(runs)):
        run = runs[at]
        if run.hour >= end:
            break
        begin, to = max(run.hour, first), min(run.end, end)
        if begin < to:
            found.append(run if to - begin == run.hours else run._replace(hour=begin, hours=to - begin))
    return found


def replace_runs(runs: Sequence[Run], new: Sequence[Run], first: int, end: int) -> list[Run]:
    return join_runs((*cut_runs(runs, 0, first), *cut_runs(new, first, end), *cut_runs(runs, end, 2**63)))


def fill_runs(own: Sequence[Run], shared: Sequence[Run], first: int, end: int) -> list[Run]:
    """Return every hour from `first` to before `end`, as runs.

    An hour is taken from `own`; if that doesn't have it, from `shared`; otherwise it was up all the time.
    """
    return _overlay(own, _overlay(shared, [Run(first, end - first, 0, 0)], first, end), first, end)


def _overlay(over: Sequence[Run], base: Sequence[Run], first: int, end: int) -> list[Run]:
    """Return the hours of `over` from `first` to before `end`, and those of `base` where it has none."""
    pieces: list[Run] = []
    at = first
    for run in cut_runs(over, first, end):
        pieces += (*cut_runs(base, at, run.hour), run)
        at = run.end
    return join_runs((*pieces, *cut_runs(base, at, end)))


def find_differences(runs: Sequence[Run], shared: Sequence[Run]) -> list[Run]:
    """Return those hours of `runs` that differ from `shared`, where an hour that is missing was up."""
    return join_runs(
        run._replace(hour=other.hour, hours=other.hours)
        for run in runs
        for other in fill_runs((), shared, run.hour, run.end)
        if run[2:] != other[2:]
    )


def sum_runs(runs: Iterable[Run]) -> Seconds:
    total = Seconds()
    for run in runs:
        total = total.plus(run.seconds(run.hours))
    return total


def make_down(runs: Sequence[Run], start: int, end: int) -> list[Run]:
    """Return hours in which a time that was up is down: that of an outage that began before they ended.

    `runs` has every hour that the outage, from `start` to `end`, touches. Where nothing was known, nothing is
    known still. In an hour that the outage touches in part, its known seconds count as down as far as they
    last, because which of the hour's seconds were unknown is not kept.
    """
    hours: list[Run] = []
    for run in runs:
        for hour in range(run.hour, run.end):
            begin = hour * HOUR_SEC
            touched = max(0, min(end, begin + HOUR_SEC) - max(start, begin))
            more = min(touched, HOUR_SEC - run.down - run.unknown)
            hours.append(Run(hour, 1, run.down + more, run.unknown))
    return join_runs(hours)
