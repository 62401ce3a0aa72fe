"""A budget of an hour, on a real bus: all processes spend it together."""

import asyncio

from marketswarm.bus.rate_limiter import HourlyBudget

KEY = "vexy:notes:llm"


async def test_no_more_is_spent_than_there_is_and_no_less(server, bus):
    spent = await asyncio.gather(*(HourlyBudget(bus, KEY).spend(5) for _ in range(20)))
    assert sum(spent) == 5
    assert 0 < server.cmd("TTL", KEY) <= 7200
    hour = int(server.cmd("HGET", KEY, "hour"))
    server.cmd("HSET", KEY, "hour", hour - 1)
    budget = HourlyBudget(bus, KEY)
    assert await budget.spend(5)
    assert not await budget.spend(0)
