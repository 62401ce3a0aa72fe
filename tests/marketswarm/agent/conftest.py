"""Buses in memory, in time that is moved, for a whole agent."""

import pytest

from marketswarm.testing import MemoryBuses
from support.fixtures import closed


@pytest.fixture
async def buses(monkeypatch, moved_time):
    for name in ("SYSTEM_REDIS_URL", "MARKET_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    return MemoryBuses()


system = closed(lambda buses: buses("system-redis"))
