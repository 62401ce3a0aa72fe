"""Reading the log as a consumer of its group, on a real server: nothing is left behind, whoever left it."""

import asyncio
import contextlib

import orjson
import pytest

from marketswarm.bus import Bus, BusError
from marketswarm.bus.stored_values import replace_unusable
from marketswarm.tasks import end_tasks
from notifier.inbox import Inbox
from notifier.source import LogReader
from support.fixtures import opened
from support.rig import Server
from support.waiting import PATIENT_SEC, auntil

LOG = "healer:alerts:log"

server = opened(lambda tmp_path: Server(tmp_path / "bus"))


def write(server, svc, kind="heartbeat_miss", **more):
    event = {"type": kind, "svc": svc, "ts": 1.0, "id": f"{kind}.{svc}", **more}
    return server.cmd("XADD", LOG, "*", "event", orjson.dumps(event)).encode()


async def room(_bus):
    """There is always room for more acknowledgements."""


class Dispatcher:
    """Takes what is read, and settles it when told to."""

    def __init__(self, last=None):
        self.inbox = Inbox()
        if last:
            self.inbox.last_read["bus"] = last
        self.heard = []
        self.failed = []

    def take(self):
        new = self.inbox.take_events(10_000)
        self.heard += new
        self.inbox.mark_stored()
        return new

    @property
    def names(self):
        return [each.event.svc for each in self.heard]

    async def has(self, *names, within=PATIENT_SEC):
        await auntil(
            lambda: (self.take(), sorted(self.names) == sorted(names))[1], within, f"{names}: {self.names}"
        )


@contextlib.asynccontextmanager
async def reading(server, desk, consumer="me"):
    bus = Bus("bus", server.url)
    reader = LogReader(
        bus, consumer, desk.inbox, room=room, answered=lambda _: None, failed=desk.failed.append
    )
    task = asyncio.create_task(reader.run())
    try:
        yield reader
    finally:
        await end_tasks(task)
        await bus.aclose()


def group(server):
    [found] = server.cmd("XINFO", "GROUPS", LOG)
    return found


async def begun(server):
    await auntil(lambda: server.cmd("EXISTS", LOG) and server.cmd("EXISTS", "notifier:asks"))


async def test_the_first_time_what_lasts_is_brought_without_an_entry_and_the_rest_is_not(server):
    write(server, "over")
    write(server, "over", "heartbeat_ok")
    last = write(server, "lasts")
    desk = Dispatcher()
    async with reading(server, desk):
        await desk.has("lasts")
        assert desk.heard[0].entry is None
        await begun(server)
        assert group(server)["last-delivered-id"] == last.decode()
        entry = write(server, "new")
        await desk.has("lasts", "new")
        assert desk.heard[1].entry == entry
        assert desk.inbox.last_read == {"bus": entry}


async def test_the_first_time_the_whole_log_is_searched_however_much_has_happened_since(server):
    write(server, "long")
    fill = "for n = 1, 12000 do redis.call('XADD', KEYS[1], '*', 'event', ARGV[1]) end"
    server.cmd("EVAL", fill, 1, LOG, orjson.dumps({"type": "heartbeat_ok", "svc": "flaps", "ts": 2.0}))
    write(server, "short")
    desk = Dispatcher()
    async with reading(server, desk):
        await desk.has("long", "short")
        assert desk.names == ["long", "short"]


async def test_what_another_one_left_is_brought_and_that_one_forgotten(server):
    write(server, "old")
    first = Dispatcher(last=b"0-0")
    async with reading(server, first, "first"):
        await first.has("old")
        write(server, "left")
        await first.has("old", "left")
    entries = [each.entry for each in first.heard]
    server.cmd("XACK", LOG, "notifier", entries[0])
    second = Dispatcher(last=entries[1])
    async with reading(server, second, "second"):
        await second.has("left")
        assert second.heard[0].redelivered

        def consumers():
            found = server.cmd("XINFO", "CONSUMERS", LOG, "notifier")
            return [(each["name"], each["pending"]) for each in found]

        await auntil(lambda: consumers() == [("second", 1)])


async def test_what_one_that_sleeps_is_still_given_is_claimed_when_somebody_looks(server):
    desk = Dispatcher(last=b"0-0")
    async with reading(server, desk) as reader:
        await begun(server)
        server.cmd("XGROUP", "CREATECONSUMER", LOG, "notifier", "asleep")
        # as if it had been given to the sleeper a moment before us
        server.cmd("XGROUP", "SETID", LOG, "notifier", "$")
        entry = write(server, "his")
        await desk.has("his")
        server.cmd("XCLAIM", LOG, "notifier", "asleep", 0, entry)
        desk.inbox.forget_acknowledged("bus", [entry])
        await reader.claim()
        await desk.has("his", "his")


async def test_a_group_that_is_gone_is_made_where_it_was(server):
    desk = Dispatcher(last=b"0-0")
    async with reading(server, desk):
        await begun(server)
        write(server, "a")
        await desk.has("a")
        server.cmd("XGROUP", "DESTROY", LOG, "notifier")
        write(server, "b")
        await desk.has("a", "b")
        server.cmd("DEL", LOG)
        write(server, "c")
        await desk.has("a", "b", "c")
        assert desk.failed == []


async def test_a_log_that_began_anew_is_read_from_its_beginning(server):
    server.cmd("XADD", LOG, "5-0", "event", b"{}")
    desk = Dispatcher(last=b"999-0")  # the clock of the server was ahead then
    async with reading(server, desk):
        await begun(server)
        await auntil(lambda: desk.inbox.malformed == {"incomplete": 1})


async def test_what_is_too_long_to_be_read_is_passed_over_and_its_neighbours_are_not(server, monkeypatch):
    monkeypatch.setattr("notifier.source.REPLY_BYTES", 400_000)
    for n in range(4):
        write(server, f"before{n}")
    server.cmd("XADD", LOG, "*", "event", b"x" * 3_000_000)
    for n in range(4):
        write(server, f"after{n}")
    desk = Dispatcher(last=b"0-0")
    async with reading(server, desk):
        await desk.has(*(f"{when}{n}" for when in ("before", "after") for n in range(4)))
        assert desk.inbox.malformed == {"too_long": 1}
        write(server, "later")
        await auntil(lambda: (desk.take(), "later" in desk.names)[1])


async def test_a_key_that_is_no_stream_is_said_and_waited_for(server):
    server.cmd("SET", LOG, "a string")
    desk = Dispatcher()
    async with reading(server, desk):
        await auntil(lambda: desk.failed)
        assert desk.failed[0].reason == "error"
        server.cmd("DEL", LOG)
        await begun(server)
        write(server, "a")
        await desk.has("a")


async def test_asks_are_brought_each_once_and_nonsense_too_to_be_acknowledged(server):
    ask = {"id": "a1", "do": "test", "what": "*", "by": "ops", "ts": 1.0}
    server.cmd("XADD", "notifier:asks", "*", "ask", orjson.dumps(ask))
    server.cmd("XADD", "notifier:asks", "*", "ask", "{")
    desk = Dispatcher()
    async with reading(server, desk):
        first = await asyncio.wait_for(desk.inbox.next_request(), PATIENT_SEC)
        second = await asyncio.wait_for(desk.inbox.next_request(), PATIENT_SEC)
    assert (first.request.id, second.request) == ("a1", None)
    again = Dispatcher()
    async with reading(server, again, "another"):
        assert (await asyncio.wait_for(again.inbox.next_request(), PATIENT_SEC)).entry == first.entry


async def test_a_consumer_that_reads_while_others_are_dismissed_loses_nothing(server):
    """An entry that it claims between the look and the dismissal must stay pending."""
    desk = Dispatcher()
    async with reading(server, desk):
        await begun(server)
        await auntil(lambda: group(server)["consumers"] >= 1)
    bus = Bus("bus", server.url)
    reader = LogReader(bus, "me", desk.inbox, room=room, answered=lambda _: None, failed=desk.failed.append)
    server.cmd("XGROUP", "CREATECONSUMER", LOG, "notifier", "other")
    ask, written = reader.bus.ask, []

    async def ask_while_another_reads(request, *args, **options):
        reply = await ask(request, *args, **options)
        if isinstance(reply, list) and any(isinstance(each, dict) for each in reply) and not written:
            written.append(write(server, "late"))
            server.cmd("XREADGROUP", "GROUP", "notifier", "other", "COUNT", 1, "STREAMS", LOG, ">")
        return reply

    reader.bus.ask = ask_while_another_reads
    await reader.claim()
    if not written:  # nothing came between: it reads right after
        written.append(write(server, "late"))
        server.cmd("XREADGROUP", "GROUP", "notifier", "other", "COUNT", 1, "STREAMS", LOG, ">")
    await reader.bus.aclose()
    assert group(server)["pending"] == 1, "the entry is nobody's: it is never told"
    async with reading(server, desk):
        await desk.has("late")


async def test_while_too_many_asks_wait_the_log_is_read_and_further_asks_later(server, monkeypatch):
    monkeypatch.setattr("notifier.inbox.CAPACITY", 2)
    desk = Dispatcher()

    def ask(*names):
        for name in names:
            server.cmd("XADD", "notifier:asks", "*", "ask", orjson.dumps({"id": name}))

    def handed_out():
        return server.cmd("XPENDING", "notifier:asks", "notifier")["pending"]

    ask("a1", "a2", "a3")
    async with reading(server, desk):
        await auntil(lambda: not desk.inbox.has_request_room)
        await begun(server)
        write(server, "first")  # ends a read that began before
        await desk.has("first")
        ask("a4", "a5")
        write(server, "second")
        await desk.has("first", "second")
        assert handed_out() == 3
        entries = [(await asyncio.wait_for(desk.inbox.next_request(), PATIENT_SEC)).entry for _ in range(5)]
        assert len(set(entries)) == handed_out() == 5


async def test_a_log_that_is_deleted_after_an_entry_with_the_last_possible_id_is_read_on(server):
    """The group that is made on the log that is not there yet must not begin behind all that can come."""
    last_id = "18446744073709551615-18446744073709551615"
    desk = Dispatcher()
    async with reading(server, desk):
        await begun(server)
        server.cmd("XADD", LOG, last_id, "event", "{}")
        await auntil(lambda: desk.inbox.last_read.get("bus") == last_id.encode())
        server.cmd("DEL", LOG)
        await auntil(lambda: server.cmd("EXISTS", LOG))  # its group is there again
        write(server, "a")
        await desk.has("a")


@pytest.mark.parametrize("has_read_it", [True, False])
async def test_a_log_that_a_writer_has_begun_anew_is_read_on_and_nothing_is_lost_or_read_twice(
    server, has_read_it
):
    last_id = b"18446744073709551615-18446744073709551615"
    bus, desk = Bus("bus", server.url), Dispatcher()
    async with reading(server, desk):
        await begun(server)
        write(server, "read")
        await desk.has("read")
        if has_read_it:
            server.cmd("XADD", LOG, last_id, "event", "{}")
            await auntil(lambda: desk.inbox.last_read.get("bus") == last_id)
    if not has_read_it:
        write(server, "unread")
        server.cmd("XADD", LOG, last_id, "event", "{}")
    async with reading(server, desk):
        with pytest.raises(BusError) as refused:
            await bus.ask(bus.client.xadd(LOG, {"event": "{}"}))
        assert await replace_unusable(refused.value, bus, {LOG: "stream"})
        write(server, "new")
        expected = {"read", "new"} if has_read_it else {"read", "unread", "new"}
        await auntil(lambda: (desk.take(), expected <= set(desk.names))[1], what=lambda: desk.names)
    assert sorted(desk.names) == sorted(expected)
    await bus.aclose()


async def test_requests_that_are_deleted_after_an_entry_with_the_last_possible_id_are_read_on(server):
    desk = Dispatcher()
    async with reading(server, desk):
        await begun(server)
        server.cmd("XADD", "notifier:asks", "18446744073709551615-18446744073709551615", "ask", "{")
        await asyncio.wait_for(desk.inbox.next_request(), PATIENT_SEC)
        server.cmd("DEL", "notifier:asks")  # as the operator may
        ask = {"id": "a1", "do": "test", "what": "*", "by": "ops", "ts": 1.0}
        server.cmd("XADD", "notifier:asks", "*", "ask", orjson.dumps(ask))
        found = await asyncio.wait_for(desk.inbox.next_request(), PATIENT_SEC)
        assert found.request.id == "a1"
