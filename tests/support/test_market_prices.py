"""The generated market: its sessions are those of the world, and its minutes make sense."""

import itertools
from datetime import UTC, date, datetime, timedelta

import pytest

from marketswarm.market.records import MINUTE_MS
from support.market_prices import (
    DST_WEEK,
    EARLY_CLOSE_WEEK,
    INSTRUMENTS,
    Market,
    begin_bar,
    epoch_ms,
    find_instrument,
    join_minutes,
    make_bars,
    session_hours,
    session_minutes,
    truth_bars,
    week_days,
)
from support.market_view import MarketView, Vice, ViceKind


@pytest.mark.filterwarnings("ignore:Series.values")  # of pandas, about the calendars' own use of it
def test_the_sessions_of_new_york_are_those_of_the_calendar():
    import exchange_calendars

    calendar = exchange_calendars.get_calendar("XNYS", start="2025-12-20", end="2031-01-10")
    for day in week_days(date(2026, 1, 1), 5 * 365):
        hours = session_hours("XNYS", day)
        assert (hours is not None) == calendar.is_session(day.isoformat()), day
        if hours is not None:
            opens, closes = calendar.session_open_close(day.isoformat())
            assert hours == (epoch_ms(opens), epoch_ms(closes)), day


def test_the_weeks_have_a_night_without_an_hour_and_a_day_that_ends_early():
    days = {
        day: session_hours("XNYS", day) for first in (DST_WEEK, EARLY_CLOSE_WEEK) for day in week_days(first)
    }
    times = {
        day: tuple(datetime.fromtimestamp(each / 1000, UTC).strftime("%H:%M") for each in hours)
        for day, hours in days.items()
        if hours is not None
    }
    assert times[date(2026, 3, 6)] == ("14:30", "21:00")
    assert times[date(2026, 3, 9)] == ("13:30", "20:00")
    assert date(2026, 11, 26) not in times
    assert times[date(2026, 11, 27)] == ("14:30", "18:00")


def test_currencies_rest_from_friday_to_sunday_evening_in_new_york():
    minutes = session_minutes("24x5", DST_WEEK)
    [gap] = [(before, after) for before, after in itertools.pairwise(minutes) if after - before > MINUTE_MS]
    told = [datetime.fromtimestamp(each / 1000, UTC).strftime("%a %H:%M") for each in gap]
    assert told == ["Fri 21:59", "Sun 21:00"]  # the clocks went forward in between


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda each: each.symbol)
def test_minutes_are_the_same_each_time_in_order_and_possible(instrument):
    bars = make_bars(instrument, DST_WEEK)
    assert bars == make_bars(instrument, DST_WEEK)
    assert bars != make_bars(instrument, EARLY_CLOSE_WEEK)
    open_minutes = session_minutes(instrument.session, DST_WEEK)
    assert set(open_minutes) >= {bar.start_ms for bar in bars}
    assert len(bars) / len(open_minutes) == pytest.approx(1 - instrument.quiet, abs=0.05)
    assert all(before.start_ms < after.start_ms for before, after in itertools.pairwise(bars))
    for bar in bars:
        assert 0 < bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
        assert bar.vwap is None or bar.low <= bar.vwap <= bar.high
        assert bar.volume is None or bar.volume > 0


def test_a_bar_grows_until_it_is_whole_and_keeps_to_what_it_will_be():
    whole = make_bars(find_instrument("BTC/USD"), DST_WEEK)[100]
    grown = [begin_bar(whole, tenth / 10) for tenth in range(11)]
    assert grown[-1] == begin_bar(whole, 1.0)
    assert (grown[-1].high, grown[-1].low, grown[-1].close) == (whole.high, whole.low, whole.close)
    assert {bar.open for bar in grown} == {whole.open}
    for before, after in itertools.pairwise(grown):
        assert whole.high >= after.high >= before.high >= before.open
        assert whole.low <= after.low <= before.low <= before.open
        assert whole.volume >= after.volume >= before.volume
        assert after.low <= after.close <= after.high


@pytest.mark.parametrize("week", [DST_WEEK, EARLY_CLOSE_WEEK])
def test_hours_of_an_exchange_begin_at_its_opening_and_lose_no_minute(week):
    market, spy = Market(week), find_instrument("SPY")
    hours = market.bars("SPY", "1h")
    opened = {session_hours("XNYS", day)[0] for day in week_days(week) if session_hours("XNYS", day)}
    assert opened <= {bar.start_ms for bar in hours}
    assert all((bar.start_ms // MINUTE_MS) % 60 == 30 for bar in hours)
    minutes = market.bars("SPY", "1m")
    assert sum(bar.volume for bar in hours) == sum(bar.volume for bar in minutes)
    days = market.bars("SPY", "1d")
    assert len(days) == len(opened)
    assert [bar.open for bar in join_minutes(minutes, "1d", spy)] == [bar.open for bar in days]


def test_what_has_not_happened_yet_is_not_known():
    market = Market(EARLY_CLOSE_WEEK)
    now = market.begin_ms + 31 * MINUTE_MS + 30_000
    known = market.find_known("BTC/USD", "1m", now)
    assert known[:-1] == list(market.bars("BTC/USD", "1m")[:31])
    assert known[-1] == begin_bar(market.bars("BTC/USD", "1m")[31], 0.5)
    [hour] = market.find_known("BTC/USD", "1h", now)
    assert hour == join_minutes(known, "1h", find_instrument("BTC/USD"))[0]
    assert market.find_known("BTC/USD", "1m", market.begin_ms) == []
    assert MarketView(market, market.begin_ms).find_quote("BTC/USD") is None
    assert truth_bars(market, until_ms=now)["BTC/USD"] == known[:-1]


def test_a_value_is_published_after_its_day_and_frozen_when_it_is_to_be():
    market = Market(DST_WEEK)
    now = market.begin_ms + timedelta(days=5) // timedelta(milliseconds=1)
    view = MarketView(market, now)
    days = view.find_observations("US.10Y", market.begin_ms, now)
    assert [datetime.fromtimestamp(each.start_ms / 1000, UTC).strftime("%a") for each in days] == [
        "Thu",
        "Fri",
        "Mon",
    ]
    frozen = MarketView(market, now, (Vice(ViceKind.FROZEN, since_ms=market.begin_ms),))
    held = frozen.find_observations("US.10Y", 0, now)
    assert {each.value for each in held[-3:]} == {held[-4].value}
    assert [each.value for each in days] != [each.value for each in held[-3:]]
