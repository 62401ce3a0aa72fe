"""The claim of a series, and its requests, on a real bus that goes away while the series is loaded."""

import asyncio
import contextlib
import time

import orjson
import pytest

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.bus.lease import STRING_LEASE
from marketswarm.keys import MARKET_DOWNLOADS
from marketswarm.seeding.functions import load_functions
from marketswarm.tasks import end_tasks
from services.market.records import AssetClass, RecordKind
from services.sources.access.client import SourceClient
from services.sources.cascade import store as store_module
from services.sources.cascade.loader import LoadOutcome, SeriesLoader
from services.sources.cascade.series import Series
from services.sources.cascade.source_reader import SourceReader
from services.sources.cascade.state import WAITING
from services.sources.cascade.store import Load, SeriesStore
from services.sources.catalog.answer import SentRequest
from services.sources.catalog.files import shipped_catalog
from services.sources.dispatcher import SeriesDispatcher
from services.sources.preload import GateProgress, load_within_time
from services.sources.settings import WorkSettings
from support.catalog_samples import SAMPLES
from support.fixtures import opened
from support.rig import TcpProxy
from support.rig.receiver import Answer, Receiver
from support.waiting import auntil

pytestmark = pytest.mark.live
SERIES = Series("BTC/USD", RecordKind.BARS, "1m", AssetClass.CRYPTO, "24x7", ("kraken",), 300.0, 1.0, 60.0)
ACTIONS = Series("AAPL", RecordKind.ACTIONS, "", AssetClass.STOCKS, "24x7", ("yahoo",), 172_800.0, 7305.0)

wire = opened(lambda server: TcpProxy(server.port))
site = opened(Receiver)


@pytest.fixture
async def loader(bus, wire, site):
    """A loader whose way to the bus can break; it finds Kraken at `site`."""
    away = Bus("market-redis", wire.url)
    async with SourceClient(
        {}, dict.fromkeys(("kraken", "yahoo"), f"http://127.0.0.1:{site.port}")
    ) as client:
        yield SeriesLoader(SourceReader(client, SeriesStore(lambda: away), shipped_catalog(), WorkSettings))
    await away.aclose()


def answer_as_kraken(_asked):
    now = int(time.time()) // 60 * 60
    rows = [[at, "2", "3", "1", "2", "2", "10", 4] for at in range(now - 600, now + 60, 60)]
    return Answer(200, {}, orjson.dumps({"error": [], "result": {"XXBTZUSD": rows, "last": 0}}))


async def lose_the_bus_in_a_load(wire, site, loader):
    def answer_while_the_bus_goes_away(asked):
        wire.refuse()
        return answer_as_kraken(asked)

    site.choose = answer_while_the_bus_goes_away
    with pytest.raises(BusError):
        await loader.load(SERIES)
    wire.heal()


async def test_a_load_that_lost_the_bus_may_begin_again_at_once_and_no_other_instance_meanwhile(
    bus, wire, site, loader
):
    await lose_the_bus_in_a_load(wire, site, loader)
    claim, wait_sec = await SeriesStore(lambda: bus).claim(SERIES.id)
    assert (claim, wait_sec > 5) == (None, True), "the claim is still on the bus"
    site.choose = answer_as_kraken
    result = await loader.load(SERIES)
    assert (result.outcome, result.new > 5) == (LoadOutcome.LOADED, True)
    assert (await SeriesStore(lambda: bus).claim(SERIES.id))[0] is not None, "it was given back"


async def test_the_gate_tries_a_series_again_when_its_bus_comes_back(wire, site, loader, monkeypatch):
    calls = []

    def answer_while_the_bus_goes_away(asked):
        calls.append(asked)
        if len(calls) == 1:
            wire.refuse()
        return answer_as_kraken(asked)

    site.choose = answer_while_the_bus_goes_away
    tries, read_states = [], SeriesStore.read_states

    async def read_counted(store, names, now):
        tries.append(names)
        return await read_states(store, names, now)

    monkeypatch.setattr(SeriesStore, "read_states", read_counted)
    progress = GateProgress(1, time.time())
    loading = asyncio.create_task(load_within_time(loader, [SERIES], WorkSettings(), progress))
    await auntil(lambda: calls and len(tries) >= 3, what="other tries, for which there is no bus either")
    wire.heal()
    await loading
    assert progress.found[SERIES.id].newest_ms is not None
    assert len(calls) == 2


async def test_a_claim_that_expired_while_the_bus_was_away_is_left_to_whoever_has_it_now(server, bus, wire):
    away = Bus("market-redis", wire.url)
    store, other = SeriesStore(lambda: away), SeriesStore(lambda: bus)
    claim, _ = await store.claim(SERIES.id)
    wire.refuse()
    with pytest.raises(BusError):
        await store.release(claim)
    server.cmd("FLUSHALL")  # as after ten seconds
    theirs, _ = await other.claim(SERIES.id)
    wire.heal()
    assert (await store.claim(SERIES.id))[0] is None
    assert await other.renew(theirs)
    await other.release(theirs)
    assert (await store.claim(SERIES.id))[0] is not None
    await away.aclose()


async def test_two_loads_of_one_process_exclude_each_other(bus):
    store = SeriesStore(lambda: bus)
    claim, _ = await store.claim(SERIES.id)
    assert (await store.claim(SERIES.id))[0] is None
    await store.release(claim)
    assert (await store.claim(SERIES.id))[0] is not None


# -- requests that were sent, and could not be recorded at once


async def list_requests(bus):
    return [fields[b"url"].decode() for _, fields in await bus.client.xrange(MARKET_DOWNLOADS)]


async def test_the_requests_of_a_load_that_lost_the_bus_are_recorded_with_the_next_one(
    bus, wire, site, loader
):
    await lose_the_bus_in_a_load(wire, site, loader)
    assert await list_requests(bus) == []
    site.choose = answer_as_kraken
    await loader.load(SERIES)
    assert len(await list_requests(bus)) == 2
    await loader.load(SERIES)
    assert len(await list_requests(bus)) == 3


async def test_the_requests_of_actions_are_recorded_though_the_bus_went_away_before_they_were_compared(
    monkeypatch, bus, wire, site, loader
):
    """What was published is read after the answer, and before the step in which all of it is published."""
    read_published = SeriesStore.read_published

    async def read_without_the_bus(store, series):
        wire.refuse()
        return await read_published(store, series)

    site.always = Answer(200, {}, (SAMPLES / "yahoo.actions.json").read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(SeriesStore, "read_published", read_without_the_bus)
        with pytest.raises(BusError):
            await loader.load(ACTIONS)
    wire.heal()
    await loader.load(ACTIONS)
    assert len(await list_requests(bus)) == len(site.seen) == 2


async def test_a_request_whose_load_is_broken_off_is_recorded_with_the_next_one(bus, site, loader):
    """As by its time limit, or a lease that is lost: the source has answered, or will."""
    site.always = Answer(hang=True)
    loading = asyncio.create_task(loader.load(SERIES))
    await auntil(lambda: site.seen, what="a request")
    await end_tasks(loading)
    site.choose = answer_as_kraken
    await loader.load(SERIES)
    found = [fields for _, fields in await bus.client.xrange(MARKET_DOWNLOADS)]
    assert [(each[b"status"], each[b"outcome"], each[b"reason"]) for each in found] == [
        (b"0", b"failed", b"cancelled"),
        (b"200", b"ok", b""),
    ]


class Me:
    """Runs tasks, as an agent does."""

    def __init__(self):
        self.tasks, self.log = [], logs.get("test")

    def task(self, work, *, name):
        self.tasks.append(asyncio.create_task(work, name=name))


async def test_the_requests_of_a_series_that_is_given_up_are_recorded_without_another_load(
    bus, wire, site, loader
):
    dispatcher = SeriesDispatcher(Me(), loader, None, None)
    await dispatcher.follow([SERIES])
    await lose_the_bus_in_a_load(wire, site, loader)
    for wanted, count in (([SERIES], 0), ([], 1), ([], 1)):
        await dispatcher.follow(wanted)
        dispatcher.record_left()
        await asyncio.gather(*dispatcher.me.tasks)
        assert len(await list_requests(bus)) == count
    assert len(site.seen) == 1


async def test_requests_that_can_not_be_recorded_now_are_recorded_later(bus, wire, site, loader):
    dispatcher = SeriesDispatcher(Me(), loader, None, None)
    await lose_the_bus_in_a_load(wire, site, loader)
    wire.refuse()
    for count in (0, 1):
        dispatcher.record_left()
        await asyncio.gather(*dispatcher.me.tasks)
        wire.heal()
        assert len(await list_requests(bus)) == count


@pytest.mark.parametrize("lost", [("up", "down"), ("down", "up")], ids="-".join)
async def test_each_request_is_recorded_once_whether_the_bus_took_a_load_and_its_answer_was_lost_or_not(
    monkeypatch, bus, wire, lost
):
    """`up`: the load does not reach the bus; `down`: the bus publishes it, and nobody is told."""
    monkeypatch.setattr(store_module, "WITHIN_SEC", 0.5)
    away = Bus("market-redis", wire.url)
    store, sent = SeriesStore(lambda: away), []

    async def publish(direction=None):
        """Publish a load with one request more; what goes in a direction is lost meanwhile."""
        claim, _ = await store.claim(SERIES.id)
        if direction:
            wire.swallow(direction=direction)
        sent.append(f"https://example.org/{len(sent)}")
        load = Load(SERIES, WAITING, (), None, (SentRequest("kraken", sent[-1], 0.1, 200),))
        try:
            await store.publish(claim, load, WorkSettings())
        except BusError:
            wire.heal()
            with contextlib.suppress(BusError):  # the connection that lost bytes is reset
                await store.release(claim)
            raise

    await load_functions(bus, {each.function: each for each in (STRING_LEASE, store_module.PUBLISH)})
    for direction in lost:
        known = await list_requests(bus)
        with pytest.raises(BusError):
            await publish(direction)
        assert await list_requests(bus) == (known if direction == "up" else sent), direction
    await publish()
    assert await list_requests(bus) == sent
    await away.aclose()


async def test_the_requests_of_a_load_that_lost_its_claim_are_recorded_with_the_next_one(server, bus):
    store = SeriesStore(lambda: bus)
    for url, is_lost in (("https://example.org/1", True), ("https://example.org/2", False)):
        claim, _ = await store.claim(SERIES.id)
        if is_lost:
            server.cmd("FLUSHALL")
        load = Load(SERIES, WAITING, (), None, (SentRequest("kraken", url, 0.1, 200),))
        assert (await store.publish(claim, load, WorkSettings())).is_lost is is_lost
    assert await list_requests(bus) == ["https://example.org/1", "https://example.org/2"]
