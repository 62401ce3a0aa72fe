"""Build what the snapshot shows of the past, from the recorder's history, cheaply.

A snapshot is compared with the one before it, and each difference goes to every browser. So nothing here
changes while nothing happens; a span that lasts has no end, and uptime is computed once a minute (more often
in the first minute, in which a history may just have begun).

Thousands of services take seconds when an hour has begun, because then each one is counted again. So this
work is done in slices of time. In between the recorder may change the history; it is right for each service
at any time.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from marketswarm.history.fleet_history import FleetHistory
from marketswarm.history.rollup import HOUR_SEC, WINDOWS, PastOutage, Seconds, count_seconds
from marketswarm.history.spans import Span, clip
from marketswarm.time_slice import TimeSlice
from services.board.fleet.snapshot import BarSpan, SpanState, Uptime
from services.board.fleet.snapshot_builder import HistoryExtract

PUBLIC_DAYS: Final = 90
DAY_SEC: Final = 24 * HOUR_SEC
MONTH_SEC: Final = 30 * DAY_SEC
OUTAGES: Final = 20
UPTIME_SEC: Final = 60.0
FIRST_UPTIME_SEC: Final = 5.0
SHARE_DIGITS: Final = 5  # the digits of a share of uptime: a second of a day
_MAX_SHARED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Past:
    """The past of one service: its last outages, the latest first, and the spans of a day and of a month.

    Of finished hours only sums are known. So within an hour (of the day) or a day (of the month) the spans
    are in a fixed order: unknown, up, down.
    """

    outages: tuple[PastOutage, ...] = ()
    day: tuple[BarSpan, ...] = ()
    month: tuple[BarSpan, ...] = ()


def outline_past(history: FleetHistory | None, svc: str, now: float) -> Past:
    if history is None or svc not in history.services:
        return Past()
    return Past(
        tuple(history.outages(svc, int(now))[-OUTAGES:][::-1]),
        tuple(_outline(history, svc, int(now), DAY_SEC, 1)),
        tuple(_outline(history, svc, int(now), MONTH_SEC, 24)),
    )


def _outline(
    history: FleetHistory, svc: str, now: int, length_sec: int, unit_hours: int
) -> Iterator[BarSpan]:
    """Yield the spans of the last `length_sec`; of finished hours the sums of `unit_hours` each."""
    begin = now - length_sec
    unit, sums, first = -1, Seconds(), 0
    for run in history.finished_hours(svc, begin // HOUR_SEC, now // HOUR_SEC + 1):
        of_one_hour = run.seconds(1)
        for hour in range(run.hour, run.end):
            if hour // unit_hours != unit:
                yield from _spread(first, sums)
                unit, sums, first = hour // unit_hours, Seconds(), hour * HOUR_SEC
            sums = sums.plus(of_one_hour)
    yield from _spread(first, sums)
    yield from view_spans(clip(history.spans(svc, now), begin, now), now)


def view_spans(spans: Iterable[Span], now: int) -> Iterator[BarSpan]:
    """Yield spans as the snapshot has them; the last one has no end."""
    for span in spans:
        yield BarSpan(span.state.value, float(span.start), None if span.end >= now else float(span.end))


def _spread(start: int, sums: Seconds) -> Iterator[BarSpan]:
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


def outline_days(history: FleetHistory | None, svc: str, now: float, count: int) -> tuple[Seconds, ...]:
    """Return the seconds of the last `count` days of a service, in UTC, today included, the oldest first.

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
        found.append(known.plus(Seconds(unknown=missing)))
    return tuple(found)


class _Recent(NamedTuple):
    """The spans of a service for a key, and the seconds in which they were built first and last.

    What began in the first second has no length yet and is left out; in the next one, what was rounded up to
    it is. So they are built again in each second until both have ended.
    """

    key: tuple[object, ...]
    spans: tuple[BarSpan, ...]
    first_at: int
    built_at: int

    def is_early(self, now: int) -> bool:
        """Return True if the spans may lack something that they would not lack if they were built now."""
        return self.first_at + 1 >= self.built_at and now > self.built_at


class HistoryBuilder:
    """Builds the history of all services for a snapshot; what did not change is the same object again."""

    def __init__(self) -> None:
        self._recent: dict[str, _Recent] = {}
        self._uptime: dict[str, Mapping[str, Uptime]] = {}
        self._uptime_at = self._begun_at = float("-inf")
        self._uptime_of: FleetHistory | None = None

    async def build(self, history: FleetHistory | None, now: float) -> HistoryExtract:
        """Return the spans of the last hour and the uptime of each service; none without a history.

        Call it from one task only.
        """
        if history is None:
            return HistoryExtract()
        if history is not self._uptime_of:
            self._uptime_of, self._begun_at, self._uptime_at = history, now, float("-inf")
        every_sec = UPTIME_SEC if now - self._begun_at > UPTIME_SEC else FIRST_UPTIME_SEC
        if not 0 <= now - self._uptime_at < every_sec:
            self._uptime, self._uptime_at = await self._build_uptime(history, int(now)), now
        return HistoryExtract(await self._build_recent(history, int(now)), self._uptime)

    async def _build_recent(self, history: FleetHistory, now: int) -> dict[str, tuple[BarSpan, ...]]:
        """Return the spans of the last hour by service; unchanged ones are the same object again."""
        found = {}
        time_slice = TimeSlice()
        for svc in list(history.services):
            await time_slice.pause()
            if svc not in history.services:
                continue
            # the timeline is another object after the history was read again
            key = (*history.recent_key(svc, now), history.services[svc].timeline)
            known = self._recent.get(svc)
            if known is None or known.key != key or known.is_early(now):
                spans = _share_spans(tuple(history.recent(svc, now)), now)
                if known is not None and known.key == key:
                    known = _Recent(key, known.spans if known.spans == spans else spans, known.first_at, now)
                else:
                    known = _Recent(key, spans, now, now)
                self._recent[svc] = known
            found[svc] = known.spans
        if len(self._recent) > len(found):
            self._recent = {svc: self._recent[svc] for svc in found}
        return found

    async def _build_uptime(self, history: FleetHistory, now: int) -> dict[str, Mapping[str, Uptime]]:
        starts = {window: (now // HOUR_SEC - hours) * HOUR_SEC for window, hours in WINDOWS.items()}
        found, time_slice = dict[str, Mapping[str, Uptime]](), TimeSlice()
        for svc, record in list(history.services.items()):
            await time_slice.pause()
            begin = record.first * HOUR_SEC
            found[svc] = {
                window: _share_uptime(seconds, begin if begin > starts[window] else None)
                for window, seconds in history.uptime(svc, now).items()
            }
        return found


@lru_cache(_MAX_SHARED)
def _share_spans(spans: tuple[Span, ...], now: int) -> tuple[BarSpan, ...]:
    """Return spans as the snapshot has them; those of services with the same past are one object."""
    return tuple(view_spans(spans, now))


@lru_cache(_MAX_SHARED)
def _share_uptime(seconds: Seconds, begin: int | None) -> Uptime:
    """Return seconds, and a history's begin in their window, as the snapshot has them; shared as well."""
    share = seconds.share
    return Uptime(
        None if share is None else round(share, SHARE_DIGITS),
        float(seconds.unknown),
        None if begin is None else float(begin),
    )
