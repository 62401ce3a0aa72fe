"""A small world in simulated time: buses, services, and what each of them really did. The ground truth.

Buses deliver in order on a session and can be late, frozen, gone or half-open; services beat, hang, die,
say goodbye and come back. Whoever listens is in `healer.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from marketswarm.beat import Beat, Status, compute_beat_age_sec, compute_life_sec, encode_beat, parse_beat
from marketswarm.detector import LastBeat
from marketswarm.truth import Watch

WALL = 1_762_433_458.0


@dataclass
class Session:
    """A subscriber's connection: what is on its way to it, in order."""

    channels: set[str]
    flight: list[tuple[float, str, bytes]] = field(default_factory=list)
    muted: bool = False  # half-open: bytes vanish
    lost_channels: set[str] = field(default_factory=set)  # the server does not know of these subscriptions

    def carry(self, at: float, channel: str, payload: bytes) -> None:
        if channel in self.channels and channel not in self.lost_channels and not self.muted:
            last = self.flight[-1][0] if self.flight else at
            self.flight.append((max(at, last), channel, payload))


@dataclass
class Key:
    """`beat:<svc>`: the payload, when the beat was that set its time to live, and that time."""

    payload: bytes
    beat_at: float
    life_sec: float


class Bus:
    """One server. `take` is whatever a client asks of it."""

    def __init__(self) -> None:
        self.up = True
        self.frozen = False
        self.latency = 0.002
        self.session: Session | None = None
        self.keys: dict[str, Key] = {}
        self._frozen: list[Callable[[float], None]] = []

    @property
    def answers(self) -> bool:
        return self.up and not self.frozen

    def take(self, ask: Callable[[float], None], now: float) -> None:
        if self.frozen:
            self._frozen.append(ask)
        elif self.up:
            ask(now)

    def thaw(self, now: float) -> None:
        self.frozen, asked, self._frozen = False, self._frozen, []
        for ask in asked:
            ask(now)

    def stop(self) -> None:
        self.up, self.frozen, self.session, self._frozen = False, False, None, []

    def publish(self, channel: str, payload: bytes, now: float) -> None:
        if self.session is not None:
            self.session.carry(now + self.latency, channel, payload)

    def word_of(self, svc: str, timeout_sec: float, now: float) -> LastBeat | None:
        """What the second witness says: read by the watcher's timeout, written by the service's own."""
        key = self.keys.get(svc)
        if key is None or now >= key.beat_at + key.life_sec:
            return None
        left_ms = 1000 * (key.beat_at + key.life_sec - now)
        beat = parse_beat(key.payload, svc)
        assert not hasattr(beat, "reason")
        return LastBeat(beat, compute_beat_age_sec(timeout_sec, left_ms, beat))


@dataclass
class Service:
    """One service. Without `modern` it is the reference's shell script: no boot, no key, no goodbye."""

    watch: Watch
    modern: bool
    running: bool = True
    next_at: float = 0.0
    boot: int = 1
    i: int = 0
    lived_at: float = float("-inf")  # when its last beat reached its bus
    stopped: bool = False  # the last that it sent was a goodbye
    fresh: bool = False  # which gave its key a whole life again
    sent: list[bytes] = field(default_factory=list)
    started: dict[str, float] = field(default_factory=lambda: {"boot-1": 0.0})
    # when it beat, whether its bus took that or not, and when it meant to again
    tried: list[tuple[float, float]] = field(default_factory=list)
    life_sec: float | None = None  # that of its key

    @property
    def svc(self) -> str:
        return self.watch.svc

    def start(self, now: float) -> None:
        self.boot, self.i, self.running, self.next_at = self.boot + 1, 0, True, now
        self.started[f"boot-{self.boot}"] = now

    def beat(self, bus: Bus, now: float, status: Status = "ok", *, fresh: bool = False) -> None:
        """Sends a beat. `fresh`: a goodbye gives its key a whole life again, as other people's clients do."""
        self.i += 1
        self.stopped, self.fresh = status == "stopping", fresh
        self.tried += [(now, self.watch.interval_sec)] if status == "ok" else []
        boot = f"boot-{self.boot}" if self.modern else None
        if self.modern and status == "ok":
            self.life_sec = compute_life_sec(self.watch.timeout_sec)
        payload = encode_beat(
            Beat(self.svc, self.i, WALL + now, boot=boot, status=status, life=self.life_sec)
        )
        if self.modern and status == "ok":
            self.sent.append(payload)
        watch = self.watch

        def arrive(at: float) -> None:
            bus.publish(watch.channel, payload, at)
            if status == "ok":
                self.lived_at = at
            if self.modern and status == "ok":
                bus.keys[self.svc] = Key(payload, at, 2 * watch.timeout_sec)
            elif self.modern and (key := bus.keys.get(self.svc)) is not None:
                key.payload = payload
                key.beat_at = at if fresh else key.beat_at

        bus.take(arrive, now)
        self.next_at = now + watch.interval_sec
