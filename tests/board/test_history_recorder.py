"""The recorder on a real server: killed anywhere, beside another board, with nonsense in its keys."""

import asyncio
import contextlib
import random
import time

import orjson
import pytest

from marketswarm.bus import Bus
from marketswarm.event import Event, Kind, encode_event
from marketswarm.history import store
from marketswarm.history.fleet_history import PERIOD_HOURS
from marketswarm.history.rollup import HOUR_SEC, PastOutage, Seconds
from marketswarm.history.spans import KnownState
from marketswarm.history.store import begin_history, read_history, write_history
from marketswarm.truth import parse_truth
from services.board import recorder as recorder_module
from services.board.recorder import HistoryRecorder
from support.rig import Server
from support.waiting import auntil

NAMES = [f"svc{n:02}" for n in range(12)]
TRUTH = parse_truth(
    orjson.dumps(
        {"services": {"healer": {"heartbeat": {"timeout_sec": 3000}}} | {name: {} for name in NAMES}}
    )
).truth


HASHES = ("board:history", "board:history:spans")


class KilledError(Exception):
    """Stands for the end of a process."""


class MortalBus(Bus):
    """A bus whose client dies before or after one of its requests, as a process that is killed does."""

    left = -1
    after = False

    async def ask(self, request, within_sec=None, *, max_bytes=None):
        self.left -= 1
        if self.left == 0 and not self.after:
            raise KilledError
        reply = await super().ask(request, within_sec, max_bytes=max_bytes)
        if self.left == 0:
            raise KilledError
        return reply


def make_recorder(bus, **more):
    recorder = HistoryRecorder(bus, **more)
    recorder.follow(TRUTH)
    return recorder


async def record(bus, steps=3):
    recorder = make_recorder(bus)
    for _ in range(steps):
        await recorder.step(block_sec=None)
    return recorder


def make_miss(svc, start, ts=None):
    ts = start + 30.0 if ts is None else ts
    return Event(Kind.HEARTBEAT_MISS, svc, ts, f"m.{svc}.{start}", "healer", since=float(start))


def add_outage(server, svc, start, end):
    miss = make_miss(svc, start)
    ok = Event(
        *(Kind.HEARTBEAT_OK, svc, float(end), f"o.{svc}.{end}", "healer"),
        since=float(start),
        down_sec=float(end - start),
    )
    for event in (miss, ok):
        server.cmd("XADD", "healer:alerts:log", "*", "event", encode_event(event))


def set_beat(server, i, boot="one", started=None, age_sec=0):
    beat = {"svc": "healer", "i": i, "ts": time.time(), "boot": boot, "every": 10}
    beat |= {"started": started} if started else {}
    server.cmd("SET", "beat:healer", orjson.dumps(beat), "PX", 6_000_000 - 1000 * age_sec)


def put_in_roster(server, *names):
    for name in names:
        server.cmd("HSET", "healer:roster", name, orjson.dumps({"verdict": "up", "ts": 1.0}))


async def begin_long_ago(bus, server, hours):
    """Store a history that began some hours ago, with every service up since, and a healer that was there."""
    begin = int(time.time()) - hours * HOUR_SEC
    stored = begin_history(begin)
    stored.history.follow(dict.fromkeys([*NAMES, "healer"], "system-redis"), 3000.0, begin)
    for name in [*NAMES, "healer"]:
        stored.history.adopt(name, KnownState.UP, begin - 2 * HOUR_SEC)
    assert await write_history(bus, stored, b"0-0")
    set_beat(server, hours * 400, started=begin - 2.0 * HOUR_SEC)
    return begin


def uptime(recorder, svc, now):
    return recorder.history.uptime(svc, int(now))


async def sums(bus, now):
    """Return what is stored: the uptime of each service, and its outages."""
    stored = await read_history(bus, int(time.time()))
    stored.history.follow(dict.fromkeys([*NAMES, "healer"], "system-redis"), 3000.0, int(now))
    return {
        name: (stored.history.uptime(name, int(now)), stored.history.outages(name, int(now)))
        for name in NAMES
    }


def add_outages(server, begin, hours, seed):
    """Add outages of all services, in the order of their ends, some with events that come twice or late."""
    chance = random.Random(seed)
    found = []
    for name in NAMES[:-4]:
        at = begin + HOUR_SEC
        while (at := at + chance.randrange(600, 5 * HOUR_SEC)) < begin + (hours - 1) * HOUR_SEC:
            end = at + chance.randrange(31, 2 * HOUR_SEC)
            found.append((end, name, at))
            at = end
    for end, name, start in sorted(found):
        add_outage(server, name, start, end)
        if chance.random() < 0.2:
            add_outage(server, name, start, end)


async def test_what_happened_is_recorded_and_read_back(bus, server):
    begin = await begin_long_ago(bus, server, 3)
    add_outage(server, "svc00", begin + HOUR_SEC, begin + HOUR_SEC + 600)
    recorder = await record(bus)
    now = time.time()
    assert uptime(recorder, "svc00", now)["24h"].down == 600
    assert uptime(recorder, "svc01", now)["24h"].share == 1
    assert recorder.history.outages("svc00", int(now)) == [
        PastOutage(begin + HOUR_SEC, begin + HOUR_SEC + 600)
    ]
    assert (await sums(bus, now))["svc00"][0] == uptime(recorder, "svc00", now)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # the request that was not sent
@pytest.mark.parametrize("seed", range(3))
async def test_a_recorder_that_is_killed_anywhere_leaves_the_same_sums(bus, server, seed, monkeypatch):
    monkeypatch.setattr(store, "CHANGES_AT_ONCE", 3)  # many small parts, and many places to be killed
    monkeypatch.setattr(recorder_module, "AT_ONCE", 25)
    begin = await begin_long_ago(bus, server, 40)
    for key in HASHES:
        server.cmd("COPY", key, f"saved:{key}")
    late = [(name, begin + (n + 3) * HOUR_SEC + 700 * n) for n, name in enumerate(NAMES[-4:])]
    add_outages(server, begin, 40, seed)
    for name, start in late:
        add_outage(server, name, start, begin + 39 * HOUR_SEC)
    now = time.time()
    await record(bus, steps=20)
    wanted, chance = await sums(bus, now), random.Random(seed)
    assert sum(seconds["7d"].down for seconds, _ in wanted.values()) > 100 * HOUR_SEC

    server.cmd("DEL", *server.cmd("KEYS", "board:*"), "healer:alerts:log")
    for key in HASHES:
        server.cmd("COPY", f"saved:{key}", key)
    add_outages(server, begin, 40, seed)
    killed = await record_and_die(server, chance, 25)
    await record(bus, steps=20)  # all hours that can be are finished now
    for name, start in late:
        add_outage(server, name, start, begin + 39 * HOUR_SEC)
    killed += await record_and_die(server, chance, 25)
    await record(bus, steps=20)
    assert killed > 15
    found = await sums(bus, now)
    assert {name: seconds for name, (seconds, _) in found.items()} == {
        name: seconds for name, (seconds, _) in wanted.items()
    }
    assert {name: found[name][1] for name in NAMES[:-4]} == {name: wanted[name][1] for name in NAMES[:-4]}


async def record_and_die(server, chance, times):
    """Run some recorders, each until it dies at a random request; return how many died."""
    killed = 0
    for _ in range(times):
        mortal = MortalBus("system-redis", server.url)
        mortal.left, mortal.after = chance.randrange(1, 100), chance.random() < 0.5
        try:
            await record(mortal, steps=8)
        except KilledError:
            killed += 1
        await mortal.aclose()
    return killed


class BusThatDiesWriting(Bus):
    """A bus whose client dies at its n-th write of the history, before or after the server took it."""

    left = -1
    after = False

    async def script(self, script, keys, args, within_sec=None):
        self.left -= "history_write" in script.function
        if self.left == 0 and not self.after:
            raise KilledError
        reply = await super().script(script, keys, args, within_sec)
        if self.left == 0:
            raise KilledError
        return reply


@pytest.mark.parametrize("after", [False, True])
async def test_a_late_outage_counts_once_whichever_part_of_its_write_was_the_last(
    bus, server, after, monkeypatch
):
    monkeypatch.setattr(store, "CHANGES_AT_ONCE", 1)
    begin = await begin_long_ago(bus, server, 40)
    await record(bus)
    for key in HASHES:
        server.cmd("COPY", key, f"saved:{key}")
    late = {name: begin + (n + 3) * HOUR_SEC + 700 * n for n, name in enumerate(NAMES[:4])}
    for name, start in late.items():
        raw = encode_event(make_miss(name, start, time.time()))
        server.cmd("XADD", "healer:alerts:log", "*", "event", raw)
    died = 0
    for write in range(1, 12):
        server.cmd("DEL", *server.cmd("KEYS", "board:*"))
        for key in HASHES:
            server.cmd("COPY", f"saved:{key}", key)
        mortal = BusThatDiesWriting("system-redis", server.url)
        mortal.left, mortal.after = write, after
        try:
            await record(mortal)
        except KilledError:
            died += 1
        await mortal.aclose()
        await record(bus)
        found = await sums(bus, time.time())
        for name, start in late.items():
            assert found[name][0]["7d"].down == pytest.approx(time.time() - start, abs=10)
    assert died >= 4


async def test_two_boards_record_each_event_once(bus, server):
    begin = await begin_long_ago(bus, server, 40)
    add_outages(server, begin, 38, seed=7)
    other = Bus("system-redis", server.url)
    recorders = [make_recorder(bus), make_recorder(other)]
    for _ in range(4):
        await asyncio.gather(*(recorder.step(block_sec=None) for recorder in recorders))
    add_outage(server, "svc11", int(time.time()) - 900, int(time.time()) - 300)
    for _ in range(4):
        await asyncio.gather(*(recorder.step(block_sec=None) for recorder in recorders))
    now = time.time()
    found = await sums(bus, now)
    assert found["svc11"][0]["24h"].down == 600
    for recorder in recorders:
        assert {name: uptime(recorder, name, now) for name in NAMES} == {
            name: seconds for name, (seconds, _) in found.items()
        }
    alone = begin_history(begin)
    assert alone.history.final == begin // HOUR_SEC
    await other.aclose()


async def test_a_board_that_comes_to_a_running_fleet_begins_with_this_hour(bus, server):
    put_in_roster(server, *NAMES)
    set_beat(server, 10**6)
    recorder = await record(bus)
    now = int(time.time())
    assert recorder.history.final == now // HOUR_SEC
    assert uptime(recorder, "svc00", now)["1y"] == Seconds(up=now % HOUR_SEC)
    assert recorder.history.recent("svc00", now)[0].state is KnownState.UNKNOWN


async def test_a_machine_that_was_off_for_hours_leaves_them_unknown(bus, server):
    begin = await begin_long_ago(bus, server, 30)
    now = time.time()
    set_beat(server, 7, boot="two", started=now - 60)
    recorder = await record(bus)
    found = uptime(recorder, "svc00", int(now))["7d"]
    assert found.up <= 70
    assert found.unknown == pytest.approx(int(now) - (begin // HOUR_SEC) * HOUR_SEC - 60, abs=15)


async def test_events_that_the_log_lost_leave_a_time_that_is_unknown(bus, server):
    begin = await begin_long_ago(bus, server, 3)
    put_in_roster(server, *NAMES)
    add_outage(server, "svc00", begin + HOUR_SEC, begin + HOUR_SEC + 600)
    await record(bus)
    server.cmd("HSET", "board:history", "position", f"{(begin + 2 * HOUR_SEC) * 1000}-0")
    recorder = await record(bus)
    assert uptime(recorder, "svc01", time.time())["24h"].unknown == pytest.approx(HOUR_SEC, abs=HOUR_SEC)
    assert uptime(recorder, "svc01", time.time())["24h"].unknown > 0


async def test_a_log_that_was_deleted_is_read_from_its_beginning(bus, server):
    begin = await begin_long_ago(bus, server, 3)
    add_outage(server, "svc00", begin + HOUR_SEC, begin + HOUR_SEC + 600)
    recorder = await record(bus)
    server.cmd("DEL", "healer:alerts:log")
    await recorder.step(block_sec=None)
    miss = Event(Kind.HEARTBEAT_MISS, "svc02", begin + 5030.0, "x", "healer", since=begin + 5000.0)
    server.cmd("XADD", "healer:alerts:log", "1-1", "event", encode_event(miss))
    await recorder.step(block_sec=None)
    assert recorder.history.outages("svc02", int(time.time())) == [PastOutage(begin + 5000, None)]


FUTURE = orjson.dumps({"final": 900_000, "until": 900_000 * HOUR_SEC, "heard": []})
LONG_AGO = orjson.dumps({"final": 0, "until": 0, "heard": []})
HOSTILE = [
    FUTURE,
    LONG_AGO,
    b"",
    b"\xff" * 30,
    b"\x01",
    b"\x01" * 40,
    b"[1",
    orjson.dumps({"final": 1}),
    b"x" * 300_000,
]


@pytest.mark.parametrize("raw", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("field", ["version", "position", "progress", "healer", "bus:system-redis"])
async def test_nonsense_in_the_keys_is_survived(bus, server, raw, field):
    await begin_long_ago(bus, server, 9)
    await record(bus)
    period = int(time.time()) // HOUR_SEC // PERIOD_HOURS
    for key, name in (
        ("board:history", field),
        ("board:history:spans", "svc00"),
        (f"board:history:hours:{period}", "svc01"),
    ):
        server.cmd("HSET", key, name, raw)
    recorder = await record(bus)
    assert sum(uptime(recorder, "svc00", time.time())["24h"]) <= 25 * HOUR_SEC
    add_outage(server, "svc02", int(time.time()) - 1, int(time.time()))
    await recorder.step(block_sec=None)
    assert (await read_history(bus, int(time.time()))).position == recorder.position


async def test_keys_of_another_type_are_replaced(bus, server):
    for key in ("board:history", "board:history:spans"):
        server.cmd("SET", key, "x")
    put_in_roster(server, *NAMES)
    recorder = make_recorder(bus, step_back_sec=0.0)
    for _ in range(4):
        await recorder.step(block_sec=None)
    assert server.cmd("TYPE", "board:history") == "hash"
    assert await read_history(bus, int(time.time())) is not None


async def test_a_recorder_goes_on_when_its_server_is_back(tmp_path):
    with Server(tmp_path) as server:
        bus = Bus("system-redis", server.url, within_sec=0.5)
        recorder = make_recorder(bus)
        running = asyncio.create_task(recorder.run())
        try:
            await wait_for(lambda: recorder.history is not None)
            server.kill()
            await wait_for(lambda: recorder.error is not None)
            server.start()
            await wait_for(lambda: recorder.error is None)
            server.cmd(
                "XADD", "healer:alerts:log", "*", "event", encode_event(make_miss("svc00", time.time()))
            )
            await wait_for(lambda: recorder.history.services["svc00"].timeline.current() is KnownState.DOWN)
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            await bus.aclose()


async def test_a_recorder_that_ends_writes_how_long_the_healer_was_there(bus, server, monkeypatch):
    monkeypatch.setattr(recorder_module, "END_SEC", 20.0)
    began = await begin_long_ago(bus, server, 3) - HOUR_SEC
    set_beat(server, 100_000, started=began, age_sec=100)
    set_at = time.time()
    recorder = make_recorder(bus)
    running = asyncio.create_task(recorder.run())

    async def is_heard():
        return (await read_history(bus, int(time.time()))).history.listening.heard

    await wait_for(is_heard)
    set_beat(server, 100_010, started=began)
    begun, passed = recorder.history.listening.until, time.time() - set_at
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    stored = await read_history(bus, int(time.time()))
    assert stored.history.listening.until == pytest.approx(begun + 100 + passed, abs=5)


async def test_it_counts_what_it_recorded_and_knows_how_far_behind_it_is(bus, server):
    begin = await begin_long_ago(bus, server, 3)
    add_outage(server, "svc00", begin + HOUR_SEC, begin + HOUR_SEC + 600)
    server.cmd("XADD", "healer:alerts:log", "*", "event", "{nonsense")
    recorder = make_recorder(bus)
    assert recorder.behind_sec(time.monotonic()) is None
    await recorder.step(block_sec=None)
    assert (recorder.counts.recorded, recorder.counts.malformed) == (2, 1)
    assert recorder.behind_sec(time.monotonic()) < 30
    assert recorder.behind_sec(time.monotonic() + 100) >= 100
    add_outage(server, "svc01", begin + HOUR_SEC, begin + HOUR_SEC + 600)
    server.cmd("HINCRBY", "board:history", "version", 1)  # another board wrote
    await recorder.step(block_sec=None)
    assert recorder.counts.conflicts == 1


@pytest.mark.live
async def test_a_recorder_that_has_no_bus_counts_failures_and_is_never_up_to_date():
    away = Bus("system-redis", "redis://127.0.0.1:1")
    recorder = make_recorder(away)
    running = asyncio.create_task(recorder.run())
    await auntil(lambda: recorder.counts.failures, 20, "a failure")
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert recorder.behind_sec(time.monotonic()) is None
    await away.aclose()


async def wait_for(condition):
    await auntil(condition, 20, "the recorder")
