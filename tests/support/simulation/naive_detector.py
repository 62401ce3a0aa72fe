"""DETECTION's rule as one would write it down first: every service looked at, every time. The oracle.

No wheel, no payload known by heart, nothing put off. It is told exactly what `Detector` is told, and tells
what must follow.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from marketswarm.beat import Beat, parse_beat
from marketswarm.detector import LastBeat, SavedBeat, SavedService
from marketswarm.truth import Watch


class Clock:
    """Listening time: what lies between the sendings of canaries heard one after the other in one session."""

    def __init__(self) -> None:
        self.proven = 0.0
        self.gap_end = 0.0
        self.until: float | None = None  # the moment up to which all is proven; None in a gap
        self.session = False
        self.away: dict[int, float] = {}

    def running(self, now: float) -> float:
        return self.proven if self.until is None else self.proven + now - self.until

    def gap(self) -> None:
        self.until = None

    def opened(self) -> None:
        self.gap()
        self.session, self.away = True, {}

    def lost(self) -> None:
        self.gap()
        self.session = False

    def refused(self, number: int) -> None:
        self.gap()
        self.away.pop(number, None)

    def look(self, now: float) -> None:
        owed = [sent for sent in self.away.values() if now - sent > 1.0]
        if owed or (self.until is not None and now - self.until > 2.25):
            self.gap()

    def heard(self, number: int, now: float) -> None:
        sent = self.away.get(number)
        if not self.session or sent is None:
            return
        skipped = [each for each in self.away if each < number]
        self.away = {each: at for each, at in self.away.items() if each > number}
        if skipped or now - sent > 1.0:
            self.gap()
        if self.until is None:
            self.until, self.gap_end = now, self.proven
        elif sent > self.until:
            self.proven += sent - self.until
            self.until = sent


@dataclass
class Line:
    """One service. `last` and `enter` are readings of its bus's clock."""

    watch: Watch
    enter: float
    last: float | None = None
    floor: float = float("-inf")
    state: str = "unknown"
    asked: bool = False
    stopped: bool = False
    missed_at: float | None = None
    boots: dict[str, int] = field(default_factory=dict)
    lives: dict[str, int] = field(default_factory=dict)
    """Of those that said goodbye after a gap: the `i` of the last life that is known."""

    def warm_up(self) -> float:
        return min(self.watch.timeout_sec, max(2 * self.watch.interval_sec, 0.75 * self.watch.timeout_sec))

    def due(self, gap_end: float) -> float:
        timeout, warm = self.watch.timeout_sec, self.warm_up()
        if self.last is None:
            due = min(max(self.enter + warm, gap_end + warm), self.enter + 2 * warm)
        else:
            due = min(max(self.last + timeout, gap_end + warm), self.last + timeout + warm)
        return max(due, self.floor)

    def take_note(self, noted: SavedBeat | None) -> None:
        if noted is not None:
            self.stopped = noted.stopped
            for boot, i in (*noted.others.items(), (noted.boot, noted.i)):
                self.boots[boot] = max(i, self.boots.get(boot, 0))

    def is_replay(self, boot: str | None, i: int, *, shows_life: bool = True) -> bool:
        if boot is None:
            return False
        known = boot in self.boots and i <= self.boots[boot]
        if not known and shows_life:
            self.lives.pop(boot, None)
        elif not known:
            self.lives.setdefault(boot, self.boots.get(boot, -1))
        self.boots[boot] = max(i, self.boots.get(boot, i))
        return known

    def take_word(self, beat: Beat) -> None:
        """Take what the witness says: a goodbye shows the life before it."""
        is_life = beat.status != "stopping"
        self.is_replay(beat.boot, beat.i, shows_life=is_life)
        if beat.boot in self.lives:
            self.lives[beat.boot] = max(self.lives[beat.boot], beat.i if is_life else beat.i - 1)

    def is_new(self, boot: str, i: int) -> bool:
        return i > self.lives.get(boot, self.boots.get(boot, -1))


class Naive:
    """The whole roster."""

    def __init__(self, now: float, wall: float = 0.0) -> None:
        self.wall = wall
        self.clocks: dict[str, Clock] = {}
        self.lines: dict[str, Line] = {}
        self.held = True
        self.awake = now

    def rewatch(self, watches: Iterable[Watch], buses: Iterable[str], now: float) -> None:
        self.woke(now)
        for bus in buses:
            self.clocks.setdefault(bus, Clock())
        old, self.lines = self.lines, {}
        for watch in watches:
            running = self.clocks[watch.bus].running(now)
            line = old.get(watch.svc)
            if line is None:
                line = Line(watch, running)
            elif line.watch != watch:
                moved = running - self.clocks[line.watch.bus].running(now)
                line.watch, line.asked = watch, False
                line.enter = line.enter + moved if line.last is None else line.last + moved
                line.last = None if line.last is None else line.last + moved
                line.floor = running + line.warm_up()
            self.lines[watch.svc] = line

    def woke(self, now: float) -> None:
        if now - self.awake > 1.25:
            for clock in self.clocks.values():
                clock.gap()
        self.awake = now

    def hear(self, bus: str, messages: Iterable[tuple[str, bytes]], now: float) -> list[str]:
        """Who came up."""
        self.woke(now)
        came_up = []
        for channel, payload in messages:
            for line in self.lines.values():
                if (line.watch.bus, line.watch.channel) != (bus, channel):
                    continue
                beat = parse_beat(payload, line.watch.svc)
                if not isinstance(beat, Beat):
                    continue
                clock = self.clocks[bus]
                was_heard = clock.until is not None and line.last is not None and line.last >= clock.gap_end
                if line.is_replay(beat.boot, beat.i, shows_life=beat.status != "stopping" or was_heard):
                    continue
                if beat.run in ("started", "failed", "log"):
                    continue
                line.stopped = beat.status == "stopping"
                if line.stopped:
                    continue
                line.last = self.clocks[bus].running(now)
                if line.state != "up" and not self.held:
                    line.state = "up"
                    came_up.append(line.watch.svc)
        return came_up

    def sweep(self, now: float) -> set[str]:
        """Who is due by now, and is asked about from here on."""
        self.woke(now)
        for clock in self.clocks.values():
            clock.look(now)
        found = set()
        for svc, line in self.lines.items():
            clock = self.clocks[line.watch.bus]
            idle = self.held or line.asked or line.state == "down"
            if not idle and line.due(clock.gap_end) <= clock.proven:
                line.asked = True
                found.add(svc)
        return found

    def near(self, svc: str) -> bool:
        """Whether it is due just now, give or take what adding up floats may make of it."""
        line = self.lines[svc]
        clock = self.clocks[line.watch.bus]
        return abs(line.due(clock.gap_end) - clock.proven) < 1e-6

    def witness(self, svc: str, word: LastBeat | None, now: float) -> str | None:
        """Whether it is `down`, lives `unheard`, or neither."""
        self.woke(now)
        line = self.lines.get(svc)
        if line is None or not line.asked:
            return None
        line.asked = False
        clock = self.clocks[line.watch.bus]
        if word is not None and word.age_sec is not None:
            lives = self._lives(line, word, now)
            if self._news(line, word, now):
                line.take_word(word.beat)
                line.stopped = word.beat.status == "stopping"
            if lives:
                at = clock.running(now) - word.age_sec
                line.last = at if line.last is None else max(at, line.last)
                if line.due(clock.gap_end) > clock.proven:
                    return "unheard"
        if line.due(clock.gap_end) > clock.proven:
            return None
        line.state, line.missed_at = "down", now
        return "down"

    def ends_outage(self, svc: str, word: LastBeat, now: float) -> bool:
        """Whether the witness of one who is down shows a life since the miss, and not too long ago."""
        line = self.lines[svc]
        age = word.age_sec
        if line.state != "down" or line.missed_at is None or age is None or now - age < line.missed_at:
            return False
        if word.beat.status == "stopping" or age >= line.watch.timeout_sec or not self._news(line, word, now):
            return False
        line.take_word(word.beat)
        line.state, line.stopped = "up", False
        line.last = self.clocks[line.watch.bus].running(now) - age
        return True

    def _news(self, line: Line, word: LastBeat, now: float) -> bool:
        if word.beat.boot is not None:
            return line.is_new(word.beat.boot, word.beat.i)
        return self._younger(line, word, now)

    def _lives(self, line: Line, word: LastBeat, now: float) -> bool:
        """Whether it is life that nobody heard; a goodbye is none, but the beat before it may be."""
        if word.beat.status != "stopping":
            return self._news(line, word, now)
        return word.beat.boot is not None and line.is_new(word.beat.boot, word.beat.i - 1)

    def _younger(self, line: Line, word: LastBeat, now: float) -> bool:
        begun = line.enter if line.last is None else line.last
        return word.age_sec < self.clocks[line.watch.bus].running(now) - begun - 0.25

    def recall(
        self, known: Mapping[str, SavedService], words: Mapping[str, LastBeat], now: float
    ) -> list[str]:
        """Who came up. A saved silence goes on; else it is half a timeout; a younger beat ends it."""
        self.woke(now)
        came_up = [svc for svc in self.lines if self._recall_line(svc, known.get(svc), words.get(svc), now)]
        self.held = False
        return came_up

    def _recall_line(self, svc: str, memory: SavedService | None, word: LastBeat | None, now: float) -> bool:
        line = self.lines[svc]
        heard, stopped = line.last, line.stopped
        half, line.last = line.watch.timeout_sec / 2, None
        if memory is not None:
            before = Line(line.watch, 0.0)
            before.take_note(memory.last_beat if str(memory.state) == "down" else None)
            if memory.boot is not None:
                before.is_replay(memory.boot, memory.i)
            if line.boots and all(before.boots.get(b, -1) >= i for b, i in line.boots.items()):
                heard = None  # all of it was known to the earlier run: replays
            self._restore(line, memory, now)
        if heard is None and line.state == "down":
            return word is not None and self.ends_outage(svc, word, now)
        if heard is None and word is not None and word.age_sec is not None:
            running = self.clocks[line.watch.bus].running(now)
            goodbye = word.beat.status == "stopping"
            lives = not goodbye or self._lives(line, word, now)
            line.take_word(word.beat)
            line.stopped = goodbye
            if lives and (line.last is None or word.age_sec < running - line.last):
                line.last = running - min(word.age_sec, half)
        if heard is not None:
            line.last, line.stopped = heard, stopped
        alive = word is not None and word.age_sec is not None and word.age_sec <= half and not line.stopped
        is_up = heard is not None or (line.state == "unknown" and alive)
        if line.state == "up" or not is_up:
            return False
        line.state = "up"
        return True

    def _restore(self, line: Line, memory: SavedService, now: float) -> None:
        line.state = str(memory.state)
        if memory.missed_at is not None:
            line.missed_at = min(now, memory.missed_at - self.wall)
        half = line.watch.timeout_sec / 2
        silence = half if memory.silent_sec is None else memory.silent_sec
        if (memory.silent_under_sec or 0.0) > line.watch.timeout_sec:  # a longer one allowed it
            silence = min(silence, half)
        line.last, line.enter = (-silence, line.enter) if memory.seen else (None, -silence)
        if memory.seen and memory.boot is not None:
            line.boots[memory.boot] = max(memory.i, line.boots.get(memory.boot, 0))
        line.take_note(memory.last_beat)
