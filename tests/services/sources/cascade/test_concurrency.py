"""Loading many series at a time: no source keeps the others waiting."""

import asyncio

import pytest

from services.market.records import AssetClass, RecordKind
from services.sources.cascade.loader import load_concurrently
from services.sources.cascade.series import Series


def make_series(symbol, *sources):
    return Series(symbol, RecordKind.BARS, "1m", AssetClass.CRYPTO, "24x7", sources, 300.0, 5.0)


SLOW = [make_series(f"S{n}/USD", "kraken", "okx") for n in range(9)]
FAST = [make_series(f"F{n}/USD", "okx") for n in range(9)]


async def test_a_source_that_waits_leaves_a_place_to_the_others():
    may_go, done = asyncio.Event(), []
    all_fast = asyncio.Event()

    async def load(series):
        if series in SLOW:
            await may_go.wait()
        done.append(series)
        if done == FAST:
            all_fast.set()

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(load_concurrently([*SLOW, *FAST], 3, load))
        await all_fast.wait()
        assert done == FAST, "in their order"
        may_go.set()
    assert sorted(each.symbol for each in done) == sorted(each.symbol for each in [*SLOW, *FAST])


@pytest.mark.parametrize("at_once", [1, 4, 100])
async def test_each_series_is_loaded_once_and_no_more_at_a_time_than_may_be(at_once):
    running, most, done = set(), 0, []

    async def load(series):
        nonlocal most
        running.add(series.id)
        most = max(most, len(running))
        await asyncio.sleep(0)
        running.remove(series.id)
        done.append(series)

    await load_concurrently([*SLOW, *FAST], at_once, load)
    assert sorted(each.symbol for each in done) == sorted(each.symbol for each in [*SLOW, *FAST])
    assert most == min(at_once, 18)
    await load_concurrently([], at_once, load)


async def test_what_a_load_raises_ends_all_others():
    done = []

    async def load(series):
        if series.symbol == "S1/USD":
            raise LookupError(series.symbol)
        await asyncio.sleep(0)
        done.append(series)

    with pytest.raises(ExceptionGroup) as raised:
        await load_concurrently(SLOW, 2, load)
    assert raised.group_contains(LookupError, match="S1/USD")
    assert len(done) < len(SLOW) - 1
