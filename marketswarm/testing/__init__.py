"""Provide tests, ours and users', with a bus in memory, a clock that is moved by hand, and a real fleet.

    async with agent("my_svc", settings, open_bus=MemoryBuses()) as me: ...
    with Fleet(tmp_path, "my_svc") as fleet: fleet.stop("my_svc"); fleet.wait("heartbeat_miss", "my_svc")

Enters: an agent to run, or the name of a service and a folder. The bus in memory needs `fakeredis[lua]`, the
fleet a server: valkey or Redis 7 on PATH, or the extra `embedded`.
Leaves: buses, a clock, or a fleet that the test stops, freezes and asks.
Never: a process or a port that is left when the test has ended.
"""

from marketswarm.testing.clock import ManualClock
from marketswarm.testing.fleet import Fleet, FleetError
from marketswarm.testing.memory import MemoryBus, MemoryBuses

__all__ = ["Fleet", "FleetError", "ManualClock", "MemoryBus", "MemoryBuses"]
