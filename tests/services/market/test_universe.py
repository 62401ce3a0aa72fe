"""Which symbols the section of sources loads bars of: what bars takes unless it is told otherwise."""

import pytest

from marketswarm.truth import Heartbeat, Service, Truth
from services.bars.settings import SymbolGroup
from services.market.records import AssetClass
from services.market.universe import (
    DAY_SHARE,
    LoadedSymbol,
    find_default_share,
    list_bar_sources,
    list_day_shares,
    list_loaded_symbols,
    list_named_sessions,
    list_separate_bars,
)


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


def test_sessions_are_named_as_bars_goes_by_them_and_not_where_the_class_says_them():
    sources = Service(
        heartbeat=Heartbeat(),
        endpoints=[
            {"symbol": "VOD.L", "session": "XLON"},
            {"symbol": "SPY"},
            {"symbol": "ODD", "session": 5},
        ],
    )
    groups = [{"symbols": ["7203.T"], "session": "XTKS"}, {"symbols": ["BTC/USD"], "asset": "crypto"}]
    bars = Service(heartbeat=Heartbeat(), endpoints=groups)
    truth = Truth(services={"sources": sources, "bars": bars})
    assert list_named_sessions(truth) == {"7203.T": "XTKS", "VOD.L": "XLON"}
    usual = Service(heartbeat=Heartbeat(), endpoints=[{"session": "XETR"}])
    truth = Truth(services={"sources": sources, "bars": usual})
    assert list_named_sessions(truth) == {"VOD.L": "XETR", "SPY": "XETR"}
    assert list_named_sessions(Truth(services={"sources": sources})) == {}


def test_bars_of_one_source_load_no_symbol_and_are_listed_by_symbol_and_source():
    section = Service(
        heartbeat=Heartbeat(),
        endpoints=[
            {"symbols": ["SPY", "QQQ"], "from": ["massive"], "separate": True, "timeframe": "1d"},
            {"symbol": "SPY", "from": ["massive"], "separate": True},
            {"symbol": "SPY", "from": ["yahoo", "finnhub"]},
            {"symbol": "SPY", "from": [], "separate": True},
            {"symbol": "SPY", "from": "massive", "separate": True, "timeframe": 5},
        ],
        settings={"disabled": ["QQQ"]},
    )
    assert list(list_loaded_symbols(section)) == ["SPY"]
    assert list_separate_bars(section) == {("SPY", "massive"): {"1d", "1m"}}
    assert list_separate_bars(None) == {}
    assert list_bar_sources(section) == {"SPY": ("yahoo", "finnhub")}


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


def test_the_shares_of_days_are_those_of_groups_and_what_is_wrong_in_them_counts_as_unsaid():
    wrong = [True, "0.5", -0.1, 1.5, float("nan"), None, [0.5]]
    groups = [{"symbols": [f"W{n}"], "checks": {"day_share": share}} for n, share in enumerate(wrong)]
    section = Service(
        heartbeat=Heartbeat(),
        endpoints=[
            {"symbols": ["SPY", "AAPL", ["no"]], "checks": {"day_share": 0.5}},
            {"symbols": ["EUR/USD"], "asset": "forex", "quotes": True},
            {"symbols": ["QQQ"], "checks": "x"},
            {"asset": "crypto", "checks": {"day_share": 0}},
            {"asset": ["crypto"], "checks": {"day_share": 1}},
            {"asset": "rocks", "checks": {"day_share": 1}},
            "x",
            *groups,
        ],
    )
    shares = list_day_shares(section)
    named = {"SPY": 0.5, "AAPL": 0.5, "EUR/USD": 0.0, "QQQ": DAY_SHARE}
    assert shares.by_symbol == named | {f"W{n}": DAY_SHARE for n in range(len(wrong))}
    assert shares.by_asset == {"options": 0.0, "crypto": 0.0}
    assert list_day_shares(None).by_asset == {"options": 0.0}


@pytest.mark.parametrize("asset", list(AssetClass))
@pytest.mark.parametrize("quotes", [True, False])
def test_bars_and_the_readers_of_its_section_have_the_same_default(asset, quotes):
    group = {"asset": asset.value, "quotes": quotes}
    section = Service(heartbeat=Heartbeat(), endpoints=[group])
    assert list_day_shares(section).by_asset[asset] == SymbolGroup(**group).day_share
    assert find_default_share(asset, quotes=quotes) == SymbolGroup(**group).day_share
