"""The healer's judgement: what was heard, what time brings, what the second witness says.

DETECTION.md as code. Pure: no I/O, no clock of its own, no await. Whoever owns the sockets feeds it what
happened together with both clocks' readings (`Moment`), and gets frozen values back.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from marketswarm import beat as beats
from marketswarm.beat import Beat, Malformed
from marketswarm.liveness.clock import CANARY_EVERY_SEC, OVERDUE_SEC, Moment
from marketswarm.liveness.looking_back import LookingBack
from marketswarm.liveness.noting import Notes
from marketswarm.liveness.reach import Reach
from marketswarm.liveness.record import Heard, Record
from marketswarm.liveness.roster import Roster
from marketswarm.liveness.verdict import Acquitted, On, State, Suspect, Testimony, Verdict
from marketswarm.liveness.watched_bus import AT_ONCE, WatchedBus
from marketswarm.truth import Watch


@dataclass(slots=True)
class Counts:
    """What was heard and passed over since the process began."""

    heard: int = 0
    malformed: int = 0
    replayed: int = 0
    unheard: int = 0
    unreadable: int = 0
    stalls: int = 0


Messages = Iterable[Sequence[Any]]


class Hearing(NamedTuple):
    """What a batch of messages brought, and those of them on channels where nobody is watched."""

    verdicts: list[Verdict]
    others: list[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Tick:
    """What one look at the clocks brought.

    Verdicts on buses, suspects for the second witness, buses whose canary is wanted at once, and the
    seconds until the next look is due.
    """

    verdicts: tuple[Verdict, ...]
    suspects: tuple[Suspect, ...]
    urge: tuple[str, ...]
    wake_in: float


class Liveness(Roster):
    """Begins `held`: it listens, and concludes nothing of services, until `memory.recall` is over.

    Args:
        now: when the listening begins.
        on_malformed: told of each payload that is no sign of life: the service, what is wrong.
    """

    def __init__(self, now: Moment, *, on_malformed: Callable[[str, Malformed], None] | None = None) -> None:
        super().__init__()
        self.counts = Counts()
        self.silence_ended = False
        """A silence that is remembered beyond this process ended; the owner sets it back once it saves."""
        self.notes = Notes(self.records, self._vet)
        self.past = LookingBack(self.notes)
        self._reach = Reach()
        self._awake = now.mono
        self._on_malformed = on_malformed

    # -- what the listener reports

    def woke(self, now: Moment) -> None:
        """To be said before anything that may have piled up is read: did this very process stall?"""
        if now.mono - self._awake > CANARY_EVERY_SEC + OVERDUE_SEC:
            self.counts.stalls += 1
            for bus in self.buses.values():
                bus.clock.stalled(now.mono - self._awake)
            self._reach.stalled(now.mono - self._awake)
        self._awake = now.mono

    def canary(self, bus_name: str, number: int, now: Moment) -> list[Verdict]:
        """A canary came back; returns what that ends: the loss of this bus, or of the reach to any."""
        bus = self.buses.get(bus_name)
        if bus is None:
            return []
        bus.clock.heard(number, now)
        gap = self._reach.look(self.buses.values(), now) if bus.clock.listening else None
        found = bus.regained(now) if bus.clock.listening else None
        return [verdict for verdict in (gap, found) if verdict is not None]

    def hear(self, bus_name: str, messages: Messages, now: Moment) -> Hearing:
        """Takes in what came at once: `[b"message", channel, payload]` each, as the server sends them."""
        self.woke(now)
        hearing = Hearing([], [])
        bus = self.buses.get(bus_name)
        if bus is None:
            return hearing
        if bus.turn != bus.clock.turns:
            bus.estrange()
        heard = Heard(bus.clock.running(now.mono), now.mono, now.wall)
        find = bus.channels.get
        familiar = 0
        for message in messages:
            _, channel, payload = message
            record = find(channel)
            if record is None:
                hearing.others.append(message)
            elif (
                payload.startswith(record.head)
                and payload.endswith(record.tail)
                and len(payload) == record.size
                and payload > record.payload
            ):
                # one more of what is known by heart, see `record`
                record.payload = payload
                record.last = heard
                familiar += 1
            else:
                verdict = self._parse(record, payload, heard)
                if verdict is not None:
                    hearing.verdicts.append(verdict)
        self.counts.heard += familiar
        return hearing

    def _parse(self, record: Record, payload: bytes, heard: Heard) -> Verdict | None:
        """Parse a payload, count it and update the record; return the verdict that follows, if any."""
        self._vet(record)
        found = beats.parse(payload, record.watch.svc)
        if isinstance(found, Malformed):
            self._malformed(record, found)
            return None
        if not record.held:
            self.past.meets(record)
        if record.is_replay(found.boot, found.i):
            self.counts.replayed += 1
            return None
        self.counts.heard += 1
        if found.status == "stopping":
            self.past.said_goodbye(record, found)
            record.stopped = True
            record.estrange()
            return None
        return self._live(record, found, payload, heard)

    def _malformed(self, record: Record, found: Malformed) -> None:
        self.counts.malformed += 1
        if self._on_malformed is not None:
            self._on_malformed(record.watch.svc, found)

    def rewatch(self, watches: Iterable[Watch], buses: Mapping[str, float], now: Moment) -> list[Verdict]:
        """See `Roster`. A stall that ends here is none of the time that anybody was listened to."""
        self.woke(now)
        return super().rewatch(watches, buses, now)

    def _drop(self, svc: str, now: Moment) -> Verdict:
        self.notes.urge(svc)
        return super()._drop(svc, now)

    def _vet(self, record: Record) -> None:
        if not record.vet():
            self.counts.heard -= 1
            self._malformed(record, Malformed("not_json"))

    def _live(self, record: Record, beat: Beat, payload: bytes, heard: Heard) -> Verdict | None:
        before, record.last = record.last, heard
        if record.stopped or beat.boot != record.voice:
            self.past.other_voice(record, beat.boot)
        record.stopped = False
        if record.marked:
            record.marked = False
            self.dirty[record.watch.svc] = None
            self.silence_ended = True
        record.get_to_know(payload, beat, heard)
        if record.held:
            record.estrange()
        elif record.state is not State.UP:
            return self.came_up(record, heard, before=before)
        elif record.before is not None or record.met != record.bus.clock.turns:
            self.past.look(record, beat, heard)
        return None

    def came_up(self, record: Record, now: Moment | Heard, *, before: Heard | None) -> Verdict:
        """The verdict on a service that was not up and has beaten; `before` is its last beat before that."""
        record.forget_gap()
        verdict = self._move(record, On.BEAT, Moment(now.mono, now.wall), before=before)
        record.bus.file(record)
        return verdict

    # -- what time brings

    def tick(self, now: Moment) -> Tick:
        """Looks at the clocks; to be called at `wake_in`, and whenever a canary came back."""
        self.woke(now)
        verdicts: list[Verdict] = []
        suspects: list[Suspect] = []
        urge: list[str] = []
        wake_in = CANARY_EVERY_SEC
        for bus in self.buses.values():
            bus.clock.check(now.mono)
        if (gap := self._reach.look(self.buses.values(), now)) is not None:
            verdicts.append(gap)
        for bus in self.buses.values():
            if (moved := bus.judge(now, may_blame=self._reach.may_blame(bus, now))) is not None:
                verdicts.append(moved)
            running = bus.clock.running(now.mono)
            if not self.held:
                suspects += self._suspects(bus, running)
                verdicts += self.past.closed(bus, now)
            if bus.clock.listening and not self.held:
                wake_in = 0.0 if bus.more else min(wake_in, bus.wheel.next_at() - running)
                if bus.waiting:
                    urge.append(bus.name)
        return Tick(tuple(verdicts), tuple(suspects), tuple(urge), max(0.0, wake_in))

    def _suspects(self, bus: WatchedBus, running: float) -> list[Suspect]:
        found: list[Suspect] = []
        for n, record in enumerate(due_now := bus.due_now(running)):
            if len(found) >= AT_ONCE:
                bus.put_off(due_now[n:])
                break
            if record.gone or record.refused is not None or record.state is State.DOWN:
                continue
            self._vet(record)
            if (due := record.due()) > running:
                if not record.marked and record.mark_at() <= running:
                    record.marked = True
                    record.estrange()
                    self.dirty[record.watch.svc] = record
                bus.file(record)
            elif due > bus.clock.proven:
                bus.waiting.append(record)
            else:
                record.asked = True
                found.append(Suspect(record.watch.svc, bus.name))
        return found

    # -- what the second witness says

    def witness(self, svc: str, testimony: Testimony | None, now: Moment) -> Verdict | Acquitted | None:
        """Closes the case of a suspect with what `beat:<svc>` says, None for nothing.

        Returns the miss, or that the service lives unheard; None when a beat was heard meanwhile or the
        service is no longer watched.
        """
        self.woke(now)
        record = self.records.get(svc)
        if record is None or not record.asked:
            return None
        record.asked = False
        if record.refused is not None:
            return None
        self._vet(record)
        before = record.last
        if testimony is not None and self._unheard(record, testimony, now):
            record.bus.file(record)
            self.counts.unheard += 1
            again = before is not None and before is record.hearsay
            record.hearsay = record.last
            return Acquitted(svc, record.watch.bus, testimony.age_sec or 0.0, again=again)
        if record.due() > record.bus.clock.proven:
            record.bus.file(record)
            return None
        self.dirty[svc] = None
        record.marked = False
        record.estrange()
        record.forget_gap()
        return self._move(record, On.DUE, now, before=record.last)

    def unasked(self, svc: str) -> None:
        """The second witness could not be asked: the case stays open."""
        record = self.records.get(svc)
        if record is not None and record.asked:
            record.asked = False
            record.bus.ask_again(record)

    def _unheard(self, record: Record, testimony: Testimony, now: Moment) -> bool:
        """Counts a beat that only the other witness knows as heard; tells whether it keeps the service up."""
        beat, age = testimony.beat, testimony.age_sec
        running = record.bus.clock.running(now.mono)
        if age is None:
            return False
        lives = record.is_unheard_life(beat, age, running)
        if record.is_news(beat.boot, beat.i, age, running):
            record.is_replay(beat.boot, beat.i)  # takes note of it
            record.stopped = beat.status == "stopping"
        if not lives:
            return False
        heard = Heard(running - age, now.mono - age, now.wall - age)
        if record.last is None or heard.at > record.last.at:
            record.last = heard
        return record.due() > record.bus.clock.proven
