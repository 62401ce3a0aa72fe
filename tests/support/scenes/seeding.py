"""Two real servers as buses, what they hold of the truth, and a bus to which things happen."""

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import redis

from marketswarm.access.passwords import format_acl_files, load_passwords, replace_url_user
from marketswarm.access.users import user_names
from marketswarm.bus import Bus
from marketswarm.settings.programs import MonitorSettings
from marketswarm.truth import Truth, parse_truth
from support.rig import HOST, Server
from support.waiting import PATIENT_SEC

SYSTEM = "system-redis"
KEYS = ("truth:doc", "truth:meta", "truth:history")


def truth(*services: str, **beats: float) -> bytes:
    """A valid document; other names, other bytes."""
    named = {svc: {} for svc in services} | {
        svc: {"heartbeat": {"interval_sec": every}} for svc, every in beats.items()
    }
    return json.dumps({"services": named}).encode()


@contextlib.contextmanager
def two_servers(folder: Path, **config: str) -> Iterator[tuple[Server, Server]]:
    """system-redis and market-redis, `config` for the latter."""
    with Server(folder / "system-redis") as system, Server(folder / "market-redis", **config) as market:
        yield system, market


def state(server: Server) -> dict[str, Any]:
    """Everything a server holds of the truth: bytes, meta, history with its ids, time to live."""
    with redis.Redis(host=HOST, port=server.port) as client:
        kinds = [client.type(key) for key in KEYS]
        return {
            "doc": client.get("truth:doc") if kinds[0] == b"string" else kinds[0],
            "meta": client.hgetall("truth:meta") if kinds[1] == b"hash" else kinds[1],
            "history": client.xrange("truth:history") if kinds[2] == b"stream" else kinds[2],
            "lasting": [client.ttl(key) > 0 for key in KEYS],
        }


def agreed(*servers: Server) -> tuple[bytes, int]:
    """The document and revision that all servers hold, meta and history included; fails if they don't."""
    held = []
    for server in servers:
        now = state(server)
        newest = now["history"][-1][1]
        assert (newest[b"doc"], newest[b"revision"]) == (now["doc"], now["meta"][b"revision"])
        assert newest[b"sha256"] == now["meta"][b"sha256"]
        held.append((now["doc"], int(now["meta"][b"revision"])))
    assert len(set(held)) == 1, held
    return held[0]


class WatchedBus(Bus):
    """A bus that lets something happen once, before or after it is written to."""

    before_write: Callable[[], Awaitable[Any]] | None = None
    after_write: Callable[[], Awaitable[Any]] | None = None

    async def script(
        self,
        script: Any,
        keys: Sequence[str | bytes],
        args: Sequence[str | bytes | float],
        within_sec: float | None = None,
    ) -> Any:
        if args[0] == "write" and self.before_write is not None:
            happen, self.before_write = self.before_write, None
            await happen()
        reply = await super().script(script, keys, args, within_sec)
        if args[0] == "write" and self.after_write is not None:
            happen, self.after_write = self.after_write, None
            await happen()
        return reply


@contextlib.asynccontextmanager
async def buses(*servers: Server | str) -> AsyncIterator[list[WatchedBus]]:
    """Buses to servers, or to URLs."""
    names = ["system-redis", "market-redis", "third-redis"]
    opened = [
        WatchedBus(name, server if isinstance(server, str) else server.url)
        for name, server in zip(names, servers, strict=False)
    ]
    try:
        yield opened
    finally:
        for bus in opened:
            await bus.aclose()


@contextlib.contextmanager
def heard(*servers: Server) -> Iterator[Callable[[], list[list[dict[str, Any]]]]]:
    """What was published on truth:changed of each server so far."""
    with contextlib.ExitStack() as ends:
        listeners = []
        for server in servers:
            client = ends.enter_context(redis.Redis(host=HOST, port=server.port))
            listener = ends.enter_context(client.pubsub(ignore_subscribe_messages=True))
            listener.subscribe("truth:changed")
            listener.get_message(timeout=PATIENT_SEC)  # the acknowledgement
            listeners.append((client, listener))

        def so_far() -> list[list[dict[str, Any]]]:
            gathered = []
            for client, listener in listeners:
                client.publish("truth:changed", b'"end"')  # what came before it has arrived with it
                messages: list[dict[str, Any]] = []
                while (message := listener.get_message(timeout=PATIENT_SEC)) is not None:
                    said = json.loads(message["data"])
                    if said == "end":
                        break
                    messages.append(said)
                gathered.append(messages)
            return gathered

        yield so_far


OLD_TRUTH = b'{"services":{"healer":{},"a":{}}}'
NEW_TRUTH = b'{"services":{"healer":{},"a":{},"b":{"heartbeat":{"channel":"b.pulse"}}}}'
OLD, NEW = parse_truth(OLD_TRUTH).truth, parse_truth(NEW_TRUTH).truth


class GuardedServer:
    """A server, in a folder, with the users of the old truth until those of the new one are loaded."""

    def __init__(self, folder: Path, bus: str = SYSTEM) -> None:
        self.bus, self.folder = bus, folder / bus
        self.folder.mkdir()
        self.known, _ = load_passwords(folder / "secrets", user_names(NEW), make_missing=True)

    def write(self, truth: Truth) -> None:
        """Write the users of a truth for the server to read."""
        text = format_acl_files(truth, self.known, MonitorSettings(), ())[self.bus]
        (self.folder / "users.acl").write_text(text, encoding="utf-8")

    def load(self, server: Server) -> None:
        """Have the server read its users anew."""
        with redis.Redis.from_url(self.url(server, "operator")) as operator:
            operator.acl_load()

    def url(self, server: Server, user: str) -> str:
        """Return the URL of the server for a user."""
        return replace_url_user(server.url, user, self.known[user])

    @contextlib.contextmanager
    def running(self) -> Iterator[Server]:
        """Run the server with the users of the old truth."""
        self.write(OLD)
        with Server(self.folder, aclfile="users.acl") as server:
            yield server

    @contextlib.asynccontextmanager
    async def entered(self, user: str) -> AsyncIterator[tuple[Server, Bus]]:
        """Run the server, with the bus of one user."""
        with self.running() as server:
            bus = Bus(self.bus, self.url(server, user))
            try:
                yield server, bus
            finally:
                await bus.aclose()
