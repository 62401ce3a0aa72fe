"""Messages that nobody took, as buses hold them: once each, the newest first, and nothing that can act."""

from marketswarm.channels import Message, Severity
from marketswarm.channels.message import encode_message
from marketswarm.keys import NOTIFIER_DEAD
from marketswarm.testing import MemoryBus
from services.board.fleet.notifications import MAX_TEXT_CHARS, SHOWN, read_dead_letters


async def bury(bus: MemoryBus, ident: str, at: float, text: str = "no beat", **more: str) -> None:
    message = Message(ident, "rss_agg \x1b[31mis down", text, Severity.CRITICAL, 1.0)
    fields = {
        "message": encode_message(message),
        "channel": "web\nhook",
        "reason": "410 \u202e",
        "ts": str(at),
    }
    await bus.client.xadd(NOTIFIER_DEAD, fields | more)


async def test_a_message_on_both_buses_is_one_and_the_newest_is_first():
    buses = MemoryBus("system-redis"), MemoryBus("market-redis")
    for bus in buses:
        await bury(bus, "m1", 100.0)
    await bury(buses[1], "m2", 200.0)
    messages, away = await read_dead_letters(buses)
    assert [(each.id, each.ts) for each in messages] == [("m2", 200.0), ("m1", 100.0)]
    assert away == {}


async def test_nothing_of_an_entry_can_act_and_a_long_text_is_cut():
    bus = MemoryBus()
    await bury(bus, "m1", 1.0, text="one\ntwo " + "x" * 10_000)
    await bus.client.xadd(NOTIFIER_DEAD, {"message": b"{", "channel": "x"})
    await bus.client.xadd(NOTIFIER_DEAD, {"y": "x"})
    await bury(bus, "m3", 1.0, ts="never")
    (first, second), _ = await read_dead_letters([bus])
    assert (first.id, second.id, second.ts) == ("m1", "m3", None)
    assert all(each.isprintable() for each in (first.title, first.channel, first.reason))
    assert first.text.startswith("one\ntwo xxx")
    assert len(first.text) == MAX_TEXT_CHARS


async def test_of_many_the_newest_are_shown():
    bus = MemoryBus()
    for number in range(SHOWN + 5):
        await bury(bus, f"m{number}", float(number))
    messages, _ = await read_dead_letters([bus])
    assert (len(messages), messages[0].id) == (SHOWN, f"m{SHOWN + 4}")


async def test_a_bus_that_is_away_is_named():
    buses = MemoryBus("system-redis"), MemoryBus("market-redis")
    await bury(buses[1], "m1", 1.0)
    buses[0].connected = False
    messages, away = await read_dead_letters(buses)
    assert ([each.id for each in messages], list(away)) == (["m1"], ["system-redis"])
    buses[1].connected = False
    messages, away = await read_dead_letters(buses)
    assert (messages, set(away)) == ((), {"system-redis", "market-redis"})
