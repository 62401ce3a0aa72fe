"""Collects what is published on `healer:alerts`."""

import threading
import time
from typing import Any

import orjson
import redis

from support.rig.closes import Closes
from support.waiting import PATIENT_SEC, until


class AlertTail(Closes):
    """Collects what is published on `healer:alerts`, in a thread, with the monotonic time of arrival.

    It is subscribed when the constructor returns. After a bus restart it subscribes again; what was published
    in between is lost, as with every subscriber.
    """

    def __init__(self, url: str, channel: str = "healer:alerts") -> None:
        self.url, self.channel = url, channel
        self.seen: list[tuple[float, dict[str, Any]]] = []
        self.subscriptions = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        until(lambda: self.subscriptions, what=f"subscription to {channel} at {url}")

    def of(self, kind: str | None = None, svc: str | None = None) -> list[dict[str, Any]]:
        """The events so far, those of one type and service, in order of arrival."""
        return [
            event
            for _, event in list(self.seen)
            if kind in (None, event["type"]) and svc in (None, event["svc"])
        ]

    def at(self, kind: str, svc: str) -> float:
        """When (`time.monotonic()`) the first such event arrived."""
        return next(at for at, event in list(self.seen) if (event["type"], event["svc"]) == (kind, svc))

    def wait(self, kind: str, svc: str, within: float = PATIENT_SEC, count: int = 1) -> dict[str, Any]:
        """The `count`th such event, waiting for it."""
        what = f"{kind} of {svc} (no. {count})"
        until(lambda: len(self.of(kind, svc)) >= count, within, lambda: f"{what}; seen: {self.of()}")
        return self.of(kind, svc)[count - 1]

    def close(self) -> None:
        self._closing.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._listen()
            except redis.RedisError:
                self._closing.wait(0.05)

    def _listen(self) -> None:
        with redis.Redis.from_url(self.url, socket_connect_timeout=1) as client, client.pubsub() as pubsub:
            pubsub.subscribe(self.channel)
            while not self._closing.is_set():
                message = pubsub.get_message(timeout=0.1)
                if message is None:
                    continue
                if message["type"] == "subscribe":
                    self.subscriptions += 1
                elif message["type"] == "message":
                    self.seen.append((time.monotonic(), orjson.loads(message["data"])))
