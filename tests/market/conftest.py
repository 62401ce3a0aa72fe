"""A real server, for the tests of one part of a service."""

import pytest

from marketswarm.bus import Bus
from support.postgres import archive_url, postgres
from support.rig import Server
from support.scenes.agent import Scene

__all__ = ["archive_url", "postgres"]
pytest.register_assert_rewrite("support.archive_play", "support.scenes.bars", "support.scenes.kills")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server for a module, whose tests each begin with nothing on it (`bus`)."""
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def scene(tmp_path):
    """Two buses, and the agents that a test starts."""
    with Scene(tmp_path) as scene:
        yield scene


@pytest.fixture
async def bus(server):
    """market-redis on that server, empty."""
    server.cmd("FLUSHALL")
    bus = Bus("market-redis", server.url)
    yield bus
    await bus.aclose()
