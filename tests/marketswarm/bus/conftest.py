"""A real server, for the tests of what a bus is used for."""

import pytest

from marketswarm.bus import Bus
from support.rig import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server for a module, whose tests each begin with nothing on it (`bus`)."""
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
async def bus(server):
    """market-redis on that server, empty."""
    server.cmd("FLUSHALL")
    bus = Bus("market-redis", server.url)
    yield bus
    await bus.aclose()
