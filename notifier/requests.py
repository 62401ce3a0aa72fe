"""Handle the requests of operators: acknowledge an outage, resend dead letters, send a test message."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.channels import Message, MessageKind, Severity
from marketswarm.channels.message import parse_message
from marketswarm.keys import NOTIFIER_DEAD
from marketswarm.operator.requests import ALL, OperatorRequest, RequestKind
from marketswarm.truth import suggest_name
from notifier.channel_pool import ChannelPool
from notifier.dispatcher import SHORT_PAUSE_SEC, Dispatcher, describe_pause
from notifier.inbox import Inbox, ReceivedRequest
from notifier.store import DEAD_LENGTH

READ_WITHIN_SEC: Final = 3.0
"""How long reading the dead letters of a bus may take, in seconds."""
RESENT_AT_ONCE: Final = 100
"""How many dead letters one request resends at most: what is new waits behind them, and each is answered."""

log = logs.get("request")


@dataclass(slots=True)
class DeadMessage:
    """A dead letter, the channels that refused it, and by bus its entries in `notifier:dead`."""

    message: Message
    channels: dict[str, None] = field(default_factory=dict)
    entries: dict[str, list[bytes]] = field(default_factory=dict)


class RequestHandler:
    """Handles each request once, even if several buses hold it; dead letters are read from `buses`."""

    def __init__(
        self, dispatcher: Dispatcher, pool: ChannelPool, buses: Sequence[Bus], clock: Callable[[], float]
    ) -> None:
        self._dispatcher, self._pool, self._buses, self._clock = dispatcher, pool, buses, clock
        # by bus, the entries whose deletion was asked for: a bus that is slow, or full, still has them
        self._deleted: dict[str, set[bytes]] = {}
        # by bus that could not be read, when which messages were sent meanwhile: it has copies of these
        self._sent_unread: dict[str, dict[str, float]] = {}
        self._unread: list[str] = []

    async def run(self, inbox: Inbox) -> None:
        while True:
            await self.handle(await inbox.next_request())

    async def handle(self, received: ReceivedRequest) -> None:
        """Handle a request unless that was done before or it is too old, and have its entry acknowledged."""
        request, state = received.request, self._dispatcher.state
        if request is not None and not state.is_done(request.id):
            log.info("request.taken", do=request.do, what=request.what, by=request.by)
            dead = await self._read_dead_letters() if request.do is RequestKind.RESEND else {}
            # nothing below awaits, so one dispatch stores both the request's effects and that it is done
            state.mark_done(request.id)
            if request.is_expired(self._clock()):
                self._answer(request, "that was received too long ago")
            elif request.do is RequestKind.ACK:
                self._acknowledge(request)
            elif request.do is RequestKind.TEST:
                self._test(request)
            else:
                self._resend(request, dead)
        self._dispatcher.finish_request(received)

    def _acknowledge(self, request: OperatorRequest) -> None:
        services = self._dispatcher.router.acknowledge(request.what, request.by)
        names = ", ".join(services)
        if services:
            self._answer(request, f"{names}: {request.by} sees to it", ok=True)
        else:
            down = sorted({each.svc for each in self._dispatcher.router.open_incidents()})
            hint = f"; {suggest_name(request.what, down, 'down are')}" if down else ""
            self._answer(request, f"nothing is down that is called {request.what}{hint}")

    def _test(self, request: OperatorRequest) -> None:
        """Send a test message over the channel that a request names, or over all open channels."""
        names = list(self._pool.workers)
        chosen = names if request.what == ALL else [request.what]
        if not names:
            self._answer(request, "no channel is open")
        elif not set(chosen) <= set(names):
            self._answer(
                request,
                f"there is no channel {request.what}; {suggest_name(request.what, names, 'there are')}",
            )
        else:
            message = make_test_message(request.id, request.by, self._clock())
            self._expect(request, message, chosen)
            self._send(request, message, chosen)

    def _resend(self, request: OperatorRequest, dead: Mapping[str, DeadMessage]) -> None:
        """Send the dead letters that a request names again, and delete them from `notifier:dead`.

        Each goes over the open channels that refused it, otherwise over all open channels. The oldest
        RESENT_AT_ONCE are sent; the answer says how many are left for another request.
        """
        found = [each for each in dead.values() if request.what in (ALL, each.message.id)]
        chosen, left = found[:RESENT_AT_ONCE], max(0, len(found) - RESENT_AT_ONCE)
        open_ones = list(self._pool.workers)
        if not chosen and self._unread:
            return self._answer(request, f"the dead letters of {', '.join(self._unread)} could not be read")
        if not chosen and request.what == ALL:
            return self._answer(request, "nothing is dead", ok=True)
        if not chosen:
            return self._answer(request, f"nothing that is dead is called {request.what}")
        if not open_ones:
            return self._answer(request, "no channel is open")
        channels_of = [[name for name in each.channels if name in open_ones] or open_ones for each in chosen]
        # expect all outcomes first, because an answer while none is expected would be marked as the last one
        for each, channels in zip(chosen, channels_of, strict=True):
            self._expect(request, each.message, channels)
        if left:
            said = f"{len(chosen)} of {len(found)} are sent now, {left} are left"
            self._dispatcher.answers.add_answer(request.id, ok=False, text=said, left=left)
        for each, channels in zip(chosen, channels_of, strict=True):
            for bus, entries in each.entries.items():
                self._deleted[bus].update(entries)
                self._dispatcher.delete_dead_letters(bus, entries)
            for bus in self._unread:
                self._sent_unread.setdefault(bus, {})[each.message.id] = self._clock()
            self._send(request, each.message, channels)
        return None

    def _answer(self, request: OperatorRequest, text: str, *, ok: bool = False) -> None:
        self._dispatcher.answers.add_answer(request.id, ok=ok, text=text)

    def _expect(self, request: OperatorRequest, message: Message, channels: Sequence[str]) -> None:
        for name in channels:
            self._dispatcher.answers.expect(request.id, message.id, name)

    def _send(self, request: OperatorRequest, message: Message, channels: Sequence[str]) -> None:
        """Send a message over some channels; answer the request at once for those that pause for long."""
        self._dispatcher.send_message(message, channels)
        for name in channels:
            worker = self._pool.workers[name]
            # after `retry_for_sec` the message is given up, whatever pause the receiver asked for
            pause_sec = min(worker.pause_left_sec, self._pool.retry_for_sec)
            where = worker.channel.where
            if pause_sec <= SHORT_PAUSE_SEC:
                continue
            why, answers = worker.trouble or "paused", self._dispatcher.answers
            if request.do is RequestKind.TEST:
                answers.add_answer(
                    request.id, ok=True, text=why, channel=name, where=where, retry_sec=pause_sec
                )
            else:
                answers.answer_paused(request.id, message.id, name, where, describe_pause(why, pause_sec))

    async def _read_dead_letters(self) -> dict[str, DeadMessage]:
        found: dict[str, DeadMessage] = {}
        replies = await asyncio.gather(*map(_read_entries, self._buses))
        self._unread = []
        for bus, entries in zip(self._buses, replies, strict=True):
            if entries is None:
                self._unread.append(bus.name)
                continue
            deleted = self._deleted.setdefault(bus.name, set())
            deleted.intersection_update(ident for ident, _ in entries)
            sent = self._sent_unread.pop(bus.name, {})
            for ident, fields in entries:
                if ident in deleted:
                    continue
                message = parse_message((fields or {}).get(b"message", b""))
                if message is not None and _was_refused_before(fields, sent.get(message.id)):
                    deleted.add(ident)
                    self._dispatcher.delete_dead_letters(bus.name, [ident])
                elif message is not None:
                    each = found.setdefault(message.id, DeadMessage(message))
                    each.channels[fields.get(b"channel", b"").decode("utf-8", "replace")] = None
                    each.entries.setdefault(bus.name, []).append(ident)
        return found


def _was_refused_before(fields: Mapping[bytes, bytes], sent_at: float | None) -> bool:
    """Return whether a dead letter is from before its message was sent again at `sent_at` (epoch seconds)."""
    try:
        return sent_at is not None and float(fields.get(b"ts", b"")[:32]) <= sent_at
    except ValueError:
        return False  # twice is better than never


async def _read_entries(bus: Bus) -> list[tuple[bytes, Any]] | None:
    """Return the dead letters of a bus, the oldest first; None if it can't be read."""
    found: list[tuple[bytes, Any]] | None = None
    with contextlib.suppress(BusError):
        found = await bus.ask(bus.client.xrange(NOTIFIER_DEAD, count=2 * DEAD_LENGTH), READ_WITHIN_SEC)
    return found


def make_test_message(request: str, by: str, now: float) -> Message:
    text = f"{by} asked for this message, to see whether it arrives; nothing is wrong"
    return Message(f"test.{request}", "This is a test", text, Severity.INFO, now, kind=MessageKind.TEST)
