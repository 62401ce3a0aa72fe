"""Stories of the notifier's router: what befalls a fleet in hours, told and judged in a fraction of a second.

All in a story follows from its seed. The router is the product's own; kill -9 leaves it what was stored, and
the entries of the logs that were not acknowledged are read again. `notification_oracle.py` judges every
message, and every moment between them. A failure names its seed, what happened in the story, and the call
that repeats it.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from marketswarm.event import Event, Kind, encode_event
from notifier.router.grouping import DueMessage
from notifier.router.healing import MedicState
from notifier.router.incident import find_key
from notifier.router.incident_state import IncidentState, find_state
from notifier.router.router import LogPosition
from support.simulation.notification_oracle import Mute, NotificationOracle, OracleError
from support.simulation.router import Town

STEPS: Final = 36
BUSES: Final = ("system-redis", "market-redis")
BUS: Final = "market-redis"
TARGETS: Final = ("massive/shop", "massive/gw")
SERVICES: Final = ("a", "b", "c", "d", "e")
CHANNELS: Final = ("ops", "pager")
MACHINES: Final = ("db1", "db1", "web1")
FIRST_WITH_LOST_MACHINES: Final = 730_000
"""From this seed on, machines die: an older seed that was red once tells the same story for ever."""
ROUTES: Final = (
    (),
    ({"severities": ["critical"], "channels": ["pager"]}, {"channels": ["ops"]}),
    ({"services": ["a", "massive/*"], "channels": ["ops"]},),
)
CAUSES: Final[Sequence[Mapping[str, tuple[str, ...]]]] = (
    {"b": ("a",), "c": ("b",), "massive/shop": ("massive/gw",)},
    {"c": ("a", "b"), "e": ("d",), "massive/shop": ("a",), "massive/gw": ("massive/shop",)},
    {},
)
SILENCED: Final = (("a",), ("[abc]",), ("*",), ("massive/*",), ("bus:*",), ())
REPAIRS: Final = ("waiting", "intended", "settling", "stabilizing", "open", "escalated")
VERDICTS: Final = ("pending", "verified", "failed", "relapsed")
WAITS: Final = (0.0, 0.1, 0.3, 1.0, 5.0, 20.0, 31.0, 100.0, 400.0)
REMIND_SEC: Final = (900.0, 3600.0)
HOUR, DAY = 3600.0, 86_400.0


@dataclass(slots=True)
class Entry:
    """An entry of a log: which event it holds, and where it is."""

    event: Event
    raw: bytes
    position: LogPosition


class Story(Town):
    """`Story(seed).play()`; raises OracleError with the story so far."""

    def __init__(self, seed: int) -> None:
        self.seed, self.dice = seed, random.Random(seed)
        dice = self.dice
        self.causes = dice.choice(CAUSES)
        self.sections: dict[str, dict[str, Any]] = {
            svc: {"tags": dice.choice(([], ["ingest"])), "severity": dice.choice(("warning", "critical"))}
            for svc in (*SERVICES, *TARGETS)
        }
        self.sections["a"]["severity"] = "warning"
        self.has_medic = dice.random() < 0.4
        self.settings: dict[str, Any] = {
            "group_wait_sec": dice.choice((0.0, 2.0, 5.0)),
            "rate_limit_sec": dice.choice((0.0, 60.0, 300.0)),
            "routes": dice.choice(ROUTES),
            "escalate": [{"after_sec": 600, "channels": ["pager"]}],
            "remind_sec": REMIND_SEC,
            "digest_sec": 600.0,
        }
        self.tale: list[str] = []
        self.mono = 0.0
        self.skew_sec = 0.0  # of the healer's clock
        self.is_down: dict[str, bool] = {}
        self.unread: list[Entry] = []
        self.unacknowledged: list[Entry] = []
        self.used: set[str] = set()
        self.gaps_due: dict[str, float] = {}  # by the ids of the gaps that must be told, when they came
        self.written: list[Event] = []  # the changes
        self.undelivered: dict[str, str] = {}  # by key, a message that its receiver has not taken yet
        self.stalls_until = 0.0
        self.healed: set[str] = set()
        self.silence_mutes: list[Mute] = []  # one for each of `silences`
        self.is_running, self.dies = True, ""
        self.oracle = NotificationOracle(
            group_wait_sec=self.settings["group_wait_sec"],
            rate_limit_sec=self.settings["rate_limit_sec"],
            remind_sec=REMIND_SEC[0],
            channels=CHANNELS,
        )
        super().__init__(self._make_sections(), CHANNELS, **self.settings)
        self.now = datetime(2026, 3, 10, dice.randrange(20), 0, 5, tzinfo=UTC).timestamp()
        self.oracle.services = self._facts()
        # by dice of its own, so that a seed tells the story that it told before there were machines
        hosts = random.Random(f"machines of {seed}")
        named = hosts.random() < 0.7
        self.hosts = {svc: hosts.choice(MACHINES) for svc in SERVICES if named and hosts.random() < 0.8}
        self.oracle.hosts = self.hosts
        self.loses_machines = bool(self.hosts) and seed >= FIRST_WITH_LOST_MACHINES

    # -- the fleet

    def _facts(self) -> dict[str, dict[str, Any]]:
        return {
            svc: {**section, "depends_on": self.causes.get(svc, ())} for svc, section in self.sections.items()
        }

    def _make_sections(self) -> dict[str, dict[str, Any]]:
        facts = {
            svc: {**section, "depends_on": list(section["depends_on"])}
            for svc, section in self._facts().items()
        }
        targets = [
            {"name": svc.removeprefix("massive/"), "host": "h", "port": 1, **facts.pop(svc)}
            for svc in TARGETS
            if svc in facts
        ]
        medic = {"medic": {"settings": {"mode": "act"}}} if self.has_medic else {}
        return {**facts, "massive": {"settings": {"targets": targets}}, **medic}

    def _reseed(self, **settings: Any) -> None:
        self.settings.update(settings)
        other = Town(self._make_sections(), **self.settings)
        self.truth, self.policy = other.truth, other.policy
        self.oracle.services = self._facts()
        self.router.apply_policy(self.policy, self.truth)

    def change(self, svc: str, *, ts: float | None = None, is_left: bool = False) -> None:
        """A service goes down, or comes back: an event in the logs of both buses."""
        is_down = not self.is_down.get(svc, False)
        family = "probe" if svc in TARGETS else "bus" if svc == BUS else "heartbeat"
        kind = Kind.HEARTBEAT_UNWATCHED if is_left else Kind(f"{family}_{'miss' if is_down else 'ok'}")
        at = self.now + self.skew_sec if ts is None else ts
        while f"{kind}.{svc}.{round(at * 1000)}" in self.used:
            at += 0.001
        at = round(at, 3)
        if is_down:
            more = {"late_sec": 30.01, "timeout_sec": 30.0, "reason": "silent", "since": at - 30.01}
        else:
            more = {"down_sec": 1.0}
        if family == "heartbeat" and svc in self.hosts:
            host = self.hosts[svc]
            others = [each for each, at_home in self.hosts.items() if at_home == host and each != svc]
            up = sum(not self.is_down.get(each, False) for each in others)
            more |= {"host": host, "host_up": up} if is_down else {"host": host}
        event, raw = self.event(kind, svc, at, **more)
        self.used.add(event.id)
        self.is_down[svc] = is_down
        skew_sec = at - self.now
        self.oracle.change(find_key(event), svc, is_down=is_down, mono=self.mono, skew_sec=skew_sec)
        self._write(event, raw)
        self.written.append(event)

    def _write(self, event: Event, raw: bytes) -> None:
        self.entries += 1
        for bus in BUSES[: self.dice.choice((1, 2))]:
            position = LogPosition(bus, b"1762433458000-%d" % self.entries)
            self.unread.append(Entry(event, raw, position))

    # -- the notifier

    def turn(self) -> None:
        """One dispatch: events, messages, what is stored; killed before or after the store if it `dies`."""
        self.oracle.look(self.mono, self.now)
        if not self.is_running:
            return
        self._read_medic()
        entries, self.unread = self.unread, []
        decided: list[tuple[Event, str]] = []
        for each in entries:
            decision = self.router.handle_event(each.event, each.raw, self.now, position=each.position)
            decided.append((each.event, decision))
        self.unacknowledged += entries
        due = self._take_due()
        dies, self.dies = self.dies, ""
        if dies == "before":
            self.restart()
            return
        self._store_changes()
        for event, decision in decided:
            if find_key(event) in self.oracle.cases:
                self.oracle.decided(find_key(event), decision)
            if decision == "healed":
                self.healed.add(event.id)
        for each in due:
            self._tell(each)
        self.unacknowledged = [each for each in self.unacknowledged if self.router.is_pending(each.event.id)]
        self._look_at_states()
        if dies == "after":
            self.restart()

    def _take_due(self) -> list[DueMessage]:
        if self.mono >= self.stalls_until:
            self.undelivered.clear()
        due = self.router.take_due(self.now, self.undelivered.get)
        for each in self.router.take_defects():
            raise OracleError(f"a defect: {each.kind} {each.about} {each.error} {each.trace}")
        return due

    def _store_changes(self) -> None:
        for name, value in self.router.changes().items():
            if value is None:
                self.kept.pop(name, None)
            else:
                self.kept[name] = value

    def _tell(self, due: DueMessage) -> None:
        self.messages.append((self.now, due.message, due.channels))
        self.tale.append(f"  {self.mono:9.1f} -> {','.join(due.channels)}: {due.message.title}")
        self.oracle.hear(due.message, due.channels, self.mono)
        if self.mono < self.stalls_until:
            self.undelivered.update(dict.fromkeys(due.message.about, due.message.id))

    def _look_at_states(self) -> None:
        for incident in self.router.open_incidents():
            pending = self.router._pending.of(incident.key)  # noqa: SLF001 - the state that must never be
            if find_state(incident, pending) is IncidentState.LOST:
                raise OracleError(f"{incident.key} is down, and neither queued, nor told, nor held")

    def _turn(self) -> None:
        self.turn()

    def restart(self) -> None:
        """As after kill -9: what was not acknowledged is read again, before what nobody has read."""
        self.unread = self.unacknowledged + self.unread
        self.unacknowledged = []
        fields = sorted(self.kept.items())
        self.dice.shuffle(fields)  # the bus returns them in any order
        self.kept = dict(fields)
        super().restart()

    def wait(self, sec: float) -> None:
        """Let time pass: a turn where one is due, and looks in between where somebody waits for a message."""
        until = self.mono + sec
        self.turn()
        while self.mono < until:
            due = self.router.next_due() if self.is_running else None
            step = max(0.001, due - self.now) if due is not None else until - self.mono
            if self.oracle.needs_looks():
                step = min(step, 1.0)
            step = min(step, until - self.mono)
            self.mono, self.now = self.mono + step, self.now + step
            self.turn()

    # -- what befalls it

    def play(self, steps: int = STEPS) -> "Story":
        try:
            for _ in range(steps):
                happening = self._choose()
                self.tale.append(f"{self.mono:9.1f} {happening.__name__.removeprefix('_')}")
                happening()
            self._end()
        except AssertionError as error:
            told = "\n".join(self.tale)
            call = f"Story({self.seed}).play({steps})"
            raise OracleError(f"{error}\n  at {self.mono:.1f} in the story\n{told}\nagain: {call}") from error
        return self

    def _choose(self) -> Callable[[], None]:
        happenings = (
            (self._change_one, 8),
            (self._flap, 6),
            (self._flap_long, 2),
            (self._change_many, 3),
            (self._change_twice_at_once, 3),
            (self._silence, 3),
            (self._end_silence, 1),
            (self._open_window, 2),
            (self._close_channels, 2),
            (self._acknowledge, 2),
            (self._have_medic, 4 if self.has_medic else 0),
            (self._kill, 4),
            (self._reseed_causes, 2),
            (self._leave_or_return, 1),
            (self._gap, 1),
            (self._set_clock, 1),
            (self._only_wait, 2),
            (self._stall, 3),
            (self._write_again, 2),
            (self._lose_machine, 20 if self.loses_machines else 0),
        )
        named, weights = zip(*happenings, strict=True)
        return self.dice.choices(named, weights)[0]

    def _say(self, what: str) -> None:
        self.tale[-1] += f" {what}"

    def _any(self) -> str:
        return self.dice.choice((*self.sections, "a", "a", BUS))

    def _rest(self) -> None:
        sec = self.dice.choice(WAITS)
        self._say(f"then {sec} s")
        self.wait(sec)

    def _change_one(self) -> None:
        svc = self._any()
        self.change(svc)
        self._say(f"{svc} {'down' if self.is_down[svc] else 'up'}")
        self._rest()

    def _flap(self) -> None:
        svc, times, half_sec = self._any(), self.dice.randint(2, 13), self.dice.choice((0.5, 2.0, 20.0))
        self._say(f"{svc} {times} changes, {half_sec} s each")
        for _ in range(times):
            self.change(svc)
            self.wait(half_sec)
        self._rest()

    def _flap_long(self) -> None:
        svc, times, half_sec = self._any(), self.dice.randint(15, 40), self.dice.choice((20.0, 40.0))
        self._say(f"{svc} {times} changes, {half_sec} s each")
        for _ in range(times):
            self.change(svc)
            self.wait(half_sec)

    def _change_many(self) -> None:
        chosen = [svc for svc in (*self.sections, BUS) if self.dice.random() < 0.6]
        self.dice.shuffle(chosen)
        self._say(", ".join(f"{svc} {'up' if self.is_down.get(svc) else 'down'}" for svc in chosen))
        for svc in chosen:
            self.change(svc)
        self._rest()

    def _lose_machine(self) -> None:
        """All services of a machine that are up fall silent, and come back sooner or later, or in part."""
        host = self.dice.choice(sorted(set(self.hosts.values())))
        here = [svc for svc, at_home in self.hosts.items() if at_home == host and svc in self.sections]
        self._say(f"{host} with {', '.join(here)}")
        for is_down in (True, False):
            for svc in here:
                stays = not is_down and self.dice.random() < 0.2
                if self.is_down.get(svc, False) != is_down and not stays:
                    self.change(svc)
                    self.wait(self.dice.choice((0.0, 0.0, 0.1, 1.0)))
            self._rest()

    def _change_twice_at_once(self) -> None:
        """As `failed` and `ended` of a job before the next evaluation: one `ts`."""
        svc, at = self._any(), round(self.now + self.skew_sec, 3)
        self._say(svc)
        self.change(svc, ts=at)
        if self.dice.random() < 0.3:
            self.turn()
        self.change(svc, ts=at)
        self._rest()

    def _silence(self) -> None:
        patterns, sec = self.dice.choice(SILENCED), self.dice.choice((20.0, 120.0, 600.0, 1500.0))
        tags = () if patterns else ("ingest",)
        self._say(f"{patterns or tags} for {sec} s")
        self.be_silent(*patterns, sec=sec, tags=tags)
        self.silence_mutes.append(Mute(patterns, tags, self.now, self.now + sec))
        self._mute(self.silence_mutes[-1])
        self._rest()

    def _end_silence(self) -> None:
        for index, each in enumerate(self.silences):
            if each.is_active(self.now):
                self.silences[index] = each.end_at(self.now)
                self.silence_mutes[index].end = self.now
                break
        self.router.set_silences(self.silences)
        self._rest()

    def _open_window(self) -> None:
        begin = (self.now // 60 + self.dice.choice((1, 2, 5))) * 60
        sec, patterns = (
            self.dice.choice((60.0, 300.0, 900.0)),
            self.dice.choice((("a",), ("massive/*", "b"), ("*",), ("market-*",))),
        )
        at = datetime.fromtimestamp(begin, UTC)
        window = {
            "at": f"{at.minute} {at.hour} {at.day} {at.month} *",
            "for_sec": sec,
            "services": list(patterns),
        }
        self._say(f"{patterns} for {sec} s, in {begin - self.now:.0f} s")
        self.settings.setdefault("maintenance", []).append(window)
        self._mute(Mute(patterns, (), begin, begin + sec))
        self._reseed()
        self.wait(begin - self.now)
        self._rest()

    def _close_channels(self) -> None:
        self.open = self.dice.choice(((), (), ("ops",)))
        self._say(f"only {self.open} open")
        self._set_channels()
        for _ in range(self.dice.randint(0, 3)):
            svc = self._any()
            for _ in range(self.dice.choice((1, 2, 9))):
                self.change(svc)
                self.wait(self.dice.choice((0.5, 15.0)))
            self._say(f"{svc} {'down' if self.is_down[svc] else 'up'}")
        self._rest()
        self.open = CHANNELS
        self._set_channels()
        self._rest()

    def _set_channels(self) -> None:
        self.closed = tuple(each for each in CHANNELS if each not in self.open)
        self.router.set_channels(self.open, self.closed)
        self.oracle.look(self.mono, self.now)
        self.oracle.set_channels(self.open)
        self.oracle.look(self.mono, self.now)

    def _acknowledge(self) -> None:
        svc = self._any()
        self._say(svc)
        self.turn()
        self.router.acknowledge(svc, "ada")
        self.oracle.acknowledge(svc, self.mono)
        self.turn()
        self._rest()

    def _have_medic(self) -> None:
        if self.dice.random() < 0.4:
            is_leading = self.dice.random() < 0.7
            self.medic = MedicState(is_leading=is_leading)
            self.oracle.is_medic_leading = is_leading
            self._say("leads" if is_leading else "ends")
        else:
            svc = self._any()
            self.oracle.is_medic_leading = True
            if not self.is_down.get(svc):
                self.lead()
                self.change(svc)
                self.turn()
            state, verdict = self.dice.choice(REPAIRS), self.dice.choice(VERDICTS)
            self._say(f"{svc} {state} {verdict}")
            self.heal(svc, state, ("restart", self.now, verdict))
            if self.dice.random() < 0.5:
                self.wait(70.0)  # longer than a message may wait for a medic
        self._rest()

    def _kill(self) -> None:
        how = self.dice.choice(("before", "after", "away"))
        self._say(how)
        if how == "away":
            # what comes at this instant is read by none before the next notifier begins
            self.is_running = False
            self.oracle.go_away(self.mono)
        if self.dice.random() < 0.5:
            self._change_some()
        if how == "away":
            self.oracle.look(self.mono, self.now)
            for _ in range(self.dice.randint(0, 3)):
                self._change_some()
                self.wait(self.dice.choice((1.0, 40.0)))
            self.is_running = True
            # its clock was ahead until it was killed
            back_sec = self.dice.choice((0.0, 0.0, 5.0, HOUR))
            self.now -= back_sec
            self.oracle.go_on(self.mono, back_sec)
            self.restart()
        else:
            self.dies = how
        self._rest()

    def _change_some(self) -> None:
        svc = self._any()
        self.change(svc)
        self._say(f"{svc} {'down' if self.is_down[svc] else 'up'}")

    def _reseed_causes(self) -> None:
        self.causes = self.dice.choice(CAUSES)
        svc = self.dice.choice(tuple(self.sections))
        self.sections[svc]["severity"] = self.dice.choice(("warning", "critical", "info"))
        self._reseed(routes=self.dice.choice(ROUTES))
        self._say(f"{svc} {self.sections[svc]['severity']}, causes {dict(self.causes)}")
        self._rest()

    def _leave_or_return(self) -> None:
        """A service leaves the truth, which ends its outage; or it is there again."""
        if "e" in self.sections:
            if self.is_down.get("e"):
                self.change("e", is_left=True)
            self.left = self.sections.pop("e")
            self.causes = {
                svc: tuple(each for each in on if each != "e")
                for svc, on in self.causes.items()
                if svc != "e"
            }
        else:
            self.sections["e"] = self.left
        self._say("leaves" if "e" not in self.sections else "returns")
        self._reseed()
        self._rest()

    def _mute(self, mute: Mute) -> None:
        """Tell the oracle of a mute. A gap that waits for a channel when it begins is never told."""
        self.oracle.mutes.append(mute)
        sent = self._find_sent()
        self.gaps_due = {ident: at for ident, at in self.gaps_due.items() if ident in sent}

    def _find_sent(self) -> set[str]:
        return {orjson.loads(raw)["id"] for _, message, _ in self.messages for raw in message.events}

    def _gap(self) -> None:
        svc = self.dice.choice(SERVICES)
        at = round(self.now + self.skew_sec, 3)
        if f"gap.{svc}.{at}" in self.used:
            return
        self.used.add(f"gap.{svc}.{at}")
        event, raw = self.event(Kind.HEARTBEAT_GAP, svc, at, gap_sec=5.0)
        is_muted = any(each.may_be_active(self.now) for each in self.oracle.mutes) or self.dies
        if not is_muted:
            self.gaps_due[event.id] = self.now
        self._write(event, raw)
        self._rest()

    def _set_clock(self) -> None:
        """The notifier's clock jumps ahead, or the healer's is set back, and right again."""
        if self.dice.random() < 0.5:
            sec = self.dice.choice((5.0, 60.0, HOUR))
            self._say(f"the notifier's, by {sec} s")
            self.now += sec
            self.router.shift_times(sec)
        else:
            self.skew_sec = self.dice.choice((0.0, -5.0, -HOUR, 5.0, HOUR))
            self._say(f"the healer's is {self.skew_sec} s off")
        self._rest()

    def _stall(self) -> None:
        """A receiver takes nothing for a while: what follows about the same services is sent apart."""
        sec = self.dice.choice((30.0, 100.0, 400.0))
        self._say(f"for {sec} s")
        self.stalls_until = self.mono + sec
        self._rest()
        self._change_many()

    def _write_again(self) -> None:
        """A bus lost its last writes, and the healer writes them again, behind all others."""
        again = self.written[-self.dice.randint(1, 8) :]
        self._say(f"{len(again)} events")
        for event in again:
            self.entries += 1
            position = LogPosition(BUSES[0], b"1762433458000-%d" % self.entries)
            self.unread.append(Entry(event, encode_event(event), position))
        self._rest()

    def _only_wait(self) -> None:
        sec = self.dice.choice((100.0, 1000.0, 2000.0))
        self._say(f"{sec} s")
        self.wait(sec)

    def _end(self) -> None:
        """All comes to rest: who is down is told, then all come back, and nothing is left."""
        self.tale.append(f"{self.mono:9.1f} all rests")
        self.wait(2000.0)
        for svc, is_down in self.is_down.items():
            if is_down:
                self.change(svc)
        self.tale.append(f"{self.mono:9.1f} all come back")
        self.restart()
        self.wait(2500.0)
        left = [name for name in self.kept if name.startswith(("r:l:", "r:d:", "r:e:"))]
        assert not left, f"all is well, and there is still {left}"
        assert not self.unacknowledged, f"never acknowledged: {self.unacknowledged}"
        sent = self._find_sent()
        assert self.healed <= sent, f"healed, and in no digest: {self.healed - sent}"
        begins = [mute.begin for mute in self.oracle.mutes]
        unheard = {
            ident
            for ident, at in self.gaps_due.items()
            if ident not in sent and not any(at <= begin <= at + self.oracle.slack_sec for begin in begins)
        }
        assert not unheard, f"gaps that nobody heard of: {unheard}"
        threads: set[str] = set()
        for _, message, _ in self.messages:
            threads -= set(message.closes)
            threads |= {message.thread} if message.opens else set()
        assert not threads, f"threads that nobody closes: {threads}"


def play(first: int, count: int) -> int:
    """Play stories of so many seeds from `first` on; return how many messages there were."""
    return sum(len(Story(seed).play().messages) for seed in range(first, first + count))
