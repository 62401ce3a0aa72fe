"""Messages that nobody took, as buses hold them: once each, the newest first, and nothing that can act."""

from dataclasses import replace

from marketswarm.channels import Message, Severity
from marketswarm.channels.message import encode_message
from marketswarm.keys import NOTIFIER_DEAD
from marketswarm.operator.tokens import Scope
from marketswarm.status.channel_records import ChannelState, ChannelStatus
from marketswarm.status.notifications import PendingDelivery
from marketswarm.testing import MemoryBus
from services.board.fleet.frame import Frame
from services.board.fleet.notifications import MAX_TEXT_CHARS, SHOWN, NotificationsPage, read_dead_letters
from services.board.templates import TEMPLATES
from support.board_examples import make_channels, make_small, make_well
from support.board_pages import make_session


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


def show(**changed):
    frame = Frame("Notifications", "/notifications", replace(make_well(), **changed), "1-1")
    return " ".join(TEMPLATES.render(NotificationsPage(frame)).split())


def test_the_page_without_a_channel_says_that_nobody_is_told_and_how_to_add_one():
    text = show(channels={})
    assert "delivered." not in text
    for said in ("No channel is open: nobody is told", "WEBHOOK_URL", "docs/notifications.md"):
        assert said in text


def test_the_page_names_the_channels_and_where_each_goes():
    places = {"webhook": "hooks.example.org", "desk": "desk", "<b>": "&"}
    statuses = tuple(ChannelStatus(name, where, ChannelState.UNUSED) for name, where in places.items())
    text = show(channels=places, channel_statuses=statuses)
    assert 'webhook <span class="soft">to hooks.example.org</span>' in text
    assert '<th scope="row">desk</th>' in text
    assert "<b>" not in text
    assert text.count("nothing sent yet") == 3
    assert "Every message that was sent was delivered." in text
    assert "No channel" not in text
    assert "Unknown: no notifier has said" in show(channels=None)


def test_the_page_says_of_each_channel_what_it_sent_and_failed_last():
    text = show(channels={"slack": "x"}, channel_statuses=make_channels())
    assert "404: no such channel" in text
    assert text.index("mesh is up again") < text.index("rss_agg is down") < text.index("works")
    assert "<details>" in text  # how to add one is folded
    assert "<code>PAGERDUTY_ROUTING_KEY</code>" in text
    assert "<details open>" in show(channels={})


def test_each_channel_has_a_button_for_one_who_may_press_it():
    frame = Frame(
        "Notifications", "/notifications", make_small(), "1-1", session=make_session("t", "kim", *Scope)
    )
    text = TEMPLATES.render(NotificationsPage(frame))
    for name in ("slack", "email", "night"):
        assert f'aria-label="Test {name}"' in text
        assert f'name="channel" value="{name}"' in text
    assert "/act/test" not in TEMPLATES.render(NotificationsPage(replace(frame, session=None)))


def test_the_page_does_not_say_delivered_of_what_still_waits():
    waits = PendingDelivery("m1", "webhook", "rss_agg is down", 1.0)
    assert "delivered." not in show(channels={"webhook": "x"}, pending=(waits,))
