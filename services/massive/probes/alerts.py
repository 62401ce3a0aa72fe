"""Store the state of every target on the bus of the alerts, and publish the events when it changes.

The state and the events are written in one step on the server: a process that is killed in between has
written both or neither. A bus that takes nothing is tried again while the results wait in order. The healer
reads the events and brings them to people.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.bus.scripts import Script
from marketswarm.bus.stored_values import is_wrong_type, replace_wrong_types, report_unusable
from marketswarm.event import Event, Kind, encode
from marketswarm.keys import MASSIVE_ALERTS, MASSIVE_ROSTER
from marketswarm.net.retry import Backoff
from services.massive.probes.state import (
    NOTHING,
    Backlog,
    Named,
    Patience,
    ProbeOutcome,
    TargetState,
    apply_outcome,
    close_outage,
    parse_state,
)

ALERTS_LENGTH: Final = 100_000
AT_ONCE: Final = 200
BACKOFF: Final = Backoff(first_sec=0.1, longest_sec=1.0)
SOMEBODY_WAS_HERE: Final = 0

_REMEMBER: Final = Script.beside("services.massive.probes", "save_states.lua")

log = logs.get("massive")


class AlertPublisher:
    """The states of all targets, and the results that are not in them yet.

    Args:
        place: returns the bus of the alerts as it is now. May raise BusError.
        boot: the id of this process.
    """

    def __init__(self, place: Callable[[], Bus], boot: str) -> None:
        self._place, self._boot = place, boot
        self._watched: dict[str, Patience] | None = None
        self._backlog = Backlog(whole=1)
        self._count = 0
        self._sweep_due = False
        self._filled = asyncio.Event()
        self.known: dict[str, TargetState] = {}
        self.told = {"miss": 0, "ok": 0, "unwatched": 0}
        self.refusal: str | None = None  # why the bus takes nothing, while it takes nothing

    def follow(self, watched: Mapping[str, Patience]) -> None:
        """Follow these targets from now on; an open outage of any other target is closed."""
        if watched == self._watched:
            return
        for name in (self._watched or {}).keys() - watched.keys():
            self._backlog.forget(name)
            self.known.pop(name, None)
        self._watched = dict(watched)
        self._backlog.whole = max(
            (max(each.down_after, each.up_after) for each in watched.values()), default=1
        )
        self._sweep_due = True
        self._filled.set()

    def put(self, name: str, ts: float, error: str | None) -> None:
        """Add a result; `ts` is in epoch seconds."""
        if self._patience(name) is not None:
            self._count += 1
            self._backlog.put(name, ProbeOutcome(self._boot, self._count, ts, error))
            self._filled.set()

    def waiting(self) -> int:
        """Return how many results the bus has not taken yet."""
        return len(self._backlog)

    async def run(self) -> None:
        """Store states and publish events until cancelled."""
        failures = 0
        while True:
            await self._filled.wait()
            try:
                await self._work_off()
            except BusError as error:
                await self._replace_wrong_types(error)
                if self.refusal != error.reason:
                    log.warning("outlook.waiting", bus=error.bus, reason=error.reason, waiting=self.waiting())
                self.refusal = error.reason
                failures += 1
                await asyncio.sleep(BACKOFF.pause_sec(failures))
            else:
                failures, self.refusal = 0, None

    async def _replace_wrong_types(self, error: BusError) -> None:
        """Remove what someone else put under our keys, if its type keeps us from writing."""
        if is_wrong_type(error):
            with contextlib.suppress(BusError):
                await replace_wrong_types(self._place(), {MASSIVE_ROSTER: "hash", MASSIVE_ALERTS: "stream"})

    async def _work_off(self) -> None:
        bus = self._place()
        if self._sweep_due:
            self._sweep_due = False
            try:
                await self._sweep(bus)
            except BusError:
                self._sweep_due = True
                raise
        some = self._backlog.first(AT_ONCE)
        if some:
            await self._take(bus, some)
        if not self._backlog and not self._sweep_due:
            self._filled.clear()

    async def _take(self, bus: Bus, some: list[Named]) -> None:
        """Apply results to the stored states."""
        names = list(dict.fromkeys(name for name, _sight in some))
        stored = await bus.ask(bus.client.hmget(MASSIVE_ROSTER, names))
        before = dict(zip(names, stored, strict=True))
        known = {name: _read(bus, name, raw) for name, raw in before.items()}
        after = dict(known)
        events: list[Event] = []
        for name, sight in some:
            patience = self._patience(name)
            if patience is not None:
                after[name], event = apply_outcome(name, after[name], sight, patience)
                events += [] if event is None else [event]
        changed = {name: state.encode() for name, state in after.items() if state != known[name]}
        if not changed or await self._kept(bus, before, changed, events):
            self._backlog.done(some)
            self.known |= {name: state for name, state in after.items() if self._patience(name)}

    async def _sweep(self, bus: Bus) -> None:
        """Close the open outages of targets that are no longer probed, or that are no alert any more."""
        watched = self._watched or {}
        stored = await bus.ask(bus.client.hgetall(MASSIVE_ROSTER))
        before = {name: raw for field, raw in stored.items() if (name := _text(field)) is not None}
        for _ in range(len(stored) - len(before)):
            report_unusable(bus.name, MASSIVE_ROSTER)
        known = {name: _read(bus, name, raw) for name, raw in before.items()}
        gone = known.keys() - watched.keys()
        silent = {name for name, patience in watched.items() if not patience.tells}
        quiet = {name for name in known.keys() & silent if known[name].told}
        now = time.time()
        ends = [close_outage(name, known[name], now) for name in sorted(gone | quiet)]
        events = [event for event in ends if event is not None]
        changed = dict.fromkeys(gone, b"")
        changed |= {name: replace(known[name], told="").encode() for name in quiet}
        if changed and not await self._kept(bus, before, changed, events):
            self._sweep_due = True

    def _patience(self, name: str) -> Patience | None:
        return (self._watched or {}).get(name)

    async def _kept(
        self,
        bus: Bus,
        before: Mapping[str, bytes | None],
        after: Mapping[str, bytes],
        events: Iterable[Event],
    ) -> bool:
        """Store states and events; return False if another process has changed a state meanwhile."""
        in_order = sorted(events, key=lambda event: event.ts)
        args: list[str | bytes | float] = [ALERTS_LENGTH, len(after)]
        for name, value in after.items():
            args += [name, before[name] or b"", value]
        args += [encode(event) for event in in_order]
        outcome = await bus.script(_REMEMBER, [MASSIVE_ROSTER, MASSIVE_ALERTS], args)
        if outcome == SOMEBODY_WAS_HERE:
            return False
        for event in in_order:
            self.told[event.type.rpartition("_")[2]] += 1
            say = log.warning if event.type is Kind.PROBE_MISS else log.info
            say(event.type.replace("_", "."), svc=event.svc, reason=event.reason, id=event.id)
        return True


def _read(bus: Bus, name: str, raw: bytes | None) -> TargetState:
    """Return the stored state of a target; one that can't be read is reported, and counts as unknown."""
    found = parse_state(raw)
    if found is NOTHING and raw is not None:  # a state that was parsed is an object of its own
        report_unusable(bus.name, MASSIVE_ROSTER, name)
    return found


def _text(field: bytes) -> str | None:
    """Return the name of a field, or None if it is no valid text."""
    try:
        return field.decode()
    except UnicodeDecodeError:
        return None
