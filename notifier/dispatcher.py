"""The desk: takes what came, decides, has it stored, and only then hands out what is to be sent.

One turn takes all that is at hand. What the turn leaves behind (the state, who was told, which entries of the
log are done) is stored in one step on each bus; if no bus takes it, people are told all the same. Not here:
what is decided (`router/`), where messages are (`outbox.py`), the sending (`deliver.py`).
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final

from marketswarm import log as logs
from marketswarm.channels import Message, MessageKind, Severity
from marketswarm.channels.message import encode_message
from marketswarm.operator import Answer, Silence
from marketswarm.truth import Truth
from notifier.channel_worker import Outcome
from notifier.inbox import Asked, Heard, Intake
from notifier.metrics import Tally
from notifier.outbox import Outbox
from notifier.router import HELD, Policy, Router
from notifier.state import Memo, unreadable
from notifier.store import Dead, Turn, may_be_told_by_others, record


class Answering:
    """The answers that are due, by ask; `lines` hands them out."""

    def __init__(self) -> None:
        self._open: dict[str, set[tuple[str, str]]] = {}  # by ask, message and channel
        self._lines: dict[str, list[bytes]] = {}

    def expect(self, ask: str, ident: str, channel: str) -> None:
        """An ask waits for what becomes of a message over a channel."""
        self._open.setdefault(ask, set()).add((ident, channel))

    def say(self, ask: str, *, ok: bool, said: str, channel: str = "", where: str = "") -> None:
        """Answers; it is the last line if nothing else is open."""
        done = ask not in self._open
        answer = Answer(ok=ok, said=said[:1000], channel=channel[:200], where=where[:300], done=done)
        self._lines.setdefault(ask, []).append(answer.encode())

    def came(self, outcome: Outcome) -> None:
        """What became of an attempt; who waited for that hears it."""
        waited = outcome.message.id, outcome.channel
        for ask in [ask for ask, open_ones in self._open.items() if waited in open_ones]:
            self._settle(ask, *waited)
            said = _said(outcome)
            self.say(ask, ok=outcome.error is None, said=said, channel=outcome.channel, where=outcome.where)

    def put_off(self, ask: str, ident: str, channel: str, where: str, why: str) -> None:
        """A channel pauses: who asked need not wait for its end."""
        self._settle(ask, ident, channel)
        self.say(ask, ok=False, said=why, channel=channel, where=where)

    def lines(self) -> dict[str, list[bytes]]:
        """What is to be answered since this was last asked."""
        lines, self._lines = self._lines, {}
        return lines

    def _settle(self, ask: str, ident: str, channel: str) -> None:
        self._open[ask].discard((ident, channel))
        if not self._open[ask]:
            del self._open[ask]


def _said(outcome: Outcome) -> str:
    if outcome.receipt is not None:
        return outcome.receipt.answer or "accepted"
    reason = outcome.error.reason if outcome.error is not None else ""
    return reason if outcome.over else f"{reason}; it will be tried again"


AT_ONCE: Final = 1000
"""Events in one turn: between two, beats go out and outcomes are heard."""

log = logs.get("desk")


class Desk:
    """One notifier's desk, while it leads.

    Args:
        name: what it is called in records.
        clock: gives epoch seconds that never go back.
        intake: what the readers bring.
        commit: stores a turn; whether a bus took it.
        reached: of some events, those that people were told of by others.
        hand_over: gives a message to a channel.
        tally: what is counted.
    """

    def __init__(
        self,
        *,
        name: str,
        clock: Callable[[], float],
        intake: Intake,
        commit: Callable[[Turn], Awaitable[bool]],
        reached: Callable[[Sequence[str]], Awaitable[Collection[str]]],
        hand_over: Callable[[str, Message], None],
        tally: Tally,
    ) -> None:
        self.router, self.outbox, self.memo, self.answering = Router(), Outbox(), Memo(), Answering()
        self.tally = tally
        self._name, self._clock, self._intake = name, clock, intake
        self._commit, self._reached, self._hand_over = commit, reached, hand_over
        self._channels: tuple[str, ...] = ()
        self._outcomes: list[Outcome] = []
        self._said: list[tuple[Message, tuple[str, ...]]] = []
        self._turn = Turn()
        self._owed: dict[
            str, list[tuple[str, bytes]]
        ] = {}  # by event, its entries that are to be acknowledged
        self._handed: list[tuple[str, Message]] = []

    # -- what it goes by

    def restore(self, fields: Mapping[str, bytes]) -> list[str]:
        """Takes up what an earlier run stored, once, before all else; the fields that nobody can read."""
        self._intake.last.update(self.memo.restore(fields))
        return [*self.router.restore(fields), *self.outbox.restore(fields), *unreadable(fields)]

    def follow(self, policy: Policy, truth: Truth) -> None:
        """Goes by these from now on."""
        self.router.follow(policy, truth)
        self._intake.poke()

    def silence(self, silences: Sequence[Silence]) -> None:
        """Goes by these silences from now on."""
        self.router.silence(silences)
        self._intake.poke()

    def open(self, channels: Sequence[str]) -> None:
        """These channels are open, in order; what waits for another one goes elsewhere."""
        self._channels = tuple(channels)
        self.router.channels(channels)
        for name in sorted(self.outbox.bound_for() - set(channels)):
            for message in self.outbox.waiting(name):
                self._refused(message, name, "no such channel", self._clock())
        for name in self.memo.channels() - set(channels):
            self.memo.mends(name)
            self.memo.resumes(name)
        self._intake.poke()

    # -- what happens

    def came(self, outcome: Outcome) -> None:
        """What became of an attempt to send."""
        self._outcomes.append(outcome)
        self._intake.poke()

    def say(self, message: Message, channels: Sequence[str]) -> None:
        """Has a message sent that is not of the router's making, to those of the channels it is new to."""
        self._said.append((message, tuple(channels)))
        self._intake.poke()

    def bury(self, bus: str, entries: Sequence[bytes]) -> None:
        """These entries of `notifier:dead` on a bus are dead no longer."""
        self._turn.undead.setdefault(bus, []).extend(entries)

    def done(self, asked: Asked) -> None:
        """An ask is done with."""
        self._turn.ask_acks.setdefault(asked.bus, []).append(asked.entry)
        self._intake.poke()

    # -- one turn

    async def turn(self) -> None:
        """Takes, decides, stores, hands over."""
        heard = self._intake.take(AT_ONCE)
        asked_for = [each.event.id for each in heard if each.again or may_be_told_by_others(each.event)]
        reached = await self._reached(asked_for) if asked_for else ()
        now = self._clock()
        self._take(heard, reached, now)
        outcomes, self._outcomes = self._outcomes, []
        for outcome in outcomes:
            self._settle(outcome, now)
        said, self._said = self._said, []
        for message, channels in said:
            self._put(message, channels)
        for due in self.router.turn(now, self.outbox.on_its_way):
            self._put(due.message, due.channels)
        turn = self._closed()
        if turn:
            await self._commit(turn)
        self._intake.stored()
        handed, self._handed = self._handed, []
        for channel, message in handed:
            self._hand_over(channel, message)

    def wait_sec(self) -> float | None:
        """How long until a turn is due by itself, in seconds; None while none will be."""
        if self._intake or self._outcomes or self._said:
            return 0.0
        due = self.router.next_due()
        return None if due is None else max(0.0, due - self._clock())

    # -- inside

    def _take(self, heard: Sequence[Heard], reached: Collection[str], now: float) -> None:
        decided: Counter[str] = Counter()
        for each in heard:
            event = each.event
            by_others = event.id in reached
            reason = self.router.take(event, each.raw, now, told_by_others=by_others)
            decided[reason] += 1
            if each.entry is not None:
                self._owed.setdefault(event.id, []).append((each.bus, each.entry))
            if reason in HELD and may_be_told_by_others(event):
                self._turn.told[event.id] = record(now, (), self._name, reason)
        self.tally.events.update(decided)
        if heard:
            log.info("events.taken", **dict(decided.most_common()))
        for bus, entries in self._intake.spoiled().items():
            self._turn.log_acks.setdefault(bus, []).extend(entries)

    def _put(self, message: Message, channels: Sequence[str]) -> None:
        for channel in self.outbox.put(message, channels):
            self._handed.append((channel, message))

    def _settle(self, outcome: Outcome, now: float) -> None:
        name, message = outcome.channel, outcome.message
        self.tally.attempt(outcome)
        self.answering.came(outcome)
        if outcome.error is None or outcome.broken:
            self.memo.resumes(name)
        elif outcome.pause_sec > 0:
            self.memo.pauses(name, outcome.failures, outcome.at + outcome.pause_sec)
        if outcome.error is None:
            if self.memo.mends(name):
                log.info("channel.mended", channel=name)
            anchor = outcome.receipt.anchor if outcome.receipt is not None else None
            parcel = self.outbox.accepted(message.id, name, anchor)
            for event in parcel.events if parcel is not None else ():
                self._turn.told[event] = record(outcome.at, parcel.accepted if parcel else (), self._name)
            if message.events:
                self.tally.accepted(outcome.at - message.timestamp)
        elif outcome.over:
            if outcome.broken:
                self._breaks(outcome, now)
            self._refused(message, name, outcome.error.reason, now)
        else:
            self.outbox.failed(message.id, name, outcome.at)

    def _breaks(self, outcome: Outcome, now: float) -> None:
        reason = outcome.error.reason if outcome.error is not None else ""
        if self.memo.breaks(outcome.channel, reason):
            log.error("channel.broken", channel=outcome.channel, where=outcome.where, reason=reason)
            note = broken_channel_message(outcome.channel, outcome.where, reason, now)
            self._put(note, self._others(outcome.channel)[:1])

    def _refused(self, message: Message, channel: str, reason: str, now: float) -> None:
        if message.kind is MessageKind.TEST:
            self.outbox.refused(message.id, channel, reason)
            return
        self._turn.dead.append(Dead(encode_message(message), channel, reason, now))
        another = self.outbox.refused(message.id, channel, reason, self._others(channel))
        if another is not None:
            log.warning("message.rerouted", id=message.id, channel=another, instead_of=channel)
            self._handed.append((another, message))
            self.router.rerouted(message, another)
            for later in self.outbox.after(message):
                self._put(later, [another])

    def _others(self, channel: str) -> list[str]:
        """The other channels: those that are well first, then those that pause after failures."""
        others = [name for name in self._channels if name != channel]
        ill = self.memo.channels()
        return sorted(others, key=lambda name: (name in self.memo.broken, name in ill))

    def _closed(self) -> Turn:
        """The turn, with all that changed in it."""
        turn, self._turn = self._turn, Turn()
        for ident in [each for each in self._owed if self._is_done(each)]:
            for bus, entry in self._owed.pop(ident):
                turn.log_acks.setdefault(bus, []).append(entry)
        self.memo.read(self._intake.last)
        turn.answers = self.answering.lines()
        turn.fields = {**self.router.changes(), **self.outbox.changes(), **self.memo.changes()}
        return turn

    def _is_done(self, event_id: str) -> bool:
        return not self.router.holds(event_id) and not self.outbox.covers(event_id)


def broken_channel_message(channel: str, where: str, reason: str, now: float) -> Message:
    """A channel accepts nothing until it is repaired; `now` is in epoch seconds."""
    at = f" ({where})" if where and where != channel else ""
    return Message(
        f"channel.{channel}.{round(now * 1000)}",
        f"channel {channel} is broken: {reason}",
        f"{channel}{at} refused a message for good; see `marketswarm dead`",
        Severity.WARNING,
        now,
    )
