"""A real server, since limits, breakers and kept votes are on a bus."""

from support.rig.one_server import empty_bus, server

__all__ = ["server"]

bus = empty_bus("market-redis")
