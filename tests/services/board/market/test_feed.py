"""The feed of the market, on buses in memory that the test holds."""

import asyncio
import contextlib
import gc
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest
import structlog

from marketswarm.bus import BusError
from marketswarm.keys import (
    CHECKED_BARS,
    INDICATORS,
    MARKET_QUOTES,
    MARKET_SERIES,
    MARKET_SOURCES,
    PRELOAD_STATUS,
    quote_key,
)
from marketswarm.tasks import end_tasks
from marketswarm.testing import MemoryBus
from marketswarm.truth import AccessPoint, parse_truth
from marketswarm.web.updates import DropReason, UpdateHub
from services.board.market import feed as feeds
from services.board.market.feed import NO_MARKET, MarketFeed, find_archive_group
from services.board.market.live import NEVER, LiveMarket
from services.board.market.states import parse_gate
from services.market.entries import encode_entry
from services.market.fields import EntryError
from services.market.records import AssetClass, Bar, Provenance, Quote
from services.tables import tables
from services.tables.rows import make_bar_row
from support.waiting import PATIENT_SEC, auntil

ORIGIN = Provenance("yahoo")


def make_truth(*places, group=None):
    points = [{"bus": bus, "key": key} for bus, key in places]
    services = {"bars": {"access_points": {"publish_to": points}}}
    if group is not None:
        services["archive"] = {"settings": {"group": group}}
    return parse_truth(orjson.dumps({"services": services})).truth


FIRST_MS = 1_794_000_000_000
"""The start of the first minute of all."""


def encode_bar(start, close=1.0, symbol="SPY", rev=0):
    bar = Bar(symbol, "1m", FIRST_MS + 60_000 * start, close, close, close, close)
    return encode_entry(bar, AssetClass.STOCKS, ORIGIN) | {"final": "1", "rev": str(rev)}


class CutBus(MemoryBus):
    """A bus whose server goes on while it is out of reach of this client, as `is_cut` says."""

    is_cut = False
    refused = 0

    async def ask(self, request, within_sec=None, *, max_bytes=None):
        reply = await super().ask(request, within_sec, max_bytes=max_bytes)
        if self.is_cut:
            self.refused += 1
            raise BusError(self.name, "refused")
        return reply


class Scene:
    """A feed, its buses by name, and a follower of all its topics."""

    def __init__(self):
        self.buses = {name: CutBus(name) for name in ("market-redis", "system-redis")}
        self.me = SimpleNamespace(
            truth=make_truth(("market-redis", CHECKED_BARS)), bus=self.buses.__getitem__
        )
        self.live, self.hub = LiveMarket(), UpdateHub("b")
        self.feed = MarketFeed(self.me, self.live, self.hub)
        self.client = self.buses["market-redis"].client

    async def add(self, *starts, bus="market-redis"):
        """Add bars to the stream."""
        for start in starts:
            await self.buses[bus].client.xadd(CHECKED_BARS, encode_bar(start))

    @property
    def starts(self):
        """The starts of the bars that are kept, in minutes."""
        chart = self.live.find_chart("SPY", "1m")
        return [(one.start - FIRST_MS) // 60_000 for one in chart.list_bars()] if chart else []

    async def wait_bars(self, *starts):
        await auntil(lambda: self.starts == list(starts), what=lambda: f"bars {starts}, not {self.starts}")


@pytest.fixture
def scene(monkeypatch):
    for name in ("BLOCK_SEC", "POLL_SEC", "PAUSE_SEC"):
        monkeypatch.setattr(feeds, name, 0.02)
    return Scene()


@contextlib.asynccontextmanager
async def running(scene):
    task = asyncio.create_task(scene.feed.run())
    try:
        yield
    finally:
        await end_tasks(task)


async def test_what_stands_on_the_streams_is_kept_and_what_comes_is_passed_on(scene):
    await scene.add(1, 2)
    async with running(scene):
        await scene.wait_bars(1, 2)
        await auntil(lambda: scene.live.began_at == NEVER)
        follower = scene.hub.join()
        scene.hub.subscribe(follower, ["bars:SPY:1m", "quotes:SPY", "indicators:SPY:1m"])
        await scene.add(3)
        await scene.client.xadd(
            MARKET_QUOTES, encode_entry(Quote("SPY", FIRST_MS, 7.5), AssetClass.STOCKS, ORIGIN)
        )
        for start, rev, value in ((1, 0, 1.5), (2, 0, 2.5), (1, 1, 1.75)):
            fields = {"sym": "SPY", "timeframe": "1m", "start": FIRST_MS + 60_000 * start, "rev": rev}
            await scene.client.xadd(INDICATORS, {**fields, "values": f'{{"sma_20": {value}}}'})
        latest = {}
        while len(latest) < 4 or latest[f"indicators:SPY:1m:{FIRST_MS + 60_000}"]["rev"] != 1:
            async with asyncio.timeout(PATIENT_SEC):
                _, updates = await follower.take()
            latest |= {one.subject: orjson.loads(one.data) for one in updates}
        assert latest[f"bars:SPY:1m:{FIRST_MS + 180_000}"]["close"] == 1.0
        assert latest["quotes:SPY"]["price"] == 7.5
        starts = (FIRST_MS + 60_000, FIRST_MS + 120_000)
        values = [latest[f"indicators:SPY:1m:{start}"]["values"]["sma_20"] for start in starts]
        assert values == [1.75, 2.5], "a correction of an earlier bar is passed on"
        await auntil(lambda: scene.client.exists(quote_key("SPY")), what="the quote to be kept")


async def test_entries_that_are_no_records_are_counted_and_skipped(scene):
    await scene.client.xadd(CHECKED_BARS, {"sym": "<b>"})
    await scene.client.xadd(CHECKED_BARS, encode_bar(1) | {"note": "x" * 70_000})
    await scene.add(2)
    async with running(scene):
        await scene.wait_bars(2)
    assert scene.live.malformed == 2


async def test_of_a_long_stream_only_the_newest_are_read_and_what_is_older_counts_as_unknown(
    scene, monkeypatch
):
    monkeypatch.setattr(feeds, "SEED_ENTRIES", 3)
    for number in range(1, 6):
        await scene.client.xadd(CHECKED_BARS, encode_bar(number), id=f"{1000 * number}-0")
    async with running(scene):
        await scene.wait_bars(3, 4, 5)
        await auntil(lambda: scene.live.began_at == 3.0)


async def test_a_bus_that_goes_away_is_said_once_and_followed_on_when_it_comes_back(scene):
    await scene.add(1)
    with structlog.testing.capture_logs() as logs:
        async with running(scene):
            await scene.wait_bars(1)
            await auntil(lambda: scene.feed.states.read_at and scene.feed.problem is None)
            scene.buses["market-redis"].connected = False
            await auntil(lambda: scene.feed.problem, what="the problem")
            assert scene.feed.problem.startswith("bus market-redis does not answer")
            assert scene.starts == [1], "the last state stands"
            scene.buses["market-redis"].connected = True
            await scene.add(2)
            await scene.wait_bars(1, 2)
            await auntil(lambda: scene.feed.problem is None, what="the problem to be over")
            await auntil(lambda: scene.live.began_at == NEVER, what="it to be known that nothing was missed")
    assert [line["event"] for line in logs] == ["market.feed_away", "market.feed_back"]


async def test_a_stream_that_can_not_be_read_is_a_problem_though_the_states_can(scene):
    await scene.client.set(CHECKED_BARS, "no stream")
    async with running(scene):
        await auntil(lambda: scene.feed.problem, what="the problem")
        assert scene.feed.problem == f"bus market-redis does not let {CHECKED_BARS} be read: error"
        await scene.client.delete(CHECKED_BARS)
        await scene.add(1)
        await auntil(lambda: scene.feed.problem is None, what="the problem to be over")


async def test_a_stream_that_begins_anew_is_read_from_its_begin(scene):
    for number in (1, 2):
        await scene.client.xadd(CHECKED_BARS, encode_bar(number), id=f"9{number}000-0")
    async with running(scene):
        await scene.wait_bars(1, 2)
        pipe = scene.client.pipeline(transaction=True)
        pipe.delete(CHECKED_BARS)
        for number in (3, 4):
            pipe.xadd(CHECKED_BARS, encode_bar(number), id=f"{number}000-0")
        await pipe.execute()
        await scene.wait_bars(1, 2, 3, 4)


async def test_what_was_trimmed_off_while_the_bus_was_away_is_unknown(scene):
    bus = scene.buses["market-redis"]
    await scene.client.xadd(CHECKED_BARS, encode_bar(1), id="1000-0")
    async with running(scene):
        await auntil(lambda: scene.live.began_at == NEVER)
        await scene.wait_bars(1)
        follower = scene.hub.join()
        bus.is_cut = True
        for number in range(2, 9):
            await scene.client.xadd(CHECKED_BARS, encode_bar(number), id=f"{number}000-0")
        await scene.client.xtrim(CHECKED_BARS, maxlen=3, approximate=False)
        await auntil(lambda: bus.refused > 8, what="each reader to be refused")
        assert scene.starts == [1]
        bus.is_cut = False
        await scene.wait_bars(1, 6, 7, 8)
        await auntil(lambda: scene.live.began_at == 6.0, what="what was lost to be known")
        assert follower.dropped is DropReason.LOST, "its numbers would go on as if nothing was missing"


async def test_the_place_of_the_archive_is_followed(scene):
    await scene.client.xadd(CHECKED_BARS, encode_bar(1), id="1000-0")
    read = ("archive", "me", {CHECKED_BARS: ">"})
    async with running(scene):
        await scene.wait_bars(1)
        assert scene.live.archived_at == NEVER, "nobody archives it"
        await scene.client.xgroup_create(CHECKED_BARS, "archive", "0")
        await auntil(lambda: scene.live.archived_at == 0.0, what="the group to be seen")
        await scene.client.xreadgroup(*read)
        await auntil(lambda: scene.live.archived_at == 1.0, what="the pending entry to be seen")
        for number in (2, 3):
            await scene.client.xadd(CHECKED_BARS, encode_bar(number), id=f"{number}000-0")
        await scene.client.xreadgroup(*read)
        await scene.client.xack(CHECKED_BARS, "archive", "1000-0")
        await auntil(lambda: scene.live.archived_at > 1.0, what="the first entry to be in the database")
        assert scene.live.archived_at <= 3.0, "what was read and not committed is not in the database"
        await scene.client.xack(CHECKED_BARS, "archive", "2000-0", "3000-0")
        await auntil(lambda: scene.live.archived_at == 3.0, what="the archive to have caught up")


async def test_after_a_reseed_the_market_is_followed_on_its_new_bus(scene):
    await scene.add(1)
    await scene.add(2, bus="system-redis")
    async with running(scene):
        await scene.wait_bars(1)
        scene.live.archived_at = 5.0
        scene.me.truth = make_truth(("system-redis", CHECKED_BARS))
        await scene.wait_bars(1, 2)
        assert scene.live.archived_at == NEVER
        scene.me.truth = make_truth()
        await auntil(lambda: scene.feed.problem == NO_MARKET)
        assert (scene.feed.has_market, scene.feed.find_bus(), scene.feed.states.read_at) == (
            False,
            None,
            None,
        )


async def test_a_market_on_two_buses_is_a_problem_that_names_them(scene):
    scene.me.truth = make_truth(("market-redis", CHECKED_BARS), ("system-redis", MARKET_QUOTES))
    async with running(scene):
        await auntil(lambda: scene.feed.problem, what="the problem")
    assert scene.feed.problem == (
        "the market is on market-redis and system-redis, and only market-redis is followed: put it on one bus"
    )


async def test_a_state_is_parsed_anew_only_when_its_text_has_changed(scene, monkeypatch):
    texts = {name: orjson.dumps({"symbol": name, "timeframe": "1m"}) for name in ("SPY", "QQQ", "IWM")}
    await scene.client.hset(MARKET_SERIES, mapping=texts)
    async with running(scene):
        await auntil(lambda: len(scene.feed.states.series) == 3)
        before = {one.id: one for one in scene.feed.states.series}
        follower = scene.hub.join()
        scene.hub.subscribe(follower, ["series"])
        await scene.client.hset(MARKET_SERIES, "SPY", orjson.dumps({"symbol": "SPY", "serving": "yahoo"}))
        async with asyncio.timeout(PATIENT_SEC):
            _, (update,) = await follower.take()
        assert orjson.loads(update.data)["serving"] == "yahoo"
        after = {one.id: one for one in scene.feed.states.series}
        assert [name for name in after if after[name] is before[name]] == ["IWM", "QQQ"]


def test_the_group_of_the_archive_is_the_one_that_the_truth_names():
    assert find_archive_group(make_truth()) == "archive"
    assert find_archive_group(make_truth(group="copies")) == "copies"
    assert find_archive_group(make_truth(group=5)) == "archive"


HOSTILE = [
    b'{"symbol":"SPY","newest_ms":"99999999999999999999999999"}',
    b'{"symbol":"SPY","x":' + b"[" * 300 + b"]" * 300 + b"}",
    b'{"symbol":"SPY","loaded_at":1e300}',
    b'{"symbol":5}',
    b"\x00\xff\x1b[31m",
    b"[" * 300 + b"]" * 300,
]


async def test_no_state_that_another_service_writes_ends_the_feed_and_a_good_one_is_shown(scene):
    for key in (MARKET_SERIES, MARKET_SOURCES):
        await scene.client.hset(key, mapping={f"x{number}": text for number, text in enumerate(HOSTILE)})
    await scene.client.hset(MARKET_SERIES, "SPY", orjson.dumps({"symbol": "SPY"}))
    await scene.client.set(PRELOAD_STATUS, b'{"total":"99999999999999999999999999"}')
    with structlog.testing.capture_logs() as logs:
        async with running(scene):
            await auntil(lambda: any(one.id == "SPY" for one in scene.feed.states.series))
            broken = scene.feed.states.broken
            before = scene.feed.states.read_at
            await auntil(lambda: scene.feed.states.read_at > before, what="the states to be read again")
            assert orjson.dumps([one.as_json() for one in scene.feed.states.series])
            assert orjson.dumps([one.as_json() for one in scene.feed.states.sources])
    assert broken == 7, "what is in a field that nobody reads does no harm"
    assert [line["event"] for line in logs] == ["market.states_invalid"]


async def test_a_defect_in_reading_the_states_is_said_once_and_the_feed_goes_on(scene, monkeypatch):
    is_broken = True

    def parse(raw):
        if is_broken:
            raise TypeError("Integer exceeds 64-bit range")
        return parse_gate(raw)

    monkeypatch.setattr(feeds, "parse_gate", parse)
    with structlog.testing.capture_logs() as logs:
        async with running(scene):
            await auntil(lambda: scene.feed.problem, what="the problem")
            assert scene.feed.problem == "the states of the market can't be read: TypeError"
            await scene.add(1)
            await scene.wait_bars(1)
            is_broken = False
            await auntil(lambda: scene.feed.problem is None, what="the problem to be over")
    assert [line["event"] for line in logs] == ["market.feed_failed", "market.feed_away", "market.feed_back"]


async def test_an_entry_that_breaks_the_reader_is_counted_and_skipped(scene, monkeypatch):
    def parse(ident, fields):
        if fields[b"start"] == b"%d" % (FIRST_MS + 60_000):
            raise TypeError("Integer exceeds 64-bit range")
        return make_bar_row(ident, fields)

    monkeypatch.setitem(tables.STREAMS, CHECKED_BARS, (tables.BAR_TABLE, parse))
    await scene.add(1, 2)
    with structlog.testing.capture_logs() as logs:
        async with running(scene):
            await scene.wait_bars(2)
    assert scene.live.malformed == 1
    assert [(line["event"], line["why"]) for line in logs] == [("market.entry_invalid", "TypeError")]


async def test_an_invalid_entry_is_logged_once_for_each_reason(scene):
    for _ in range(3):
        await scene.client.xadd(CHECKED_BARS, {"sym": "<b>"})
    await scene.add(1)
    with structlog.testing.capture_logs() as logs:
        async with running(scene):
            await scene.wait_bars(1)
    assert scene.live.malformed == 3
    assert [(line["event"], line["stream"]) for line in logs] == [("market.entry_invalid", CHECKED_BARS)]


async def test_the_last_possible_id_does_not_keep_the_feed_from_what_follows_its_repair(scene):
    last = "18446744073709551615-18446744073709551615"
    async with running(scene):
        await scene.client.xadd(CHECKED_BARS, encode_bar(1), id=last)
        await scene.wait_bars(1)
        assert scene.live.find_chart("SPY", "1m").newest_at <= time.time()
        await scene.client.delete(CHECKED_BARS)
        await scene.add(2)
        await scene.wait_bars(1, 2)


async def test_records_of_the_future_are_counted_and_skipped(scene):
    ahead = round(1000 * time.time()) + 2 * 86_400_000
    streams = {
        CHECKED_BARS: [encode_bar((ahead - FIRST_MS) // 60_000), encode_bar(1) | {"epoch": ahead}],
        MARKET_QUOTES: [
            encode_entry(Quote("SPY", ahead, 7.5), AssetClass.STOCKS, ORIGIN),
            encode_entry(Quote("SPY", FIRST_MS, 7.5), AssetClass.STOCKS, Provenance("yahoo", ahead / 1000)),
        ],
        INDICATORS: [{"sym": "SPY", "timeframe": "1m", "start": ahead, "rev": 0, "values": "{}"}],
    }
    for stream, entries in streams.items():
        for fields in entries:
            await scene.client.xadd(stream, fields)
    async with running(scene):
        await auntil(lambda: scene.live.malformed == 5, what="each to be refused")
        await scene.add(2)
        await scene.wait_bars(2)
    assert not scene.live.quotes


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_is_kept_for_followers_takes_no_more_memory_than_it_is_long(scene):
    entry = {name.encode(): value.encode() for name, value in encode_bar(1).items()}
    before = read_resident_mb()
    for rev in range(8000):  # of one bar: its revisions are in the ring of updates, the last one in the chart
        row, _ = make_bar_row(b"1-%d" % rev, entry | {b"rev": b"%d" % rev})
        scene.feed._take_bar(row, 1.0)  # noqa: SLF001 - a bus in memory takes seconds for it
    assert scene.hub.published == 8000
    assert read_resident_mb() - before < 20, "each update takes the 4 KiB of what orjson returns"


def read_resident_mb():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


async def test_a_further_stream_is_followed_where_the_truth_has_it_and_nowhere_else(scene):
    points, taken = [None], []

    def parse(entry, _now):
        if entry.fields != {b"n": b"1"}:
            raise EntryError("n: no number")
        return entry.fields

    scene.feed.add_stream("more:log", lambda _truth: points[0], parse, lambda found, _at: taken.append(found))
    for bus in scene.buses.values():
        for fields in ({"n": 1}, {"n": 2}, {"n": 1, "note": "x" * 70_000}):
            await bus.client.xadd("other:log", fields)
    await scene.add(1)
    async with running(scene):
        await scene.wait_bars(1)
        await auntil(lambda: scene.feed.states.read_at)
        assert taken == [], "the truth has none"
        points[0] = AccessPoint(bus="system-redis", key="other:log")
        await auntil(lambda: len(taken) == 1, what="the entry")
        await auntil(lambda: scene.live.malformed == 2, what="what is no number to be counted")
        points[0] = AccessPoint(bus="market-redis", key="other:log")
        await auntil(lambda: len(taken) == 2, what="the entry on another bus")
        points[0] = None
        assert scene.feed.problem is None
