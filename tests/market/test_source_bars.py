"""Bars that are loaded from one source for itself, and its voters: on real buses and a real PostgreSQL."""

import asyncio
import contextlib
import time
from dataclasses import replace

import orjson
import pytest
import redis

from marketswarm.access.passwords import DATABASE_SIGNALS
from marketswarm.agent.service_config import require_config
from marketswarm.truth import parse_truth
from services.market.actions import find_day
from services.market.entries import encode_entry
from services.market.records import (
    DAY_MS,
    MINUTE_MS,
    ActionKind,
    AssetClass,
    Bar,
    CorporateAction,
    Provenance,
)
from services.market.separate import join_source
from services.signals.leader import make_rules
from services.signals.proofs.explain import read_inputs
from services.signals.proofs.recompute import RecomputeResult, recompute_place
from services.signals.settings import SignalsSettings
from services.signals.store.database import SignalDatabase
from support.fixtures import opened
from support.postgres import query
from support.scenes.agent import Scene, seed
from support.waiting import until

SYMBOL = "BTC/USD"
COUNT = 40
ROWS = "select encode(hash, 'hex'), content from signals order by tick"
STORED = "select count(*) from source_bars where symbol = 'BTC/USD' and timeframe = '1m' and final"


def truth(**weights):
    """Two voters that are held to a source, and one that sees what all have; `gemini` has no bars."""
    series = [{"symbol": SYMBOL, "asset": "crypto", "from": ["bitstamp", "kraken"]}]
    series += [
        {"symbol": SYMBOL, "asset": "crypto", "separate": True, "from": [source]}
        for source in ("kraken", "coinbase", "gemini")
    ]
    voters = [{"voter": "all", "rule": "trend", "weight": 1}]
    for source in ("kraken", "coinbase", "gemini"):
        weight = weights.get(source, 1)
        voters.append({"voter": source, "rule": "trend", "source": source, "weight": weight})
    return {
        "services": {
            "sources": {"endpoints": series},
            "bars": {"heartbeat": {"interval_sec": 0.2, "timeout_sec": 3}},
            "archive": {"heartbeat": {"interval_sec": 0.2, "timeout_sec": 3}},
            "signals": {
                "heartbeat": {"interval_sec": 0.2, "timeout_sec": 3},
                "endpoints": voters,
                "settings": {"cycle_sec": 0.3, "enter": 0.05, "leave": 0.02, "cooldown_sec": 0},
            },
        }
    }


class SourceBarsScene(Scene):
    """A scene with minutes of several sources, and what bars and signals made of them."""

    def __enter__(self):
        super().__enter__()
        self.client = redis.Redis.from_url(self.market.url, decode_responses=True)
        # all are over, and none expires
        self.first_ms = int(time.time() * 1000) // MINUTE_MS * MINUTE_MS - (COUNT + 2) * MINUTE_MS
        return self

    def __exit__(self, *about):
        self.client.close()
        super().__exit__(*about)

    def walk(self, move):
        closes = [100.0 + move * number for number in range(COUNT)]
        starts = [self.first_ms + number * MINUTE_MS for number in range(COUNT)]
        return [
            Bar(SYMBOL, "1m", start, close, close + 0.01, close - 0.01, close, volume=5.0)
            for start, close in zip(starts, closes, strict=True)
        ]

    def publish(self, bars, source, name=SYMBOL):
        """Publish bars as sources does that asked their source just now."""
        pipe = self.client.pipeline(transaction=False)
        for bar in bars:
            fields = encode_entry(bar, AssetClass.CRYPTO, Provenance(source, time.time()))
            pipe.xadd("market:bars", fields | {"sym": name})
        pipe.execute()

    def publish_all(self):
        self.publish(self.walk(0.0), "bitstamp")
        self.publish(self.walk(0.02), "kraken", join_source(SYMBOL, "kraken"))
        self.publish(self.walk(-0.02), "coinbase", join_source(SYMBOL, "coinbase"))

    def places(self):
        return [(ident, orjson.loads(content)) for ident, content in query(self.database_url, ROWS)]

    def wait_for(self, what, wanted):
        """Wait until a place is wanted; return its id and its votes."""

        def find():
            found = [(ident, each["votes"]) for ident, each in self.places() if "votes" in each]
            return next((pair for pair in reversed(found) if wanted(pair[1])), None)

        return until(find, 60, lambda: f"{what}, not {self.places()[-1:]}; {self.programs}")

    def explain(self, ident, document):
        """Decide a stored place once more from what is stored."""
        section = parse_truth(orjson.dumps(document)).truth.services["signals"]
        rules = make_rules(require_config(SignalsSettings, "signals", section))

        async def read():
            async with contextlib.aclosing(SignalDatabase(self.database_url)) as database:
                return await read_inputs(database, ident)

        inputs = asyncio.run(read())
        return recompute_place(inputs.signal.content.encode(), inputs.signal.at, inputs.bars, rules)


scene = opened(lambda tmp_path: SourceBarsScene(tmp_path))


@pytest.fixture(autouse=True)
def _databases(scene, postgres, archive_url):
    scene.archive_url = archive_url
    scene.database_url = scene.env["SIGNALS_DATABASE_URL"] = postgres.url_as(DATABASE_SIGNALS, archive_url)


def directions(votes):
    return {name: vote.get("direction") for name, vote in votes.items()}


def test_each_voter_sees_its_own_source_and_a_correction_changes_one_alone_over_a_restart_and_a_reseed(scene):
    seed(scene.buses, truth(), 1)
    scene.module("services.bars")
    scene.module("services.archive", DATABASE_URL=scene.archive_url)
    signals = scene.module("services.signals")
    scene.publish_all()
    first, votes = scene.wait_for(
        "three voters that vote",
        lambda votes: directions(votes) == {"all": 0, "kraken": 1, "coinbase": -1, "gemini": None},
    )
    assert votes["gemini"] == {"abstained": "too_few_bars"}  # the source that is away costs its voter alone
    for source in ("kraken", "coinbase"):
        bars = votes[source]["bars"]
        assert (bars["source"], bars["separate"], bars["count"]) == (source, True, COUNT)

    # what all have is as without the others
    merged = [fields for _, fields in scene.client.xrange("bars:bars")]
    assert {fields["sym"] for fields in merged} == {SYMBOL}
    assert {fields["source"] for fields in merged} == {"bitstamp"}
    assert {fields["sym"] for _, fields in scene.client.xrange("bars:indicators")} == {SYMBOL}
    own = {(each["sym"], each["source"]) for _, each in scene.client.xrange("bars:source_bars")}
    assert own == {(join_source(SYMBOL, source), source) for source in ("kraken", "coinbase")}
    assert scene.client.xlen("market:quarantine") == 0

    # coinbase says something else about its last minutes
    up = [replace(bar, close=100.4, high=100.41, open=100.4) for bar in scene.walk(-0.02)[-15:]]
    scene.publish(up, "coinbase", join_source(SYMBOL, "coinbase"))
    corrected, after = scene.wait_for(
        "the corrected vote",
        lambda votes: directions(votes) == {"all": 0, "kraken": 1, "coinbase": 1, "gemini": None},
    )
    assert after["coinbase"]["bars"]["digest"] != votes["coinbase"]["bars"]["digest"]
    assert {name: after[name] for name in ("all", "kraken")} == {
        name: votes[name] for name in ("all", "kraken")
    }

    # each is decided once more from what the archive has, or what was corrected is named
    until(lambda: query(scene.archive_url, STORED) == [(2 * COUNT,)], 30, lambda: f"rows; {scene.programs}")
    rows = query(scene.archive_url, "select distinct source from bars")
    assert rows == [("bitstamp",)], "the table of all has none of them"
    until(lambda: scene.explain(corrected, truth()).result is RecomputeResult.SAME, 30, "the same bytes")
    changed = scene.explain(first, truth())
    assert changed.result is RecomputeResult.BARS_CHANGED
    assert changed.words == f"its {COUNT} 1m bars of coinbase were corrected since"

    # another revision and another process: the votes are those of before
    signals.kill()
    count = len(scene.places())
    seed(scene.buses, truth(kraken=2), 2)
    scene.module("services.signals")
    until(lambda: len(scene.places()) > count, 60, lambda: f"a place more; {scene.programs}")
    ident, place = scene.places()[-1]
    assert place["votes"] == after
    assert scene.explain(ident, truth(kraken=2)).result is RecomputeResult.SAME
    query(scene.archive_url, "delete from source_bars where source = 'kraken' returning 1")
    gone = scene.explain(ident, truth(kraken=2))
    assert (gone.result, gone.words) == (
        RecomputeResult.BARS_GONE,
        f"{COUNT} of its {COUNT} 1m bars of kraken are gone",
    )


def test_bars_of_another_source_and_a_reseed_that_loads_none_of_it_for_itself(scene):
    seed(scene.buses, truth(), 1)
    scene.module("services.bars")
    scene.module("services.signals")
    scene.publish(scene.walk(-0.02), "kraken", join_source(SYMBOL, "coinbase"))  # not those of its name
    scene.publish_all()
    scene.wait_for("votes of both", lambda votes: directions(votes)["coinbase"] == -1)
    found = [fields for _, fields in scene.client.xrange("market:quarantine")]
    assert {(each["check"], each["sym"], each["why"]) for each in found} == {
        ("schema", join_source(SYMBOL, "coinbase"), "source: not that of its sym")
    }
    assert len(found) == COUNT
    # without the series a voter sees what all have of its source, which is nothing
    document = truth()
    document["services"]["sources"]["endpoints"] = document["services"]["sources"]["endpoints"][:2]
    seed(scene.buses, document, 2)
    scene.wait_for(
        "a voter of kraken alone",
        lambda votes: directions(votes) == {"all": 0, "kraken": 1, "coinbase": None, "gemini": None},
    )


def test_a_split_of_the_symbol_is_one_of_the_bars_of_each_source(scene):
    """Without it the fall to a quarter would be a jump, and go to the quarantine."""
    seed(scene.buses, truth(), 1)
    today_ms = int(time.time() * 1000) // DAY_MS * DAY_MS
    days = [today_ms - number * DAY_MS for number in range(30, 0, -1)]
    bars = [
        Bar(SYMBOL, "1d", start, close, close + 1, close - 1, close)
        for start, close in zip(days, [400.0] * 25 + [100.0] * 5, strict=True)
    ]
    split = CorporateAction(SYMBOL, ActionKind.SPLIT, find_day(days[25]), ratio=4.0)
    scene.client.xadd("market:actions", encode_entry(split, AssetClass.STOCKS, Provenance("test")))
    scene.module("services.bars")

    def publish(several):
        scene.publish(several, "kraken", join_source(SYMBOL, "kraken"))
        known = {str(bar.start_ms) for bar in several}

        def read():
            entries = [each for _, each in scene.client.xrange("bars:source_bars")]
            return known <= {each["start"] for each in entries if each["timeframe"] == "1d"}

        until(read, 30, lambda: f"{len(several)} days; {scene.client.xrange('market:quarantine')}")

    publish(bars[:25])  # the split is known when these are
    publish(bars[25:])
    assert scene.client.xlen("market:quarantine") == 0
