"""The market station: two buses, a database and three services, each of which can be killed at any moment."""

import contextlib
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import orjson
import redis

from marketproof.clock import PlayedClock
from marketproof.plan import BUSES, DATABASE, SERVICES, Plan, list_series, make_truth
from support.market_server import MarketServer
from support.postgres import Postgres
from support.rig import Proc, Server
from support.scenes.agent import seed

LOST_SEC: Final = 1.0
"""What a server with `appendfsync everysec` may forget."""
CLOCKED: Final = frozenset({"sources", "bars"})
STREAMS: Final = (
    *("market:bars", "market:quotes", "market:observations"),
    *("bars:bars", "bars:indicators", "bars:features"),
)
"""The streams on which nothing comes any more once the market is over."""
STREAM_PAGE: Final = 1_000
UNREAD_BY_ARCHIVE: Final = frozenset({"market:bars"})


class Station:
    """Run all parts: `with Station(folder, plan, market, clock) as station:`."""

    def __init__(self, folder: Path, plan: Plan, site: MarketServer, clock: PlayedClock) -> None:
        self._folder, self._plan, self._site, self._clock = folder, plan, site, clock
        self._ends = contextlib.ExitStack()
        self._sizes: dict[str, list[tuple[float, Path, int]]] = {bus: [] for bus in BUSES}
        self._revision = 0
        self.torn_bytes: Counter[str] = Counter()
        self.services: dict[str, Proc] = {}
        self.exits: list[tuple[str, int | None]] = []

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as ends:
            self.buses = {bus: ends.enter_context(Server(self._folder / bus)) for bus in BUSES}
            self.postgres = ends.enter_context(Postgres())
            self.database = self.postgres.new_database()
            self.seed(self._plan.speed)
            for name in SERVICES:
                self.services[name] = ends.enter_context(self._start_service(name))
            self._ends = ends.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._ends.close()

    def seed(self, speed: float) -> None:
        """Put the truth for a clock of this speed in force."""
        self._revision += 1
        seed(list(self.buses.values()), make_truth(self._plan, speed), self._revision)

    def _start_service(self, name: str) -> Proc:
        """Start a service with what `marketswarm up` gives it."""
        env = {
            "SYSTEM_REDIS_URL": self.buses["system-redis"].url,
            "MARKET_REDIS_URL": self.buses["market-redis"].url,
            "LOG_FORMAT": "json",
        }
        if name in CLOCKED:
            env |= self._clock.env
        if name == "sources":
            env |= self._site.environment()
        if name == "archive":
            env["DATABASE_URL"] = self.database
        return Proc(f"services.{name}", env, self._folder)

    # -- what breaks

    def kill(self, target: str, away_sec: float, *, is_torn: bool) -> None:
        """Kill one part, and start it again after a while, as `marketswarm up` does.

        A bus that `is_torn` forgets what it wrote in its last second: the server answers before its file is
        on the disk, and a machine that ends with it has only what was there.
        """
        if target in SERVICES:
            self.services[target].kill()
            self.services[target].start()
            return
        if target == DATABASE:
            self.postgres.kill()
            time.sleep(away_sec)
            self.postgres.start()
            return
        server = self.buses[target]
        server.kill()
        if is_torn:
            self._tear(target)
        time.sleep(away_sec)
        self._sizes[target].clear()
        server.start(30)

    def look(self) -> None:
        """Start what ended by itself, and note how much each bus has written."""
        for name, service in self.services.items():
            if not service.running:
                self.exits.append((name, service.exit_code))
                service.start()
        for bus, server in self.buses.items():
            now = time.monotonic()
            sizes = [(now, path, path.stat().st_size) for path in _list_files(server)]
            self._sizes[bus] = [each for each in self._sizes[bus] if each[0] >= now - LOST_SEC] + sizes

    def _tear(self, bus: str) -> None:
        """Cut a bus's file to what it was at the earliest look of the last second."""
        now = time.monotonic()
        for path in _list_files(self.buses[bus]):
            before = [size for at, file, size in self._sizes[bus] if file == path and at >= now - LOST_SEC]
            if before and before[0] < path.stat().st_size:
                self.torn_bytes[bus] += path.stat().st_size - before[0]
                with path.open("r+b") as file:
                    file.truncate(before[0])

    # -- what is there

    def find_unfinished(self, since_sec: float) -> str | None:
        """Return what is still to be done after the market's end, None if nothing is.

        Every series must have been loaded since `since_sec`, of the played clock, up to its last record;
        `bars` must have taken in every minute of each symbol, and the archive must have committed every entry
        of every stream. A `bars` that was killed keeps its share of the symbols until it counts as gone: for
        27 seconds nothing may come of them, and then all that has waited.
        """
        try:
            with self._connect() as client:
                return (
                    self._find_unloaded(client, since_sec)
                    or self._find_unbuilt(client)
                    or _find_uncommitted(client)
                )
        except redis.RedisError as error:
            return f"market-redis: {error}"

    def _find_unloaded(self, client: redis.Redis, since_sec: float) -> str | None:
        """Return which series is not loaded to its end."""
        for name in list_series(self._plan):
            state = orjson.loads(client.hget("market:series", name) or "{}")
            symbol, market = name.partition(":")[0], self._site.market
            last = market.bars(symbol, "1m")[-1] if ":bars:" in name else market.observations(symbol)[-1]
            if state.get("newest_ms") != last.start_ms:
                return f"{name} is loaded up to {state.get('newest_ms')}, not to {last.start_ms}"
            if state["loaded_at"] < since_sec:
                return f"{name} was loaded before the end"
        return None

    def _find_unbuilt(self, client: redis.Redis) -> str | None:
        """Return of which symbol `bars` has not taken in the last minute that came."""
        left = {feed.symbol for feed in self._plan.feeds}
        before = "+"
        while left and (page := client.xrevrange("market:bars", before, count=STREAM_PAGE)):
            before = f"({page[-1][0]}"
            for ident, fields in page:
                if (symbol := fields["sym"]) not in left:
                    continue
                left.remove(symbol)
                taken = (client.hget(f"bars:state:{symbol}", "position") or "0-0").partition(" ")[0]
                if _sort_key(taken) < _sort_key(ident):
                    return f"bars has {symbol} up to {taken}, and {ident} has come"
        return None

    def read_last_ids(self) -> dict[str, Any]:
        """Return the last entry of each stream."""
        with contextlib.suppress(redis.RedisError), self._connect() as client:
            return {
                stream: client.xinfo_stream(stream)["last-generated-id"]
                for stream in STREAMS
                if client.exists(stream)
            }
        return {}

    def read_quarantine(self) -> dict[str, int]:
        """Return how many entries each check has rejected."""
        counts: dict[str, int] = {}
        with self._connect() as client:
            for _, fields in client.xrange("market:quarantine"):
                counts[fields["check"]] = counts.get(fields["check"], 0) + 1
        return counts

    def read_stream(self, stream: str) -> list[dict[str, str]]:
        """Return the fields of all entries of a stream."""
        with self._connect() as client:
            return [fields for _, fields in client.xrange(stream)]

    def _connect(self) -> redis.Redis:
        """Return a client of market-redis."""
        return redis.Redis(port=self.buses["market-redis"].port, decode_responses=True, socket_timeout=30)


def _sort_key(ident: str) -> tuple[int, ...]:
    """Return an entry's id as numbers."""
    return tuple(int(part) for part in ident.split("-"))


def _list_files(server: Server) -> list[Path]:
    """Return the files to which a server appends."""
    return sorted(server.folder.glob("appendonlydir/*.incr.aof"))


def _find_uncommitted(client: redis.Redis) -> str | None:
    """Return which stream the archive has not committed to its end."""
    for stream in STREAMS:
        if stream in UNREAD_BY_ARCHIVE or not client.exists(stream):
            continue
        info = client.xinfo_stream(stream)
        groups = [each for each in client.xinfo_groups(stream) if each["name"] == "archive"]
        if not groups:
            return f"archive does not read {stream}"
        if groups[0]["pending"] or groups[0]["last-delivered-id"] != info["last-generated-id"]:
            return f"archive has {groups[0]['pending']} entries of {stream} in hand, and others to read"
    return None
