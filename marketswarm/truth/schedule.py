"""Schedules of jobs: cron expressions and systemd's OnCalendar, in a time zone. Pure.

A text of five fields, with blanks or tabs between them, is a cron expression, and so is a name such as
`@daily`; any other text is an OnCalendar expression. Both are evaluated as the program that starts the job
does it, also in the nights in which clocks change: a cron job at 02:30 runs once in each of them (Debian's
cron starts one that would fall into the skipped hour right after it), one with a star as its hour or minute
follows the elapsed time; a systemd timer leaves the skipped hour out.

All times are epoch seconds.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice, pairwise
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from marketswarm.truth.errors import format_hint

CRON_FIELDS: Final = 5
CRON_NAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""The names that cron has for some expressions. Without `@reboot`, which is no time."""
MAX_SCHEDULE_CHARS: Final = 200
DAY_SEC: Final = 86_400.0
HOUR_SEC: Final = 3600.0
DEFAULT_GRACE_SEC: Final = 3600.0
MAX_KNOWN: Final = 1 << 17
"""How many schedules are remembered: one for each service of a large truth. A cache that is smaller than the
truth is passed in order and never hits."""
REFERENCE: Final = datetime(2024, 1, 1, tzinfo=UTC).timestamp()
"""The time from which pauses are measured: two readers of one truth must find the same ones."""
_MEASURED_RUNS: Final = 40
_MEASURED_DAYS: Final = 366
_MEASURED_YEARS: Final = 10
_CLOSE_DAYS: Final = 35
_FAR_STEP_DAYS: Final = 15
_TWO_MONTHS_SEC: Final = 59 * DAY_SEC  # a longer pause may have one day more, in a leap year
_MAX_SPAN_SEC: Final = 10 * 366 * DAY_SEC
_MAX_SKIPPED: Final = 10_000  # runs of the repeated hour that a start in its second pass is past already


class ScheduleError(ValueError):
    """A text is not a schedule, or not a time zone. The message follows the text: `is not …`."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a job is to run: an expression and the name of its time zone.

    Make one by `parse_schedule`; then its methods raise nothing.
    """

    expression: str
    time_zone: str = "UTC"

    def runs_after(self, after: float) -> Iterator[float]:
        """Yield the scheduled times after `after`, in order."""
        try:
            last = after
            skipped = 0
            zone = UTC if self.time_zone == "UTC" else ZoneInfo(self.time_zone)  # UTC is the faster one
            for found in _iterate(self.expression, datetime.fromtimestamp(after, zone)):
                at = found.timestamp()
                if at > last:
                    yield at
                    last, skipped = at, 0
                elif (skipped := skipped + 1) > _MAX_SKIPPED:
                    return
        except (OverflowError, OSError, ValueError):  # past the last year that can be expressed
            return

    def next_run(self, after: float) -> float | None:
        """Return None if the schedule has no time after `after`."""
        return next(self.runs_after(after), None)

    def longest_pause_sec(self) -> float:
        """Return the longest time from one run to the next, or some more; it is the same at any time."""
        if self.time_zone == "UTC":
            return _measure_longest_pause(_move_to_midnight(self.expression))
        return _measure_in_zone(self)


@dataclass(frozen=True, slots=True)
class JobRule:
    """When the runs of a job are to be reported.

    With a `schedule`, a run is to be reported within `grace_sec` seconds of each scheduled time. With
    `max_run_sec`, a run is to end within so many seconds of its start.
    """

    schedule: Schedule | None = None
    grace_sec: float = DEFAULT_GRACE_SEC
    max_run_sec: float | None = None

    def longest_silence_sec(self) -> float | None:
        """Return the longest time without a report of a job that is well; None without a schedule."""
        return None if self.schedule is None else self.schedule.longest_pause_sec() + self.grace_sec


@lru_cache(maxsize=MAX_KNOWN)
def parse_schedule(expression: str, time_zone: str = "UTC") -> Schedule:
    """Raises ScheduleError if the expression is not valid, or has fewer than two runs."""
    if not 0 < len(expression) <= MAX_SCHEDULE_CHARS or not expression.replace("\t", " ").isprintable():
        raise ScheduleError('is not a schedule, such as "0 3 * * *" or "Mon..Fri 18:30"')
    try:
        _iterate(expression, datetime.fromtimestamp(REFERENCE, UTC))
    except ScheduleError:
        raise
    except (ValueError, AssertionError):
        raise ScheduleError("is not a schedule") from None
    moved = _move_to_midnight(expression)
    if not _comes_round(moved):
        raise ScheduleError("is a schedule that never comes round")
    _measure_longest_pause(moved)  # here, where a truth is parsed, and not on the event loop
    return Schedule(expression, time_zone)


def _move_to_midnight(expression: str) -> str:
    """Return a cron expression with minute 0 and hour 0 in place of each of them that is one number.

    All runs move by the same time, so the pauses between them stay. Ten thousand jobs with times of their own
    have a few such expressions, and only these are measured. Any other expression is returned as it is.
    """
    fields = find_cron_fields(expression)
    if fields is None:
        return expression
    return " ".join(["0" if field.isdigit() else field for field in fields[:2]] + fields[2:])


@lru_cache(maxsize=MAX_KNOWN)
def _comes_round(expression: str) -> bool:
    return len(list(islice(Schedule(expression).runs_after(REFERENCE), 2))) == 2


@lru_cache(maxsize=1)
def _list_time_zones() -> list[str]:
    return sorted(available_timezones())


def require_time_zone(name: str) -> str:
    """Return the name of a zone of the IANA database. Raises ScheduleError, which names the nearest one."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        hint = format_hint(name, _list_time_zones()) if len(name) <= MAX_SCHEDULE_CHARS else ""
        remedy = hint if "did you mean" in hint else ', such as "Europe/Berlin"'
        raise ScheduleError(f"is not a time zone{remedy}") from None
    return name


def find_cron_fields(expression: str) -> list[str] | None:
    """Return the five fields of a cron expression, or of a name of one; None for any other text."""
    fields = CRON_NAMES.get(expression.strip(), expression).split()
    return fields if len(fields) == CRON_FIELDS else None


def _iterate(expression: str, start: datetime) -> Iterator[datetime]:
    fields = find_cron_fields(expression)
    if fields is not None:
        try:
            return CronSim(" ".join(fields), start)
        except CronSimError as error:
            raise ScheduleError(f"is not a cron expression: {str(error).lower()}") from None
    if expression.startswith("@"):
        hint = format_hint(expression, CRON_NAMES)
        known = f": the names of cron are {', '.join(CRON_NAMES)}"
        raise ScheduleError(f"is not a schedule{hint if 'did you mean' in hint else known}")
    # most fleets have no such schedule, and each agent would pay for it
    from oncalendar import BaseIterator, OnCalendarError  # noqa: PLC0415 - see above

    try:
        return BaseIterator(expression, start)
    except OnCalendarError as error:
        words = expression.split()
        if len(words) > 1 and _is_time_zone(words[-1]):
            raise ScheduleError("names a time zone: write that as time_zone") from None
        raise ScheduleError(
            f"is neither a cron expression of five fields nor one of systemd's OnCalendar:"
            f" {str(error).lower()}"
        ) from None


def _is_time_zone(name: str) -> bool:
    try:
        require_time_zone(name)
    except ScheduleError:
        return False
    return True


@lru_cache(maxsize=MAX_KNOWN)
def _measure_longest_pause(expression: str) -> float:
    """Return an upper limit of the time between two runs, in seconds, from the first runs and a year more.

    If the first runs span less than a year, the year after the last of them is sampled: from some midnights
    to the next run, each midnight for five weeks, then two a month. A pause that is found from a midnight
    counts up to a day longer than it is. All this is measured in UTC, which is fast.
    """
    plain = Schedule(expression)
    runs = [REFERENCE]
    for at in islice(plain.runs_after(REFERENCE), _MEASURED_RUNS):
        runs.append(at)
        if at - REFERENCE > _MAX_SPAN_SEC:
            break
    longest_sec = max((later - earlier for earlier, later in pairwise(runs[1:])), default=_MAX_SPAN_SEC)
    day = first = int((runs[-1] - REFERENCE) // DAY_SEC) + 1
    if first > _MEASURED_DAYS:
        return longest_sec
    while day < first + _MEASURED_DAYS:
        midnight = REFERENCE + day * DAY_SEC
        step = 1 if day < first + _CLOSE_DAYS else _FAR_STEP_DAYS
        following = plain.next_run(midnight)
        if following is None:
            break
        if step == 1 and following - midnight > longest_sec:
            longest_sec = following - midnight + DAY_SEC
        elif following - midnight > _FAR_STEP_DAYS * DAY_SEC:
            pause_sec = following - _find_day_before(plain, day, following)
            longest_sec = max(longest_sec, pause_sec + (DAY_SEC if pause_sec > _TWO_MONTHS_SEC else 0.0))
        day += step
    return longest_sec


def _find_day_before(plain: Schedule, day: int, following: float) -> float:
    """Return the last midnight before the run that comes before `following`, in epoch seconds.

    Between the midnight that begins `day` and `following` there is no run; the one before lies at most a step
    earlier, or this pause was measured from there already.
    """
    first = day - _FAR_STEP_DAYS
    days = range(first + 1, day)
    passed = bisect_left(days, True, key=lambda each: plain.next_run(REFERENCE + each * DAY_SEC) == following)
    return REFERENCE + (first + passed) * DAY_SEC


@lru_cache(maxsize=MAX_KNOWN)
def _measure_in_zone(schedule: Schedule) -> float:
    """Return the longest pause, in seconds, in a time zone whose clocks change.

    A night in which clocks are set back makes a pause longer by an hour. Where they are set forward, a
    systemd timer leaves out the runs of the skipped time: two pauses become one.
    """
    pause_sec = _measure_longest_pause(_move_to_midnight(schedule.expression))
    longest_sec = pause_sec
    if find_cron_fields(schedule.expression) is None:
        plain = Schedule(schedule.expression)
        for start, end in _find_skipped(schedule.time_zone):
            if (left_out := plain.next_run(start - 1)) is None or left_out >= end:
                continue
            following = plain.next_run(end - 1)
            if following is not None:
                longest_sec = max(longest_sec, pause_sec + following - end)
    return longest_sec + (HOUR_SEC if longest_sec >= HOUR_SEC else 0.0)


@lru_cache
def _find_skipped(time_zone: str) -> tuple[tuple[float, float], ...]:
    """Return the times of the clock that a zone skips in the measured years, as if they were UTC.

    Each is from its first second to the one after it.
    """
    zone = ZoneInfo(time_zone)

    def offset_at(at: float) -> float:
        offset = datetime.fromtimestamp(at, zone).utcoffset()
        return 0.0 if offset is None else offset.total_seconds()

    skipped: list[tuple[float, float]] = []
    for day in range(_MEASURED_YEARS * 366):
        low, high = REFERENCE + day * DAY_SEC, REFERENCE + (day + 1) * DAY_SEC
        before_sec, after_sec = offset_at(low), offset_at(high)
        if after_sec <= before_sec:
            continue
        while high - low > 1:  # to the second at which the offset is another one
            middle = (low + high) // 2
            low, high = (middle, high) if offset_at(middle) == before_sec else (low, middle)
        skipped.append((high + before_sec, high + after_sec))
    return tuple(skipped)
