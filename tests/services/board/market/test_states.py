import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.board.market.feed import MarketStates
from services.board.market.overview import list_groups
from services.board.market.states import (
    StateCache,
    StoredSeries,
    StoredSource,
    list_group,
    parse_breaker,
    parse_gate,
)

SPY = {"symbol": "SPY", "kind": "bars", "timeframe": "1m", "group": "indices", "critical": True,
       "from": ["massive", "yahoo"], "serving": "yahoo", "status": "fresh", "newest_ms": 5, "replay": True,
       "attempts": {"massive": {"verdict": "late", "reason": "quiet"}}, "of_a_later_release": {}}  # fmt: skip
TEXT = st.text(max_size=20)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from([*SPY, "name", "state", "since", "failed", "total", "records"])


def parse_series(raw):
    return StateCache(StoredSeries).parse(raw)


def parse_sources(raw):
    return StateCache(StoredSource).parse(raw)


def encode(**states):
    return {ident.encode(): orjson.dumps(state) for ident, state in states.items()}


def test_a_state_is_read_with_the_names_that_it_has_on_the_bus():
    (one,), broken = parse_series(encode(x=SPY))
    assert (one.id, one.sources, one.serving, one.attempts["massive"].verdict) == (
        "x",
        ("massive", "yahoo"),
        "yahoo",
        "late",
    )
    assert one.as_json()["from"] == ["massive", "yahoo"]
    assert broken == 0


@given(st.dictionaries(NAMES, ANYTHING, max_size=6))
def test_any_state_is_read_or_counted_and_never_an_accident(state):
    series, broken = parse_series(encode(a={**SPY, **state}, b=SPY))
    assert len(series) + broken == 2
    assert any(one.id == "b" for one in series)
    sources, more = parse_sources(encode(a=state))
    assert len(sources) + more == 1
    parse_gate(orjson.dumps(state))


def test_what_is_no_object_or_too_long_is_counted():
    raw = {b"a": b"[]", b"b": b"{", b"c": b'{"symbol":"' + b"x" * 70_000 + b'"}', b"d": b"null"}
    assert parse_series(raw) == ((), 4)
    assert parse_gate(b"{") is None
    assert parse_gate(None) is None


def test_a_series_whose_symbol_is_none_is_counted_and_left_out():
    for wrong in ("BRK B", "", "<b>", "A" * 41, "SPY\n"):
        assert parse_series(encode(odd={**SPY, "symbol": wrong})) == ((), 1), wrong
    assert len(parse_series(encode(x={**SPY, "symbol": "EUR/USD"}))[0]) == 1


def test_characters_that_mislead_are_escaped():
    (one,), _ = parse_sources(encode(evil={"reason": "a\u202eb\x1b[31m"}))
    assert one.reason == "a\\u202eb\\x1b[31m"


def test_bars_of_one_source_are_no_series_of_their_symbol_on_a_page():
    own = StoredSeries(id="SPY:bars:1d@massive", symbol="SPY", timeframe="1d", group="mine")
    other = StoredSeries(id="QQQ:bars:1d", symbol="QQQ", timeframe="1d", group="us")
    merged = StoredSeries(id="SPY:bars:1d", symbol="SPY", timeframe="1d", group="us")
    assert (own.is_separate, merged.is_separate) == (True, False)
    assert list_group((own,), "mine") == ()
    assert list_group((own.model_copy(update={"group": "us"}), merged, other), "us") == (merged, other)
    assert list_groups(MarketStates(series=(own, merged))) == ["us"]


def test_a_group_has_each_symbol_once_by_the_series_that_shows_its_present_best():
    states = {
        "a": {**SPY, "timeframe": "1d"},
        "b": SPY,
        "c": {**SPY, "symbol": "QQQ"},
        "d": {**SPY, "group": "x"},
    }
    series, _ = parse_series(encode(**states))
    assert sorted(one.id for one in list_group(series, "indices")) == ["b", "c"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"newest_ms": "99999999999999999999999999"},
        {"newest_ms": 2**63},
        {"newest_ms": 5.0},
        {"newest_ms": True},
        {"loaded_at": "5"},
        {"fresh_until": 1e300},
        {"replay": "yes"},
        {"from": ["a"] * 51},
        {"attempts": {"a": {"failures": -1}}},
        {"attempts": {"a": {"retry_at": 1e18}}},
    ],
)
def test_a_state_with_a_value_of_another_type_or_out_of_bounds_is_counted(wrong):
    assert parse_series(encode(a={**SPY, **wrong}, b=SPY))[1] == 1
    assert len(parse_series(encode(a={**SPY, **wrong}, b=SPY))[0]) == 1


@pytest.mark.parametrize("name", ["fails", "answers", "failures", "limited", "records"])
@pytest.mark.parametrize("wrong", ["9" * 26, 2**60, -1, "1", 1.5])
def test_a_source_whose_counts_are_none_is_counted(name, wrong):
    assert parse_sources(encode(a={name: wrong})) == ((), 1)
    assert parse_gate(orjson.dumps({"total": wrong})) is None


def test_whatever_a_state_is_read_as_can_be_encoded_again():
    deep = b"[" * 1000 + b"]" * 1000
    raw = {b"a": b'{"symbol":"SPY","x":' + deep + b"}", b"b": b'{"symbol":"SPY","attempts":' + deep + b"}"}
    series, broken = parse_series(raw)
    assert broken == 1
    assert orjson.dumps([one.as_json() for one in series])


def test_a_breaker_of_absurd_values_is_none():
    assert parse_breaker([b"-5", None, None, None]) is None
    assert parse_breaker([b"1", b"9" * 15, b"9" * 15, b"9" * 15]) is None
    assert parse_breaker([b"x", b"9" * 5000, b"1", None]).until == 0.001


def test_texts_within_a_state_are_escaped_too():
    (one,), _ = parse_series(encode(x={**SPY, "from": ["a\u202eb"], "attempts": {"c\x1bd": {}}}))
    assert (one.sources, [*one.attempts]) == (("a\\u202eb",), ["c\\x1bd"])
