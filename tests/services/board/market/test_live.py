import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.board.market.live import (
    KEPT_SEC,
    NEVER,
    RECENT_BARS,
    LiveMarket,
    describe_quote,
    merge_live,
    parse_quote,
)
from services.tables.rows import BarRow, IndicatorRow, QuoteRow
from services.tables.tables import BAR_TABLE, INDICATOR_TABLE

rank_of = BAR_TABLE.rank_of


def make_bar(start=0, close=1.0, rev=0, *, final=True, epoch=0, symbol="SPY"):
    origin = final, rev, epoch, "yahoo", 5, None, True
    return BarRow(symbol, "1m", 60_000 * start, close, close, close, close, 5.0, None, None, *origin)


def make_quote(at, price=1.1, symbol="EUR/USD"):
    return QuoteRow(symbol, at, price, None, None, None, None, None, "yahoo", None, None, False)


REVISIONS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 2), st.integers(0, 3), st.booleans()), max_size=30
)


def test_what_was_counted_anew_after_a_loss_replaces_any_revision_before_it():
    live = LiveMarket()
    bars = make_bar(0, 1.0, 7, epoch=10), make_bar(0, 2.0, 4, epoch=11), make_bar(0, 3.0, 9, epoch=10)
    assert [live.take_bar(one, 1.0) for one in bars] == [True, True, False]


def make_bars(places):
    """Bars whose price is told by their place, their epoch, their revision and whether they are final."""
    return [
        make_bar(start, 1.0 + start + epoch / 10 + rev / 100 + final / 1000, rev, final=final, epoch=epoch)
        for start, epoch, rev, final in places
    ]


@given(REVISIONS, st.randoms())
def test_the_highest_revision_of_each_bar_is_kept_whatever_came_first(places, chance):
    bars = make_bars(places)
    best = {}
    for one in bars:
        known = best.get(one.start)
        if known is None or rank_of(one) > rank_of(known):
            best[one.start] = one
    chance.shuffle(bars)
    live = LiveMarket()
    news = [live.take_bar(one, 1.0) for one in bars]
    chart = live.find_chart("SPY", "1m")
    assert (chart.list_bars() if chart else []) == [best[start] for start in sorted(best)]
    assert sum(news) == live.find_version("SPY", "1m"), "only news changes the version"


@given(REVISIONS, REVISIONS, st.integers(1, 10))
def test_rows_of_the_database_with_the_stream_laid_over_are_those_of_both(archived, streamed, limit):
    kept = {one.start: one for one in sorted(make_bars(archived), key=rank_of)}
    newer = {one.start: one for one in sorted(make_bars(streamed), key=rank_of)}
    both = kept | {
        start: one
        for start, one in newer.items()
        if start not in kept or rank_of(one) >= rank_of(kept[start])
    }
    rows = [kept[start].cells for start in sorted(kept)]
    live = [newer[start] for start in sorted(newer)]
    assert merge_live(rows, live, limit) == [both[start].cells for start in sorted(both)][-limit:]


def test_a_chart_is_covered_while_nothing_that_came_since_was_dropped():
    live = LiveMarket()
    assert not live.covers("SPY", "1m", 100.0), "the stream is not followed yet"
    live.began_at = 50.0
    assert live.covers("SPY", "1m", 100.0)
    assert not live.covers("SPY", "1m", 50.0), "of two entries of one moment one may be lost"
    live.archived_at = 103.0 + KEPT_SEC
    for number in range(RECENT_BARS + 3):
        live.take_bar(make_bar(number), 100.0 + number)
    assert not live.covers("SPY", "1m", 102.0), "the bar that came at 102 is not kept any more"
    assert live.covers("SPY", "1m", 103.0)


def test_bars_that_the_database_may_lack_are_kept_however_many():
    live = LiveMarket()
    live.began_at = NEVER
    live.archived_at = 100.0
    for number in range(10 * RECENT_BARS):
        live.take_bar(make_bar(number), 100.0 + number)
    assert live.covers("SPY", "1m", 100.0)
    assert len(live.find_chart("SPY", "1m").list_bars()) == 10 * RECENT_BARS
    live.archived_at = 1000.0 + KEPT_SEC
    live.take_bar(make_bar(10 * RECENT_BARS), 1000.0)
    assert len(live.find_chart("SPY", "1m").list_bars()) == RECENT_BARS


def test_all_charts_together_are_bounded_and_what_is_lost_by_that_is_known(monkeypatch):
    monkeypatch.setattr("services.board.market.live.MAX_BARS", 50)
    live = LiveMarket()
    live.began_at = NEVER
    quiet = make_bar(symbol="QUIET")
    live.take_bar(quiet, 5.0)
    for number in range(60):
        live.take_bar(make_bar(number), 100.0 + number)
    assert len(live.find_chart("SPY", "1m").list_bars()) == 49
    assert not live.covers("SPY", "1m", 110.0)
    assert live.covers("SPY", "1m", 111.0)
    assert live.covers("QUIET", "1m", NEVER), "the chart that grows pays for itself"
    version = live.find_version("QUIET", "1m")
    for number in range(3 * 18):
        live.take_bar(make_bar(number % 18, symbol=f"BUSY{number // 18}"), 200.0 + number)
    assert live.find_chart("QUIET", "1m") is None
    assert live.find_version("QUIET", "1m") != version
    assert not live.covers("QUIET", "1m", 5.0)
    live.take_bar(quiet, 300.0)
    assert not live.covers("QUIET", "1m", 5.0), "a chart that comes again does not have what it lost"


def make_values(start, value, rev=0, epoch=0):
    return IndicatorRow("SPY", "1m", 60_000 * start, rev, epoch, True, False, None, f'{{"sma_20":{value}}}')


def test_indicators_of_an_earlier_bar_that_was_corrected_are_news_and_the_latest_stay_the_last():
    live = LiveMarket()
    taken = [
        live.take_values(one)
        for one in (
            *(make_values(1, 1.0), make_values(2, 2.0), make_values(1, 9.0, rev=1)),
            *(make_values(1, 1.0), make_values(1, 8.0, epoch=1), make_values(1, 7.0, rev=5)),
            *(make_values(2, 2.0), make_values(2, 2.5, rev=1), make_values(2, 2.0)),
        )
    ]
    assert taken == [True, True, True, False, True, False, False, True, False]
    assert live.values["SPY", "1m"] == make_values(2, 2.5, rev=1)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(0, 3)), max_size=40))
def test_indicators_are_passed_on_unless_a_later_revision_of_their_bar_is_known(places):
    live, known = LiveMarket(), {}
    for start, epoch, rev in places:
        one = make_values(start, 1.0 + rev, rev, epoch)
        is_news, rank = live.take_values(one), INDICATOR_TABLE.rank_of(one)
        assert is_news or known[start] >= rank
        assert not is_news or known.get(start, rank) <= rank
        known[start] = max(known.get(start, rank), rank)


def test_a_quote_is_replaced_by_newer_ones_only():
    live = LiveMarket()
    old, new = map(make_quote, (1000, 2000))
    assert [live.take_quote(one, 3.0) for one in (new, old, new)] == [True, False, False]
    assert live.quotes["EUR/USD"] is new


def test_a_quote_that_a_clock_dated_that_was_ahead_is_replaced_by_one_of_now():
    live = LiveMarket()
    ahead, now, older = (make_quote(at, price) for at, price in ((3_601_000, 1.1), (1000, 1.2), (500, 1.3)))
    assert live.take_quote(ahead, 3601.0)
    assert not live.take_quote(now, 3541.0), "clocks differ by a minute"
    assert [live.take_quote(one, 1.0) for one in (now, older)] == [True, False]


def test_an_entry_that_comes_again_is_no_news():
    live = LiveMarket()
    for take, one in (
        (lambda bar: live.take_bar(bar, 1.0), make_bar()),
        (lambda quote: live.take_quote(quote, 1.0), make_quote(5)),
        (live.take_values, make_values(1, 1.0)),
    ):
        again = one._replace(stream_position=7)
        assert [take(each) for each in (one, one, again)] == [True, False, False]


@pytest.mark.parametrize(
    "wrong",
    [{"bid": "1"}, {"bid": [[]]}, {"price": True}, {"at": 1.5}, {"source": None}, {"symbol": "Q"}],
)
def test_a_kept_quote_with_a_cell_of_another_type_is_none(wrong):
    row = make_quote(5, 7.5, "SPY").cells
    assert parse_quote("SPY", orjson.dumps(describe_quote(row))) == row
    assert parse_quote("SPY", orjson.dumps({**describe_quote(row), **wrong})) is None
