"""Find the interval of each timeframe that a minute belongs to, by trading days. Pure.

Intervals are counted from the open of the trading day and end with it at the latest: an hour of New York
begins at 9:30, and the last one of a day has 30 minutes, or fewer before an early close. The day itself is
the interval of `1d`. Shorter intervals never cross the border of a longer one, so each timeframe can be built
of shorter ones. A week (`1w`) is the trading days of a calendar week, from Monday on, and a month (`1mo`)
those of a calendar month: it begins with the open of the first of them and ends with the close of the last.
"""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final

from services.market.records import DAY_MS, MINUTE_MS, PERIODS, TIMEFRAME_SEC, TIMEFRAMES, Timeframe
from services.market.sessions import US_FUTURES, OutsideCalendarError, Session, TradingDay

PAUSE_MS: Final = 60 * MINUTE_MS
"""The pause between two days of futures."""
LENGTH_MS: Final = {timeframe: 1000 * TIMEFRAME_SEC[timeframe] for timeframe in TIMEFRAMES}


@dataclass(frozen=True, slots=True)
class Interval:
    """Hold one interval, `[open_ms, close_ms)` in epoch milliseconds."""

    timeframe: Timeframe
    open_ms: int
    close_ms: int


class Grid:
    """Find the intervals of one session. It caches what was asked for last."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._day: TradingDay | None = None
        self._old_days: dict[Timeframe, TradingDay] = {}
        self._found: dict[Timeframe, Interval] = {}

    def find_day(self, at_ms: int) -> TradingDay | None:
        """Return the trading day of a time; None while the market is closed, or if no calendar knows it."""
        day = self._day
        if day is None or not day.open_ms <= at_ms < day.close_ms:
            day = self._look_up(at_ms)
            self._day = day or self._day
        return day

    def find_border(self, at_ms: int, timeframe: Timeframe) -> int:
        """Return the open of the trading day of a time; the time itself while the market is closed.

        `timeframe` is the one whose bars are kept from then on; the last such day of each is cached.
        """
        day = self._old_days.get(timeframe)
        if day is None or not day.open_ms <= at_ms < day.close_ms:
            day = self._look_up(at_ms)
            if day is None:
                return at_ms
            self._old_days[timeframe] = day
        return day.open_ms

    def find(self, at_ms: int, timeframe: Timeframe) -> Interval | None:
        """Return the interval of a timeframe that holds this time, or None while the market is closed."""
        found = self._found.get(timeframe)
        is_within = found is not None and found.open_ms <= at_ms < found.close_ms
        if is_within and timeframe not in PERIODS:
            return found
        day = self.find_day(at_ms)  # a week or month holds nights, too
        if is_within and day is not None:
            return found
        if day is None:
            return None
        if timeframe == "1d":
            found = Interval(timeframe, day.open_ms, day.close_ms)
        elif timeframe in PERIODS:
            found = self._find_period(day, timeframe)
        else:
            length_ms = LENGTH_MS[timeframe]
            open_ms = at_ms - (at_ms - day.open_ms) % length_ms
            found = Interval(timeframe, open_ms, min(open_ms + length_ms, day.close_ms))
        self._found[timeframe] = found
        return found

    def place(self, start_ms: int, timeframe: Timeframe) -> Interval | None:
        """Return the interval that a source means by a bar with this start; None if there is none.

        A shorter bar must begin exactly where an interval of ours does. A day may be named by its open, or by
        the midnight of its date in one of the session's zones, as most sources do.
        """
        if timeframe != "1d":
            interval = self.find(start_ms, timeframe)
            return interval if interval is not None and interval.open_ms == start_ms else None
        day = self.find_day(start_ms)
        if day is None or day.open_ms != start_ms:
            day = self._find_named_day(start_ms) or self._find_day_after_pause(start_ms)
        return None if day is None else Interval(timeframe, day.open_ms, day.close_ms)

    def _find_period(self, day: TradingDay, timeframe: Timeframe) -> Interval:
        """Return the week or month of a trading day: from its first trading day to its last one."""
        first, last = (
            next(found for each in labels if (found := self.session.find_date(each)) is not None)
            for labels in list_period_dates(day.date, timeframe)
        )
        return Interval(timeframe, first.open_ms, last.close_ms)

    def _find_named_day(self, midnight_ms: int) -> TradingDay | None:
        for zone in self.session.zones:
            named = datetime.fromtimestamp(midnight_ms / 1000, zone)
            if named.time() == time():
                return self.session.find_date(named.date())
        return None

    def _find_day_after_pause(self, at_ms: int) -> TradingDay | None:
        """Return the day of futures that a source lets begin with the pause before it, as currencies do."""
        if self.session.code != US_FUTURES or self.find_day(at_ms) is not None:
            return None
        day = self.find_day(at_ms + PAUSE_MS)
        return day if day is not None and day.open_ms == at_ms + PAUSE_MS else None

    def _look_up(self, at_ms: int) -> TradingDay | None:
        try:
            return self.session.find_day(at_ms)
        except OutsideCalendarError:
            return None

    def is_break_between(self, previous_ms: int, start_ms: int) -> bool:
        """Return True if the market was closed between two minutes, or traded a whole day without any."""
        day = self.find_day(start_ms)
        if day is None or previous_ms >= day.open_ms:
            return False
        previous = self._look_up(previous_ms)
        return previous is None or previous.close_ms < day.open_ms

    def count_missing(self, previous_ms: int, start_ms: int) -> int:
        """Return how many minutes of the same trading day lie between two without a bar, breaks aside."""
        day = self.find_day(start_ms)
        if day is None or previous_ms < day.open_ms:
            return 0
        return count_minutes(day, previous_ms + MINUTE_MS, start_ms)

    def count_minutes(self, interval: Interval) -> int:
        """Return how many minutes of an interval the market trades."""
        if interval.timeframe in PERIODS:
            days = self.session.iter_days(interval.open_ms, interval.close_ms)
            return sum(count_minutes(each, each.open_ms, each.close_ms) for each in days)
        day = self.find_day(interval.open_ms)
        return 0 if day is None else count_minutes(day, interval.open_ms, interval.close_ms)


def find_utc_end(close_ms: int) -> int:
    """Return when the day of UTC ends in which a trading day closes, as of a source that has such days."""
    return -(-close_ms // DAY_MS) * DAY_MS


def name_period(label: date, timeframe: Timeframe) -> date:
    """Return the first date of the calendar week (Monday) or month that a date is in."""
    return label - timedelta(label.weekday()) if timeframe == "1w" else label.replace(day=1)


def end_period(label: date, timeframe: Timeframe) -> date:
    """Return the last date of the calendar week (Sunday) or month that a date is in."""
    first = name_period(label, timeframe)
    return (
        first + timedelta(6)
        if timeframe == "1w"
        else name_period(first + timedelta(31), "1mo") - timedelta(1)
    )


def list_period_dates(label: date, timeframe: Timeframe) -> tuple[list[date], list[date]]:
    """Return the dates of the week or month of a date, in order and from the last one back."""
    first, last = name_period(label, timeframe), end_period(label, timeframe)
    dates = [first + timedelta(number) for number in range((last - first).days + 1)]
    return dates, dates[::-1]


def count_minutes(day: TradingDay, from_ms: int, to_ms: int) -> int:
    """Return how many minutes of a trading day are in `[from_ms, to_ms)`, without its lunch break."""
    minutes = (to_ms - from_ms) // MINUTE_MS
    if day.break_ms is not None:
        pauses, resumes = max(day.break_ms[0], from_ms), min(day.break_ms[1], to_ms)
        minutes -= max(0, resumes - pauses) // MINUTE_MS
    return max(0, minutes)
