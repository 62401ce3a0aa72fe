"""A healer with more messages than it can keep up with: the work after a gap must not cause the next gap."""

from collections import deque

from marketswarm.detector import CANARY_EVERY_SEC, Detector, Moment, State
from marketswarm.truth import Watch

BUS = "bus"
SERVICES = [f"svc0{n:02d}" for n in range(100)]
EVERY_SEC = 0.5
PARSED_SEC, FAMILIAR_SEC = 0.030, 0.0005
"""What a payload costs: all parsed they take six seconds of each second, as familiar ones a tenth."""


class Overload:
    """A detector behind a queue of messages, each of which takes its time."""

    def __init__(self) -> None:
        self.now = Moment(100.0, 1e9)
        self.detector = Detector(self.now)
        self.detector.is_restoring = False
        watches = [Watch(svc, BUS, f"{svc}:heartbeat", EVERY_SEC, 3 * EVERY_SEC) for svc in SERVICES]
        self.detector.set_roster(watches, {BUS: 10.0}, self.now)
        self.clock = self.detector.buses[BUS].clock
        self.queue: deque[bytes | int] = deque()
        self.worked_sec = self.sent_until = 0.0
        self.canaries = self.beats = 0
        self.dead: set[str] = set()
        self.misses: list[str] = []
        self.open_session()

    def open_session(self) -> None:
        """Begin a session: what was sent before it is lost."""
        self.queue.clear()
        self.sent_until = self.now.mono
        self.clock.note_session_opened()

    def spend(self, sec: float) -> None:
        """Let time pass, in which beats and canaries arrive."""
        until = self.now.mono + sec
        while self.sent_until + EVERY_SEC / len(SERVICES) <= until:
            self.sent_until += EVERY_SEC / len(SERVICES)
            self.beats += 1
            round_, number = divmod(self.beats, len(SERVICES))
            # of one length, so that it is familiar
            head = f'{{"svc":"{SERVICES[number]}","i":{round_ + 100},"ts":{1e9 + self.sent_until:.3f},'
            payload = f'{head}"boot":"b00700b","rev":3,"every":{EVERY_SEC}}}'.encode()
            if SERVICES[number] not in self.dead:
                self.queue.append(payload)
            if self.beats % (len(SERVICES) * CANARY_EVERY_SEC / EVERY_SEC) == 0:
                self.canaries += 1
                self.clock.note_canary_sent(self.canaries, self.sent_until, self.worked_sec)
                self.clock.note_canary_accepted(Moment(self.sent_until, 1e9 + self.sent_until))
                self.queue.append(self.canaries)
        self.now = Moment(until, 1e9 + until)

    def run(self, sec: float) -> None:
        until, look_at = self.now.mono + sec, 0.0
        while self.now.mono < until:
            if self.now.mono >= look_at:
                look_at = self.now.mono + 0.05
                tick = self.detector.tick(self.now)
                found = [self.detector.evaluate_suspect(each.svc, None, self.now) for each in tick.suspects]
                self.misses += [each.svc for each in found if each is not None]
            if not self.queue:
                self.spend(EVERY_SEC / len(SERVICES))
                continue
            if isinstance(first := self.queue.popleft(), int):
                self.detector.take_canary(BUS, first, self.now, self.worked_sec)
                continue
            svc = first[first.index(b"svc0") :][:6].decode()
            self.detector.take_messages(BUS, [[b"message", f"{svc}:heartbeat".encode(), first]], self.now)
            cost_sec = FAMILIAR_SEC if self.detector.services[svc].is_unparsed else PARSED_SEC
            self.worked_sec += cost_sec
            self.spend(cost_sec)


def test_an_overload_at_the_start_ends_by_itself():
    overload = Overload()
    overload.run(15)
    assert overload.misses == []
    assert len(overload.queue) < 10, "it has caught up"
    assert overload.clock.gaps == 0
    assert all(each.state is State.UP for each in overload.detector.services.values())


def test_an_overload_after_a_gap_ends_by_itself_and_a_death_in_it_is_found():
    overload = Overload()
    overload.run(15)
    overload.open_session()  # the next payload of every service is parsed
    overload.dead = {"svc007"}
    overload.run(12)
    assert overload.detector.buses[BUS].is_poorly_heard
    overload.run(20)
    assert overload.misses == ["svc007"]
    assert len(overload.queue) < 10
    assert overload.clock.gaps == 1, "the new session"
    assert not overload.detector.buses[BUS].is_poorly_heard
