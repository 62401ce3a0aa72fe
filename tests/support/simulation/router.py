"""A router in a small town: services that go down and come back, a clock moved by hand, all that is said."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from marketswarm.channels import Message
from marketswarm.event import Event, Kind, encode_event, make_event_id
from marketswarm.operator.silences import Silence
from marketswarm.truth import Truth, parse_truth
from notifier.router.healing import MedicState, StoredRepair
from notifier.router.incident import Decision, Incident
from notifier.router.policy import Policy
from notifier.router.router import LogPosition, Router

TIMEOUT_SEC = 30.0
STEP_SEC = 0.05


def truth_of(services: Mapping[str, Mapping[str, Any]], fleet: str | None = None) -> Truth:
    sections = {"healer": {"threshold": {"heartbeat_cadence": TIMEOUT_SEC}}, **services}
    named = {} if fleet is None else {"fleet": fleet}
    return parse_truth(orjson.dumps({**named, "services": sections})).truth


class Town:
    """`town.down("a"); town.run(5); town.said()`."""

    def __init__(
        self,
        services: Mapping[str, Mapping[str, Any]] | Sequence[str] = ("a", "b", "c"),
        channels: Sequence[str] = ("one",),
        incidents: dict[str, Incident] | None = None,
        fleet: str | None = None,
        **policy: Any,
    ) -> None:
        named = services if isinstance(services, Mapping) else {svc: {} for svc in services}
        self.truth, self.policy, self.open = truth_of(named, fleet), Policy(**policy), tuple(channels)
        self.closed: tuple[str, ...] = ()  # channels that can't be opened
        self.silences: list[Silence] = []
        self.medic = MedicState()
        self.now = 1_762_433_458.0
        self.kept: dict[str, bytes] = {}
        self.messages: list[tuple[float, Message, tuple[str, ...]]] = []
        self.lost: dict[str, float] = {}
        self.entries = 0
        self.router = self._new(incidents)

    def _new(self, incidents: dict[str, Incident] | None = None) -> Router:
        router = Router(incidents)
        router.restore(self.kept, self.now)
        router.apply_policy(self.policy, self.truth)
        router.set_channels(self.open, self.closed)
        router.set_silences(self.silences)
        return router

    def restart(self) -> None:
        """As after kill -9: nothing is left but what was kept."""
        self.router = self._new()

    def be_silent(self, *services: str, sec: float, tags: Sequence[str] = ()) -> None:
        self.silences.append(
            Silence(
                id=f"s{len(self.silences)}",
                starts_at=self.now,
                ends_at=self.now + sec,
                author="ada",
                reason="work",
                changed_at=self.now,
                services=tuple(services),
                tags=tuple(tags),
            )
        )
        self.router.set_silences(self.silences)

    def heal(
        self, svc: str, state: str, *attempts: tuple[str, float, str], refusal: str | None = None
    ) -> None:
        """The medic that leads stores a repair, with attempts as (remedy, at, verdict)."""
        tried = [{"remedy": name, "at": at, "verdict": verdict} for name, at, verdict in attempts]
        raw = {"svc": svc, "state": state, "attempts": tried, "refusal": refusal, "incident": f"{svc}.1"}
        repair = StoredRepair.parse(orjson.dumps(raw))
        assert repair is not None
        self.medic = MedicState(is_leading=True, repairs={**self.medic.repairs, svc: repair})
        self._turn()

    def lead(self, is_leading: bool = True) -> None:
        """A medic takes the lease, or it ends."""
        self.medic = replace(self.medic, is_leading=is_leading)
        self._turn()

    def _read_medic(self) -> None:
        self.router.set_medic(replace(self.medic, read_at=self.now), self.now)

    # -- what happens

    def event(self, kind: Kind, svc: str, ts: float | None = None, **more: Any) -> tuple[Event, bytes]:
        at = self.now if ts is None else ts
        event = Event(kind, svc, at, make_event_id(kind, svc, at), "healer", **more)
        return event, encode_event(event)

    def take(self, event: Event, raw: bytes, position: LogPosition | None = None, **how: Any) -> Decision:
        """Takes the event from a new entry of the log on system-redis, or from elsewhere."""
        self.entries += position is None
        self._read_medic()
        at = position or LogPosition("system-redis", b"1762433458000-%d" % self.entries)
        reason = self.router.handle_event(event, raw, self.now, position=at, **how)
        self._turn()
        return reason

    def down(
        self,
        svc: str,
        kind: Kind = Kind.HEARTBEAT_MISS,
        ts: float | None = None,
        *,
        severity: str | None = None,
        host: str | None = None,
        host_up: int | None = None,
        **how: Any,
    ) -> Decision:
        """A miss; `host_up` is how many others that beat from `host` are up, as the healer counts them."""
        at = self.now if ts is None else ts
        self.lost[svc] = at
        timeout_sec = TIMEOUT_SEC if kind is Kind.HEARTBEAT_MISS else None
        facts = {"late_sec": 30.01, "timeout_sec": timeout_sec, "reason": "silent", "since": at - 30.01}
        event, raw = self.event(kind, svc, at, severity=severity, host=host, host_up=host_up, **facts)
        return self.take(event, raw, **how)

    def up(
        self, svc: str, kind: Kind = Kind.HEARTBEAT_OK, ts: float | None = None, *, host: str | None = None
    ) -> Decision:
        at = self.now if ts is None else ts
        down_sec = at - self.lost.get(svc, at) + 30.01
        event, raw = self.event(kind, svc, at, age_sec=0.0, down_sec=down_sec, host=host)
        return self.take(event, raw)

    def flap(self, svc: str, times: int, down_sec: float, up_sec: float) -> None:
        """Goes down and comes back again and again."""
        for _ in range(times):
            self.down(svc)
            self.run(down_sec)
            self.up(svc)
            self.run(up_sec)

    def run(self, sec: float) -> list[Message]:
        """Lets time pass; what was said meanwhile."""
        before = len(self.messages)
        until = self.now + sec
        while self.now < until:
            due = self.router.next_due()
            self.now = min(until, max(self.now + 0.001, due if due is not None else until))
            self._turn()
        return [message for _, message, _ in self.messages[before:]]

    def _turn(self) -> None:
        self._read_medic()
        for due in self.router.take_due(self.now):
            self.messages.append((self.now, due.message, due.channels))
        for name, value in self.router.changes().items():
            if value is None:
                del self.kept[name]
            else:
                self.kept[name] = value

    # -- what was said

    def titles(self, channel: str | None = None) -> list[str]:
        return [
            message.title for _, message, channels in self.messages if channel is None or channel in channels
        ]

    def last(self) -> Message:
        return self.messages[-1][1]
