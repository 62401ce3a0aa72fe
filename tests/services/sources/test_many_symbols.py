"""Ten thousand symbols, with minutes and days of each, in one truth."""

import orjson

from marketswarm.agent import service_config
from services.bars.settings import BarsSettings
from services.board.market.feed import STATE_BYTES
from services.board.market.states import MAX_STATES, StateCache, StoredSeries
from services.medic.remedies.pause import MAX_SERIES as MAX_PAUSABLE
from services.sources.settings import MAX_SERIES, SourcesSettings

SYMBOLS = 10_000
NAMES = [f"S{number:05}" for number in range(SYMBOLS)]
POINTS = ("market:bars", "market:quotes", "market:observations", "market:series", "market:sources")


def make_truth(names):
    parts = [names[at : at + 1000] for at in range(0, len(names), 1000)]
    minutes = [{"symbols": part, "from": ["yahoo"], "history_days": 1} for part in parts]
    days = [{"symbols": part, "timeframe": "1d", "from": ["yahoo"]} for part in parts]
    endpoints = {"sources": [*minutes, *days], "bars": [{"symbols": names}]}
    keep = {"bars": 50_000_000}  # somebody knows how long it is
    return {
        "services": {
            svc: {
                "heartbeat": {"interval_sec": 10},
                "endpoints": each,
                "settings": {"keep": keep} if svc == "sources" else {},
            }
            for svc, each in endpoints.items()
        }
    }


def test_ten_thousand_symbols_with_their_minutes_and_days_are_a_truth_without_a_warning():
    raw = orjson.dumps(make_truth(NAMES))
    parsed = service_config.load_with_sections(raw)
    assert [str(each) for each in parsed.warnings] == []
    sources = service_config.require_config(SourcesSettings, "sources", parsed.truth.services["sources"])
    assert sum(len(each.all_symbols) for each in sources.endpoints) == 2 * SYMBOLS
    bars = service_config.require_config(BarsSettings, "bars", parsed.truth.services["bars"])
    assert len(bars.find_groups()) == SYMBOLS


def test_the_board_and_medic_read_the_states_of_as_many_series_as_sources_may_have():
    name = "S00000:bars:1m"
    state = {
        "id": name, "symbol": "S00000", "kind": "bars", "timeframe": "1m", "asset": "stocks",
        "group": "stocks", "critical": False, "from": ["yahoo", "tiingo"], "status": "fresh",
        "serving": "yahoo", "since": 1.5e9,
        "attempts": {"yahoo": {"verdict": "answered", "reason": "", "at": 1.5e9, "failures": 0}},
        "reason": "", "newest_ms": 1_500_000_000_000, "loaded_at": 1.5e9, "replay": False,
    }  # fmt: skip
    text = orjson.dumps(state)
    found, broken = StateCache(StoredSeries).parse({b"%d" % n: text for n in range(MAX_SERIES)})
    assert (len(found), broken) == (MAX_SERIES, 0)
    assert 1.5 * MAX_SERIES * len(text) < STATE_BYTES
    assert MAX_PAUSABLE >= MAX_SERIES
    assert MAX_STATES >= MAX_SERIES >= 2 * SYMBOLS
