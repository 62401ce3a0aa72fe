"""A real server, for the tests of what a bus is used for."""

from support.rig.one_server import empty_bus, server

__all__ = ["server"]

bus = empty_bus("market-redis")
