"""sources on real buses, with stand-ins for two of its sources: cascade, gate, operators, kills."""

import time
from collections import Counter
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from healer.service_alert import parse_service_alert
from marketswarm.agent.outage_state import RULES
from marketswarm.keys import (
    MARKET_ALERTS,
    MARKET_BARS,
    MARKET_DOWNLOADS,
    MARKET_SERIES,
    MARKET_SOURCES,
    PRELOAD_STATUS,
    bar_marks_key,
    source_breaker_key,
)
from support import recordings
from support.rig.receiver import Answer, Receiver
from support.rig.shell import Shell
from support.scenes.agent import Scene, seed
from support.waiting import until

pytestmark = pytest.mark.live
SERIES = "BTC/USD:bars:1m"


class StandIn:
    """Answers as Kraken and as Binance US do, about a market whose prices follow from the minute."""

    def __init__(self, site, shape):
        self.shape, self.refusal, self.behind_sec = shape, None, 0
        site.choose = self.answer

    def answer(self, request):
        if self.refusal is not None:
            return self.refusal
        asked = {name: values[-1] for name, values in parse_qs(urlsplit(request.path).query).items()}
        return getattr(self, f"answer_as_{self.shape}")(asked)

    def minutes(self):
        now = int(time.time() - self.behind_sec) // 60 * 60
        return [(at, 100 + at // 60 % 10) for at in range(now - 3600, now + 60, 60)]

    def answer_as_kraken(self, _asked):
        rows = [[at, str(p), str(p + 2), str(p - 1), str(p + 1), str(p), "10", 4] for at, p in self.minutes()]
        return Answer(200, {}, orjson.dumps({"error": [], "result": {"XXBTZUSD": rows, "last": 0}}))

    def answer_as_binance_us(self, _asked):
        rows = [
            [
                1000 * at,
                str(p),
                str(p + 2),
                str(p - 1),
                str(p + 1),
                "10",
                1000 * at + 59_999,
                "1",
                4,
                "1",
                "1",
                "0",
            ]
            for at, p in self.minutes()
        ]
        return Answer(200, {}, orjson.dumps(rows))


class SourcesScene(Scene):
    """Two buses, two stand-ins, and the truth that names them."""

    def __init__(self, folder, sites):
        super().__init__(folder)
        self.sites = sites
        self.kraken, self.binance = StandIn(sites[0], "kraken"), StandIn(sites[1], "binance_us")
        self.urls = {
            name: f"http://127.0.0.1:{site.port}"
            for name, site in zip(("kraken", "binance_us"), sites, strict=True)
        }
        self.revision = 0

    def wish(self, *endpoints, replicas=1, **settings):
        self.revision += 1
        section = {
            "replicas": replicas,
            "heartbeat": {"interval_sec": 0.2, "timeout_sec": 5},
            "endpoints": endpoints or (bitcoin(),),
            "settings": settings,
        }
        seed(self.buses, {"services": {"sources": section}}, self.revision)

    def sources(self, **env):
        return self.module("services.sources", SOURCES_BASE_URLS=orjson.dumps(self.urls).decode(), **env)

    def gate(self, **env):
        return self.module("services.sources.gate", SOURCES_BASE_URLS=orjson.dumps(self.urls).decode(), **env)

    def state(self, series=SERIES):
        raw = self.market.cmd("HGET", MARKET_SERIES, series)
        return orjson.loads(raw) if raw else {}

    def source(self, name):
        raw = self.market.cmd("HGET", MARKET_SOURCES, name)
        return orjson.loads(raw) if raw else {}

    def told(self):
        return f"{self.state()}; {self.programs[-1].text() if self.programs else ''}"

    def events(self):
        """The events on the stream of alerts, each of which the healer takes."""
        rule = next(rule for rule in RULES if rule.stream == MARKET_ALERTS)
        entries = self.system.cmd("XRANGE", MARKET_ALERTS, "-", "+")
        return [parse_service_alert(rule, fields["event"].encode()) for _, fields in entries]

    def command(self, *words):
        """Run `marketswarm source …`; return what came of it."""
        (self.folder / "shell").mkdir(exist_ok=True)
        shell = Shell(self.folder / "shell")
        return shell("source", *words, **self.env, COLUMNS="200")

    def resume(self, name):
        self.market.cmd("DEL", source_breaker_key(name))

    def bars(self):
        return [fields for _, fields in self.market.cmd("XRANGE", MARKET_BARS, "-", "+", within=10.0)]

    def served_by(self, name, status="fresh"):
        until(
            lambda: (self.state().get("serving"), self.state().get("status")) == (name, status),
            what=self.told,
        )


def bitcoin(**more):
    return {
        "symbol": "BTC/USD",
        "asset": "crypto",
        "from": ["kraken", "binance_us"],
        "max_age_sec": 300,
        "every_sec": 0.3,
        "critical": True,
        **more,
    }


@pytest.fixture
def scene(tmp_path):
    with Receiver() as one, Receiver() as two, SourcesScene(tmp_path, (one, two)) as scene:
        yield scene


def test_the_first_source_serves_with_provenance_and_each_record_once(scene):
    scene.wish()
    agent = scene.sources()
    scene.served_by("kraken")
    loads = len(scene.sites[0].seen)
    until(lambda: len(scene.sites[0].seen) >= loads + 3, what="further loads")
    bars = scene.bars()
    assert set(Counter(bar["start"] for bar in bars).values()) == {1}
    assert len(bars) in (60, 61, 62)
    assert int(max(bar["start"] for bar in bars)) + 60_000 <= 1000 * time.time(), "a bar that is not over"
    first = bars[0]
    assert (first["sym"], first["asset"], first["timeframe"], first["source"]) == (
        "BTC/USD",
        "crypto",
        "1m",
        "kraken",
    )
    assert len(first["digest"]) == 64
    assert abs(float(first["asked_at"]) - time.time()) < 60
    assert scene.sites[1].seen == []
    row = scene.market.cmd("XRANGE", MARKET_DOWNLOADS, "-", "+")[0][1]
    assert (row["series"], row["outcome"], row["status"], row["records"]) == (SERIES, "ok", "200", "61")
    beat = scene.wait_beat(svc="sources", detail="1 series: 1 fresh")
    assert beat["status"] == "ok"
    assert agent.stop() == 0
    assert "Traceback" not in agent.text()


def test_a_source_that_breaks_is_replaced_at_once_missed_and_takes_its_place_again(scene):
    scene.wish()
    agent = scene.sources()
    scene.served_by("kraken")
    scene.kraken.refusal = Answer(500)
    scene.served_by("binance_us")
    assert scene.state()["reason"] == "kraken failed"
    assert set(Counter(bar["start"] for bar in scene.bars()).values()) == {1}, "a bar of both sources"
    until(lambda: scene.source("kraken").get("state") == "down")
    until(lambda: [event.type for event in scene.events()] == ["source_miss"])
    assert scene.state()["reason"] in ("kraken failed", "kraken breaker_open")
    scene.kraken.refusal = None
    scene.resume("kraken")
    scene.served_by("kraken")
    until(lambda: [event.type for event in scene.events()] == ["source_miss", "source_ok"])
    miss, ok = scene.events()
    assert (miss.svc, miss.reason, miss.detail) == (
        "source:kraken",
        "500",
        "meanwhile binance_us serves BTC/USD:bars:1m",
    )
    assert ok.since == miss.since
    assert [(line["was"], line["now"]) for line in agent.logs("series.switched")] == [
        ("", "kraken"),
        ("kraken", "binance_us"),
        ("binance_us", "kraken"),
    ]


def test_each_source_is_loaded_for_itself_beside_the_cascade_and_one_that_fails_ends_no_other(scene):
    own = [bitcoin(**{"from": [name], "separate": True, "critical": False}) for name in scene.urls]
    names = {"BTC/USD": "kraken"} | {f"BTC/USD@{name}": name for name in scene.urls}

    def count():
        return Counter((bar["sym"], bar["source"]) for bar in scene.bars())

    scene.wish(bitcoin(), *own)
    agent = scene.sources()
    until(lambda: set(count()) == set(names.items()), what=scene.told)
    states = {name: scene.state(f"{SERIES}@{name}") for name in scene.urls}
    assert {name: state["serving"] for name, state in states.items()} == {name: name for name in scene.urls}
    until(lambda: len(set(count().values())) == 1, what=lambda: str(count()))
    agent.kill()
    scene.kraken.refusal = Answer(500)
    scene.sources()
    scene.served_by("binance_us")  # of the cascade
    until(
        lambda: (
            scene.state(f"{SERIES}@kraken")["attempts"]["kraken"]["verdict"] in ("failed", "breaker_open")
        ),
        what=scene.told,
    )
    assert scene.state(f"{SERIES}@binance_us")["status"] == "fresh"
    assert max(Counter((bar["sym"], bar["start"]) for bar in scene.bars()).values()) == 1, "after a restart"
    # a truth without these series forgets them
    scene.wish(bitcoin())
    until(lambda: not scene.state(f"{SERIES}@binance_us"), what=scene.told)


def test_an_operator_takes_a_source_out_of_service_and_into_it_again(scene):
    scene.wish()
    scene.sources()
    scene.served_by("kraken")
    until_resumed = "kraken is out of service until `marketswarm source resume`\n"
    assert scene.command("pause", "kraken").stdout == until_resumed
    scene.served_by("binance_us")
    asked, loads = len(scene.sites[0].seen), len(scene.sites[1].seen)
    lines = scene.command("status").stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["binance_us", "up"], ["kraken", "paused"]]
    assert lines[-1].split()[:3] == [SERIES, "fresh", "binance_us"]
    assert lines[-1].endswith("kraken paused")
    of_kraken = orjson.loads(scene.command("status", "--source", "kraken", "--late", "--json").stdout)
    assert [each["name"] for each in of_kraken["sources"]] == ["kraken"]
    assert of_kraken["series"] == [], "the only one is fresh"
    until(lambda: len(scene.sites[1].seen) > loads + 2, what="further loads")
    assert len(scene.sites[0].seen) == asked
    scene.command("resume", "kraken")
    scene.served_by("kraken")
    # much longer than a load waits for the source's limit of a request a second
    assert scene.command("pause", "kraken", "--for", "4s").stdout == "kraken is out of service for 4 s\n"
    scene.served_by("binance_us")
    scene.served_by("kraken")
    refused = scene.command("pause", "krakn")
    assert refused.returncode == 2
    assert "no series of the truth names krakn; did you mean kraken?" in refused.stderr


def test_the_gate_opens_when_enough_is_there_and_says_what_is_not(scene):
    others = {"symbol": "ETH/USD", "asset": "crypto", "kind": "quotes", "from": ["binance_us"]}
    scene.wish(bitcoin(), others, gate={"share": 0.5, "patience_sec": 0})
    gate = scene.gate()
    assert gate.wait(60) == 0, gate.text()
    assert gate.logs("gate.open")[-1]["loaded"] == 1
    status = orjson.loads(scene.market.cmd("GET", PRELOAD_STATUS))
    assert (status["state"], status["total"], status["loaded"]) == ("open", 2, 1)
    assert [(each["series"], each["status"]) for each in status["failed"]] == [("ETH/USD:quotes", "failed")]
    assert len(scene.bars()) >= 60


def test_the_gate_stays_closed_without_a_critical_series_or_too_few(scene):
    scene.kraken.refusal, scene.binance.refusal = Answer(500), Answer(200, {}, b"<html>")
    scene.wish(gate={"share": 0, "patience_sec": 0})
    gate = scene.gate()
    assert gate.wait(60) == 1
    (closed,) = gate.logs("gate.closed")
    assert (closed["loaded"], closed["needed"], closed["critical"]) == (0, 0, [SERIES])
    assert closed["worst"][0].startswith(f"{SERIES} failed: kraken failed (500), binance_us failed (no json")
    assert "BTC/USD:bars:1m  failed  kraken failed (500), binance_us failed (no json" in gate.text()
    status = orjson.loads(scene.market.cmd("GET", PRELOAD_STATUS))
    assert (status["state"], status["failed"][0]["critical"]) == ("closed", True)
    scene.wish(bitcoin(critical=False), gate={"share": 0.8, "patience_sec": 0})
    assert scene.gate().wait(60) == 1


def test_the_gate_ends_in_time_while_a_source_does_not_answer(scene):
    scene.kraken.refusal = Answer(hang=True)
    scene.wish(bitcoin(), bitcoin(symbol="ETH/USD", **{"from": ["binance_us"]}), gate={"timeout_sec": 5})
    gate = scene.gate()
    assert gate.wait(15) == 1, gate.text()
    assert gate.logs("gate.closed")[-1]["loaded"] == 1
    assert gate.logs("gate.loading")[-1]["total"] == 2
    assert f"{SERIES}  not loaded  the time was over  critical" in gate.text()


def test_a_reseed_forgets_what_is_no_longer_named_and_ends_its_outage(scene):
    scene.wish()
    scene.kraken.refusal = Answer(500)
    scene.sources()
    until(lambda: scene.source("kraken").get("state") == "down", 40, scene.told)
    scene.wish(bitcoin(**{"symbol": "ETH/USD", "from": ["binance_us"]}))
    # a load that ran meanwhile stores its series again, until the next look
    until(lambda: scene.market.cmd("HKEYS", MARKET_SERIES) == ["ETH/USD:bars:1m"], 60, scene.told)
    until(
        lambda: [event.type for event in scene.events()] == ["source_miss", "source_unwatched"],
        60,
        scene.told,
    )


def test_minutes_of_stocks_come_over_massives_own_stream_while_that_is_fresh(scene):
    now_ms = round(1000 * time.time())
    scene.market.cmd("HSET", bar_marks_key(MARKET_BARS), "SPY", now_ms - 60_000, "QQQ", now_ms - 3_600_000)
    scene.wish(
        {
            "symbols": ["SPY", "QQQ", "IBM"],
            "from": ["massive"],
            "session": "24x7",
            "max_age_sec": 300,
            "every_sec": 0.3,
        }
    )
    scene.sources()
    for symbol, status, verdict in (
        ("SPY", "fresh", "fresh"),
        ("QQQ", "late", "late"),
        ("IBM", "empty", "empty"),
    ):
        name = f"{symbol}:bars:1m"
        until(lambda name=name, status=status: scene.state(name).get("status") == status, what=scene.told)
        assert scene.state(name)["attempts"]["massive"]["verdict"] == verdict
    assert scene.state("SPY:bars:1m")["newest_ms"] == now_ms - 60_000
    assert scene.bars() == []
    assert scene.market.cmd("XLEN", MARKET_DOWNLOADS) == 0


def test_a_recording_is_played_by_its_own_time_marked_and_another_source_of_it_takes_over(scene, tmp_path):
    minutes = [recordings.bar(recordings.PLAY_FROM_MS + n * 60_000, 9 + n % 3) for n in range(-30, 120)]
    path = recordings.write(tmp_path, *minutes)
    scene.wish(
        {"symbol": "SPY", "from": ["replay_a", "replay_b"], "every_sec": 60, "critical": True},
        replay={"file": path.name, "speed": 60, "names": ["replay_a", "replay_b"]},
    )
    gate = scene.gate()
    assert gate.wait(60) == 0, gate.text()
    begun = len(scene.bars())
    assert begun >= 30
    scene.sources()
    name = "SPY:bars:1m"
    until(lambda: len(scene.bars()) >= begun + 3, what=scene.told)
    bars = scene.bars()
    starts = [int(bar["start"]) for bar in bars]
    assert starts == list(range(starts[0], starts[0] + 60_000 * len(starts), 60_000)), (
        "each minute once, in order"
    )
    assert {bar["replay"] for bar in bars} == {"1"}
    assert all(int(bar["end"]) <= 1000 * float(bar["played_at"]) for bar in bars), "nothing of its future"
    state = scene.state(name)
    assert (state["status"], state["serving"], state["replay"]) == ("fresh", "replay_a", True)
    played = scene.market.cmd("XRANGE", MARKET_DOWNLOADS, "-", "+")
    assert {(row["source"], row["status"], row["replay"]) for _, row in played} == {("replay_a", "200", "1")}
    assert scene.command("pause", "replay_a").returncode == 0
    until(lambda: scene.state(name)["serving"] == "replay_b", what=scene.told)
    assert scene.state(name)["reason"] == "replay_a paused"
    scene.wait_beat(svc="sources", status="ok", detail="1 series: 1 fresh")
