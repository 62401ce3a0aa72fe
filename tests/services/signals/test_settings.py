"""The section of signals in a truth: each mistake is named by its path, and numbers are taken as written."""

from fractions import Fraction

import orjson
import pytest

from marketswarm.agent.service_config import list_warnings, load_with_sections, require_config
from marketswarm.exit import Exit
from marketswarm.truth import TruthError, parse_truth
from services.market.records import AssetClass
from services.signals.cycle.decide import VOTER_RULES
from services.signals.settings import (
    RULES,
    SignalsSettings,
    find_bars,
    find_log,
    find_origin,
    find_symbols,
    to_units,
)

TREND = {"voter": "trend", "rule": "trend", "weight": 0.4}
VOLUME = {"voter": "volume", "rule": "volume", "weight": 0.15}
CHAT = {"voter": "grok", "kind": "chat", "url": "https://api.x.ai/v1", "model": "grok-4", "weight": 0.2}


def without(entry, name):
    return {key: value for key, value in entry.items() if key != name}


def make_truth(*voters, settings=None, others=None, **fleet):
    section = {"endpoints": list(voters) or [TREND, VOLUME], "settings": settings or {}}
    return parse_truth(orjson.dumps({"services": {"signals": section, **(others or {})}, **fleet})).truth


def parse(*voters, **more):
    return require_config(SignalsSettings, "signals", make_truth(*voters, **more).services["signals"])


@pytest.mark.parametrize(
    ("voters", "settings", "path", "why"),
    [
        ([{**TREND, "weight": 0}, VOLUME], {}, "endpoints[0].weight", "0 is not more than 0"),
        ([TREND, {**VOLUME, "weight": -1}], {}, "endpoints[1].weight", "-1 is not more than 0"),
        ([TREND, {**VOLUME, "weight": "x"}], {}, "endpoints[1].weight", ""),
        ([TREND, {**VOLUME, "rule": "magic"}], {}, "endpoints[1].rule", ""),
        ([TREND, {"voter": "volume", "weight": 1}], {}, "endpoints[1].rule", "missing"),
        ([TREND, {**VOLUME, "kind": "oracle"}], {}, "endpoints[1].kind", "known: bars, chat, http, news"),
        ([TREND, {**VOLUME, "kind": ["bars"]}], {}, "endpoints[1].kind", "known: bars, chat, http, news"),
        ([TREND, without(CHAT, "url")], {}, "endpoints[1].url", "missing"),
        ([TREND, without(CHAT, "model")], {}, "endpoints[1].model", "missing"),
        ([TREND, {**CHAT, "url": "ftp://x.ai"}], {}, "endpoints[1].url", ""),
        ([TREND, {"voter": "mine", "kind": "http", "weight": 1}], {}, "endpoints[1].url", "missing"),
        ([TREND, TREND], {}, "endpoints[1].voter", "another voter has this name"),
        ([TREND, {**VOLUME, "voter": "No Name"}], {}, "endpoints[1].voter", ""),
        ([TREND, VOLUME], {"leave": 0.4}, "settings.leave", "0.4 is above enter, 0.3"),
        ([TREND, VOLUME], {"least_votes": 3}, "settings.least_votes", "there are 2 voters"),
        ([TREND, VOLUME], {"quorum": 1.5}, "settings.quorum", ""),
        ([TREND, VOLUME], {"cycle_sec": 2, "late_sec": 2}, "settings.late_sec", "half of cycle_sec"),
        ([TREND, VOLUME], {"symbols": ["SPY", "SPY"]}, "settings.symbols", "names a symbol twice"),
        ([TREND, VOLUME], {"symbols": ["a b"]}, "settings.symbols[0]", "must be a symbol"),
        ([TREND, VOLUME], {"consensus": "5.0"}, "settings.consensus", ""),
        ([TREND, VOLUME], {"timeframe": "2m"}, "settings.timeframe", ""),
        ([TREND, VOLUME], {"origin": "with space"}, "settings.origin", ""),
        ([TREND, VOLUME], {"witness": {"url": "https://w"}}, "settings.witness.key", ""),
    ],
)
def test_each_mistake_is_named_by_its_path(voters, settings, path, why):
    with pytest.raises(Exit) as raised:
        parse(*voters, settings=settings)
    assert f"services.signals.{path}: " in raised.value.message
    assert why in raised.value.message
    assert "me:pw" not in raised.value.message


def test_a_section_without_voters_is_a_mistake_that_validate_finds():
    document = orjson.dumps({"services": {"signals": {"settings": {}, "endpoints": []}}})
    with pytest.raises(TruthError, match=r"services\.signals\.endpoints"):
        load_with_sections(document)


def test_numbers_are_taken_as_the_truth_writes_them():
    rules = parse(settings={"quorum": 0.1, "enter": 0.3, "leave": 0.1, "cooldown_sec": 1.5}).rules
    assert dict(rules.weights) == {"trend": 4 * 10**11, "volume": 15 * 10**10}
    assert (rules.quorum, rules.enter, rules.leave) == (Fraction(1, 10), 3 * 10**11, 10**11)
    assert rules.cooldown_ms == 1500
    assert to_units(1e-30) == 1


def test_every_rule_has_a_voter():
    assert tuple(VOTER_RULES) == RULES


BARS = {
    "sources": {
        "endpoints": [
            {"symbols": ["SPY", "QQQ"], "from": ["yahoo"]},
            {"symbol": "BTC/USD", "asset": "crypto", "from": ["kraken"]},
            {"symbol": "US.CPI", "asset": "economic", "kind": "observations", "from": ["fred"]},
        ]
    },
    "bars": {
        "endpoints": [{"symbols": ["VOD.L"], "session": "XLON"}, {"asset": "crypto", "session": "24x5"}],
        "settings": {"without": ["QQQ"]},
    },
}


def find(**settings):
    truth = make_truth(settings=settings, others=BARS)
    found = find_symbols(require_config(SignalsSettings, "signals", truth.services["signals"]), truth)
    return {symbol: (each.asset, each.session) for symbol, each in found.items()}


def test_by_default_all_symbols_are_decided_on_that_bars_has():
    assert find() == {
        "BTC/USD": (AssetClass.CRYPTO, "24x5"),
        "SPY": (AssetClass.STOCKS, "XNYS"),
        "VOD.L": (AssetClass.STOCKS, "XLON"),
    }
    assert list(find()) == sorted(find())
    assert find(symbols=["ZZZ", "SPY"]) == {
        "SPY": (AssetClass.STOCKS, "XNYS"),
        "ZZZ": (AssetClass.STOCKS, "24x7"),
    }


def test_symbols_that_bars_does_not_have_are_a_warning():
    def warn(others, **settings):
        truth = make_truth(settings=settings, others=others)
        config = require_config(SignalsSettings, "signals", truth.services["signals"])
        return [str(each) for each in list_warnings(config, "signals", truth)]

    assert warn(BARS, symbols=["SPY"]) == []
    assert warn(BARS) == []
    assert warn(BARS, symbols=["QQQ", "SPY"]) == ["services.signals.settings.symbols: bars has no QQQ"]
    assert warn({})[0].startswith("services.signals.settings.symbols: bars has no symbols")


def test_a_voter_of_a_source_that_no_series_loads_is_a_warning_by_path():
    def warn(source, *loaded):
        voter = {"voter": "one", "rule": "trend", "source": source, "weight": 1}
        sources = {"endpoints": [{"symbol": "SPY", "from": loaded}, {"symbol": "QQQ", "from": ["massive"]}]}
        truth = make_truth(TREND, voter, others={"bars": {}, "sources": sources})
        config = require_config(SignalsSettings, "signals", truth.services["signals"])
        return [str(each) for each in list_warnings(config, "signals", truth)]

    assert warn("massive", "massive") == []
    (shared,) = warn("massive", "yahoo", "massive")
    assert shared.startswith("services.signals.endpoints[1].source: it sees bars of SPY only while massive ")
    assert shared.endswith('add a series from massive with `"separate": true`')
    assert warn("massive", "yahoo") == [
        "services.signals.endpoints[1].source: no series of sources loads bars of SPY from massive"
    ]
    (unknown,) = warn("massiv", "massive")
    assert unknown.endswith("loads bars of QQQ, SPY from massiv; did you mean massive?")


def test_a_voter_of_a_source_that_is_loaded_for_itself_sees_the_timeframes_that_are_made_of_it():
    def warn(*loaded, timeframe="1d"):
        voter = {"voter": "one", "rule": "trend", "source": "massive", "weight": 1}
        sources = {"endpoints": [{"symbol": "SPY", "timeframe": "1d", "from": ["yahoo", "stooq"]}, *loaded]}
        others = {"bars": {}, "sources": sources}
        truth = make_truth(TREND, voter, settings={"timeframe": timeframe}, others=others)
        config = require_config(SignalsSettings, "signals", truth.services["signals"])
        return [str(each) for each in list_warnings(config, "signals", truth)]

    days = {"symbol": "SPY", "timeframe": "1d", "from": ["massive"], "separate": True}
    assert warn(days) == warn(days, timeframe="1w") == warn({**days, "timeframe": "1m"}, timeframe="4h") == []
    assert warn(days, timeframe="1h") == [
        "services.signals.endpoints[1].source: massive is loaded for itself in 1d of SPY, and voters see 1h"
    ]
    assert len(warn()) == len(warn({**days, "from": ["stooq"]})) == 1


def test_more_than_fifteen_calls_a_cycle_are_a_warning():
    def warn(*calls):
        chats = [CHAT | {"voter": f"v{at}", "calls_per_cycle": each} for at, each in enumerate(calls)]
        truth = make_truth(TREND, *chats, others=BARS)
        config = require_config(SignalsSettings, "signals", truth.services["signals"])
        return [str(each) for each in list_warnings(config, "signals", truth)]

    assert warn(7, 8) == []
    (warning,) = warn(7, 9)
    assert warning.startswith("services.signals.endpoints: calls_per_cycle: ")
    assert "may take 16 calls a cycle, more than 15" in warning


def test_the_log_is_named_after_the_fleet_and_streams_have_default_keys():
    truth = make_truth(fleet="my fleet+1")
    settings = require_config(SignalsSettings, "signals", truth.services["signals"])
    assert find_origin(settings, truth) == "my-fleet-1/signals"
    assert find_origin(parse(settings={"origin": "example.org/log"}), truth) == "example.org/log"
    assert find_bars(truth.services["signals"]).key == "bars:bars"
    assert find_log(truth.services["signals"]).key == "signals:log"
