"""A server for a module, and a bus on it that is empty for each test."""

from typing import Any

from marketswarm.bus import Bus
from support.fixtures import closed, opened
from support.rig.process import Server

server = opened(lambda tmp_path_factory: Server(tmp_path_factory.mktemp("server")), scope="module")
"""A server for a module, whose tests each begin with nothing on it if they ask for a bus of `empty_bus`."""


def empty_bus(name: str) -> Any:
    """Return a fixture: the bus `name` on `server`, empty."""

    def empty(server: Server) -> Bus:
        server.cmd("FLUSHALL")
        return Bus(name, server.url)

    return closed(empty)
