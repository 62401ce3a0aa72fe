"""The claim of a series, on a real bus that goes away while the series is loaded."""

import asyncio
import time

import orjson
import pytest

from marketswarm.bus import Bus, BusError
from marketswarm.market.records import AssetClass, RecordKind
from services.sources.catalog import shipped_catalog
from services.sources.client import SourceClient
from services.sources.gate import GateProgress, load_within_time
from services.sources.loader import LoadOutcome, SeriesLoader
from services.sources.series import Series
from services.sources.settings import WorkSettings
from services.sources.store import SeriesStore
from support.rig import TcpProxy
from support.rig.receiver import Answer, Receiver
from support.waiting import until

pytestmark = pytest.mark.live
SERIES = Series("BTC/USD", RecordKind.BARS, "1m", AssetClass.CRYPTO, "24x7", ("kraken",), 300.0, 1.0, 60.0)


@pytest.fixture
def wire(server):
    with TcpProxy(server.port) as wire:
        yield wire


@pytest.fixture
def site():
    with Receiver() as site:
        yield site


@pytest.fixture
async def loader(bus, wire, site):
    """A loader whose way to the bus can break; it finds Kraken at `site`."""
    away = Bus("market-redis", wire.url)
    async with SourceClient({}, {"kraken": f"http://127.0.0.1:{site.port}"}) as client:
        yield SeriesLoader(client, SeriesStore(lambda: away), shipped_catalog(), WorkSettings)
    await away.aclose()


def answer_as_kraken(_asked):
    now = int(time.time()) // 60 * 60
    rows = [[at, "2", "3", "1", "2", "2", "10", 4] for at in range(now - 600, now + 60, 60)]
    return Answer(200, {}, orjson.dumps({"error": [], "result": {"XXBTZUSD": rows, "last": 0}}))


async def test_a_load_that_lost_the_bus_may_begin_again_at_once_and_no_other_instance_meanwhile(
    bus, wire, site, loader
):
    def answer_while_the_bus_goes_away(asked):
        wire.refuse()
        return answer_as_kraken(asked)

    site.choose = answer_while_the_bus_goes_away
    with pytest.raises(BusError):
        await loader.load(SERIES)
    wire.heal()
    claim, wait_sec = await SeriesStore(lambda: bus).claim(SERIES.id)
    assert (claim, wait_sec > 5) == (None, True), "the claim is still on the bus"
    site.choose = answer_as_kraken
    result = await loader.load(SERIES)
    assert (result.outcome, result.new) == (LoadOutcome.LOADED, 10)
    assert (await SeriesStore(lambda: bus).claim(SERIES.id))[0] is not None, "it was given back"


async def test_the_gate_tries_a_series_again_when_its_bus_comes_back(wire, site, loader):
    calls = []

    def answer_while_the_bus_goes_away(asked):
        calls.append(asked)
        if len(calls) == 1:
            wire.refuse()
        return answer_as_kraken(asked)

    site.choose = answer_while_the_bus_goes_away
    progress = GateProgress(1, time.time())
    loading = asyncio.create_task(load_within_time(loader, [SERIES], WorkSettings(), progress))
    await asyncio.to_thread(until, lambda: calls, 10, "it was asked")
    await asyncio.sleep(0.5)  # for so long the bus is away
    wire.heal()
    await loading
    assert (list(progress.states), progress.errors) == ([SERIES.id], {})
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
