"""For tests, ours and users': a bus in memory and a clock moved by hand.

    buses = MemoryBuses()
    async with agent("my_svc", settings, open_bus=buses) as me: ...

Needs the `fakeredis` package, with its `lua` extra for scripts. What only a real server can show (frozen
connections, full memory, lost links) belongs in live tests.
"""

from typing import Any

from redis.asyncio import Redis

from marketswarm.bus import WITHIN_SEC, Bus


class MemoryBus(Bus):
    """A bus in memory, with the surface of `Bus`.

    Two of them over one `server` are two clients of one bus. `connected = False` makes every request fail as
    a refused connection does, until it is True again.
    """

    def __init__(
        self, name: str = "system-redis", *, server: Any = None, url: str = "", within_sec: float = WITHIN_SEC
    ) -> None:
        """Make a client of `server`, or a bus of its own."""
        fakeredis = _fakeredis()
        self.name = name
        self.url = url or f"redis://{name}:6379"
        self.where = f"memory:{name}"
        self.within_sec = within_sec
        self.server: Any = server if server is not None else fakeredis.FakeServer()
        # as in `Bus`: with a time-out of the client's own, Python 3.11 can lose a cancellation
        self.client: Redis = fakeredis.FakeAsyncRedis(server=self.server, socket_timeout=None)
        self.pool = self.client.connection_pool

    @property
    def connected(self) -> bool:
        """Whether the server answers."""
        return bool(self.server.connected)

    @connected.setter
    def connected(self, value: bool) -> None:
        self.server.connected = value


class MemoryBuses:
    """Buses in memory by their URL: what `agent(…, open_bus=…)` takes."""

    def __init__(self) -> None:
        self._servers: dict[str, Any] = {}

    def __call__(self, name: str, url: str = "") -> MemoryBus:
        """A new client of the bus at `url`, by default the one that its name alone finds."""
        place = url or f"redis://{name}:6379"
        bus = MemoryBus(name, server=self._servers.get(place), url=place)
        self._servers[place] = bus.server
        return bus


class ManualClock:
    """Two clocks, in seconds, that stand still until moved: one only runs on, one can be set wrong."""

    def __init__(self, monotonic: float = 1000.0, wall: float = 1_762_433_458.0) -> None:
        self._monotonic = monotonic
        self._wall = wall

    def monotonic(self) -> float:
        """As `time.monotonic()`."""
        return self._monotonic

    def time(self) -> float:
        """As `time.time()`."""
        return self._wall

    def advance(self, seconds: float) -> float:
        """Let time pass on both clocks; the new monotonic reading. Raises ValueError when it is negative."""
        if seconds < 0:
            raise ValueError("time does not run backwards; set_wall() sets the wall clock wrong")
        self._monotonic += seconds
        self._wall += seconds
        return self._monotonic

    def set_wall(self, epoch_sec: float) -> None:
        """Set the wall clock, as someone might at any moment."""
        self._wall = epoch_sec


def _fakeredis() -> Any:
    try:
        import fakeredis  # noqa: PLC0415 - nobody but a test needs it
    except ImportError:
        raise ImportError("a bus in memory needs fakeredis: pip install 'fakeredis[lua]'") from None
    return fakeredis
