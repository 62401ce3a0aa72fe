"""Put a truth on a bus in memory, as seeding leaves it there."""

import hashlib

from marketswarm.testing import MemoryBus


async def put_truth(bus: MemoryBus, raw: bytes, revision: int = 1, sha256: str | None = None) -> None:
    """Store a truth with its meta data, and publish that it changed.

    `sha256` is its hash in hex; None means the right one.
    """
    meta = {"revision": revision, "sha256": sha256 or hashlib.sha256(raw).hexdigest()}
    await bus.ask(bus.client.set("truth:doc", raw))
    await bus.ask(bus.client.hset("truth:meta", mapping=meta))
    await bus.ask(bus.client.publish("truth:changed", "{}"))
