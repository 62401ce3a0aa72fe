"""Leave out the keys that should be streams and hold values of another type, until they are streams again."""

import math
import time
from collections.abc import Collection
from typing import Final

from marketswarm.bus.bus import Bus
from marketswarm.bus.errors import BusError
from marketswarm.bus.stored_values import is_wrong_type, report_unusable

TYPES_EVERY_SEC: Final = 2.0
"""How often it is asked whether a key that is not a stream has become one."""


class StreamTypes:
    """The types of the keys that a service reads as streams of one bus.

    They are read after an error that one is wrong, and every TYPES_EVERY_SEC while one is.
    """

    def __init__(self) -> None:
        self._wrong: dict[str, str] = {}  # the type of each key that is not a stream
        self._due_at = math.inf  # when the types are to be read (monotonic)
        self._bus = ""

    @property
    def problem(self) -> str | None:
        """Return each key that is not a stream, separated by `; `; None if there are none."""
        wrong = [f"{self._bus} {key} is a {kind} and not a stream" for key, kind in self._wrong.items()]
        return "; ".join(wrong) or None

    def record(self, error: BusError) -> None:
        """Have the types read next if the error is that one of them is wrong."""
        if is_wrong_type(error):
            self._due_at = time.monotonic()

    async def find_streams(self, bus: Bus, keys: Collection[str]) -> list[str]:
        """Return the keys that are streams, or missing; count and log each new one of the others.

        Raises BusError.
        """
        if time.monotonic() >= self._due_at:
            found = dict[str, str]()
            for key in keys:
                kind = (await bus.ask(bus.client.type(key))).decode("ascii", "replace")
                if kind not in ("stream", "none"):
                    found[key] = kind
            for key in found.keys() - self._wrong.keys():
                report_unusable(bus.name, key, f"a {found[key]}")
            self._wrong, self._bus = found, bus.name
            self._due_at = time.monotonic() + TYPES_EVERY_SEC if found else math.inf
        return [key for key in keys if key not in self._wrong]
