import asyncio

import pytest

from marketswarm.pings import JobPing, PingKind
from marketswarm.testing import MemoryBus
from services.board.pings import writer
from services.board.pings.answers import RefusedPingError
from services.board.pings.directory import PingDestination
from services.board.pings.writer import PingWriter

TO = PingDestination("backup", "system-redis", "backup:heartbeat", 30.0)


def ping(body=b""):
    return JobPing(kind=PingKind.SUCCESS, ts=1.0, body=body, size=len(body))


def make_writer(bus):
    started = []

    def start(work, name):
        started.append(asyncio.create_task(work, name=name))

    return PingWriter(lambda _name: bus, "b00700b007aa", start), started


@pytest.mark.parametrize(
    ("limit", "value", "body"), [("MAX_WAITING", 2, b""), ("MAX_WAITING_BYTES", 25, b"0123456789")]
)
async def test_beyond_what_may_wait_a_ping_is_refused_at_once(monkeypatch, limit, value, body):
    monkeypatch.setattr(writer, limit, value)
    bus = MemoryBus()
    made, _ = make_writer(bus)
    waiting = [asyncio.ensure_future(made.write(ping(body), TO)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(RefusedPingError) as refused:
        await made.write(ping(body), TO)
    assert (refused.value.answer.status, refused.value.answer.retry_sec) == (503, 1.0)
    await asyncio.gather(*waiting)
    await made.write(ping(body), TO)
    assert made.waiting == 0
    await bus.aclose()


async def test_a_server_that_never_answers_costs_no_more_than_the_time_limit(monkeypatch):
    bus = MemoryBus(within_sec=0.05)
    made, _ = make_writer(bus)

    async def hang(**_how):
        await asyncio.Event().wait()

    monkeypatch.setattr(bus.client, "register_script", lambda _text: hang)
    with pytest.raises(RefusedPingError) as refused:
        await made.write(ping(), TO)
    assert refused.value.answer.status == 503
    await bus.aclose()


async def test_pings_that_wait_when_the_board_ends_are_refused(monkeypatch):
    bus = MemoryBus()
    made, tasks = make_writer(bus)
    is_sending = asyncio.Event()

    async def hang(**_how):
        is_sending.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(bus.client, "register_script", lambda _text: hang)
    first = asyncio.ensure_future(made.write(ping(), TO))
    await is_sending.wait()
    second = asyncio.ensure_future(made.write(ping(), TO))
    await asyncio.sleep(0)
    tasks[0].cancel()
    for one in (first, second):
        with pytest.raises(RefusedPingError):
            await one
    await bus.aclose()


async def test_a_client_that_gives_up_while_it_waits_has_no_ping():
    bus = MemoryBus()
    made, _ = make_writer(bus)
    gone = asyncio.ensure_future(made.write(ping(), TO))
    kept = asyncio.ensure_future(made.write(ping(), TO))
    await asyncio.sleep(0)
    gone.cancel()
    await kept
    assert await bus.client.xlen("pings:backup") == 1
    assert made.acknowledged == {"success": 1}
    await bus.aclose()
