"""Judge the minutes of trading days: which are missing, which were corrected, who served them.

A minute counts as missing if the market was open and there is no bar of it: nothing was traded, no source
had it, or it failed a check. What failed one is in the quarantine. Of a day whose bar was built of its
minutes, bars says how many there were; of others, and of the day under way, the archive's are counted.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson

from marketswarm.bus import Bus
from marketswarm.bus.stream import StreamEntry, read_entries_before
from marketswarm.keys import MARKET_QUARANTINE
from services.board.market.archive_reader import BuiltDay, MinuteCount
from services.board.market.pictures import format_day
from services.market.fields import MAX_MS, MIN_MS, SYMBOL
from services.market.records import DAY_MS, MINUTE_MS
from services.market.sessions import OutsideCalendarError, Session, TradingDay

DAYS: Final = 5  # the trading days that are judged, unless a request asks for others
MAX_DAYS: Final = 30
MAX_JUDGED: Final = 200  # the most symbols of an answer, the first ones by name
QUARANTINED: Final = 10_000  # how many of the newest records in quarantine are looked through
PAGE: Final = 1000
DISAGREEMENT: Final = "source_disagreement"
"""How bars spells the check that two sources disagree."""
_HOLIDAYS: Final = 7  # days that are looked back further, for holidays and weekends


@dataclass(frozen=True, slots=True)
class JudgedDay:
    """Hold a trading day of a symbol, up to `until_ms` (epoch milliseconds) if it is not over yet."""

    symbol: str
    day: str
    open_ms: int
    until_ms: int
    expected: int


@dataclass(frozen=True, slots=True)
class DayQuality:
    """Hold what is known of the minutes of a symbol's day.

    Attributes:
        expected: the minutes in which the market was open; `minutes` are those that have a bar.
        lacking: how many of them have none, by the bar of the day; None if that says nothing.
        corrected: how many bars were published again with other values.
        disagreements: how many records were rejected since two sources disagree; they are among `rejected`.
        sources: how many minutes each source served, the most first.
    """

    symbol: str
    day: str
    expected: int
    minutes: int = 0
    corrected: int = 0
    disagreements: int = 0
    rejected: int = 0
    sources: tuple[tuple[str, int], ...] = ()
    replay: bool = False
    lacking: int | None = None

    @property
    def missing(self) -> int:
        return max(0, self.expected - self.minutes) if self.lacking is None else self.lacking


@dataclass(frozen=True, slots=True)
class Rejections:
    """Count the records in quarantine by symbol and day: all, and those about which sources disagree."""

    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)
    disagreements: Counter[tuple[str, str]] = field(default_factory=Counter)


def list_days(symbol: str, session: Session, end_ms: int, count: int) -> list[JudgedDay]:
    """Return the last trading days that began before `end_ms`, the newest first."""
    try:
        days = list(session.iter_days(end_ms - (2 * count + _HOLIDAYS) * DAY_MS, end_ms))
    except OutsideCalendarError:
        return []
    return [_make_day(symbol, day, end_ms) for day in reversed(days[-count:])]


def _make_day(symbol: str, day: TradingDay, end_ms: int) -> JudgedDay:
    until = min(day.close_ms, end_ms)
    closed = 0
    if day.break_ms is not None:
        closed = max(0, min(day.break_ms[1], until) - day.break_ms[0])
    expected = (until - day.open_ms - closed) // MINUTE_MS
    return JudgedDay(symbol, day.date.isoformat(), day.open_ms, until, expected)


def judge_days(
    days: Iterable[JudgedDay],
    counts: Iterable[MinuteCount],
    rejections: Rejections,
    built: Iterable[BuiltDay] = (),
) -> list[DayQuality]:
    """Return the quality of each day, in the order of the days."""
    by_bar = {(one.symbol, one.open_ms): one for one in built}
    by_day: dict[tuple[str, int], list[MinuteCount]] = {}
    for count in counts:
        by_day.setdefault((count.symbol, count.open_ms), []).append(count)
    found = []
    for day in days:
        some = sorted(by_day.get((day.symbol, day.open_ms), ()), key=lambda one: (-one.minutes, one.source))
        key, bar = (day.symbol, day.day), by_bar.get((day.symbol, day.open_ms))
        found.append(
            DayQuality(
                *key,
                day.expected,
                sum(one.minutes for one in some) if bar is None else bar.minutes,
                sum(one.corrected for one in some),
                rejections.disagreements[key],
                rejections.rejected[key],
                tuple((one.source, one.minutes) for one in some),
                any(one.replay for one in some),
                None if bar is None else bar.missing,
            )
        )
    return found


async def read_rejections(bus: Bus) -> Rejections:
    """Count the newest records in quarantine. Raises BusError."""
    found = Rejections()
    before, looked = b"+", 0
    while looked < QUARANTINED:
        page = await read_entries_before(bus, MARKET_QUARANTINE, before, count=PAGE)
        for entry in page:
            if (key := parse_rejected(entry)) is not None:
                found.rejected[key] += 1
                is_disagreement = (entry.fields or {}).get(b"check") == DISAGREEMENT.encode()
                found.disagreements[key] += is_disagreement
        if len(page) < PAGE:
            break
        looked, before = looked + len(page), b"(" + page[-1].id
    return found


def parse_rejected(entry: StreamEntry) -> tuple[str, str] | None:
    """Return the symbol and the day of a record in quarantine; None if it does not say them."""
    fields: Mapping[bytes, bytes] = entry.fields or {}
    symbol = fields.get(b"sym", b"")[:100].decode("utf-8", "replace")
    try:
        record = orjson.loads(fields.get(b"fields", b""))
        start = int(str(record.get("start") or record.get("at") or ""))
    except (ValueError, AttributeError):
        return None
    is_known = SYMBOL.fullmatch(symbol) is not None and MIN_MS <= start < MAX_MS
    return (symbol, format_day(start)) if is_known else None


def spread_days(days: Sequence[JudgedDay]) -> tuple[list[str], list[int], list[int]]:
    """Return the symbols, the begins and the ends of days as columns, for the question to the archive."""
    return [one.symbol for one in days], [one.open_ms for one in days], [one.until_ms for one in days]
