"""A server with the ACLs of the market's truth: the operator releases a record, and loses none that fails."""

import contextlib
from pathlib import Path

import orjson
import pytest
import redis

from marketswarm.access.passwords import format_acl_files
from marketswarm.access.users import user_names
from marketswarm.agent.service_config import load_with_sections
from marketswarm.bus import Bus, BusError
from marketswarm.bus.scripts import load_all_scripts
from marketswarm.keys import MARKET_BARS, MARKET_QUARANTINE
from marketswarm.seeding.functions import load_functions
from marketswarm.settings.programs import MonitorSettings
from services.bars.quarantine import find_record, read_quarantine, release_record
from support.rig import HOST, Server

pytestmark = pytest.mark.live

MARKET = "market-redis"
TRUTH = load_with_sections((Path(__file__).parents[2] / "examples/market.json").read_bytes()).truth
RECORD = {
    "check": "jump",
    "why": "it jumps",
    "stream": MARKET_BARS,
    "entry": "1-1",
    "at": "1",
    "sym": "SPY",
    "source": "one",
    "fields": orjson.dumps({"sym": "SPY", "close": "4"}).decode(),
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """The server of the market, on which every user has its name for a password."""
    folder = tmp_path_factory.mktemp("guarded")
    passwords = {name: name for name in user_names(TRUTH)}
    texts = format_acl_files(TRUTH, passwords, MonitorSettings(), ())
    (folder / "users.acl").write_text(texts[MARKET], encoding="utf-8")
    with Server(folder, aclfile="users.acl") as server:
        yield server


@contextlib.asynccontextmanager
async def log_in(server, user):
    """Open the bus as a user."""
    bus = Bus(MARKET, f"redis://{user}:{user}@{HOST}:{server.port}")
    try:
        yield bus
    finally:
        await bus.aclose()


@pytest.fixture
async def operator(guarded):
    """The operator's bus, with the functions of a seeded one."""
    async with log_in(guarded, "bootstrap") as bus:
        await load_functions(bus, load_all_scripts())
    async with log_in(guarded, "operator") as bus:
        yield bus


def enter(server, user):
    """Open a client of that user."""
    return redis.Redis(HOST, server.port, username=user, password=user, decode_responses=True, protocol=2)


async def test_the_operator_releases_a_record_once(guarded, operator):
    with enter(guarded, "bars") as bars, enter(guarded, "sources") as sources:
        bars.xadd(MARKET_QUARANTINE, RECORD)
        (record,) = await read_quarantine(operator, MARKET_QUARANTINE, 5)
        assert await release_record(operator, MARKET_QUARANTINE, record, MARKET_BARS)
        assert not await release_record(operator, MARKET_QUARANTINE, record, MARKET_BARS)
        assert bars.xlen(MARKET_QUARANTINE) == 0
        (entry,) = bars.xrange(MARKET_BARS)
        assert entry[1] == {"sym": "SPY", "close": "4", "released": "1"}
        sources.delete(MARKET_BARS)


async def test_a_record_whose_stream_can_not_be_written_stays_in_quarantine(guarded, operator):
    with enter(guarded, "bars") as bars, enter(guarded, "sources") as sources:
        ident = bars.xadd(MARKET_QUARANTINE, RECORD)
        sources.set(MARKET_BARS, "no stream")
        record = await find_record(operator, MARKET_QUARANTINE, ident)
        with pytest.raises(BusError, match="WRONGTYPE"):
            await release_record(operator, MARKET_QUARANTINE, record, MARKET_BARS)
        assert bars.xlen(MARKET_QUARANTINE) == 1
        # of a stream that the operator may not write no record is taken either
        with pytest.raises(BusError):
            await release_record(operator, MARKET_QUARANTINE, record, "bars:bars")
        assert bars.xlen(MARKET_QUARANTINE) == 1
