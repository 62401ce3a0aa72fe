"""Read strings that somebody else may have written, however large or of whatever type he made them.

Redis returns a value whole when it is asked with GET: one key of 300 MB makes its readers that much larger,
and late. `GETRANGE` copies no more than what is asked for.
"""

from collections.abc import Sequence
from typing import Any, Final

from redis import exceptions as redis_errors

from marketswarm.bus import Bus

LONGEST: Final = 16 * 1024
"""Bytes of a value that is read. A beat has at most 4 KiB, a `health:` object less."""
_WRONG_TYPE: Final = "WRONGTYPE"


async def read_strings(bus: Bus, keys: Sequence[str], longest: int = LONGEST) -> list[bytes | None]:
    """Return the value of each key.

    None stands for a key that does not exist or is no string, and for a value of more than `longest` bytes.
    Raises BusError.
    """
    if not keys:
        return []

    async def read() -> list[Any]:
        pipe = bus.pipeline()
        for key in keys:
            pipe.getrange(key, 0, longest)
        values: list[Any] = await pipe.execute(raise_on_error=False)
        for value in values:
            if isinstance(value, Exception) and not _is_wrong_type(value):
                raise value
        return values

    return [
        value if isinstance(value, bytes) and 0 < len(value) <= longest else None
        for value in await bus.ask(read())
    ]


def _is_wrong_type(error: Exception) -> bool:
    return isinstance(error, redis_errors.ResponseError) and _WRONG_TYPE in str(error)
