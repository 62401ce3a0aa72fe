"""Measure the memory that PostgreSQL takes, where it runs on the machine of archive.

It tells no client. But its processes carry in their titles whom they serve, so the one that serves a
connection of ours is known by that, and with its parent all the others.
"""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, Final

import psutil

_BACKEND: Final = """
SELECT pg_backend_pid() AS pid, concat(session_user, ' ', current_database(), ' ', coalesce(
    host(inet_client_addr()) || '(' || inet_client_port() || ')', '[local]'
)) AS title
"""
"""The title of a process is that of its start: who connected, to which database, from where."""


async def read_memory_percent(connection: Any) -> float | None:
    """Return the share of the machine's memory that the server of a connection takes, in percent.

    None where its processes are not to be seen: on another machine, or in a container.
    """
    pid, title = await connection.fetchrow(_BACKEND)
    return await asyncio.to_thread(measure_memory_percent, pid, title)


def measure_memory_percent(pid: int, title: str) -> float | None:
    """Return what the parent of process `pid` and its children take, in percent; this blocks.

    None if the title of the process is another one, since on this machine the pid is that of a stranger then.
    What they share, they take once.
    """
    try:
        backend = psutil.Process(pid)
        if title not in " ".join(backend.cmdline()):
            return None
        server = psutil.Process(backend.ppid())
        used = list(_list_used([server, *server.children()]))
        total = psutil.virtual_memory().total
    except (psutil.Error, OSError):
        return None
    own, shared = sum(own for own, _ in used), max((shared for _, shared in used), default=0)
    return 100.0 * (own + shared) / total if used else None


def _list_used(processes: Iterable[psutil.Process]) -> Iterator[tuple[int, int]]:
    """Return the bytes that each process has for itself, and those that it shares with others."""
    for process in processes:
        try:
            memory = process.memory_info()
        except psutil.NoSuchProcess:  # a session that has just ended
            continue
        shared = getattr(memory, "shared", 0)  # Linux alone says it
        yield memory.rss - shared, shared
