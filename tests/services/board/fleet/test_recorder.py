"""The recorder of the history: killed anywhere, beside another board, with nonsense in its keys."""

import asyncio
import contextlib
import random
import time

import orjson
import pytest

from marketswarm.bus.stream import read_newest_id
from marketswarm.bus.transaction import TRANSACTION
from marketswarm.event import Event, Kind, encode_event
from marketswarm.history import store
from marketswarm.history.fleet_history import PERIOD_HOURS
from marketswarm.history.rollup import HOUR_SEC, PastOutage, Seconds
from marketswarm.history.spans import KnownState
from marketswarm.history.store import begin_history, read_history, write_history
from marketswarm.tasks import end_tasks
from marketswarm.testing import MemoryBus
from marketswarm.truth import parse_truth
from services.board.fleet import recorder as recorder_module
from services.board.fleet.recorder import SAVE_SEC, STEP_BACK_SEC, HistoryRecorder, parse_verdict
from support.waiting import auntil

NAMES = [f"svc{n:02}" for n in range(12)]
TRUTH = parse_truth(
    orjson.dumps(
        {"services": {"healer": {"heartbeat": {"timeout_sec": 3000}}} | {name: {} for name in NAMES}}
    )
).truth


HASHES = ("board:history", "board:history:spans")


@pytest.fixture
def bus():
    return MemoryBus()


@pytest.mark.parametrize(
    ("event", "since"),
    [({"down_since": 4000.0}, 4000.0), ({}, 100.0), ({"down_since": "x"}, 100.0), ("x", 100.0)],
)
def test_a_stored_verdict_says_since_when_as_its_event_does(event, since):
    entry = {"verdict": "down", "ts": 5000.0, "since": 100.0, "event": event}
    assert parse_verdict(orjson.dumps(entry)) == (KnownState.DOWN, since)


OTHER_SEEDS = pytest.mark.nightly("the first seed kills recorders at 30 places in every run")


class KilledError(Exception):
    """Stands for the end of a process."""


class MortalBus(MemoryBus):
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


async def ask(bus, *words):
    """Send a command as another client does."""
    return await bus.client.execute_command(*words)


async def copy_history(bus):
    """Return what the hashes of the history hold."""
    return {key: await bus.client.hgetall(key) for key in HASHES}


async def put_back(bus, copied):
    """Make the history what it was when it was copied."""
    await bus.client.delete(*await bus.client.keys("board:*"))
    for key, fields in copied.items():
        await bus.client.hset(key, mapping=fields)


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


async def add_outage(bus, svc, start, end):
    miss = make_miss(svc, start)
    ok = Event(
        *(Kind.HEARTBEAT_OK, svc, float(end), f"o.{svc}.{end}", "healer"),
        since=float(start),
        down_sec=float(end - start),
    )
    for event in (miss, ok):
        await ask(bus, "XADD", "healer:alerts:log", "*", "event", encode_event(event))


async def set_beat(bus, i, boot="one", started=None, age_sec=0):
    beat = {"svc": "healer", "i": i, "ts": time.time(), "boot": boot, "every": 10}
    beat |= {"started": started} if started else {}
    await ask(bus, "SET", "beat:healer", orjson.dumps(beat), "PX", 6_000_000 - 1000 * age_sec)


async def put_in_roster(bus, *names):
    for name in names:
        await ask(bus, "HSET", "healer:roster", name, orjson.dumps({"verdict": "up", "ts": 1.0}))


async def begin_long_ago(bus, hours):
    """Store a history that began some hours ago, with every service up since, and a healer that was there."""
    begin = int(time.time()) - hours * HOUR_SEC
    stored = begin_history(begin)
    stored.history.follow(dict.fromkeys([*NAMES, "healer"], "system-redis"), 3000.0, begin)
    for name in [*NAMES, "healer"]:
        stored.history.adopt(name, KnownState.UP, begin - 2 * HOUR_SEC)
    assert await write_history(bus, stored, b"0-0")
    await set_beat(bus, hours * 400, started=begin - 2.0 * HOUR_SEC)
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


async def add_outages(bus, begin, hours, seed):
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
        await add_outage(bus, name, start, end)
        if chance.random() < 0.2:
            await add_outage(bus, name, start, end)


async def test_what_happened_is_recorded_and_read_back(bus):
    begin = await begin_long_ago(bus, 3)
    await add_outage(bus, "svc00", begin + HOUR_SEC, begin + HOUR_SEC + 600)
    recorder = await record(bus)
    now = time.time()
    assert uptime(recorder, "svc00", now)["24h"].down == 600
    assert uptime(recorder, "svc01", now)["24h"].share == 1
    assert recorder.history.outages("svc00", int(now)) == [
        PastOutage(begin + HOUR_SEC, begin + HOUR_SEC + 600)
    ]
    assert (await sums(bus, now))["svc00"][0] == uptime(recorder, "svc00", now)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # the request that was not sent
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=OTHER_SEEDS) for seed in (1, 2))])
async def test_a_recorder_that_is_killed_anywhere_leaves_the_same_sums(bus, seed, monkeypatch):
    monkeypatch.setattr(store, "CHANGES_AT_ONCE", 3)  # many small parts, and many places to be killed
    monkeypatch.setattr(recorder_module, "AT_ONCE", 25)
    begin = await begin_long_ago(bus, 40)
    saved = await copy_history(bus)
    late = [(name, begin + (n + 3) * HOUR_SEC + 700 * n) for n, name in enumerate(NAMES[-4:])]
    await add_outages(bus, begin, 40, seed)
    for name, start in late:
        await add_outage(bus, name, start, begin + 39 * HOUR_SEC)
    now = time.time()
    await record(bus, steps=20)
    wanted, chance = await sums(bus, now), random.Random(seed)
    assert sum(seconds["7d"].down for seconds, _ in wanted.values()) > 100 * HOUR_SEC

    await ask(bus, "DEL", "healer:alerts:log")
    await put_back(bus, saved)
    await add_outages(bus, begin, 40, seed)
    killed = await record_and_die(bus, chance, 15)
    await record(bus, steps=20)  # all hours that can be are finished now
    for name, start in late:
        await add_outage(bus, name, start, begin + 39 * HOUR_SEC)
    killed += await record_and_die(bus, chance, 15)
    await record(bus, steps=20)
    assert killed > 10
    found = await sums(bus, now)
    assert {name: seconds for name, (seconds, _) in found.items()} == {
        name: seconds for name, (seconds, _) in wanted.items()
    }
    assert {name: found[name][1] for name in NAMES[:-4]} == {name: wanted[name][1] for name in NAMES[:-4]}


async def record_and_die(bus, chance, times):
    """Run some recorders, each until it dies at a random request; return how many died."""
    killed = 0
    for _ in range(times):
        mortal = MortalBus(server=bus.server)
        mortal.left, mortal.after = chance.randrange(1, 100), chance.random() < 0.5
        try:
            await record(mortal, steps=8)
        except KilledError:
            killed += 1
        await mortal.aclose()
    return killed


class BusThatDiesWriting(MemoryBus):
    """A bus whose client dies at its n-th write of the history, before or after the server took it."""

    left = -1
    after = False

    async def script(self, script, keys, args, within_sec=None):
        self.left -= script is TRANSACTION
        if self.left == 0 and not self.after:
            raise KilledError
        reply = await super().script(script, keys, args, within_sec)
        if self.left == 0:
            raise KilledError
        return reply


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
async def test_a_late_outage_counts_once_whichever_part_of_its_write_was_the_last(bus, after, monkeypatch):
    monkeypatch.setattr(store, "CHANGES_AT_ONCE", 1)
    begin = await begin_long_ago(bus, 40)
    await record(bus)
    saved = await copy_history(bus)
    late = {name: begin + (n + 3) * HOUR_SEC + 700 * n for n, name in enumerate(NAMES[:4])}
    for name, start in late.items():
        raw = encode_event(make_miss(name, start, time.time()))
        await ask(bus, "XADD", "healer:alerts:log", "*", "event", raw)
    died = 0
    for write in range(1, 12):
        await put_back(bus, saved)
        mortal = BusThatDiesWriting(server=bus.server)
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


async def test_two_boards_record_each_event_once(bus):
    begin = await begin_long_ago(bus, 40)
    await add_outages(bus, begin, 38, seed=7)
    other = MemoryBus(server=bus.server)
    recorders = [make_recorder(bus), make_recorder(other)]
    for _ in range(4):
        await asyncio.gather(*(recorder.step(block_sec=None) for recorder in recorders))
    await add_outage(bus, "svc11", int(time.time()) - 900, int(time.time()) - 300)
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


async def make_two(bus, other, **more):
    """Return a recorder that writes and one that came second."""
    both = [make_recorder(bus, **more), make_recorder(other, **more)]
    for recorder in both:
        await recorder.step(block_sec=None)
    now = int(time.time())
    await add_outage(bus, "svc11", now - 900, now - 300)
    for recorder in both:
        await recorder.step(block_sec=None)
    first, second = sorted(both, key=lambda recorder: recorder.conflicts)
    assert (first.conflicts, second.conflicts) == (0, 1)
    await first.step(block_sec=None)
    return first, second


async def test_while_the_first_board_writes_the_second_one_reads_no_history(bus, monkeypatch):
    reads = []

    async def count_reads(*args, **more):
        reads.append(args)
        return await read_history(*args, **more)

    monkeypatch.setattr(recorder_module, "read_history", count_reads)
    begin = await begin_long_ago(bus, 40)
    await add_outages(bus, begin, 38, seed=7)
    other = MemoryBus(server=bus.server)
    first, second = await make_two(bus, other, step_back_sec=0.0)
    begun, now = len(reads), int(time.time())
    for n in range(20):
        await add_outage(bus, NAMES[n % 12], now - 900 + n, now - 300 + n)
        await first.step(block_sec=None)
        await second.step(block_sec=None)
    assert len(reads) == begun
    asked_at = time.time()
    found = await sums(bus, asked_at)
    for recorder in (first, second):
        assert {name: uptime(recorder, name, asked_at) for name in NAMES} == {
            name: seconds for name, (seconds, _) in found.items()
        }
    # the first one ends: what it did not record is the second one's to write, and nothing is lost
    await add_outage(bus, "svc03", now - 200, now - 100)
    for _ in range(4):
        await second.step(block_sec=None)
    assert len(reads) == begun + 1
    after = await sums(bus, time.time())
    assert after["svc03"][0]["24h"].down == found["svc03"][0]["24h"].down + 100
    await first.step(block_sec=None)  # it was only late, and is the second one from now on
    assert first.conflicts == 1
    await other.aclose()


@pytest.mark.slow
@pytest.mark.parametrize("is_idle", [False, True])
async def test_a_second_board_takes_over_from_one_that_writes_no_more(bus, monkeypatch, is_idle):
    clock = [time.monotonic()]
    wall_offset = time.time() - clock[0]
    monkeypatch.setattr(recorder_module.time, "monotonic", lambda: clock[0])
    # whole seconds of this clock are what is written while nothing happens
    monkeypatch.setattr(recorder_module.time, "time", lambda: wall_offset + clock[0])
    await begin_long_ago(bus, 3)
    await set_beat(bus, 10**6)
    other, now = MemoryBus(server=bus.server), int(time.time())
    _, second = await make_two(bus, other)
    version = (await read_history(bus, now)).version
    if not is_idle:
        await add_outage(bus, "svc01", now - 900, now - 300)
    took = 0.0
    while (await read_history(bus, now)).version == version:
        assert took < 90
        clock[0] += 1
        took += 1
        await second.step(block_sec=None)
    assert took <= (SAVE_SEC if is_idle else 0) + 2 * STEP_BACK_SEC + 2
    assert second.conflicts == 1
    await other.aclose()


async def test_a_board_that_comes_to_a_running_fleet_begins_with_this_hour(bus):
    await put_in_roster(bus, *NAMES)
    await set_beat(bus, 10**6)
    recorder = await record(bus)
    now = int(time.time())
    assert recorder.history.final == now // HOUR_SEC
    assert uptime(recorder, "svc00", now)["1y"] == Seconds(up=now % HOUR_SEC)
    assert recorder.history.recent("svc00", now)[0].state is KnownState.UNKNOWN


async def test_a_machine_that_was_off_for_hours_leaves_them_unknown(bus):
    begin = await begin_long_ago(bus, 30)
    now = time.time()
    await set_beat(bus, 7, boot="two", started=now - 60)
    recorder = await record(bus)
    found = uptime(recorder, "svc00", int(now))["7d"]
    assert found.up <= 70
    assert found.unknown == pytest.approx(int(now) - (begin // HOUR_SEC) * HOUR_SEC - 60, abs=15)


async def test_events_that_the_log_lost_leave_a_time_that_is_unknown(bus):
    begin = await begin_long_ago(bus, 3)
    await put_in_roster(bus, *NAMES)
    await add_outage(bus, "svc00", begin + HOUR_SEC, begin + HOUR_SEC + 600)
    await record(bus)
    await ask(bus, "HSET", "board:history", "position", f"{(begin + 2 * HOUR_SEC) * 1000}-0")
    recorder = await record(bus)
    assert uptime(recorder, "svc01", time.time())["24h"].unknown == pytest.approx(HOUR_SEC, abs=HOUR_SEC)
    assert uptime(recorder, "svc01", time.time())["24h"].unknown > 0


async def test_an_entry_with_the_last_possible_id_moves_no_time_and_ends_no_recording(bus):
    last_id = b"18446744073709551615-18446744073709551615"
    begin = await begin_long_ago(bus, 3)
    await add_outage(bus, "svc00", begin + HOUR_SEC, begin + HOUR_SEC + 600)
    await record(bus)
    await ask(bus, "DEL", "healer:alerts:log")
    await ask(bus, "XADD", "healer:alerts:log", last_id, "event", "{}")
    recorder = await record(bus)  # as after a restart: all before that entry seems to be lost
    assert (await read_history(bus, int(time.time()))).position == last_id
    await ask(bus, "DEL", "healer:alerts:log")
    now = int(time.time())
    for one, svc in ((recorder, "svc02"), (await record(bus), "svc03")):
        miss = Event(Kind.HEARTBEAT_MISS, svc, float(now), svc, "healer", since=now - 5.0)
        await ask(bus, "XADD", "healer:alerts:log", "*", "event", encode_event(miss))
        for _ in range(3):
            await one.step(block_sec=None)
        assert [each.start for each in one.history.outages(svc, now)] == [now - 5]
        (known,) = one.history.outages("svc00", now)  # what was recorded before is still there
        assert known.start == begin + HOUR_SEC


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


@pytest.mark.slow
@pytest.mark.parametrize("field", ["version", "position", "progress", "healer", "bus:system-redis"])
async def test_nonsense_in_the_keys_is_survived(bus, field):
    await begin_long_ago(bus, 9)
    await record(bus, steps=1)
    saved = await copy_history(bus)
    for raw in HOSTILE:
        await put_back(bus, saved)
        await survive(bus, raw, field)


async def survive(bus, raw, field):
    """Put nonsense into a history that was recorded, and record on."""
    period = int(time.time()) // HOUR_SEC // PERIOD_HOURS
    for key, name in (
        ("board:history", field),
        ("board:history:spans", "svc00"),
        (f"board:history:hours:{period}", "svc01"),
    ):
        await ask(bus, "HSET", key, name, raw)
    recorder = await record(bus)
    assert sum(uptime(recorder, "svc00", time.time())["24h"]) <= 25 * HOUR_SEC
    await add_outage(bus, "svc02", int(time.time()) - 1, int(time.time()))
    await recorder.step(block_sec=None)
    newest = await read_newest_id(bus, "healer:alerts:log")
    assert (await read_history(bus, int(time.time()))).position == newest, (field, raw[:40])


async def test_keys_of_another_type_are_replaced(bus):
    for key in ("board:history", "board:history:spans"):
        await ask(bus, "SET", key, "x")
    await put_in_roster(bus, *NAMES)
    recorder = make_recorder(bus, step_back_sec=0.0)
    for _ in range(4):
        await recorder.step(block_sec=None)
    assert await ask(bus, "TYPE", "board:history") == b"hash"
    assert await read_history(bus, int(time.time())) is not None


@contextlib.asynccontextmanager
async def running(recorder):
    """Run a recorder to the end of a block."""
    task = asyncio.create_task(recorder.run(block_sec=0.02))
    try:
        yield
    finally:
        await end_tasks(task)


async def test_while_its_bus_is_away_a_recorder_counts_failures_and_then_it_goes_on(bus):
    recorder, bus.connected = make_recorder(bus), False
    async with running(recorder):
        await auntil(lambda: recorder.failures > 1, what="failures")
        assert (recorder.error is None, recorder.behind_sec(time.monotonic())) == (False, None)
        bus.connected = True
        await auntil(lambda: recorder.history is not None and recorder.error is None)
        bus.connected = False
        await auntil(lambda: recorder.error is not None)
        bus.connected = True
        await auntil(lambda: recorder.error is None)
        miss = encode_event(make_miss("svc00", time.time()))
        await ask(bus, "XADD", "healer:alerts:log", "*", "event", miss)
        await auntil(lambda: recorder.history.services["svc00"].timeline.current() is KnownState.DOWN)


async def test_a_recorder_that_ends_writes_how_long_the_healer_was_there(bus, monkeypatch):
    monkeypatch.setattr(recorder_module, "END_SEC", 20.0)
    began = await begin_long_ago(bus, 3) - HOUR_SEC
    await set_beat(bus, 100_000, started=began, age_sec=100)
    set_at = time.time()
    recorder = make_recorder(bus)

    async def is_heard():
        return (await read_history(bus, int(time.time()))).history.listening.heard

    async with running(recorder):
        await auntil(is_heard)
        await set_beat(bus, 100_010, started=began)
        begun, passed = recorder.history.listening.until, time.time() - set_at
    stored = await read_history(bus, int(time.time()))
    assert stored.history.listening.until == pytest.approx(begun + 100 + passed, abs=5)


async def test_it_counts_what_it_recorded_and_knows_how_far_behind_it_is(bus):
    begin = await begin_long_ago(bus, 3)
    await add_outage(bus, "svc00", begin + HOUR_SEC, begin + HOUR_SEC + 600)
    await ask(bus, "XADD", "healer:alerts:log", "*", "event", "{nonsense")
    recorder = make_recorder(bus)
    assert recorder.behind_sec(time.monotonic()) is None
    await recorder.step(block_sec=None)
    assert (recorder.recorded, recorder.malformed) == (2, 1)
    assert recorder.behind_sec(time.monotonic()) < 30
    assert recorder.behind_sec(time.monotonic() + 100) >= 100
    await add_outage(bus, "svc01", begin + HOUR_SEC, begin + HOUR_SEC + 600)
    await ask(bus, "HINCRBY", "board:history", "version", 1)  # another board wrote
    await recorder.step(block_sec=None)
    assert recorder.conflicts == 1


async def test_a_board_that_was_overtaken_writes_nothing(bus):
    now = int(time.time())
    await begin_long_ago(bus, 3)
    one, two = await read_history(bus, now), await read_history(bus, now)
    one.history.adopt("svc00", KnownState.DOWN, now - 10.0)
    assert await write_history(bus, one, b"2-2")
    two.history.adopt("svc01", KnownState.DOWN, now - 20.0)
    assert not await write_history(bus, two, b"3-3")
    stored = await read_history(bus, now)
    assert stored.position == b"2-2"
    states = {svc: record.timeline.current() for svc, record in stored.history.services.items()}
    assert [svc for svc, state in states.items() if state is KnownState.DOWN] == ["svc00"]
