"""Answer when a market trades: by trading day, for exchanges, forex and crypto. Pure.

A session is named by a code: `24x7` (crypto: every UTC day), `24x5` (forex: from Sunday 17:00 to Friday 17:00
in New York, but for Christmas and New Year), `us_futures` (the days of the futures of the CME, from 18:00 to
17:00 in New York, with a pause of an hour each day), `us_volatility` (the days of New York, until a quarter
of an hour after the close) or an exchange as the library exchange_calendars spells it, such as `XNYS`. A
trading day is one interval `[open, close)` with holidays, early closes and daylight saving time as the
exchange keeps them. A lunch break (Tokyo, Hong Kong) is a part of it; `break_ms` says when it is.

Left out, on purpose: trading before the open and after the close, and days on which forex is thin, or some
banks close early.
"""

import functools
import re
import warnings
from abc import ABC, abstractmethod
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from services.market.fields import MAX_MS, MIN_MS
from services.market.records import DAY_MS, MINUTE_MS, AssetClass

ROUND_THE_CLOCK: Final = "24x7"
FOREX: Final = "24x5"
US_FUTURES: Final = "us_futures"
US_VOLATILITY: Final = "us_volatility"
OWN_SESSIONS: Final = (ROUND_THE_CLOCK, FOREX, US_FUTURES, US_VOLATILITY)

FIRST_DATE: Final = date(1970, 1, 1)
LAST_DATE: Final = date(2049, 12, 31)
"""Calendars are computed between these, both included; for some exchanges the library knows less."""

_CODE: Final = re.compile(r"[A-Za-z0-9_/]{2,24}")
_NEW_YORK: Final = ZoneInfo("America/New_York")
"""The zone of forex' days, and the one in which many sources name the dates of any exchange."""
_LONDON: Final = ZoneInfo("Europe/London")
"""The zone in which Yahoo names the days of currencies."""
_CHICAGO: Final = ZoneInfo("America/Chicago")
"""The zone in which massive names the days of indices: Cboe is there."""
_FOREX_ROLL: Final = time(17)
_FOREX_HOLIDAYS: Final = frozenset({(12, 25), (1, 1)})
"""The months and days on which no bank trades currencies; on other holidays some country does."""
_FUTURES_EARLY: Final = "CMES"
"""The calendar with the early closes of futures. It closes on days of mourning, too, on which only futures of
stocks do: whether there is a day at all says the library's calendar `us_futures`."""
_FUTURES_PAUSE_MS: Final = 60 * MINUTE_MS
"""How long before the end of the library's day of futures, which has no pause, trading ends."""
_VOLATILITY_MS: Final = 15 * MINUTE_MS
"""How long after the close of New York indices of volatility are computed."""
_NAMING_ZONES: Final[Mapping[str, tzinfo]] = {US_FUTURES: _LONDON, US_VOLATILITY: _CHICAGO}
"""The third zone by whose midnights sources name days, where that is not New York."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL: Final = _EPOCH.toordinal()
DEFAULT_SESSIONS: Final[Mapping[str, str]] = {
    AssetClass.STOCKS: "XNYS",
    AssetClass.OPTIONS: "XNYS",
    AssetClass.VOLATILITY: US_VOLATILITY,
    AssetClass.FOREX: FOREX,
    AssetClass.COMMODITIES: US_FUTURES,
    AssetClass.CRYPTO: ROUND_THE_CLOCK,
    AssetClass.ECONOMIC: ROUND_THE_CLOCK,
}
"""The code of the session of an asset class, where the truth names none."""
_COINS_VOLATILITY: Final = "DVOL."


class UnknownSessionError(ValueError):
    """No session has this code."""


class OutsideCalendarError(ValueError):
    """A time lies before the first or after the last trading day that the calendar knows."""


@dataclass(frozen=True, slots=True)
class TradingDay:
    """Hold one trading day, `[open_ms, close_ms)` in epoch milliseconds.

    `date` is the exchange's own name for the day; of forex the date in New York on which the day closes.
    `break_ms` is when its lunch break begins and ends, None if it has none.
    """

    date: date
    open_ms: int
    close_ms: int
    break_ms: tuple[int, int] | None = None


class DayTable(NamedTuple):
    """Hold trading days in columns, 40 bytes a day: an exchange has up to 20,000.

    `dates` are ordinals, the others epoch milliseconds; without a lunch break `pauses` and `resumes` are
    equal.
    """

    dates: "array[int]"
    opens: "array[int]"
    closes: "array[int]"
    pauses: "array[int]"
    resumes: "array[int]"


class ExchangeDays(NamedTuple):
    """Hold the name of an exchange's time zone, and its trading days."""

    zone: str
    days: DayTable


class Session(ABC):
    """Answer when one market trades. Methods raise OutsideCalendarError for a time beyond the calendar.

    `zones` are the time zones by whose midnights sources name its days, where that is not their open.
    """

    __slots__ = ("code", "zones")

    def __init__(self, code: str, *zones: tzinfo) -> None:
        self.code, self.zones = code, zones

    @abstractmethod
    def find_day(self, at_ms: int) -> TradingDay | None:
        """Return the trading day that holds this time, or None while the market is closed."""

    @abstractmethod
    def find_date(self, label: date) -> TradingDay | None:
        """Return the trading day of this date; None if there is none, or no calendar knows it."""

    @abstractmethod
    def next_day(self, at_ms: int) -> TradingDay:
        """Return the first trading day that opens after this time."""

    @abstractmethod
    def previous_day(self, at_ms: int) -> TradingDay:
        """Return the last trading day that closed at this time or before it."""

    def find_local_date(self, at_ms: int) -> date:
        """Return the date of a time where the market is; in UTC for one that trades everywhere."""
        zone = self.zones[1] if len(self.zones) > 1 else UTC
        return (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone).date()

    def is_open(self, at: datetime) -> bool:
        return self.find_day(_read_ms(at)) is not None

    def last_close(self, at: datetime) -> datetime:
        """Return the latest close at this time or before it, in UTC."""
        close_ms = self.previous_day(_read_ms(at)).close_ms
        return _EPOCH + timedelta(milliseconds=close_ms)

    def iter_days(self, start_ms: int, end_ms: int) -> Iterator[TradingDay]:
        """Yield the trading days that open within `[start_ms, end_ms)`, in order."""
        day = self.next_day(start_ms - 1)
        while day.open_ms < end_ms:
            yield day
            day = self.next_day(day.open_ms)


class _EveryDay(Session):
    """Trade without a break; the days are those of UTC."""

    __slots__ = ()

    def find_day(self, at_ms: int) -> TradingDay:
        if not MIN_MS <= at_ms < MAX_MS:
            raise OutsideCalendarError(f"{self.code}: {at_ms} ms is before 1800 or after 2099")
        return self._make_day(at_ms // DAY_MS)

    def find_date(self, label: date) -> TradingDay | None:
        number = label.toordinal() - _EPOCH_ORDINAL
        return self._make_day(number) if MIN_MS <= number * DAY_MS < MAX_MS else None

    def next_day(self, at_ms: int) -> TradingDay:
        return self.find_day((at_ms // DAY_MS + 1) * DAY_MS)

    def previous_day(self, at_ms: int) -> TradingDay:
        return self.find_day(at_ms // DAY_MS * DAY_MS - 1)

    @staticmethod
    def _make_day(number: int) -> TradingDay:
        return TradingDay(date.fromordinal(_EPOCH_ORDINAL + number), number * DAY_MS, (number + 1) * DAY_MS)


class _Calendar(Session):
    """Trade by a table of days, sorted and without overlap."""

    __slots__ = ("_days",)

    def __init__(self, code: str, days: DayTable, *zones: tzinfo) -> None:
        super().__init__(code, *zones)
        self._days = days

    def find_day(self, at_ms: int) -> TradingDay | None:
        opens, closes = self._days.opens, self._days.closes
        index = bisect_right(opens, at_ms) - 1
        if index < 0 or at_ms >= closes[-1]:
            raise self._explain_range(at_ms)
        return self._make_day(index) if at_ms < closes[index] else None

    def find_date(self, label: date) -> TradingDay | None:
        dates, ordinal = self._days.dates, label.toordinal()
        index = bisect_left(dates, ordinal)
        return self._make_day(index) if index < len(dates) and dates[index] == ordinal else None

    def next_day(self, at_ms: int) -> TradingDay:
        opens = self._days.opens
        index = bisect_right(opens, at_ms)
        # before the first open, an older day that is missing here might have been the next
        if index == len(opens) or at_ms < opens[0] - 1:
            raise self._explain_range(at_ms)
        return self._make_day(index)

    def previous_day(self, at_ms: int) -> TradingDay:
        closes = self._days.closes
        index = bisect_right(closes, at_ms) - 1
        if index < 0 or at_ms > closes[-1]:
            raise self._explain_range(at_ms)
        return self._make_day(index)

    def _make_day(self, index: int) -> TradingDay:
        ordinal, opens, closes, pauses, resumes = (column[index] for column in self._days)
        pause = (pauses, resumes) if pauses < resumes else None
        return TradingDay(date.fromordinal(ordinal), opens, closes, pause)

    def _explain_range(self, at_ms: int) -> OutsideCalendarError:
        first, last = (date.fromordinal(self._days.dates[place]) for place in (0, -1))
        return OutsideCalendarError(f"{self.code}: {at_ms} ms is outside its calendar, {first} to {last}")


def find_default_session(asset: str, symbol: str) -> str | None:
    """Return the code of the session where the truth names none; None for an unknown asset class."""
    if asset == AssetClass.VOLATILITY and symbol.startswith(_COINS_VOLATILITY):
        return ROUND_THE_CLOCK  # of options on coins
    return DEFAULT_SESSIONS.get(asset)


@functools.lru_cache(maxsize=64)
def get_session(code: str) -> Session:
    """Return the session of a code. The first call for an exchange takes a tenth of a second to a second.

    Not for several threads at once: each would compute the calendar, and what ignores warnings is for one.
    Raises UnknownSessionError.
    """
    exchange = find_exchange(code)
    if exchange is not None:
        return make_exchange_session(code, compute_exchange_days(exchange))
    if code == ROUND_THE_CLOCK:
        return _EveryDay(code)
    return _Calendar(code, _tabulate(_iter_forex_days()), UTC, _NEW_YORK, _LONDON)


def find_exchange(code: str) -> str | None:
    """Return the code of the exchange whose days a session has; None if it has its own.

    Raises UnknownSessionError if it can't be a code.
    """
    if code == US_VOLATILITY:
        return "XNYS"
    if code in (ROUND_THE_CLOCK, FOREX):
        return None
    if _CODE.fullmatch(code) is None:
        raise UnknownSessionError(f"session: none of {', '.join(OWN_SESSIONS)}, nor the code of an exchange")
    return code


def make_exchange_session(code: str, found: ExchangeDays) -> Session:
    """Return the session of a code from the days of `find_exchange(code)`."""
    zone, days = found
    if code == US_VOLATILITY:
        days = days._replace(closes=array("q", (close + _VOLATILITY_MS for close in days.closes)))
    return _Calendar(code, days, UTC, ZoneInfo(zone), _NAMING_ZONES.get(code, _NEW_YORK))


def _tabulate(days: Iterable[TradingDay]) -> DayTable:
    table = DayTable(*(array("q") for _ in DayTable._fields))
    for day in days:
        cells = day.date.toordinal(), day.open_ms, day.close_ms, *(day.break_ms or (0, 0))
        for column, cell in zip(table, cells, strict=True):
            column.append(cell)
    return table


def _iter_forex_days() -> Iterator[TradingDay]:
    """Yield forex's days: weekdays without holidays, from 17:00 to 17:00 in New York."""
    for ordinal in range(FIRST_DATE.toordinal(), LAST_DATE.toordinal() + 1):
        label = date.fromordinal(ordinal)
        if label.weekday() < 5 and (label.month, label.day) not in _FOREX_HOLIDAYS:
            opens = datetime.combine(label - timedelta(days=1), _FOREX_ROLL, _NEW_YORK)
            closes = datetime.combine(label, _FOREX_ROLL, _NEW_YORK)
            yield TradingDay(label, _read_ms(opens), _read_ms(closes))


def compute_exchange_days(code: str) -> ExchangeDays:
    """Compute the days of an exchange that `find_exchange` named.

    This imports pandas, which takes 50 MB and more than a second. Not for several threads at once, as
    `get_session`. Raises UnknownSessionError.
    """
    # pandas deprecates what the library still calls; its warnings can't be mended here
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calendar = _compute_calendar(code)
        days = _tabulate(_iter_days(calendar))
        if code == US_FUTURES:
            days = _close_futures(days, _tabulate(_iter_days(_compute_calendar(_FUTURES_EARLY))))
        return ExchangeDays(str(calendar.tz), days)


def _close_futures(days: DayTable, with_early: DayTable) -> DayTable:
    """Return days of futures that end with the pause after each, or early where the other table's do."""
    early = dict(zip(with_early.dates, with_early.closes, strict=True))
    closes = (
        min(close - _FUTURES_PAUSE_MS, early.get(label, close))
        for label, close in zip(days.dates, days.closes, strict=True)
    )
    return days._replace(closes=array("q", closes))


def _compute_calendar(code: str) -> Any:
    # brings pandas; few processes need it
    from exchange_calendars import get_calendar  # noqa: PLC0415 - as above
    from exchange_calendars.errors import InvalidCalendarName  # noqa: PLC0415 - as above

    try:
        try:
            return get_calendar(code, start=FIRST_DATE.isoformat(), end=LAST_DATE.isoformat())
        except ValueError:  # it has the days of fewer years; which ones, a second calendar says
            bounds = get_calendar(code)
            first, last = bounds.bound_min(), bounds.bound_max()
            start = max(FIRST_DATE, first.date()) if first is not None else FIRST_DATE
            end = min(LAST_DATE, last.date()) if last is not None else LAST_DATE
            return get_calendar(code, start=start.isoformat(), end=end.isoformat())
    except InvalidCalendarName:
        raise UnknownSessionError(f"session {code}: exchange_calendars knows no such exchange") from None
    except (ValueError, NotImplementedError):
        # so it is with Tel Aviv and Athens, and pandas 3: a message is as long as its list of special days
        raise UnknownSessionError(f"session {code}: exchange_calendars fails to compute its days") from None


def _iter_days(calendar: Any) -> Iterator[TradingDay]:
    """Yield the days of a calendar of exchange_calendars. Its times are nanoseconds."""
    for day, opens, closes, pauses, resumes in zip(
        calendar.sessions.date.tolist(),
        calendar.opens_nanos.tolist(),
        calendar.closes_nanos.tolist(),
        calendar.break_starts_nanos.tolist(),  # a day without a break has a number before all times
        calendar.break_ends_nanos.tolist(),
        strict=True,
    ):
        has_break = opens < pauses < resumes < closes
        pause = (pauses // 1_000_000, resumes // 1_000_000) if has_break else None
        yield TradingDay(day, opens // 1_000_000, closes // 1_000_000, pause)


def _read_ms(at: datetime) -> int:
    if at.tzinfo is None:
        raise ValueError("a time without a time zone: which instant is meant?")
    return (at - _EPOCH) // timedelta(milliseconds=1)
