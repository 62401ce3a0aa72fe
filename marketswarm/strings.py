"""Read strings and fields that somebody else may have written, of whatever size or type he made them.

Redis returns a value whole when it is asked with GET or HGETALL: one key of 300 MB makes its readers that
much larger, and late. `GETRANGE` copies no more than what is asked for; of a field a script takes the size
first.
"""

from collections.abc import Sequence
from typing import Any, Final

from redis import exceptions as redis_errors

from marketswarm.bus import Bus
from marketswarm.scripts import Script
from marketswarm.stored import report_unusable

LONGEST: Final = 16 * 1024
"""Bytes of a value that is read. A beat has at most 4 KiB, a `health:` object less."""
_WRONG_TYPE: Final = "WRONGTYPE"
_FIELDS: Final = Script.beside("marketswarm", "fields.lua")


async def read_strings(
    bus: Bus, keys: Sequence[str], longest: int = LONGEST, *, report: bool = False
) -> list[bytes | None]:
    """Return the value of each key.

    None stands for a key that does not exist or is no string, and for a value of more than `longest` bytes;
    with `report` the latter two are reported as unusable state. Raises BusError.
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

    found = await bus.ask(read())
    if report:
        for key, value in zip(keys, found, strict=True):
            if not isinstance(value, bytes):
                report_unusable(bus.name, key, "no string")
            elif len(value) > longest:
                report_unusable(bus.name, key, f"more than {longest} bytes")
    return [value if isinstance(value, bytes) and 0 < len(value) <= longest else None for value in found]


async def read_fields(
    bus: Bus, keys: Sequence[str], names: Sequence[str], longest: int = LONGEST
) -> list[dict[bytes, bytes]]:
    """Return for each hash those of the fields that it has.

    A value of more than `longest` bytes is left out, a key that is no hash has no fields, and both are
    reported as unusable state. Raises BusError.
    """
    if not keys:
        return []
    found: list[dict[bytes, bytes]] = []
    for key, values in zip(keys, await bus.script(_FIELDS, keys, [longest, *names]), strict=True):
        found.append({})
        if isinstance(values, bytes):
            report_unusable(bus.name, key, f"a {values.decode('ascii', 'replace')}")
            continue
        for name, value in zip(names, values, strict=True):
            if isinstance(value, bytes):
                found[-1][name.encode()] = value
            elif value is not None:
                report_unusable(bus.name, key, f"{name}: {value} bytes")
    return found


def _is_wrong_type(error: Exception) -> bool:
    return isinstance(error, redis_errors.ResponseError) and _WRONG_TYPE in str(error)
