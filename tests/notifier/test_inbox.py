"""What readers bring is taken once, and readers wait while too much waits."""

import asyncio

import pytest

from marketswarm.event import Event, Kind
from notifier.inbox import CAPACITY, Inbox, ReceivedEvent, ReceivedRequest
from support.waiting import PATIENT_SEC


def heard(n, bus="a"):
    event = Event(Kind.HEARTBEAT_MISS, f"s{n}", float(n), f"e{n}", "healer")
    return ReceivedEvent(bus, f"{n}-0".encode(), event, b"{}")


async def others_run() -> None:
    """Let every other task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_an_entry_is_taken_once_until_it_is_acknowledged():
    inbox = Inbox()
    inbox.add_events([heard(1), heard(2)])
    inbox.add_events([heard(1), heard(1, "b")])
    assert [(each.bus, each.event.id) for each in inbox.take_events(10)] == [
        ("a", "e1"),
        ("a", "e2"),
        ("b", "e1"),
    ]
    assert inbox.is_known("a", b"1-0")
    inbox.add_events([heard(1)])
    assert not inbox
    inbox.forget_acknowledged("a", [b"1-0"])
    inbox.add_events([heard(1)])
    assert len(inbox.take_events(10)) == 1


async def test_what_looking_back_found_has_no_entry_and_is_taken_as_it_comes():
    inbox = Inbox()
    found = ReceivedEvent("a", None, heard(1).event, b"{}")
    inbox.add_events([found, found])
    assert len(inbox.take_events(10)) == 2


async def test_an_ask_is_taken_once():
    inbox = Inbox()
    for _ in range(2):
        inbox.add_request(ReceivedRequest("a", b"1-0", None))
    assert (await inbox.next_request()).entry == b"1-0"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(inbox.next_request(), 0.01)


async def test_readers_wait_while_too_much_waits():
    inbox = Inbox()
    inbox.add_events(heard(n) for n in range(CAPACITY + 1))
    waiting = asyncio.create_task(inbox.wait_for_room())
    await others_run()
    assert not waiting.done()
    inbox.take_events(1)
    await asyncio.wait_for(waiting, PATIENT_SEC)


async def test_what_was_brought_is_digested_once_it_is_stored():
    inbox = Inbox()
    inbox.add_events([heard(1), heard(2)])
    waiting = asyncio.create_task(inbox.wait_until_stored())
    inbox.take_events(1)
    inbox.mark_stored()
    await others_run()
    assert not waiting.done()
    inbox.take_events(1)
    await others_run()
    assert not waiting.done()
    inbox.mark_stored()
    await asyncio.wait_for(waiting, PATIENT_SEC)


async def test_entries_that_say_nothing_are_counted():
    inbox = Inbox()
    inbox.add_malformed("a", b"1-0", "not_json")
    assert inbox
    assert inbox.malformed == {"not_json": 1}
    assert inbox.take_malformed() == {"a": [b"1-0"]}
    assert not inbox


async def test_whoever_waits_is_woken():
    inbox = Inbox()
    for wake in (
        inbox.wake,
        lambda: inbox.add_events([heard(1)]),
        lambda: inbox.add_malformed("a", b"2-0", "x"),
    ):
        wake()
        await asyncio.wait_for(inbox.wait(), PATIENT_SEC)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(inbox.wait(), 0.01)


async def test_readers_wait_while_too_many_entries_that_say_nothing_wait():
    inbox = Inbox()
    for n in range(CAPACITY + 1):
        inbox.add_malformed("a", b"%d-0" % n, "not_json")
    waiting = asyncio.create_task(inbox.wait_for_room())
    await others_run()
    assert not waiting.done()
    assert len(inbox.take_malformed()["a"]) == CAPACITY + 1
    await asyncio.wait_for(waiting, PATIENT_SEC)


async def test_an_entry_that_says_nothing_is_taken_once_until_it_is_acknowledged():
    inbox = Inbox()
    for _ in range(2):
        inbox.add_malformed("a", b"1-0", "not_json")
    assert inbox.is_known("a", b"1-0")
    assert (inbox.malformed.total(), inbox.take_malformed()) == (1, {"a": [b"1-0"]})


async def test_too_many_asks_hold_up_further_asks_and_no_events():
    inbox = Inbox()
    for n in range(CAPACITY + 1):
        inbox.add_request(ReceivedRequest("a", b"%d-0" % n, None))
    await asyncio.wait_for(inbox.wait_for_room(), PATIENT_SEC)
    assert not inbox.has_request_room
    waiting = asyncio.create_task(inbox.wait_for_request_room())
    await others_run()
    assert not waiting.done()
    assert (await inbox.next_request()).entry == b"0-0"
    await asyncio.wait_for(waiting, PATIENT_SEC)
    assert inbox.has_request_room


async def test_an_ask_and_an_event_whose_entries_have_one_id_are_both_taken():
    inbox = Inbox()
    for bus, ask_first in (("a", True), ("b", False)):
        for is_ask in (ask_first, not ask_first):
            if is_ask:
                inbox.add_request(ReceivedRequest(bus, b"1-0", None))
            else:
                inbox.add_events([heard(1, bus)])
    assert [each.bus for each in inbox.take_events(10)] == ["a", "b"]
    assert [(await asyncio.wait_for(inbox.next_request(), PATIENT_SEC)).bus for _ in range(2)] == ["a", "b"]
