"""When each bar is loaded, in a simulation of two weeks of the schedule and the hourly refresh.

The first two weeks have an end of daylight saving time and an end of a month, the others a holiday, an early
close and the end of a month.
"""

from bisect import bisect_left, bisect_right
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

import pytest

from services.market.records import DAY_MS, TIMEFRAME_SEC, AssetClass, Bar, RecordKind
from services.market.sessions import get_session
from services.sources.cascade.evaluation import RecordClock, evaluate_answer
from services.sources.cascade.series import Series, find_day_end, find_end, find_next_record
from services.sources.cascade.state import WAITING, conclude_load, is_stale, needs_refresh, plan_load
from services.sources.catalog.answer import AnswerStatus, SourceAnswer

HOUR_SEC, DAY_SEC = 3600, 86_400
REFRESH_SEC = 300
"""The refresh is at five past each hour."""
MINUTES = Series("SPY", RecordKind.BARS, "1m", AssetClass.STOCKS, "XNYS", ("a",), 900.0, 730.0)
WEEKS = [("2026-10-24", "2026-11-08"), ("2026-11-20", "2026-12-05")]


@cache
def xnys():
    return get_session("XNYS")


def ms(text):
    return round(1000 * datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def list_starts(timeframe, start_ms, end_ms):
    """The bars that a source has of these days."""
    length_ms, starts = 1000 * TIMEFRAME_SEC[timeframe], []
    for day in xnys().iter_days(start_ms - 7 * DAY_MS, end_ms):
        if timeframe == "1d":
            starts.append(day.open_ms // DAY_MS * DAY_MS)
        else:
            starts += range(day.open_ms, day.close_ms, length_ms)
    return starts


def simulate(series, start_ms, end_ms):
    """Yield when a load was, the state after it, and that before it, as dispatcher and refresh begin them."""
    starts = list_starts(series.timeframe, start_ms, end_ms)
    state, now = WAITING, start_ms / 1000
    while now < end_ms / 1000:
        is_due = state is WAITING or (state.due_at is not None and now >= state.due_at)
        is_refresh = now % HOUR_SEC == REFRESH_SEC and needs_refresh(state, now, 3300)
        if is_due or is_refresh:
            before = state
            upto = bisect_right(starts, 1000 * now)
            known = starts[max(0, upto - 5) : upto]
            bars = tuple(Bar("SPY", series.timeframe, start, 1, 1, 1, 1) for start in known)
            answer = SourceAnswer("a", AnswerStatus.OK, records=bars, asked_at=now)
            clock = RecordClock(now, now)
            finding = evaluate_answer(series, xnys(), answer, clock)
            state = conclude_load(series, state, [finding], now)
            next_ms = find_next_record(
                series, xnys(), state.newest_ms, clock.now_ms, clock.now_ms, day_end=finding.day_end
            )
            state = plan_load(series, state, now, None if next_ms is None else next_ms / 1000)
            yield now, before, state
        refresh_at = (now - REFRESH_SEC) // HOUR_SEC * HOUR_SEC + HOUR_SEC + REFRESH_SEC
        now = min(refresh_at, state.due_at if state.due_at is not None and state.due_at > now else refresh_at)


@pytest.mark.slow
@pytest.mark.parametrize("weeks", WEEKS)
@pytest.mark.parametrize(
    ("timeframe", "every_sec"),
    [
        ("1m", 60.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("4h", None),
        ("1d", None),
        ("1d", 3600.0),
    ],
)
def test_each_bar_is_loaded_soon_after_its_end_and_no_series_is_stale(timeframe, every_sec, weeks):
    start_ms, end_ms = map(ms, weeks)
    series = replace(MINUTES, timeframe=timeframe, every_sec=every_sec)
    loads = list(simulate(series, start_ms, end_ms))
    within_sec = HOUR_SEC + REFRESH_SEC if every_sec is None else every_sec + 1
    ended = [
        (start, end / 1000)
        for start in list_starts(timeframe, start_ms, end_ms)
        if start_ms < (end := find_end(series, xnys(), start, find_day_end(series))) < end_ms - 2 * 3_600_000
    ]
    assert ended
    newest = [state.newest_ms or 0 for _, _, state in loads]
    assert newest == sorted(newest)
    for start, end in ended:
        loaded_at, _, _ = loads[bisect_left(newest, start)]
        assert loaded_at <= end + within_sec, datetime.fromtimestamp(start / 1000, UTC)
    stale = [at for at, before, _ in loads if is_stale(before, at) and at > start_ms / 1000 + 2 * DAY_SEC]
    assert stale == []


@pytest.mark.parametrize("timeframe", ["1m", "1h", "1d"])
def test_a_closed_market_is_asked_no_more_once_its_last_bars_are_there(timeframe):
    series = replace(MINUTES, timeframe=timeframe, every_sec=60.0)
    loads = [at for at, _, _ in simulate(series, ms("2026-11-26"), ms("2026-11-30"))]
    saturday, sunday = (ms(day) / 1000 for day in ("2026-11-28", "2026-11-29T23:59"))
    assert len([at for at in loads if saturday <= at < sunday]) <= 1
