"""Find a bus, a named Redis or Valkey server, send it commands, and listen to it.

Enters: the name or URL of a bus, commands, scripts, names of channels and streams.
Leaves: replies, messages and entries of streams as bytes; `BusError` with a reason that all logs share.
Never: a request without a time limit, a reply without a limit of size, or a redis-py error for the caller.
"""

from marketswarm.bus import redis_import  # noqa: F401 - before any other module imports redis-py
from marketswarm.bus.bus import WITHIN_SEC, Bus, find_bus_url, get_url_variable
from marketswarm.bus.errors import BusError, ClusterError, NoBusError
from marketswarm.bus.redis_import import Pipeline
from marketswarm.bus.scripts import Script

__all__ = [
    "WITHIN_SEC",
    "Bus",
    "BusError",
    "ClusterError",
    "NoBusError",
    "Pipeline",
    "Script",
    "find_bus_url",
    "get_url_variable",
]
