"""How a question becomes requests: in parts that one answer can hold, each within what the source has."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.market.records import AssetClass, RecordKind
from services.sources.catalog.request import Question, make_request, split_question
from services.sources.catalog.source import MarketSource, SymbolRule

NOW = datetime(2026, 11, 22, tzinfo=UTC)
BARS = {
    "kind": "bars",
    "assets": ["crypto"],
    "timeframes": {"1m": "1"},
    "path": "/bars",
    "fields": {
        "start": {"path": "[0]", "format": "epoch_s"},
        **{name: {"path": f"[{at}]"} for at, name in enumerate(("open", "high", "low", "close"), 1)},
    },
}


def make_source(symbols=None, **endpoint):
    return MarketSource.model_validate(
        {
            "name": "example",
            "title": "Example",
            "docs": ["https://example.org/"],
            "base_url": "https://api.example.org",
            "symbols": {"crypto": symbols or {}},
            "serves": {"bars": BARS | endpoint},
        }
    )


def question(start, end, symbol="BTC/USD"):
    return Question(symbol, AssetClass.CRYPTO, RecordKind.BARS, start, end, "1m")


def split(start, end, known_until=None, **endpoint):
    asked = replace(question(start, end), known_until=known_until)
    found = split_question(make_source(**endpoint).serves["bars"], asked, NOW)
    return [(part.start, part.end) for part in found]


@given(
    minutes=st.integers(1, 3000),
    limit=st.none() | st.integers(30, 1000),
    max_days=st.none() | st.floats(0.05, 3),
    by_year=st.booleans(),
)
def test_the_parts_of_a_question_are_all_of_it_once_and_none_is_too_long(minutes, limit, max_days, by_year):
    end = datetime(2026, 1, 2, tzinfo=UTC)
    start = end - timedelta(minutes=minutes)
    parts = split(start, end, limit=limit, max_days=max_days, by_year=by_year)[::-1]
    assert (parts[0][0], parts[-1][1]) == (start, end)
    assert all(before[1] == after[0] for before, after in pairwise(parts))
    for begun, ended in parts:
        assert begun < ended
        assert limit is None or ended - begun <= timedelta(minutes=limit)
        assert max_days is None or ended - begun <= timedelta(days=max_days)
        assert not by_year or begun.year == (ended - timedelta(microseconds=1)).year


def test_of_a_history_the_newest_part_is_asked_first_and_of_what_is_new_the_oldest():
    """The limits may not allow the rest: a history is shorter then, and what is new goes on where it ends."""
    days = [NOW - timedelta(days=number) for number in range(6, -1, -1)]
    parts = list(pairwise(days))
    assert split(days[0], NOW, max_days=1) == parts[::-1]
    # the third part has the newest record that is known; what is older may have been corrected
    known = days[2] + timedelta(hours=12)
    assert split(days[0], NOW, known, max_days=1) == [*parts[2:], parts[1], parts[0]]


def test_what_a_source_does_not_correct_is_not_asked_for_again():
    known = NOW - timedelta(days=3)
    assert split(NOW - timedelta(days=400), NOW, known, revised_days=1) == [(known - timedelta(days=1), NOW)]
    assert split(NOW - timedelta(days=400), NOW, revised_days=1) == [(NOW - timedelta(days=400), NOW)]


def test_nothing_is_asked_of_the_future_nor_beyond_what_the_source_has():
    assert split(NOW - timedelta(days=9), NOW + timedelta(days=9), history_days=2) == [
        (NOW - timedelta(days=2), NOW)
    ]
    found = split(NOW - timedelta(days=9), NOW, history_bars=60)
    assert found == [(NOW - timedelta(hours=1), NOW)]
    assert split(NOW, NOW + timedelta(days=9)) == []
    assert split(NOW - timedelta(days=9), NOW - timedelta(days=8), history_days=2) == []


def test_times_are_written_as_the_template_says():
    params = {
        "s": "{start:epoch_s}",
        "ms": "{start:epoch_ms}",
        "ns": "{end:epoch_ns}",
        "iso": "{start}",
        "day": "{end:%d.%m.%Y}",
        "before": "{before_start:epoch_s}",
        "nothing": "",
    }
    start = datetime(2026, 11, 1, 2, 3, 4, tzinfo=UTC)
    request = make_request(
        (source := make_source(params=params)),
        source.serves["bars"],
        question(start, start + timedelta(days=1)),
    )
    assert dict(request.params) == {
        "s": "1793498584",
        "ms": "1793498584000",
        "ns": "1793584984000000000",
        "iso": "2026-11-01T02:03:04Z",
        "day": "02.11.2026",
        "before": "1793498524",
    }


@pytest.mark.parametrize(
    ("rule", "symbol", "spelled"),
    [
        ({"template": "{base}{quote}"}, "BTC/USD", "BTCUSD"),
        ({"template": "{base}-{quote}", "case": "lower"}, "BTC/USD", "btc-usd"),
        ({"template": "{base}{quote}", "currencies": {"BTC": "XBT"}}, "BTC/USD", "XBTUSD"),
        ({"template": "{base}{quote}"}, "AAPL", None),
        ({"replace": {".": "-"}}, "BRK.B", "BRK-B"),
        ({"names": {"GC": "GC=F"}}, "GC", "GC=F"),
        ({"names": {"GC": "GC=F"}, "only": True}, "CL", None),
        ({"pattern": "[A-Z]+"}, "BRK.B", None),
    ],
)
def test_a_symbol_is_spelled_as_the_source_wants_it_or_it_has_none(rule, symbol, spelled):
    assert SymbolRule.model_validate(rule).spell(symbol) == spelled


def test_what_stands_in_a_path_can_not_lead_elsewhere():
    source = make_source(path="/bars/{symbol}", symbols={"names": {"X/Y": "../../admin?x=1"}})
    request = make_request(source, source.serves["bars"], question(NOW, NOW, "X/Y"))
    assert request.url == "https://api.example.org/bars/..%2F..%2Fadmin%3Fx%3D1"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"path": "/{nobody}"}, "{nobody} is not one of"),
        ({"params": {"n": "{limit}"}}, "limit: {limit} needs one"),
        ({"timeframes": {"2m": "2"}}, "timeframes: 2m"),
        ({"timeframes": {}}, "timeframes: bars need them"),
        ({"fields": {"open": {"path": "x"}}}, "fields: bars need close, high, low, start"),
        ({"fields": BARS["fields"] | {"colour": {"path": "x"}}}, "fields: bars have no colour"),
        ({"fields": BARS["fields"] | {"start": {"path": "x"}}}, "fields.start: a time needs a format"),
        ({"records": "a["}, "is not a JMESPath expression"),
        ({"colour": "red"}, "colour"),
        ({"params": {"k": "{key}"}}, "{key} is for a key whose place is the path"),
    ],
)
def test_a_mistake_in_a_file_is_named(change, problem):
    with pytest.raises(ValidationError) as raised:
        make_source(**change)
    assert problem in str(raised.value)
