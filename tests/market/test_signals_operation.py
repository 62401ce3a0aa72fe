"""signals on real buses and a real PostgreSQL, as its operator sees it: the dashboard, and a shadow."""

import random
import time

import orjson
import pytest
import redis

from marketswarm.access.passwords import DATABASE_SIGNALS
from services.market.entries import encode_entry
from services.market.records import MINUTE_MS, AssetClass, Bar, Provenance
from services.tables.signal_shadow import parse_shadow
from support.dashboards import find_empty, list_queries
from support.fixtures import opened
from support.pages import ROOT
from support.rig import free_port
from support.rig.metrics import Prometheus, answers, key, samples
from support.scenes.agent import Scene, seed
from support.waiting import until

SYMBOLS = ("BTC/USD", "ETH/USD", "SOL/USD")
RULES = (ROOT / "deploy/prometheus/rules.yml").read_text(encoding="utf-8")
DASHBOARD = ("signals",)
OUTSIDE = ("Opinions without a call", "How long they take", "Questions without a vote", "Votes from caches")
OUTSIDE += ("Questions", "What became of them", "Breakers that are not closed")
WITNESSED = ("Newest checkpoint", "Newest cosignature", "Age of checkpoint and cosignature")


def truth(**settings):
    voters = [{"voter": name, "rule": name, "weight": 1} for name in ("trend", "breakout", "reversion")]
    beats = {"interval_sec": 0.2, "timeout_sec": 3}
    return {
        "services": {
            "bars": {
                "heartbeat": {"interval_sec": 10},
                "endpoints": [{"symbols": SYMBOLS, "asset": "crypto"}],
            },
            "signals": {
                "heartbeat": beats,
                "endpoints": voters,
                "settings": {"cycle_sec": 0.3, "enter": 0.05, "leave": 0.02, **settings},
            },
        }
    }


class OperatedSignals(Scene):
    """signals over bars that go up and down, with metrics."""

    def __enter__(self):
        super().__enter__()
        self.client = redis.Redis.from_url(self.market.url)
        self.chance, self.port = random.Random(7), free_port()
        self.next_ms = int(time.time() * 1000) // MINUTE_MS * MINUTE_MS - 42 * MINUTE_MS
        return self

    def __exit__(self, *about):
        self.client.close()
        super().__exit__(*about)

    def move(self):
        """Publish a bar of the last minute for each symbol, which corrects the one before."""
        for symbol in SYMBOLS:
            close = round(100 + self.chance.uniform(-5, 5), 2)
            bar = Bar(symbol, "1m", self.next_ms, close, close + 0.1, close - 0.1, close, volume=5.0)
            fields = encode_entry(bar, AssetClass.CRYPTO, Provenance("test"))
            self.client.xadd("bars:bars", {**fields, "final": "1"})

    def start(self, **settings):
        seed(self.buses, truth(**settings), 1)
        for _ in range(40):
            self.next_ms += MINUTE_MS
            self.move()
        self.process = self.module("services.signals", METRICS_PORT=str(self.port))
        until(lambda: answers(self.port) and self.measure("leading") == 1, what=lambda: str(self.process))

    def measure(self, name):
        return samples(self.port).get(key(f"signals_{name}"))


scene = opened(lambda tmp_path: OperatedSignals(tmp_path))


@pytest.fixture(autouse=True)
def _database(scene, postgres, archive_url):
    scene.env["SIGNALS_DATABASE_URL"] = postgres.url_as(DATABASE_SIGNALS, archive_url)


@pytest.mark.needs("prometheus")
def test_each_query_of_the_dashboard_has_an_answer_from_signals_that_run(scene, tmp_path):
    scene.start()
    with Prometheus(tmp_path / "prometheus", [scene.port], RULES) as prometheus:

        def list_missing():
            scene.move()  # so that there is something to evaluate
            empty, refused = find_empty(prometheus, list_queries(DASHBOARD))
            assert not refused, refused
            return [one for one in empty if one.panel not in (*OUTSIDE, *WITNESSED)]

        until(lambda: not list_missing(), 60, lambda: f"a series for each: {list_missing()}; {scene.process}")
        assert ("NoTickDecided", "") not in prometheus.alerts()


def test_the_panels_about_others_are_panels_that_there_are():
    assert {*OUTSIDE, *WITNESSED} <= {one.panel for one in list_queries(DASHBOARD)}


def test_a_shadow_decides_the_same_ticks_and_a_reseed_switches_to_it_and_back(scene):
    trial = {
        "name": "trial",
        "voters": [{"voter": "only", "rule": "reversion", "weight": 1}],
        "least_votes": 1,
    }
    scene.start(shadow=trial)

    def read_report():
        scene.move()
        return parse_shadow(scene.client.get("signals:shadow"))

    report = until(lambda: (found := read_report()) and found.evaluated >= 3 and found, 60, scene.process)
    assert report.name == "trial"
    assert report.evaluated == report.same + sum(report.counts.values())
    assert 0 < scene.client.pttl("signals:shadow") <= 60_000
    votes = {name for _, fields in scene.client.xrange("signals:log") for name in list_voters(fields)}
    assert votes == {"trend", "breakout", "reversion"}, "what is in the shadow is in no entry of the log"

    switched = truth()
    switched["services"]["signals"]["endpoints"] = [{"voter": "only", "rule": "reversion", "weight": 1}]
    switched["services"]["signals"]["settings"]["least_votes"] = 1
    seed(scene.buses, switched, 2)
    wait_for_voters(scene, {"only"})
    seed(scene.buses, truth(shadow=trial), 3)
    wait_for_voters(scene, {"trend", "breakout", "reversion"})
    ticks = [int(fields[b"tick"]) for _, fields in scene.client.xrange("signals:log")]
    assert ticks == sorted(ticks), "neither switch loses or repeats a tick"
    assert not scene.process.logs("ticks.missed")


def list_voters(fields):
    return set(orjson.loads(fields[b"content"]).get("votes", {}))


def wait_for_voters(scene, voters):
    def is_decided_by():
        scene.move()
        newest = scene.client.xrevrange("signals:log", count=1)
        return newest and list_voters(newest[0][1]) == voters

    until(is_decided_by, 60, lambda: f"a place by {voters}; {scene.process}")
