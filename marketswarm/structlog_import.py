"""Import structlog without rich, of which it imports much, if it is installed, for tracebacks on a terminal.

That takes memory in each agent, and time at the start of each command that logs.
"""

import sys

_rich = sys.modules.get("rich")
sys.modules["rich"] = None  # type: ignore[assignment]  # None: an import of it fails
import structlog  # noqa: E402 - after the line above

if _rich is None:
    del sys.modules["rich"]
else:
    sys.modules["rich"] = _rich

__all__ = ["structlog"]
