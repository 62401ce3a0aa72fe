"""How long nobody does what an instance did that is gone: its keys of a share, and its lease.

Three real processes over real servers. One is killed (-9) at a random moment, or stopped; the time is from
then to when the others have all keys between them, and to when one of them has the lease. The ratios are what
counts: to the service's timeout, and to the lease's life.
"""

import contextlib
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import redis

from bench.fleet import program, seed, truth
from bench.ground import Server, report
from bench.sharer import KEYS, LEASE_SEC, SAID

TIMEOUT_SEC = 3.0
INSTANCES = 3
WITHIN_SEC = 30.0


class Said:
    """What the instances said, read as it comes."""

    def __init__(self, client: redis.Redis) -> None:
        self._client, self._read = client, 0
        self.shares: dict[str, tuple[float, int]] = {}
        self.holders: list[tuple[float, str]] = []

    def read(self) -> None:
        """Takes in what is new."""
        lines: list[Any] = self._client.lrange(SAID, self._read, -1)
        self._read += len(lines)
        for line in lines:
            what, boot, at, count = line.decode().split()
            if what == "share":
                self.shares[boot] = (float(at), int(count))
            else:
                self.holders.append((float(at), boot))

    def shared(self, instances: int) -> bool:
        """Whether the last words of so many instances make up all keys."""
        return len(self.shares) == instances and sum(count for _, count in self.shares.values()) == len(KEYS)


def _until(said: Said, done: Callable[[], bool], what: str) -> None:
    by = time.monotonic() + WITHIN_SEC
    while not done():
        if time.monotonic() > by:
            raise RuntimeError(f"not within {WITHIN_SEC:g} s: {what}")
        time.sleep(0.002)
        said.read()


@contextlib.contextmanager
def three(
    servers: tuple[Server, Server], client: redis.Redis
) -> Iterator[tuple[subprocess.Popen[bytes], Said]]:
    """Three that share, the first of which has the lease; and what they say."""
    client.delete(SAID)
    said = Said(client)
    with contextlib.ExitStack() as ends:
        first = ends.enter_context(program("bench.sharer", *servers))
        _until(said, lambda: bool(said.holders), "a holder of the lease")
        for _ in range(INSTANCES - 1):
            ends.enter_context(program("bench.sharer", *servers))
        _until(said, lambda: said.shared(INSTANCES), "three shares")
        yield first, said


def takeover(servers: tuple[Server, Server], client: redis.Redis, *, kill: bool) -> tuple[float, float]:
    """Seconds until what the first one did is done by others: its keys, its lease."""
    with three(servers, client) as (first, said):
        time.sleep(TIMEOUT_SEC * random.random())
        boot = said.holders[0][1]
        gone = time.monotonic()
        if kill:
            first.kill()
        else:
            first.terminate()
        del said.shares[boot]
        before = dict(said.shares)
        _until(said, lambda: said.shared(INSTANCES - 1) and said.shares != before, "two shares")
        _until(said, lambda: len(said.holders) > 1, "another holder of the lease")
        return max(at for at, _ in said.shares.values()) - gone, said.holders[1][0] - gone


def main(times: int = 10) -> None:
    """Killed and stopped, so many times each."""
    with Server() as system, Server() as market, redis.Redis(port=market.port) as client:
        seed([system, market], truth(1, TIMEOUT_SEC / 3, TIMEOUT_SEC))
        killed = [takeover((system, market), client, kill=True) for _ in range(times)]
        stopped = [takeover((system, market), client, kill=False) for _ in range(times)]
    shares, leases = zip(*killed, strict=True)
    report(
        f"one of {INSTANCES} instances gone, {times} times each",
        ("killed: its keys done by others", *_figures(shares, TIMEOUT_SEC, "the timeout"), "goal: 1.0"),
        ("killed: its lease had by another", *_figures(leases, LEASE_SEC, "its life"), "goal: 1.0"),
        ("stopped: its keys", _worst(share for share, _ in stopped), "", "goal: 1 s"),
        ("stopped: its lease", _worst(lease for _, lease in stopped), "", "goal: 1 s"),
    )


def _worst(took: Iterator[float]) -> str:
    found = list(took)
    return f"median {statistics.median(found):.2f} s, worst {max(found):.2f} s"


def _figures(took: tuple[float, ...], of_sec: float, what: str) -> tuple[str, str]:
    return _worst(iter(took)), f"worst {max(took) / of_sec:.2f} of {what} ({of_sec:g} s)"


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
