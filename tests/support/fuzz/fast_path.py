"""Beats taken at sight against a parse of every payload: `Detector` and `naive_detector.py` side by side.

A case is one payload. The bytes steer a scene: how much time passes, who sends, and whether it is the next
beat of the process, an old one again, one of another process, or one with a few bytes of the case's own in
it. Both are told the same; who came up, who is due, and when each was last heard must be the same.

One difference is by design, and bounded here by three quarters of a timeout: of the payloads taken at sight
since the last parse only the latest is parsed. If that is no beat, what counts is the last beat that was
*parsed*, older than the last valid one, and the service has some time to be heard; if it is the same count
again at a later time, which only a forger sends, it counts as new.
"""

from collections.abc import Hashable

from marketswarm.beat import Beat, encode_beat, parse_beat
from marketswarm.detector import Detector, Moment, restore_services
from marketswarm.detector.rule import LOOK_SHARE
from marketswarm.detector.service import BOOTS_KEPT, UNDONE_INTERVALS
from marketswarm.truth import Watch
from support.fuzz.mutation import Target
from support.simulation.naive_detector import Line, Naive

BUS = "bus"
WALL = 1_762_433_458.0
WATCHES = [Watch("a", BUS, "a:heartbeat", 1.0, 3.0), Watch("b", BUS, "b:heartbeat", 2.0, 8.0)]
STEP = 6
"""Bytes of a case that make one payload."""
PAYLOADS_AT_MOST = 200
GRAIN_SEC = 0.25
LOOK_SEC = 0.5
PAUSE_AT_MOST_SEC = 1.0
SLACK_SEC = GRAIN_SEC + LOOK_SEC + PAUSE_AT_MOST_SEC
"""What passes after three quarters of a timeout until the next look."""
PASSES_SEC = (0.0, 0.0, 0.03125, 0.125, 0.25, 0.5, 0.75, 1.0)


class Sender:
    """The process of one service. It counts its beats, and can send those of another process."""

    def __init__(self, svc: str) -> None:
        self.svc = svc
        self.i = 0
        self.boot: str | None = "b00700b007aa"
        self.last = b""
        self.old: list[bytes] = []

    def payload(self, how: int, place: int, what: bytes, wall: float) -> bytes:
        """Return the payload of the kind `how`."""
        if how < 8:
            return self._next(wall)
        if how == 8:
            return self.old[place % len(self.old)] if self.old else b""
        if how == 9:
            self.boot, self.i = (None, "b00700b007aa", "b00700b007ab", "x")[place % 4], 0
            return self._next(wall)
        if how == 10:
            self.i += place**3
            return self._next(wall)
        if how == 11:
            return self._next(wall, status="stopping")
        if how == 12:  # the same count again, at a later time
            self.i -= 1
            return self._next(wall)
        if how == 13:
            return b'{"svc":"%b","i":%d,"ts":%d}' % (self.svc.encode(), self.i, wall)
        # a beat to look at, but for a few bytes
        raw = bytearray(self._next(wall) if how == 14 else self.last)
        start = place % (len(raw) + 1)
        raw[start : start + len(what)] = what
        return bytes(raw)

    def _next(self, wall: float, **more) -> bytes:
        self.i += 1
        self.last = encode_beat(
            Beat(self.svc, max(0, self.i), wall, boot=self.boot, rev=3, every=10.0, **more)
        )
        if len(self.old) < 50:
            self.old.append(self.last)
        return self.last


class Scene:
    """Both listeners, and time."""

    def __init__(self) -> None:
        self.now = self.looked_at = 1000.0
        self.number = 0
        self.detector = Detector(self.moment)
        self.naive = Naive(self.now)
        self.detector.set_roster(WATCHES, {BUS: 10.0}, self.moment)
        self.naive.rewatch(WATCHES, [BUS], self.now)
        self.clock = self.detector.buses[BUS].clock
        self.clock.note_session_opened()
        self.naive.clocks[BUS].opened()
        self.canary()
        list(restore_services(self.detector, {}, {}, self.moment))
        self.naive.recall({}, {}, self.now)
        self.senders = {watch.svc: Sender(watch.svc) for watch in WATCHES}
        self.duped: set[str] = set()  # a payload was taken at sight that is none, and was not parsed yet
        self.seen: set[Hashable] = set()

    @property
    def moment(self) -> Moment:
        return Moment(self.now, WALL + self.now)

    def canary(self) -> None:
        self.number += 1
        self.clock.note_canary_sent(self.number, self.now)
        self.naive.clocks[BUS].away[self.number] = self.now
        self.clock.note_canary_accepted(self.moment)
        self.detector.take_canary(BUS, self.number, self.moment)
        self.naive.clocks[BUS].heard(self.number, self.now)

    def publish(self, svc: str, raw: bytes) -> None:
        record, line = self.detector.services[svc], self.naive.lines[svc]
        before = line.last
        at_sight, is_life = _at_sight(record, raw), _is_life(line, raw)
        if not at_sight:
            self.settle(svc)  # it is parsed, and what was taken at sight before it
        hearing = self.detector.take_messages(
            BUS, [(b"message", f"{svc}:heartbeat".encode(), raw)], self.moment
        )
        came_up = self.naive.hear(BUS, [(f"{svc}:heartbeat", raw)], self.now)
        ours = [verdict.svc for verdict in hearing.verdicts if verdict.gap_sec is None]
        assert ours == came_up, (ours, came_up)
        if at_sight and not is_life:
            self.duped.add(svc)
        self.seen.add((at_sight, is_life, line.last != before, line.stopped, line.state, len(self.duped)))

    def settle(self, svc: str) -> None:
        """Holds the two against each other, once nothing of a service is unparsed."""
        record, line = self.detector.services[svc], self.naive.lines[svc]
        sure = record.confirm(self.clock.read(self.now))
        assert sure or svc in self.duped, f"{svc}: {record.payload!r} is no beat"
        ours = None if record.last_beat is None else record.last_beat.at
        if svc not in self.duped:
            assert ours == line.last, f"{svc}: {ours} is not {line.last}"
            assert record.silence.stopped == line.stopped
            return
        self.duped.discard(svc)
        assert ours is not None
        assert line.last is not None
        assert abs(ours - line.last) <= LOOK_SHARE * line.watch.timeout_sec + SLACK_SEC, (
            svc,
            ours,
            line.last,
        )
        assert sure or ours <= line.last, f"{svc}: garbage gave it life until {ours}, not {line.last}"
        # by design, and the counts between them were not parsed either; from here on they must agree again
        line.last = ours
        granted_sec = min(UNDONE_INTERVALS * line.watch.interval_sec, line.watch.timeout_sec)
        assert record.not_due_before <= self.clock.read(self.now) + granted_sec
        line.floor = record.not_due_before
        line.boots |= record.instances.to_dict()

    def look(self, *, closely: bool) -> None:
        self.looked_at = self.now
        self.canary()
        if closely:
            for svc in self.detector.services:
                self.settle(svc)
        suspects = {suspect.svc for suspect in self.detector.tick(self.moment).suspects}
        for svc, record in self.detector.services.items():
            if not record.is_unparsed:
                self.settle(svc)
        due = self.naive.sweep(self.now)
        for svc in suspects ^ due:
            # who was given life by what is still unparsed is not due with us yet, and will be
            assert self.naive.near(svc) or (svc in due and svc in self.duped), (suspects, due)
            self.naive.lines[svc].asked = svc in suspects
        for svc in suspects:
            verdict = self.detector.evaluate_suspect(svc, None, self.moment)
            assert verdict is not None
            assert self.naive.witness(svc, None, self.now) == "down"
            self.seen.add((svc, "down"))


def _at_sight(record, raw: bytes) -> bool:
    is_expected = len(raw) == record.expected_size and raw.endswith(record.expected_tail)
    return is_expected and record.payload < raw < record.expected_below


def _is_life(line: Line, raw: bytes) -> bool:
    beat = parse_beat(raw, line.watch.svc)
    if not isinstance(beat, Beat) or beat.status == "stopping":
        return False
    return beat.boot is None or beat.i > line.boots.get(beat.boot, -1)


def examine_sight(raw: bytes) -> Hashable:
    """Plays the scene that these bytes are."""
    scene = Scene()
    for start in range(0, min(len(raw), STEP * PAYLOADS_AT_MOST), STEP):
        which, place, *what = raw[start : start + STEP].ljust(STEP, b"0")
        svc = "b" if which & 128 else "a"
        pause = PASSES_SEC[which >> 4 & 7]
        if pause:
            scene.now += pause
            if place & 1 or scene.now - scene.looked_at >= LOOK_SEC:
                scene.look(closely=place & 6 == 6)
        sender = scene.senders[svc]
        scene.publish(svc, sender.payload(which & 15, place, bytes(what), WALL + scene.now))
        if len(scene.detector.services[svc].instances) >= BOOTS_KEPT:
            break  # the naive one forgets no process
    for _ in range(12):
        scene.now += LOOK_SEC
        scene.look(closely=False)
    return frozenset(scene.seen)


def _steady(svc: int, passes: int, count: int) -> bytes:
    return bytes([svc | passes << 4, 1, 48, 49, 50, 51]) * count


SIGHT = Target(
    "sight",
    examine_sight,
    (
        _steady(0, 3, PAYLOADS_AT_MOST),
        _steady(0, 6, 60) + _steady(128, 7, 60),
        (_steady(0, 2, 8) + _steady(128, 2, 8)) * 12,
        bytes(range(256)) * 4,
    ),
    tuple(
        bytes([how | 16 * pause, 17 + 7 * how, 34, 125, 44, 57]) for how in range(16) for pause in (1, 2, 6)
    ),
    0.25,
    longest=STEP * PAYLOADS_AT_MOST,
    weight=100,
)
