"""Provide tests, ours and users', with a bus in memory, a clock that is moved by hand, and a real fleet.

    buses = MemoryBuses()
    async with agent("my_svc", settings, open_bus=buses) as me: ...

    with Fleet(tmp_path, "my_svc") as fleet:
        fleet.stop("my_svc")
        assert fleet.wait("heartbeat_miss", "my_svc")["reason"] == "stopped"

The bus in memory needs the `fakeredis` package, with its `lua` extra for scripts; the fleet needs a server:
valkey or Redis 7 on PATH, or the extra `embedded`.
"""

from marketswarm.testing.clock import ManualClock
from marketswarm.testing.fleet import Fleet, FleetError
from marketswarm.testing.memory import MemoryBus, MemoryBuses

__all__ = ["Fleet", "FleetError", "ManualClock", "MemoryBus", "MemoryBuses"]
