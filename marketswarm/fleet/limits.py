"""How much a server of ours may use, and how much one client can make it keep. Pure."""

import re
from collections.abc import Mapping
from typing import Final

MAXMEMORY: Final = "1gb"

LIMITS: Final[Mapping[str, str]] = {
    # A full bus refuses writes and says so. What clients make it keep counts too, but can't fill it: before
    # that, those with the most are cut off. deploy/redis/limits.conf says the same of servers in containers.
    "maxmemory": MAXMEMORY,
    "maxmemory-policy": "noeviction",
    "maxmemory-clients": "512mb",
    # the longest argument is a truth of the greatest length (truth/parse.py), with room to spare
    "proto-max-bulk-len": "32mb",
    "client-query-buffer-limit": "64mb",
    # a subscriber may be behind by a burst of a million beats, but not for a minute
    "client-output-buffer-limit": "normal 128mb 64mb 60 replica 256mb 64mb 60 pubsub 256mb 64mb 60",
}
"""Directives of every embedded server."""

_SIZE: Final = re.compile(r"([1-9][0-9]{0,11})([kmg]?b?)", re.IGNORECASE)
_UNITS: Final = {
    "": 1,
    "b": 1,
    "k": 1000,
    "kb": 1 << 10,
    "m": 1000**2,
    "mb": 1 << 20,
    "g": 1000**3,
    "gb": 1 << 30,
}
_LEAST: Final = 64 << 20


def memory_size(text: str) -> int:
    """Return the bytes of a size as Redis writes it: `512mb`, `2gb`.

    Raises:
        ValueError: not such a size, or too small for a bus; the message says what would be right.
    """
    found = _SIZE.fullmatch(text)
    size = int(found[1]) * _UNITS[found[2].lower()] if found else 0
    if size < _LEAST:
        raise ValueError(f"{text!r} is no size of at least 64mb, such as 512mb or 2gb")
    return size


def sized(maxmemory: str) -> dict[str, str]:
    """Return the directives that follow from the memory of a server: half of it is for its clients."""
    return {"maxmemory": maxmemory, "maxmemory_clients": str(memory_size(maxmemory) // 2)}


def bounded(command: list[str], maxmemory: str) -> list[str]:
    """Return the command line that runs `command` with a limit on the memory of its process.

    `maxmemory` counts neither the memory of scripts nor what the allocator can't use. A server that asks the
    kernel for more than twice as much ends and is started again with its append-only file, as in a container
    with a memory limit: the other programs of the machine keep their memory.
    """
    kilobytes = 2 * memory_size(maxmemory) >> 10
    return ["/bin/sh", "-c", 'ulimit -d "$0" 2>/dev/null; exec "$@"', str(kilobytes), *command]
