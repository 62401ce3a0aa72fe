"""The healer of `world.py`: it does in simulated time what the monitor and its listeners do.

Each thing that `Detector` is told goes to the oracle too, and what follows must be the same.
"""

from dataclasses import dataclass
from typing import Any

from marketswarm.bus.listener import DEAF_AFTER_SEC, MIN_CANARY_PAUSE_SEC
from marketswarm.detector import (
    CANARY_EVERY_SEC,
    OVERDUE_SEC,
    Detector,
    Moment,
    Stage,
    State,
    UnheardBeat,
    Verdict,
    restore_lost_bus,
    restore_services,
)
from marketswarm.monitor.store import (
    SavedSilence,
    encode_saved_beat,
    encode_silence,
    parse_saved_beat,
    parse_saved_silence,
)
from marketswarm.truth import Watch
from support.simulation.manual_detector import stored
from support.simulation.naive_detector import Naive
from support.simulation.saved_state import combine_saved_state
from support.simulation.world import WALL, Bus, Session

HOME = "x"
BUS_TIMEOUT_SEC = 4.0
CANARY = "canary"


@dataclass
class Disk:
    """What outlives a healer on its home bus."""

    roster: dict[str, dict[str, Any]]
    silences: dict[str, SavedSilence]
    clocks: dict[str, tuple[float, float]]
    notes: dict[str, bytes]


@dataclass
class Canaries:
    """The canary task of one bus: at most one request is under way."""

    next_at: float
    number: int = 0
    started: float = 0.0
    answer_at: float | None = None
    refusal: str | None = None


class Healer:
    """One run. `order` says what a run that overslept does first, as the event loop might have it."""

    def __init__(self, buses: dict[str, Bus], disk: Disk, watches: list[Watch], now: float) -> None:
        self.buses, self.disk, self.watches = buses, disk, watches
        self.detector = Detector(Moment(now, WALL + now))
        self.restarts = self.detector.observer
        self.naive = Naive(now, WALL)
        self.canaries = {name: Canaries(now) for name in buses}
        self.open_at = dict.fromkeys(buses, now + 0.01)
        self.heard_at = dict.fromkeys(buses, now)  # a canary, last
        self.proven: dict[str, list[tuple[float, float]]] = {name: [(now, 0.0)] for name in buses}
        self.tick_at = now
        self.memory_at = now + 0.02
        self.asked: list[tuple[float, str, str]] = []
        self.ask_sec = 0.002
        self.asleep_until = now
        self.order = ["deliver", "canary", "look", "rest"]
        self.outbox: list[Verdict] = []
        self.unsaved: dict[str, Any] = {}
        self.concluded: list[tuple[float, Verdict]] = []
        self.acquitted = 0
        self.recalled_at = float("inf")
        self.now = now
        self.rewatch(watches, now)

    # -- time

    def next(self) -> tuple[float, str, str]:
        """When it does what next, and on which bus."""
        things = [(self.tick_at, "look", ""), (self.memory_at, "rest", "")]
        things += [(at, "rest", "ask") for at, _, _ in self.asked[:1]]
        for name, bus in self.buses.items():
            if bus.session is None:
                things.append((self.open_at[name], "rest", name))
            elif bus.session.flight:
                things.append((bus.session.flight[0][0], "deliver", name))
            canary = self.canaries[name]
            at = canary.next_at if canary.answer_at is None else canary.answer_at
            things.append((at, "canary", name))
        awake = [(max(at, self.asleep_until), what, name) for at, what, name in things]
        return min(awake, key=lambda thing: (thing[0], self.order.index(thing[1]), thing[2]))

    def do(self, at: float, what: str, name: str) -> None:
        self.now = at
        if what == "look":
            self.look()
        elif what == "deliver":
            self.deliver(name)
        elif what == "canary":
            self.canary(name)
        elif name == "ask":
            self.ask_witness()
        elif name:
            self.open(name)
        else:
            self.remember()

    @property
    def moment(self) -> Moment:
        return Moment(self.now, WALL + self.now)

    # -- listening

    def open(self, name: str) -> None:
        bus = self.buses[name]
        self.open_at[name] = self.now + 0.5
        if not bus.answers:
            self.lost(name, "refused")
            return
        bus.session = Session({CANARY} | {w.channel for w in self.watches if w.bus == name})
        self.detector.buses[name].clock.note_session_opened()
        self.naive.clocks[name].opened()
        if not self.detector.is_restoring:
            self.ask_about_down(name)

    def ask_about_down(self, name: str) -> None:
        words = {
            svc: word
            for svc, timeout_sec in self.detector.find_down(name).items()
            if (word := self.buses[name].word_of(svc, timeout_sec, self.now)) is not None
        }
        found = [self.detector.end_outage(svc, word, self.moment) for svc, word in words.items()]
        came_up = [svc for svc, word in words.items() if self.naive.ends_outage(svc, word, self.now)]
        assert [verdict.svc for verdict in found if verdict is not None] == came_up
        self.publish(*found)

    def lost(self, name: str, reason: str) -> None:
        self.buses[name].session = None
        self.detector.buses[name].clock.note_session_lost(reason)
        self.naive.clocks[name].lost()

    def deliver(self, name: str) -> None:
        session = self.buses[name].session
        at_hand = [each for each in session.flight if each[0] <= self.now]
        session.flight = session.flight[len(at_hand) :]
        messages = [(b"message", channel.encode(), payload) for _, channel, payload in at_hand]
        hearing = self.detector.take_messages(name, messages, self.moment)
        came_up = self.naive.hear(name, [(channel, payload) for _, channel, payload in at_hand], self.now)
        assert [verdict.svc for verdict in hearing.verdicts] == came_up
        self.publish(*hearing.verdicts)
        for _, channel, payload in hearing.others:
            if channel == CANARY.encode():
                known = int(payload) in self.naive.clocks[name].away
                self.heard_at[name] = self.now if known else self.heard_at[name]
                self.publish(*self.detector.take_canary(name, int(payload), self.moment))
                self.naive.clocks[name].heard(int(payload), self.now)
        self.agree_on_clocks()
        if self.detector.buses[name].has_waiting:
            self.tick_at = self.now

    def agree_on_clocks(self) -> None:
        for name, naive in self.naive.clocks.items():
            clock = self.detector.buses[name].clock
            ours = (clock.proven, clock.gap_end, clock.read(self.now), clock.is_listening)
            theirs = (naive.proven, naive.gap_end, naive.running(self.now), naive.until is not None)
            assert all(abs(a - b) < 1e-6 for a, b in zip(ours, theirs, strict=True)), (name, ours, theirs)

    def canary(self, name: str) -> None:
        canary, bus = self.canaries[name], self.buses[name]
        if canary.answer_at is not None:
            clock = self.detector.buses[name].clock
            if canary.refusal is None:
                clock.note_canary_accepted(self.moment)
            else:
                clock.note_canary_refused(canary.number, canary.refusal)
                self.naive.clocks[name].refused(canary.number)
            canary.answer_at = None
            canary.next_at = max(self.now + MIN_CANARY_PAUSE_SEC, canary.started + CANARY_EVERY_SEC)
            if bus.session is not None and clock.missing_canary_sec(self.now) > DEAF_AFTER_SEC:
                self.lost(name, "deaf")
                self.open_at[name] = self.now + 0.05
            return
        canary.number += 1
        canary.started = self.now
        self.detector.buses[name].clock.note_canary_sent(canary.number, self.now)
        self.naive.clocks[name].away[canary.number] = self.now
        payload = str(canary.number).encode()
        answers = bus.answers
        bus.take(lambda at: bus.publish(CANARY, payload, at), self.now)
        canary.answer_at, canary.refusal = self.now + bus.latency, None
        if not answers:
            canary.refusal = "timeout" if bus.up else "refused"
            canary.answer_at = self.now + (OVERDUE_SEC if bus.up else 0.001)

    # -- judging

    def look(self) -> None:
        tick = self.detector.tick(self.moment)
        assert tick.mended == ()
        naive = self.naive.sweep(self.now)
        self.agree_on_clocks()
        suspects = {suspect.svc for suspect in tick.suspects}
        assert len(suspects) == len(tick.suspects), f"asked twice: {tick.suspects}"
        for svc in suspects ^ naive:
            assert self.naive.near(svc), f"at {self.now}: {svc} {'is' if svc in naive else 'is not'} due"
            self.naive.lines[svc].asked = svc in suspects
        self.publish(*tick.verdicts)
        for suspect in tick.suspects:
            self.asked.append((self.now + self.ask_sec, suspect.bus, suspect.svc))
        for name in tick.canary_buses:
            canary = self.canaries[name]
            canary.next_at = min(canary.next_at, max(self.now, canary.started + MIN_CANARY_PAUSE_SEC))
        self.sleeps_past_nothing(tick.wake_in_sec, set(tick.canary_buses))
        for name, clock in self.naive.clocks.items():
            self.proven[name].append((self.now, clock.proven))
        self.tick_at = self.now + max(tick.wake_in_sec, 1e-6)

    def sleeps_past_nothing(self, wake_in: float, urged: set[str]) -> None:
        assert 0 <= wake_in <= CANARY_EVERY_SEC
        for svc, line in self.naive.lines.items():
            clock = self.naive.clocks[line.watch.bus]
            if self.naive.held or line.asked or line.state == "down" or clock.until is None:
                continue
            # what is further ahead of the last canary is looked at when the next one comes
            looked_at = min(clock.running(self.now), clock.proven + OVERDUE_SEC + CANARY_EVERY_SEC)
            left = line.due(clock.gap_end) - looked_at
            assert left >= wake_in - 1e-6 or line.watch.bus in urged, f"{svc} is due in {left}, not {wake_in}"

    def ask_witness(self) -> None:
        _, name, svc = self.asked.pop(0)
        if not self.buses[name].answers:
            self.detector.retry_suspect(svc)
            if svc in self.naive.lines:
                self.naive.lines[svc].asked = False
            return
        record = self.detector.services.get(svc)
        bus = self.buses[name]
        word = bus.word_of(svc, record.rule.timeout_sec, self.now) if record is not None else None
        line = self.naive.lines.get(svc)
        # a goodbye that was heard may come after a beat that was not
        is_life = word is not None and word.beat.status != "stopping"
        heard = line is not None and is_life and line.boots.get(word.beat.boot, -1) >= word.beat.i
        found = self.detector.evaluate_suspect(svc, word, self.moment)
        assert not (heard and isinstance(found, UnheardBeat)), f"what was heard is no news: {word}"
        theirs = self.naive.witness(svc, word, self.now)
        ours = "unheard" if isinstance(found, UnheardBeat) else found and str(found.state)
        assert ours == theirs or self.naive.near(svc)
        if ours != theirs:
            line = self.naive.lines[svc]
            line.state = "down" if ours == "down" else str(self.detector.services[svc].state)
        if isinstance(found, UnheardBeat):
            self.acquitted += 1
            self.lost(name, "deaf")
            self.open_at[name] = self.now + 0.05
        self.publish(found if isinstance(found, Verdict) else None)
        self.tick_at = self.now

    def publish(self, *verdicts: Verdict | None) -> None:
        for verdict in verdicts:
            if verdict is not None:
                self.concluded.append((self.now, verdict))
                self.outbox.append(verdict)

    # -- roster and memory

    def rewatch(self, watches: list[Watch], now: float) -> None:
        self.now, self.watches = now, watches
        self.publish(
            *self.detector.set_roster(watches, dict.fromkeys(self.buses, BUS_TIMEOUT_SEC), self.moment)
        )
        self.naive.rewatch(watches, self.buses, now)
        for name, bus in self.buses.items():
            if bus.session is not None:
                bus.session.channels = {CANARY} | {w.channel for w in watches if w.bus == name}
        self.tick_at = now

    def remember(self) -> None:
        self.memory_at = self.now + (0.5 if self.detector.is_restoring else 1.0)
        if not self.buses[HOME].answers:
            return
        if self.detector.is_restoring:
            self.recall()
            self.memory_at = self.now
            return
        self.unsaved |= self.detector.silences.take()
        for name, bus in self.detector.buses.items():
            self.disk.clocks[name] = round(bus.clock.proven, 3), WALL + self.now
        for svc, record in self.unsaved.items():
            self.disk.silences.pop(svc, None)
            if record is not None and (found := parse_saved_silence(encode_silence(record).encode())):
                self.disk.silences[svc] = found
        self.unsaved = {}
        for svc, noted in self.restarts.take_unsaved(self.now).items():
            if noted is None:
                self.disk.notes.pop(svc, None)
            else:
                self.disk.notes[svc] = encode_saved_beat(noted)

    def recall(self) -> None:
        words = {}
        for watch in self.watches:
            bus = self.buses[watch.bus]
            if bus.answers and (word := bus.word_of(watch.svc, watch.timeout_sec, self.now)):
                words[watch.svc] = word
        bus_of = {watch.svc: watch.bus for watch in self.watches}
        notes = {svc: parse_saved_beat(raw) for svc, raw in self.disk.notes.items()}
        roster = {field: stored(**entry) for field, entry in self.disk.roster.items()}
        known = combine_saved_state(roster, self.disk.silences, self.disk.clocks, bus_of, notes)
        found = restore_services(self.detector, known, words, self.moment)
        verdicts = [verdict for verdict in found if verdict is not None]
        self.recalled_at = self.now
        came_up = self.naive.recall(known, words, self.now)
        assert [verdict.svc for verdict in verdicts if verdict.state is State.UP] == came_up
        self.publish(*verdicts)
        for field, entry in self.disk.roster.items():
            if field.startswith("bus:") and entry["verdict"] == "down":
                since, deaf = entry.get("since"), entry.get("reason") == "deaf"
                self.publish(restore_lost_bus(self.detector, field[4:], since, self.moment, as_deaf=deaf))
        self.detector.silences.delete(
            *(svc for svc in self.disk.silences if svc not in self.detector.services)
        )
        for svc in notes.keys() - self.detector.services.keys():
            self.restarts.save_soon(svc)

    # -- what holds at any moment

    def everyone_is_filed_once(self) -> None:
        for name, bus in self.detector.buses.items():
            filed = [id(item) for item in bus.wheel]
            assert len(filed) == len(set(filed)), f"two entries for one record on {name}"
            waiting = {id(record) for record in (*bus.awaiting_canary, *bus.postponed, *bus.returned)}
            for record in self.detector.services.values():
                if record.clock is not bus.clock:
                    continue
                assert record.is_on_wheel == (id(record) in filed)
                is_awaited = record.stage in (Stage.SUSPECTED, Stage.RESTORING)
                watched = id(record) in filed or id(record) in waiting or is_awaited
                assert watched or record.state is State.DOWN, f"{record.svc} is overlooked"
