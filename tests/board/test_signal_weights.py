"""A signal is shown with the weights and thresholds that were in force, whatever the truth says now."""

import asyncio
from dataclasses import replace

import httpx
import pytest

from marketswarm.keys import SIGNALS_LOG
from services.signals.consensus.consensus import UNIT, ConsensusRules
from services.signals.cycle.decide import TickRules
from services.signals.cycle.states import ThriftRules
from services.signals.cycle.tick_rules import encode_rules
from services.signals.log.merkle import hash_entry
from support.market_board import open_market, publishes, run_apart
from support.signal_rows import ENDPOINTS, SCORE, VOTES, make_content, make_rows, make_tick, seed_signals

PLAIN = {name: {key: each for key, each in one.items() if key != "weight"} for name, one in VOTES.items()}
WEIGHTS = {each["voter"]: round(each["weight"] * UNIT) for each in ENDPOINTS}
RULES = encode_rules(TickRules(ConsensusRules(WEIGHTS, enter=UNIT // 4), (), ThriftRules("1m", 0.005)))
NOW = {"signals": {**publishes(SIGNALS_LOG), "endpoints": [{**each, "weight": 1} for each in ENDPOINTS]}}
"""The truth was seeded again since, with equal weights."""
TICKS = (
    make_tick(1, make_content("SPY", 1, votes=PLAIN)),
    replace(make_tick(2, make_content("SPY", 2, votes=PLAIN)), rules=RULES),
)
OLD, NAMED = (row.ident for tick in TICKS for row in make_rows(tick))


@pytest.fixture(scope="module")
def market(postgres, tmp_path_factory):
    url = run_apart(postgres.new_archive)
    run_apart(asyncio.run, seed_signals(url, TICKS))
    with open_market(tmp_path_factory.mktemp("weights"), url, services=NOW) as market:
        yield market


def read(market, ident):
    return market.get(f"/api/v1/signals/{ident}").json()["signal"]


def test_a_signal_that_names_its_rules_has_the_weights_of_then(market):
    one = read(market, NAMED)
    assert {each["voter"]: each["weight"] for each in one["votes"]} == {
        "trend": "0.4", "breakout": "0.25", "reversion": "0.2", "xai_grok": "0.15",
    }  # fmt: skip
    assert (one["sum"]["score"], one["sum"]["adds_up"], one["sum"]["weights_of"]) == (SCORE, True, "rules")
    assert one["made_by"]["rules"] == hash_entry(RULES).hex()
    assert (one["rules"]["enter"], one["rules"]["quorum"]) == ("0.250000000000", "0.5")
    page = market.get(f"/market/signals/{NAMED}").text
    for text in ("which is the score", "in force when it was decided", "Settings in force then", "0.25"):
        assert text in page, text


def test_an_older_one_is_weighed_by_the_truth_of_now_and_says_so(market):
    one = read(market, OLD)
    assert one["rules"] is None
    assert (one["sum"]["weights_of"], one["sum"]["adds_up"]) == ("truth", False)
    page = market.get(f"/market/signals/{OLD}").text
    assert "these are the ones that the truth has now" in page
    assert "Settings in force then" not in page
    assert httpx.get(f"{market.url}/market/signals/{OLD}").status_code == 200
