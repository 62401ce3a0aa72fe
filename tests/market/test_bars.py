"""bars on real buses: reseeds, bad records, losses of the bus, features, replays."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import orjson
import pytest
import redis
import typer
from typer.testing import CliRunner

from marketswarm.exit import Code, Exit
from marketswarm.keys import bars_state_key
from services.bars import commands
from services.bars.bar_table import BarTable, SourceNames
from services.bars.features import DailyBar, compute_features
from services.bars.quality import HeldBar
from services.bars.state import chunk_field
from services.market.records import DAY_MS, AssetClass, Bar
from services.market.sessions import get_session
from support.fixtures import opened
from support.scenes.agent import Scene, seed
from support.scenes.bars import (
    MIDNIGHT,
    MINUTE,
    SymbolScene,
    arrival,
    assert_same_as_batch,
    bars_of,
    fields_of,
    find_rank,
    keep_newest,
    walk,
)
from support.waiting import until

SYMBOLS = ("BTC/USD", "ETH/USD", "SOL/USD")
CRYPTO = get_session("24x7")
OUTPUTS = ("bars:bars", "bars:indicators")
LAST_ID = "18446744073709551615-18446744073709551615"


def truth(symbols=SYMBOLS, group=None, **settings):
    points = [{"bus": "market-redis", "key": "market:bars"}, {"bus": "market-redis", "key": "market:quotes"}]
    return {
        "services": {
            "bars": {
                "heartbeat": {"interval_sec": 0.2, "timeout_sec": 3},
                "access_points": {"subscribe_to": points},
                "endpoints": [{"symbols": list(symbols), "asset": "crypto", **(group or {})}],
                "settings": settings,
            }
        }
    }


class BarsScene(Scene):
    """A scene with minutes to publish, and all that was published read back."""

    def __enter__(self):
        super().__enter__()
        self.client = redis.Redis.from_url(self.market.url, decode_responses=True)
        return self

    def __exit__(self, *about):
        self.client.close()
        super().__exit__(*about)

    def publish(self, bars, **more):
        pipe = self.client.pipeline(transaction=False)
        for bar in bars:
            pipe.xadd("market:bars", fields_of(bar, **more))
        pipe.execute()

    def read(self, stream, symbol):
        return [fields for _, fields in self.client.xrange(stream) if fields["sym"] == symbol]

    def shown(self, stream, symbol):
        kept = {}
        keep_newest(kept, self.read(stream, symbol))
        return kept

    def wait_for(self, bars, within=30):
        """Wait until the last minute of each symbol is published, and of each the correction."""
        wanted = {bar.symbol: bar for bar in bars}

        def came():
            return all(bar in bars_of(self.shown("bars:bars", sym), "1m") for sym, bar in wanted.items())

        until(came, within, lambda: f"the last of {len(bars)} minutes; {self.programs}")


scene = opened(lambda tmp_path: BarsScene(tmp_path))


def test_a_reseed_changes_symbols_and_timeframes_without_a_restart(scene):
    seed(scene.buses, truth(["BTC/USD"], {"timeframes": ["1m", "1h"], "indicators": ["sma"]}), 1)
    worker = scene.module("services.bars")
    both = [
        bar
        for symbol in SYMBOLS[:2]
        for bar in walk(range(MIDNIGHT, MIDNIGHT + 25 * MINUTE, MINUTE), 1, symbol)
    ]
    scene.publish(both)
    scene.wait_for(both[:25])
    assert scene.read("bars:bars", "ETH/USD") == []
    assert {entry["timeframe"] for entry in scene.read("bars:bars", "BTC/USD")} == {"1m", "1h"}
    assert '"sma_20":' in scene.read("bars:indicators", "BTC/USD")[-1]["values"]
    assert "rsi" not in scene.read("bars:indicators", "BTC/USD")[-1]["values"]
    seed(scene.buses, truth(["ETH/USD"], {"timeframes": ["1m", "5m"]}), 2)
    scene.wait_for(both[25:])  # what was on the stream before it was wanted
    assert {entry["timeframe"] for entry in scene.read("bars:bars", "ETH/USD")} == {"1m", "5m"}
    before = len(scene.read("bars:bars", "BTC/USD"))
    late = walk([MIDNIGHT + 100 * MINUTE], 1, "BTC/USD") + walk([MIDNIGHT + 100 * MINUTE], 1, "ETH/USD")
    scene.publish(late)
    scene.wait_for(late[1:])
    assert len(scene.read("bars:bars", "BTC/USD")) == before
    assert worker.running


def test_bad_records_are_quarantined_and_the_good_ones_among_them_published(scene):
    seed(scene.buses, truth(["BTC/USD"]), 1)
    good = walk(range(MIDNIGHT, MIDNIGHT + 3 * MINUTE, MINUTE))
    scene.client.xadd("market:bars", {"sym": "BTC/USD", "open": "x" * 100_000})
    scene.client.xadd("market:bars", {"sym": "BTC/USD", "open": "\x00"})
    scene.client.xadd("market:bars", {"no": "symbol"})
    scene.publish([good[0], Bar("BTC/USD", "1m", MIDNIGHT + MINUTE, 5, 4, 3, 5), good[1], good[1], good[2]])
    worker = scene.module("services.bars")
    scene.wait_for(good)
    found = [entry["check"] for _, entry in scene.client.xrange("market:quarantine")]
    assert found == ["schema", "price_order", "duplicate"]
    assert worker.running


def test_a_bus_that_was_down_or_lost_its_memory_is_worked_on_from_what_it_has(scene):
    seed(scene.buses, truth(["BTC/USD"]), 1)
    worker = scene.module("services.bars")
    bars = walk(range(MIDNIGHT, MIDNIGHT + 60 * MINUTE, MINUTE))
    scene.publish(bars[:30])
    scene.wait_for(bars[:30])
    scene.market.kill()
    count = scene.wait_beat(svc="bars", status="degraded")["i"]
    scene.wait_beat(svc="bars", status="degraded", i=count + 12)  # it has tried five times
    scene.market.start()
    seed(scene.buses, truth(["BTC/USD"]), 1)
    scene.publish(bars)
    scene.wait_for(bars)
    for failed, back in (
        ("bars.bus_failed", "bars.bus_back"),
        ("bars.features_failed", "bars.features_back"),
    ):
        reasons = [line["reason"] for line in worker.logs(failed)]
        assert all(one != other for one, other in pairwise(reasons)), reasons
        worker.wait_log(back)
        assert len(worker.logs(back)) == 1
    assert_same_as_batch(*(scene.shown(stream, "BTC/USD") for stream in OUTPUTS), bars, CRYPTO)
    assert worker.running


def test_what_is_published_after_a_loss_counts_before_what_was_lost(scene):
    seed(scene.buses, truth(["BTC/USD"]), 1)
    scene.module("services.bars")
    bars = walk(range(MIDNIGHT, MIDNIGHT + 20 * MINUTE, MINUTE))
    corrections = [replace(bars[0], volume=float(number)) for number in range(30)]
    for correction in corrections:
        scene.publish([correction], seen_ms=bars[-1].start_ms)
    scene.wait_for(corrections[-1:])
    lost = scene.shown("bars:bars", "BTC/USD")["1h", MIDNIGHT]
    scene.client.flushall()
    seed(scene.buses, truth(["BTC/USD"]), 1)
    scene.publish(bars)
    scene.wait_for(bars)
    anew = scene.shown("bars:bars", "BTC/USD")["1h", MIDNIGHT]
    assert int(anew["rev"]) < int(lost["rev"])
    assert find_rank(anew) > find_rank(lost)


@pytest.fixture
def shell(scene, monkeypatch):
    """Run a command of the quarantine as a user does; return its exit code and what it printed."""
    for name in ("SYSTEM_REDIS_URL", "MARKET_REDIS_URL"):
        monkeypatch.setenv(name, scene.env[name])
    app = typer.Typer()
    for name, command in (("list", commands.list_), ("show", commands.show), ("release", commands.release)):
        app.command(name)(command)

    def run(*words):
        done = CliRunner().invoke(app, words, catch_exceptions=True)
        if isinstance(done.exception, Exit):
            return int(done.exception.code), done.exception.message
        return done.exit_code, done.output

    return run


def test_a_record_in_quarantine_is_listed_shown_and_released_once(scene, shell):
    seed(scene.buses, truth(["BTC/USD"]), 1)
    scene.module("services.bars")
    early = Bar("BTC/USD", "1m", MIDNIGHT + 1, 4, 4, 3, 4)
    scene.publish([early])
    scene.client.xadd("market:bars", {"sym": "BTC/USD", "open": "much"})
    until(lambda: scene.client.xlen("market:quarantine") == 2)
    scene.client.xadd("market:quarantine", {"what": "nobody wrote this"})
    code, text = shell("list", "--json")
    broken, ours = orjson.loads(text)
    assert (code, ours["check"], ours["symbol"], broken["check"]) == (0, "wrong_session", "BTC/USD", "schema")
    assert "wrong_session" in shell("list")[1]
    assert "nothing is in quarantine of that kind" in shell("list", "--check", "jump")[1]
    for words in (("list",), ("release", "--all")):
        refusal = 2, "bars has no symbol BTC/USDT; did you mean BTC/USD?"
        assert shell(*words, "--symbol", "BTC/USDT") == refusal
    assert "high = 4" in shell("show", ours["id"])[1]
    assert shell("show", "1-1")[0] != 0
    code, text = shell("release", ours["id"], broken["id"])
    assert code == commands.NOT_RELEASED
    assert "released 1" in text
    assert "`schema`" in text
    scene.wait_for([early])
    assert shell("release", ours["id"])[1].startswith("released 0")
    assert shell("release")[0] != 0
    assert shell("release", "--all", "--check", "jump")[1] == "released 0\n"


def days_of(symbol, count, seed=0):
    """Days that a source gave after their end, the last of them the day before MIDNIGHT."""
    starts = range(MIDNIGHT - count * DAY_MS, MIDNIGHT, DAY_MS)
    return [replace(bar, timeframe="1d") for bar in walk(starts, seed, symbol)]


def test_features_of_each_day_are_published_once_and_again_when_a_day_is_corrected(scene):
    seed(scene.buses, truth(SYMBOLS, benchmark="BTC/USD"), 1)
    worker = scene.module("services.bars")
    history = {symbol: days_of(symbol, 70, number) for number, symbol in enumerate(SYMBOLS)}
    for bars in history.values():
        for bar in bars:
            scene.publish([bar], seen_ms=bar.start_ms + DAY_MS + 5000)

    def published(symbol):
        entries = sorted(scene.read("bars:features", symbol), key=lambda each: int(each["rev"]))
        newest = {int(entry["start"]): orjson.loads(entry["values"]) for entry in entries}
        return sorted(newest.items())

    def is_right():
        dated = {
            symbol: [
                DailyBar(datetime.fromtimestamp(bar.start_ms / 1000, UTC).date(), bar.start_ms + DAY_MS, bar)
                for bar in bars
            ]
            for symbol, bars in history.items()
        }
        expected = compute_features(dated, dict.fromkeys(SYMBOLS, AssetClass.CRYPTO), "BTC/USD")
        return all(published(symbol) == expected[symbol] for symbol in SYMBOLS)

    until(is_right)
    before = scene.client.xlen("bars:features")
    worker.kill()  # whoever comes next computes all of them again
    worker.start()
    worker.wait_log("bars.symbols_assigned")
    right = replace(history["BTC/USD"][-2], close=history["BTC/USD"][-2].high)
    history["BTC/USD"][-2] = right
    scene.publish([right], seen_ms=MIDNIGHT + DAY_MS)
    until(is_right)
    assert scene.client.xlen("bars:features") <= before + 2 * len(SYMBOLS)
    for symbol in SYMBOLS:
        entries = scene.read("bars:features", symbol)
        found = [(entry["start"], entry["rev"]) for entry in entries]
        assert len(found) == len(set(found))
        days = scene.read("bars:bars", symbol)
        assert {(entry["start"], entry["day"]) for entry in entries} == {
            (entry["start"], entry["day"]) for entry in days if entry["timeframe"] == "1d"
        }


def test_bars_of_a_replay_are_final_by_the_time_to_which_their_own_symbol_is_played(scene):
    seed(scene.buses, truth(["BTC/USD", "ETH/USD"], settle_sec=0), 1)
    scene.module("services.bars")
    bars = walk(range(MIDNIGHT, MIDNIGHT + 7 * MINUTE, MINUTE))

    def play(bar):
        scene.publish([bar], replay="1", played_at=str((bar.start_ms + MINUTE) / 1000))

    # a reel of another symbol, which was recorded months later
    (later,) = walk([MIDNIGHT + 200 * DAY_MS], 1, "ETH/USD")
    play(later)
    scene.wait_for([later])
    for bar in bars:
        play(bar)
    scene.wait_for(bars)

    def finals(frame):
        kept = scene.shown("bars:bars", "BTC/USD")
        return [each["final"] for (timeframe, _), each in sorted(kept.items()) if timeframe == frame]

    until(lambda: finals("5m") == ["1", "0"])
    # that day was over years ago, but not in the recording
    assert (finals("15m"), finals("1d")) == (["0"], ["0"])
    quote = {"sym": "BTC/USD", "asset": "crypto", "price": "100", "source": "one", "replay": "1"}
    at_ms = MIDNIGHT + DAY_MS
    scene.client.xadd("market:quotes", quote | {"at": str(at_ms), "played_at": str(at_ms / 1000)})
    until(lambda: finals("1d") == finals("1h") == ["1"])
    assert all(each["replay"] == "1" for each in scene.read("bars:indicators", "BTC/USD"))


def test_a_session_that_nobody_knows_is_said_and_the_other_symbols_go_on(scene):
    document = truth(["BTC/USD"])
    document["services"]["bars"]["endpoints"].append({"symbols": ["SPY"], "session": "XNOWHERE"})
    seed(scene.buses, document, 1)
    scene.module("services.bars")
    bars = walk([MIDNIGHT])
    scene.publish([*bars, *walk([MIDNIGHT], 1, "SPY")])
    scene.wait_for(bars)
    assert "XNOWHERE" in scene.wait_beat(svc="bars", status="degraded")["detail"]
    seed(scene.buses, truth(["BTC/USD"]), 2)
    scene.wait_beat(svc="bars", status="ok")
    assert scene.read("bars:bars", "SPY") == []


def test_a_symbol_whose_bars_can_not_be_built_is_set_aside_and_the_others_go_on(scene):
    broken = SymbolScene(CRYPTO, symbols=["ETH/USD"])
    before = walk(range(MIDNIGHT, MIDNIGHT + 3 * MINUTE, MINUTE), 1, "ETH/USD")
    broken.play(arrival(bar) for bar in before)
    table = BarTable("ETH/USD", "5m", SourceNames(["one"]))
    # a sum that no bar of ours has
    huge = replace(before[0], timeframe="5m", start_ms=MIDNIGHT + 40 * MINUTE, volume=2e18)
    table.open_slot(huge.start_ms).built = HeldBar(huge, 1, "one", huge.start_ms, is_complete=False)
    ((chunk, raw),) = table.pack_changes().items()
    field, key = chunk_field("5m", chunk), bars_state_key("ETH/USD")
    scene.client.hset(key, mapping=broken.stored | {field.encode(): raw})
    seed(scene.buses, truth(["BTC/USD", "ETH/USD"]), 1)
    bars = walk([MIDNIGHT, MIDNIGHT + MINUTE])
    after = walk([MIDNIGHT + 3 * MINUTE], 1, "ETH/USD")
    scene.publish([bars[0], *after])  # before it starts: without an entry, the state can be committed once
    worker = scene.module("services.bars")
    scene.wait_for(bars[:1])
    assert "ETH/USD" in scene.wait_beat(svc="bars", status="degraded")["detail"]
    scene.publish(bars[1:])
    scene.wait_for(bars[1:])
    assert len(worker.logs("bars.symbol_failed")) == 1
    assert "too large" in worker.logs("bars.symbol_failed")[0]["exception"]
    assert scene.client.hget(key, "version") == "1"
    assert scene.read("bars:bars", "ETH/USD") == []
    scene.client.hdel(key, field)  # as another release would mend it
    seed(scene.buses, truth(["BTC/USD", "ETH/USD"], settle_sec=5), 2)
    scene.wait_for(after)
    scene.wait_beat(svc="bars", status="ok")


def test_streams_on_two_buses_are_an_error_in_the_truth(scene):
    seed(scene.buses, truth(["BTC/USD"]), 1)
    worker = scene.module("services.bars")
    (bar,) = walk([MIDNIGHT])
    scene.publish([bar])
    scene.wait_for([bar])
    document = truth(["BTC/USD"])
    points = document["services"]["bars"]["access_points"]
    points["publish_to"] = [{"bus": "system-redis", "key": "bars:features"}]
    seed(scene.buses, document, 2)
    wanted = "bars:features is on system-redis, and market:bars on market-redis"
    until(lambda: wanted in scene.beat("bars").get("detail", ""), what=lambda: str(scene.beat("bars")))
    (late,) = walk([MIDNIGHT + MINUTE])
    scene.publish([late])
    scene.wait_for([late])  # by the truth before
    worker.kill()
    second = scene.module("services.bars")
    second.wait()
    assert second.exit_code == Code.CONFIGURATION
    assert wanted in second.text()


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("stream", ["market:bars", "market:quotes"])
def test_a_stream_that_is_deleted_after_an_entry_with_the_last_possible_id_is_read_on(
    scene, stream, is_restarted
):
    seed(scene.buses, truth(["BTC/USD"]), 1)
    worker = scene.module("services.bars")
    bars = walk(range(MIDNIGHT, MIDNIGHT + 20 * MINUTE, MINUTE))
    scene.publish(bars[:10])
    scene.wait_for(bars[:10])
    scene.client.xadd(stream, {"sym": "BTC/USD"}, id=LAST_ID)
    stored = lambda: scene.client.hget(bars_state_key("BTC/USD"), "position").split()  # noqa: E731
    until(lambda: LAST_ID in stored())
    scene.client.delete(stream)
    if is_restarted:
        worker.kill()
        worker.start()
    scene.publish(bars[10:])
    scene.client.xadd("market:quotes", {"sym": "BTC/USD"})
    scene.wait_for(bars)
    line = worker.wait_log("bars.stream_recreated")
    assert (line["stream"], line["after"]) == (stream, LAST_ID)
    until(lambda: LAST_ID not in stored())
    assert_same_as_batch(*(scene.shown(output, "BTC/USD") for output in OUTPUTS), bars, CRYPTO)
    assert "Traceback" not in worker.text()


@pytest.mark.parametrize("stream", ["market:bars", "market:quotes"])
def test_a_stream_that_is_replaced_by_another_type_stops_no_other_and_comes_back_by_itself(scene, stream):
    document = truth(["BTC/USD"])
    document["services"]["bars"]["endpoints"].append(
        {"symbols": ["ETH/USD"], "asset": "crypto", "quotes": True}
    )
    seed(scene.buses, document, 1)
    worker = scene.module("services.bars")
    of_bars = walk(range(MIDNIGHT, MIDNIGHT + 3 * MINUTE, MINUTE))

    def publish(number):
        if stream != "market:bars" or number != 1:
            scene.publish(of_bars[number : number + 1])
        if stream != "market:quotes" or number != 1:
            quote = {"sym": "ETH/USD", "asset": "crypto", "price": "100", "source": "one"}
            scene.client.xadd("market:quotes", quote | {"at": str(MIDNIGHT + number * MINUTE)})

    def count(symbol):
        return len(bars_of(scene.shown("bars:bars", symbol), "1m"))

    def counts():
        return count("BTC/USD"), count("ETH/USD")

    publish(0)
    until(lambda: counts() == (1, 1))
    symbol = "BTC/USD" if stream == "market:bars" else "ETH/USD"
    scene.client.xadd(stream, {"sym": symbol}, id=LAST_ID)  # this symbol is ahead of the other one
    until(lambda: LAST_ID in scene.client.hget(bars_state_key(symbol), "position"))
    scene.client.delete(stream)
    scene.client.set(stream, "no stream")
    wanted = f"market-redis {stream} is a string and not a stream"
    until(lambda: wanted in scene.beat("bars").get("detail", ""), what=lambda: str(scene.beat("bars")))
    publish(1)
    until(lambda: counts() == ((1, 2) if stream == "market:bars" else (2, 1)))
    scene.client.delete(stream)
    publish(2)
    until(lambda: counts() == ((2, 3) if stream == "market:bars" else (3, 2)))
    scene.wait_beat(svc="bars", status="ok")
    assert len(worker.logs("state.unusable")) == 1
    assert len(worker.logs("bars.bus_failed")) == 1
    assert worker.running


def test_entries_that_were_trimmed_off_unread_are_reported(scene):
    seed(scene.buses, truth(["BTC/USD"]), 1)
    worker = scene.module("services.bars")
    bars = walk(range(MIDNIGHT, MIDNIGHT + 30 * MINUTE, MINUTE))
    scene.publish(bars[:10])
    scene.wait_for(bars[:10])
    worker.kill()
    scene.publish(bars[10:])
    scene.client.xtrim("market:bars", maxlen=5, approximate=False)
    worker.start()
    scene.wait_for(bars)
    assert worker.logs("bars.trimmed")
    after, upto = map(int, scene.client.hget("bars:lost", "market:bars").split())
    oldest = int(scene.client.xrange("market:bars", count=1)[0][0].partition("-")[0])
    assert 0 < after <= upto == oldest, "its writers publish again what was written between"
    scene.wait_beat(svc="bars", detail="1 symbols, 5 records, entries lost 1 times")
    shown = bars_of(scene.shown("bars:bars", "BTC/USD"), "1m")
    assert shown == [*bars[:10], *bars[25:]]


def test_writers_are_told_up_to_where_every_symbol_is_stored(scene):
    seed(scene.buses, truth(["BTC/USD", "ETH/USD"]), 1)
    worker = scene.module("services.bars")
    bars = walk(range(MIDNIGHT, MIDNIGHT + 10 * MINUTE, MINUTE))
    scene.publish(bars)
    scene.wait_for(bars)
    newest = scene.client.xrevrange("market:bars", count=1)[0][0]

    def stored():
        found = scene.client.hgetall("bars:positions")
        return {name.rpartition(" ")[0]: value.partition(" ")[0] for name, value in found.items()}

    others = dict.fromkeys(("market:quotes", "market:actions"), "0-0")
    until(lambda: stored() == {"market:bars": newest, **others}, what=lambda: f"{stored()}")
    assert worker.running


def test_a_beginning_that_a_stream_has_no_more_is_reported_when_a_symbol_begins_with_it(scene):
    bars = walk(range(MIDNIGHT, MIDNIGHT + 30 * MINUTE, MINUTE))
    scene.publish(bars)
    scene.client.xtrim("market:bars", maxlen=10, approximate=False)
    seed(scene.buses, truth(["BTC/USD"]), 1)
    worker = scene.module("services.bars")
    scene.wait_for(bars)
    (line,) = worker.logs("bars.beginning_trimmed")
    assert (line["stream"], line["entries"]) == ("market:bars", 20)


def test_no_feature_is_trimmed_off_before_each_group_has_read_it(scene):
    seed(scene.buses, truth(SYMBOLS, {"indicators": []}, features=1000, benchmark="BTC/USD"), 1)
    scene.client.xgroup_create("bars:features", "slow", id="0", mkstream=True)
    for number, symbol in enumerate(SYMBOLS):
        pipe = scene.client.pipeline(transaction=False)
        for bar in days_of(symbol, 600, number):
            pipe.xadd("market:bars", fields_of(bar, seen_ms=bar.start_ms + DAY_MS + 5000))
        pipe.execute()
    worker = scene.module("services.bars")
    assert "slow" in scene.wait_beat(60, svc="bars", status="degraded")["detail"]
    found = set()

    def read():
        reply = scene.client.xreadgroup("slow", "one", {"bars:features": ">"}, count=100)
        for _, entries in reply:
            scene.client.xack("bars:features", "slow", *(ident for ident, _ in entries))
            found.update((fields["sym"], fields["start"]) for _, fields in entries)
        return len(found) == 600 * len(SYMBOLS)

    until(read, what=lambda: f"{len(found)} features; {scene.beat('bars')}")
    scene.wait_beat(svc="bars", status="ok")
    assert scene.client.xlen("bars:features") < 600 * len(SYMBOLS)
    assert worker.running


def test_no_bar_of_a_history_is_trimmed_off_before_a_group_that_reads_has_read_it(scene):
    seed(scene.buses, truth(["BTC/USD"], {"timeframes": ["1m"], "indicators": []}, keep=1000, batch=100), 1)
    scene.client.xgroup_create("bars:bars", "slow", id="0", mkstream=True)
    bars = walk(range(MIDNIGHT, MIDNIGHT + 3000 * MINUTE, MINUTE))
    scene.publish(bars)
    worker = scene.module("services.bars")
    assert "slow" in scene.wait_beat(60, svc="bars", status="degraded")["detail"]
    found = set()

    def read():
        reply = scene.client.xreadgroup("slow", "one", {"bars:bars": ">"}, count=500)
        for _, entries in reply:
            scene.client.xack("bars:bars", "slow", *(ident for ident, _ in entries))
            found.update(int(fields["start"]) for _, fields in entries)
        return bars[-1].start_ms in found

    until(read, 60, what=lambda: f"{len(found)} bars; {scene.beat('bars')}")
    assert found == {bar.start_ms for bar in bars}
    scene.wait_beat(svc="bars", status="ok")
    assert worker.running
