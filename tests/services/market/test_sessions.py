import warnings
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from time import perf_counter
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.market.records import DAY_MS
from services.market.sessions import (
    OutsideCalendarError,
    Session,
    TradingDay,
    UnknownSessionError,
    find_default_session,
    get_session,
)

NEW_YORK = ZoneInfo("America/New_York")
HOUR_MS = 3_600_000


def ms(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)


def days_of(session: Session, first: date, last: date) -> list[TradingDay]:
    start, end = (datetime(day.year, day.month, day.day, tzinfo=UTC) for day in (first, last))
    return list(session.iter_days(int(start.timestamp() * 1000), int(end.timestamp() * 1000) + DAY_MS))


@pytest.mark.parametrize(
    ("day", "opens", "closes"),
    [
        (date(2026, 11, 25), (14, 30), (21, 0)),
        (date(2026, 11, 27), (14, 30), (18, 0)),  # the day after Thanksgiving closes at 13:00
        (date(2026, 12, 24), (14, 30), (18, 0)),
        (date(2026, 3, 6), (14, 30), (21, 0)),  # the last winter day
        (date(2026, 3, 9), (13, 30), (20, 0)),  # after the night of 8 March
        (date(2026, 10, 30), (13, 30), (20, 0)),
        (date(2026, 11, 2), (14, 30), (21, 0)),
    ],
)
def test_new_york_opens_and_closes_by_its_own_clock(day, opens, closes):
    noon = ms(day.year, day.month, day.day, 17)
    found = get_session("XNYS").find_day(noon)
    assert found == TradingDay(
        day, ms(day.year, day.month, day.day, *opens), ms(day.year, day.month, day.day, *closes)
    )


@pytest.mark.parametrize(
    "day",
    [
        date(2026, 11, 26),  # Thanksgiving
        date(2026, 4, 3),  # Good Friday
        date(2026, 7, 3),  # Independence Day, kept a day early
        date(2001, 9, 12),  # closed by nobody's plan
        date(2012, 10, 29),
        date(2026, 11, 28),  # a Saturday
    ],
)
def test_new_york_is_closed_on_holidays_and_weekends(day):
    session = get_session("XNYS")
    assert session.find_day(ms(day.year, day.month, day.day, 16)) is None
    assert session.next_day(ms(day.year, day.month, day.day)).date > day
    assert session.previous_day(ms(day.year, day.month, day.day, 23)).date < day


@pytest.mark.parametrize("code", ["24x7", "24x5", "XNYS", "XNZE"])
def test_a_day_is_found_by_its_date(code):
    session = get_session(code)
    days = days_of(session, date(2026, 11, 1), date(2026, 12, 31))
    assert [session.find_date(day.date) for day in days] == days
    dates = {date(2026, 11, 10) + timedelta(number) for number in range(30)}
    assert {day for day in dates if session.find_date(day)} == dates & {day.date for day in days}
    assert session.find_date(date(1700, 1, 1)) is session.find_date(date(2300, 1, 1)) is None


def test_a_day_holds_its_open_and_not_its_close():
    session = get_session("XNYS")
    opens, closes = ms(2026, 11, 27, 14, 30), ms(2026, 11, 27, 18)
    assert session.find_day(opens - 1) is None
    assert session.find_day(opens) == session.find_day(closes - 1) is not None
    assert session.find_day(closes) is None
    assert session.next_day(opens - 1).open_ms == opens
    assert session.next_day(opens).date == date(2026, 11, 30)
    assert session.previous_day(closes - 1).date == date(2026, 11, 25)
    assert session.previous_day(closes).date == date(2026, 11, 27)


def test_closed_markets_say_when_they_open_and_when_they_closed():
    session = get_session("XNYS")
    evening = datetime(2026, 11, 27, 14, 0, tzinfo=NEW_YORK)
    assert not session.is_open(evening)
    assert session.is_open(evening - timedelta(hours=2))
    assert session.last_close(evening) == datetime(2026, 11, 27, 18, tzinfo=UTC)


def test_london_has_its_own_holidays_and_clock():
    session = get_session("XLON")
    assert session.find_day(ms(2026, 12, 24, 10)) == TradingDay(
        date(2026, 12, 24), ms(2026, 12, 24, 8), ms(2026, 12, 24, 12, 30)
    )
    assert session.find_day(ms(2026, 11, 26, 10)) is not None  # no Thanksgiving
    assert session.find_day(ms(2026, 5, 4, 10)) is None  # early May
    assert session.find_day(ms(2026, 7, 1, 10)).open_ms == ms(2026, 7, 1, 7)


def test_a_lunch_break_is_part_of_the_day():
    day = get_session("XTKS").find_day(ms(2026, 11, 25, 3))  # noon in Tokyo
    assert (day.date, day.open_ms, day.close_ms) == (
        date(2026, 11, 25),
        ms(2026, 11, 25, 0),
        ms(2026, 11, 25, 6, 30),
    )


def test_forex_trades_from_sunday_to_friday_by_new_york():
    session = get_session("24x5")
    winter, summer = (2026, 11, 29, 22), (2026, 7, 5, 21)  # Sundays, 17:00 in New York
    for sunday in (winter, summer):
        opens = ms(*sunday)
        assert session.find_day(opens - 1) is None
        assert session.find_day(opens) == session.next_day(opens - 1)
        assert session.find_day(opens).date.weekday() == 0
        closes = opens + 5 * DAY_MS
        assert session.find_day(closes - 1).date.weekday() == 4
        assert session.find_day(closes) is None
        assert session.previous_day(closes).close_ms == closes


def test_forex_weekends_are_an_hour_shorter_or_longer_when_clocks_change():
    session = get_session("24x5")
    gaps = {}
    for friday in (date(2026, 3, 6), date(2026, 3, 13), date(2026, 10, 30)):
        closes = session.previous_day(ms(friday.year, friday.month, friday.day, 23)).close_ms
        gaps[friday] = (session.next_day(closes).open_ms - closes) // HOUR_MS
    assert gaps == {date(2026, 3, 6): 47, date(2026, 3, 13): 48, date(2026, 10, 30): 49}


def test_forex_days_touch_within_the_week():
    week = days_of(get_session("24x5"), date(2026, 11, 22), date(2026, 11, 26))
    assert [day.date for day in week] == [date(2026, 11, 23 + number) for number in range(5)]
    assert all(day.close_ms == after.open_ms for day, after in pairwise(week))


def test_crypto_trades_by_days_of_utc():
    session = get_session("24x7")
    at = ms(2026, 3, 8, 12)
    assert session.find_day(at) == TradingDay(date(2026, 3, 8), ms(2026, 3, 8), ms(2026, 3, 9))
    assert session.next_day(ms(2026, 3, 8)).date == date(2026, 3, 9)
    assert session.next_day(ms(2026, 3, 8) - 1).date == date(2026, 3, 8)
    assert session.previous_day(ms(2026, 3, 9)).date == date(2026, 3, 8)
    assert session.previous_day(ms(2026, 3, 9) - 1).date == date(2026, 3, 7)
    assert session.is_open(datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC))


def test_a_year_of_new_york_has_251_days():
    days = days_of(get_session("XNYS"), date(2026, 1, 1), date(2026, 12, 31))
    assert len(days) == 251
    short = [day.date for day in days if day.close_ms - day.open_ms != 6.5 * HOUR_MS]
    assert short == [date(2026, 11, 27), date(2026, 12, 24)]


@given(
    st.sampled_from(["XNYS", "XLON", "24x5", "24x7"]),
    st.integers(ms(1999, 1, 1), ms(2040, 1, 1)),
)
def test_every_instant_is_in_a_day_or_between_two(code, at_ms):
    session = get_session(code)
    day, before, after = session.find_day(at_ms), session.previous_day(at_ms), session.next_day(at_ms)
    assert before.close_ms <= at_ms < after.open_ms
    between = list(session.iter_days(before.open_ms + 1, after.open_ms))
    assert between == ([] if day is None else [day])
    if day is not None:
        assert day.open_ms <= at_ms < day.close_ms


@pytest.mark.parametrize("code", ["XNYS", "24x5", "24x7"])
@pytest.mark.parametrize("at_ms", [ms(1700, 1, 1), ms(2300, 1, 1)])
def test_a_time_outside_the_calendar_is_an_error_and_not_a_closed_market(code, at_ms):
    session = get_session(code)
    for question in (session.find_day, session.next_day, session.previous_day):
        with pytest.raises(OutsideCalendarError, match=r"calendar|before 1800"):
            question(at_ms)


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        get_session("24x7").is_open(datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test


@pytest.mark.parametrize("code", ["NOPE", "", "../etc", "X" * 1000, "XNYS\n", "24X7 "])
def test_an_unknown_code_is_named_in_a_short_error(code):
    with pytest.raises(UnknownSessionError) as error:
        get_session(code)
    assert len(str(error.value)) < 120


def test_a_calendar_that_the_library_fails_to_compute_is_a_short_error(monkeypatch):
    import exchange_calendars

    def fail(code, **kwargs):
        raise ValueError("special dates " * 10_000)

    monkeypatch.setattr(exchange_calendars, "get_calendar", fail)
    with pytest.raises(UnknownSessionError, match="fails to compute") as error:
        get_session("XSTO")
    assert len(str(error.value)) < 120


def test_an_exchange_whose_easter_the_library_can_not_compute_is_a_short_error():
    with pytest.raises(UnknownSessionError, match="fails to compute"):
        get_session("ASEX")


def test_a_calendar_is_made_once_and_without_a_warning():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert get_session("XNYS") is get_session("XNYS")
    assert not caught


def test_a_look_up_costs_microseconds():
    session, at_ms = get_session("XNYS"), ms(2026, 11, 23, 15)
    best = min(measure_look_up(session, at_ms) for _ in range(5))
    assert best < 50e-6  # 0.3 µs on a quiet machine, 9 on a slow and busy one; a linear search takes hundreds


def measure_look_up(session: Session, at_ms: int) -> float:
    began = perf_counter()
    for number in range(2000):
        session.find_day(at_ms + number * 60_000)
    return (perf_counter() - began) / 2000


def test_futures_pause_for_an_hour_each_day_and_indices_of_volatility_go_on_after_the_close():
    futures = get_session("us_futures")
    day = futures.find_date(date(2026, 11, 24))
    assert (day.open_ms, day.close_ms) == (ms(2026, 11, 23, 23), ms(2026, 11, 24, 22))
    assert futures.find_day(ms(2026, 11, 24, 22, 30)) is None
    assert futures.find_day(ms(2026, 11, 24, 23)).date == date(2026, 11, 25)
    volatility = get_session("us_volatility")
    assert volatility.find_date(date(2026, 11, 25)).close_ms == ms(2026, 11, 25, 21, 15)
    assert volatility.find_date(date(2026, 11, 27)).close_ms == ms(2026, 11, 27, 18, 15)
    assert volatility.find_date(date(2026, 11, 26)) is None


@pytest.mark.parametrize(
    ("code", "pauses", "resumes"),
    [("XTKS", (2, 30), (3, 30)), ("XHKG", (4, 0), (5, 0)), ("XNYS", None, None), ("24x7", None, None)],
)
def test_a_day_says_when_its_lunch_break_is(code, pauses, resumes):
    day = get_session(code).find_date(date(2026, 11, 25))
    expected = None if pauses is None else (ms(2026, 11, 25, *pauses), ms(2026, 11, 25, *resumes))
    assert day.break_ms == expected


@pytest.mark.parametrize(
    ("asset", "symbol", "code"),
    [
        ("stocks", "SPY", "XNYS"),
        ("commodities", "GC", "us_futures"),
        ("volatility", "VIX", "us_volatility"),
        ("volatility", "DVOL.BTC", "24x7"),
        ("odd", "SPY", None),
    ],
)
def test_the_default_session_is_that_of_the_class_and_for_dvol_round_the_clock(asset, symbol, code):
    assert find_default_session(asset, symbol) == code


@pytest.mark.parametrize(
    ("code", "label", "close"),
    [
        ("us_futures", date(2025, 12, 25), None),
        ("us_futures", date(2026, 1, 1), None),
        ("us_futures", date(2026, 4, 3), None),
        ("us_futures", date(2025, 12, 24), (18, 0)),
        ("us_futures", date(2026, 11, 26), (18, 0)),
        ("us_futures", date(2026, 11, 27), (18, 0)),
        ("us_futures", date(2026, 7, 3), (17, 0)),
        ("us_futures", date(2026, 11, 30), (22, 0)),
        # days of mourning, on which the exchanges of stocks were closed, and gold and oil traded
        ("us_futures", date(2018, 12, 5), (22, 0)),
        ("us_futures", date(2025, 1, 9), (22, 0)),
        ("24x5", date(2025, 12, 25), None),
        ("24x5", date(2026, 1, 1), None),
        ("24x5", date(2026, 4, 3), (21, 0)),
        ("us_volatility", date(2024, 7, 3), (17, 15)),
        ("us_volatility", date(2026, 12, 24), (18, 15)),
        ("us_volatility", date(2025, 1, 9), None),
    ],
)
def test_futures_currencies_and_volatility_keep_their_holidays_and_early_closes(code, label, close):
    day = get_session(code).find_date(label)
    assert (day and day.close_ms) == (close and ms(label.year, label.month, label.day, *close))


def test_currencies_open_again_in_the_evening_of_their_holiday():
    assert get_session("24x5").next_day(ms(2025, 12, 24, 23)).open_ms == ms(2025, 12, 25, 22)
