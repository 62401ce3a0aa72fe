"""Find a bus, a named Redis or Valkey server, send it commands, and listen to it."""

from marketswarm.bus.bus import WITHIN_SEC, Bus, find_url, variable_of
from marketswarm.bus.errors import BusError, ClusterError, ReplyTooLongError, first_line, reason_of
from marketswarm.bus.scripts import Script

__all__ = [
    "WITHIN_SEC",
    "Bus",
    "BusError",
    "ClusterError",
    "ReplyTooLongError",
    "Script",
    "find_url",
    "first_line",
    "reason_of",
    "variable_of",
]
