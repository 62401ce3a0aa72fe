"""Answer when a market trades: by trading day, for exchanges, forex and crypto. Pure.

A session is named by a code: `24x7` (crypto: every UTC day), `24x5` (forex: from Sunday 17:00 to Friday 17:00
in New York), `us_futures` (the same from 18:00 to 17:00, with a pause of an hour each day), `us_volatility`
(the days of New York, until a quarter of an hour after the close) or an exchange as the library
exchange_calendars spells it, such as `XNYS`. A trading day is one interval `[open, close)` with holidays,
early closes and daylight saving time as the exchange keeps them. A lunch break (Tokyo, Hong Kong) is a part
of it; `break_ms` says when it is.

Left out, on purpose: trading before the open and after the close, and the holidays on which forex and futures
are thin, closed early or for a day.
"""

import functools
import re
import warnings
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, Final
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
_FOREX_ROLL: Final = time(17)
_FUTURES_OPEN: Final = time(18)
_VOLATILITY_MS: Final = 15 * MINUTE_MS
"""How long after the close of New York indices of volatility are computed."""
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

    __slots__ = ("_closes", "_dates", "_days", "_opens")

    def __init__(self, code: str, days: Sequence[TradingDay], *zones: tzinfo) -> None:
        super().__init__(code, *zones)
        self._days = days
        self._dates = [day.date for day in days]
        self._opens = [day.open_ms for day in days]
        self._closes = [day.close_ms for day in days]

    def find_day(self, at_ms: int) -> TradingDay | None:
        index = bisect_right(self._opens, at_ms) - 1
        if index < 0 or at_ms >= self._closes[-1]:
            raise self._explain_range(at_ms)
        day = self._days[index]
        return day if at_ms < day.close_ms else None

    def find_date(self, label: date) -> TradingDay | None:
        index = bisect_left(self._dates, label)
        return self._days[index] if index < len(self._dates) and self._dates[index] == label else None

    def next_day(self, at_ms: int) -> TradingDay:
        index = bisect_right(self._opens, at_ms)
        # before the first open, an older day that is missing here might have been the next
        if index == len(self._days) or at_ms < self._opens[0] - 1:
            raise self._explain_range(at_ms)
        return self._days[index]

    def previous_day(self, at_ms: int) -> TradingDay:
        index = bisect_right(self._closes, at_ms) - 1
        if index < 0 or at_ms > self._closes[-1]:
            raise self._explain_range(at_ms)
        return self._days[index]

    def _explain_range(self, at_ms: int) -> OutsideCalendarError:
        first, last = self._days[0].date, self._days[-1].date
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
    if code == ROUND_THE_CLOCK:
        return _EveryDay(code)
    if code == FOREX:
        return _Calendar(code, _list_forex_days(_FOREX_ROLL), UTC, _NEW_YORK, _LONDON)
    if code == US_FUTURES:
        return _Calendar(code, _list_forex_days(_FUTURES_OPEN), UTC, _NEW_YORK, _LONDON)
    if _CODE.fullmatch(code) is None:
        raise UnknownSessionError(f"session: none of {', '.join(OWN_SESSIONS)}, nor the code of an exchange")
    # pandas deprecates what the library still calls; its warnings can't be mended here
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        days, zone = _list_exchange_days("XNYS" if code == US_VOLATILITY else code)
        if code == US_VOLATILITY:
            days = [replace(day, close_ms=day.close_ms + _VOLATILITY_MS) for day in days]
        return _Calendar(code, days, UTC, zone, _NEW_YORK)


def _list_forex_days(opening: time) -> list[TradingDay]:
    """Return forex's days: each weekday, from `opening` of the day before to 17:00 in New York."""
    days = []
    for ordinal in range(FIRST_DATE.toordinal(), LAST_DATE.toordinal() + 1):
        label = date.fromordinal(ordinal)
        if label.weekday() < 5:
            opens = datetime.combine(label - timedelta(days=1), opening, _NEW_YORK)
            closes = datetime.combine(label, _FOREX_ROLL, _NEW_YORK)
            days.append(TradingDay(label, _read_ms(opens), _read_ms(closes)))
    return days


def _list_exchange_days(code: str) -> tuple[list[TradingDay], tzinfo]:
    # brings pandas, more than a second; few processes need it
    from exchange_calendars import get_calendar  # noqa: PLC0415 - as above
    from exchange_calendars.errors import InvalidCalendarName  # noqa: PLC0415 - as above

    try:
        try:
            calendar = get_calendar(code, start=FIRST_DATE.isoformat(), end=LAST_DATE.isoformat())
        except ValueError:  # it has the days of fewer years; which ones, a second calendar says
            bounds = get_calendar(code)
            first, last = bounds.bound_min(), bounds.bound_max()
            start = max(FIRST_DATE, first.date()) if first is not None else FIRST_DATE
            end = min(LAST_DATE, last.date()) if last is not None else LAST_DATE
            calendar = get_calendar(code, start=start.isoformat(), end=end.isoformat())
    except InvalidCalendarName:
        raise UnknownSessionError(f"session {code}: exchange_calendars knows no such exchange") from None
    except (ValueError, NotImplementedError):
        # so it is with Tel Aviv and Athens, and pandas 3: a message is as long as its list of special days
        raise UnknownSessionError(f"session {code}: exchange_calendars fails to compute its days") from None
    return _read_days(calendar), calendar.tz


def _read_days(calendar: Any) -> list[TradingDay]:
    """Return the days of a calendar of exchange_calendars. Its times are nanoseconds."""
    return [
        TradingDay(
            day,
            opens // 1_000_000,
            closes // 1_000_000,
            (pauses // 1_000_000, resumes // 1_000_000) if opens < pauses < resumes < closes else None,
        )
        for day, opens, closes, pauses, resumes in zip(
            calendar.sessions.date.tolist(),
            calendar.opens_nanos.tolist(),
            calendar.closes_nanos.tolist(),
            calendar.break_starts_nanos.tolist(),  # a day without a break has a number before all times
            calendar.break_ends_nanos.tolist(),
            strict=True,
        )
    ]


def _read_ms(at: datetime) -> int:
    if at.tzinfo is None:
        raise ValueError("a time without a time zone: which instant is meant?")
    return (at - _EPOCH) // timedelta(milliseconds=1)
