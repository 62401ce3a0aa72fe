import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.agent import InputStream
from services.market.records import Bar
from services.vexy_ai.notes import Lexicon
from services.vexy_ai.records import (
    PriceMove,
    ProbeOutage,
    UnusableError,
    is_history,
    make_record,
    observe_bar,
    parse_probe,
    parse_window,
)
from services.vexy_ai.settings import StreamKind

BAR = {
    b"sym": b"AAPL",
    b"start": b"1795198440000",
    b"open": b"10",
    b"high": b"12",
    b"low": b"9",
    b"close": b"11",
}


def test_a_bar_is_kept_by_its_symbol():
    bar, kept = observe_bar({**BAR, b"volume": b"5"})
    assert bar.symbol == "AAPL"
    assert orjson.loads(kept) == {
        "start": 1795198440000,
        "open": 10.0,
        "high": 12.0,
        "low": 9.0,
        "close": 11.0,
    }


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({b"sym": b""}, "sym: no symbol"),
        ({b"sym": b"a b"}, "sym: no symbol"),
        ({b"close": b"nan"}, "close: no number"),
        ({b"open": b""}, "open: no number"),
        ({b"low": b"0"}, "not above 0"),
        ({b"start": b"-1"}, "start: before 1990"),
    ],
)
def test_what_is_no_bar_is_refused_with_the_reason(changed, reason):
    with pytest.raises(UnusableError, match=reason):
        observe_bar(BAR | changed)


@pytest.mark.parametrize(
    ("source", "age_sec", "history"),
    [(b"rest", 3601, True), (b"rest", 3599, False), (b"ws", 9000, False), (b"replay", 1e8, False)],
)
def test_what_fills_a_gap_in_the_past_is_no_news(source, age_sec, history):
    now = 1_795_198_500.0
    bar, _ = observe_bar({**BAR, b"start": b"%d" % (1000 * (now - age_sec))})
    assert is_history(bar, source, now) is history


def test_a_probe_is_kept_by_its_target_with_why_it_failed():
    assert parse_probe({b"target": b"site", b"ok": b"1", b"error": b"old"})[1] == b'{"ok":true,"why":""}'
    target, kept = parse_probe({b"target": b"site", b"ok": b"0", b"stage": b"tcp", b"error": b"refused"})
    assert (target, orjson.loads(kept)) == ("site", {"ok": False, "why": "tcp refused"})


@given(st.dictionaries(st.sampled_from([*BAR, b"target", b"ok", b"stage", b"error"]), st.binary(max_size=60)))
def test_whatever_an_entry_holds_it_is_kept_or_refused(fields):
    for read in (observe_bar, parse_probe):
        try:
            found, kept = read(fields)
        except UnusableError:
            continue
        name = found.symbol if isinstance(found, Bar) else found
        assert name
        assert len(kept) < 1000
        assert name.isprintable()


def test_a_window_tells_what_moved_and_what_was_out_of_reach():
    bar = {"start": 1000, "last": 2000, "open": 10.0, "close": 11.0, "high": 12.0, "low": 9.0, "n": 2}
    found = parse_window(
        {
            b"n": b"3",
            b"first": b"1-0",
            b"last": b"9-0",
            b"bar AAPL": orjson.dumps(bar),
            b"bar X": b"{",
            b"probe a b": b'{"n": 4, "failed": 3, "why": "tcp refused"}',
            b"probe well": b'{"n": 4, "failed": 0, "why": ""}',
        }
    )
    assert found.moves == (PriceMove("AAPL", 10.0, 11.0, 12.0, 9.0, 2, since=1.0, until=2.0),)
    assert found.moves[0].change == pytest.approx(10.0)
    assert found.outages == (ProbeOutage("a b", 3, 4, "tcp refused"),)
    assert (found.notes, found.first, found.last) == (3, "1-0", "9-0")


def test_what_others_write_into_a_window_is_left_out():
    odd = [
        b"",
        b"[]",
        b"1",
        b"{}",
        b'{"n": "x"}',
        b'{"open": 0, "close": 1, "high": 1, "low": 1, "n": 1}',
        b'{"start": 1, "last": 1, "open": 1, "close": 1, "high": "inf", "low": 1, "n": 1}',
        b'{"start": 1, "last": 1, "open": 1, "close": 1, "high": 1, "low": 1, "n": 1e300}',
        b'{"n": 1e300, "failed": 1e300, "why": ""}',
        b"\xff",
    ]
    fields = {b"%b %d" % (what, n): each for what in (b"bar", b"probe", b"x") for n, each in enumerate(odd)}
    found = parse_window({b"n": b"-x", b"first": b"\xff", **fields})
    assert (found.notes, found.moves, found.outages) == (0, (), ())


def test_a_window_in_which_all_went_well_has_nothing_to_tell():
    assert not parse_window({b"n": b"0", b"probe well": b'{"n": 4, "failed": 0, "why": ""}'})
    assert parse_window({b"n": b"1"})


NOW = 1_795_198_500.0
NEW_BAR = {b"sym": b"A", b"start": b"1795198440000"} | dict.fromkeys(
    (b"open", b"high", b"low", b"close"), b"1"
)


def made(kind, fields):
    return make_record(InputStream("market-redis", "s", kind), b"1-0", fields, Lexicon({}, {}), NOW)


def test_what_becomes_of_an_entry_is_for_its_stream_to_say():
    assert (made(StreamKind.ITEMS, NEW_BAR).kind, made(StreamKind.BARS, NEW_BAR).kind) == ("note", "bar")
    probe = made(StreamKind.PROBES, {b"target": b"site", b"ok": b"1"})
    assert (probe.kind, probe.subject) == ("probe", "site")


@pytest.mark.parametrize("source", [b"rest", b"kraken", b"yahoo", b"binance"])
def test_a_bar_from_the_past_comes_to_nothing_whatever_its_source_is(source):
    """A first load brings days of minutes, and each hour corrections of old ones."""
    bar, hour_ago = NEW_BAR | {b"source": source}, b"%d" % (1000 * NOW - 3_600_000)
    assert made(StreamKind.BARS, bar | {b"start": b"1795000000000"}).kind == "none"
    assert made(StreamKind.BARS, bar).kind == "bar"
    assert made(StreamKind.BARS, bar | {b"start": hour_ago}).kind == "bar"


@pytest.mark.parametrize("source", [b"ws", b"replay"])
def test_a_bar_of_a_stream_or_a_recording_of_massive_counts_as_of_now(source):
    assert made(StreamKind.BARS, NEW_BAR | {b"source": source, b"start": b"1795000000000"}).kind == "bar"


def test_a_bar_that_is_no_minute_or_was_recorded_comes_to_nothing():
    for more in ({b"timeframe": b"5m"}, {b"timeframe": b"1d"}, {b"replay": b"1"}):
        assert made(StreamKind.BARS, NEW_BAR | more).kind == "none"
    assert made(StreamKind.BARS, NEW_BAR | {b"timeframe": b"1m", b"replay": b"0"}).kind == "bar"


def test_a_bar_of_one_source_for_itself_comes_to_nothing_and_to_no_dead_letter():
    own = NEW_BAR | {b"sym": b"A@massive", b"source": b"massive"}
    assert made(StreamKind.BARS, own).kind == "none"
    with pytest.raises(UnusableError, match="source: not that of its sym"):
        made(StreamKind.BARS, own | {b"source": b"yahoo"})


def test_what_is_none_of_its_kind_is_unusable_but_any_item_is_an_item():
    for kind in (StreamKind.BARS, StreamKind.PROBES):
        with pytest.raises(UnusableError):
            made(kind, {})
    assert made(StreamKind.ITEMS, {}).kind == "note"
