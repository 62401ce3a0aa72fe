"""Which keys are not set, and what each would add to the series of a truth."""

import pytest

from services.sources.cascade.missing_keys import AvailableKeys
from services.sources.cascade.series import list_series
from services.sources.catalog.files import shipped_catalog
from services.sources.preload import describe_gain
from services.sources.settings import SourcesSettings

GDP = {"symbol": "US.GDP", "asset": "economic", "kind": "observations", "critical": True}
SPREAD = {"symbol": "US.BBB_SPREAD", "asset": "economic", "kind": "observations"}
SPY = {"symbol": "SPY", "timeframe": "1d"}
COIN = {"symbol": "BTC/USD", "asset": "crypto", "kind": "quotes"}


def make_series(*entries):
    settings = {"replay": {"file": "day.jsonl.gz", "names": ["replay_a"]}}
    return list_series(SourcesSettings.model_validate({"endpoints": list(entries), "settings": settings}))


def ring(*with_key):
    return AvailableKeys(shipped_catalog(), with_key, {"replay_a"})


def test_what_a_key_would_bring_alone_is_named_and_what_others_serve_is_counted():
    entries = (
        {**SPY, "from": ["yahoo", "finnhub", "tradier"]},
        {**GDP, "from": ["bea", "fred"]},
        {**SPREAD, "from": ["fred"]},
    )
    found = {each.source: each for each in ring().list_missing(make_series(*entries))}
    assert {name: describe_gain(each) for name, each in found.items()} == {
        "fred": "US.GDP:observations (critical), US.BBB_SPREAD:observations",
        "bea": "US.GDP:observations (critical)",
        "finnhub": "one more source of 1 series",
        "tradier": "one more source of 1 series",
    }
    assert list(found) == ["fred", "bea", "finnhub", "tradier"], "what adds most comes first"
    assert found["fred"].variables == ("FRED_API_KEY",)
    assert found["tradier"].variables == ("TRADIER_ACCESS_TOKEN",)
    left = ring("bea", "finnhub", "tradier").list_missing(make_series(*entries))
    assert [describe_gain(each) for each in left] == [
        "US.BBB_SPREAD:observations; one more source of 1 series"
    ]
    assert ring("fred", "bea", "finnhub", "tradier").list_missing(make_series(*entries)) == []


@pytest.mark.parametrize(
    ("entry", "with_key", "lacks"),
    [
        ({**GDP, "from": ["fred", "bea"]}, (), True),
        ({**GDP, "from": ["fred", "bea"]}, ("bea",), False),
        ({**GDP, "from": ["fred", "replay_a"]}, (), False),
        ({**SPY, "from": ["finnhub"]}, (), True),
        ({**SPY, "from": ["finnhub", "yahoo"]}, (), False),
        ({**SPY, "from": ["finnhub", "kraken"]}, (), True),  # kraken needs no key, and has no stocks
        ({**SPY, "from": ["kraken"]}, (), False),  # no key would help
        ({**COIN, "from": ["coingecko", "coinmarketcap"]}, (), False),  # the key of the first is optional
        ({"symbol": "SPY", "from": ["massive"]}, (), False),  # minutes come over massive's own stream
    ],
)
def test_a_series_lacks_keys_if_nothing_but_keys_keeps_it_from_being_loaded(entry, with_key, lacks):
    (series,) = make_series(entry)
    assert ring(*with_key).lacks_keys(series) is lacks
