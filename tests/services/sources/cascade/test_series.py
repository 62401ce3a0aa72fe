"""When a series is fresh, what is asked for it, and which records count."""

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.market.records import AssetClass, Bar, Observation, Quote, RecordKind
from services.market.sessions import get_session
from services.sources.cascade.series import (
    Pace,
    Series,
    find_day_end,
    find_end,
    find_next_record,
    find_revised,
    fresh_until,
    is_wrong_as_whole,
    keep_finished,
    list_series,
    make_question,
    measure_pace,
    place_bars,
    sort_out,
)
from services.sources.catalog.files import shipped_catalog
from services.sources.settings import SourcesSettings

STOCKS = AssetClass.STOCKS
CRYPTO = get_session("24x7")
MINUTE_MS = 60_000
MINUTES = Series("SPY", RecordKind.BARS, "1m", AssetClass.STOCKS, "XNYS", ("a", "b"), 900.0, 5.0, 60.0)
DAYS = replace(MINUTES, timeframe="1d")
COIN = replace(MINUTES, symbol="BTC/USD", asset=AssetClass.CRYPTO, session="24x7")


def xnys():
    """New York's calendar takes most of a second, which each worker would need at its import."""
    return get_session("XNYS")


def ms(text):
    return round(1000 * datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def bar(at_ms, close=10.0, **more):
    values = {"open": 10.0, "high": max(10.0, close), "low": min(10.0, close), "close": close, **more}
    return Bar("SPY", "1m", at_ms, **values)


def test_the_truth_names_series_alone_or_in_groups_with_the_defaults_of_their_kind():
    section = {
        "endpoints": [
            {"symbols": ["SPY", "QQQ"], "group": "indices", "from": ["yahoo"]},
            {"symbol": "EUR/USD", "kind": "quotes", "asset": "forex", "from": ["tiingo"], "max_age_sec": 60},
            {
                "symbol": "US.CPI",
                "kind": "observations",
                "asset": "economic",
                "from": ["fred"],
                "stream": False,
            },
        ],
        "settings": {"gate": {"fresh_sec": 1200}},
    }
    spy, qqq, euro, prices = list_series(SourcesSettings.model_validate(section))
    assert [each.id for each in (spy, qqq, euro, prices)] == [
        "SPY:bars:1m",
        "QQQ:bars:1m",
        "EUR/USD:quotes",
        "US.CPI:observations",
    ]
    assert (spy.session, spy.group, spy.max_age_sec, spy.history_days) == ("XNYS", "indices", 1200.0, 5.0)
    assert [each.may_stream for each in (spy, qqq, euro, prices)] == [True, True, True, False]
    assert (euro.session, euro.max_age_sec, euro.every_sec) == ("24x5", 60.0, None)
    assert (prices.max_age_sec, prices.history_days) == (172_800.0, 3650.0)


@pytest.mark.parametrize(
    ("series", "newest", "until"),
    [
        (MINUTES, "2026-11-23T15:00", "2026-11-23T15:17"),  # its own length, another one, and max_age
        (MINUTES, "2026-11-23T20:59", "2026-11-24T14:46"),  # the last one of Monday
        (MINUTES, "2026-11-23T20:50", "2026-11-24T14:46"),  # nobody traded in the last minutes
        (MINUTES, "2026-11-27T17:59", "2026-11-30T14:46"),  # an early close on Friday, and the weekend
        (DAYS, "2026-11-27", "2026-11-30T21:15"),  # until the next session is over
        (DAYS, "2026-11-27T05:00", "2026-11-30T21:15"),  # stamped by the exchange's midnight
        (DAYS, "2026-11-27T14:30", "2026-11-30T21:15"),  # or by its open
        (replace(COIN, timeframe="1d"), "2026-11-27", "2026-11-29T00:15"),
    ],
)
def test_a_bar_is_fresh_while_no_newer_one_can_be_overdue(series, newest, until):
    assert fresh_until(series, get_session(series.session), ms(newest), 0) == ms(until)


@pytest.mark.parametrize(
    ("newest", "until"),
    [
        ("2026-11-25T02:29", "2026-11-25T03:46"),  # the last minute before Tokyo's lunch
        ("2026-11-25T02:20", "2026-11-25T03:37"),
        ("2026-11-25T02:00", "2026-11-25T02:17"),
        ("2026-11-25T03:30", "2026-11-25T03:47"),
    ],
)
def test_no_minute_is_late_in_a_lunch_break(newest, until):
    assert fresh_until(replace(MINUTES, session="XTKS"), get_session("XTKS"), ms(newest), 0) == ms(until)


def test_no_minute_of_a_future_is_late_in_the_pause_between_two_days():
    futures = replace(MINUTES, session="us_futures")
    until = fresh_until(futures, get_session("us_futures"), ms("2026-11-24T21:59"), 0)
    assert until == ms("2026-11-24T23:16")


def test_an_observation_is_fresh_since_a_source_answered_and_nothing_is_before_the_first_record():
    series = replace(MINUTES, kind=RecordKind.OBSERVATIONS, timeframe="", session="24x7")
    assert fresh_until(series, CRYPTO, ms("2020-01-01"), ms("2026-11-23")) == ms("2026-11-23T00:15")
    assert fresh_until(series, CRYPTO, None, ms("2026-11-23")) == 0


@given(st.integers(ms("2026-03-01"), ms("2026-12-20")), st.integers(1, 100_000))
def test_a_newer_record_is_never_fresh_for_a_shorter_time(newest_ms, later_ms):
    for series, session in (
        (MINUTES, xnys()),
        (DAYS, xnys()),
        (COIN, CRYPTO),
        (MINUTES, get_session("24x5")),
    ):
        older = fresh_until(series, session, newest_ms, 0)
        assert newest_ms < older <= fresh_until(series, session, newest_ms + later_ms, 0)


def test_bars_that_are_not_over_yet_are_left_out():
    now = ms("2026-11-23T15:00:30")
    kept = keep_finished(MINUTES, xnys(), [bar(now - 90_000), bar(now - 30_000)], now)
    assert [each.start_ms for each in kept] == [now - 90_000]
    assert find_end(DAYS, xnys(), ms("2026-11-27")) == ms("2026-11-27T18:00")
    quote = Quote("SPY", now, 1.0)
    assert keep_finished(replace(MINUTES, kind=RecordKind.QUOTES), xnys(), [quote], now) == [quote]


def test_what_is_missing_is_asked_for_with_some_that_may_have_been_corrected():
    now = ms("2026-11-23T15:00")
    first = make_question(MINUTES, xnys(), None, now)
    assert (first.end - first.start).days == 5
    later = make_question(MINUTES, xnys(), now - 3 * MINUTE_MS, now)
    assert round((later.end - later.start).total_seconds()) == 13 * 60
    assert make_question(MINUTES, xnys(), ms("2020-01-01"), now).start == first.start
    assert make_question(MINUTES, xnys(), now + 60 * MINUTE_MS, now).start <= first.end


@pytest.mark.parametrize(
    ("timeframe", "revise_days", "days"),
    [("1m", 6.0, 6), ("30m", 2.0, 2), ("1h", 6.0, 30), ("4h", 6.0, 60), ("1d", 6.0, 800), ("1h", 30.5, 30.5)],
)
def test_bars_may_be_corrected_as_long_as_the_service_bars_keeps_them(timeframe, revise_days, days):
    series, now = replace(COIN, timeframe=timeframe, history_days=3000.0), ms("2026-11-23T15:00")
    assert (now - find_revised(series, CRYPTO, now, now, revise_days)) / (1440 * MINUTE_MS) == days
    young = replace(series, history_days=1.0)
    assert find_revised(young, CRYPTO, now, now, revise_days) == ms("2026-11-22"), "its history"


def test_the_history_of_bars_begins_with_a_whole_trading_day():
    open_ms = ms("2026-11-18T14:30")
    for now in ("2026-11-23T14:30", "2026-11-23T17:45", "2026-11-23T20:59"):
        assert make_question(MINUTES, xnys(), None, ms(now)).start.timestamp() * 1000 == open_ms
    closed = make_question(MINUTES, xnys(), None, ms("2026-11-20T17:00"))  # five days before was a Sunday
    assert (closed.end - closed.start).total_seconds() == 5 * 86_400
    quotes = make_question(replace(MINUTES, kind=RecordKind.QUOTES), xnys(), None, ms("2026-11-23T17:45"))
    assert (quotes.end - quotes.start).total_seconds() == 5 * 86_400


def test_an_answer_whose_newest_record_lies_ahead_is_wrong_as_a_whole():
    records = [bar(-MINUTE_MS), bar(10 * MINUTE_MS)]
    assert sort_out(STOCKS, records, 0) == (
        [records[0]],
        ["a time that lies ahead"],
        "a time that lies ahead",
    )


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"at_ms": 0, "high": 9.0}, "a price outside of low and high"),
        ({"at_ms": 0, "volume": -1.0}, "a negative volume"),
        ({"at_ms": 0, "low": 0.0}, "a price that is not positive"),
    ],
)
@pytest.mark.parametrize("at", [0, 5, 9])
def test_a_wrong_record_costs_itself_wherever_it_is(wrong, why, at):
    records = [bar(MINUTE_MS * n) for n in range(-9, 0)]
    with_wrong = [*records[:at], bar(**wrong), *records[at:]]
    assert sort_out(STOCKS, with_wrong, 10**12) == (records, [why], None)


def test_what_is_no_bar_may_be_anything_and_nothing_is_nothing():
    observation = Observation("X", 5, 1.0)
    assert sort_out(STOCKS, [observation], 10**12) == ([observation], [], None)
    assert sort_out(STOCKS, [], 0) == ([], [], None)


@pytest.mark.parametrize(
    ("faults", "rows", "is_wrong"),
    [
        (0, 0, False),
        (1, 1, True),
        (1, 2, False),
        (2, 3, True),
        (3, 6, False),
        (4, 12, True),
        (5, 50, False),
        (6, 50, True),
    ],
)
def test_few_wrong_rows_cost_themselves_and_many_the_answer(faults, rows, is_wrong):
    assert is_wrong_as_whole(faults, rows) is is_wrong


@pytest.mark.parametrize(
    ("asset", "quote", "why"),
    [
        ("stocks", {"price": 0.0}, "a price that is not positive"),
        ("forex", {"price": -5.0}, "a price that is not positive"),
        ("options", {"price": -0.01}, "a price that is not positive"),
        ("options", {"price": 0.0, "bid": 0.0, "ask": 0.05}, None),
        ("commodities", {"price": -37.63}, None),
        ("stocks", {"price": 10.0, "bid": 10.1, "ask": 10.0}, "a bid above the ask"),
        ("stocks", {"price": 10.0, "bid": 10.0, "ask": 10.0}, None),
        ("stocks", {"price": 10.0, "bid": 10.1, "ask": 0.0}, None),  # nobody sells
        ("stocks", {"price": 10.0, "bid": 10.1}, None),
    ],
)
def test_a_quote_whose_prices_can_not_be_is_wrong(asset, quote, why):
    faults = sort_out(AssetClass(asset), [Quote("X", 0, **quote)], 0)[1]
    assert faults == ([] if why is None else [why])


@pytest.mark.parametrize(
    ("session", "timeframe", "start", "what"),
    [
        ("XNYS", "1m", "2026-11-23T15:07", "taken"),
        ("XNYS", "1m", "2026-11-23T15:07:01", "wrong"),
        ("XNYS", "1m", "2026-11-23T14:29", "closed"),  # before the open
        ("XNYS", "5m", "2026-11-23T15:05", "taken"),
        ("XNYS", "5m", "2026-11-23T15:07", "wrong"),
        ("XNYS", "1h", "2026-11-23T14:30", "taken"),
        ("XNYS", "1h", "2026-11-23T14:00", "closed"),  # hours that are counted from midnight
        ("XNYS", "1h", "2026-11-23T15:00", "wrong"),
        ("XNYS", "4h", "2026-11-23T18:30", "taken"),
        ("XNYS", "1d", "2026-11-23T14:30", "taken"),
        ("XNYS", "1d", "2026-11-23T05:00", "taken"),  # midnight in New York
        ("XNYS", "1d", "2026-11-23T15:30", "wrong"),
        ("XNYS", "1d", "2026-11-26T05:00", "closed"),  # Thanksgiving
        ("24x5", "4h", "2026-11-23T02:00", "taken"),
        ("24x5", "4h", "2026-11-23T04:00", "wrong"),
        ("24x5", "1d", "2026-11-22", "closed"),  # a Sunday
        ("24x7", "1d", "2026-11-23", "taken"),
        ("24x7", "1d", "2026-11-23T06:00", "wrong"),
    ],
)
def test_a_bar_begins_where_bars_would_take_it_or_is_none(session, timeframe, start, what):
    series = replace(MINUTES, timeframe=timeframe)
    record = replace(bar(ms(start)), timeframe=timeframe)
    placed, wrong = place_bars(series, get_session(session), [record])
    assert ("taken" if placed else "wrong" if wrong else "closed") == what


def test_quotes_and_observations_have_any_time():
    for kind, record in (
        (RecordKind.QUOTES, Quote("SPY", 7, 1.0)),
        (RecordKind.OBSERVATIONS, Observation("X", 7, 1.0)),
    ):
        series = replace(MINUTES, kind=kind, timeframe="")
        assert place_bars(series, xnys(), [record]) == ([record], 0)


def test_while_a_market_is_closed_the_next_record_is_named_once_its_last_ones_had_time_to_appear():
    close, night, newest = ms("2026-11-23T21:00"), ms("2026-11-24T03:00"), ms("2026-11-23T20:59")
    assert find_next_record(MINUTES, xnys(), newest, close + 901_000, night) == ms("2026-11-24T14:31")
    assert find_next_record(MINUTES, xnys(), newest, close + 100_000, night) is None
    assert find_next_record(MINUTES, xnys(), newest, night, ms("2026-11-24T15:00")) is None
    assert find_next_record(MINUTES, xnys(), None, night, night) is None
    assert find_next_record(COIN, CRYPTO, night, night, night) is None
    hours = replace(MINUTES, timeframe="1h")
    # its last hour is not over
    assert find_next_record(hours, xnys(), newest, close + 1_800_000, night) is None
    assert find_next_record(hours, xnys(), newest, close + 3_600_000, night) == ms("2026-11-24T15:30")


@pytest.mark.parametrize(
    ("newest", "answered", "now", "then"),
    [
        (
            "2026-11-25",
            "2026-11-26T03:00",
            "2026-11-26T12:00",
            "2026-11-27T18:20",
        ),  # a holiday, an early close
        (
            "2026-10-30",
            "2026-10-31T12:00",
            "2026-10-31T12:00",
            "2026-11-02T21:20",
        ),  # daylight saving time ends
        ("2026-11-23", "2026-11-23T21:30", "2026-11-23T21:31", None),
        (
            "2026-11-23",
            "2026-11-23T21:35",
            "2026-11-23T21:36",
            "2026-11-24T02:20",
        ),  # once more in the evening
        ("2026-11-23", "2026-11-24T02:20", "2026-11-24T02:21", "2026-11-24T21:20"),
        ("2026-11-23", "2026-11-23T21:35", "2026-11-24T05:00", None),  # the evening was missed
    ],
)
def test_a_day_is_asked_for_when_it_is_complete_and_once_more_late_in_the_evening(
    newest, answered, now, then
):
    end = find_day_end(DAYS)
    found = find_next_record(DAYS, xnys(), ms(newest), ms(answered), ms(now), day_end=end)
    assert found == (None if then is None else ms(then))


@pytest.mark.parametrize(
    ("session", "how", "is_over_at"),
    [
        ("XNYS", {}, "2026-11-23T21:20"),
        ("XNYS", {"delay_sec": 10_800}, "2026-11-24T00:00"),
        ("XNYS", {"delay_sec": 0, "is_utc": True}, "2026-11-23T21:00"),
        ("24x7", {"is_utc": True}, "2026-11-24T00:00"),
        ("24x5", {}, "2026-11-23T22:00"),
        ("24x5", {"is_utc": True}, "2026-11-24T00:00"),
    ],
)
def test_a_day_is_over_when_its_source_has_all_of_it(session, how, is_over_at):
    series = replace(DAYS, session=session)
    end, trading = find_day_end(series, **how), get_session(session)
    day = bar(ms("2026-11-23T12:00" if session == "24x5" else "2026-11-23T05:00"))
    assert keep_finished(series, trading, [day], ms(is_over_at) - 1, end) == []
    assert keep_finished(series, trading, [day], ms(is_over_at), end) == [day]
    # and the day before is fresh until this one is late
    before = trading.find_date(date(2026, 11, 20)).open_ms
    if session != "24x7":
        until = fresh_until(series, trading, before, 0, end)
        assert until == ms(is_over_at) + round(1000 * series.max_age_sec)


@pytest.mark.parametrize(
    ("london_midnight", "next_london_midnight", "is_over_at"),
    [
        ("2026-11-25T00:00", "2026-11-26T00:00", "2026-11-26T00:00"),
        ("2026-06-30T23:00", "2026-07-01T23:00", "2026-07-02T00:00"),
        ("2026-03-16T00:00", "2026-03-17T00:00", "2026-03-17T00:00"),  # summer time in New York alone
    ],
)
def test_a_day_of_a_currency_from_yahoo_ends_with_london_and_not_with_the_session(
    london_midnight, next_london_midnight, is_over_at
):
    """Before that Yahoo still writes its close, high and low."""
    pair = replace(DAYS, symbol="EUR/USD", asset=AssetClass.FOREX, session="24x5")
    [rules] = shipped_catalog()["yahoo"].find_endpoints(RecordKind.BARS, pair.asset, pair.symbol, "1d")
    end, trading = find_day_end(pair, is_utc=rules.days == "utc"), get_session(pair.session)
    day = bar(ms(london_midnight))
    assert place_bars(pair, trading, [day]) == ([day], 0)
    assert keep_finished(pair, trading, [day], ms(next_london_midnight) - 1, end) == []
    assert keep_finished(pair, trading, [day], ms(is_over_at), end) == [day]


def walk(*steps):
    closes = [100.0]
    for step in steps:
        closes.append(closes[-1] * (1 + step))
    return [bar(n * MINUTE_MS, close) for n, close in enumerate(closes)]


def test_the_pace_of_a_market_is_that_of_its_last_bars_against_those_before():
    usual = [0.001, -0.001] * 30
    assert measure_pace(walk(*usual, *[0.001] * 5)) is Pace.NORMAL
    assert measure_pace(walk(*usual, *[0.01, -0.01, 0.01, 0.02, 0.01])) is Pace.VOLATILE
    assert measure_pace(walk(*usual, *[0.0] * 5)) is Pace.QUIET
    assert measure_pace(walk(0.5, 0.5)) is Pace.NORMAL, "nobody knows what is usual"


def test_prices_that_are_as_far_apart_as_numbers_can_be_have_a_pace_as_well():
    """Their quotient is 0 or endless."""
    bars = [bar(60_000 * at, close) for at, close in enumerate((1e17, 1e-310, 5e-324, 1.7e308) * 20)]
    assert measure_pace(bars) is Pace.NORMAL
