"""Two real buses and an agent whose body a test writes: what live tests of the life of an agent stand on."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import orjson
import redis

from support.rig import Proc, Server
from support.rig.closes import Closes
from support.waiting import PATIENT_SEC, until

HEAD = """
import asyncio, os, sys, threading, time
from marketswarm.agent import Exit, agent, run

async def main():
    async with agent("probe") as me:
"""
TAIL = """
    return me.exit_code

if __name__ == "__main__":
    run(main)
"""
RESTING = """
        while True:
            if await me.rest(0.2):
                me.log.info("probe.reseeded", revision=me.revision)
"""


def truth(
    interval_sec: float = 0.3, timeout_sec: float = 3.0, svc: str = "probe", **heartbeat: Any
) -> dict[str, Any]:
    beats = {"interval_sec": interval_sec, "timeout_sec": timeout_sec, **heartbeat}
    return {"services": {svc: {"heartbeat": beats}}}


def seed(
    servers: list[Server], document: Mapping[str, Any] | bytes, revision: int, *, say: bool = True
) -> None:
    """What bootstrap does, without its checks: these tests need what it would refuse as well."""
    raw = document if isinstance(document, bytes) else orjson.dumps(document)
    sha256 = hashlib.sha256(raw).hexdigest()
    for server in servers:
        # in one step, as bootstrap: an agent that looks in between would see no revision
        script = "redis.call('SET', KEYS[1], ARGV[1]) redis.call('HSET', KEYS[2], unpack(ARGV, 2))"
        words = ("truth:doc", "truth:meta", raw, "revision", revision, "sha256", sha256)
        server.cmd("EVAL", script, 2, *words)
        if say:
            server.cmd("PUBLISH", "truth:changed", orjson.dumps({"revision": revision, "sha256": sha256}))


class Scene:
    """`with Scene(tmp_path) as scene:` system and market bus run; `scene.agent()` is the agent `probe`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs: list[Proc] = []

    def __enter__(self) -> Self:
        self.system, self.market = Server(self.folder / "system"), Server(self.folder / "market")
        self.buses = [self.system, self.market]
        self.env = {
            "SYSTEM_REDIS_URL": self.system.url,
            "MARKET_REDIS_URL": self.market.url,
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "DEBUG",
        }
        return self

    def __exit__(self, *_error: object) -> None:
        for process in [*self.programs, *self.buses]:
            process.close()

    def agent(self, body: str = RESTING, **env: str) -> Proc:
        return self.program("probe", HEAD + body + TAIL, **env)

    def program(self, name: str, text: str, **env: str) -> Proc:
        """Start a module of the test's own. Its file is replaced in one step: others may be reading it."""
        new = self.folder / f"{name}.new"
        new.write_text(text, encoding="utf-8")
        new.replace(self.folder / f"{name}.py")
        return self.module(name, **env)

    def module(self, name: str, **env: str) -> Proc:
        process = Proc(name, {**self.env, **env}, self.folder)
        self.programs.append(process)
        return process

    def beat(self, svc: str = "probe") -> dict[str, Any]:
        """Return the service's last beat; an empty dict if there is none."""
        raw = self.system.cmd("GET", f"beat:{svc}")
        return orjson.loads(raw) if raw else {}

    def wait_beat(self, within: float = PATIENT_SEC, svc: str = "probe", **wanted: Any) -> dict[str, Any]:
        """Wait for a beat with these values, and at least this `i`; return it."""
        least = wanted.pop("i", 0)

        def seen() -> dict[str, Any] | None:
            beat = self.beat(svc)
            return beat if wanted.items() <= beat.items() and beat.get("i", -1) >= least else None

        found: dict[str, Any] = until(
            seen, within, lambda: f"a beat with {wanted} and i {least}, not {self.beat(svc)}; {self.programs}"
        )
        return found

    def next_beat(self, within: float = PATIENT_SEC) -> dict[str, Any]:
        before = self.beat().get("i", 0)
        until(lambda: self.beat().get("i", 0) > before, within, f"a beat after {before}")
        return self.beat()


class Tail(Closes):
    """A plain subscriber, to see what is published."""

    def __init__(self, url: str, channel: str) -> None:
        self.client = redis.Redis.from_url(url)
        self.pubsub = self.client.pubsub()
        self.pubsub.subscribe(channel)
        until(lambda: self.pubsub.get_message(timeout=0.1), what=f"a subscription to {channel}")

    def close(self) -> None:
        self.pubsub.close()
        self.client.close()

    def next(self, within: float = PATIENT_SEC) -> dict[str, Any] | None:
        message = self.pubsub.get_message(timeout=within, ignore_subscribe_messages=True)
        return orjson.loads(message["data"]) if message else None
