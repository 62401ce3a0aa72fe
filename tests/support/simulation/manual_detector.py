"""Detector driven by hand: a clock that only tests move, buses that do what tests say.

`Hand` does what the monitor does: it sends canaries, evaluates when that is due, asks the second witness,
and keeps what was concluded in `verdicts`. Canaries come back at once unless a bus is made `deaf`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import orjson

from marketswarm.beat import Beat, encode_beat, parse_beat
from marketswarm.detector import (
    CANARY_EVERY_SEC,
    OVERDUE_SEC,
    Detector,
    LastBeat,
    Moment,
    SavedService,
    State,
    UnheardBeat,
    Verdict,
    restore_services,
)
from marketswarm.detector.bus import WatchedBus
from marketswarm.monitor.roster_entry import RosterEntry, parse_entry
from marketswarm.truth import Watch

LATE_SEC = 0.5
"""How late a busy loop notices that a canary's answer did not come in time."""
CANARIES_LEFT_OUT = 2
"""So many of three are not sent while nothing is due: the rest is still no silence of a bus."""
WALL = 1_762_433_458.0


def watch(svc: str = "a", interval: float = 10.0, timeout: float = 30.0, bus: str = "bus") -> Watch:
    return Watch(svc, bus, f"{svc}:heartbeat", interval, timeout)


def says(age: float | None, **beat: Any) -> LastBeat:
    return LastBeat(Beat(**{"svc": "a", "i": 1, "ts": 0.0, **beat}), age)


def stored(**found: Any) -> RosterEntry:
    """An entry of a roster as a listener reads it."""
    entry = parse_entry("bus", "healer:roster", "a", orjson.dumps(found))
    assert entry is not None
    return entry


@dataclass
class Left:
    """What left `Detector`, and when by the monotonic clock, counted from the beginning."""

    at: float
    verdict: Verdict | UnheardBeat


class Hand:
    """One run of a listener over `watches`; `start` is the monotonic clock's reading at its beginning."""

    def __init__(
        self,
        *watches: Watch,
        buses: Mapping[str, float] | None = None,
        known: Mapping[str, SavedService] | None = None,
        beats: Mapping[str, LastBeat] | None = None,
        held: bool = False,
        start: float = 1000.0,
        wall: float = WALL,
    ) -> None:
        self._start, self._wall = start, wall
        self.elapsed = 0.0
        self.detector = Detector(self.now)
        self.restarts = self.detector.observer
        self.told: list[Left] = []
        self._beats = {svc: (0.0, word) for svc, word in (beats or {}).items()}
        self.deaf: set[str] = set()  # they take canaries and bring none back
        self.swallowed: set[str] = set()  # they do not answer at all
        self._unanswered: dict[str, tuple[int, float]] = {}
        self.away: set[str] = set()
        self._number = 0
        self._next_canary = 0.0
        self._i: dict[str, int] = {}
        self.rewatch(*watches, buses=buses)
        for bus in self.detector.buses.values():
            bus.clock.note_session_opened()
        self.canaries()
        if not held:
            self.recall(known or {})

    # -- clocks

    @property
    def now(self) -> Moment:
        return Moment(self._start + self.elapsed, self._wall + self.elapsed)

    def step_wall(self, by: float) -> None:
        self._wall += by

    def clock(self, bus: str = "bus"):
        return self.detector.buses[bus].clock

    # -- what was concluded

    @property
    def verdicts(self) -> list[Verdict]:
        return [each.verdict for each in self.told if isinstance(each.verdict, Verdict)]

    @property
    def said(self) -> list[tuple[float, str, str]]:
        """When (to the millisecond, from the beginning), who, what; who was acquitted is `unheard`."""
        return [
            (round(each.at, 3), each.verdict.svc, getattr(each.verdict, "state", "unheard"))
            for each in self.told
        ]

    def record(self, found: Iterable[Verdict | UnheardBeat | None]) -> None:
        """Add verdicts of the detector to `told`, with the time."""
        self.told += [Left(self.elapsed, verdict) for verdict in found if verdict is not None]

    # -- what happens

    def recall(self, known: Mapping[str, SavedService]) -> None:
        words = {svc: word for svc in self._beats if (word := self.word_of(svc)) is not None}
        self.record(
            [found for found in restore_services(self.detector, known, words, self.now) if found is not None]
        )

    def rewatch(self, *watches: Watch, buses: Mapping[str, float] | None = None) -> None:
        # beside them one that is always there: who hears no bus at all blames none
        names = buses or {"bus": 10.0, **{watch.bus: 10.0 for watch in watches}, "spare": 10.0}
        self.record(self.detector.set_roster(watches, names, self.now))

    def beat(self, svc: str = "a", *, bus: str = "bus", raw: bytes | None = None, **more: Any) -> None:
        """A beat is heard; `i` counts by itself."""
        boot = more.get("boot")
        self._i[svc, boot] = more.pop("i", self._i.get((svc, boot), 0) + 1)
        sender = more.pop("sender", None)
        sent = Beat(svc, self._i[svc, boot], self.now.wall, **more)
        payload = raw if raw is not None else encode_beat(sent, sender)
        message = [b"message", f"{svc}:heartbeat".encode(), payload]
        self.record(self.detector.take_messages(bus, [message], self.now).verdicts)

    def attest(self, svc: str, age: float | None, **beat: Any) -> None:
        """From now on `beat:<svc>` holds a beat of that age; it grows with time."""
        self._beats[svc] = self.elapsed, says(age, svc=svc, **beat)

    def word_of(self, svc: str) -> LastBeat | None:
        """What the second witness says now."""
        at, word = self._beats.get(svc, (0.0, None))
        if word is None or word.age_sec is None:
            return word
        return LastBeat(word.beat, word.age_sec + self.elapsed - at)

    def stall(self, sec: float) -> None:
        """The process does not run; then the next thing happens."""
        self.elapsed += sec

    def lose(self, bus: str = "bus", reason: str = "refused") -> None:
        """The session ends; canaries are refused."""
        self.away.add(bus)
        self.detector.buses[bus].clock.note_session_lost(reason)

    def find(self, bus: str = "bus") -> None:
        """A new session on a bus that was lost."""
        self.away.discard(bus)
        self.detector.buses[bus].clock.note_session_opened()
        words = {svc: word for svc in self.detector.find_down(bus) if (word := self.word_of(svc)) is not None}
        self.record([self.detector.end_outage(svc, word, self.now) for svc, word in words.items()])

    def canaries(self) -> None:
        """Each bus's canary is sent, and comes back if it can."""
        self._number += 1
        for name, bus in list(self.detector.buses.items()):
            if name in self.swallowed:
                self._swallow(name)
                continue
            bus.clock.note_canary_sent(self._number, self.now.mono)
            if name in self.away:
                bus.clock.note_canary_refused(self._number, "refused")
            else:
                bus.clock.note_canary_accepted(self.now)
            if name not in self.away | self.deaf:
                self.record(self.detector.take_canary(name, self._number, self.now))
        self._next_canary = self.elapsed + CANARY_EVERY_SEC

    def _swallow(self, name: str) -> None:
        """The wire to a bus eats all: its canary has no answer, in the end not in time, and then the next."""
        clock = self.detector.buses[name].clock
        sent = self._unanswered.get(name)
        if sent is not None and self.now.mono - sent[1] < OVERDUE_SEC + LATE_SEC:
            return
        if sent is not None:
            clock.note_canary_refused(sent[0], "timeout")
        clock.note_canary_sent(self._number, self.now.mono)
        self._unanswered[name] = self._number, self.now.mono

    def look(self) -> float:
        """One turn of the judging loop; how long it would sleep."""
        tick = self.detector.tick(self.now)
        assert tick.mended == ()
        self.record(tick.verdicts)
        for suspect in tick.suspects:
            self.record([self.detector.evaluate_suspect(suspect.svc, self.word_of(suspect.svc), self.now)])
        if tick.canary_buses:
            self.canaries()
            tick = self.detector.tick(self.now)
            assert tick.mended == ()
            self.record(tick.verdicts)
            for suspect in tick.suspects:
                self.record(
                    [self.detector.evaluate_suspect(suspect.svc, self.word_of(suspect.svc), self.now)]
                )
        return tick.wake_in_sec

    def run(self, sec: float) -> None:
        """Lets time pass: canaries every 0.25 s, looks when they are due."""
        until = self.elapsed + sec
        while True:
            wake = self.elapsed + max(self.look(), 0.0005)
            self.elapsed = min(wake, max(self._next_canary, self.elapsed), until)
            if self.elapsed >= self._next_canary:
                self.canaries()
                self._skip_quiet_time(until)
            if self.elapsed >= until:
                self.look()
                return

    def _skip_quiet_time(self, until: float) -> None:
        """Leave out canaries, and looks, between which nothing could be due or change."""
        skipped_sec = CANARIES_LEFT_OUT * CANARY_EVERY_SEC
        while self._next_canary + 2 * skipped_sec < until:
            if not all(self._is_quiet(bus, 2 * skipped_sec) for bus in self.detector.buses.values()):
                return
            for _ in range(CANARIES_LEFT_OUT):
                self._wake_at(self._next_canary)
                self._next_canary += CANARY_EVERY_SEC
            self._wake_at(self._next_canary)
            self.canaries()

    def _wake_at(self, elapsed: float) -> None:
        self.elapsed = elapsed
        self.detector.note_awake(self.now)

    def _is_quiet(self, bus: WatchedBus, sec: float) -> bool:
        """Whether the bus is well, and nothing of its services is due within so many seconds."""
        if bus.name in self.away:
            return bus.state is State.DOWN and not bus.is_lost_as_deaf
        running = bus.clock.read(self.now.mono) + sec
        cases = self.restarts._cases  # noqa: SLF001 - when the next of them is due
        return (
            not self.detector.is_restoring
            and bus.state is State.UP
            and bus.clock.is_caught_up
            and bus.name not in self.deaf | self.swallowed
            and not bus.is_poorly_heard
            and not bus.postponed
            and not bus.has_waiting
            and bus.next_due() > running
            and (bus.clock not in cases or cases[bus.clock].next_due() > running)
        )

    def at(self, sec: float) -> Self:
        """Lets time pass until so many seconds after the beginning."""
        self.run(sec - self.elapsed)
        return self

    def cut(self, sec: float = 2.0, bus: str = "bus") -> None:
        """The bus is lost, and found so many seconds later."""
        self.lose(bus)
        self.run(sec)
        self.find(bus)

    def beating(self, sec: float, every: float, *services: str, **more: Any) -> None:
        """The same while services beat, first now, then at each full interval; none at the end."""
        until = self.elapsed + sec
        while self.elapsed < until - 1e-9:
            for svc in services or ("a",):
                self.beat(svc, **more)
            self.run(min(every, until - self.elapsed))


def parsed(payload: bytes, svc: str) -> Beat:
    found = parse_beat(payload, svc)
    assert isinstance(found, Beat)
    return found


def gaps(hand: Hand) -> list[tuple[str, bool, float]]:
    """What was told of gaps: who, whether restarted, and the proven seconds."""
    return [(v.svc, v.restarted, round(v.gap_sec, 3)) for v in hand.verdicts if v.gap_sec is not None]
