"""Loads the scripts of this release into a bus, as functions, and takes away what old releases left behind.

Only who seeds may load code: every other user calls what is here. A library is loaded once, and its second
line says when, so that the oldest libraries of other releases go. Not here: how a script becomes one
(`marketswarm.bus.scripts`).
"""

import re
from collections import defaultdict
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, Final

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.bus.scripts import PREFIX, Script

KEPT: Final = 3
"""Older versions of one script that stay: processes of the releases before may still call them."""
_NOT_FATAL: Final = ("error", "auth")
_LOADED_AT: Final = re.compile(rb"-- loaded at (\d{1,15})\n")

log = logs.get("seeding")


async def load_functions(bus: Bus, scripts: Mapping[str, Script]) -> None:
    """Makes a bus have the function of each script, and drops old ones; says so where it can have none.

    Raises BusError.
    """
    try:
        found = await bus.ask(bus.client.function_list(f"{PREFIX}*", withcode=True))
    except BusError as error:
        if error.reason not in _NOT_FATAL:
            raise
        # an older server, or a managed one that lets nobody load functions: there, agents send their scripts
        log.warning("functions.unavailable", bus=bus.name, detail=error.detail)
        return
    there = {name: code for name, code in map(_named, found) if name is not None}
    seconds, micros = await bus.ask(bus.client.time())
    head = f"-- loaded at {1000 * seconds + micros // 1000}\n"
    libraries = {name: script.library.encode() for name, script in scripts.items()}
    missing = [name for name, library in libraries.items() if _source(there.get(name, b"")) != library]
    for name in missing:
        code = f"#!lua name={name}\n{head}{scripts[name].library}"
        await _change(bus, name, bus.client.function_load(code, replace=True))
    for name in _old({name: code for name, code in there.items() if name not in scripts}):
        await _change(bus, name, bus.client.function_delete(name))
    if missing:
        log.info("functions.loaded", bus=bus.name, count=len(missing))


async def _change(bus: Bus, name: str, command: Awaitable[Any]) -> None:
    """Load or delete one library. What a server finds wrong with one of them is no reason to stop there."""
    try:
        await bus.ask(command)
    except BusError as error:
        if error.reason not in _NOT_FATAL:
            raise
        log.error("functions.refused", bus=bus.name, function=name, detail=error.detail)  # noqa: TRY400 - its answer


def _named(library: Sequence[Any]) -> tuple[str | None, bytes]:
    """A library's name and code, as FUNCTION LIST has them; no name for one that is none of ours."""
    fields = dict(zip(library[::2], library[1::2], strict=False))
    name, code = fields.get(b"library_name"), fields.get(b"library_code")
    if isinstance(name, bytes) and name.startswith(PREFIX.encode()) and isinstance(code, bytes):
        return name.decode("utf-8", "replace"), code
    return None, b""


def _source(code: bytes) -> bytes:
    """What follows the line that names a library and the one that says when it was loaded."""
    return code.partition(b"\n")[2].partition(b"\n")[2]


def _old(others: Mapping[str, bytes]) -> Iterable[str]:
    """Of the libraries of other releases those that go: of each script all but the last that were loaded."""
    versions = defaultdict(list)
    for name, code in others.items():
        versions[name.rpartition("_")[0]].append((_loaded_at(code), name))
    for found in versions.values():
        yield from (name for _, name in sorted(found)[:-KEPT])


def _loaded_at(code: bytes) -> int:
    found = _LOADED_AT.search(code[:1000])
    return int(found[1]) if found else 0
