"""Which symbols the section of sources loads bars of: what bars takes unless it is told otherwise."""

import pytest

from marketswarm.truth import Heartbeat, Service
from services.market.records import AssetClass
from services.market.universe import LoadedSymbol, list_loaded_symbols


def load(*endpoints, **settings):
    return list_loaded_symbols(Service(heartbeat=Heartbeat(), endpoints=list(endpoints), settings=settings))


def test_each_symbol_of_a_series_of_bars_is_loaded_once_with_its_class_and_session():
    found = load(
        {"symbol": "SPY", "from": ["yahoo"], "timeframe": "1d"},
        {"symbols": ["BTC/USD", "SPY"], "asset": "crypto", "kind": "bars"},
        {"symbol": "VOD.L", "session": "XLON"},
    )
    assert found == {
        "SPY": LoadedSymbol(AssetClass.STOCKS, None),
        "BTC/USD": LoadedSymbol(AssetClass.CRYPTO, None),
        "VOD.L": LoadedSymbol(AssetClass.STOCKS, "XLON"),
    }


def test_quotes_and_observations_are_no_bars_and_a_disabled_symbol_is_not_loaded():
    found = load(
        {"symbol": "EUR/USD", "asset": "forex", "kind": "quotes"},
        {"symbol": "US.CPI", "asset": "economic", "kind": "observations"},
        {"symbols": ["SPY", "QQQ"]},
        disabled=["QQQ", 5],
    )
    assert list(found) == ["SPY"]


@pytest.mark.parametrize("odd", ["odd", 5, None, {"symbols": 5}, {"symbol": "\x00"}, {"symbol": ["SPY"]}])
def test_what_is_no_series_is_left_out_since_its_own_service_refuses_it(odd):
    assert list(load(odd, {"symbol": "SPY"})) == ["SPY"]
    assert load({"symbol": "SPY", "asset": "moon"}) == load({"symbol": "SPY", "session": 5}) == {}
    assert load({"symbol": "SPY", "asset": ["stocks"]}) == {}
    assert list(load({"symbol": "SPY"}, disabled=5)) == ["SPY"]
