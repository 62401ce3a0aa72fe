"""Handle the requests of operators: acknowledge an outage, resend dead letters, send a test message."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.channels import Message, MessageKind, Severity
from marketswarm.channels.message import parse_message
from marketswarm.keys import NOTIFIER_DEAD
from marketswarm.operator import ALL, OperatorRequest, RequestKind
from notifier.channel_pool import ChannelPool
from notifier.dispatcher import Dispatcher
from notifier.inbox import Inbox, ReceivedRequest
from notifier.store import DEAD_LENGTH

READ_WITHIN_SEC: Final = 3.0
AT_ONCE: Final = 100

log = logs.get("asking")


@dataclass(slots=True)
class DeadMessage:
    """A dead letter, the channels that refused it, and by bus its entries in `notifier:dead`."""

    message: Message
    channels: dict[str, None] = field(default_factory=dict)
    entries: dict[str, list[bytes]] = field(default_factory=dict)


class RequestHandler:
    """Handles each request once, whichever bus brings it.

    Args:
        dispatcher: sends messages and answers.
        pool: the open channels.
        buses: where the dead letters are.
        clock: returns epoch seconds.
    """

    def __init__(
        self, dispatcher: Dispatcher, pool: ChannelPool, buses: Sequence[Bus], clock: Callable[[], float]
    ) -> None:
        self._dispatcher, self._pool, self._buses, self._clock = dispatcher, pool, buses, clock

    async def run(self, inbox: Inbox) -> None:
        """Handle requests one after the other until cancelled."""
        while True:
            await self.do(await inbox.next_request())

    async def do(self, asked: ReceivedRequest) -> None:
        """Handle the request of an entry, unless it was handled before."""
        ask, state = asked.ask, self._dispatcher.state
        if ask is not None and not state.is_done(ask.id):
            log.info("ask.taken", do=ask.do, what=ask.what, by=ask.by)
            # what follows waits for nothing, so that an ask is done and known to be done in one turn
            buried = await self._dead() if ask.do is RequestKind.RESEND else {}
            state.mark_done(ask.id)
            if ask.lapsed(self._clock()):
                self._dispatcher.answers.add_answer(ask.id, ok=False, said="that was asked too long ago")
            elif ask.do is RequestKind.ACK:
                self._acknowledge(ask)
            elif ask.do is RequestKind.TEST:
                self._test(ask)
            else:
                self._resend(ask, buried)
        self._dispatcher.finish_request(asked)

    def _acknowledge(self, ask: OperatorRequest) -> None:
        services = self._dispatcher.router.acknowledge(ask.what, ask.by)
        names = ", ".join(services)
        said = f"{names}: {ask.by} sees to it" if services else f"nothing is down that is called {ask.what}"
        self._dispatcher.answers.add_answer(ask.id, ok=bool(services), said=said)

    def _test(self, ask: OperatorRequest) -> None:
        names = list(self._pool.workers)
        chosen = names if ask.what == ALL else [ask.what]
        if not names:
            self._dispatcher.answers.add_answer(ask.id, ok=False, said="no channel is open")
        elif not set(chosen) <= set(names):
            said = f"there is no channel {ask.what}; there are {', '.join(names)}"
            self._dispatcher.answers.add_answer(ask.id, ok=False, said=said)
        else:
            message = test_message(ask.id, ask.by, self._clock())
            self._expect(ask, message, chosen)
            self._send(ask, message, chosen)

    def _resend(self, ask: OperatorRequest, buried: Mapping[str, DeadMessage]) -> None:
        chosen = [each for each in buried.values() if ask.what in (ALL, each.message.id)][:AT_ONCE]
        open_ones = list(self._pool.workers)
        if not chosen:
            said = "nothing is dead" if ask.what == ALL else f"nothing that is dead is called {ask.what}"
            self._dispatcher.answers.add_answer(ask.id, ok=ask.what == ALL, said=said)
            return
        if not open_ones:
            self._dispatcher.answers.add_answer(ask.id, ok=False, said="no channel is open")
            return
        ways = [[name for name in each.channels if name in open_ones] or open_ones for each in chosen]
        # all of them before the first may be answered, or that answer would be taken for the last
        for each, channels in zip(chosen, ways, strict=True):
            self._expect(ask, each.message, channels)
        for each, channels in zip(chosen, ways, strict=True):
            for bus, entries in each.entries.items():
                self._dispatcher.delete_dead_letters(bus, entries)
            self._send(ask, each.message, channels)

    def _expect(self, ask: OperatorRequest, message: Message, channels: Sequence[str]) -> None:
        for name in channels:
            self._dispatcher.answers.expect(ask.id, message.id, name)

    def _send(self, ask: OperatorRequest, message: Message, channels: Sequence[str]) -> None:
        self._dispatcher.send_message(message, channels)
        for name in channels:
            delivery = self._pool.workers[name]
            if delivery.pause_left_sec > 1:
                why = f"{delivery.trouble}; it waits for {delivery.pause_left_sec:.0f} s more"
                self._dispatcher.answers.answer_paused(ask.id, message.id, name, delivery.channel.where, why)

    async def _dead(self) -> dict[str, DeadMessage]:
        found: dict[str, DeadMessage] = {}
        for bus, entries in zip(self._buses, await asyncio.gather(*map(_entries, self._buses)), strict=True):
            for ident, fields in entries:
                message = parse_message((fields or {}).get(b"message", b""))
                if message is not None:
                    each = found.setdefault(message.id, DeadMessage(message))
                    each.channels[fields.get(b"channel", b"").decode("utf-8", "replace")] = None
                    each.entries.setdefault(bus.name, []).append(ident)
        return found


async def _entries(bus: Bus) -> list[tuple[bytes, Any]]:
    try:
        found: list[tuple[bytes, Any]] = await bus.ask(
            bus.client.xrange(NOTIFIER_DEAD, count=2 * DEAD_LENGTH), READ_WITHIN_SEC
        )
    except BusError:
        return []
    return found


def test_message(ask: str, by: str, now: float) -> Message:
    """Return the test message that an operator asked for; `now` in epoch seconds."""
    text = f"{by} asked for this message, to see whether it arrives; nothing is wrong"
    return Message(f"test.{ask}", "This is a test", text, Severity.INFO, now, kind=MessageKind.TEST)
