import asyncio

import orjson
import pytest

from marketswarm.beat import Beat, parse_beat
from marketswarm.pings import JobPing, PingForm, PingKind
from marketswarm.testing import MemoryBus
from marketswarm.truth import Watch
from services.board.pings import writer
from services.board.pings.answers import RefusedPingError
from services.board.pings.writer import PingWriter
from support.recording_log import RecordingLog

TO = Watch("backup", "system-redis", "backup:heartbeat", 10.0, 30.0)


def ping(body=b""):
    return JobPing(kind=PingKind.SUCCESS, ts=1.0, body=body, size=len(body))


def make_writer(bus):
    started = []

    def start(work, name):
        started.append(asyncio.create_task(work, name=name))

    return PingWriter(lambda _name: bus, "b00700b007aa", start), started


@pytest.mark.parametrize("form", list(PingForm))
@pytest.mark.parametrize("kind", [PingKind.SUCCESS, PingKind.FAIL])
async def test_a_report_says_by_which_way_it_came_and_a_sign_of_life_how_long_it_is_kept(form, kind):
    bus = MemoryBus()
    made, _ = make_writer(bus)
    said: list[bytes] = []
    script = bus.script

    async def note(what, keys, args):
        said.append(orjson.loads(args[1])[0][1].encode())
        return await script(what, keys, args)

    bus.script = note
    await made.write(JobPing(kind=kind, ts=1.0, form=form), TO)
    beat = parse_beat(said[0], "backup")
    is_life = kind is PingKind.SUCCESS
    assert isinstance(beat, Beat)
    assert (beat.via, beat.run) == (form, "ended" if is_life else "failed")
    assert beat.life == (60.0 if is_life else None)
    assert orjson.loads(await bus.client.get("run:backup"))["via"] == form
    assert (await bus.client.pttl("beat:backup") > 55_000) is is_life
    await bus.aclose()


async def test_an_entry_with_the_last_possible_id_is_deleted_with_its_stream_and_that_is_logged_once(
    monkeypatch,
):
    bus, log = MemoryBus(), RecordingLog()
    made, _ = make_writer(bus)
    monkeypatch.setattr(writer, "log", log)
    for _ in range(2):
        await bus.client.xadd(
            "pings:backup", {"kind": "junk"}, id="18446744073709551615-18446744073709551615"
        )
        await made.write(ping(), TO)
        ((_, fields),) = await bus.client.xrange("pings:backup")
        assert fields[b"kind"] == b"success"
        assert await bus.client.pttl("pings:backup") > 0
    assert [(event, fields["svc"]) for event, fields in log.lines] == [("board.pings_reset", "backup")]
    await bus.aclose()


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


def job_ping(kind, ts, rid=None):
    return JobPing(kind=kind, ts=ts, rid=rid)


async def test_an_end_that_is_sent_again_after_a_503_still_has_its_duration():
    bus = MemoryBus()
    made, _ = make_writer(bus)
    await made.write(job_ping(PingKind.START, 100.0), TO)
    bus.connected = False
    with pytest.raises(RefusedPingError):
        await made.write(job_ping(PingKind.SUCCESS, 107.0), TO)
    bus.connected = True
    await made.write(job_ping(PingKind.SUCCESS, 107.5), TO)
    assert orjson.loads(await bus.client.get("run:backup"))["took_sec"] == 7.5
    await made.write(job_ping(PingKind.SUCCESS, 109.0), TO)
    assert "took_sec" not in orjson.loads(await bus.client.get("run:backup"))  # no start belongs to this one
    await bus.aclose()


async def test_of_a_start_that_no_bus_took_and_one_that_came_since_the_later_one_counts():
    bus = MemoryBus()
    made, _ = make_writer(bus)
    await made.write(job_ping(PingKind.START, 100.0), TO)
    bus.connected = False
    ending = asyncio.ensure_future(made.write(job_ping(PingKind.SUCCESS, 107.0), TO))
    with pytest.raises(RefusedPingError):
        await asyncio.gather(ending, made.write(job_ping(PingKind.START, 108.0), TO))
    bus.connected = True
    await made.write(job_ping(PingKind.SUCCESS, 110.0), TO)
    assert orjson.loads(await bus.client.get("run:backup"))["took_sec"] == 2.0
    await bus.aclose()


async def test_the_life_of_a_stream_is_set_once_an_hour_and_after_a_ping_that_was_not_taken():
    bus = MemoryBus()
    made, _ = make_writer(bus)

    async def sets_life():
        """Ping, and return whether that sets the life of the stream."""
        await bus.client.persist("pings:backup")
        await made.write(ping(), TO)
        return await bus.client.ttl("pings:backup") > 0

    assert [await sets_life() for _ in range(3)] == [True, False, False]
    bus.connected = False
    with pytest.raises(RefusedPingError):
        await made.write(ping(), TO)
    bus.connected = True
    assert [await sets_life() for _ in range(2)] == [True, False]
    other = Watch("other", "system-redis", "other:heartbeat", 10.0, 30.0)
    bus.connected = False
    with pytest.raises(RefusedPingError):
        await made.write(ping(), other)
    bus.connected = True
    await made.write(ping(), other)
    assert await bus.client.ttl("pings:other") > 0
    await bus.aclose()
