"""The sentinel follows the log of a real server, also when it is begun anew."""

import asyncio
import contextlib

import pytest

from marketswarm.bus import Bus
from marketswarm.bus.outage import Outage
from marketswarm.event import Event, Kind, encode_event
from sentinel import follow
from support.rig import Server
from support.waiting import auntil

pytestmark = pytest.mark.live
LOG = "healer:alerts:log"
LAST_ID = "18446744073709551615-18446744073709551615"


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path / "bus") as one:
        yield one


@contextlib.asynccontextmanager
async def following(server):
    """Follow the log; yield the events that were found."""
    bus, found, skipped, reached = Bus("bus", server.url), [], [], asyncio.Event()
    outage = Outage(follow.log, "log.unheard", "log.heard")

    async def note_reached(_bus):
        reached.set()

    task = asyncio.create_task(
        follow.follow_alert_log(
            bus,
            on_event=lambda event, _raw: found.append(event.svc),
            on_skipped=skipped.append,
            on_reached=note_reached,
            outage=outage,
        )
    )
    try:
        async with asyncio.timeout(30):
            await reached.wait()
        yield found
        assert (skipped, outage.problem) == ([], None)
    finally:
        task.cancel()
        await asyncio.wait([task])
        await bus.aclose()


def write(server, svc, ident="*"):
    event = Event(Kind.BUS_MISS, svc, 1.0, f"bus_miss.{svc}", "healer")
    server.cmd("XADD", LOG, ident, "event", encode_event(event))


async def test_a_log_that_is_deleted_after_an_entry_with_the_last_possible_id_is_read_on(server, monkeypatch):
    monkeypatch.setattr(follow, "BLOCK_SEC", 0.02)
    async with following(server) as found:
        write(server, "one", LAST_ID)
        await auntil(lambda: found == ["one"])
        server.cmd("DEL", LOG)
        write(server, "two")
        write(server, "three")
        await auntil(lambda: found == ["one", "two", "three"])
