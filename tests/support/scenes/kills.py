"""Services that are killed anywhere: the input of each, and the oracle of its output: each item, once.

`kill_anywhere(case, kills)` ends one worker of a case after the other, by SIGKILL and by SIGTERM: as soon as
it runs, once it has joined the fleet, with work in hand, and after some of its output. In the end it waits
until all work is done, and compares the output with the input.
"""

import itertools
import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

import orjson
import redis

from marketswarm.keys import MARKET_BARS, bars_state_key, source_claim_key
from services.market.records import DAY_MS, Bar
from services.market.sessions import get_session
from support import archive_play as played
from support.rig import HOST, Proc, free_port
from support.rig.feed_site import Page, Site, rss
from support.rig.receiver import Answer, Receiver, Request
from support.scenes.agent import Scene, seed
from support.scenes.bars import MIDNIGHT, MINUTE, assert_same_as_batch, bars_of, fields_of, keep_newest, walk
from support.scenes.market import MarketScene, fast_market
from support.scenes.vexy_ai import digests, entries
from support.scenes.vexy_ai import truth as truth_of_vexy_ai
from support.waiting import until

ATTEMPTS = 60
"""How often a case is fed until a worker stands still with work in hand: it may be quicker than we look."""
BEATS = {"interval_sec": 0.2, "timeout_sec": 2.0}


class Point(StrEnum):
    """Where in its life a worker is ended."""

    STARTED = "as soon as it runs"
    JOINED = "once it has joined the fleet"
    HOLDING = "with work in hand"
    PUBLISHED = "after some of its output"


PLAN = tuple(itertools.product(Point, (signal.SIGKILL, signal.SIGTERM)))


class KillCase:
    """A service that is killed: its input, and the oracle of its output.

    Attributes:
        module: what is started.
        workers: how many instances share the work.
        per_feed: about how many entries come of what `feed` adds.
    """

    module: ClassVar[str]
    workers: ClassVar[int] = 2
    per_feed: ClassVar[int] = 1

    def __init__(
        self, folder: Path, ends: ExitStack, chance: random.Random, make_database: Callable[[], str]
    ) -> None:
        self.folder, self.ends, self.chance, self.make_database = folder, ends, chance, make_database
        self.env: dict[str, str] = {}
        self.scene = ends.enter_context(self.open_scene())

    def open_scene(self) -> Scene:
        """Return the scene, still to be entered."""
        return Scene(self.folder)

    def prepare(self) -> None:
        """Put the truth in force, once the buses run."""

    def start(self) -> Proc:
        """Start a worker."""
        return self.scene.module(self.module, LOG_LEVEL="INFO", **self.env)

    def feed(self) -> None:
        """Add something to do."""
        raise NotImplementedError

    def count_output(self) -> int:
        """Return how many entries are in the output."""
        raise NotImplementedError

    def is_done(self) -> bool:
        """Return True if all that was fed is in the output, or was put aside."""
        raise NotImplementedError

    def find_holder(self, workers: Sequence[Proc]) -> Proc | None:
        """Return a worker with work in hand: any that joined, while some is left."""
        joined = [each for each in workers if has_joined(each)]
        return self.chance.choice(joined) if joined and not self.is_done() else None

    def recover(self) -> None:
        """Mend what a dead worker left behind, and break something else, before it is started again."""

    def finish(self) -> None:
        """Add what is still to come, and wait until all is done."""
        until(
            self.is_done,
            60,
            lambda: f"all to be done; {[each.text()[-500:] for each in self.scene.programs]}",
        )

    def check(self) -> None:
        """Compare the output with the input: nothing is missing, and nothing is there twice."""
        raise NotImplementedError


def has_joined(worker: Proc) -> bool:
    """Return True if it has joined the fleet since it was started the last time."""
    events = [line["event"] for line in worker.logs() if line["event"] in ("agent.joined", STARTED)]
    return events[-1:] == ["agent.joined"]


STARTED = "test.started"


def start_again(worker: Proc) -> None:
    """Start it; its log says so, too."""
    with worker.errors.open("a", encoding="utf-8") as log:
        log.write(f'\n{{"event": "{STARTED}"}}\n')
    worker.start()


def kill_anywhere(case: KillCase, kills: int) -> Counter[Point]:
    """End workers so many times, at each point by each signal; return how often at which."""
    case.prepare()
    workers = [case.start() for _ in range(case.workers)]
    plan, done = list(PLAN), Counter[Point]()
    case.chance.shuffle(plan)
    for point, number in itertools.islice(itertools.cycle(plan), kills):
        end(reach(case, workers, point), number)
        done[point] += 1
        case.recover()
        for worker in workers:
            if not worker.running:
                start_again(worker)
    case.finish()
    case.check()
    assert all(worker.running for worker in workers)
    assert not [worker.text() for worker in workers if "Traceback" in worker.text()]
    return done


def reach(case: KillCase, workers: Sequence[Proc], point: Point) -> Proc:
    """Wait until a worker is at that point of its life; return it, standing still if it holds work."""
    worker = case.chance.choice(workers)
    match point:
        case Point.STARTED | Point.JOINED:
            worker.kill()
            start_again(worker)
            if point is Point.JOINED:
                until(lambda: has_joined(worker), what=lambda: f"{worker} to join")
        case Point.HOLDING:
            worker = catch_holder(case, workers)
        case Point.PUBLISHED:
            least = case.count_output() + case.chance.randint(1, case.per_feed)
            case.feed()
            until(lambda: case.count_output() >= least or case.is_done(), what=lambda: f"output of {worker}")
    return worker


def catch_holder(case: KillCase, workers: Sequence[Proc]) -> Proc:
    """Add work until one has some in hand and stands still; return that one."""
    for _ in range(ATTEMPTS):
        # attempts in which none has begun would be for nothing
        until(lambda: any(map(has_joined, workers)), what=f"one of {case.module} to join")
        case.feed()
        until(lambda: case.find_holder(workers) or case.is_done(), what=f"work in the hands of {case.module}")
        for worker in workers:
            worker.freeze()
        holder = case.find_holder(workers)
        for worker in workers:
            if worker is not holder:
                worker.thaw()
        if holder is not None:
            return holder
    raise AssertionError(f"no work was in hand when all of {case.module} stood still")


def end(worker: Proc, number: signal.Signals) -> None:
    """Send the signal, also to one that stands still; it must end by it, and in order if it had joined."""
    expected = {-9} if number is signal.SIGKILL else {0} if has_joined(worker) else {0, -signal.SIGTERM}
    worker.signal(number)
    worker.thaw()
    assert worker.wait(20) in expected, worker


class StreamCase(KillCase):
    """A service that reads a consumer group, whose consumers are named by the boots of its workers."""

    streams: ClassVar[Sequence[str]]
    group: ClassVar[str]

    def find_holder(self, workers: Sequence[Proc]) -> Proc | None:
        boots = {worker.logs("agent.joined")[-1]["boot"]: worker for worker in workers if has_joined(worker)}
        with redis.Redis(port=self.scene.market.port, decode_responses=True) as client:
            for stream in filter(client.exists, self.streams):
                for each in client.xinfo_consumers(stream, self.group):
                    if each["pending"] and each["name"] in boots:
                        return boots[each["name"]]
        return None


class ArchiveCase(StreamCase):
    """The archive: each row once, in its highest revision."""

    module, streams, group, per_feed = "services.archive", played.MARKET_STREAMS, "archive", 100

    def prepare(self) -> None:
        self.url = self.make_database()
        self.env["DATABASE_URL"] = self.url
        self._play, self._fed = played.make_play(self.chance.randrange(1000), 5000), 0
        section = {"heartbeat": BEATS, "settings": {"claim_sec": 0.1, "batch": 20}}
        seed(self.scene.buses, {"services": {"archive": section}}, 1)

    def feed(self) -> None:
        played.publish(self.scene.market.port, self._play[self._fed : self._fed + self.per_feed])
        self._fed += self.per_feed

    def count_output(self) -> int:
        return self._fed - played.waiting(self.scene.market.port)

    def is_done(self) -> bool:
        return not played.waiting(self.scene.market.port)

    def check(self) -> None:
        played.require_rows(self.url, self._play[: self._fed])


class BarsCase(KillCase):
    """bars: each revision once, and in the end what a batch makes of all minutes."""

    module, per_feed = "services.bars", 180
    symbols = ("BTC/USD", "ETH/USD", "SOL/USD")
    outputs = ("bars:bars", "bars:indicators")

    def prepare(self) -> None:
        section = {
            "heartbeat": BEATS,
            "access_points": {"subscribe_to": [{"bus": "market-redis", "key": "market:bars"}]},
            "endpoints": [{"symbols": self.symbols, "asset": "crypto"}],
            "settings": {"batch": 40, "settle_sec": 0},
        }
        seed(self.scene.buses, {"services": {"bars": section}}, 1)
        self.client = redis.Redis.from_url(self.scene.market.url, decode_responses=True)
        self.ends.callback(self.client.close)
        self._at_ms, self._late, self._last = MIDNIGHT, [], dict[str, str]()
        self._minutes: list[Bar] = []
        days = range(MIDNIGHT, MIDNIGHT + 60 * ATTEMPTS * MINUTE, MINUTE)
        self._walks = [walk(days, number, symbol) for number, symbol in enumerate(self.symbols)]

    def feed(self) -> None:
        """Publish an hour of each symbol; some minutes come with the next one."""
        since = (self._at_ms - MIDNIGHT) // MINUTE
        self._at_ms += 60 * MINUTE
        new = [bar for minute in zip(*self._walks, strict=True) for bar in minute][
            3 * since : 3 * since + 180
        ]
        self._minutes += new
        late = [bar for bar in new if self.chance.random() < 0.05]
        self._publish([bar for bar in [*new, *self._late] if bar not in late])
        self._late = late

    def _publish(self, bars: Sequence[Bar], **more: Any) -> None:
        for bar in bars:
            self._last[bar.symbol] = str(self.client.xadd("market:bars", fields_of(bar, **more)))

    def count_output(self) -> int:
        return int(self.client.xlen("bars:bars"))

    def is_done(self) -> bool:
        for symbol, ident in self._last.items():
            position = str(self.client.hget(bars_state_key(symbol), "position") or "0-0").partition(" ")[0]
            if [int(part) for part in position.split("-")] < [int(part) for part in ident.split("-")]:
                return False
        return True

    def finish(self) -> None:
        self._publish(self._late)
        wrong = self._minutes[-100]
        right = replace(wrong, high=wrong.high + 1, volume=7.0, vwap=None, trades=None)
        self._publish([right], seen_ms=self._at_ms + DAY_MS)
        self._minutes[-100] = right
        super().finish()

    def check(self) -> None:
        assert self.client.xlen("market:quarantine") == 0
        for symbol in self.symbols:
            mine, shown = [bar for bar in self._minutes if bar.symbol == symbol], []
            for stream in self.outputs:
                found = [fields for _, fields in self.client.xrange(stream) if fields["sym"] == symbol]
                names = ("timeframe", "start", "rev", "final")
                assert len(found) == len({tuple(entry[name] for name in names) for entry in found})
                self._check_epochs(found)
                kept: dict[tuple[str, int], dict[str, str]] = {}
                keep_newest(kept, found)
                shown.append(kept)
            assert len(bars_of(shown[0], "1m")) == len(mine)
            assert_same_as_batch(shown[0], shown[1], mine, get_session("24x7"))

    def _check_epochs(self, found: Sequence[dict[str, str]]) -> None:
        """Check that the highest revision has the highest epoch, and comes last: this bus lost nothing."""
        last: dict[tuple[str, str], tuple[int, int, str]] = {}
        for entry in found:
            key = entry["timeframe"], entry["start"]
            rank = int(entry["epoch"]), int(entry["rev"]), entry["final"]
            assert key not in last or (last[key] < rank and last[key][1:] < rank[1:])
            last[key] = rank


class SourcesCase(KillCase):
    """sources: each record once, and each minute that the source has."""

    module, workers, per_feed = "services.sources", 1, 30
    symbols = ("BTC/USD", "ETH/USD", "LTC/USD")

    def prepare(self) -> None:
        self.site = self.ends.enter_context(Receiver())
        self.site.choose = self._answer
        self.env["SOURCES_BASE_URLS"] = orjson.dumps(
            {"binance_us": f"http://{HOST}:{self.site.port}"}
        ).decode()
        self._gate, self._held = threading.Event(), 0
        self._gate.set()
        self.ends.callback(self._gate.set)
        self._begin = int(time.time()) // 60 * 60 - 86_400 // 2
        self._end = self._begin + 600
        series = {"asset": "crypto", "from": ["binance_us"], "max_age_sec": 86_400, "every_sec": 0.3}
        section = {"heartbeat": BEATS, "endpoints": [{"symbols": self.symbols, **series}]}
        seed(self.scene.buses, {"services": {"sources": section}}, 1)

    def _answer(self, _request: Request) -> Answer:
        self._held += 1
        self._gate.wait(30)
        self._held -= 1
        return Answer(200, {}, orjson.dumps([self._row(at) for at in range(self._begin, self._end, 60)]))

    @staticmethod
    def _row(at: int) -> list[Any]:
        price = 100 + at // 60 % 10
        prices = (str(price), str(price + 2), str(price - 1), str(price + 1))
        return [1000 * at, *prices, "10", 1000 * at + 59_999, "1", 4, "1", "1", "0"]

    def feed(self) -> None:
        """Let ten minutes more be over, of which a question is on its way until the kill."""
        self._end += 600

    def find_holder(self, workers: Sequence[Proc]) -> Proc | None:
        self._gate.clear()
        return workers[0] if self._held and has_joined(workers[0]) else None

    def recover(self) -> None:
        self._gate.set()
        keys = [source_claim_key(f"{symbol}:bars:1m") for symbol in self.symbols]
        self.scene.market.cmd("DEL", *keys)  # as after ten seconds

    def _found(self) -> list[tuple[str, int]]:
        found = self.scene.market.cmd("XRANGE", MARKET_BARS, "-", "+")
        return [(fields["sym"], int(fields["start"]) // 1000) for _, fields in found]

    def count_output(self) -> int:
        return int(self.scene.market.cmd("XLEN", MARKET_BARS))

    def _expected(self) -> set[tuple[str, int]]:
        return set(itertools.product(self.symbols, range(self._begin, self._end, 60)))

    def is_done(self) -> bool:
        return self._expected() <= set(self._found())

    def check(self) -> None:
        assert Counter(self._found()) == Counter(self._expected())


class FeedsCase(KillCase):
    """rss_agg: each item of every feed once, also of one that another instance takes over."""

    module, per_feed = "services.rss_agg", 16
    feeds = tuple(f"f{number}" for number in range(8))

    def prepare(self) -> None:
        self.site = self.ends.enter_context(Site())
        self._made = {name: list[str]() for name in self.feeds}
        self._visits = 0
        self.feed()
        section = {
            "replicas": 2,
            "heartbeat": BEATS,
            "settings": {"poll_sec": 0.3, "timeout_sec": 1, "host_spacing_sec": 0, "host_at_once": 4},
            "endpoints": [{"url": self.site.url(f"/{name}"), "name": name} for name in self.feeds],
        }
        seed(self.scene.buses, {"services": {"rss_agg": section}}, 1)

    def feed(self) -> None:
        """Publish two items in each feed, which shows all that it ever had."""
        self._visits = len(self.site.visits)
        for name, made in self._made.items():
            made += [f"{name}-{len(made) + number}" for number in range(2)]
            self.site.pages[f"/{name}"] = Page(rss(*reversed(made)), headers={"ETag": f'"{len(made)}"'})

    def _expected(self) -> set[str]:
        return {f"Item {ident}" for made in self._made.values() for ident in made}

    def _found(self) -> list[str]:
        return [fields["title"] for fields in entries(self.scene.market, "rss:items")]

    def count_output(self) -> int:
        return int(self.scene.market.cmd("XLEN", "rss:items"))

    def is_done(self) -> bool:
        return self._expected() <= set(self._found())

    def find_holder(self, workers: Sequence[Proc]) -> Proc | None:
        """Return any worker once a feed was read whose items are not there."""
        return super().find_holder(workers) if len(self.site.visits) > self._visits else None

    def check(self) -> None:
        assert Counter(self._found()) == Counter(self._expected())


class NotesCase(StreamCase):
    """vexy_ai: each version of an item has one note, and each window one digest with all of its notes."""

    module, streams, group, per_feed = "services.vexy_ai", ("rss:items",), "readers", 100

    def prepare(self) -> None:
        document = truth_of_vexy_ai(
            claim_sec=0.3, batch=20, digest_sec=1, notes=1_000_000, symbols={"ACME": ["Acme"]}
        )
        seed(self.scene.buses, document, 1)
        self._written, self._number = set[tuple[str, str]](), 0

    def feed(self) -> None:
        """Add items: new ones, the same ones again, edited ones."""
        with redis.Redis(port=self.scene.market.port) as client, client.pipeline() as pipe:
            for _ in range(self.per_feed):
                dice = self.chance.random()
                self._number += dice < 0.8
                item = {
                    "id": f"i{self._number}",
                    "title": f"Acme rises for the {self._number}th time",
                    "feed": "f",
                }
                if dice > 0.9:
                    item["version"] = str(self.chance.randrange(2, 5))
                self._written.add((item["id"], item.get("version", "")))
                pipe.xadd("rss:items", item)
            pipe.execute()

    def count_output(self) -> int:
        return int(self.scene.market.cmd("XLEN", "vexy:notes"))

    def is_done(self) -> bool:
        groups = self.scene.market.cmd("XINFO", "GROUPS", "rss:items") if self._written else []
        return not any(group["lag"] or group["pending"] for group in groups)

    def finish(self) -> None:
        super().finish()
        until(lambda: not self.scene.market.cmd("HLEN", "vexy:notes:windows"), what="every digest")

    def check(self) -> None:
        notes = [each for each in entries(self.scene.market) if each["kind"] == "note"]
        assert Counter((each["id"], each.get("version", "")) for each in notes) == Counter(self._written)
        windows = Counter(each["window"] for each in notes)
        assert Counter({each["window"]: each["items"] for each in digests(self.scene)}) == windows
        assert len(digests(self.scene)) == len(windows)
        assert not self.scene.market.cmd("EXISTS", "vexy:dead")


class MinutesCase(KillCase):
    """massive's market data: each bar once, though the API cuts it off and the bus is killed, too."""

    module, workers, per_feed = "services.massive", 1, 6
    symbols = ("AAPL", "MSFT", "NVDA")
    scene: MarketScene

    def open_scene(self) -> MarketScene:
        self.market = self.ends.enter_context(fast_market(*self.symbols))
        return MarketScene(self.folder, self.market)

    def prepare(self) -> None:
        self.scene.wish(symbols=self.symbols, settle_sec=0.05, keep=1_000_000)
        self._since, self._kills = dict[str, int](), 0

    def start(self) -> Proc:
        return self.scene.massive(LOG_LEVEL="INFO")

    def feed(self) -> None:
        """Have bars made as long as the case lasts, once the symbols are subscribed to."""
        self._wait_for_subscription()
        if not self._since:
            self.market.run()
            until(lambda: all(self.market.made.values()))
            self._since = {symbol: made[0] for symbol, made in self.market.made.items()}

    def _wait_for_subscription(self) -> None:
        until(lambda: self.market.subscribed == set(self.symbols), what="a subscription")

    def count_output(self) -> int:
        return int(self.scene.market.cmd("XLEN", "market:bars"))

    def is_done(self) -> bool:
        made = {(sym, at) for sym, all_of in self.market.made.items() for at in all_of}
        return made <= set(self.scene.seen())

    def recover(self) -> None:
        self._kills += 1
        if self._kills % 2:
            self.market.cut()
        if self._kills % 3 == 0:
            self.scene.market.kill()
            self.scene.market.start()

    def finish(self) -> None:
        self._wait_for_subscription()
        self.market.stop()
        super().finish()

    def check(self) -> None:
        self.scene.whole(self._since, 1)
        assert {each["source"] for each in self.scene.bars()} == {"ws", "rest"}


class ProbesCase(KillCase):
    """massive's probes: each loss and each return of a target is published once, in their order."""

    module, workers = "services.massive", 1

    def prepare(self) -> None:
        self._port, self._server = free_port(), None
        self.ends.callback(self._close)
        self._expected = ["probe_miss"]  # it is away at first
        targets = [{"name": "peer", "host": HOST, "port": self._port}]
        settings = {"targets": targets, "probe_sec": 0.05, "down_after": 3, "up_after": 2}
        seed(self.scene.buses, {"services": {"massive": {"heartbeat": BEATS, "settings": settings}}}, 1)

    def feed(self) -> None:
        """Let the target go, or come back, once its last change is published."""
        until(self.is_done, what=lambda: f"{self._expected[-1]}; {self.scene.programs[-1]}")
        if self._server is None:
            self._server = socket.create_server((HOST, self._port), backlog=128)
        else:
            self._close()
        self._expected.append("probe_miss" if self._server is None else "probe_ok")

    def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _events(self) -> list[dict[str, Any]]:
        found = self.scene.system.cmd("XRANGE", "massive:alerts", "-", "+")
        return [orjson.loads(fields["event"]) for _, fields in found]

    def count_output(self) -> int:
        return len(self._events())

    def is_done(self) -> bool:
        return len(self._events()) >= len(self._expected)

    def check(self) -> None:
        events = self._events()
        assert [event["type"] for event in events] == self._expected
        assert len({event["id"] for event in events}) == len(events)
        for miss, ok in zip(events[::2], events[1::2], strict=False):
            assert (miss["since"], miss["svc"]) == (ok["since"], "massive/peer")


CASES = (ArchiveCase, BarsCase, FeedsCase, MinutesCase, NotesCase, ProbesCase, SourcesCase)
