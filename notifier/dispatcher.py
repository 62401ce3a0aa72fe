"""Decide about received events, store the decision, and only then hand messages to the channels.

One `dispatch` takes the events, outcomes and messages that wait. What it changes (the state, delivery
records, acknowledgements) is stored in one step on each bus; if no bus stores it, messages are sent all
the same. Not here: what is decided (`router/`), which messages are pending (`outbox.py`), and the
sending (`marketswarm/channels/worker.py`).
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from marketswarm import log as logs
from marketswarm.channels import Message, MessageKind, Severity
from marketswarm.channels.message import encode_message
from marketswarm.channels.worker import Outcome
from marketswarm.event import Event
from marketswarm.operator.requests import MAX_RETRY_SEC, Answer
from marketswarm.operator.silences import Silence
from marketswarm.time_slice import TimeSlice
from marketswarm.truth import Truth
from notifier.channel_pool import ChannelPool
from notifier.inbox import Inbox, ReceivedEvent, ReceivedRequest
from notifier.metrics import NotifierMetrics
from notifier.outbox import DELIVERIES, MESSAGE
from notifier.router import HELD, Decision, Defect, DefectKind, LogPosition, MedicState, Policy, Router
from notifier.store import RefusedMessage, Store, Transaction, make_delivery_record

SHORT_PAUSE_SEC: Final = 1.5
"""An operator waits for a pause that is no longer than this, in seconds: that of one failure is."""
_SENTINEL_FAMILIES: Final = ("healer", "bus")
"""The families of events about which the sentinel sends messages when the notifier does not."""
DEFECT_SHOWN_SEC: Final = 3600.0
"""How long beats are degraded after the last defect inside the notifier, in seconds."""
EVENTS_AT_ONCE: Final = 1000
"""The most events in one dispatch; between two dispatches beats are sent and outcomes recorded."""


class AnswerTracker:
    """The outcomes that operators' requests wait for, and the answer lines to be stored. Pure.

    Each channel that a request sends over is answered for once, with its first attempt. A failed attempt
    may be repeated, but the operator does not wait for that, nor for the request's other messages over a
    channel that pauses for longer than SHORT_PAUSE_SEC since.
    """

    def __init__(self) -> None:
        self._open: dict[str, set[tuple[str, str]]] = {}  # by request: message ids and channels
        self._lines: dict[str, list[bytes]] = {}

    def expect(self, request_id: str, ident: str, channel: str) -> None:
        """Wait for the outcome of the message with id `ident` over a channel."""
        self._open.setdefault(request_id, set()).add((ident, channel))

    def add_answer(
        self,
        request_id: str,
        *,
        ok: bool,
        text: str,
        channel: str = "",
        where: str = "",
        retry_sec: float = 0.0,
        left: int = 0,
    ) -> None:
        """Add a line to the answers to a request; it is the last one if the request waits for no outcome.

        A channel that pauses makes its next attempt after `retry_sec`, and the request waits for its outcome.
        `left` dead letters are not sent by the request.
        """
        done = request_id not in self._open
        answer = Answer(
            ok=ok,
            said=text[:1000],
            channel=channel[:200],
            where=where[:300],
            done=done,
            retry_sec=round(min(retry_sec, MAX_RETRY_SEC), 1),
            left=left,
        )
        self._lines.setdefault(request_id, []).append(answer.encode())

    def record_outcome(self, outcome: Outcome) -> None:
        """Answer the requests that wait for the outcome of this message over this channel."""
        attempt = outcome.message.id, outcome.channel
        for request_id in [
            request_id for request_id, open_ones in self._open.items() if attempt in open_ones
        ]:
            self._settle(request_id, *attempt)
            text = _describe_outcome(outcome)
            self.add_answer(
                request_id, ok=outcome.error is None, text=text, channel=outcome.channel, where=outcome.where
            )
            if outcome.error is not None and outcome.pause_sec > SHORT_PAUSE_SEC:
                text = describe_pause(f"{outcome.channel}: {outcome.error.reason}", outcome.pause_sec)
                for ident, channel in sorted(self._open.get(request_id, ())):
                    if channel == outcome.channel:
                        self.answer_paused(request_id, ident, channel, outcome.where, text)

    def answer_paused(self, request_id: str, ident: str, channel: str, where: str, text: str) -> None:
        """Answer for a channel that pauses, by what `describe_pause` returns, without its outcome."""
        self._settle(request_id, ident, channel)
        self.add_answer(request_id, ok=False, text=text, channel=channel, where=where)

    def take_answers(self) -> dict[str, list[bytes]]:
        """Return, by request id, the encoded answer lines that were added since the last call."""
        lines, self._lines = self._lines, {}
        return lines

    def _settle(self, request_id: str, ident: str, channel: str) -> None:
        self._open[request_id].discard((ident, channel))
        if not self._open[request_id]:
            del self._open[request_id]


def describe_pause(trouble: str, pause_sec: float) -> str:
    return f"{trouble}; it waits for {pause_sec:.0f} s more"


def _describe_outcome(outcome: Outcome) -> str:
    if outcome.receipt is not None:
        return outcome.receipt.answer or "accepted"
    reason = outcome.error.reason if outcome.error is not None else ""
    return reason if outcome.final else f"{reason}; it will be tried again"


log = logs.get("dispatcher")


class Dispatcher:
    """The dispatcher of one notifier, while it leads."""

    def __init__(
        self,
        *,
        name: str,
        clock: Callable[[], float],
        inbox: Inbox,
        store: Store,
        pool: ChannelPool,
        metrics: NotifierMetrics,
    ) -> None:
        self.router, self.answers = Router(), AnswerTracker()
        self.outbox, self.state = pool.outbox, pool.state
        self.metrics = metrics
        self._name, self._clock, self._inbox = name, clock, inbox
        self._store, self._pool = store, pool
        self._channels: tuple[str, ...] = ()
        self._queued_messages: list[tuple[Message, tuple[str, ...]]] = []
        self._transaction = Transaction()
        # by event id: the buses and ids of log entries to acknowledge
        self._unacknowledged: dict[str, list[tuple[str, bytes]]] = {}
        self._hand_overs: list[tuple[str, Message]] = []
        # the last defect in words, and how long it is shown
        self._trouble, self._trouble_until = "", float("-inf")

    # -- settings

    def restore(self, fields: Mapping[str, bytes]) -> list[str]:
        """Restore the state that an earlier run stored; return the names of fields that can't be parsed.

        An outage whose first message can't be parsed counts as not told: the next check finds that and queues
        its notice. Call this before any other method.
        """
        incidents, messages = self.router.restore(fields, self._clock()), self.outbox.restore(fields)
        for name in messages:
            self.router.forget_message(name.removeprefix(DELIVERIES).removeprefix(MESSAGE))
        unusable = [*incidents, *messages, *self.state.restore(fields)]
        self._inbox.last_read.update(self.state.read_positions)
        return unusable

    def shift_times(self, by_sec: float) -> None:
        """Go on with a clock that was set by `by_sec`: no wait gets longer or shorter by it."""
        for each in (self.router, self.outbox, self.state):
            each.shift_times(by_sec)
        self._trouble_until += by_sec
        self._inbox.wake()

    def apply_policy(self, policy: Policy, truth: Truth) -> None:
        self.router.apply_policy(policy, truth)
        self._inbox.wake()

    def set_silences(self, silences: Sequence[Silence]) -> None:
        self.router.set_silences(silences)
        self._inbox.wake()

    def set_medic(self, medic: MedicState) -> None:
        if self.router.set_medic(medic, self._clock()):
            self._inbox.wake()

    def set_channels(self, channels: Sequence[str], closed: Sequence[str] = ()) -> None:
        """Set the open channels, in order, and those that are configured and can't be opened.

        Reroute messages that are pending for a channel that is not open.
        """
        self._channels = tuple(channels)
        self.router.set_channels(channels, closed)
        for name in sorted(self.outbox.channels_with_pending() - set(channels)):
            for message in self.outbox.pending_messages(name):
                self._record_refusal(message, name, "no such channel", self._clock())
        for name in self.state.channels() - set(channels):
            self.state.mark_mended(name)
            self.state.clear_pause(name)
        self._inbox.wake()

    # -- input

    def send_message(self, message: Message, channels: Sequence[str]) -> None:
        """Queue a message from outside the router for the channels that don't have it."""
        self._queued_messages.append((message, tuple(channels)))
        self._inbox.wake()

    def delete_dead_letters(self, bus: str, entries: Sequence[bytes]) -> None:
        """Delete entries of a bus's `notifier:dead`, given by id, with the next dispatch."""
        self._transaction.deleted_dead.setdefault(bus, []).extend(entries)

    def finish_request(self, received: ReceivedRequest) -> None:
        self._transaction.request_acks.setdefault(received.bus, []).append(received.entry)
        self._inbox.wake()

    # -- dispatch

    async def dispatch(self) -> None:
        """Decide about waiting events and outcomes, store the decisions, hand over messages."""
        time_slice = TimeSlice()
        events = self._inbox.take_events(EVENTS_AT_ONCE)
        ids = [each.event.id for each in events if each.redelivered or sentinel_may_report(each.event)]
        delivered = await self._store.find_delivered(ids) if ids else ()
        now = self._clock()
        await self._route_events(events, delivered, now, time_slice)
        for outcome in self._inbox.take_outcomes():
            self._apply_outcome(outcome, now)
        await time_slice.pause()
        for due in self.router.take_due(now, self.outbox.find_pending_message):
            self._enqueue(due.message, due.channels)
            if not self.outbox.holds(due.message.id):  # its incidents say that it is sent
                self.router.forget_message(due.message.id)
        for defect in self.router.take_defects():
            self._report_defect(defect)
        await self._acknowledge_done(time_slice)
        await time_slice.pause()
        # no pause from here on, because what a request did meanwhile is stored with the messages that it
        # sends
        queued, self._queued_messages = self._queued_messages, []
        for message, channels in queued:
            self._enqueue(message, channels)
        transaction = self._close_transaction()
        if transaction:
            await self._store.commit(transaction)
        self._inbox.mark_stored()
        handed, self._hand_overs = self._hand_overs, []
        for channel, message in handed:
            self._pool.enqueue(channel, message)

    def next_dispatch_in_sec(self) -> float | None:
        """Return the seconds until a dispatch is due without further input; None if none is."""
        if self._inbox or self._queued_messages:
            return 0.0
        due = self.router.next_due()
        return None if due is None else max(0.0, due - self._clock())

    def find_trouble(self) -> str | None:
        """Return the last defect inside the notifier in words, for DEFECT_SHOWN_SEC; None without one."""
        return self._trouble if self._clock() < self._trouble_until else None

    # -- helpers

    async def _route_events(
        self, events: Sequence[ReceivedEvent], delivered: Collection[str], now: float, time_slice: TimeSlice
    ) -> None:
        """Pass events to the router; have their entries and malformed ones acknowledged later.

        `delivered` are the ids of those events about which a message was sent already. An event that is held
        back gets a delivery record if the sentinel might otherwise send a message about it.
        """
        decided = Counter[str]()
        for each in events:
            await time_slice.pause()
            event = each.event
            by_others = event.id in delivered
            position = None if each.entry is None else LogPosition(each.bus, each.entry)
            try:
                reason = self.router.handle_event(
                    event, each.raw, now, position=position, reported_by_sentinel=by_others
                )
            except Exception as error:  # noqa: BLE001 - one bad event must not take its neighbours with it
                decided[Decision.SET_ASIDE] += 1
                defect = Defect.of(DefectKind.EVENT, event.svc, error)
                self._set_aside(each, defect, is_sent=by_others, now=now)
                continue
            decided[reason] += 1
            if each.entry is not None:
                self._unacknowledged.setdefault(event.id, []).append((each.bus, each.entry))
            if reason in HELD and sentinel_may_report(event):
                self._transaction.records[event.id] = make_delivery_record(now, (), self._name, reason)
        self.metrics.events.update(decided)
        if events:
            log.info("events.taken", **dict(decided.most_common()))
        for bus, entries in self._inbox.take_malformed().items():
            self._transaction.log_acks.setdefault(bus, []).extend(entries)

    def _set_aside(self, received: ReceivedEvent, defect: Defect, *, is_sent: bool, now: float) -> None:
        """Send a plain message about an event that can't be handled, over every channel.

        Its entry is acknowledged once that is delivered. Without a channel the entry stays in the log, and
        the next run reads it again.
        """
        event = received.event
        self._report_defect(defect)
        if self._channels and not is_sent:
            message = make_unhandled_event_message(event, received.raw, defect.error, now)
            message = self.router.record_plain_message(message, event, received.raw, now)
            self._enqueue(message, self._channels)
        if received.entry is not None and (self._channels or is_sent):
            self._unacknowledged.setdefault(event.id, []).append((received.bus, received.entry))

    def _report_defect(self, defect: Defect) -> None:
        self.metrics.defects[defect.kind] += 1
        self._trouble = f"a defect ({defect.kind}, {defect.about}) was mended: see router.defect in the log"
        self._trouble_until = self._clock() + DEFECT_SHOWN_SEC
        log.error(
            "router.defect", defect=defect.kind, about=defect.about, error=defect.error, trace=defect.trace
        )

    def _enqueue(self, message: Message, channels: Sequence[str]) -> None:
        for channel in self.outbox.add(message, channels):
            self._hand_overs.append((channel, message))

    def _apply_outcome(self, outcome: Outcome, now: float) -> None:
        """Apply the outcome of an attempt to the metrics, answers, channel state, outbox and transaction.

        Its own time is by the wall clock, for people. Waits begin at `now`, which `shift_times` moves.
        """
        name, message = outcome.channel, outcome.message
        self.metrics.attempt(outcome)
        self.answers.record_outcome(outcome)
        refusal = None if outcome.error is None else outcome.error.reason
        self.state.record_attempt(name, message.title, outcome.at, refusal, is_final=outcome.final)
        if outcome.error is None or outcome.broken:
            self.state.clear_pause(name)
        elif outcome.pause_sec > 0:
            self.state.set_pause(name, outcome.failures, now + outcome.pause_sec)
        if outcome.error is None:
            if self.state.mark_mended(name):
                log.info("channel.recovered", channel=name)
            anchor = outcome.receipt.anchor if outcome.receipt is not None else None
            entry = self.outbox.record_accepted(message.id, name, anchor)
            if entry is not None:
                record = make_delivery_record(outcome.at, entry.accepted, self._name)
                self._transaction.records |= dict.fromkeys(entry.events, record)
            if message.events:
                self.metrics.delay.observe(max(0.0, outcome.at - message.timestamp))
        elif outcome.final:
            if outcome.broken:
                self._report_broken(outcome, outcome.error.reason, now)
            self._record_refusal(message, name, outcome.error.reason, now)
        else:
            self.outbox.record_failure(message.id, name, now)

    def _report_broken(self, outcome: Outcome, reason: str, now: float) -> None:
        """Record that a channel is broken; if that is new, send a message about it over another channel."""
        if self.state.mark_broken(outcome.channel, reason):
            log.error("channel.broken", channel=outcome.channel, where=outcome.where, reason=reason)
            note = make_broken_channel_message(outcome.channel, outcome.where, reason, now)
            self._enqueue(note, self._others(outcome.channel)[:1])

    def _record_refusal(self, message: Message, channel: str, reason: str, now: float) -> None:
        """Store a refused message as a dead letter, and reroute the message if no channel is left for it.

        A test message is only removed from the outbox.
        """
        if message.kind is MessageKind.TEST:
            self.outbox.record_rejection(message.id, channel, reason)
            return
        self._transaction.dead.append(RefusedMessage(encode_message(message), channel, reason, now))
        another = self.outbox.record_rejection(message.id, channel, reason, self._others(channel))
        if another is not None:
            log.warning("message.rerouted", id=message.id, channel=another, instead_of=channel)
            self._hand_overs.append((another, message))
            self.router.record_reroute(message, another)
            for later in self.outbox.after(message):
                self._enqueue(later, [another])

    def _others(self, channel: str) -> list[str]:
        """Return the other channels: healthy ones first, then paused ones, then broken ones."""
        others = [name for name in self._channels if name != channel]
        ill = self.state.channels()
        return sorted(others, key=lambda name: (name in self.state.broken, name in ill))

    async def _acknowledge_done(self, time_slice: TimeSlice) -> None:
        """Have the entries of those events acknowledged that nothing pending is about."""
        for ident in list(self._unacknowledged):
            await time_slice.pause()
            if not self.router.is_pending(ident) and not self.outbox.covers(ident):
                for bus, entry in self._unacknowledged.pop(ident):
                    self._transaction.log_acks.setdefault(bus, []).append(entry)

    def _close_transaction(self) -> Transaction:
        transaction, self._transaction = self._transaction, Transaction()
        self.state.set_read_positions(self._inbox.last_read)
        transaction.answers = self.answers.take_answers()
        transaction.fields = {**self.router.changes(), **self.outbox.changes(), **self.state.changes()}
        return transaction


def sentinel_may_report(event: Event) -> bool:
    """Return True if the event, by its type, is one that the sentinel sends when the notifier does not."""
    return event.type.partition("_")[0] in _SENTINEL_FAMILIES


def make_unhandled_event_message(event: Event, raw: bytes, error: str, now: float) -> Message:
    """Return the message that an event could not be handled; `error` is the type of the exception."""
    return Message(
        f"unhandled.{event.id}",
        f"{event.svc}: {event.type}",
        f"the notifier could not handle this event ({error}): see its log, and `marketswarm status`",
        Severity.WARNING,
        now,
        events=(raw,),
        about=(event.svc,),
    )


def make_broken_channel_message(channel: str, where: str, reason: str, now: float) -> Message:
    """Return the message that a channel refused a message for good; `now` in epoch seconds."""
    at = f" ({where})" if where and where != channel else ""
    return Message(
        f"channel.{channel}.{round(now * 1000)}",
        f"channel {channel} is broken: {reason}",
        f"{channel}{at} refused a message for good; see `marketswarm dead`",
        Severity.WARNING,
        now,
    )
