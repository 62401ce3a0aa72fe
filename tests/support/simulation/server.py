"""Servers of a small world as real clients see them: scripts, hashes, sessions; links that can be cut.

Each script of a monitor is a few lines of Python here, held against the real ones in
`tests/support/test_simulated_server.py`.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import orjson

from healer.election import LEASE_SCRIPT
from marketswarm.bus import WITHIN_SEC, BusError
from marketswarm.bus.listener import CANARY_SCRIPT
from marketswarm.bus.scripts import Script
from marketswarm.bus.session import Gather
from marketswarm.bus.transaction import TRANSACTION
from marketswarm.monitor.health import REFRESH_SCRIPT
from marketswarm.monitor.leadership import NOT_THE_LEADER
from marketswarm.monitor.publisher import PUBLISH_SCRIPT
from marketswarm.monitor.witness import LAST_BEATS_SCRIPT
from support.simulation.event_loop import Loop, World
from support.simulation.world import Bus, Key

LEASE = "healer:lease"
ROSTER = "healer:roster"

Publication = Callable[["Server", tuple[str, int], str, bytes, str], None]
"""Called with each verdict that is told: where, by whom, on what, the event, the channel."""


class RefusedError(Exception):
    """The server does not take a write."""


class Keys(dict[str, Key]):
    """`beat:<svc>`; not written while the server takes no writes."""

    def __init__(self, server: "Server") -> None:
        super().__init__()
        self._server = server

    def __setitem__(self, svc: str, key: Key) -> None:
        if self._server.refusing is None:
            super().__setitem__(svc, key)


class Server(Bus):
    """One server: what it holds, and who listens."""

    def __init__(self, name: str, told: Publication) -> None:
        super().__init__()
        self.name, self._told = name, told
        self.keys: Keys = Keys(self)
        self.hashes: dict[str, dict[str, bytes]] = {}
        self.sessions: list[SmallSession] = []
        self.refusing: str | None = None
        self._scripts = {
            LEASE_SCRIPT.text: self.turn,
            PUBLISH_SCRIPT.text: self.tell,
            TRANSACTION.text: self.commit,
            LAST_BEATS_SCRIPT.text: self.last_beats,
            REFRESH_SCRIPT.text: self.refresh,
            CANARY_SCRIPT.text: self.canary,
        }

    @property
    def well(self) -> bool:
        return self.answers and self.refusing is None

    def stop(self) -> None:
        super().stop()
        for session in list(self.sessions):
            session.end("refused")

    def publish(self, channel: str, payload: bytes, now: float) -> None:
        for session in self.sessions:
            session.carry(now, channel, payload)

    def run(self, script: Script, keys: Sequence[Any], args: Sequence[Any], now: float) -> Any:
        words = [each if isinstance(each, bytes) else str(each).encode() for each in args]
        return self._scripts[script.text]([str(key) for key in keys], words, now)

    def hash(self, key: str) -> dict[str, bytes]:
        return self.hashes.setdefault(key, {})

    def writing(self) -> None:
        if self.refusing is not None:
            raise RefusedError(self.refusing)

    # -- scripts

    def turn(self, keys: list[str], args: list[bytes], _now: float) -> list[bytes]:
        """lease.lua."""
        boot, raw_epoch, raw_least, raw_carried, raw_may_take, stale, deaf, life, raw_give = args
        epoch, least, carried = int(raw_epoch), int(raw_least), int(raw_carried)
        held = self.hash(keys[0])
        holder, current = held.get("boot", b""), int(held.get("epoch", 0))
        renewed, before = int(held.get("renewed", 0)), held.get("deaf", b"")
        mine = holder == boot and current == epoch and epoch > 0
        new = None
        if raw_give == b"1":
            if mine:
                self.writing()
                held |= {"boot": b"", "until": b"0", "deaf": b""}
                return [b"", held["epoch"], held["renewed"], before, held["lease_sec"]]
        elif mine:
            new = max(current, least, carried)
        elif carried > current:
            new = max(carried, epoch + 1)
        elif raw_may_take == b"1":
            ours, theirs = ({*filter(None, each.split(b","))} for each in (deaf, before))
            yields = ours < theirs
            if holder in (b"", boot) or stale == b"%d.%d" % (current, renewed) or yields:
                new = max(current + 1, least)
        if new is not None:
            self.writing()
            held |= {"boot": boot, "epoch": b"%d" % new, "renewed": b"%d" % (renewed + 1)}
            held |= {"deaf": deaf, "lease_sec": life}
        found = {"boot": b"", "epoch": b"0", "renewed": b"0", "deaf": b"", "lease_sec": life} | held
        return [found[name] for name in ("boot", "epoch", "renewed", "deaf", "lease_sec")]

    def speaks(self, keys: list[str], args: list[bytes]) -> bool:
        """fence.lua."""
        held = self.hash(keys[0])
        return args[0] == b"" or (held.get("boot"), held.get("epoch")) == (args[0], args[1])

    def tell(self, keys: list[str], args: list[bytes], _now: float) -> Any:
        """publish.lua."""
        if not self.speaks(keys, args):
            return NOT_THE_LEADER
        lease, boot, number = self.hash(keys[0]), args[2], args[3]
        if lease.get("caller") == boot and int(lease["call"]) > int(number):
            return lease["call"]
        lease |= {"caller": boot, "call": number}
        notices = (args[at : at + 9] for at in range(5, len(args), 9))
        return [self._tell(keys[1], (args[0].decode(), int(args[1])), notice) for notice in notices]

    def _tell(self, roster: str, fence: tuple[str, int], notice: list[bytes]) -> int:
        field, assumed, verdict, mark, value, event, channel, after, _ = notice
        entries, name = self.hash(roster), field.decode()
        stored = orjson.loads(entries[name]) if name in entries else None
        if mark:
            if stored and (stored.get("mark") == mark.decode() or stored["verdict"] != verdict.decode()):
                return 0
        elif (stored["verdict"] if stored else assumed.decode()) == verdict.decode():
            return 0
        if not value and stored is None:
            return 0
        self.writing()
        if value:
            entries[name] = value
        else:
            entries.pop(name, None)
        is_told = after == b"" or (stored and stored["verdict"] == after.decode())
        self._told(self, fence, name, event, channel.decode() if is_told else "")
        return 1

    def commit(self, keys: list[str], args: list[bytes], _now: float) -> list[int]:
        """transaction.lua, for one transaction without entries and epochs."""
        words, is_held = iter(args), True
        for _ in range(int(next(words))):
            held = self.hash(keys[int(next(words)) - 1])
            name, kind, value = next(words).decode(), next(words), next(words)
            assert kind == b"IS"
            is_held = is_held and held.get(name, b"") == value
        if not is_held:
            return [0]
        assert next(words) == b""
        self.writing()
        for _ in range(int(next(words))):
            written = self.hash(keys[int(next(words)) - 1])
            for _ in range(int(next(words))):
                name, value = next(words).decode(), next(words)
                written[name] = value
            for _ in range(int(next(words))):
                written.pop(next(words).decode(), None)
            assert (next(words), next(words)) == (b"", b"0")
        return [1]

    def refresh(self, keys: list[str], args: list[bytes], _now: float) -> int:
        """refresh.lua, but that nothing is kept."""
        if not self.speaks(keys, args):
            return NOT_THE_LEADER
        self.writing()
        return len(keys) - 1

    def last_beats(self, keys: list[str], _args: list[bytes], now: float) -> list[Any]:
        """last_beats.lua."""
        found: list[Any] = []
        for name in keys:
            key = self.keys.get(name.removeprefix("beat:"))
            left_ms = 0 if key is None else round(1000 * (key.beat_at + key.life_sec - now))
            found += (b"", -2) if key is None or left_ms <= 0 else (key.payload, left_ms)
        return found

    def canary(self, _keys: list[str], args: list[bytes], now: float) -> int:
        self.writing()
        self.publish(args[0].decode(), args[1], now)
        return 1


class Requests:
    """Stands for `Redis`: each request is what the server will do."""

    @staticmethod
    def xinfo_groups(_stream: str) -> Callable[[Server, float], Any]:
        return lambda _server, _now: []

    @staticmethod
    def hmget(key: str, fields: Sequence[str]) -> Callable[[Server, float], Any]:
        return lambda server, _: [server.hash(key).get(field) for field in fields]

    @staticmethod
    def hscan(
        key: str,
        _cursor: int,
        *,
        match: str | None,
        count: int,  # noqa: ARG004 - as the library has it
    ) -> Callable[[Server, float], tuple[int, dict[bytes, bytes]]]:
        start = (match or "").removesuffix("*")
        return lambda server, _: (
            0,
            {name.encode(): value for name, value in server.hash(key).items() if name.startswith(start)},
        )


class RequestPipeline:
    """Stands for a pipeline of `Redis`, with what the length of a stream is computed from."""

    def __init__(self) -> None:
        self._requests: list[Callable[[Server, float], Any]] = []

    def xinfo_stream(self, _stream: str) -> None:
        self._requests.append(lambda _server, _now: {"last-generated-id": b"1-0", "entries-added": 1})

    def hgetall(self, key: str) -> None:
        self._requests.append(
            lambda server, _: {name.encode(): value for name, value in server.hash(key).items()}
        )

    def execute(self) -> Callable[[Server, float], list[Any]]:
        return lambda server, now: [request(server, now) for request in self._requests]


class Link:
    """One process's way to one server, with the surface of `marketswarm.bus.Bus`."""

    def __init__(self, world: World, loop: Loop, server: Server) -> None:
        self.world, self.loop, self.server = world, loop, server
        self.name = server.name
        self.client = Requests()
        self.latency = 0.002
        self.cut: str | None = None  # `refuse` or `swallow`
        self.session: SmallSession | None = None
        self.gone = False

    @property
    def well(self) -> bool:
        return self.cut is None and self.latency < 0.5 and self.server.well

    def do_cut(self, how: str) -> None:
        self.cut = how
        if how == "refuse" and self.session is not None:
            self.session.end("refused")

    def hang_up(self) -> None:
        """Its process is gone: what was sent arrives, and nothing else does."""
        self.gone = True
        for session in [each for each in self.server.sessions if each.link is self]:
            self.server.sessions.remove(session)

    async def script(
        self, script: Script, keys: Sequence[Any], args: Sequence[Any], within_sec: float | None = None
    ) -> Any:
        return await self.ask(lambda server, now: server.run(script, keys, args, now), within_sec)

    @staticmethod
    def pipeline() -> RequestPipeline:
        return RequestPipeline()

    async def ask(
        self,
        do: Callable[[Server, float], Any],
        within_sec: float | None = None,
        max_bytes: int | None = None,  # noqa: ARG002 - as `Bus` has it
    ) -> Any:
        if self.gone:
            raise BusError(self.name, "refused")
        answer: asyncio.Future[Any] = self.loop.create_future()
        self.send(do, answer)
        try:
            async with asyncio.timeout(within_sec or WITHIN_SEC):
                found = await answer
        except TimeoutError as error:
            raise BusError(self.name, "timeout") from error
        if isinstance(found, BusError):
            raise found
        return found

    def send(self, do: Callable[[Server, float], Any], answer: asyncio.Future[Any]) -> None:
        now = self.world.t
        if self.cut == "refuse" or not self.server.up:
            self.reply(now + 0.001, answer, BusError(self.name, "refused"))
        elif self.cut is None:
            self.world.at(now + self.latency / 2, partial(self.arrive, do, answer))

    def arrive(self, do: Callable[[Server, float], Any], answer: asyncio.Future[Any]) -> None:
        if self.cut is not None:
            return
        if not self.server.up:
            self.reply(self.world.t, answer, BusError(self.name, "refused"))
            return
        self.server.take(partial(self.execute, do, answer), self.world.t)

    def execute(self, do: Callable[[Server, float], Any], answer: asyncio.Future[Any], now: float) -> None:
        try:
            found = do(self.server, now)
        except RefusedError as refusal:
            found = BusError(self.name, str(refusal))
        self.reply(now + self.latency / 2, answer, found)

    def reply(self, at: float, answer: asyncio.Future[Any], found: Any) -> None:
        def come() -> None:
            if not answer.done() and (self.cut is None or isinstance(found, BusError)):
                answer.set_result(found)

        self.loop.post(at, come)


class SmallSession:
    """Stands for `marketswarm.bus.session.Session`."""

    is_settled = True

    def __init__(self, link: Link) -> None:
        self.link = link
        self._inbox: list[tuple[bytes, bytes, bytes]] = []
        self._reason: str | None = None
        self._filled = asyncio.Event()
        self._channels: set[str] = set()
        self._last = 0.0
        self._closed = False
        self._writer = None  # it has no transport that a pause could stop from reading
        self.loses = False  # the next canary
        self.refused: set[str] = set()  # this server refuses no channel

    async def connect(self) -> None:
        await self.link.ask(self._joins)

    def _joins(self, server: Server, _now: float) -> None:
        if not self._closed and not self.link.gone:
            server.sessions.append(self)
            self.link.session = self

    async def subscribe(self, channels: Collection[str]) -> None:
        await self.link.ask(lambda _server, _now: self._channels.update(channels))

    async def retry_refused(self) -> None:
        """Nothing was refused."""

    def measure_unanswered_sec(self, _now: float) -> float:
        """Return 0: `subscribe` has waited for the answer."""
        return 0.0

    async def unsubscribe(self, channels: Collection[str]) -> None:
        await self.link.ask(lambda _server, _now: self._channels.difference_update(channels))

    def carry(self, now: float, channel: str, payload: bytes) -> None:
        if self.loses and ":canary:" in channel and channel in self._channels:
            self.loses = False
        elif channel in self._channels:
            self._last = max(self._last, now + self.link.latency / 2)
            message = (b"message", channel.encode(), payload)
            self.link.loop.post(self._last, partial(self._come, message))

    def _come(self, message: tuple[bytes, bytes, bytes]) -> None:
        if self.link.cut is None and self._reason is None:
            self._inbox.append(message)
            self._filled.set()

    def end(self, reason: str) -> None:
        self._reason = self._reason or reason
        if self in self.link.server.sessions:
            self.link.server.sessions.remove(self)
        self.link.loop.post(self.link.world.t, self._filled.set)

    async def read_batch(self) -> list[tuple[bytes, bytes, bytes]]:
        await self._filled.wait()
        found, self._inbox = self._inbox, []
        if not found and self._reason is not None:
            raise BusError(self.link.name, self._reason)
        if self._reason is None:
            self._filled.clear()
        return found

    async def let_gather(self, gather: Gather, sec: float) -> None:
        await (gather.wait(self, sec) if sec > 0 else asyncio.sleep(0))

    async def close(self) -> None:
        self._closed = True
        if self in self.link.server.sessions:
            self.link.server.sessions.remove(self)
