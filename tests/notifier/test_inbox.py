"""What readers bring is taken once, and readers wait while too much waits."""

import asyncio

import pytest

from marketswarm.event import Event, Kind
from notifier.inbox import ROOM, Asked, Heard, Intake


def heard(n, bus="a"):
    event = Event(Kind.HEARTBEAT_MISS, f"s{n}", float(n), f"e{n}", "healer")
    return Heard(bus, f"{n}-0".encode(), event, b"{}")


async def test_an_entry_is_taken_once_until_it_is_acknowledged():
    intake = Intake()
    intake.bring([heard(1), heard(2)])
    intake.bring([heard(1), heard(1, "b")])
    assert [(each.bus, each.event.id) for each in intake.take(10)] == [("a", "e1"), ("a", "e2"), ("b", "e1")]
    assert intake.knows("a", b"1-0")
    intake.bring([heard(1)])
    assert not intake
    intake.forget("a", [b"1-0"])
    intake.bring([heard(1)])
    assert len(intake.take(10)) == 1


async def test_what_looking_back_found_has_no_entry_and_is_taken_as_it_comes():
    intake = Intake()
    found = Heard("a", None, heard(1).event, b"{}")
    intake.bring([found, found])
    assert len(intake.take(10)) == 2


async def test_an_ask_is_taken_once():
    intake = Intake()
    for _ in range(2):
        intake.ask(Asked("a", b"1-0", None))
    assert (await intake.next_ask()).entry == b"1-0"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(intake.next_ask(), 0.01)


async def test_readers_wait_while_too_much_waits():
    intake = Intake()
    intake.bring(heard(n) for n in range(ROOM + 1))
    waiting = asyncio.create_task(intake.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    intake.take(1)
    await asyncio.wait_for(waiting, 10)


async def test_what_was_brought_is_digested_once_it_is_stored():
    intake = Intake()
    intake.bring([heard(1), heard(2)])
    waiting = asyncio.create_task(intake.digested())
    intake.take(1)
    intake.stored()
    await asyncio.sleep(0.01)
    assert not waiting.done()
    intake.take(1)
    await asyncio.sleep(0.01)
    assert not waiting.done()
    intake.stored()
    await asyncio.wait_for(waiting, 10)


async def test_entries_that_say_nothing_are_counted():
    intake = Intake()
    intake.spoil("a", b"1-0", "not_json")
    assert intake
    assert intake.malformed == {"not_json": 1}
    assert intake.spoiled() == {"a": [b"1-0"]}
    assert not intake


async def test_whoever_waits_is_woken():
    intake = Intake()
    for wake in (intake.poke, lambda: intake.bring([heard(1)]), lambda: intake.spoil("a", b"2-0", "x")):
        wake()
        await asyncio.wait_for(intake.wait(), 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(intake.wait(), 0.01)


async def test_readers_wait_while_too_many_entries_that_say_nothing_wait():
    intake = Intake()
    for n in range(ROOM + 1):
        intake.spoil("a", b"%d-0" % n, "not_json")
    waiting = asyncio.create_task(intake.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    assert len(intake.spoiled()["a"]) == ROOM + 1
    await asyncio.wait_for(waiting, 10)


async def test_an_entry_that_says_nothing_is_taken_once_until_it_is_acknowledged():
    intake = Intake()
    for _ in range(2):
        intake.spoil("a", b"1-0", "not_json")
    assert intake.knows("a", b"1-0")
    assert (intake.malformed.total(), intake.spoiled()) == (1, {"a": [b"1-0"]})


async def test_too_many_asks_hold_up_further_asks_and_no_events():
    intake = Intake()
    for n in range(ROOM + 1):
        intake.ask(Asked("a", b"%d-0" % n, None))
    await asyncio.wait_for(intake.room(), 1)
    assert not intake.takes_asks
    waiting = asyncio.create_task(intake.room_for_asks())
    await asyncio.sleep(0)
    assert not waiting.done()
    assert (await intake.next_ask()).entry == b"0-0"
    await asyncio.wait_for(waiting, 10)
    assert intake.takes_asks


async def test_an_ask_and_an_event_whose_entries_have_one_id_are_both_taken():
    intake = Intake()
    for bus, ask_first in (("a", True), ("b", False)):
        for is_ask in (ask_first, not ask_first):
            if is_ask:
                intake.ask(Asked(bus, b"1-0", None))
            else:
                intake.bring([heard(1, bus)])
    assert [each.bus for each in intake.take(10)] == ["a", "b"]
    assert [(await asyncio.wait_for(intake.next_ask(), 1)).bus for _ in range(2)] == ["a", "b"]
