"""Market data on real buses, from a stand-in for the API that cuts, floods, lies and is silent."""

from pathlib import Path

import orjson
import pytest

from support.fixtures import opened
from support.rig import free_port
from support.rig.forkserver import real_starts
from support.rig.market_api import KEY, MINUTE, SmallMarket, bar, saying, status, told
from support.rig.metrics import key, samples
from support.scenes.market import MarketScene, fast_market
from support.waiting import until

market = opened(lambda: SmallMarket("AAPL", "MSFT"))
scene = opened(lambda tmp_path, market: MarketScene(tmp_path, market))


@pytest.fixture
def fast(tmp_path):
    with fast_market("AAPL", "MSFT") as market, MarketScene(tmp_path, market) as scene:
        yield scene


def test_each_bar_of_the_symbols_wanted_is_on_the_stream_as_it_was_told(scene, market):
    scene.wish(symbols=["AAPL"])
    agent = scene.massive()
    until(lambda: market.subscribed == {"AAPL"}, what=lambda: f"a subscription; {agent}")
    start = market.last_minute() - MINUTE
    for at in (start, start + MINUTE):
        market.make("AAPL", at)
        market.make("MSFT", at)
    until(lambda: len(scene.bars()) == 2)
    said = bar("AAPL", start)
    first = scene.bars()[0]
    assert {name: float(first[name]) for name in ("open", "high", "low", "close", "volume", "vwap")} == {
        "open": said["o"],
        "high": said["h"],
        "low": said["l"],
        "close": said["c"],
        "volume": said["v"],
        "vwap": said["vw"],
    }
    assert (first["sym"], first["start"], first["end"]) == ("AAPL", str(start), str(start + MINUTE))
    assert first["source"] == "ws"
    scene.wait_beat(svc="massive", status="ok", detail="market live: 1 symbol, 2 bars")
    assert agent.stop() == 0
    assert "Traceback" not in agent.text()


def test_the_key_is_nowhere_but_in_the_message_and_the_header(scene, market):
    scene.wish(symbols=["AAPL"], backfill_sec=3600)
    scene.market.cmd("HSET", "market:bars:marks", "AAPL", market.last_minute() - 5 * MINUTE)
    market.make("AAPL", market.last_minute() - MINUTE, tell=False)
    with real_starts():  # a fork shows its server's command line, not its own
        agent = scene.massive()
    until(lambda: len(scene.bars()) == 1)
    market.cut()
    agent.wait_log("market.disconnected")
    assert market.keys[0] == KEY
    paths = [path for path, _headers in market.requests]
    assert paths
    assert {headers["Authorization"] for _path, headers in market.requests} == {f"Bearer {KEY}"}
    command = Path(f"/proc/{agent.pid}/cmdline").read_text(encoding="utf-8")
    assert agent.module in command
    shown = [agent.text(), *paths, command]
    for bus in scene.buses:
        shown += [str(bus.cmd("GET", "beat:massive")), str(bus.cmd("KEYS", "*"))]
    shown.append(str(scene.bars()))
    assert not [text for text in shown if KEY in text]


def test_without_a_key_it_is_off_and_says_so(scene, market):
    scene.wish(symbols=["AAPL"])
    scene.massive(POLYGON_API_KEY="")
    scene.wait_beat(svc="massive", status="ok", detail="market data off: POLYGON_API_KEY is not set")
    assert not market.met


def test_other_symbols_need_no_other_connection(scene, market):
    scene.wish(symbols=["AAPL"])
    scene.massive()
    until(lambda: market.subscribed == {"AAPL"})
    scene.wish(symbols=["MSFT"])
    until(lambda: market.subscribed == {"MSFT"})
    start = market.last_minute()
    for sym in ("AAPL", "MSFT"):
        market.make(sym, start)
    until(lambda: [each["sym"] for each in scene.bars()] == ["MSFT"])
    scene.wish(symbols=["MSFT", "AAPL"])
    until(lambda: market.subscribed == {"AAPL", "MSFT"})
    assert len(market.met) == 1
    scene.wish(source="off", symbols=["AAPL"])
    until(lambda: not market.connected)


def test_a_key_that_will_not_do_is_said_and_not_tried_again_at_once(scene, market):
    scene.wish(symbols=["AAPL"])
    agent = scene.massive(POLYGON_API_KEY="another")
    scene.wait_beat(svc="massive", status="degraded", detail="market data: auth_failed, 1 time in a row")
    assert agent.logs("market.disconnected")[0]["again_sec"] > 200
    assert market.keys == ["another"]
    assert "another" not in agent.text()
    assert agent.stop() == 0


HOSTILE = [
    b"{",
    b"\x00\xff\xfe",
    "[" * 200_000,
    "[" + ",".join(["{}"] * 100_000) + "]",
    ["[", "]"] * 500,  # one frame in a thousand pieces
    orjson.dumps([told("AAPL", MINUTE), {"ev": "AM", "sym": "AAPL", "s": 1 << 60}]).decode(),
    status("success", "subscribed to: AM.<b>\x1b[31m\n"),
]


def test_whatever_a_server_says_the_bars_come(scene, market):
    market.moods.append(saying(*HOSTILE))
    scene.wish(symbols=["AAPL"])
    agent = scene.massive()
    until(lambda: market.subscribed == {"AAPL"}, what=agent)
    start = market.last_minute()
    market.make("AAPL", start)
    until(lambda: [int(each["start"]) for each in scene.bars()] == [start])
    assert len(market.met) == 1
    assert agent.stop() == 0
    assert "Traceback" not in agent.text()
    assert "\x1b" not in agent.text()


def follow_aapl(fast, count=3):
    """massive, which has published so many bars of AAPL while MSFT is traded, too; where its bars begin."""
    fast.wish(symbols=["AAPL"])
    agent = fast.massive()
    until(lambda: fast.api.subscribed == {"AAPL"})
    fast.api.run()
    until(lambda: len(fast.bars()) >= count)
    return agent, {"AAPL": fast.api.made["AAPL"][0], "MSFT": 1 << 60}


def stop_and_compare(fast, first):
    fast.api.stop()
    fast.api.made["MSFT"].clear()
    fast.whole(first)


def test_a_restart_over_a_gap_that_was_not_filled_finds_it_again(fast):
    """The stream goes on while the gap is open; the mark does not."""
    market = fast.api
    agent, first = follow_aapl(fast, 2)
    agent.kill()
    count = len(market.made["AAPL"])
    until(lambda: len(market.made["AAPL"]) > count + 2, what="bars that nobody hears")
    market.answers.append((429, {"Retry-After": "600"}, b""))
    agent.start()
    agent.wait_log("market.unfilled", 20)
    before = len(fast.bars())
    until(lambda: len(fast.bars()) > before + 3)
    agent.kill()
    agent.start()
    until(lambda: agent.logs("market.filled"))
    stop_and_compare(fast, first)


def test_what_the_api_has_late_or_corrects_is_found_after_the_mark_has_moved_on(scene, market):
    scene.wish(symbols=["AAPL"])
    agent = scene.massive()
    until(lambda: market.subscribed == {"AAPL"}, what=agent)
    last = market.last_minute()
    first, late = last - 3 * MINUTE, last - MINUTE
    for at in (first, last):
        market.make("AAPL", at)
    until(lambda: len(scene.bars()) == 2)
    assert agent.stop() == 0
    market.make("AAPL", late, tell=False)
    market.made["AAPL"].sort()
    again = scene.massive()
    until(
        lambda: (late, "rest") in [(int(each["start"]), each["source"]) for each in scene.bars()], what=again
    )
    assert scene.seen() == {("AAPL", at): 1 for at in (first, late, last)}
    assert [line["symbol"] for line in again.logs("market.revised")] == ["AAPL"]


def test_a_bar_in_a_frame_that_makes_no_sense_is_asked_for(scene, market):
    scene.wish(symbols=["AAPL", "MSFT"])
    agent = scene.massive()
    until(lambda: market.subscribed == {"AAPL", "MSFT"}, what=agent)
    last = market.last_minute()
    market.make("AAPL", last, tell=False)
    market.make("MSFT", last, tell=False)
    market.send(orjson.dumps([{**told("AAPL", last), "o": None}, told("MSFT", last)]))
    until(lambda: len(scene.bars()) == 2, what=agent)
    assert [(each["sym"], each["source"]) for each in scene.bars()] == [("MSFT", "ws"), ("AAPL", "rest")]


def test_its_metrics_tell_what_it_did(fast):
    market, port = fast.api, free_port()
    fast.wish(symbols=["AAPL"])
    fast.massive(METRICS_PORT=str(port))
    until(lambda: market.subscribed == {"AAPL"})
    market.run()
    until(lambda: len(fast.bars()) >= 3)
    market.cut()
    until(lambda: samples(port).get(key("massive_bars_total", source="rest"), 0) > 0)
    market.stop()
    until(lambda: samples(port)[key("massive_market_gaps")] == 0)
    found = samples(port)
    assert found[key("massive_bars_total", source="ws")] >= 3
    assert found[key("massive_market_reconnects_total")] == 1
    assert found[key("massive_market_streaming")] == 1
    assert found[key("massive_market_lag_seconds_count")] >= 3
    assert found[key("massive_market_newest_bar_timestamp_seconds")] > 0


def test_who_is_asked_too_often_is_not_asked_for_the_others_either(tmp_path):
    symbols = [f"S{n}" for n in range(30)]
    with SmallMarket(*symbols) as market, MarketScene(tmp_path, market) as scene:
        start = market.last_minute() - 10 * MINUTE
        for sym in symbols:
            market.made[sym].append(start + MINUTE)
            scene.market.cmd("HSET", "market:bars:marks", sym, start)
        market.answers.append((429, {"Retry-After": "3"}, b""))
        scene.wish(symbols=symbols)
        agent = scene.massive()
        until(lambda: len(scene.bars()) == 30, what=agent)
        after = [at - market.asked_at[0] for at in market.asked_at]
        assert sum(sec < 2.9 for sec in after) <= 4  # those that were on their way with it
        # and those for what may have been corrected since, which come at the start, too
        assert len(after) <= 2 * 30 + sum(line["gaps"] for line in agent.logs("market.unfilled"))


def test_of_two_instances_one_streams_and_the_other_takes_over(fast):
    market = fast.api
    fast.wish(symbols=["AAPL"], replicas=2)
    one = fast.massive()
    until(lambda: market.subscribed)
    two = fast.massive()
    until(lambda: fast.beat("massive").get("detail") == "market data: stands by", what=two)
    market.run()
    until(lambda: len(fast.bars()) >= 3)
    first = {"AAPL": market.made["AAPL"][0], "MSFT": 1 << 60}
    assert len(market.met) == 1
    one.stop()
    until(lambda: len(market.met) == 2 and market.subscribed, what=two)
    before = len(fast.bars())
    until(lambda: len(fast.bars()) > before + 2)
    stop_and_compare(fast, first)


def test_the_api_as_a_target_does_not_throw_our_own_stream_out(scene, market):
    target = {"name": "api", "kind": "polygon", "url": market.rest}
    scene.wish(symbols=["AAPL"], targets=[target])
    scene.massive()
    until(lambda: market.subscribed)
    found = until(lambda: (raw := scene.market.cmd("GET", "probe:api")) and b"own" in raw.encode() and raw)
    assert orjson.loads(found)["ok"] is True
    assert len(market.met) == 1
    assert any(path == "/v1/marketstatus/now" for path, _ in market.requests)


def test_a_bus_that_the_truth_names_and_nobody_knows_is_a_trouble_and_no_end(scene, market):
    scene.wish(symbols=["AAPL"], bus={"elsewhere": "env:NOT_SET"})
    agent = scene.massive()
    until(lambda: "elsewhere" in scene.beat("massive").get("detail", ""), what=agent)
    scene.wish(symbols=["AAPL"])
    until(lambda: market.subscribed)
    market.make("AAPL", market.last_minute())
    until(lambda: len(scene.bars()) == 1)
    assert agent.running
