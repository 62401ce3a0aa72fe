"""Find a bus, a named Redis or Valkey server, send it commands, and listen to it."""

import os
import sys

# redis-py imports the metrics of OpenTelemetry if they are installed, and records none unless it is asked to:
# that takes 3 MB and 0.1 s of every agent. Who uses them has set one of its variables, or imported it before.
_used = "opentelemetry" in sys.modules or any(name.startswith("OTEL_") for name in os.environ)
_absent = {} if _used else {"opentelemetry": None}
sys.modules.update(_absent)  # type: ignore[arg-type]
import redis.asyncio  # noqa: E402, F401 - see above

for _name in _absent:
    del sys.modules[_name]

from marketswarm.bus.bus import WITHIN_SEC, Bus, find_bus_url, get_url_variable  # noqa: E402 - see above
from marketswarm.bus.errors import (  # noqa: E402 - see above
    BusError,
    ClusterError,
    ReplyTooLongError,
    find_bus_reason,
    first_line,
)
from marketswarm.bus.scripts import Script  # noqa: E402 - see above

__all__ = [
    "WITHIN_SEC",
    "Bus",
    "BusError",
    "ClusterError",
    "ReplyTooLongError",
    "Script",
    "find_bus_reason",
    "find_bus_url",
    "first_line",
    "get_url_variable",
]
