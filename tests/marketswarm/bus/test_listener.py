"""A listener on a real server: sessions that end in every way, channels that come and go, lost canaries."""

import asyncio
import contextlib
import time
from collections.abc import Sequence

import pytest

from marketswarm.bus import Bus
from marketswarm.bus.listener import MANY_PROVEN, OPEN_WITHIN_SEC, ChannelNames, Listener, read_clocks
from marketswarm.bus.session import SubscriberConnection
from marketswarm.detector.clock import ListeningClock
from marketswarm.tasks import end_tasks
from support.fixtures import opened
from support.rig import HOST, Server, TcpProxy, free_port
from support.waiting import auntil

pytestmark = pytest.mark.live


# ruff: noqa: ARG002 - a handler receives more than this one records
class RecordingHandler:
    """Notes everything; all messages on other channels than the canaries' are kept in `payloads`."""

    def __init__(self) -> None:
        self.clock = ListeningClock(read_clocks())
        self.sessions = 0
        self.losses: list[str] = []
        self.payloads: list[tuple[bytes, bytes]] = []
        self.refusals: list[str] = []
        self.refused: list[set[str]] = []
        self.canaries = self.batches = 0
        self.work_sec = 0.0  # what each part of a batch takes

    def on_session_opened(self, bus: str) -> None:
        self.sessions += 1
        self.clock.note_session_opened()

    def on_channels_refused(self, bus, channels, now) -> None:
        self.refused.append(set(channels))

    def on_session_lost(self, bus: str, reason: str) -> None:
        self.losses.append(reason)
        self.clock.note_session_lost(reason)

    def on_messages(self, bus, messages, now) -> Sequence[Sequence[bytes]]:
        others = []
        self.batches += 1
        time.sleep(self.work_sec)  # work, and so it blocks the loop
        for message in messages:
            if message[1].startswith(b"healer:canary:"):
                others.append(message)
            else:
                self.payloads.append((message[1], message[2]))
        return others

    def on_canary_sent(self, bus, number, now, worked_sec) -> None:
        self.clock.note_canary_sent(number, now.mono, worked_sec)

    def on_canary_accepted(self, bus, now) -> None:
        self.clock.note_canary_accepted(now)

    def on_canary_refused(self, bus, number, reason) -> None:
        self.refusals.append(reason)
        self.clock.note_canary_refused(number, reason)

    def on_canary_received(self, bus, number, now, worked_sec) -> None:
        self.canaries += 1
        self.clock.note_canary_received(number, now, worked_sec)

    def get_missing_canary_sec(self, bus, now, worked_sec) -> float:
        return self.clock.missing_canary_sec(now, worked_sec)


server = opened(lambda tmp_path: Server(tmp_path / "bus"))


@contextlib.asynccontextmanager
async def listening(url: str, *channels: str):
    """A listener at work, and its handler, once both a session and a canary are there."""
    bus = Bus("system-redis", url, within_sec=0.5)
    handler = RecordingHandler()
    listener = Listener(bus, handler, listener="healer", boot="me")
    listener.set_channels(frozenset(channels))
    task = asyncio.create_task(listener.run())
    try:
        await auntil(lambda: handler.clock.is_listening or task.done(), what="a canary")
        yield listener, handler
        assert not task.done(), "the listener ended"
    finally:
        await end_tasks(task)
        await bus.aclose()


def subscribers(server: Server, channel: str) -> int:
    return int(server.cmd("PUBSUB", "NUMSUB", channel)[1])


def test_names_of_channels_come_out_as_they_went_in():
    for names in (set(), {"a"}, {"a:heartbeat", "s3 secret", "ü"}):
        assert ChannelNames(names).to_set() == names
        assert len(ChannelNames(names)) == len(names)


async def test_channels_are_subscribed_by_name_never_by_pattern(server):
    async with listening(server.url, "a:heartbeat", "b:heartbeat") as (_, handler):
        assert subscribers(server, "a:heartbeat") == subscribers(server, "b:heartbeat") == 1
        assert server.cmd("PUBSUB", "NUMPAT") == 0
        server.cmd("PUBLISH", "a:heartbeat", "hello")
        await auntil(lambda: handler.payloads == [(b"a:heartbeat", b"hello")])


async def test_messages_that_come_one_by_one_are_read_together(server):
    async with listening(server.url, "a") as (_, handler):
        before = handler.batches
        publisher = Bus("publisher", server.url)
        for number in range(300):
            await publisher.client.publish("a", number)  # each is on its way before the next one is sent
        await auntil(lambda: len(handler.payloads) == 300)
        await publisher.aclose()
        assert [int(payload) for _, payload in handler.payloads] == list(range(300)), "none lost, none moved"
        assert handler.batches - before < 150


async def test_a_canary_is_not_kept_waiting_by_messages_that_gather(server, monkeypatch):
    monkeypatch.setattr("marketswarm.bus.listener.GATHER_SEC", 60.0)
    async with listening(server.url, "a") as (listener, handler):
        for number in range(3):
            server.cmd("PUBLISH", "a", number)
            received = handler.canaries
            listener.request_canary()
            await auntil(lambda received=received: handler.canaries > received, 10)
        await auntil(lambda: len(handler.payloads) == 3)
        assert not handler.losses


async def test_channels_come_and_go_while_it_runs_and_the_session_stays(server):
    async with listening(server.url, "a", "b") as (listener, handler):
        listener.set_channels(frozenset({"b", "c"}))
        await auntil(lambda: subscribers(server, "c") == 1 and subscribers(server, "a") == 0)
        for channel in "abc":
            server.cmd("PUBLISH", channel, channel)
        await auntil(lambda: len(handler.payloads) == 2)
        assert handler.payloads == [(b"b", b"b"), (b"c", b"c")]
        assert (handler.sessions, handler.losses) == (1, [])
        await auntil(lambda: handler.clock.is_listening)


async def test_a_session_that_the_server_kills_is_rebuilt_at_once(server):
    async with listening(server.url, "a") as (_, handler):
        for n in (2, 3):
            server.cmd("CLIENT", "KILL", "TYPE", "pubsub")
            await auntil(lambda n=n: handler.sessions == n)
            await auntil(lambda: handler.clock.is_listening)
        assert handler.losses == ["refused", "refused"]
        assert handler.clock.gaps == 2
        server.cmd("PUBLISH", "a", "again")
        await auntil(lambda: handler.payloads == [(b"a", b"again")])


async def test_a_burst_that_takes_long_to_hear_is_heard_to_its_end_on_the_session_that_brought_it(server):
    async with listening(server.url, "a") as (_, handler):
        handler.work_sec = 0.05
        script = "for i = 1, 15000 do redis.call('PUBLISH', 'a', i) end"
        await asyncio.to_thread(server.cmd, "EVAL", script, "0")
        await auntil(lambda: len(handler.payloads) == 15_000 or handler.losses)
        assert handler.losses == []
        handler.work_sec = 0.0
        await auntil(lambda: handler.clock.is_listening)
        assert handler.sessions == 1


async def test_a_half_open_connection_is_noticed_by_its_canaries_and_given_up(server):
    with TcpProxy(server.port) as wire:
        async with listening(wire.url, "a") as (_, handler):
            wire.swallow(only=b"subscribe")
            await auntil(lambda: "deaf" in handler.losses)
            assert not handler.clock.is_listening
            wire.heal()
            await auntil(lambda: handler.clock.is_listening)
            server.cmd("PUBLISH", "a", "again")
            await auntil(lambda: handler.payloads == [(b"a", b"again")])


async def test_a_session_that_takes_no_more_words_can_be_given_up_all_the_same(server, monkeypatch):
    class Stuck(SubscriberConnection):
        async def subscribe(self, channels) -> None:
            if "new" in channels and not opened:
                stuck.set()
                await asyncio.sleep(3600)  # in drain, as on a connection that nobody reads
            await super().subscribe(channels)

    opened, stuck = [], asyncio.Event()
    monkeypatch.setattr("marketswarm.bus.listener.SubscriberConnection", Stuck)
    async with listening(server.url, "a") as (listener, handler):
        listener.set_channels(frozenset({"a", "new"}))
        await stuck.wait()
        opened.append(True)
        listener.rebuild_session()
        await auntil(lambda: subscribers(server, "new") == 1)
        assert handler.losses == ["deaf"]


async def test_a_subscribe_whose_answer_is_lost_ends_the_session_though_other_messages_come(
    server, monkeypatch
):
    class Losing(SubscriberConnection):
        async def subscribe(self, channels) -> None:
            with monkeypatch.context() as patch:
                if "new" in channels and not lost_at:
                    lost_at.append(time.monotonic())
                    patch.setattr(self._connection, "send_packed_command", send_nothing)
                await super().subscribe(channels)

    async def send_nothing(*_: object, **__: object) -> None: ...

    lost_at: list[float] = []
    monkeypatch.setattr("marketswarm.bus.listener.SubscriberConnection", Losing)
    async with listening(server.url, "a") as (listener, handler):
        listener.set_channels(frozenset({"a", "new"}))
        await auntil(lambda: handler.losses, what="the end of the session")
        assert time.monotonic() - lost_at[0] >= OPEN_WITHIN_SEC
        await auntil(lambda: subscribers(server, "new") == 1)
        assert (len(lost_at), handler.losses) == (1, ["deaf"])


async def test_an_answer_behind_messages_that_take_long_ends_no_session(server, monkeypatch):
    async with listening(server.url, "a") as (listener, handler):
        monkeypatch.setattr("marketswarm.bus.listener.OPEN_WITHIN_SEC", 0.5)
        handler.work_sec = 0.3
        burst = "for i = 1, 8 do redis.call('PUBLISH', 'a', string.rep('x', 40960)) end"
        server.cmd("EVAL", burst, "0")
        listener.set_channels(frozenset({"a", "new"}))
        await auntil(lambda: len(handler.payloads) == 8 or handler.losses)
        handler.work_sec = 0.0
        await auntil(lambda before=handler.canaries: handler.canaries > before + 3 or handler.losses)
        assert (handler.sessions, handler.losses, subscribers(server, "new")) == (1, [], 1)


async def test_a_server_that_was_away_is_found_again(server):
    async with listening(server.url, "a") as (_, handler):
        server.kill()
        await auntil(lambda: handler.refusals)
        assert not handler.clock.is_listening
        assert handler.clock.reason == "refused"
        server.start()
        await auntil(lambda: handler.clock.is_listening)
        assert subscribers(server, "a") == 1


async def test_a_frozen_server_is_a_gap_with_a_reason_and_ends_when_it_thaws(server):
    async with listening(server.url, "a") as (_, handler):
        server.freeze()
        await auntil(lambda: handler.refusals)
        assert (handler.clock.is_listening, handler.clock.reason) == (False, "timeout")
        server.thaw()
        await auntil(lambda: handler.clock.is_listening)


async def test_five_thousand_channels_are_listened_to_within_seconds(server):
    channels = [f"svc{n:04}:heartbeat" for n in range(5000)]
    async with listening(server.url, *channels) as (listener, handler):
        assert all(
            subscribers(server, channel) == 1 for channel in (channels[0], channels[2500], channels[-1])
        )
        listener.set_channels(frozenset(channels[:2500]) | {f"new{n}" for n in range(5000)})
        await auntil(lambda: subscribers(server, channels[-1]) == 0 and subscribers(server, "new4999") == 1)
        assert subscribers(server, channels[0]) == 1
        assert (handler.sessions, handler.losses) == (1, [])


async def test_a_replica_is_not_taken_for_a_healthy_bus(server):
    async with listening(server.url, "a") as (_, handler):
        server.cmd("REPLICAOF", HOST, free_port())
        await auntil(lambda: not handler.clock.is_listening and handler.refusals)
        assert handler.clock.reason == "readonly"
        server.cmd("REPLICAOF", "NO", "ONE")
        await auntil(lambda: handler.clock.is_listening)


async def test_a_full_server_refuses_the_canary_and_says_why(server):
    async with listening(server.url, "a") as (_, handler):
        server.cmd("CONFIG", "SET", "maxmemory", "1")
        await auntil(lambda: handler.refusals)
        assert (handler.clock.is_listening, handler.clock.reason) == (False, "oom")
        server.cmd("CONFIG", "SET", "maxmemory", "0")
        await auntil(lambda: handler.clock.is_listening)


def allow(server: Server, *channels: str) -> None:
    server.cmd("ACL", "SETUSER", "default", "resetchannels", *(f"&{channel}" for channel in channels))


@pytest.mark.parametrize("late", [False, True], ids=["from the start", "while it runs"])
async def test_channels_that_may_not_be_heard_are_named_and_all_others_are_heard(server, late):
    open_ones = [f"s{n}" for n in range(60)]
    allow(server, "healer:*", *open_ones)
    wanted = frozenset({*open_ones, "s3 secret", "hidden"})
    async with listening(server.url, *(["s0"] if late else wanted)) as (listener, handler):
        listener.set_channels(wanted)
        await auntil(lambda: handler.refused[-1] == {"s3 secret", "hidden"})
        await auntil(lambda: all(subscribers(server, each) == 1 for each in open_ones))
        server.cmd("PUBLISH", "s3", "hello")
        await auntil(lambda: handler.payloads == [(b"s3", b"hello")])
        server.cmd("ACL", "SETUSER", "default", "&hidden")
        await auntil(lambda: handler.refused[-1] == {"s3 secret"} and subscribers(server, "hidden") == 1)
        listener.set_channels(wanted - {"s3 secret"})
        await auntil(lambda: handler.refused[-1] == set())
        assert (handler.sessions, handler.losses) == (1, [])
        assert handler.clock.is_listening


@pytest.mark.parametrize("left", [["healer:*"], []], ids=["the canary's", "none"])
async def test_a_bus_that_lets_nothing_be_heard_is_lost_with_its_reason(server, left):
    async with listening(server.url, "a", "b") as (_, handler):
        allow(server, *left)
        await auntil(lambda: "auth" in handler.losses)
        server.cmd("ACL", "SETUSER", "default", "allchannels")
        await auntil(lambda: handler.clock.is_listening and subscribers(server, "b") == 1)


async def test_a_message_of_65_mb_is_skipped_again_and_again_and_the_session_goes_on(server, monkeypatch):
    # the canary behind it has waited for 0.9 s on a busy machine
    monkeypatch.setattr("marketswarm.bus.listener.DEAF_AFTER_SEC", 10.0)
    server.cmd("CONFIG", "SET", "proto-max-bulk-len", 512 << 20)
    server.cmd("CONFIG", "SET", "client-output-buffer-limit", "pubsub 0 0 0")
    server.cmd("CONFIG", "SET", "client-query-buffer-limit", 1 << 30)
    flood = "for i = 1, 3 do redis.call('PUBLISH', 'a', ARGV[i]) redis.call('PUBLISH', 'b', 'and ' .. i) end"
    async with listening(server.url, "a", "b") as (_, handler):
        for n in range(3):
            sizes = [b"x" * (65 << 20), b"y" * (300 << 10), b"short"]
            await asyncio.to_thread(server.cmd, "EVAL", flood, 0, *sizes, within=30)
            await auntil(lambda n=n: len(handler.payloads) == 6 * (n + 1))
        assert [payload for channel, payload in handler.payloads if channel == b"b"] == 3 * [
            b"and 1",
            b"and 2",
            b"and 3",
        ]
        assert (
            max(len(payload) for _, payload in handler.payloads) <= 320 << 10
        )  # one that is whole before it is too long is handed out
        assert (handler.sessions, handler.losses) == (1, [])
        await auntil(lambda: handler.clock.is_listening)


async def test_an_urge_brings_a_canary_at_once(server, monkeypatch):
    async with listening(server.url, "a") as (listener, handler):
        monkeypatch.setattr("marketswarm.bus.listener.CANARY_EVERY_SEC", 3600.0)  # none comes of itself
        for _ in range(10):
            await bring_canary(listener, handler)


async def test_canaries_are_further_apart_while_each_proves_very_many_silences(server, monkeypatch):
    async with listening(server.url, "a") as (listener, handler):
        monkeypatch.setattr("marketswarm.bus.listener.CANARY_EVERY_SEC", 3600.0)  # none comes of itself
        monkeypatch.setattr("marketswarm.bus.listener.BUSY_CANARY_PAUSE_SEC", 0.5)

        async def measure_pause() -> float:
            """Return the seconds between two canaries, each of which is requested at once."""
            await bring_canary(listener, handler)  # the pause of this one began before
            began = time.monotonic()
            await bring_canary(listener, handler)
            return time.monotonic() - began

        listener.note_proven(MANY_PROVEN)
        assert await measure_pause() > 0.4
        listener.note_proven(MANY_PROVEN - 1)
        assert min([await measure_pause() for _ in range(20)]) < 0.4


async def bring_canary(listener, handler) -> None:
    received = handler.canaries
    listener.request_canary()
    await auntil(lambda: handler.canaries > received)


async def test_a_canary_of_another_listener_or_none_at_all_means_nothing(server):
    async with listening(server.url, "a") as (_, handler):
        server.cmd("PUBLISH", "healer:canary:me", "not a number")
        server.cmd("PUBLISH", "healer:canary:other", "1")
        server.cmd("PUBLISH", "a", "after")
        await auntil(lambda: handler.payloads == [(b"a", b"after")])
        assert handler.clock.gaps == 0
