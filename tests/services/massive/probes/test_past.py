"""The past of a target on a real server: what massive counts, and what is read back of it."""

import asyncio
import contextlib

import orjson
import pytest

from marketswarm.bus import BusError
from marketswarm.keys import probe_failures_key, probe_past_key
from marketswarm.status.probe_past import KEPT_FAILURES, PAST_BYTES, RECORD_BYTES, ProbeBin, read_record
from marketswarm.tasks import end_tasks
from services.massive.probes.publish import ResultPublisher
from services.massive.probes.result import ProbeFinding, ProbeResult
from support.rig.one_server import empty_bus, server
from support.waiting import auntil

__all__ = ["server"]
pytestmark = pytest.mark.live

STREAM = "massive:probes"
HOUR = 1_795_402_800.0
"""The beginning of an hour."""
NOW = HOUR + 1800.0
PAST, FAILURES = probe_past_key(STREAM, "shop"), probe_failures_key(STREAM, "shop")

bus = empty_bus("market-redis")


@contextlib.asynccontextmanager
async def running(bus):
    """A publisher, as in a massive that has just started."""
    publisher = ResultPublisher(lambda: (bus, STREAM))
    task = asyncio.create_task(publisher.run())
    try:
        yield publisher
    finally:
        await end_tasks(task)


async def publish(bus, *findings):
    async with running(bus) as publisher:
        for finding in findings:
            publisher.add(finding, 15.0)
        await auntil(lambda: publisher.published == len(findings), what=lambda: publisher.outage.problem)


def well(ts, ms=40.0, days_left=None):
    facts = {} if days_left is None else {"days_left": days_left}
    return ProbeFinding("shop", ts, ProbeResult("https", "shop", ms={"total": ms}, facts=facts))


def ill(ts, error="refused", stage="tcp"):
    return ProbeFinding("shop", ts, ProbeResult("https", "shop", stage, error, ms={"total": 2000.0}))


async def read(bus, now=NOW):
    return await read_record(bus, STREAM, "shop", now)


async def test_each_probe_is_counted_in_its_minute_its_five_minutes_and_its_hour(bus):
    found = [well(HOUR, 40.0, 61.3), well(HOUR + 59, 60.0, 61.2), ill(HOUR + 61), well(HOUR + 299, 10.0)]
    await publish(bus, *found)
    past = (await read(bus)).past
    assert past.hour == (
        ProbeBin(HOUR, 60.0, 2, 0, 0.05, 0.06, 61.2),
        ProbeBin(HOUR + 60, 60.0, 1, 1),
        ProbeBin(HOUR + 240, 60.0, 1, 0, 0.01, 0.01),
    )
    assert past.day == (ProbeBin(HOUR, 300.0, 4, 1, 0.036667, 0.06),)
    assert past.month == (ProbeBin(HOUR, 3600.0, 4, 1, 0.036667, 0.06),)
    assert 0 < await bus.client.ttl(PAST) <= 31 * 86_400
    assert await bus.client.strlen(PAST) <= PAST_BYTES


async def test_a_massive_that_is_restarted_goes_on_counting_and_what_was_not_probed_has_no_record(bus):
    await publish(bus, well(HOUR), ill(HOUR + 10))
    await publish(bus, well(HOUR + 20), well(HOUR + 600))
    record = await read(bus)
    assert [(one.at - HOUR, one.probes, one.failures) for one in record.past.hour] == [(0, 3, 1), (600, 1, 0)]
    assert (record.uptime["1h"].probes, record.uptime["1h"].share) == (4, 0.75)
    later = await read(bus, NOW + 7200)
    assert (later.past.hour, len(later.past.day)) == ((), 2)
    assert later.uptime["1h"].share is None


async def test_a_clock_that_is_set_back_or_was_ahead_leaves_each_probe_at_its_time(bus):
    ahead = NOW + 40 * 86_400 + 1800
    await publish(bus, well(NOW), well(ahead), well(NOW - 7140), well(NOW + 1))
    past = (await read(bus)).past
    assert [one.at for one in past.month] == [HOUR - 7200, HOUR]
    assert [one.probes for one in past.hour] == [2]
    assert [one.at for one in (await read(bus, ahead)).past.hour] == [ahead]


async def test_a_ring_that_has_gone_round_holds_the_new_round(bus):
    await publish(bus, well(HOUR), well(HOUR + 3600, 20.0))
    (one,) = (await read(bus, HOUR + 3601)).past.hour
    assert (one.at, one.probes, one.mean_sec) == (HOUR + 3600, 1, 0.02)


async def test_results_whose_answer_was_lost_are_counted_once(bus, monkeypatch):
    """They come again, with more behind them."""
    ask, lost = bus.ask, []

    async def lose(request, within_sec=None, **how):
        await ask(request, within_sec, **how)
        monkeypatch.setattr(bus, "ask", ask)
        lost.append(publisher)
        publisher.add(ill(HOUR + 40), 15.0)
        raise BusError("market-redis", "timeout")

    async with running(bus) as publisher:
        monkeypatch.setattr(bus, "ask", lose)
        for finding in (well(HOUR), ill(HOUR + 20)):
            publisher.add(finding, 15.0)
        await auntil(lambda: publisher.published == 3)
    record = await read(bus)
    assert (len(lost), record.uptime["1h"].probes) == (1, 3)
    assert [(run.count, run.until - HOUR) for run in record.failures] == [(2, 40)]
    assert await bus.client.xlen(STREAM) == 3


async def test_failures_in_a_row_are_one_until_a_success_or_another_reason(bus):
    await publish(bus, ill(HOUR), ill(HOUR + 15), well(HOUR + 30))
    await publish(
        bus, ill(HOUR + 45), ill(HOUR + 60, "status_503", "http"), ill(HOUR + 75, "status_503", "http")
    )
    found = (await read(bus)).failures
    shown = [(run.since - HOUR, run.until - HOUR, run.count, run.error, run.is_open) for run in found]
    assert shown == [
        (60, 75, 2, "status_503", True),
        (45, 45, 1, "refused", False),
        (0, 15, 2, "refused", False),
    ]


async def test_of_many_failures_the_last_are_kept(bus):
    pairs = [(ill(HOUR + 2 * n), well(HOUR + 2 * n + 1)) for n in range(KEPT_FAILURES + 5)]
    await publish(bus, *(each for pair in pairs for each in pair))
    found = (await read(bus)).failures
    assert [run.since - HOUR for run in found] == [2.0 * n for n in range(KEPT_FAILURES + 4, 4, -1)]


def record(at, probes=1, failures=0, mean=1, most=1):
    return f"{at // 60:010.0f}{probes:05}{failures:05}{mean:08}{most:08}{0:05}"


HOSTILE_PASTS = {
    "words": "x" * PAST_BYTES,
    "zeros": "0" * PAST_BYTES,
    "nines": "9" * PAST_BYTES,
    "too long": "1" * (PAST_BYTES + 1),
    "short": "12",
    "signs": ("+" + "1" * 40) * 1068,
}


@pytest.mark.parametrize("raw", HOSTILE_PASTS.values(), ids=HOSTILE_PASTS)
async def test_what_another_wrote_in_place_of_a_past_is_no_past_and_stops_nothing(bus, raw):
    await bus.client.set(PAST, raw)
    assert (await read(bus)).past.hour == ()
    await publish(bus, well(NOW))
    past = (await read(bus)).past
    assert [(one.at, one.probes, one.mean_sec) for one in past.hour] == [(NOW, 1, 0.04)]
    assert await bus.client.strlen(PAST) <= PAST_BYTES


@pytest.mark.parametrize(
    "raw",
    [record(NOW, 0), record(NOW, 1, 2), record(NOW, 1, 0, 9, 8), record(NOW + 3600), record(NOW - 3600)],
)
async def test_a_record_with_impossible_numbers_is_left_out(bus, raw):
    await bus.client.setrange(PAST, RECORD_BYTES * (int(NOW // 60) % 60), raw)
    assert (await read(bus)).past.hour == ()


async def test_more_probes_than_a_record_can_count_are_not_counted(bus):
    await bus.client.setrange(PAST, RECORD_BYTES * (int(NOW // 60) % 60), record(NOW, 99_999, 7))
    await publish(bus, ill(NOW))
    (one,) = (await read(bus)).past.hour
    assert (one.probes, one.failures) == (99_999, 7)


async def test_keys_of_another_type_are_replaced(bus):
    await bus.client.rpush(PAST, "x")
    await bus.client.set(FAILURES, "x")
    found = await read(bus)
    assert (found.past.hour, found.failures) == ((), ())
    await publish(bus, ill(NOW))
    found = await read(bus)
    assert ([run.count for run in found.failures], len(found.past.hour)) == ([1], 1)


HOSTILE_ITEMS = {
    "not JSON": b"\xff{",
    "deep": b"[" * 5000 + b"]" * 5000,
    "nan": b'{"since":NaN,"until":1,"count":1,"stage":"tcp","error":"refused","open":true}',
    "infinite": b'{"since":1,"until":1,"count":1e308,"stage":"tcp","error":"refused","open":true}',
    "wrong types": b'{"since":"1","until":[],"count":{},"stage":1,"error":null,"open":true}',
    "long": orjson.dumps(
        {"since": 1, "until": 1, "count": 1, "stage": "tcp", "error": "x" * 5000, "open": True}
    ),
}


@pytest.mark.parametrize("raw", HOSTILE_ITEMS.values(), ids=HOSTILE_ITEMS)
async def test_a_hostile_item_is_no_failure_and_stops_nothing(bus, raw):
    await bus.client.lpush(FAILURES, raw)
    assert (await read(bus)).failures == ()
    await publish(bus, ill(NOW), well(NOW + 1))
    (run,) = (await read(bus)).failures
    assert (run.since, run.count, run.is_open) == (NOW, 1, False)


async def test_a_list_of_huge_items_is_read_as_none(bus):
    await bus.client.lpush(FAILURES, *[b"x" * 100_000] * 5)
    assert (await read(bus)).failures == ()


async def test_a_server_without_memory_takes_all_of_a_result_or_nothing(bus, server):
    await publish(bus, well(HOUR))
    before = {key: await bus.client.dump(key) for key in (STREAM, PAST)}
    server.cmd("CONFIG", "SET", "maxmemory", "1")
    try:
        async with running(bus) as publisher:
            publisher.add(ill(NOW), 15.0)
            await auntil(lambda: publisher.outage.problem)
            assert {key: await bus.client.dump(key) for key in before} == before
            server.cmd("CONFIG", "SET", "maxmemory", "0")
            await auntil(lambda: publisher.published == 1)
    finally:
        server.cmd("CONFIG", "SET", "maxmemory", "0")
    assert (await read(bus)).uptime["24h"].probes == 2
