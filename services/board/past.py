"""Outline what the page of one service shows of its past: its outages, a day, a month. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from marketswarm.history.fleet_history import FleetHistory
from marketswarm.history.rollup import HOUR_SEC, Run, Seconds, count_seconds
from marketswarm.history.spans import clip
from services.board.snapshot import BarSpan, SpanState

PUBLIC_DAYS: Final = 90
DAY_SEC: Final = 24 * HOUR_SEC
MONTH_SEC: Final = 30 * DAY_SEC
OUTAGES: Final = 20
"""How many outages a page shows."""


@dataclass(frozen=True, slots=True)
class OutageView:
    """An outage in epoch seconds; `ends_at` is None while it lasts."""

    starts_at: float
    ends_at: float | None


@dataclass(frozen=True, slots=True)
class Past:
    """The past of one service: its last outages, the latest first, and the spans of a day and of a month.

    Of finished hours only sums are known. So within an hour (of the day) or a day (of the month) the spans
    are in a fixed order: unknown, up, down.
    """

    outages: tuple[OutageView, ...] = ()
    day: tuple[BarSpan, ...] = ()
    month: tuple[BarSpan, ...] = ()


NO_PAST: Final = Past()


def outline_past(history: FleetHistory | None, svc: str, now: float) -> Past:
    """Return the past of a service; an empty one if it has no history."""
    if history is None or svc not in history.services:
        return NO_PAST
    outages = (
        OutageView(float(one.start), None if one.end is None else float(one.end))
        for one in history.outages(svc, int(now))[-OUTAGES:]
    )
    return Past(
        tuple(outages)[::-1],
        tuple(_outline(history, svc, int(now), DAY_SEC, 1)),
        tuple(_outline(history, svc, int(now), MONTH_SEC, 24)),
    )


def _outline(
    history: FleetHistory, svc: str, now: int, length_sec: int, unit_hours: int
) -> Iterator[BarSpan]:
    """Yield the spans of the last `length_sec`; of finished hours the sums of `unit_hours` each."""
    begin = now - length_sec
    unit, sums, first = -1, Seconds(), 0
    for hour, seconds in _split_hours(history.finished_hours(svc, begin // HOUR_SEC, now // HOUR_SEC + 1)):
        if hour // unit_hours != unit:
            yield from _spread(first, sums)
            unit, sums, first = hour // unit_hours, Seconds(), hour * HOUR_SEC
        sums = sums.plus(seconds)
    yield from _spread(first, sums)
    exact = clip(history.spans(svc, now), begin, now)
    for span in exact:
        yield BarSpan(span.state.value, float(span.start), None if span.end >= now else float(span.end))


def _split_hours(runs: list[Run]) -> Iterator[tuple[int, Seconds]]:
    """Yield each hour of some runs with its seconds."""
    for run in runs:
        seconds = run.seconds(1)
        yield from ((hour, seconds) for hour in range(run.hour, run.end))


def _spread(start: int, sums: Seconds) -> Iterator[BarSpan]:
    """Yield sums as spans that follow each other."""
    at = float(start)
    parts: tuple[tuple[SpanState, int], ...] = (
        ("unknown", sums.unknown),
        ("up", sums.up),
        ("down", sums.down),
    )
    for state, sec in parts:
        if sec:
            yield BarSpan(state, at, at + sec)
            at += sec


@dataclass(frozen=True, slots=True)
class PastDay:
    """A day in UTC that begins at `starts_at` (epoch seconds), and its seconds; the last one goes on."""

    starts_at: float
    seconds: Seconds


def outline_days(history: FleetHistory | None, svc: str, now: float, count: int) -> tuple[PastDay, ...]:
    """Return the last `count` days of a service, today included, the oldest first.

    What was before its history is unknown. Without a history there are no days.
    """
    if history is None or svc not in history.services:
        return ()
    first = int(now) // DAY_SEC - count + 1
    sums = dict.fromkeys(range(first, first + count), Seconds())
    for run in history.finished_hours(svc, first * 24, int(now) // HOUR_SEC + 1):
        for day in range(run.hour // 24, (run.end - 1) // 24 + 1):
            hours = min(run.end, (day + 1) * 24) - max(run.hour, day * 24)
            sums[day] = sums[day].plus(run.seconds(hours))
    spans = history.spans(svc, int(now))
    found = []
    for day, seconds in sums.items():
        begin, end = day * DAY_SEC, min((day + 1) * DAY_SEC, int(now))
        known = seconds.plus(count_seconds(spans, begin, end))
        missing = max(0, end - begin - sum(known))
        found.append(PastDay(float(begin), known.plus(Seconds(unknown=missing))))
    return tuple(found)
