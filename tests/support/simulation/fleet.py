"""A fleet in the small world, its healer coming and going, and the claims held against what really happened.

Whatever the machine of `test_detector_machine.py` does to it:

- no service is missed that was not silent for its timeout (a warm-up, where the listener or the truth has
  just changed), by the world's own time;
- none stays unmissed for longer than a timeout and a warm-up of listening, however many runs those fell into;
- misses and oks are told in turn;
- what is told of a gap was so: the service began anew since its last beat before it, or left as much silence,
  and each beginning anew is told once at most.
"""

from dataclasses import replace
from itertools import pairwise

from marketswarm.beat import parse_beat
from marketswarm.detector import Publication, State, Subject, Verdict
from marketswarm.detector.rule import compute_warm_up_sec
from marketswarm.truth import Watch
from support.simulation.healer import BUS_TIMEOUT_SEC, HOME, Canaries, Disk, Healer
from support.simulation.world import WALL, Bus, Service

SLACK_SEC = 3.5
"""What a beat heard by the running clock may be ahead of the proven one, and then some."""


class Fleet:
    """Moved by `run`; everything else breaks or mends something."""

    def __init__(self, *services: tuple[Watch, bool]) -> None:
        self.t = 0.0
        self.buses = {"x": Bus(), "y": Bus()}
        self.services = {watch.svc: Service(watch, modern) for watch, modern in services}
        self.watched = {watch.svc: watch for watch, _ in services}
        self.disk = Disk({}, {}, {}, {})
        self.healer: Healer | None = None
        self.gaps: dict[str, Verdict] = {}
        self.ledger: list[tuple[float, Verdict]] = []
        self.heard_at: dict[str, float] = {}
        self.changed_at: dict[str, float] = dict.fromkeys(self.watched, 0.0)
        self.shortened_at: dict[str, float] = {}
        self.started_at: list[float] = []
        self.owed: dict[str, float] = {}
        self.owed_saved: dict[str, float] = {}
        self._last: dict[str, tuple[float | None, float]] = {}
        self._proven: dict[str, float] = {}
        self._mute_at: dict[str, float] = {}
        self.start_healer()

    # -- time

    def run(self, sec: float) -> None:
        until = self.t + sec
        while True:
            nexts = [(each.next_at, svc) for svc, each in self.services.items() if each.running]
            at, svc = min(nexts, default=(until + 1, ""))
            things = self.healer.next() if self.healer is not None else None
            if things is not None and things[0] <= min(at, until):
                self.t = max(self.t, things[0])
                self.healer.do(self.t, *things[1:])
                self.after(things[1:] == ("rest", ""))
            elif at <= until:
                self.t = max(self.t, at)
                service = self.services[svc]
                service.beat(self.buses[service.watch.bus], self.t)
            else:
                self.t = until
                break
        if self.healer is not None:
            self.healer.everyone_is_filed_once()
            self.nobody_is_forgotten()

    def after(self, remembered: bool) -> None:
        """What follows from one step of the healer."""
        healer = self.healer
        for svc, line in healer.naive.lines.items():
            clock = healer.naive.clocks[line.watch.bus]
            now_proven = clock.proven
            known = (line.last, line.enter)
            if not remembered and self._last.get(svc, known) != known:
                self.heard_at[svc] = self.t
                self.owed[svc] = 0.0
            self._last[svc] = known
            self.owed[svc] = self.owed.get(svc, 0.0) + now_proven - self._proven.get(svc, now_proven)
            self._proven[svc] = now_proven
            if line.state == "down":
                self.owed[svc] = 0.0  # what is told is owed no more
        if remembered and not healer.detector.is_restoring and self.buses[HOME].answers:
            self.owed_saved = dict(self.owed)
        concluded, healer.concluded = healer.concluded, []
        for at, verdict in concluded:
            self.is_true(at, verdict)
        if self.buses[HOME].answers:
            self.tell()

    # -- the claims

    def is_true(self, at: float, verdict: Verdict) -> None:
        begun = verdict.since if verdict.down_since is None else verdict.down_since
        if verdict.down_sec is not None and begun is not None:
            assert abs(verdict.ts - (verdict.age_sec or 0.0) - begun - verdict.down_sec) < 0.01
        if verdict.subject is Subject.REACH:
            heard = [each for name, each in self.healer.heard_at.items() if each < at]
            assert verdict.gap_sec >= BUS_TIMEOUT_SEC, f"nothing to speak of: {verdict}"
            assert not heard or at - max(heard) >= BUS_TIMEOUT_SEC - 1e-6, f"a bus was heard: {verdict}"
        elif verdict.gap_sec is not None:
            self.is_true_of_gap(verdict)
        if verdict.state is not State.DOWN:
            return
        if (
            verdict.subject == "bus"
            and verdict.reason == "deaf"
            and verdict.late_sec >= 2 * BUS_TIMEOUT_SEC - 1e-6
        ):
            proven = self.healer.proven[verdict.svc]
            begun = next(listened for then, listened in proven if then >= at - verdict.late_sec - 1e-6)
            assert proven[-1][1] - begun <= verdict.late_sec / 2, f"it was heard: {verdict}"
            return
        if verdict.subject == "bus":
            assert at - self.healer.heard_at[verdict.svc] >= BUS_TIMEOUT_SEC - 1e-6
            return
        service, watch = self.services[verdict.svc], self.watched[verdict.svc]
        timeout, warm = watch.timeout_sec, compute_warm_up_sec(watch.interval_sec, watch.timeout_sec)
        changes = [self.changed_at[verdict.svc]]
        lived_at = service.lived_at
        if not service.modern:  # it leaves no key: all that anyone can know is what was heard
            changes += self.started_at
            lived_at = self.heard_at.get(verdict.svc, float("-inf"))
        elif service.stopped:  # a goodbye that a healer finds at its start begins no silence anew
            changes += self.started_at
            if service.fresh:  # its key does not show when the life before it was
                lived_at = min(lived_at, self.heard_at.get(verdict.svc, lived_at))
        lately = sum(at - each < 2 * timeout + warm for each in changes)
        # beats that always fall between two runs, or after the last saving of each, are known to nobody
        need = timeout if lately == 0 else warm if lately == 1 or service.modern else 0.0
        shorter_at = self.shortened_at.get(verdict.svc, float("-inf"))
        assert at - shorter_at >= warm - SLACK_SEC, f"{verdict.svc} was given no warm-up by its new timeout"
        assert at - lived_at >= need - 1e-6, (
            f"a false miss of {verdict.svc}: {at - lived_at} s after its last beat"
        )

    def is_true_of_gap(self, verdict: Verdict) -> None:
        service = self.services[verdict.svc]
        assert service.modern, f"nobody can tell of {verdict}"
        since = verdict.since - WALL
        if verdict.restarted:
            assert service.started[verdict.boot] >= since - 1.5, f"that beginning was known: {verdict}"
        else:
            assert verdict.gap_sec >= self.watched[verdict.svc].timeout_sec
        # a beat may take its time to be heard, and the last one before the gap is as old as its note
        tried = [each for each in service.tried if each[0] >= since - 1.5]
        silent = sum(max(0.0, later - at - every) for (at, every), (later, _) in pairwise(tried))
        most = silent + self.watched[verdict.svc].interval_sec + 1.3
        assert verdict.gap_sec <= most, f"it was silent for {silent} s: {verdict}"

    def nobody_is_forgotten(self) -> None:
        for name, bus in self.buses.items():
            if not bus.answers:
                self._mute_at[name] = self.t
        for svc, line in self.healer.naive.lines.items():
            watch = line.watch
            # nothing is concluded before the restore, nor without a word of the witness, who takes his time
            if self.t - max(self.healer.recalled_at, self._mute_at.get(watch.bus, 0.0)) < 1.5:
                continue
            most = watch.timeout_sec + compute_warm_up_sec(watch.interval_sec, watch.timeout_sec) + SLACK_SEC
            silent = self.owed[svc] > most
            assert line.state == "down" or not silent, f"{svc} is silent for {self.owed[svc]} s of listening"

    def tell(self) -> None:
        """What publish.lua does."""
        outbox, self.healer.outbox = self.healer.outbox, []
        for verdict in outbox:
            if verdict.subject is Subject.REACH:
                continue
            field = f"bus:{verdict.svc}" if verdict.subject == "bus" else verdict.svc
            stored = self.disk.roster.get(field, {}).get("verdict")
            if verdict.gap_sec is not None:
                self.tell_of_gap(verdict)
                continue
            if (stored or ("up" if verdict.subject == "bus" else "unknown")) == verdict.state:
                continue
            if verdict.state is State.UNWATCHED:
                self.disk.roster.pop(field, None)
            else:
                entry = {"verdict": str(verdict.state), "since": verdict.since, "ts": verdict.ts}
                entry |= {"boot": verdict.boot, "i": verdict.i, "reason": verdict.reason}
                self.disk.roster[field] = {key: value for key, value in entry.items() if value is not None}
            if verdict.publication is Publication.ALERT:
                told = [
                    each
                    for _, each in self.ledger
                    if (each.svc, each.subject) == (verdict.svc, verdict.subject)
                ]
                open_miss = bool(told) and told[-1].state is State.DOWN
                assert open_miss is (verdict.state is not State.DOWN), f"out of turn: {told[-1:]}, {verdict}"
                self.ledger.append((self.t, verdict))

    def tell_of_gap(self, verdict: Verdict) -> None:
        entry = self.disk.roster[verdict.svc]
        assert entry["verdict"] == "up", f"a word on who is down: {verdict}"
        if entry.get("mark") != verdict.event_id:
            assert verdict.event_id not in self.gaps, f"told twice: {verdict}"
            self.gaps[verdict.event_id] = verdict
            told = sum(each.svc == verdict.svc and each.restarted for each in self.gaps.values())
            assert told < self.services[verdict.svc].boot, f"more restarts than there were: {verdict}"
            self.disk.roster[verdict.svc] = {**entry, "mark": verdict.event_id}

    # -- what is done to it

    def start_healer(self) -> None:
        self.started_at.append(self.t)
        self._last, self._proven = {}, {}
        self.healer = Healer(self.buses, self.disk, list(self.watched.values()), self.t)

    def kill_healer(self) -> None:
        self.healer = None
        self.owed = dict(self.owed_saved)
        for bus in self.buses.values():
            bus.session = None

    def restart_healer(self, away: float) -> None:
        self.kill_healer()
        self.run(away)
        self.start_healer()

    def stall(self, sec: float, order: list[str]) -> None:
        self.healer.asleep_until = self.t + sec
        self.healer.order = order

    def reseed(self) -> None:
        if self.healer is not None:
            self.healer.rewatch(list(self.watched.values()), self.t)
            self._last, self._proven = {}, {}
            self.after(remembered=False)

    def change(self, svc: str, **what: object) -> None:
        """Another interval, timeout or bus, for the service and for whoever watches it."""
        if self.services[svc].watch.timeout_sec > what.get("timeout_sec", float("inf")):
            self.shortened_at[svc] = self.t
        self.services[svc].watch = replace(self.services[svc].watch, **what)
        if svc in self.watched:
            self.watched[svc] = self.services[svc].watch
            self._begin_again(svc)
            self.reseed()

    def drop(self, svc: str) -> None:
        if self.watched.pop(svc, None) is not None:
            self._begin_again(svc)
            self.reseed()

    def add(self, svc: str) -> None:
        if svc not in self.watched:
            self.watched[svc] = self.services[svc].watch
            self._begin_again(svc)
            self.reseed()

    def _begin_again(self, svc: str) -> None:
        self.changed_at[svc] = self.t
        self.owed[svc] = self.owed_saved[svc] = 0.0

    def replay(self, svc: str, back: int) -> None:
        """An old payload once more, if this run of the healer can know it for one."""
        service = self.services[svc]
        if self.healer is None or svc not in self.healer.naive.lines or not service.sent:
            return
        payload = service.sent[-1 - back % len(service.sent)]
        boots = dict(self.healer.naive.lines[svc].boots)
        beat = parse_beat(payload, svc)
        if boots.get(beat.boot, -1) >= beat.i:
            bus = self.buses[service.watch.bus]
            bus.take(lambda at: bus.publish(service.watch.channel, payload, at), self.t)

    def junk(self, svc: str, payload: bytes) -> None:
        service = self.services[svc]
        bus = self.buses[service.watch.bus]
        bus.take(lambda at: bus.publish(service.watch.channel, payload, at), self.t)

    def lose_canary(self, name: str) -> None:
        session = self.buses[name].session
        if session is not None:
            session.flight = [each for each in session.flight if each[1] != "canary"]

    def cut(self, name: str) -> None:
        if self.healer is not None and self.buses[name].session is not None:
            self.healer.lost(name, "refused")

    def replace_listener(self, name: str) -> None:
        """It is cancelled and says nothing; another one begins, whose canaries count anew."""
        if self.healer is not None:
            self.buses[name].session = None
            self.healer.open_at[name] = self.t + 0.05
            self.healer.canaries[name] = Canaries(self.t)

    def stop_bus(self, name: str) -> None:
        self.cut(name)
        self.buses[name].stop()
