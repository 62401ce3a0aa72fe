"""Find free ports for servers of a test."""

import functools
import itertools
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from marketswarm.fleet.preflight import is_port_free

_FIRST_PORT, _LEAST_PORTS = 15_000, 5_000
_IN_A_ROW: Final = 10
_OUTGOING_FROM: Final = 32_768
"""Linux' first port for outgoing connections, where the kernel does not say it."""


class WorkerPorts:
    """Give out the ports of one of several test workers, below those of outgoing connections.

    The kernel takes none of them for a client, so a server that restarts finds its port free.
    """

    def __init__(self, worker: int = 0, workers: int = 1) -> None:
        try:
            limits = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
            outgoing = int(limits.split()[0])
        except OSError:
            outgoing = _OUTGOING_FROM
        end = max(outgoing, _FIRST_PORT + _LEAST_PORTS) - _IN_A_ROW
        rows = self.rows = range(_FIRST_PORT, end, _IN_A_ROW)[worker::workers]
        begin = random.randrange(len(rows))  # another run, beside this one, begins elsewhere
        self._turns: Iterator[int] = itertools.cycle([*rows[begin:], *rows[:begin]])

    def find_free(self, count: int = 1) -> int:
        """Return the first of `count` (1 to 10) free ports in a row.

        What is free now is bound a while later, so the others of the row are given to no one else. Raise
        AssertionError if no row is free.
        """
        for first in itertools.islice(self._turns, len(self.rows)):
            if all(is_port_free(first + step) for step in range(count)):
                return first
        raise AssertionError("no port is free")


@functools.cache
def _get_own() -> WorkerPorts:
    """Return the ports of this one of xdist's workers."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    return WorkerPorts(int(worker), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def find_free_ports(count: int = 1) -> int:
    """Return the first of `count` free ports in a row, as `WorkerPorts.find_free` of this worker does."""
    return _get_own().find_free(count)
