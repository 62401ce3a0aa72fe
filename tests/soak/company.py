"""The services that only beat, and the ledger of their beats."""

import contextlib
import threading
import time
from typing import Any

import orjson
import redis

from soak.ledger import Ledger
from soak.schedule import Cast
from support.rig.beater import Beater

PAYLOADS_KEPT = 60


class LedgerBeater(Beater):
    """A beater that writes down what the bus took, and what it may have taken."""

    def __init__(self, how: dict[str, Any], ledger: Ledger) -> None:
        self.ledger = ledger
        super().__init__(how)

    def restart(self, *names: str) -> None:
        for name in names:
            self.ledger.of(name.partition("#")[0]).restarts.append(time.time())
        super().restart(*names)

    def _beat(self, names: list[str]) -> None:
        had = {name: len(self.beats[name]) for name in names}
        sent = time.time()
        super()._beat(names)
        taken = time.time()
        for name in names:
            account = self.ledger.of(name.partition("#")[0])
            if len(self.beats[name]) > had[name]:
                account.add(sent, taken)
            else:
                account.doubts.append(sent)
            del self.beats[name][:-2], self.payloads[name][:-PAYLOADS_KEPT]


class Company:
    """All of them. Each is silent or beats; a reseed may give one another rhythm.

    Args:
        urls: by bus, where they beat.
        ledger: where it is written down.
    """

    def __init__(self, urls: dict[str, str], ledger: Ledger, services: list[Cast]) -> None:
        self.urls, self.ledger = urls, ledger
        self.cast = {one.svc: one for one in services}
        self.silent: dict[str, float] = {}
        self._beaters: dict[tuple[Any, ...], LedgerBeater] = {}
        self._of: dict[str, LedgerBeater] = {}
        self._lock = threading.Lock()
        self._ends = contextlib.ExitStack()

    def begin(self, svc: str, interval_sec: float, timeout_sec: float) -> None:
        """From now on it beats so, or will once it is no longer silent."""
        one = self.cast[svc]
        key = (one.bus, interval_sec, timeout_sec, not one.bare)
        with self._lock:
            beater = self._beaters.get(key)
            if beater is None:
                names = ("url", "interval_sec", "timeout_sec", "witness")
                how = dict(zip(names, (self.urls[one.bus], *key[1:]), strict=True))
                beater = self._beaters[key] = self._ends.enter_context(LedgerBeater(how, self.ledger))
            before, self._of[svc] = self._of.get(svc), beater
            if before is not None:
                before.stop(*self._names(svc))
            if svc not in self.silent:
                beater.restart(*self._names(svc))

    def silence(self, svc: str) -> None:
        with self._lock:
            self.silent[svc] = time.time()
            if svc in self._of:
                self._of[svc].stop(*self._names(svc))

    def revive(self, svc: str, boot: str) -> None:
        """It beats again, under the same boot or as a new process."""
        with self._lock:
            self.silent.pop(svc, None)
            beater = self._of.get(svc)
            if beater is None:
                return
            names = self._names(svc)
            if boot == "same" and all(name in beater.beats for name in names):
                beater.resume(*names)
            else:
                beater.restart(*names)

    def old_payload(self, svc: str, after: float) -> bytes | None:
        """A beat that was sent since then: not its latest."""
        beater = self._of.get(svc)
        kept = beater.payloads.get(svc, []) if beater is not None else []
        fit = [payload for payload in kept[:-1] if orjson.loads(payload)["ts"] > after]
        return fit[len(fit) // 2] if fit else None

    def count(self) -> int:
        """How many beats the buses took."""
        return sum(len(self.ledger.of(svc).taken) for svc in self.cast)

    def close(self) -> None:
        self._ends.close()

    def _names(self, svc: str) -> list[str]:
        return [svc, *(f"{svc}#{n}" for n in range(2, self.cast[svc].instances + 1))]


def publish(url: str, channel: str, payloads: list[bytes]) -> None:
    """Sends what is no beat of anybody; a bus that takes nothing is no concern of it."""
    with contextlib.suppress(redis.RedisError), redis.Redis.from_url(url, socket_timeout=2) as client:
        pipe = client.pipeline(transaction=False)
        for payload in payloads:
            pipe.publish(channel, payload)
        pipe.execute()
