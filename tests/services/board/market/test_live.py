import itertools
from dataclasses import replace
from operator import attrgetter

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.market.entries import EntryError, encode_entry
from marketswarm.market.records import AssetClass, Bar, Provenance, Quote
from services.archive.rows import make_bar_row, make_quote_row
from services.board.market.live import (
    KEPT_SEC,
    NEVER,
    RECENT_BARS,
    LiveBar,
    LiveMarket,
    LiveQuote,
    LiveValues,
    merge_live,
    parse_live_bar,
    parse_live_quote,
    parse_live_values,
)
from services.board.market.market import parse_quote_row

ORIGIN = Provenance("yahoo", 1_790_000_000.5, "ab" * 32, is_replay=True)


def make_bar(start=0, close=1.0, rev=0, *, final=True, epoch=0):
    bar = Bar("SPY", "1m", 60_000 * start, close, close, close, close, volume=5.0)
    return LiveBar(bar, ORIGIN, final, rev, epoch)


def encode(one):
    fields = encode_entry(one.bar, AssetClass.STOCKS, one.provenance)
    fields |= {"final": str(int(one.is_final)), "rev": str(one.rev), "epoch": str(one.epoch)}
    return {name.encode(): value.encode() for name, value in fields.items()}


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
        known = best.get(one.bar.start_ms)
        if known is None or one.rank > known.rank:
            best[one.bar.start_ms] = one
    chance.shuffle(bars)
    live = LiveMarket()
    news = [live.take_bar(one, 1.0) for one in bars]
    chart = live.find_chart("SPY", "1m")
    assert (chart.list_bars() if chart else []) == [best[start] for start in sorted(best)]
    assert sum(news) == live.find_version("SPY", "1m"), "only news changes the version"


@given(REVISIONS, REVISIONS, st.integers(1, 10))
def test_rows_of_the_database_with_the_stream_laid_over_are_those_of_both(archived, streamed, limit):
    kept = {one.bar.start_ms: one for one in sorted(make_bars(archived), key=attrgetter("rank"))}
    newer = {one.bar.start_ms: one for one in sorted(make_bars(streamed), key=attrgetter("rank"))}
    both = kept | {
        start: one for start, one in newer.items() if start not in kept or one.rank >= kept[start].rank
    }
    rows = [kept[start].make_row() for start in sorted(kept)]
    assert (
        merge_live(rows, newer.values(), limit) == [both[start].make_row() for start in sorted(both)][-limit:]
    )


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
    quiet = replace(make_bar(0).bar, symbol="QUIET")
    live.take_bar(LiveBar(quiet, ORIGIN, True, 0), 5.0)
    for number in range(60):
        live.take_bar(make_bar(number), 100.0 + number)
    assert len(live.find_chart("SPY", "1m").list_bars()) == 49
    assert not live.covers("SPY", "1m", 110.0)
    assert live.covers("SPY", "1m", 111.0)
    assert live.covers("QUIET", "1m", NEVER), "the chart that grows pays for itself"
    version = live.find_version("QUIET", "1m")
    for number in range(3 * 18):
        busy = replace(make_bar(number % 18).bar, symbol=f"BUSY{number // 18}")
        live.take_bar(LiveBar(busy, ORIGIN, True, 0), 200.0 + number)
    assert live.find_chart("QUIET", "1m") is None
    assert live.find_version("QUIET", "1m") != version
    assert not live.covers("QUIET", "1m", 5.0)
    live.take_bar(LiveBar(quiet, ORIGIN, True, 0), 300.0)
    assert not live.covers("QUIET", "1m", 5.0), "a chart that comes again does not have what it lost"


def make_values(start, value, rev=0, epoch=0):
    return LiveValues("SPY", "1m", 60_000 * start, rev, True, {"sma_20": value}, epoch)


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
        is_news = live.take_values(one)
        assert is_news or known[start] >= one.rank
        assert not is_news or known.get(start, one.rank) <= one.rank
        known[start] = max(known.get(start, one.rank), one.rank)


def test_a_quote_is_replaced_by_newer_ones_only():
    live = LiveMarket()
    old, new = (LiveQuote(Quote("EUR/USD", at, 1.1), ORIGIN) for at in (1000, 2000))
    assert [live.take_quote(one) for one in (new, old, new)] == [True, False, False]
    assert live.quotes["EUR/USD"] is new


@given(REVISIONS)
def test_an_entry_is_read_as_it_was_written(places):
    for one in make_bars(places):
        assert parse_live_bar(encode(one)) == one
    quote = LiveQuote(Quote("EUR/USD", 5, 1.1, bid=1.0), ORIGIN)
    fields = encode_entry(quote.quote, AssetClass.FOREX, ORIGIN)
    assert parse_live_quote({name.encode(): value.encode() for name, value in fields.items()}) == quote


@pytest.mark.parametrize(
    "changed",
    [{b"rev": b"-1"}, {b"rev": b"9" * 11}, {b"open": b"nan"}, {b"sym": b"<script>"}, {b"start": b""},
     {b"low": b"9", b"high": b"-5"}, {b"timeframe": b"1d", b"day": b"2026-13-45"}, {b"volume": b"-1"},
     {b"timeframe": b"1d", b"day": b"2026-01-05"}, {b"final": b"2"}, {b"asked_at": b"9e15"}],
)  # fmt: skip
def test_an_entry_that_is_no_bar_is_an_error(changed):
    with pytest.raises(EntryError):
        parse_live_bar({**encode(make_bar()), **changed})


def encode_quote():
    quote = Quote("SPY", 5, 1.5, 1.0, 2.0, 3.0, 4.0, 0.5)
    fields = encode_entry(quote, AssetClass.STOCKS, ORIGIN)
    return {name.encode(): value.encode() for name, value in fields.items()}


TEXTS = (b"0", b"1", b"-1", b"0.5", b"3", b"9e15", b"", b"x", b"1970-01-02", b"2026-13-45", b"1d", b"1mo")
BAR_FIELDS = (*encode(make_bar()), b"day", b"vwap", b"trades")


@pytest.mark.parametrize(
    ("fields", "names", "parse", "make_row"),
    [(encode(make_bar()), BAR_FIELDS, parse_live_bar, make_bar_row),
     (encode(make_bar()) | {b"timeframe": b"1d"}, BAR_FIELDS, parse_live_bar, make_bar_row),
     (encode_quote(), tuple(encode_quote()), parse_live_quote, make_quote_row)],
)  # fmt: skip
def test_an_entry_is_taken_only_if_the_archive_takes_it(fields, names, parse, make_row):
    taken = 0
    for name, text in itertools.product(names, TEXTS):
        try:
            parse(fields | {name: text})
        except EntryError:
            continue
        make_row(b"1-1", fields | {name: text})
        taken += 1
    assert taken > len(TEXTS)


def test_indicators_are_numbers_or_null():
    place = {b"sym": b"SPY", b"timeframe": b"1m", b"start": b"60000", b"rev": b"2", b"final": b"1"}
    found = parse_live_values({**place, b"values": b'{"sma_20": 1.5, "rsi_14": null}'})
    assert (found.start_ms, found.rev, found.is_final) == (60_000, 2, True)
    assert found.values == {"sma_20": 1.5, "rsi_14": None}
    for wrong in (b"[]", b"{", b'{"a": "b"}', b'{"a": true}', b'{"a": 1' + b" " * 20_000 + b"}",
                  b'{"<b>": 1}', b'{"": 1}', b'{"a":' + b"[" * 300 + b"]" * 300 + b"}"):  # fmt: skip
        with pytest.raises(EntryError):
            parse_live_values({**place, b"values": wrong})


@pytest.mark.parametrize(
    "wrong",
    [{"bid": "1"}, {"bid": [[]]}, {"price": True}, {"at": 1.5}, {"source": None}, {"symbol": "Q"}],
)
def test_a_kept_quote_with_a_cell_of_another_type_is_none(wrong):
    row = LiveQuote(Quote("SPY", 5, 7.5), ORIGIN).make_row()
    assert parse_quote_row("SPY", orjson.dumps(row._asdict())) == row
    assert parse_quote_row("SPY", orjson.dumps({**row._asdict(), **wrong})) is None
