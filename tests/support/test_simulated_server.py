"""The scripts of `simulation/server.py` do what the real ones do: the same requests, the same replies."""

import asyncio

import orjson
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from healer.election import LEASE_SCRIPT
from healer.lease import BusLease
from marketswarm.bus.transaction import TRANSACTION
from marketswarm.monitor.publisher import PUBLISH_SCRIPT
from marketswarm.testing import MemoryBus
from support.examples import examples
from support.simulation.server import LEASE, ROSTER, RefusedError, Server

LIFE_SEC = 2.0

turns = st.tuples(
    st.sampled_from("abc"),  # whose turn
    st.sampled_from([0.1, 0.3, 1.0, 2.5]),  # after so many seconds
    st.sampled_from(["take", "take", "look", "carry", "give", "forget", "delete"]),
    st.integers(0, 6),  # the least epoch, or the carried one
    st.sampled_from(["", "", "x", "x,memory"]),  # deaf to
)
entries = st.sampled_from(["up", "down", "unwatched"])
notices = st.tuples(
    st.sampled_from(["a", "bus:x"]),
    entries,
    st.sampled_from(["", "", "m1", "m2"]),
    st.sampled_from(["ch", ""]),
)


def quiet(*_told: object) -> None:
    pass


def on_both(server: Server, bus: MemoryBus, runner: asyncio.Runner, script, *words):
    real = runner.run(bus.script(script, *words))
    assert server.run(script, *words, 0.0) == real
    return real


@pytest.fixture(scope="module")
def runner():
    with asyncio.Runner() as runner:
        yield runner


def hold_lease(runner: asyncio.Runner, server: Server, bus: MemoryBus) -> None:
    runner.run(bus.client.hset(LEASE, mapping={"boot": "a", "epoch": "1"}))
    server.hash(LEASE).update(boot=b"a", epoch=b"1")


def play_turns(runner, server, bus, history):
    """Take, look at, give back and forget a lease; then it must read the same."""
    now, leases = 0.0, {boot: BusLease(boot, LIFE_SEC) for boot in "abc"}
    for boot, pause, what, epoch, deaf in history:
        now += pause
        lease = leases[boot]
        if what == "forget":
            lease.mark_lost()
        if what == "delete":
            runner.run(bus.client.delete(LEASE))
            server.hash(LEASE).clear()
        may_take = what == "take"
        stale = lease.find_stale_version(now) if may_take else ""
        carried = epoch if what == "carry" else 0
        args = [boot, lease.epoch, max(1, epoch), carried, int(may_take), stale, deaf, LIFE_SEC]
        reply = on_both(server, bus, runner, LEASE_SCRIPT, [LEASE], [*args, int(what == "give")])
        lease.apply_reply(reply, now)
    kept = runner.run(bus.client.hgetall(LEASE))
    ours = {key.encode(): value for key, value in server.hash(LEASE).items()}
    kept.pop(b"until", None)
    ours.pop(b"until", None)
    assert kept == ours


def play_notices(runner, server, bus, history):
    """Publish verdicts as the holder of the lease and as another one; then the roster must read the same."""
    hold_lease(runner, server, bus)
    for n, ((field, verdict, mark, channel), speaks, late) in enumerate(history):
        entry = {"verdict": verdict, "n": n} | ({"mark": mark} if mark else {})
        value = b"" if verdict == "unwatched" else orjson.dumps(entry)
        assumed = "up" if field.startswith("bus:") else "unknown"
        after = "down" if verdict == "up" else ""
        args = ["a", 1 if speaks else 2, "a", n + 1 - late, 100]
        args += [field, assumed, verdict, mark, value, b"{}", channel, after, -1]
        on_both(server, bus, runner, PUBLISH_SCRIPT, [LEASE, ROSTER, "log", f"health:{field}"], args)
    kept = runner.run(bus.client.hgetall(ROSTER))
    assert kept == {key.encode(): value for key, value in server.hash(ROSTER).items()}


def play_saves(runner, server, bus, history):
    """Save and delete fields, fenced by the lease; then the hash must read the same."""
    hold_lease(runner, server, bus)
    for fence, args in history:
        guards = [word for each in fence for word in (1, *each)]
        words = [len(fence), *guards, "", 1, 2, *args, "", 0]
        on_both(server, bus, runner, TRANSACTION, [LEASE, "h"], words)
    kept = runner.run(bus.client.hgetall("h"))
    assert kept == {key.encode(): value for key, value in server.hash("h").items()}


SAVES = st.tuples(
    st.sampled_from(
        [
            [("boot", "IS", "a"), ("epoch", "IS", "1")],
            [("boot", "IS", "a"), ("epoch", "IS", "2")],
            [("boot", "IS", "b")],
            [],
        ]
    ),
    st.sampled_from([[2, "f", "1", "g", "2", 0], [1, "f", "3", 1, "g"], [0, 0]]),
)
TABLE = (
    st.tuples(st.just(play_turns), st.lists(turns, max_size=25)),
    st.tuples(
        st.just(play_notices),
        st.lists(st.tuples(notices, st.booleans(), st.sampled_from([0, 0, 2])), max_size=12),
    ),
    st.tuples(st.just(play_saves), st.lists(SAVES, max_size=8)),
)


@settings(max_examples=examples(250), phases=(Phase.generate, Phase.shrink))
@given(st.one_of(*TABLE))
def test_every_script_is_the_same_in_python_and_in_lua(runner, story):
    play, history = story
    server, bus = Server("x", quiet), MemoryBus()
    play(runner, server, bus, history)
    runner.run(bus.aclose())
    full = Server("x", quiet)
    full.refusing = "oom"
    with pytest.raises(RefusedError):
        full.run(LEASE_SCRIPT, [LEASE], ["a", 0, 1, 0, 1, "", "", LIFE_SEC, 0], 0.0)
    assert full.hash(LEASE) == {}
