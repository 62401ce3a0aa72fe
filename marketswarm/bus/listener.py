"""Listen to one bus until cancelled, and prove with canaries that messages still arrive.

After an error the session is closed and another one opened. Canaries are published over another connection
and must be received on the session. The listener reports messages, lost sessions and canaries to a
`SessionHandler`, which draws conclusions.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, Final, Protocol

from marketswarm.bus.bus import Bus
from marketswarm.bus.errors import BusError
from marketswarm.bus.scripts import Script
from marketswarm.bus.session import CHANNELS_AT_ONCE, Gather, SubscriberConnection
from marketswarm.bus.stored_values import report_unusable
from marketswarm.detector import CANARY_EVERY_SEC, OVERDUE_SEC, Moment
from marketswarm.exit import find_error
from marketswarm.keys import canary_channel, canary_key
from marketswarm.net.retry import Backoff
from marketswarm.pages import split_pages
from marketswarm.time_slice import TimeSlice, wait_until_due, wait_within

OPEN_WITHIN_SEC: Final = 2.0
"""The time limit of connecting, and of each SUBSCRIBE with its acknowledgements.

In a running session, an answer is lost if a canary that was sent so much later is received before it.
"""
BACKOFF: Final = Backoff(first_sec=0.05, longest_sec=1.0)
"""Pauses between two sessions."""
DEAF_AFTER_SEC: Final = 1.5
"""A session on which a canary is missing for longer is closed: a half-open connection raises no error.

Time in which the listener handles received messages does not count, because the canary may be the next
message.
"""
RETRY_REFUSED_SEC: Final = 2.0
"""Pause between two attempts to subscribe to refused channels."""
MIN_CANARY_PAUSE_SEC: Final = 0.005
"""The shortest pause between two canaries, when `request_canary` is called often."""
BUSY_CANARY_PAUSE_SEC: Final = 0.025
"""The same while very many services fall silent at once.

Each look, read and write costs as much as thirty services do, so then each one serves a few hundred.
"""
MANY_PROVEN: Final = 25
"""So many services whose silence one canary proved are very many: some thousands a second."""
GATHER_SEC: Final = 0.01
"""The shortest time between two reads, while no canary is awaited. A beat counts as heard so much later."""
MAX_CANARY_DIGITS: Final = 20
"""Digits of a canary's number. Python refuses to parse very long ones, and anyone may publish there."""
MESSAGES_AT_ONCE: Final = 250
"""Messages that are handled without a pause. Each may cause a verdict, and the verdict a log line."""

SEPARATOR: Final = "\0"
"""Stands between names of channels; no truth has a name with it."""

COUNTER_REPLACED: Final = -1
"""What `canary.lua` returns if the canaries' counter was unusable and was replaced."""
CANARY_SCRIPT: Final = Script.beside("marketswarm.bus", "canary.lua")


class SessionHandler(Protocol):
    """Receives the events of a listener's sessions and canaries, in their order.

    `worked_sec` is for how many seconds the listener has handled messages since it was made.
    """

    def on_session_opened(self, bus: str) -> None:
        """Handle that a session has begun: the bus has acknowledged or refused every channel."""

    def on_channels_refused(self, bus: str, channels: Collection[str], now: Moment) -> None:
        """Handle that the bus forbids exactly these channels, which may be none."""

    def on_session_lost(self, bus: str, reason: str) -> None:
        """Handle that a session ended or could not be opened; `reason` is one of BusError, or `deaf`."""

    def on_messages(
        self, bus: str, messages: Iterable[Sequence[Any]], now: Moment
    ) -> Sequence[Sequence[Any]]:
        """Handle messages; return those on channels that belong to no monitored service."""

    def on_canary_sent(self, bus: str, number: int, now: Moment, worked_sec: float) -> None:
        """Handle that a canary is about to be published."""

    def on_canary_accepted(self, bus: str, now: Moment) -> None:
        """Handle that the bus accepted the latest canary."""

    def on_canary_refused(self, bus: str, number: int, reason: str) -> None:
        """Handle that the bus refused a canary, or did not accept it in time."""

    def on_canary_received(self, bus: str, number: int, now: Moment, worked_sec: float) -> None:
        """Handle that the canary `number` was received on the session."""

    def get_missing_canary_sec(self, bus: str, now: float, worked_sec: float) -> float:
        """Return for how many seconds the listener has waited for a canary of the session.

        `now` is monotonic. The time in which it handled messages is left out.
        """


def read_clocks() -> Moment:
    return Moment(time.monotonic(), time.time())


class WorkMeter:
    """Measures for how long a listener has handled messages, with the turns of other tasks between them."""

    def __init__(self) -> None:
        self._worked_sec = 0.0
        self._works_since: float | None = None  # monotonic

    @contextlib.contextmanager
    def track(self) -> Iterator[None]:
        self._works_since = time.monotonic()
        try:
            yield
        finally:
            self._worked_sec = self.measure_sec(time.monotonic())
            self._works_since = None

    def measure_sec(self, now: float) -> float:
        """Return the seconds so far at `now`, in monotonic seconds."""
        return self._worked_sec + (0.0 if self._works_since is None else now - self._works_since)


class ChannelNames:
    """Names of channels, kept as one text: a hundred thousand take 2 MB, and as a set of texts 12."""

    __slots__ = ("_count", "_text")

    def __init__(self, names: Collection[str] = ()) -> None:
        self._count, self._text = len(names), SEPARATOR.join(names)

    def __len__(self) -> int:
        return self._count

    def to_set(self) -> frozenset[str]:
        return frozenset(self._text.split(SEPARATOR)) if self._count else frozenset()


class Listener:
    """Keeps one subscriber session on one bus, and sends canaries to it.

    Args:
        bus: the bus to listen on; canaries are published over its command connections.
        listener: the program that listens, `healer` or `sentinel`; names the canaries.
    """

    def __init__(self, bus: Bus, handler: SessionHandler, *, listener: str, boot: str) -> None:
        self.bus = bus
        self._handler = handler
        self._canary_key = canary_key(listener)
        self._canary_channel = canary_channel(listener, boot)
        self._canary_bytes = self._canary_channel.encode()
        self._wanted = self._subscribed = ChannelNames()
        # channels were requested since the handler last received the refused ones
        self._report_due = False
        self._rebuild_requested = asyncio.Event()
        self._changed = asyncio.Event()
        self._canary_requested = asyncio.Event()
        self._canary_pause_sec = MIN_CANARY_PAUSE_SEC
        self._canary_number = 0
        self._accepted_canary = 0  # the number of the last one that the bus published
        self._received_canary = 0  # the number of the last one that came back
        self._canary_back = asyncio.Event()
        self._gather = Gather()
        self._work = WorkMeter()

    def set_channels(self, channels: frozenset[str]) -> None:
        """Set the channels to listen to. A running session subscribes and unsubscribes at once."""
        self._wanted = ChannelNames(channels | {self._canary_channel})
        self._changed.set()

    def add_channels(self, channels: frozenset[str]) -> None:
        """Listen to these channels as well."""
        self.set_channels(channels | self._wanted.to_set())

    def request_canary(self) -> None:
        """Send a canary now, or when the last one is back: only a received one proves a service's silence."""
        self._canary_requested.set()

    def note_proven(self, services: int) -> None:
        """Note of how many services the last canary proved the silence; after many, the next one waits."""
        self._canary_pause_sec = MIN_CANARY_PAUSE_SEC if services < MANY_PROVEN else BUSY_CANARY_PAUSE_SEC

    def rebuild_session(self) -> None:
        """Close the session and open another one: this one misses messages that other subscribers receive."""
        self._rebuild_requested.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._run_sessions(), name=f"sessions:{self.bus.name}")
            group.create_task(self._send_canaries(), name=f"canaries:{self.bus.name}")

    # -- sessions

    async def _run_sessions(self) -> None:
        """Open a session, read it until it is lost, report that, pause, and begin again, until cancelled."""
        failures = 0
        while True:
            session = SubscriberConnection(self.bus)
            try:
                await self._open_session(session)
                failures = 0
                async with asyncio.TaskGroup() as group:
                    group.create_task(
                        self._update_subscriptions(session), name=f"subscriptions:{self.bus.name}"
                    )
                    group.create_task(self._await_rebuild_request(), name=f"rebuild:{self.bus.name}")
                    # no task: on Python 3.11 one that fails would leave us as if we were being cancelled
                    await self._read_messages(session)
            except* BusError as errors:
                first = find_error(errors, BusError)
                self._handler.on_session_lost(self.bus.name, first.reason if first is not None else "error")
            finally:
                await session.close()
            if (task := asyncio.current_task()) is not None and task.cancelling():
                # a task group loses a cancellation that arrives while one of its tasks fails
                raise asyncio.CancelledError
            failures += 1
            await asyncio.sleep(BACKOFF.pause_sec(failures))

    async def _open_session(self, session: SubscriberConnection) -> None:
        """Connect and subscribe to all wanted channels, then report that the session is open.

        Each chunk of channels has its own time limit, so any number may be opened. Raise BusError if the bus
        fails, is too slow, or refuses too many channels.
        """
        self._changed.clear()
        self._rebuild_requested.clear()
        wanted = self._wanted
        ordered = [self._canary_channel, *sorted(wanted.to_set() - {self._canary_channel})]
        try:
            async with asyncio.timeout(OPEN_WITHIN_SEC):
                await session.connect()
            for chunk in split_pages(ordered, CHANNELS_AT_ONCE):
                async with asyncio.timeout(OPEN_WITHIN_SEC):
                    await session.subscribe(chunk)
                    while not session.is_settled:
                        self.handle_messages(await session.read_batch())
                self._require_accepted(session)
        except TimeoutError as error:
            raise BusError(self.bus.name, "timeout") from error
        self._subscribed = wanted
        self._handler.on_session_opened(self.bus.name)
        self._report_refused(session)

    def _require_accepted(self, session: SubscriberConnection) -> None:
        """Raise BusError (`auth`) if the bus refuses the canaries' channel, or each of two or more others."""
        refused = session.refused
        if self._canary_channel in refused or 1 < len(self._wanted) - 1 <= len(refused):
            raise BusError(self.bus.name, "auth")

    def _report_refused(self, session: SubscriberConnection) -> None:
        self._report_due = False
        self._handler.on_channels_refused(self.bus.name, frozenset(session.refused), read_clocks())

    async def _read_messages(self, session: SubscriberConnection) -> None:
        """Handle the messages of a session until it fails with BusError.

        Refused channels are reported when the bus has answered a retry or a new subscription. If an answer is
        lost, raise BusError (`deaf`): that channel may not be heard, though all others are.
        """
        overdue_since: float = math.inf  # the last canary that was sent before an answer was overdue
        while True:
            batch = iter(await session.read_batch())
            read_at = time.monotonic()
            # the bus answers in order, so no answer follows a canary that was sent so late, however long this
            # process or the bus stood still
            is_overdue = session.measure_unanswered_sec(time.monotonic()) > OPEN_WITHIN_SEC
            overdue_since = min(overdue_since, self._canary_number) if is_overdue else math.inf
            is_lost = self._received_canary > overdue_since
            with self._work.track():
                time_slice = TimeSlice()
                for first in batch:
                    self.handle_messages(chain((first,), islice(batch, MESSAGES_AT_ONCE - 1)))
                    await time_slice.pause()
            if is_lost:
                raise BusError(self.bus.name, "deaf")
            if self._report_due and session.is_settled:
                self._require_accepted(session)
                self._report_refused(session)
            # a burst must not keep the canaries from being sent, nor the pause one from being received
            is_canary_awaited = self._received_canary < self._accepted_canary
            gather_sec = 0.0 if is_canary_awaited else read_at + GATHER_SEC - time.monotonic()
            await session.let_gather(self._gather, gather_sec)

    async def _update_subscriptions(self, session: SubscriberConnection) -> None:
        """Subscribe and unsubscribe when the wanted channels change, and retry the refused ones every 2 s.

        Retry none before the bus has answered everything: their answers would be taken for one that is lost.
        """
        while True:
            if not await wait_until_due(self._changed, RETRY_REFUSED_SEC):
                if session.is_settled:
                    self._report_due = self._report_due or bool(session.refused)
                    await session.retry_refused()
                continue
            self._report_due = True
            await self._subscribe_to_changes(session)

    async def _subscribe_to_changes(self, session: SubscriberConnection) -> None:
        """Subscribe and unsubscribe to what the wanted channels differ by from those subscribed to."""
        names = self._wanted
        wanted, subscribed = names.to_set(), self._subscribed.to_set()
        if new := wanted - subscribed:
            await session.subscribe(sorted(new))
        if gone := subscribed - wanted:
            await session.unsubscribe(sorted(gone))
        self._subscribed = names

    async def _await_rebuild_request(self) -> None:
        """When `rebuild_session` is called, raise BusError (`deaf`), which ends the session.

        This also ends a session in which `_update_subscriptions` waits for a connection that is stuck.
        """
        await self._rebuild_requested.wait()
        raise BusError(self.bus.name, "deaf")

    def handle_messages(self, messages: Iterable[Any]) -> None:
        """Pass messages, `[b"message", channel, payload]` each, and received canaries to the handler."""
        now = read_clocks()
        for _, channel, payload in self._handler.on_messages(self.bus.name, messages, now):
            if channel == self._canary_bytes and payload.isdigit() and len(payload) < MAX_CANARY_DIGITS:
                if int(payload) <= self._canary_number:  # anyone may publish there
                    self._received_canary = int(payload)
                    self._canary_back.set()
                self._handler.on_canary_received(
                    self.bus.name, int(payload), now, self._work.measure_sec(now.mono)
                )

    # -- canaries

    async def _send_canaries(self) -> None:
        """Send a canary every CANARY_EVERY_SEC seconds and when requested; rebuild a deaf session."""
        while True:
            started = time.monotonic()
            await self._send_canary()
            now = time.monotonic()
            worked_sec = self._work.measure_sec(now)
            if self._handler.get_missing_canary_sec(self.bus.name, now, worked_sec) > DEAF_AFTER_SEC:
                self.rebuild_session()
            await wait_until_due(
                self._canary_requested,
                started + CANARY_EVERY_SEC - time.monotonic(),
                least_sec=self._canary_pause_sec,
            )
            self._canary_back.clear()
            if self._received_canary < self._accepted_canary:
                # requested ones would only add to the messages that this process has yet to handle
                await wait_within(self._canary_back, started + CANARY_EVERY_SEC - time.monotonic())

    async def _send_canary(self) -> None:
        """Publish the next canary by the script, and report to the handler whether the bus accepted it."""
        self._canary_number += 1
        now = read_clocks()
        worked_sec = self._work.measure_sec(now.mono)
        self._handler.on_canary_sent(self.bus.name, self._canary_number, now, worked_sec)
        try:
            receivers = await self.bus.script(
                CANARY_SCRIPT, [self._canary_key], [self._canary_channel, self._canary_number], OVERDUE_SEC
            )
        except BusError as error:
            self._handler.on_canary_refused(self.bus.name, self._canary_number, error.reason)
        else:
            if receivers == COUNTER_REPLACED:
                report_unusable(self.bus.name, self._canary_key)
            self._handler.on_canary_accepted(self.bus.name, read_clocks())
            self._accepted_canary = self._canary_number
            self._gather.end()
