import contextlib
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.board.market.query import (
    QueryError,
    TableFormat,
    TableQuery,
    parse_query,
    parse_time,
    require_symbol,
    require_timeframe,
)
from services.market.fields import MAX_MS, MIN_MS
from services.market.sessions import get_session

NOW = 1_790_000_000_000


def parse(**given):
    usual = {"start": None, "end": None, "limit": 10, "cursor": None, "form": "json", "now_ms": NOW}
    return parse_query(**{**usual, **given})


@given(st.integers(-2_000_000_000, 4_000_000_000))
def test_a_time_is_the_same_in_every_form(seconds):
    ms = 1000 * seconds
    assume(ms == 0 or abs(ms) >= 10**8)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    zoned = moment.astimezone(UTC).isoformat()
    assert parse_time("from", str(ms), NOW) == ms
    assert parse_time("from", zoned, NOW) == ms
    assert parse_time("from", zoned.replace("+", " "), NOW) == ms, "a `+` that was not escaped"
    assert parse_time("from", zoned.removesuffix("+00:00"), NOW) == ms


def test_a_period_counts_back_from_now_and_a_date_begins_at_midnight():
    assert parse_time("from", "90m", NOW) == NOW - 90 * 60_000
    assert parse_time("from", "2w", NOW) == NOW - 14 * 86_400_000
    assert parse_time("to", "2026-01-05", NOW) == 1_767_571_200_000


@pytest.mark.parametrize("text", ["2026", "202601", "-1000", "20261301", "12345678", "1767225"])
def test_a_short_number_is_no_time_and_the_error_says_both_forms(text):
    with pytest.raises(QueryError, match=r"from: a number is epoch milliseconds, .*; a day is 2026-01-31"):
        parse_time("from", text, NOW)


def test_a_date_and_a_time_may_be_without_hyphens_and_zero_is_the_begin_of_1970():
    assert parse_time("from", "20260105", NOW) == parse_time("from", "2026-01-05", NOW)
    assert parse_time("from", "20260105T143000Z", NOW) == parse_time("from", "2026-01-05T14:30:00Z", NOW)
    assert parse_time("from", "0", NOW) == 0
    assert parse_time("from", "-100000000", NOW) == -100_000_000


@given(st.text(max_size=50))
def test_any_text_is_a_time_within_bounds_or_an_error(text):
    with contextlib.suppress(QueryError):
        assert MIN_MS <= parse_time("from", text, NOW) <= MAX_MS


def test_a_page_ends_at_the_cursor_or_the_range_whichever_is_first():
    assert parse(end="2000000000", cursor="1500").before_ms == 1500
    assert parse(end="1000000000", cursor="1500000000").before_ms == 1_000_000_000
    assert parse().before_ms is None
    assert parse().is_latest
    assert not parse(cursor="5").is_latest


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": "500000000", "end": "500000000"},
        {"cursor": ""},
        {"cursor": "x" * 151},
        {"cursor": "\u0661"},
        {"start": "soon"},
    ],
)
def test_a_wrong_value_is_an_error(wrong):
    with pytest.raises(QueryError):
        parse(**wrong)


def test_a_cursor_of_another_table_is_an_error_and_not_a_page():
    with pytest.raises(QueryError):
        TableQuery(cursor="SPY").before_ms  # noqa: B018 - the error is what it is asked for


def test_symbols_and_timeframes_are_ours_or_refused():
    assert require_symbol("EUR/USD") == "EUR/USD"
    assert require_timeframe("4h") == "4h"
    for wrong in ("", "../etc", "A" * 41, "SPY;drop", "SPY\n"):
        with pytest.raises(QueryError):
            require_symbol(wrong)
    with pytest.raises(QueryError):
        require_timeframe("2m")
    assert {str(each) for each in TableFormat} == {"json", "csv", "arrow"}


@pytest.mark.parametrize("code", ["24x5", "us_futures", "XNYS"])
def test_from_one_date_to_the_next_is_the_trading_day_of_that_date_and_no_other(code):
    session, label = get_session(code), date(2026, 1, 1)
    while label < date(2026, 12, 1):
        query = parse(start=str(label), end=str(label + timedelta(1)), is_daily=True)
        found = [day.date for day in session.iter_days(query.from_ms, query.to_ms)]
        assert found == ([] if session.find_date(label) is None else [label])
        label += timedelta(1)


def test_of_days_a_date_is_that_of_trading_days_which_may_begin_the_evening_before():
    midnight, hour_ms = parse_time("from", "2026-09-02", NOW), 3_600_000
    found = parse(start="2026-09-02", end="2026-09-03", is_daily=True)
    assert found.from_ms <= midnight - 3 * hour_ms  # 17:00 in New York, in summer
    assert found.to_ms <= midnight + 21 * hour_ms, "the day of the 3rd is not in it"
    assert parse(start="2026-09-02T00:00:00Z", is_daily=True).from_ms == midnight
    assert parse(start="2026-09-02").from_ms == midnight
