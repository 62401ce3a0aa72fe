"""What is far too large, on a stream or channel that others may write: skipped, counted, said, never held."""

from pathlib import Path

import orjson
import pytest
import redis

from support.rig import HOST, Proc, Server, free_port
from support.rig.limits import without_limits
from support.rig.metrics import key, samples
from support.scenes.agent import Scene as Buses
from support.scenes.agent import seed
from support.scenes.notifier import LOG, Notified, hooks
from support.scenes.vexy_ai import add as add_items
from support.scenes.vexy_ai import notes, settled, truth
from support.waiting import until

MIB = 1024 * 1024
HUGE = 110 * MIB
GROWTH_KIB = 60 * 1024
"""What a reader may grow by: a reply of 16 MiB in two buffers, and noise."""
ITEM_GROWTH_KIB = 100 * 1024
"""What vexy_ai may grow by: items come whole, up to 32 MiB each, and a batch above 64 MiB is given up."""


def peak_kib(agent: Proc) -> int:
    """The most memory that a process ever had."""
    status = Path(f"/proc/{agent.pid}/status").read_text(encoding="ascii")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1])


def add(server: Server, event: bytes) -> str:
    without_limits(server)
    with redis.Redis(HOST, server.port, socket_timeout=30) as client:
        return client.xadd(LOG, {"event": event}).decode()


def miss(svc: str, number: int = 1) -> bytes:
    ts = 1762433458.0 + number
    return orjson.dumps(
        {
            "type": "bus_miss",
            "svc": svc,
            "late_sec": 3.0,
            "timeout_sec": 2.0,
            "ts": ts,
            "id": f"bus_miss.{svc}.{number}",
        }
    )


def test_row_41_an_entry_of_110_mb_is_skipped_by_who_reads_the_log_and_never_read_again(tmp_path, receiver):
    way_out = {"WEBHOOK_URL": receiver.url}  # without one the sentinel follows no log
    with Notified(tmp_path, hooks(one=receiver), env=way_out) as scene:
        port = free_port()
        scene.start("sentinel", METRICS_PORT=str(port))
        until(lambda: "cmd=xread " in scene.system.cmd("CLIENT", "LIST"), what="the sentinel to follow")
        before = {name: peak_kib(scene[name]) for name in ("notifier", "sentinel")}
        huge = add(scene.system, b"x" * HUGE)
        add(scene.system, miss("market-redis"))
        receiver.wait("bus_miss", "market-redis")
        scene.settled()
        until(lambda: scene["sentinel"].logs("log.oversized"), what="the sentinel to say it")
        until(
            lambda: samples(port).get(key("log_oversized_total", bus="system-redis")) == 1,
            what="it to be counted",
        )
        for name, kib in before.items():
            assert peak_kib(scene[name]) - kib < GROWTH_KIB, name
        said = [line for line in scene.notifier.logs("reading.malformed") if line["entry"] == huge]
        assert [line["reason"] for line in said] == ["too_long"]
        scene.again()
        scene.ready()
        add(scene.system, miss("other-redis"))
        receiver.wait("bus_miss", "other-redis")
        scene.settled()
        assert peak_kib(scene.notifier) - before["notifier"] < GROWTH_KIB
        assert len([line for line in scene.notifier.logs("reading.malformed") if line["entry"] == huge]) == 1


@pytest.mark.nightly("test_row_41_an_entry_of_110_mb_…; tests/live/test_notifier_reading.py")
def test_row_41_who_begins_at_a_log_with_an_entry_of_110_mb_looks_back_past_it(tmp_path, receiver):
    with Notified(tmp_path, hooks(one=receiver), ()) as scene:
        add(scene.system, miss("market-redis"))
        add(scene.system, b"x" * HUGE)
        scene.start("notifier")
        scene.ready()
        receiver.wait("bus_miss", "market-redis")
        plain = peak_kib(scene.notifier)
        assert plain < 200 * 1024


def test_row_41_mesh_hears_the_others_beside_a_message_of_110_mb(tmp_path):
    beats = {"interval_sec": 0.3, "timeout_sec": 3}
    with Buses(tmp_path) as scene:
        seed(scene.buses, {"services": {svc: {"heartbeat": beats} for svc in ("mesh", "loud", "alpha")}}, 1)
        port = free_port()
        mesh = scene.module("services.mesh", METRICS_PORT=str(port))
        until(lambda: len(mesh.logs("mesh.subscribed")) == 2)
        before = peak_kib(mesh)
        without_limits(scene.system)
        with redis.Redis(HOST, scene.system.port, socket_timeout=30) as client:
            client.publish("loud:heartbeat", b"x" * HUGE)
            client.publish("loud:heartbeat", b"x" * HUGE)
            client.publish("alpha:heartbeat", orjson.dumps({"svc": "alpha", "i": 1, "ts": 1.0, "boot": "b"}))

        def seen() -> bool:
            shown = scene.system.cmd("GET", "mesh:topology")
            return bool(shown) and bool(orjson.loads(shown)["services"].get("alpha", {}).get("instances"))

        until(seen, what="the beat behind it")
        assert len(mesh.logs("mesh.subscribed")) == 2, "a session for each bus, and none ended"
        assert samples(port)[key("mesh_oversized_total")] == 2
        assert len(mesh.logs("mesh.oversized")) == 1
        assert peak_kib(mesh) - before < GROWTH_KIB


@pytest.mark.nightly("test_row_41_mesh_hears_…; tests/services/mesh/test_flow_reader.py")
def test_row_41_mesh_asks_for_the_length_alone_of_a_stream_with_an_entry_of_110_mb(tmp_path):
    beats = {"interval_sec": 0.3, "timeout_sec": 3}
    points = {"publish_to": [{"bus": "market-redis", "key": "loud:items"}]}
    services = {
        "mesh": {"heartbeat": beats, "settings": {"flow_sec": 0.2}},
        "loud": {"heartbeat": beats, "access_points": points},
    }
    with Buses(tmp_path) as scene:
        without_limits(scene.market)
        with redis.Redis(HOST, scene.market.port, socket_timeout=30) as client:
            client.xadd("loud:items", {"a": b"x" * HUGE})
            client.xgroup_create("loud:items", "reader", "0")
        seed(scene.buses, {"services": services}, 1)
        port = free_port()
        mesh = scene.module("services.mesh", METRICS_PORT=str(port))

        def flow() -> dict:
            shown = orjson.loads(scene.system.cmd("GET", "mesh:flow") or '{"ts": 0, "keys": []}')
            found = [one for one in shown["keys"] if one["key"] == "loud:items"]
            return {"ts": shown["ts"], **(found[0] if found else {})}

        seen: list[dict] = []

        def looked() -> bool:
            found = flow()
            if "kind" in found and found["ts"] > (seen[-1]["ts"] if seen else 0):
                seen.append(found)
            return len(seen) > 3

        until(looked, what="several looks")
        assert {(one["length"], one["groups"]) for one in seen} == {(1, None)}
        (said,) = mesh.logs("state.unusable")
        assert (said["key"], said["bus"]) == ("loud:items", "market-redis")
        assert samples(port)[key("state_unusable_total", key="loud:items")] == 1


@pytest.mark.nightly(
    "test_row_41_an_entry_…; tests/marketswarm/bus/test_stream.py has items that are too large"
)
def test_row_41_vexy_ai_goes_on_beside_an_item_of_110_mb_and_buries_it(tmp_path):
    with Buses(tmp_path) as scene:
        seed(scene.buses, truth(claim_sec=1), 1)
        agent = scene.module("services.vexy_ai")
        add_items(scene, "first")
        until(lambda: notes(scene) == ["first"])
        before = peak_kib(agent)
        without_limits(scene.market)
        with redis.Redis(HOST, scene.market.port, socket_timeout=30) as client:
            with client.pipeline() as pipe:  # in one reading
                pipe.xadd("rss:items", {"id": "a", "title": "a"})
                pipe.xadd("rss:items", {"id": "huge", "title": b"x" * HUGE})
                pipe.xadd("rss:items", {"id": "b", "title": "b"})
                pipe.execute()
            client.xadd("rss:items", {"id": "c", "title": "c"})
            until(lambda: client.xlen("vexy:dead") or "huge" in notes(scene), what="the end of it")
            assert peak_kib(agent) - before < ITEM_GROWTH_KIB
            [(_, buried)] = client.xrange("vexy:dead")
            assert buried[b"reason"].startswith(b"larger than")
            until(lambda: set(notes(scene)) == {"first", "a", "b", "c"}, what="the items around it")
        settled(scene)
        assert peak_kib(agent) - before < ITEM_GROWTH_KIB


@pytest.mark.nightly(
    "test_row_41_an_entry_…; tests/marketswarm/bus/test_stream.py has entries that are too large"
)
def test_row_41_vexy_ai_writes_its_digests_beside_notes_and_windows_of_110_mb(tmp_path):
    with Buses(tmp_path) as scene:
        without_limits(scene.market)
        with redis.Redis(HOST, scene.market.port, socket_timeout=30) as client:
            note = {"kind": "note", "window": "0-60"}
            titles: list[str | bytes] = ["a", b"x" * HUGE, "b"]
            first, huge, last = (client.xadd("vexy:notes", {**note, "title": each}) for each in titles)
            for field, value in {"n": 2, "first": first, "last": last, "bar HUGE": b"x" * HUGE}.items():
                client.hset("vexy:notes:windows", f"0-60 {field}", value)
            agent = scene.module("services.vexy_ai")  # without a truth it waits, and has read nothing
            before = peak_kib(agent)
            seed(scene.buses, truth(), 1)

            def digest() -> dict[bytes, bytes]:
                ((_, found),) = client.xrevrange("vexy:notes", count=1)
                return found if found.get(b"kind") == b"digest" else {}

            found = until(digest, what="the digest")
            assert peak_kib(agent) - before < GROWTH_KIB
            assert (found[b"items"], found[b"read"]) == (b"2", b"2")
        said = {line["key"]: line["last_field"].partition(":")[0] for line in agent.logs("state.unusable")}
        assert said == {"vexy:notes": huge.decode(), "vexy:notes:windows": "0-60 bar HUGE"}
