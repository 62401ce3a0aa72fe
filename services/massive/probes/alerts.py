"""Store the state of every target on the bus of the alerts, and publish an event when it changes.

The states and the events are written in one step on the server: a process that is killed in between has
written both or neither. While the bus can't be used, outcomes wait in order, and are tried again. The healer
reads the events from `massive:alerts` and publishes them like its own.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.bus.outage import Outage, retrying
from marketswarm.bus.scripts import Script
from marketswarm.bus.stored_values import delete_wrong_types, is_wrong_type, report_unusable
from marketswarm.closed_outages import read_closed
from marketswarm.event import Event, Kind, encode_event
from marketswarm.keys import MASSIVE_ALERTS, MASSIVE_ROSTER
from services.massive.probes.state import (
    UNKNOWN_STATE,
    OutcomeQueue,
    ProbeOutcome,
    TargetOutcome,
    TargetState,
    Thresholds,
    apply_outcome,
    close_outage,
    parse_state,
)

ALERTS_LENGTH: Final = 100_000
BATCH_SIZE: Final = 200
STATE_CHANGED: Final = 0
"""The script's answer when another instance has changed a state since it was read."""

_SAVE_STATES: Final = Script.beside("services.massive.probes", "save_states.lua")

log = logs.get("massive")


class AlertPublisher:
    """Store the states and publish the events that follow from the outcomes of probes.

    `get_bus` returns the bus of the alerts as it is now. May raise BusError.

    Attributes:
        states: the last state of each target, as this process knows it.
        published: how many events were published, by kind.
        outage: why the bus can't be used now.
    """

    def __init__(self, get_bus: Callable[[], Bus], boot: str) -> None:
        self._get_bus, self._boot = get_bus, boot
        self._thresholds: dict[str, Thresholds] | None = None
        self._queue = OutcomeQueue(max_run=1)
        self._count = 0
        self._cleanup_due = False
        self._has_work = asyncio.Event()
        self.states: dict[str, TargetState] = {}
        self.published = {"miss": 0, "ok": 0, "unwatched": 0}
        self.outage = Outage(log, "outlook.waiting", "outlook.resumed", waiting=self.pending_count)

    def follow(self, thresholds: Mapping[str, Thresholds]) -> None:
        """Follow these targets from now on; close the open outages of all other targets."""
        if thresholds == self._thresholds:
            return
        for name in (self._thresholds or {}).keys() - thresholds.keys():
            self._queue.remove_target(name)
            self.states.pop(name, None)
        self._thresholds = dict(thresholds)
        self._queue.max_run = max(
            (max(each.down_after, each.up_after) for each in thresholds.values()), default=1
        )
        self._cleanup_due = True
        self._has_work.set()

    def check_closed(self) -> None:
        """Find out, now that the truth names massive again, which outages the healer closed meanwhile."""
        if self._thresholds is not None:
            self._cleanup_due = True
            self._has_work.set()

    def add_outcome(self, name: str, ts: float, error: str | None) -> None:
        """Add the outcome of a probe, to be stored by `run`; ignore a target that is not followed.

        `ts` is in epoch seconds.
        """
        if self._thresholds_of(name) is not None:
            self._count += 1
            self._queue.add(name, ProbeOutcome(self._boot, self._count, ts, error))
            self._has_work.set()

    def pending_count(self) -> int:
        return len(self._queue)

    @property
    def is_idle(self) -> bool:
        return not self._has_work.is_set()

    async def run(self) -> None:
        """Store states and publish events until cancelled; retry after a BusError."""
        async for attempt in retrying(self.outage):
            await self._has_work.wait()
            with attempt:
                try:
                    await self._publish_batch()
                except BusError as error:
                    await self._replace_wrong_types(error)
                    raise

    async def _replace_wrong_types(self, error: BusError) -> None:
        """Delete our keys if the error is that they hold values of another type."""
        if is_wrong_type(error):
            with contextlib.suppress(BusError):
                await delete_wrong_types(self._get_bus(), {MASSIVE_ROSTER: "hash", MASSIVE_ALERTS: "stream"})

    async def _publish_batch(self) -> None:
        """Close the outages of targets that are no longer probed, then apply the oldest outcomes.

        Raises BusError.
        """
        bus = self._get_bus()
        if self._cleanup_due:
            self._cleanup_due = False
            try:
                await self._close_unwatched(bus)
            except BusError:
                self._cleanup_due = True
                raise
        batch = self._queue.oldest(BATCH_SIZE)
        if batch:
            await self._apply_outcomes(bus, batch)
        if not self._queue and not self._cleanup_due:
            self._has_work.clear()

    async def _apply_outcomes(self, bus: Bus, batch: list[TargetOutcome]) -> None:
        """Read the stored states, apply outcomes to them, and save them with the events that follow.

        If another process changed a state meanwhile, the outcomes stay in the queue. Raises BusError.
        """
        names = list(dict.fromkeys(name for name, _outcome in batch))
        stored = dict(zip(names, await bus.ask(bus.client.hmget(MASSIVE_ROSTER, names)), strict=True))
        before = {name: _parse_stored(bus, name, raw) for name, raw in stored.items()}
        after = dict(before)
        events: list[Event] = []
        for name, outcome in batch:
            thresholds = self._thresholds_of(name)
            if thresholds is not None:
                after[name], event = apply_outcome(name, after[name], outcome, thresholds)
                events += [] if event is None else [event]
        changed = {name: state.encode() for name, state in after.items() if state != before[name]}
        if not changed or await self._save(bus, stored, changed, events):
            self._queue.remove(batch)
            self.states |= {name: state for name, state in after.items() if self._thresholds_of(name)}

    async def _close_unwatched(self, bus: Bus) -> None:
        """Close the open outages of targets that are no longer probed, or that do not alert any more.

        Forget the misses that the healer has closed: an outage that goes on is missed anew. Raises BusError.
        """
        thresholds = self._thresholds or {}
        closed = await read_closed(bus, MASSIVE_ALERTS)
        roster = await bus.ask(bus.client.hgetall(MASSIVE_ROSTER))
        stored = {name: raw for field, raw in roster.items() if (name := _decode_name(field)) is not None}
        for _ in range(len(roster) - len(stored)):
            report_unusable(bus.name, MASSIVE_ROSTER)
        states = {name: _parse_stored(bus, name, raw) for name, raw in stored.items()}
        reopened = {name for name, state in states.items() if closed.covers(state.told)}
        states |= {name: replace(states[name], told="") for name in reopened}
        gone = states.keys() - thresholds.keys()
        not_alerting = {name for name, each in thresholds.items() if not each.alerts}
        muted = {name for name in states.keys() & not_alerting if states[name].told}
        now = time.time()
        ends = [close_outage(name, states[name], now) for name in sorted(gone | muted)]
        events = [event for event in ends if event is not None]
        changed = {name: replace(states[name], told="").encode() for name in muted | reopened}
        changed |= dict.fromkeys(gone, b"")
        if changed and not await self._save(bus, stored, changed, events):
            self._cleanup_due = True

    def _thresholds_of(self, name: str) -> Thresholds | None:
        return (self._thresholds or {}).get(name)

    async def _save(
        self,
        bus: Bus,
        stored: Mapping[str, bytes | None],
        changed: Mapping[str, bytes],
        events: Iterable[Event],
    ) -> bool:
        """Save changed states and publish events, in one step.

        Return False, with nothing saved, if another process has changed one of the states since it was read.
        """
        in_order = sorted(events, key=lambda event: event.ts)
        args: list[str | bytes | float] = [ALERTS_LENGTH, len(changed)]
        for name, value in changed.items():
            args += [name, stored[name] or b"", value]
        args += [encode_event(event) for event in in_order]
        answer = await bus.script(_SAVE_STATES, [MASSIVE_ROSTER, MASSIVE_ALERTS], args)
        if answer == STATE_CHANGED:
            return False
        for event in in_order:
            self.published[event.type.rpartition("_")[2]] += 1
            write = log.warning if event.type is Kind.PROBE_MISS else log.info
            write(event.type.replace("_", "."), svc=event.svc, reason=event.reason, id=event.id)
        return True


def _parse_stored(bus: Bus, name: str, raw: bytes | None) -> TargetState:
    """Report an invalid state, which counts as unknown."""
    state = parse_state(raw)
    if state is UNKNOWN_STATE and raw is not None:  # a valid state is an object of its own
        report_unusable(bus.name, MASSIVE_ROSTER, name)
    return state


def _decode_name(field: bytes) -> str | None:
    try:
        return field.decode()
    except UnicodeDecodeError:
        return None
