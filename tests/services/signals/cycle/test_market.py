"""The last closed bars of each symbol: what is known at an instant, corrected, of one source, refused."""

import random
from datetime import date
from hashlib import sha256
from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.market.entries import encode_entry
from services.market.records import ActionKind, AssetClass, Bar, CorporateAction, Provenance
from services.signals.cycle.market import (
    AHEAD_MS,
    TOO_MANY_AHEAD,
    WINDOW,
    ArchivedBar,
    BarOutcome,
    MarketBars,
    WindowSource,
    encode_bars,
)

MINUTE = 60_000
START = 1_767_571_200_000
NOW = START + 1000 * MINUTE


def entry(start_ms, close=100.0, symbol="SPY", *, source="one", played_ms=0, timeframe="1m", **more):
    bar = Bar(symbol, timeframe, start_ms, close, close + 1, close - 1, close, volume=5.0)
    origin = Provenance(source, is_replay=bool(played_ms), played_at=played_ms / 1000)
    fields = {**encode_entry(bar, AssetClass.STOCKS, origin), "final": "1", **more}
    return {name.encode(): str(value).encode() for name, value in fields.items()}


def make(symbols=("QQQ", "SPY"), sources=()):
    return MarketBars("1m", symbols, sources)


def closes(market, symbol="SPY", source=None):
    return market.see(symbol, source).close.tolist()


@given(st.permutations(range(80)), st.integers(0, 3))
def test_bars_in_any_order_are_the_newest_ones_in_their_order(order, twice):
    market = make()
    for number in [*order, *order[:twice]]:
        market.take(entry(START + number * MINUTE, 100.0 + number), NOW)
    window = market.see("SPY")
    starts = window.start_ms.tolist()
    assert starts == sorted(set(starts))
    assert window.close.tolist() == [100.0 + (start - START) // MINUTE for start in starts]
    assert starts[-1] == START + 79 * MINUTE
    assert len(starts) == WINDOW == market.see("SPY").volume.size
    # whatever the order, the window is that of the last WINDOW of those that were not too old when they came
    assert market.find_last("SPY") == (starts[-1], starts[-1] + MINUTE, 179.0)
    assert market.see("QQQ").close.size == 0
    assert market.find_last("QQQ")[:2] == (0, 0)
    assert market.hash_bars("SPY") == sha256(encode_bars(window)).hexdigest()
    assert market.hash_bars("QQQ") == sha256(b"[]").hexdigest()


def test_a_corrected_bar_takes_the_place_of_the_first_one():
    market = make()
    for number in range(3):
        market.take(entry(START + number * MINUTE, 100.0 + number), NOW)
    assert market.take(entry(START + MINUTE, 50.0), NOW) is BarOutcome.TAKEN
    assert closes(market) == [100.0, 50.0, 102.0]


def test_a_bar_counts_from_its_end_and_a_correction_from_when_it_was_known():
    market = make()
    market.take(entry(START, 1.0), START + MINUTE)
    assert market.take(entry(START + MINUTE, 2.0), START + 2 * MINUTE - 1) is BarOutcome.WAITING
    late = entry(START, 7.0, known_at=START + 3 * MINUTE)
    assert market.take(late, START + 2 * MINUTE - 1) is BarOutcome.WAITING
    assert closes(market) == [1.0]
    market.advance(START + 2 * MINUTE - 1)
    assert closes(market) == [1.0]
    market.advance(START + 2 * MINUTE)
    assert closes(market) == [1.0, 2.0]
    market.advance(START + 3 * MINUTE)
    assert closes(market) == [7.0, 2.0]


def test_a_bar_that_waited_does_not_replace_its_correction():
    market = make(sources=["one"])
    end = START + MINUTE
    assert market.take(entry(START, 1.0), end - 1) is BarOutcome.WAITING
    assert market.take(entry(START, 2.0, source="two"), end) is BarOutcome.TAKEN
    market.advance(end)
    assert closes(market) == [2.0]
    assert closes(market, source="one") == [1.0], "of that source it is the last one"


def test_a_bar_that_waits_counts_until_its_correction_is_known_that_waits_too():
    market = make()
    end = START + MINUTE
    assert market.take(entry(START, 1.0), end - 1) is BarOutcome.WAITING
    assert market.take(entry(START, 2.0, known_at=end + 5), end - 1) is BarOutcome.WAITING
    found = []
    for now in (end - 1, end, end + 4, end + 5):
        market.advance(now)
        found.append(closes(market))
    assert found == [[], [1.0], [1.0], [2.0]]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 2), st.booleans()), max_size=30)
)
def test_the_last_entry_of_a_bar_counts_whenever_the_market_advances(steps):
    often, seldom = make(), make()
    now, last = START + 2 * MINUTE, {}
    for close, (number, later, passed, is_advanced) in enumerate(steps, 1):
        now += passed * MINUTE // 2
        start = START + number * MINUTE
        fields = entry(start, close, known_at=start + (1 + later) * MINUTE)
        often.advance(now)
        outcome = often.take(fields, now)
        assert seldom.take(fields, now) is outcome
        if is_advanced:
            seldom.advance(now)
            assert closes(seldom) == closes(often)
        if outcome in (BarOutcome.TAKEN, BarOutcome.WAITING):
            last[start] = close
    for market in (often, seldom):
        market.advance(now + 10 * MINUTE)
        window = market.see("SPY")
        assert dict(zip(window.start_ms.tolist(), window.close.tolist(), strict=True)) == last


def as_of(market, now=NOW):
    return dict(zip(market.symbols, market.list_as_of(now).tolist(), strict=True))


def test_a_recording_goes_by_its_own_clock():
    market = make(["BTC", "QQQ", "SPY"])
    assert set(as_of(market).values()) == {NOW}
    market.take(entry(START, symbol="BTC"), NOW)
    played = START + 10 * MINUTE
    market.take(entry(START, 1.0, played_ms=played), NOW)
    assert as_of(market) == {"BTC": NOW, "QQQ": NOW, "SPY": played}
    market.take(entry(START, symbol="QQQ", played_ms=played - MINUTE, timeframe="5m"), NOW)
    assert as_of(market) == {"BTC": NOW, "QQQ": played, "SPY": played}
    assert market.take(entry(START + 10 * MINUTE, 2.0, played_ms=played), NOW) is BarOutcome.WAITING
    market.advance(NOW)
    assert closes(market) == [1.0]
    market.take(entry(START, 3.0, "QQQ", played_ms=played + MINUTE), NOW)
    market.advance(NOW)
    assert closes(market) == [1.0, 2.0]
    assert market.find_origin("SPY").is_replay


def test_a_bar_of_now_after_a_recording_goes_by_the_wall_clock():
    market = make()
    market.take(entry(START, 1.0, played_ms=START + MINUTE), NOW)
    assert market.take(entry(NOW, 2.0), NOW + MINUTE - 1) is BarOutcome.WAITING
    market.advance(NOW + MINUTE)
    assert closes(market) == [1.0, 2.0]
    assert as_of(market)["SPY"] == NOW
    # nor does a bar of a recording count at once where the last one is of now
    played = START + 3 * MINUTE
    late = entry(START + 2 * MINUTE, 3.0, played_ms=played, known_at=played + MINUTE)
    assert market.take(late, NOW + 2 * MINUTE) is BarOutcome.WAITING
    market.advance(NOW + 2 * MINUTE)
    assert closes(market) == [1.0, 2.0]


def test_each_stretch_of_a_recording_has_its_clock():
    market = make(["A", "B", "C", "D"])
    day = 1440 * MINUTE
    for symbol, played in {
        "A": START,
        "B": START + 5 * MINUTE,
        "C": START + 900 * day,
        "D": START + 899 * day,
    }.items():
        market.take(entry(played - 2 * MINUTE, 1.0, symbol, played_ms=played), START + 1000 * day)
    found = as_of(market, START + 1000 * day)
    assert found == {
        "A": START + 5 * MINUTE,
        "B": START + 5 * MINUTE,
        "C": START + 900 * day,
        "D": START + 899 * day,
    }


def test_a_voter_may_be_held_to_the_bars_of_one_source():
    market = make(sources=["two"])
    market.take(entry(START, 1.0, source="one"), NOW)
    market.take(entry(START + MINUTE, 2.0, source="two"), NOW)
    assert closes(market) == [1.0, 2.0]
    assert closes(market, source="two") == [2.0]
    assert market.find_origin("SPY").source == "two"


def apart():
    """A market whose bars of `two` are loaded for themselves for SPY, and not for QQQ."""
    return MarketBars("1m", ("QQQ", "SPY"), {"one", "two"}, {("SPY", "two"), ("SPY", "zzz"), ("ZZZ", "two")})


def own(start_ms, close, **more):
    return entry(start_ms, close, **{"source": "two", "sym": "SPY@two", **more})


def test_bars_that_are_loaded_for_themselves_are_seen_by_voters_of_their_source_alone():
    market = apart()
    market.take(entry(START, 1.0, source="one"), NOW)
    market.take(entry(START + MINUTE, 2.0, source="two"), NOW)
    assert market.take_separate(own(START, 7.0), NOW) is BarOutcome.TAKEN
    assert closes(market) == [1.0, 2.0]
    assert closes(market, source="one") == [1.0]
    assert closes(market, source="two") == [7.0]  # not what it served to all
    assert market.find_last("SPY", "two") == (START, START + MINUTE, 7.0)
    market.take(entry(START, 5.0, symbol="QQQ", source="two"), NOW)
    assert closes(market, "QQQ", "two") == [5.0]  # nothing loads these for themselves
    assert [market.is_separate(*each) for each in (("SPY", "two"), ("SPY", "one"), ("QQQ", "two"))] == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        (entry(START, source="two"), BarOutcome.SKIPPED),
        (own(START, 1.0, sym="QQQ@two"), BarOutcome.SKIPPED),
        (own(START, 1.0, timeframe="5m"), BarOutcome.SKIPPED),
        (own(START, 1.0, final="0"), BarOutcome.SKIPPED),
        (own(START, 1.0, source="one"), BarOutcome.REFUSED),
        (own(NOW + 5 * MINUTE, 1.0), BarOutcome.REFUSED),
    ],
)
def test_what_is_no_final_bar_of_its_source_is_not_taken(fields, outcome):
    market = apart()
    assert market.take_separate(fields, NOW) is outcome
    assert closes(market) == closes(market, source="two") == []
    assert market.moved == ()


def test_a_bar_of_one_source_counts_from_when_it_was_known_and_begins_with_the_split():
    market = apart()
    market.take(entry(START, 1.0, source="one"), NOW)
    end = START + 10 * MINUTE
    assert market.take_separate(own(START, 1.0), end) is BarOutcome.TAKEN
    late = own(START, 9.0, known_at=end + MINUTE)
    assert market.take_separate(late, end) is BarOutcome.WAITING
    assert closes(market, source="two") == [1.0]
    market.advance(end + MINUTE)
    assert closes(market, source="two") == [9.0]
    assert closes(market) == [1.0]
    market.begin_at("SPY", START + MINUTE, "two")
    assert closes(market, source="two") == []
    assert market.find_last("SPY", "two")[:2] == (0, 0)
    assert market.find_origin("SPY", "two") == WindowSource()
    assert closes(market) == [1.0]
    market.begin_at("SPY", START + MINUTE)
    assert closes(market) == []


def test_bars_of_a_recording_that_wait_are_taken_while_more_of_a_page_comes():
    """A longer bar says when its last minute was played, which may be before its end."""
    market = make()
    for number in range(2 * WINDOW):
        start = START + number * MINUTE
        outcome = market.take(entry(start, 1.0 + number, played_ms=start + MINUTE // 2), NOW)
        assert outcome is BarOutcome.WAITING
    assert closes(market) == [1.0 + number for number in range(2 * WINDOW - 1)][-WINDOW:]


def test_bars_of_one_source_are_not_ahead_of_a_recording_that_is_read_by_pages():
    """Their stream has fewer entries than that of all bars, so a page of it reaches hours further."""
    market = apart()
    market.take(entry(START, 1.0, played_ms=START + MINUTE), NOW)
    for number in range(60):
        start = START + number * MINUTE
        taken = market.take_separate(own(start, 1.0, played_ms=start + MINUTE), NOW)
        assert taken is BarOutcome.TAKEN
    assert as_of(market)["SPY"] == START + 60 * MINUTE
    fields = own(START, 1.0, played_ms=NOW + AHEAD_MS + 1000)
    assert market.take_separate(fields, NOW) is BarOutcome.REFUSED


def test_a_symbol_has_moved_with_each_new_or_corrected_bar_of_one_source_until_it_is_settled():
    market = apart()
    market.take(entry(START, 1.0, source="two"), NOW)
    assert market.moved == ()
    market.take_separate(own(START, 1.0), NOW)
    assert market.moved == ("SPY",)
    market.settle(["QQQ", "SPY"])
    market.take_separate(own(START, 1.0), NOW)  # the same once more
    assert market.moved == ()
    market.take_separate(own(START, 2.0), NOW)
    assert market.moved == ("SPY",)


def test_a_symbol_has_moved_when_its_bars_from_before_a_split_are_forgotten():
    market = make()
    for number in range(3):
        market.take(entry(START + number * MINUTE, 1.0), NOW)
    market.begin_at("SPY", START)
    assert market.moved == ()
    market.begin_at("SPY", START + MINUTE)
    assert market.moved == ("SPY",)
    assert len(closes(market)) == 2


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        (entry(START, symbol="ZZZ"), BarOutcome.SKIPPED),
        (entry(START, timeframe="5m"), BarOutcome.SKIPPED),
        ({**entry(START), b"final": b"0"}, BarOutcome.SKIPPED),
        ({}, BarOutcome.SKIPPED),
        ({**entry(START), b"close": b"nan"}, BarOutcome.REFUSED),
        ({**entry(START), b"close": b"1e400"}, BarOutcome.REFUSED),
        ({**entry(START), b"start": b"9" * 30}, BarOutcome.REFUSED),
        ({**entry(START), b"end": b"%d" % START}, BarOutcome.REFUSED),
        ({**entry(START), b"end": b"%d" % (START + 3 * MINUTE)}, BarOutcome.REFUSED),
        ({**entry(START), b"source": b"\xff"}, BarOutcome.REFUSED),
        (entry(NOW + AHEAD_MS), BarOutcome.REFUSED),
        (entry(START, known_at=NOW + AHEAD_MS + 1), BarOutcome.REFUSED),
        (entry(START, played_ms=NOW + AHEAD_MS + 1000), BarOutcome.REFUSED),
    ],
)
def test_what_is_no_bar_of_now_is_counted_and_set_aside(fields, outcome):
    market = make()
    assert market.take(fields, NOW) is outcome
    assert market.outcomes == {outcome: 1}
    assert market.refusals.total() == (outcome is BarOutcome.REFUSED)
    assert market.see("SPY").close.size == 0
    assert set(market.list_as_of(NOW).tolist()) == {NOW}


def test_bars_that_wait_are_as_many_as_a_window_holds_and_keep_no_other_symbol_from_waiting():
    market = make()
    outcomes = [market.take(entry(NOW + number, 1.0), NOW) for number in range(WINDOW + 6)]
    assert outcomes == [BarOutcome.WAITING] * WINDOW + [BarOutcome.REFUSED] * 6
    assert market.refusals == {"end: too many bars are ahead of the clock": 6}
    assert market.take(entry(NOW, 2.0), NOW) is BarOutcome.WAITING, "it replaces one"
    assert market.take(entry(NOW, 3.0, "QQQ"), NOW) is BarOutcome.WAITING
    market.advance(NOW + MINUTE + WINDOW)
    assert closes(market) == [2.0, *[1.0] * (WINDOW - 1)]
    assert closes(market, "QQQ") == [3.0]


def test_a_bar_that_is_ahead_of_the_clock_and_not_of_the_bus_waits():
    market = make()
    day_ms = 24 * 60 * MINUTE
    assert market.take(entry(NOW + 59 * MINUTE, 1.0), NOW) is BarOutcome.REFUSED
    assert market.take(entry(NOW + 59 * MINUTE, 1.0), NOW, NOW + 60 * MINUTE) is BarOutcome.WAITING
    far = [(NOW + day_ms, BarOutcome.WAITING), (NOW + day_ms + 2 * MINUTE, BarOutcome.REFUSED)]
    for start, outcome in far:  # the writer of an entry chooses its id
        assert market.take(entry(start, 2.0), NOW, NOW + 400 * day_ms) is outcome
    market.advance(NOW + 60 * MINUTE - 1)
    assert closes(market) == []
    market.advance(NOW + 60 * MINUTE)
    assert closes(market) == [1.0]


def test_bars_of_a_far_time_keep_none_that_is_known_earlier_from_waiting():
    market = make()
    for number in range(WINDOW):
        far = entry(NOW + (600 + number) * MINUTE, 9.0)
        assert market.take(far, NOW, NOW + 1000 * MINUTE) is BarOutcome.WAITING
    assert market.take(entry(NOW, 1.0), NOW) is BarOutcome.WAITING
    assert market.refusals == {TOO_MANY_AHEAD: 1}
    market.advance(NOW + MINUTE)
    assert closes(market) == [1.0]


def test_an_entry_of_a_recording_takes_the_place_of_stored_bars_that_wait():
    market = make()
    bar = Bar("SPY", "1m", NOW, 1.0, 1.0, 1.0, 1.0)
    assert market.begin_with(ArchivedBar(bar, "one"), NOW + MINUTE, NOW) is BarOutcome.WAITING
    market.take(entry(START, 2.0, played_ms=START + MINUTE), NOW)
    market.advance(NOW + MINUTE)
    assert closes(market) == [2.0]


def test_the_range_of_the_last_bars_says_how_volatile_a_symbol_is():
    market = make(["CALM", "NONE", "WILD"])
    chance = random.Random(1)
    for number in range(30):
        start = START + number * MINUTE
        market.take(entry(start, 100.0, "CALM"), NOW)
        market.take(entry(start, 100.0 + chance.uniform(-20, 20), "WILD"), NOW)
    found = market.find_ranges(["CALM", "NONE", "WILD"])
    assert found["CALM"] == pytest.approx(0.02)
    assert found["WILD"] > 0.2
    assert found["NONE"] == 0


def test_the_form_of_bars_of_which_the_digest_is_made():
    market = make()
    market.take(entry(START, 581.25), NOW)
    unknown = entry(START + MINUTE, 100.0)
    del unknown[b"volume"]
    market.take(unknown, NOW)
    assert encode_bars(market.see("SPY")) == (
        b'[[1767571200000,"581.25","582.25","580.25","581.25","5"],'
        b'[1767571260000,"100","101","99","100",null]]'
    )
    digest = sha256(encode_bars(market.see("SPY"))).hexdigest()
    assert market.hash_bars("SPY") == digest
    assert all(first < second for first, second in pairwise(orjson.loads(encode_bars(market.see("SPY")))))


def archived(number, close=None, symbol="SPY", *, source="one", known_ms=None):
    start = START + number * MINUTE
    price = 100.0 + number if close is None else close
    bar = Bar(symbol, "1m", start, price, price + 1, price - 1, price, volume=5.0)
    return ArchivedBar(bar, source, known_ms), start + MINUTE


def begin(market, *numbers, source="one", is_separate=False):
    for number in numbers:
        market.begin_with(*archived(number, source=source), NOW, is_separate=is_separate)


def test_a_window_that_began_with_the_archive_is_that_of_a_process_that_had_all_entries():
    often, seldom = make(sources=["one"]), make(sources=["one"])
    for number in range(80):
        often.take(entry(START + number * MINUTE, 100.0 + number), NOW)
    begin(seldom, *range(10, 78))
    for number in range(76, 80):
        seldom.take(entry(START + number * MINUTE, 100.0 + number), NOW)
    for source in (None, "one"):
        assert seldom.hash_bars("SPY", source) == often.hash_bars("SPY", source)
        assert seldom.find_last("SPY", source) == often.find_last("SPY", source)
        assert seldom.find_origin("SPY", source) == often.find_origin("SPY", source) == WindowSource("one")


def test_of_a_stored_bar_the_last_entry_of_the_stream_counts():
    market = make()
    begin(market, 0, 1)
    market.take(entry(START + MINUTE, 7.0), NOW)
    assert closes(market) == [100.0, 7.0]


def test_a_recording_takes_the_place_of_all_stored_bars():
    market = make(sources=["one"])
    begin(market, 5, 6)
    market.take(entry(START, 1.0, played_ms=START + MINUTE), NOW)
    assert closes(market) == closes(market, source="one") == [1.0]
    assert market.list_as_of(NOW).tolist() == [NOW, START + MINUTE]


def test_a_recording_leaves_what_came_by_the_stream():
    market = make()
    begin(market, 5)
    market.take(entry(START + 6 * MINUTE, 1.0), NOW)
    market.take(entry(START + 7 * MINUTE, 2.0, played_ms=START + 8 * MINUTE), NOW)
    assert closes(market) == [105.0, 1.0, 2.0]


def test_stored_bars_that_a_source_gave_for_itself_are_its_own_alone():
    market = MarketBars("1m", ("QQQ", "SPY"), ("one", "two"), [("SPY", "two")])
    begin(market, 0, source="one")
    begin(market, 1, source="two")  # of the symbol: not what its voter is held to
    begin(market, 2, source="two", is_separate=True)
    assert closes(market) == [100.0, 101.0]
    assert closes(market, source="one") == [100.0]
    assert closes(market, source="two") == [102.0]


def test_a_stored_bar_of_another_symbol_or_that_is_known_later_is_left_out():
    market = make()
    market.begin_with(*archived(0, symbol="XLF"), NOW)
    market.begin_with(*archived(0), START + MINUTE - 1)
    market.begin_with(*archived(0, known_ms=NOW + 1), NOW)
    assert closes(market) == []


def test_stored_splits_are_known_until_they_are_withdrawn():
    market = make()
    market.begin_with_split("SPY", date(2026, 1, 5))
    market.begin_with_split("XLF", date(2026, 1, 5))
    assert market.splits == {"SPY": {date(2026, 1, 5)}}
    action = CorporateAction("SPY", ActionKind.SPLIT, date(2026, 1, 5))
    fields = {**encode_entry(action, AssetClass.STOCKS, Provenance("one")), "withdrawn": "1"}
    assert market.take_action({k.encode(): str(v).encode() for k, v in fields.items()}) is BarOutcome.TAKEN
    assert market.splits == {"SPY": frozenset()}
