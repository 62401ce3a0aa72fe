"""The generated market has the sessions of the world, possible minutes, and vices that are seen."""

import itertools
from datetime import date

import pytest

from services.market.records import DAY_MS, MINUTE_MS
from support.market_prices import (
    DST_WEEK,
    EARLY_CLOSE_WEEK,
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Series.values")  # of pandas, about the calendars' own use of it
def test_the_sessions_of_new_york_are_those_of_the_calendar():
    import exchange_calendars

    calendar = exchange_calendars.get_calendar("XNYS", start="2025-12-20", end="2028-01-31")
    for day in week_days(date(2026, 1, 1), 740):
        hours = session_hours("XNYS", day)
        assert (hours is not None) == calendar.is_session(day.isoformat()), day
        if hours is not None:
            opens, closes = calendar.session_open_close(day.isoformat())
            assert hours == (epoch_ms(opens), epoch_ms(closes)), day


@pytest.mark.slow
def test_minutes_are_the_same_each_time_in_order_and_possible():
    for instrument in map(find_instrument, ("BRK.B", "USD/JPY", "ETH/USD", "VIX")):
        bars = make_bars(instrument, DST_WEEK)
        assert bars == make_bars(instrument, DST_WEEK) != make_bars(instrument, EARLY_CLOSE_WEEK)
        open_minutes = session_minutes(instrument.session, DST_WEEK)
        assert set(open_minutes) >= {bar.start_ms for bar in bars}
        assert len(bars) / len(open_minutes) == pytest.approx(1 - instrument.quiet, abs=0.05)
        assert all(before.start_ms < after.start_ms for before, after in itertools.pairwise(bars))
        for bar in bars:
            assert 0 < bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
            assert bar.vwap is None or bar.low <= bar.vwap <= bar.high
            assert bar.volume is None or bar.volume > 0


@pytest.mark.slow
def test_a_longer_bar_is_its_minutes_and_what_has_not_happened_is_not_known():
    market = Market(EARLY_CLOSE_WEEK)
    hours, minutes = market.bars("SPY", "1h"), market.bars("SPY", "1m")
    opened = {each[0] for day in week_days(EARLY_CLOSE_WEEK) if (each := session_hours("XNYS", day))}
    assert opened <= {bar.start_ms for bar in hours}
    assert sum(bar.volume for bar in hours) == sum(bar.volume for bar in minutes)
    assert len(market.bars("SPY", "1d")) == len(opened)
    now = market.begin_ms + 31 * MINUTE_MS + 30_000
    whole = market.bars("BTC/USD", "1m")
    known = market.find_known("BTC/USD", "1m", now)
    assert known == [*whole[:31], begin_bar(whole[31], 0.5)]
    assert (begin_bar(whole[31], 1.0).high, begin_bar(whole[31], 1.0).close) == (
        whole[31].high,
        whole[31].close,
    )
    assert market.find_known("BTC/USD", "1h", now) == join_minutes(known, "1h", find_instrument("BTC/USD"))
    assert truth_bars(market, until_ms=now)["BTC/USD"] == known[:-1]
    assert MarketView(market, market.begin_ms).find_quote("BTC/USD") is None


def test_each_vice_of_data_is_seen_and_those_of_young_bars_are_corrected():
    market = Market(DST_WEEK)
    now = market.begin_ms + 4 * DAY_MS

    def view(*vices, later=0):
        found = MarketView(market, now + later, vices).find_bars(
            "BTC/USDT", "1m", now - 60 * MINUTE_MS, now - 1
        )
        return [bar for bar in found if bar.start_ms < now]

    true = view()
    since, hit = true[30].start_ms, {bar.start_ms for bar in true if bar.start_ms // MINUTE_MS % 10 == 0}
    frozen, split = (view(Vice(kind, since_ms=since)) for kind in (ViceKind.FROZEN, ViceKind.SPLIT))
    assert frozen[:30] == split[:30] == true[:30]
    assert {price for bar in frozen[30:] for price in (bar.open, bar.high, bar.low, bar.close)} == {
        true[29].close
    }
    assert [bar.close for bar in split[30:]] == [pytest.approx(bar.close / 2) for bar in true[30:]]
    for kind in (ViceKind.LATE, ViceKind.PARTIAL):
        early = view(Vice(kind, minutes=10))
        assert early[:50] == true[:50]
        assert all(before != after for before, after in zip(early[51:], true[51:], strict=True))
        assert view(Vice(kind, minutes=10), later=11 * MINUTE_MS) == true
    for kind, is_wrong in {
        ViceKind.NEGATIVE: lambda bar: bar.close < 0,
        ViceKind.CROSSED: lambda bar: bar.high < bar.low,
        ViceKind.OFF_MINUTE: lambda bar: bar.start_ms % MINUTE_MS == 7000,
    }.items():
        wrong = {bar.start_ms // MINUTE_MS * MINUTE_MS for bar in view(Vice(kind)) if is_wrong(bar)}
        assert wrong == hit
    assert view(Vice(ViceKind.MISSING)) == [bar for bar in true if bar.start_ms not in hit]
    assert view(Vice(ViceKind.DUPLICATED))[:4] == [true[0], true[0], true[1], true[1]]
    assert view(Vice(ViceKind.UNORDERED))[0] == true[1]
    shifted = view(Vice(ViceKind.WRONG_ZONE, hours=1))
    assert [bar.start_ms for bar in shifted] == [bar.start_ms for bar in true]
    assert [bar.close for bar in shifted] != [bar.close for bar in true]
