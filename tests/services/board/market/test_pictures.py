import re
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.board.fleet.words import NONE
from services.board.market.feed import MarketStates
from services.board.market.live import LiveMarket
from services.board.market.overview import KnownPrice, SeriesPast, SymbolMarket, list_groups, make_tile
from services.board.market.pictures import (
    HEIGHT,
    WIDTH,
    format_change,
    format_correlation,
    format_count,
    format_day,
    format_measure,
    format_percent,
    format_price,
    format_recency,
    symbol_path,
    trace_sparkline,
)
from services.board.market.states import StoredSeries
from services.market.adjust import Adjuster
from services.market.records import ActionKind, CorporateAction
from services.market.sessions import get_session
from services.tables.rows import BarRow, QuoteRow

MINUS = "\N{MINUS SIGN}"
POINTS = st.lists(st.tuples(st.integers(0, 10**12), st.floats(-1e9, 1e9)), max_size=40).map(sorted)


@given(POINTS)
def test_a_sparkline_has_every_point_and_stays_in_its_picture(points):
    traced = trace_sparkline(points)
    if len(points) < 2:
        assert traced is None
        return
    line, _ = traced
    places = [tuple(map(float, each.split())) for each in re.split("[ML]", line) if each]
    assert len(places) == len(points)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)
    assert [x for x, _ in places] == sorted(x for x, _ in places)


def make_quote(at, source="yahoo", *, replay=False):
    return QuoteRow("EUR/USD", at, 1.6, None, None, None, None, None, source, None, None, replay)


def test_a_night_breaks_the_line_and_is_not_drawn_over():
    minutes = [0, 60, 120, 180, 64_800, 64_860, 64_920]
    line, area = trace_sparkline([(1000 * each, float(number)) for number, each in enumerate(minutes)])
    assert [piece.count("L") for piece in line.split("M")[1:]] == [3, 2]
    assert area.count("Z") == 2


@pytest.mark.parametrize(
    ("price", "text"),
    [(5321.2, "5,321.20"), (1.0873, "1.0873"), (4.1, "4.10"), (74.35, "74.35"), (0.3871, "0.3871"),
     (0.00001234, "0.00001234"), (0.0, "0.00"), (-2.5, "-2.50"), (None, NONE)],
)  # fmt: skip
def test_a_price_has_the_digits_that_its_size_calls_for(price, text):
    assert format_price(price) == text


def test_a_change_has_the_decimals_of_its_price():
    assert [format_change(each, 580.5) for each in (-0.7, 0.7, 0.0, None)] == [
        MINUS + "0.70",
        "+0.70",
        "0.00",
        NONE,
    ]
    assert format_change(0.00391, 1.0912) == "+0.0039"
    assert format_change(-0.006, 1.3849) == "\N{MINUS SIGN}0.0060", "as many decimals as the price beside it"
    assert format_change(0.0006, 1.39) == "+0.0006"
    assert [format_percent(each) for each in (1.255, -0.001, None)] == ["+1.25 %", "0.00 %", NONE]
    assert [format_count(each) for each in (950, 48_123, 4.5e6, None)] == ["950", "48.1 k", "4.5 M", NONE]
    assert [format_correlation(each) for each in (-0.001, -0.534, 1.0, None)] == [
        "0.00",
        MINUS + "0.53",
        "1.00",
        "",
    ]


def test_with_the_decimals_of_its_symbol_a_price_is_not_cut():
    assert [format_price(149.613, 3), format_price(96_412.0, 0), format_price(1.5, 4)] == [
        "149.613",
        "96,412.00",
        "1.5000",
    ]
    assert format_change(-0.027, 149.613, 3) == MINUS + "0.027"
    assert [format_measure(each, 2) for each in (4.2, -0.1, None)] == ["4.20", MINUS + "0.10", NONE]
    assert format_measure(190_000.0, 0) == "190,000"


def test_the_path_of_a_symbol_is_one_that_leads_to_it():
    assert symbol_path("EUR/USD") == "/market/symbol/EUR/USD"
    assert symbol_path("^VIX") == "/market/symbol/^VIX"
    assert symbol_path('a"b?c#d') == "/market/symbol/a%22b%3Fc%23d"


DAY, DAY_SEC = 86_400_000, 86_400


def make_series(**values):
    return StoredSeries.model_validate({"id": "x", "symbol": "EUR/USD", "kind": "quotes", **values})


def test_a_tile_compares_with_the_close_before_the_day_of_its_price():
    past = SeriesPast(
        ((9 * DAY, 1.0), (10 * DAY, 1.5)),
        KnownPrice(10 * DAY, 1.5, "yahoo"),
        ((9 * DAY, 1.2), (10 * DAY, 1.5)),
    )
    tile = make_tile(make_series(), past, LiveMarket())
    assert (tile.price, tile.compared, tile.compared_at, tile.source) == (
        1.5,
        "previous close",
        9 * DAY,
        "yahoo",
    )
    assert tile.change == pytest.approx(0.3)
    assert tile.change_percent == pytest.approx(25.0)


@pytest.mark.parametrize(
    ("begins", "price_at", "compared"),
    [
        ((-3, 21, 45), 31, 21 - 24),  # forex, from evening to evening: not with the day that runs
        ((-3, 21), 21.5, -3),  # the first minutes of the next day of forex
        ((13.5, 37.5), 44, 13.5),  # an exchange, at its close
        ((13.5, 37.5), 56, 37.5),  # before it opens: with the close of the day before
        ((0, 24), 30, 0),  # crypto
    ],
)
def test_a_price_is_compared_with_the_last_day_that_ended(begins, price_at, compared):
    hour = DAY // 24
    daily = tuple((10 * DAY + round(begin * hour), 1.0 + n) for n, begin in enumerate(begins))
    live = LiveMarket()
    live.take_quote(make_quote(10 * DAY + round(price_at * hour)), 11.0 * DAY_SEC)
    tile = make_tile(make_series(), SeriesPast(daily=daily), live)
    assert tile.compared_at == 10 * DAY + round(compared * hour)


@pytest.mark.parametrize(
    ("price_at", "price", "shown", "compared"),
    [
        (20.0, 645.57, 92.22, 91.0),  # the last trade before the day of a split: 7 for 1
        (44.0, 92.5, 92.5, 92.22),  # the first one on it
    ],
)
def test_the_last_price_before_a_split_is_adjusted_as_the_closes_are(price_at, price, shown, compared):
    hour = DAY // 24
    daily = tuple((10 * DAY + round(begin * hour), close) for begin, close in [(-10.5, 91.0), (13.5, 92.22)])
    live = LiveMarket()
    live.take_quote(make_quote(10 * DAY + round(price_at * hour))._replace(price=price), 11.0 * DAY_SEC)
    ex_day = date(1970, 1, 12)
    split = CorporateAction("EUR/USD", ActionKind.SPLIT, ex_day, ratio=7.0)
    market = SymbolMarket(get_session("XNYS"), ex_day, Adjuster([split]))
    tile = make_tile(make_series(), SeriesPast(daily=daily, market=market), live)
    assert tile.price == pytest.approx(shown, abs=0.005)
    assert tile.change == pytest.approx(shown - compared, abs=0.011)


@pytest.mark.parametrize(
    ("given", "price"),
    [
        ({"timeframe": "1d", "day": "2024-06-13"}, 100.0),  # raw, of the day before the split
        ({"timeframe": "1d", "day": "2024-06-14"}, 400.0),
        ({"timeframe": "1w", "day": "2024-06-10"}, 400.0),  # as traded on its last date
        ({"timeframe": "1d", "adjustment": "splits", "adjusted_to": "2024-06-13"}, 100.0),
        ({"timeframe": "1d", "adjustment": "splits", "adjusted_to": "2024-06-14"}, 400.0),
    ],
)
def test_a_bar_of_the_stream_is_adjusted_by_its_day_and_its_basis(given, price):
    start = round(1000 * datetime(2024, 6, 13, 13, 30, tzinfo=UTC).timestamp())
    numbers = (*(400.0,) * 4, *(None,) * 3)
    row = BarRow("EUR/USD", given["timeframe"], start, *numbers, True, 0, 1, "x", start, None, False)
    live = LiveMarket()
    live.take_bar(row._replace(**given), 1.0)
    split = CorporateAction("EUR/USD", ActionKind.SPLIT, date(2024, 6, 14), ratio=4.0)
    market = SymbolMarket(get_session("XNYS"), date(2024, 6, 14), Adjuster([split]))
    one = make_series(kind="bars", timeframe=given["timeframe"])
    assert make_tile(one, SeriesPast(market=market), live).price == price


def test_an_evening_of_currencies_is_compared_with_the_day_that_ended_then():
    hour = DAY // 24
    daily = ((9 * DAY - 3 * hour, 1.0), (10 * DAY - 3 * hour, 1.1))  # the eleventh has no bar yet
    live = LiveMarket()
    live.take_quote(make_quote(11 * DAY - 2 * hour), 11.0 * DAY_SEC)
    market = SymbolMarket(get_session("24x5"), date(1970, 1, 11))
    tile = make_tile(make_series(), SeriesPast(daily=daily, market=market), live)
    assert tile.compared_at == 10 * DAY - 3 * hour


def test_an_age_of_days_is_a_date():
    now = 1_381_363_200.0  # 2013-10-10
    assert format_recency(1_381_363_190_000, now) == "10 s ago"
    assert format_recency(1_381_325_400_000, now + 200_000) == "2013-10-09 13:30 UTC"
    assert format_recency(1_380_672_000_000, now) == "2013-10-02"
    assert format_recency(None, now) == NONE


def test_a_day_of_a_market_has_its_own_date():
    assert format_day(1_381_325_400_000) == "2013-10-09"  # New York opens at 13:30
    assert format_day(1_386_017_940_000) == "2013-12-02"  # and its last minute in winter is 20:59
    assert format_day(1_399_410_000_000) == "2014-05-07"  # forex begins on the evening before
    assert format_day(1_522_886_400_000) == "2018-04-05"  # crypto at midnight


def test_the_overview_has_the_groups_with_an_address_first_and_leaves_the_economy_to_its_page():
    groups = {"stocks": "bars", "crypto": "bars", "indices": "quotes", "economy": "observations",
              "treasuries": "observations"}  # fmt: skip
    states = [make_series(group=name, kind=kind) for name, kind in groups.items()]
    assert list_groups(MarketStates(tuple(states))) == ["indices", "crypto", "treasuries", "stocks"]


def test_a_tile_shows_the_newest_price_with_where_it_came_from_and_marks_a_replay():
    live = LiveMarket()
    live.take_quote(make_quote(10 * DAY + 5, "twelve_data", replay=True), 11.0 * DAY_SEC)
    tile = make_tile(make_series(), SeriesPast((), KnownPrice(10 * DAY, 1.5, "yahoo")), live)
    assert (tile.price, tile.at, tile.source, tile.replay) == (1.6, 10 * DAY + 5, "twelve_data", True)
    assert (tile.change, tile.compared) == (None, None), "nothing is known to compare with"


def test_a_price_of_a_day_is_told_from_one_of_a_moment():
    past, live = SeriesPast((), KnownPrice(10 * DAY, 1.5, "yahoo")), LiveMarket()
    bars = make_series(kind="bars", timeframe="1d")
    assert make_tile(bars, past, live).daily
    assert not make_tile(make_series(kind="bars", timeframe="1m"), past, live).daily
    assert not make_tile(make_series(kind="observations", timeframe="1d"), past, live).daily
    live.take_quote(make_quote(10 * DAY + 5), 11.0 * DAY_SEC)
    assert not make_tile(bars, past, live).daily, "a quote is of a moment"


def test_a_tile_of_nothing_has_no_number():
    tile = make_tile(make_series(reason="yahoo limited"), None, LiveMarket())
    assert (tile.price, tile.at, tile.change, tile.points, tile.reason) == (
        None,
        None,
        None,
        (),
        "yahoo limited",
    )
