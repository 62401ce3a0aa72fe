"""Sees what the fleet says, over connections of its own that have no fault: logs, real agents' beats, lease.

It also notices when this machine itself stood still, or when its host gave most of its processors to others:
then no clock is to be held against anybody. And it asks each server all the time: one that leaves it without
an answer is away for the healers, too.
"""

import contextlib
import threading
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from soak.ledger import HOME, LOADING, Ledger, Spell
from soak.oracle import Told
from support.rig import AlertTail
from support.rig.closes import Closes

LOOK_SEC = 0.2
STALL_SEC = 0.5
WITHIN_SEC = 1.0
ANSWER_SEC = 3.0
"""How long an answer is waited for before the server is asked again."""
MOST_STOLEN = 0.5
"""The share of its processors that the machine may lose to others."""
LOG = "healer:alerts:log"


class Witness(Closes):
    """Looks a few times a second, in a thread, until it is closed."""

    def __init__(self, urls: dict[str, str], ledger: Ledger, agents: Iterable[str]) -> None:
        self.ledger = ledger
        self.told: list[Told] = []
        self.takeovers: list[float] = []
        self._clients = {bus: _client(url) for bus, url in urls.items()}
        self._asking = {bus: _client(url, ANSWER_SEC) for bus, url in urls.items()}
        self._read = dict.fromkeys(urls, "-")
        self._down: dict[str, bool] = {}
        self._lease: tuple[Any, Any, float] = (None, None, 0.0)
        self._tails = {name: AlertTail(urls[HOME], f"{name}:heartbeat") for name in agents}
        self._closing = threading.Event()
        asking = [partial(self._ask, bus) for bus in urls]
        work = [self._look, self._metronome, self._note_stolen, *asking]
        self._threads = [threading.Thread(target=run, daemon=True) for run in work]
        for thread in self._threads:
            thread.start()

    def up(self) -> set[str]:
        """Those whom the healer's roster shows up."""
        with contextlib.suppress(redis.RedisError):
            roster = self._clients[HOME].hgetall("healer:roster")
            return {svc for svc, entry in roster.items() if orjson.loads(entry)["verdict"] == "up"}
        return set()

    def down(self) -> set[str]:
        """Services whose last word on the log is a miss."""
        return {svc for svc, down in list(self._down.items()) if down}

    def read_logs(self) -> None:
        """Takes in what is new on both logs; what can't be read now is read the next time."""
        for bus, client in self._clients.items():
            with contextlib.suppress(redis.RedisError):
                self._read_log(bus, client)

    def close(self) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join(10)
        for tail in self._tails.values():
            tail.close()
        for client in (*self._clients.values(), *self._asking.values()):
            client.close()

    def _look(self) -> None:
        count = 0
        while not self._closing.wait(LOOK_SEC):
            self._drain()
            begun = time.time()
            with contextlib.suppress(redis.RedisError):
                self._note_lease()
                if time.time() - begun > STALL_SEC:  # a busy disk can hold a server up
                    self.ledger.broke("slow", "machine", begun).end = time.time()
            count += 1
            if count % 5 == 0:
                self.read_logs()

    def _drain(self) -> None:
        """The beats of real agents."""
        offset = time.time() - time.monotonic()
        for name, tail in self._tails.items():
            account = self.ledger.of(name)
            count = len(tail.seen)
            for at, beat in tail.seen[:count]:
                if beat.get("status") != "stopping":
                    account.add(at + offset, at + offset)
            del tail.seen[:count]

    def _note_lease(self) -> None:
        """Between the last renewal that was seen of one epoch and the first look at the next nobody led."""
        lease = self._clients[HOME].hgetall("healer:lease")
        now, (epoch, renewed, at) = time.time(), self._lease
        if not lease or (lease.get("epoch"), lease.get("renewed")) == (epoch, renewed):
            return
        if epoch is not None and lease.get("epoch") != epoch:
            self.takeovers.append((now, now - at))
        self._lease = lease.get("epoch"), lease.get("renewed"), now

    def _read_log(self, bus: str, client: redis.Redis) -> None:
        entries = client.xrange(LOG, self._read[bus], "+")
        for entry, fields in entries:
            told = Told(bus, int(entry.partition("-")[0]) / 1000, orjson.loads(fields["event"]))
            self.told.append(told)
            self._read[bus] = f"({entry}"
            if bus == HOME and told.event["type"].startswith("heartbeat_") and told.what != "gap":
                self._down[told.event["svc"]] = told.what == "miss"

    def _ask(self, bus: str) -> None:
        """Write down each time that a server left a question without an answer, or only read its data."""
        loading: Spell | None = None
        while not self._closing.wait(LOOK_SEC):
            begun = time.time()
            try:
                self._asking[bus].ping()
                loading = None
            except redis.BusyLoadingError:
                loading = loading or self.ledger.broke(LOADING, f"bus:{bus}", begun)
                loading.end = time.time()
            except redis.RedisError:
                loading = None
            if (ended := time.time()) - begun > STALL_SEC:
                self.ledger.broke("mute", f"bus:{bus}", begun).end = ended

    def _metronome(self) -> None:
        before = time.monotonic()
        while not self._closing.wait(0.05):
            now = time.monotonic()
            if now - before > STALL_SEC:
                spell = self.ledger.broke("stall", "machine", time.time() - (now - before))
                spell.end = time.time()
            before = now

    def _note_stolen(self) -> None:
        processors, before = StolenShare(), time.time()
        while not self._closing.wait(STALL_SEC):
            share, now = processors.measure(), time.time()
            if share > MOST_STOLEN:
                self.ledger.broke("stolen", "machine", before).end = now
            before = now


class StolenShare:
    """The share of the processors that the host of a virtual machine keeps for others, from look to look."""

    def __init__(self) -> None:
        self._before = _count_ticks()

    def measure(self) -> float:
        """Return the share since the last call, from 0 to 1; 0 where the system does not say."""
        now = _count_ticks()
        stolen, every = (later - earlier for later, earlier in zip(now, self._before, strict=True))
        self._before = now
        return stolen / every if every else 0.0


def _count_ticks() -> tuple[int, int]:
    """Return how much the host kept since the machine started, and how much there was in all."""
    try:
        text = Path("/proc/stat").read_text(encoding="ascii")
    except OSError:
        return 0, 0
    ticks = [int(word) for word in text.split(maxsplit=9)[1:9]]  # the eighth is `steal`
    return ticks[7], sum(ticks)


def _client(url: str, within_sec: float = WITHIN_SEC) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=within_sec,
        socket_connect_timeout=within_sec,
        retry=Retry(NoBackoff(), 0),
    )
