"""Provide buses in memory, to test code that uses a bus.

Behaviour that only a real server shows (frozen connections, full memory, lost links) belongs in live tests.
"""

from typing import Any

from redis.asyncio.client import Redis

from marketswarm.bus import WITHIN_SEC, Bus


class MemoryBus(Bus):
    """A bus in memory with the interface of `Bus`.

    Two instances with the same `server` are two clients of one bus. While `connected` is False, every request
    fails as if the connection were refused.
    """

    def __init__(
        self, name: str = "system-redis", *, server: Any = None, url: str = "", within_sec: float = WITHIN_SEC
    ) -> None:
        try:
            import fakeredis  # noqa: PLC0415 - only a test needs it
        except ImportError:
            raise ImportError("a bus in memory needs fakeredis: pip install 'fakeredis[lua]'") from None
        super().__init__(name, url or f"redis://{name}:6379", within_sec=within_sec)
        self.where = f"memory:{name}"
        self.server: Any = server if server is not None else fakeredis.FakeServer()
        # as in `Bus`: with a time-out of the client's own, Python 3.11 can lose a cancellation
        self.client: Redis = fakeredis.FakeAsyncRedis(server=self.server, socket_timeout=None)
        self.pool = self.client.connection_pool
        self._has_functions = False

    @property
    def connected(self) -> bool:
        return bool(self.server.connected)

    @connected.setter
    def connected(self, value: bool) -> None:
        self.server.connected = value


class MemoryBuses:
    """Opens buses in memory by URL: pass an instance as `open_bus` to `agent`."""

    def __init__(self) -> None:
        self._servers: dict[str, Any] = {}

    def __call__(self, name: str, url: str = "") -> MemoryBus:
        """Return a new client of the bus at `url`, by default the URL that belongs to the name."""
        place = url or f"redis://{name}:6379"
        bus = MemoryBus(name, server=self._servers.get(place), url=place)
        self._servers[place] = bus.server
        return bus
