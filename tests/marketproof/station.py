"""The market station: two buses, a database and its services, each of which can be killed or cut off."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx
import orjson
import redis

from marketproof.clock import PlayedClock
from marketproof.market import ACTED
from marketproof.plan import (
    AFTER_MS,
    BOARD,
    BUSES,
    CUTS,
    DATABASE,
    OBSERVED,
    SERVICES,
    Cut,
    Fault,
    Link,
    Plan,
    describe_cut,
    make_truth,
)
from services.sources.cascade.state import REVISE_EVERY_SEC
from support.market_prices import published_ms
from support.market_server import MarketServer
from support.postgres import Postgres
from support.rig import HOST, PLAIN, Proc, Server, TcpProxy, free_port
from support.scenes.agent import seed
from support.waiting import Patience, fault_lasts

LOST_SEC: Final = 1.0
"""What a server with `appendfsync everysec` may forget, while its disk keeps up."""
LOOK_SEC: Final = 0.1
REPORT_SEC: Final = 60.0
"""How long a service may take to report that it is cut off, or that it is not any more."""
CLOCKED: Final = frozenset({"sources", "bars"})
SYSTEM, MARKET = BUSES
STREAMS: Final = (
    *("market:bars", "market:quotes", "market:observations", "market:actions"),
    *("bars:bars", "bars:indicators", "bars:features"),
)
"""The streams on which nothing comes any more once the market is over."""
ARCHIVED: Final = {
    MARKET: (*STREAMS[1:], "market:downloads"),
    SYSTEM: ("healer:alerts:log",),
}
"""The streams that the archive reads, by their bus."""
STREAM_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Break:
    """Hold that something broke, from one time of the monotonic clock to another."""

    target: str | Link
    begun: float
    over: float


class Station:
    """Run all parts: `with Station(folder, plan, market, clock) as station:`.

    Attributes:
        services: the processes by their names.
        breaks: what was broken so far, and when.
        exits: which services ended by themselves, and with which code.
        torn_bytes: how much each bus forgot.
    """

    def __init__(self, folder: Path, plan: Plan, site: MarketServer, clock: PlayedClock) -> None:
        self._folder, self._plan, self._site, self._clock = folder, plan, site, clock
        self._ends = contextlib.ExitStack()
        self._sizes: dict[str, list[tuple[float, Path, int]]] = {bus: [] for bus in BUSES}
        self._revision = 0
        self._board_port = free_port()
        self._newest: dict[str, str] = {}
        self._read_upto = "-"
        self.services: dict[str, Proc] = {}
        self.breaks: list[Break] = []
        self.exits: list[tuple[str, int | None]] = []
        self.torn_bytes: Counter[str] = Counter()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as ends:
            self.buses = {bus: ends.enter_context(Server(self._folder / bus)) for bus in BUSES}
            self.postgres = ends.enter_context(Postgres())
            self.database = self.postgres.new_database()
            ports = {bus: server.port for bus, server in self.buses.items()}
            ports[DATABASE] = self.postgres.server.port
            links = {link for cut in CUTS for link in cut} if self._plan.cuts else ()
            self._wires = {link: ends.enter_context(TcpProxy(ports[link[1]])) for link in links}
            self.seed(self._plan.speed, is_whole=False)
            for name in (*SERVICES, BOARD) if self._plan.cuts else SERVICES:
                self.services[name] = ends.enter_context(self._start_service(name))
            self._ends = ends.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ends.close()

    def seed(self, speed: float, *, is_whole: bool = True) -> None:
        """Put the truth for a clock of this speed in force, with the late feeds or without."""
        self._revision += 1
        truth = make_truth(self._plan, speed, is_whole=is_whole)
        seed(list(self.buses.values()), truth, self._revision)

    def _start_service(self, name: str) -> Proc:
        """Start a service with what `marketswarm up` gives it."""
        env = {
            "SYSTEM_REDIS_URL": self.buses[SYSTEM].url,
            "MARKET_REDIS_URL": f"redis://{HOST}:{self._find_port(name, MARKET)}",
            "LOG_FORMAT": "json",
        }
        if name in CLOCKED:
            env |= self._clock.env
        if name == "sources":
            env |= self._site.environment()
            urls = orjson.loads(env["SOURCES_BASE_URLS"]) | {"binance_stream": self._site.stream_url}
            env["SOURCES_BASE_URLS"] = orjson.dumps(urls).decode()
        if name in ("archive", BOARD):
            parts = urlsplit(
                self.database if name == "archive" else self.postgres.reader_url_of(self.database)
            )
            address = f"{parts.netloc.rpartition(':')[0]}:{self._find_port(name, DATABASE)}"
            env["DATABASE_URL"] = parts._replace(netloc=address).geturl()
        if name == BOARD:
            env["BOARD_PORT"] = str(self._board_port)
        return Proc(name if name == "healer" else f"services.{name}", env, self._folder)

    def _find_port(self, service: str, target: str) -> int:
        """Return the port at which a service finds a bus or the database: that of the wire, if any."""
        if (wire := self._wires.get((service, target))) is not None:
            return wire.port
        return self.postgres.server.port if target == DATABASE else self.buses[target].port

    # -- what breaks

    def kill(self, target: str, away_sec: float, *, is_torn: bool) -> None:
        """Kill one part, and start it again after a while, as `marketswarm up` does.

        A bus that `is_torn` forgets what it wrote in its last second: the server answers before its file is
        on the disk, and a machine that ends with it has only what was there.
        """
        begun = time.monotonic()
        if target in SERVICES:
            self.services[target].kill()
            self._start_again(target)
        elif target == DATABASE:
            self.postgres.kill()
            fault_lasts(away_sec)
            self.postgres.start()
        else:
            server = self.buses[target]
            server.kill()
            if is_torn:
                self._tear(target)
            fault_lasts(away_sec)
            self._sizes[target].clear()
            server.start(30)
        self.breaks.append(Break(target, begun, time.monotonic()))

    def _start_again(self, name: str) -> None:
        """Start a service that has ended, when all that it has asked is read: then the break is over."""
        if name == "sources":
            self._site.read_all()
        self.services[name].start()

    def cut(self, cut: Cut) -> None:
        """Break connections until their services report that, and mend them; return when all is well again.

        Raise AssertionError if a service does not report either in time.
        """
        begun, words = time.monotonic(), describe_cut(cut)
        for link, fault in cut.items():
            (self._wires[link].refuse if fault is Fault.CUT else self._wires[link].swallow)()
        try:
            self._wait_for(lambda: all(map(self._is_cut_off, cut)), f"all of {words} to report it")
        finally:
            for link in cut:
                self._wires[link].heal()
        self.breaks += [Break(link, begun, time.monotonic()) for link in cut]
        self._wait_for(lambda: not any(map(self._is_cut_off, cut)), f"all of {words} to report the end of it")

    def _wait_for(self, predicate: Callable[[], bool], what: str) -> None:
        """Watch the station until something is true."""
        patience = Patience(REPORT_SEC)
        while not predicate():
            if patience.is_over():
                raise AssertionError(f"not within {REPORT_SEC:g} s: {what}")
            self.watch(LOOK_SEC)

    def _is_cut_off(self, link: Link) -> bool:
        """Return whether a service reports that it can't use what a wire leads to."""
        service, target = link
        if service == BOARD:  # its beats are about the fleet; who asks it for rows is told
            with contextlib.suppress(httpx.HTTPError):
                return (
                    httpx.get(f"http://{HOST}:{self._board_port}/api/v1/symbols", verify=PLAIN).status_code
                    == 503
                )
            return True
        with contextlib.suppress(redis.RedisError), self._connect(SYSTEM) as client:
            beat = orjson.loads(client.get(f"beat:{service}") or b"{}")
            word = "PostgreSQL" if target == DATABASE else target
            return beat.get("status") == "degraded" and word in beat.get("detail", "")
        return False

    def watch(self, sec: float) -> None:
        """Wait for so many seconds; start what ends by itself, and note what each bus has written."""
        end = time.monotonic() + sec
        while (left := end - time.monotonic()) > 0:
            self._look()
            time.sleep(min(left, LOOK_SEC))

    def _look(self) -> None:
        """Start what ended by itself, and note how much each bus has written."""
        for name, service in self.services.items():
            if not service.running:
                self.exits.append((name, service.exit_code))
                if service.exit_code == 2:
                    raise AssertionError(f"{name} refuses its truth")
                begun = time.monotonic() - REPORT_SEC  # it ended at some time since the last look
                self._start_again(name)
                self.breaks.append(Break(name, begun, time.monotonic()))
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

    def end_loading(self) -> None:
        """Stop sources, and start archive anew: it computes correlations at once, then every 30 seconds."""
        begun = time.monotonic()
        for name in ("sources", "archive"):
            code = self.services[name].stop(30)
            if code != 0:
                self.exits.append((name, code))
        del self.services["sources"]
        self._site.read_all()
        self.breaks.append(Break("sources", begun, time.monotonic()))
        self.services["archive"].start()

    # -- what is there

    def wait_for_loads(self) -> None:
        """Wait until each series was asked for once: the first load computes the calendar of its exchange."""
        wanted = {feed.series for feed in self._plan.feeds if not feed.is_late}

        def is_done() -> bool:
            with contextlib.suppress(redis.RedisError), self._connect(MARKET) as client:
                return wanted <= set(client.hkeys("market:series"))
            return False

        self._wait_for(is_done, "each series to be asked for")

    def find_unfinished(self, since_sec: float) -> str | None:
        """Return what is still to be done after the market's end, None if nothing is.

        Every series must have been loaded up to its last record, and since `since_sec` of the played clock,
        unless its market is closed. No source may be down: where the next one of a cascade served, the first
        is asked again once its breaker lets it. `bars` must have taken in every bar of each symbol, and the
        archive must have committed every entry of every stream. A `bars` that was killed keeps its share of
        the symbols until it counts as gone; nothing comes of them until then.
        """
        try:
            with self._connect(MARKET) as client:
                return (
                    self._find_unloaded(client, since_sec)
                    or self._find_down()
                    or self._find_unbuilt(client)
                    or self.find_uncommitted()
                )
        except redis.RedisError as error:
            return f"a bus: {error}"

    def _find_unloaded(self, client: redis.Redis, since_sec: float) -> str | None:
        """Return which series is not loaded to its end."""
        market = self._site.market
        last = {
            feed.series: market.bars(feed.symbol, feed.timeframe)[-1].start_ms for feed in self._plan.feeds
        }
        for symbol in OBSERVED:
            published = (
                each.start_ms
                for each in market.observations(symbol)
                if published_ms(each, market.series[symbol]) <= market.end_ms + AFTER_MS
            )
            last[f"{symbol}:observations"] = max(published)
        for symbol in ACTED:
            state = orjson.loads(client.hget("market:series", f"{symbol}:actions") or "{}")
            if state.get("loaded_at", 0) < since_sec:
                return f"the actions of {symbol} were loaded before the end"
        for name, start_ms in last.items():
            state = orjson.loads(client.hget("market:series", name) or "{}")
            if state.get("newest_ms") != start_ms:
                return f"{name} is loaded up to {state.get('newest_ms')}, not to {start_ms}"
            if state["loaded_at"] < since_sec and state["status"] != "closed":
                return f"{name} was loaded before the end"
        return None

    def find_unrevised(self, since_sec: float) -> str | None:
        """Return which series was not asked for all that may have changed since `since_sec` of that clock.

        A source that is limited, or that fails, leaves that to its next answer. A closed market is not asked.
        """
        with self._connect(MARKET) as client:
            for feed in self._plan.feeds:
                state = orjson.loads(client.hget("market:series", feed.series) or "{}")
                attempt = state.get("attempts", {}).get(state.get("serving"), {})
                due_at = attempt.get("history", {}).get("revise_at", 0.0)
                if due_at < since_sec + REVISE_EVERY_SEC and state.get("status") != "closed":
                    return f"{feed.series} is asked for what may have changed at {due_at:.0f}: {attempt}"
        return None

    def _find_down(self) -> str | None:
        """Return a source that counts as down."""
        down = [name for name, state in self.read_sources().items() if state["state"] != "up"]
        return f"{down[0]} is down" if down else None

    def _find_unbuilt(self, client: redis.Redis) -> str | None:
        """Return of which symbol `bars` has not taken in the last bar that came."""
        while page := client.xrange("market:bars", self._read_upto, count=STREAM_PAGE):
            self._newest |= {fields["sym"]: ident for ident, fields in page}
            self._read_upto = f"({page[-1][0]}"
        for symbol, ident in self._newest.items():
            taken = (client.hget(f"bars:state:{symbol}", "position") or "0-0").partition(" ")[0]
            if _sort_key(taken) < _sort_key(ident):
                return f"bars has {symbol} up to {taken}, and {ident} has come"
        return None

    def find_uncommitted(self) -> str | None:
        """Return which stream the archive has not committed, or which alert is not on its stream yet."""
        for bus, streams in ARCHIVED.items():
            with self._connect(bus) as client:
                for stream in filter(client.exists, streams):
                    info = client.xinfo_stream(stream)
                    if bus == SYSTEM:  # by a position: the notifier alone reads the log by a group
                        position = client.hget("archive:positions", f"archive {stream}")
                        if position != info["last-generated-id"]:
                            return f"archive has read {stream} up to {position}"
                        continue
                    groups = [each for each in client.xinfo_groups(stream) if each["name"] == "archive"]
                    if not groups:
                        return f"archive does not read {stream}"
                    if groups[0]["pending"] or groups[0]["last-delivered-id"] != info["last-generated-id"]:
                        return f"archive has {groups[0]['pending']} entries of {stream}, and others to read"
        left = set(self.read_events("market:alerts")) - set(self.read_events("healer:alerts:log"))
        return f"the healer has not copied {', '.join(left)}" if left else None

    def read_last_ids(self) -> dict[str, Any]:
        """Return the last entry of each stream."""
        with contextlib.suppress(redis.RedisError), self._connect(MARKET) as client:
            return {
                stream: client.xinfo_stream(stream)["last-generated-id"]
                for stream in STREAMS
                if client.exists(stream)
            }
        return {}

    def read_quarantine(self) -> Counter[str]:
        """Return how many entries each check has rejected."""
        with self._connect(MARKET) as client:
            return Counter(fields["check"] for _, fields in client.xrange("market:quarantine"))

    def read_sources(self) -> dict[str, dict[str, Any]]:
        """Return the state of each source, as it is on the bus."""
        with self._connect(MARKET) as client:
            return {name: orjson.loads(raw) for name, raw in client.hgetall("market:sources").items()}

    def read_events(self, stream: str) -> dict[str, dict[str, Any]]:
        """Return the events of a stream of alerts by their ids."""
        with self._connect(SYSTEM) as client:
            events = [orjson.loads(fields["event"]) for _, fields in client.xrange(stream)]
        return {event["id"]: event for event in events}

    def _connect(self, bus: str) -> redis.Redis:
        """Return a client of a bus."""
        return redis.Redis(port=self.buses[bus].port, decode_responses=True, socket_timeout=30)


def _sort_key(ident: str) -> tuple[int, ...]:
    """Return an entry's id as numbers."""
    return tuple(int(part) for part in ident.split("-"))


def _list_files(server: Server) -> list[Path]:
    """Return the files to which a server appends."""
    return sorted(server.folder.glob("appendonlydir/*.incr.aof"))
