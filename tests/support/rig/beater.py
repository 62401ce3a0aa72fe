"""Beats for many services from one thread, at a hand's bidding."""

import contextlib
import heapq
import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any

import orjson
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.rig.closes import Closes

SEND_WITHIN_SEC = 1.0
STALL_SEC = 0.5


class Beater(Closes):
    """Services that do nothing but beat. Each can be stopped, resumed, or restarted under a new boot.

    `beats` holds, by service, when the bus took each beat (epoch seconds). A beat that the bus refuses is
    lost, as an agent's is. `svc#2` is a second instance of `svc`. `stalls` holds from when to when (epoch
    seconds) a beat was due that this thread did not get round to.

    `how` names the server's `url`, `interval_sec`, `timeout_sec`, and whether they leave `beat:<svc>` behind
    as a `witness`.
    """

    def __init__(self, how: Mapping[str, Any]) -> None:
        self.how = dict(how)
        self.beats: dict[str, list[float]] = {}
        self.payloads: dict[str, list[bytes]] = {}
        self.i: dict[str, int] = {}  # of the last that was sent
        self.answered: dict[str, list[float]] = {}  # when the bus had taken each of `beats`, at the latest
        self.boots: dict[str, str] = {}
        self.stalls: list[tuple[float, float]] = []
        self.nameless: set[str] = set()  # these have no boot
        self._due: list[tuple[float, str]] = []
        self._silent: set[str] = set()
        self._lock = threading.Condition()
        self._closing = False
        self.client = redis.Redis.from_url(
            how["url"],
            socket_timeout=SEND_WITHIN_SEC,
            socket_connect_timeout=SEND_WITHIN_SEC,
            retry=Retry(NoBackoff(), 0),
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self, *names: str) -> None:
        """From here on they are silent; no beat of theirs is on its way when this returns."""
        with self._lock:
            self._silent.update(names)
            self._due = [(at, name) for at, name in self._due if name not in names]
            heapq.heapify(self._due)

    def resume(self, *names: str) -> None:
        """They go on under the same boot."""
        with self._lock:
            for name in self._silent & set(names):
                heapq.heappush(self._due, (time.monotonic(), name))
            self._silent.difference_update(names)
            self._lock.notify()

    def restart(self, *names: str) -> None:
        """They begin, or begin anew: another boot, `i` from 1."""
        with self._lock:
            for name in names:
                self.boots[name], self.i[name] = secrets.token_hex(4), 0
                if name not in self.beats or name in self._silent:
                    heapq.heappush(self._due, (time.monotonic(), name))
                self.beats.setdefault(name, [])
                self.payloads.setdefault(name, [])
                self.answered.setdefault(name, [])
                self._silent.discard(name)
            self._lock.notify()

    def is_stopped(self, name: str) -> bool:
        return name in self._silent

    def say_goodbye(self, name: str) -> None:
        """Stops one as an agent stops."""
        self.stop(name)
        svc = name.partition("#")[0]
        said = self._next(name, status="stopping")
        with contextlib.suppress(redis.RedisError):
            self.client.set(f"beat:{svc}", said, xx=True, keepttl=True)
            self.client.publish(f"{svc}:heartbeat", said)

    def last(self, name: str) -> float:
        """When the bus took its latest beat, in epoch seconds."""
        return self.beats[name][-1]

    def close(self) -> None:
        with self._lock:
            self._closing = True
            self._lock.notify()
        self._thread.join(5)
        self.client.close()

    def _run(self) -> None:
        with self._lock:
            while not self._closing:
                now = time.monotonic()
                due = []
                if self._due and (late_sec := now - self._due[0][0]) > STALL_SEC:
                    self.stalls.append((time.time() - late_sec, time.time()))
                while self._due and self._due[0][0] <= now:
                    due.append(heapq.heappop(self._due)[1])
                for name in due:
                    heapq.heappush(self._due, (now + self.how["interval_sec"], name))
                if due:
                    self._beat(due)
                self._lock.wait(max(0.0, self._due[0][0] - time.monotonic()) if self._due else None)

    def _next(self, name: str, **more: str) -> bytes:
        self.i[name] += 1
        found: dict[str, Any] = {
            "svc": name.partition("#")[0],
            "i": self.i[name],
            "ts": round(time.time(), 3),
        }
        return orjson.dumps(found | ({} if name in self.nameless else {"boot": self.boots[name]}) | more)

    def _beat(self, names: list[str]) -> None:
        pipe = self.client.pipeline(transaction=False)
        said: dict[str, bytes] = {}
        for name in names:
            svc = name.partition("#")[0]
            said[name] = self._next(name)
            pipe.publish(f"{svc}:heartbeat", said[name])
            if self.how["witness"]:
                pipe.set(f"beat:{svc}", said[name], px=round(2000 * self.how["timeout_sec"]))
        now = time.time()  # before it is sent: nobody can hear it earlier than that
        try:
            pipe.execute()
        except redis.RedisError:
            return
        answered_at = time.time()
        for name in names:
            self.beats[name].append(now)
            self.answered[name].append(answered_at)
            self.payloads[name].append(said[name])
