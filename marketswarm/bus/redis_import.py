"""Import redis-py without the packages of OpenTelemetry, which it imports if they are installed.

It has metrics of its own, and records none unless it is asked to; to import what they need takes 3 MB and
0.1 s of every agent. A user of OpenTelemetry has set one of its variables, or has imported it before: then it
stays.
"""

import os
import sys

_is_used = "opentelemetry" in sys.modules or any(name.startswith("OTEL_") for name in os.environ)
if not _is_used:
    sys.modules["opentelemetry"] = None  # type: ignore[assignment]  # None: an import of it fails
from redis.asyncio.client import Pipeline  # noqa: E402 - after the line above

if not _is_used:
    del sys.modules["opentelemetry"]

__all__ = ["Pipeline"]
