"""Which symbols bars takes: what sources loads, unless its own section says otherwise."""

from types import MappingProxyType

import orjson
import pytest

from marketswarm.agent.service_config import list_warnings, require_config
from marketswarm.exit import Exit
from marketswarm.truth import parse_truth
from services.bars.settings import BarsSettings
from services.market.records import TIMEFRAMES, AssetClass

LOADED = [
    {"symbols": ["SPY", "QQQ"], "from": ["yahoo"]},
    {"symbol": "BTC/USD", "asset": "crypto", "from": ["kraken"]},
    {"symbol": "VOD.L", "session": "XLON", "from": ["yahoo"]},
    {"symbol": "US.CPI", "asset": "economic", "kind": "observations", "from": ["fred"]},
]


def make_truth(
    *groups, others=MappingProxyType({}), loaded=LOADED, key="market:bars", disabled=(), **settings
):
    points = {"publish_to": [{"bus": "market-redis", "key": key}]}
    sources = {"access_points": points, "endpoints": loaded, "settings": {"disabled": list(disabled)}}
    bars = {"endpoints": list(groups), "settings": settings}
    return parse_truth(orjson.dumps({"services": {"sources": sources, "bars": bars, **others}})).truth


WRITER = {"access_points": {"publish_to": [{"bus": "market-redis", "key": "market:bars"}]}}


def complete(*groups, **more):
    truth = make_truth(*groups, **more)
    return require_config(BarsSettings, "bars", truth.services["bars"]).complete(truth)


def test_bars_takes_what_sources_loads_with_its_class_and_session():
    groups = complete().find_groups()
    assert list(groups) == ["SPY", "QQQ", "BTC/USD", "VOD.L"]
    assert [group.find_session(symbol) for symbol, group in groups.items()] == [
        "XNYS",
        "XNYS",
        "24x7",
        "XLON",
    ]
    assert groups["BTC/USD"].asset is AssetClass.CRYPTO
    assert groups["SPY"].timeframes == TIMEFRAMES
    assert groups["SPY"].indicators


def test_what_its_own_section_says_of_a_symbol_counts():
    groups = complete({"symbols": ["QQQ", "IBM"], "timeframes": ["1d"]}).find_groups()
    assert set(groups) == {"SPY", "QQQ", "IBM", "BTC/USD", "VOD.L"}
    assert groups["QQQ"].timeframes == groups["IBM"].timeframes == ("1d",)
    assert groups["SPY"].timeframes == TIMEFRAMES


def test_a_group_without_symbols_is_for_all_others_of_its_class():
    own = {"indicators": ["sma"]}, {"symbols": ["SPY"]}
    groups = complete(*own).find_groups()
    assert groups["QQQ"].indicators == groups["VOD.L"].indicators == ("sma",)
    assert groups["VOD.L"].find_session("VOD.L") == "XLON"
    assert len(groups["SPY"].indicators) > 1
    assert len(groups["BTC/USD"].indicators) > 1
    at = complete({"session": "24x5"}).find_groups()
    assert at["SPY"].find_session("SPY") == at["VOD.L"].find_session("VOD.L") == "24x5"
    with pytest.raises(Exit, match=r"endpoints\[1\].asset: stocks has a group without symbols already"):
        complete({"indicators": []}, {"quotes": True})


def test_what_is_not_wanted_or_disabled_is_not_taken():
    assert list(complete(without=["SPY", "VOD.L"]).find_groups()) == ["QQQ", "BTC/USD"]
    assert list(complete(disabled=["QQQ"]).find_groups()) == ["SPY", "BTC/USD", "VOD.L"]


def test_a_truth_whose_bars_reads_another_stream_names_its_symbols_itself():
    assert complete(key="own:bars").find_groups() == {}
    alone = parse_truth(orjson.dumps({"services": {"bars": {"endpoints": [{"symbols": ["SPY"]}]}}})).truth
    config = require_config(BarsSettings, "bars", alone.services["bars"])
    assert list(config.complete(alone).find_groups()) == ["SPY"]


def warn(*groups, **settings):
    truth = make_truth(*groups, **settings)
    config = require_config(BarsSettings, "bars", truth.services["bars"])
    return [str(each) for each in list_warnings(config, "bars", truth)]


def test_a_stock_that_another_writer_brings_has_minutes_alone_and_is_a_warning():
    groups = [{"symbols": ["SPY", "IBM"]}, {"symbols": ["BTC/USD"], "asset": "crypto"}]
    (found,) = warn(*groups, others={"massive": WRITER})
    assert found.startswith("services.bars.endpoints[0].symbols: IBM: minutes without a series of days: ")
    assert warn({"symbols": ["IBM"], "quotes": True}, others={"massive": WRITER}) == []
    assert warn(*groups) == []


def test_a_symbol_of_another_class_than_in_sources_and_one_left_out_for_nothing_are_warnings():
    assert warn({"symbols": ["BTC/USD"], "asset": "crypto"}, without=["SPY"]) == []
    assert warn({"symbols": ["SPY", "BTC/USD"]}) == [
        "services.bars.endpoints[0].asset: BTC/USD is stocks here and crypto in sources"
    ]
    assert warn(without=["SPX"]) == ["services.bars.settings.without: sources loads no bars of SPX"]


def test_bars_of_one_source_are_treated_as_those_of_their_symbol_without_indicators():
    own = [{"symbols": ["SPY", "ZZZ"], "from": [name], "separate": True} for name in ("massive", "tiingo")]
    settings = complete({"symbols": ["SPY"], "timeframes": ["1d"], "quotes": True}, loaded=[*LOADED, *own])
    assert list(settings.find_groups()) == ["SPY", "QQQ", "BTC/USD", "VOD.L"]
    groups = settings.find_separate_groups()
    assert list(groups) == ["SPY@massive", "SPY@tiingo"]  # bars does not take ZZZ
    group = groups["SPY@massive"]
    assert (group.timeframes, group.indicators, group.quotes) == (("1d",), (), False)
    assert group.find_session("SPY@massive") == "XNYS"
    assert complete(loaded=[*LOADED, *own], key="other:bars").find_separate_groups() == {}
