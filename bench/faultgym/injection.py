"""Inject one fault: what a case may do to the fleet."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, Final

from bench.faultgym.fleet import POLL_SEC, GymFleet

REPORT_WITHIN_SEC: Final = 20.0
OLD_SEC: Final = 10.5
"""The age from which `marketswarm up` starts a process again after its shortest pause."""


class Injection:
    """One fault in one service. `injected_at` is when it began, in epoch seconds; `random` is the seed's."""

    def __init__(self, fleet: GymFleet, svc: str, random: Random) -> None:
        self.fleet, self.svc, self.random = fleet, svc, random
        self.injected_at = time.time()
        self.kept: list[Any] = []

    def begin(self) -> None:
        """Note that the fault begins now: what was prepared before is none."""
        self.injected_at = time.time()

    def order(self, do: str, **how: Any) -> None:
        self.begin()
        self.fleet.order(self.svc, do, **how)

    def kill(self) -> None:
        self.fleet.wait_until_old(self.svc, OLD_SEC)
        self.begin()
        self.fleet.signal(self.svc, signal.SIGKILL)

    def freeze(self) -> None:
        self.begin()
        self.fleet.signal(self.svc, signal.SIGSTOP)

    def freeze_for(self, sec: float, *services: str) -> None:
        """Stop processes by SIGSTOP for a while; all end it at the same time."""
        with self.frozen(*(services or (self.svc,))):
            time.sleep(sec)

    @contextmanager
    def frozen(self, *services: str) -> Iterator[None]:
        pids = [self.fleet.find_pid(each) for each in services]
        self.begin()
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGCONT)
                except ProcessLookupError:
                    continue  # a healer restarted it

    def pick(self, low: float, high: float) -> float:
        return self.random.uniform(low, high)

    def short_sec(self) -> float:
        """Return a time after which nothing is missed yet."""
        return self.pick(0.2, 0.55) * self.fleet.timeout_sec

    def long_sec(self) -> float:
        """Return a time within which a service is missed, and a remedy would be begun."""
        return self.pick(2.0, 2.5) * self.fleet.timeout_sec

    def wait_for_report(self, name: str) -> None:
        """Wait until people got an event whose name begins so, but not for ever."""
        until = time.monotonic() + REPORT_WITHIN_SEC
        while time.monotonic() < until:
            if any(each.startswith(name) for _, each in self.fleet.read_alerts(self.injected_at)):
                return
            time.sleep(POLL_SEC)

    def take_port(self) -> socket.socket:
        """Listen on the port of a service that does not run, so that it can't."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        (self.fleet.orders / f"{self.svc}.port").write_text(str(listener.getsockname()[1]))
        return listener

    def free_port(self) -> None:
        (self.fleet.orders / f"{self.svc}.port").unlink()
        for each in self.kept:
            each.close()
