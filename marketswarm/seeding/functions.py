"""Load the Lua scripts of this release into a bus as functions, and delete the functions of old releases.

Only the users that seed may load code; all other users call the functions loaded here. Each library is loaded
once. The second line of its code has the time of loading, so that the oldest libraries of other releases can
be deleted. Not here: how a script becomes a library (`marketswarm.bus.scripts`).
"""

import re
from collections import defaultdict
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, Final

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.bus.scripts import FUNCTION_PREFIX, Script

KEPT_VERSIONS: Final = 3
"""How many older versions of one script stay, because processes of earlier releases may still call them."""
_NOT_FATAL: Final = ("error", "auth")
"""Reasons of a BusError if the server is there and refuses the command."""
_LOADED_AT: Final = re.compile(rb"-- loaded at (\d{1,15})\n")

log = logs.get("seeding")


async def load_functions(bus: Bus, scripts: Mapping[str, Script]) -> None:
    """Load the function of each script that the bus doesn't have, and delete old ones.

    A server that does not let us list functions is logged (`functions.unavailable`) and nothing is loaded:
    agents then send their scripts. `scripts` are all scripts of this release, by the names of their
    functions. Raises BusError if the bus is away.
    """
    try:
        entries = await bus.ask(bus.client.function_list(f"{FUNCTION_PREFIX}*", withcode=True))
    except BusError as error:
        if error.reason not in _NOT_FATAL:
            raise
        # an older server, or a managed one that does not let users load functions
        log.warning("functions.unavailable", bus=bus.name, detail=error.detail)
        return
    installed = {name: code for name, code in map(_parse_library, entries) if name is not None}
    seconds, micros = await bus.ask(bus.client.time())
    head = f"-- loaded at {1000 * seconds + micros // 1000}\n"
    # the first two lines of a library hold its name and the time of loading
    codes = {name: code.split(b"\n", 2)[-1] for name, code in installed.items()}
    missing = [name for name, script in scripts.items() if codes.get(name) != script.library.encode()]
    for name in missing:
        code = f"#!lua name={name}\n{head}{scripts[name].library}"
        await _apply_change(bus, name, bus.client.function_load(code, replace=True))
    for name in _find_outdated({name: code for name, code in installed.items() if name not in scripts}):
        await _apply_change(bus, name, bus.client.function_delete(name))
    if missing:
        log.info("functions.loaded", bus=bus.name, count=len(missing))


async def _apply_change(bus: Bus, name: str, command: Awaitable[Any]) -> None:
    """Await a command that loads or deletes the library `name`; only log an error of the server.

    The other libraries may still be loaded. Raises BusError if the bus is away.
    """
    try:
        await bus.ask(command)
    except BusError as error:
        if error.reason not in _NOT_FATAL:
            raise
        log.error("functions.refused", bus=bus.name, function=name, detail=error.detail)  # noqa: TRY400 - its answer


def _parse_library(library: Sequence[Any]) -> tuple[str | None, bytes]:
    """Parse an entry of FUNCTION LIST into name and code. The name is None if the library is not ours."""
    fields = dict(zip(library[::2], library[1::2], strict=False))
    name, code = fields.get(b"library_name"), fields.get(b"library_code")
    if isinstance(name, bytes) and name.startswith(FUNCTION_PREFIX.encode()) and isinstance(code, bytes):
        return name.decode("utf-8", "replace"), code
    return None, b""


def _find_outdated(others: Mapping[str, bytes]) -> Iterable[str]:
    """Yield which libraries of other releases to delete: of each script, all but the latest versions."""
    versions = defaultdict(list)
    for name, code in others.items():
        loaded_at = _LOADED_AT.search(code[:1000])
        versions[name.rpartition("_")[0]].append((int(loaded_at[1]) if loaded_at else 0, name))
    for found in versions.values():
        yield from (name for _, name in sorted(found)[:-KEPT_VERSIONS])
