"""A real server, for the tests of one part of a service."""

from support.fixtures import opened
from support.postgres import archive_url, breakable_postgres, postgres
from support.rig.one_server import empty_bus, server
from support.scenes.agent import Scene

__all__ = ["archive_url", "breakable_postgres", "postgres", "server"]

scene = opened(lambda tmp_path: Scene(tmp_path))
"""Two buses, and the agents that a test starts."""


bus = empty_bus("market-redis")
