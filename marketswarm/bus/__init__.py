"""A bus: a named Redis or Valkey server, how it is found, spoken to and listened to."""

from marketswarm.bus.bus import WITHIN_SEC, Bus, find_url, variable_of
from marketswarm.bus.errors import BusError, ClusterError, TooLongError, first_line, reason_of
from marketswarm.bus.scripts import Script

__all__ = [
    "WITHIN_SEC",
    "Bus",
    "BusError",
    "ClusterError",
    "Script",
    "TooLongError",
    "find_url",
    "first_line",
    "reason_of",
    "variable_of",
]
