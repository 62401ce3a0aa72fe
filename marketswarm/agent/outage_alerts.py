"""Publish that a target of a service is down, or up again: thresholds, one compare-and-set, one outbox.

    alerts = OutageAlerts.start(me, PROBES)
    alerts.follow({"shop": Thresholds(down_after=3, up_after=2)})
    alerts.add_outcome("shop", time.time(), "refused")

The states of the targets and the events are written in one step on the bus of the alerts: a process that is
killed in between has written both or neither, and of two instances that change one state, one reads again.
While the bus can't be used, outcomes wait in order, and are tried again. The healer reads the events from the
stream of the service's `AlertRule`, and publishes them like its own.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Self

from marketswarm import log as logs
from marketswarm.agent.member import Agent
from marketswarm.agent.outage_state import (
    UNKNOWN_STATE,
    AlertRule,
    NamedOutcome,
    OutageState,
    OutcomeQueue,
    TargetOutcome,
    Thresholds,
    apply_outcome,
    close_outage,
    parse_state,
)
from marketswarm.bus import Bus, BusError
from marketswarm.bus.outage import Outage, retrying
from marketswarm.bus.stored_values import replace_unusable, report_unusable
from marketswarm.bus.stream_length import RELAY_READERS, StreamLength
from marketswarm.bus.transaction import BusTransaction, commit
from marketswarm.closed_outages import ClosedOutages, read_closed
from marketswarm.event import Event, encode_event
from marketswarm.monitor.conventions import find_alert_target

ALERTS_LENGTH: Final = 100_000
BATCH_SIZE: Final = 200
CHECK_EVERY_SEC: Final = 30.0
"""How often it is looked which outages the healer closed, and which targets no instance follows any more."""

States = Mapping[str, OutageState]


class OutageAlerts:
    """Store the states of targets and publish the events that follow from their outcomes.

    Args:
        degrade: called with what keeps outcomes from being stored, and with None at the end.
        on_states: called with states that are stored: those that changed, and at each check all of them.
            May raise BusError.

    Attributes:
        states: the last state of each target, as this process knows it.
        has_read: whether the stored states of the targets that are followed have been read.
        published: how many events were published, by the last word of their kind.
        outage: why the bus can't be used now.
    """

    def __init__(
        self,
        me: Agent[Any],
        rule: AlertRule,
        *,
        degrade: Callable[[str | None], None] = lambda _problem: None,
        on_states: Callable[[States], Awaitable[None]] | None = None,
    ) -> None:
        self._me, self.rule = me, rule
        self._thresholds: dict[str, Thresholds] | None = None
        self._queue = OutcomeQueue(max_run=1)
        self._count = 0
        self._check_due, self._check_at = False, 0.0
        self._closed: ClosedOutages | None = None  # what the healer had closed at the last check
        self._has_work = asyncio.Event()
        self._log = logs.get(rule.by)
        self.states: dict[str, OutageState] = {}
        self.has_read = False
        self.published = {"miss": 0, "ok": 0, "unwatched": 0}
        self.outage = Outage(
            self._log, "alerts.waiting", "alerts.resumed", degrade=degrade, waiting=self.pending_count
        )
        self._on_states, self._length = on_states, StreamLength(RELAY_READERS)

    @classmethod
    def start(cls, me: Agent[Any], rule: AlertRule, **more: Any) -> Self:
        """Run the alerts of a service as a side task of its agent."""
        alerts = cls(me, rule, **more)
        me.task(alerts.run(), name="alerts")
        return alerts

    def follow(self, thresholds: Mapping[str, Thresholds]) -> None:
        """Follow these targets from now on; close the open outages of all others.

        Their stored states are read next: `has_read` is False until then.
        """
        if thresholds == self._thresholds:
            return
        for name in (self._thresholds or {}).keys() - thresholds.keys():
            self._queue.remove_target(name)
            self.states.pop(name, None)
        self._thresholds, self.has_read = dict(thresholds), False
        self._queue.max_run = max(
            (max(each.down_after, each.up_after) for each in thresholds.values()), default=1
        )
        self._check_due = True
        self._has_work.set()

    def check(self) -> None:
        """Look which outages the healer closed meanwhile, unless the truth does not name the service.

        One that was left running when it was dropped must not report again what the healer closed.
        """
        if self._thresholds is not None and self._me.name in self._me.truth.services:
            self._check_due = True
            self._has_work.set()

    def read_again(self) -> None:
        """Have the stored states read, which others may have changed; until then `has_read` is False."""
        self.has_read = False
        self.check()

    def add_outcome(self, name: str, ts: float, error: str | None, detail: str | None = None) -> None:
        """Add the outcome of a target, to be stored by `run`; ignore a target that is not followed.

        `ts` is in epoch seconds, `error` is None for a success, and `detail` is for a miss that follows.
        """
        if self._thresholds_of(name) is not None:
            self._count += 1
            self._queue.add(name, TargetOutcome(self._me.boot, self._count, ts, error, detail))
            self._has_work.set()

    def pending_count(self) -> int:
        return len(self._queue)

    @property
    def is_idle(self) -> bool:
        return not self._has_work.is_set()

    async def run(self) -> None:
        """Store states and publish events until cancelled; retry after a BusError."""
        async for attempt in retrying(self.outage):
            await self._wait_for_work()
            with attempt:
                try:
                    await self._publish_batch()
                except BusError as error:
                    self._closed = None  # it may come back without what the last check wrote
                    kinds = {self.rule.states: "hash", self.rule.stream: "stream"}
                    await replace_unusable(error, self._get_bus(), kinds)
                    raise

    def _get_bus(self) -> Bus:
        """Return the bus of the alerts as it is now. May raise BusError."""
        return self._me.bus(find_alert_target(self._me.truth, self._me.settings)[0])

    async def _wait_for_work(self) -> None:
        """Wait for an outcome, or for the time to check."""
        while self._check_at <= (now := asyncio.get_running_loop().time()) or self.is_idle:
            if self._check_at <= now:
                self._check_at = now + CHECK_EVERY_SEC
                self.check()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._check_at):
                    await self._has_work.wait()

    async def _publish_batch(self) -> None:
        """Close the outages of targets that are no longer followed, then apply the oldest outcomes.

        Raises BusError.
        """
        bus = self._get_bus()
        if self._check_due:
            self._check_due = is_done = False  # it may become due again meanwhile
            try:
                is_done = await self._check_stored(bus)
            finally:
                self._check_due |= not is_done
            if not is_done:
                return
        batch = self._queue.oldest(BATCH_SIZE)
        if batch:
            await self._apply_outcomes(bus, batch)
        if not self._queue and not self._check_due:
            self._has_work.clear()

    async def _apply_outcomes(self, bus: Bus, batch: list[NamedOutcome]) -> None:
        """Read the stored states, apply outcomes to them, and save them with the events that follow.

        If another process changed a state meanwhile, the outcomes stay in the queue. Raises BusError.
        """
        names = list(dict.fromkeys(name for name, _outcome in batch))
        stored = dict(zip(names, await bus.ask(bus.client.hmget(self.rule.states, names)), strict=True))
        before = {name: self._parse_stored(bus, name, raw) for name, raw in stored.items()}
        after = dict(before)
        events: list[Event] = []
        for name, outcome in batch:
            thresholds = self._thresholds_of(name)
            if thresholds is not None:
                after[name], event = apply_outcome(self.rule, name, after[name], outcome, thresholds)
                events += [] if event is None else [event]
        changed = {name: state.encode() for name, state in after.items() if state != before[name]}
        if not changed or await self._save(bus, stored, changed, events):
            self._queue.remove(batch)
            self.states |= {name: state for name, state in after.items() if self._thresholds_of(name)}
            await self._pass_on(changed)

    async def _check_stored(self, bus: Bus) -> bool:
        """Close the open outages of targets that are no longer followed, or that do not alert any more.

        Forget the misses that the healer has closed since the last check: an outage that continues is missed
        again. Return False if another process changed a state meanwhile. Raises BusError.
        """
        followed = self._thresholds
        closed = await read_closed(bus, self.rule.stream)
        # what it closed is known by its time, which after a clock was set back is that of later misses, too
        is_news = closed != self._closed
        stored = self._decode_names(bus, await bus.ask(bus.client.hgetall(self.rule.states)))
        events, changed, states = list[Event](), dict[str, bytes](), dict[str, OutageState]()
        now = time.time()
        for name in sorted(stored):
            before = state = self._parse_stored(bus, name, stored[name])
            if is_news and closed.covers(state.told):
                state = replace(state, told="")
            thresholds = self._thresholds_of(name)
            if thresholds is None or not thresholds.alerts:
                event = close_outage(self.rule, name, state, now)
                events += [] if event is None else [event]
                state = replace(state, told="")
            if thresholds is not None:
                states[name] = state
            if thresholds is None or state != before:
                changed[name] = b"" if thresholds is None else state.encode()
        if changed and not await self._save(bus, stored, changed, events):
            return False
        self._closed = closed
        self.states |= states
        self.has_read = followed is self._thresholds  # others may be followed by now
        await self._pass_on(states)
        return True

    async def _pass_on(self, names: Iterable[str]) -> None:
        """Pass on the states of these targets; with the next check if that fails. Raises BusError."""
        states = {name: self.states[name] for name in names if name in self.states}
        if states and self._on_states is not None:
            try:
                await self._on_states(states)
            except BusError:
                self._check_due = True
                raise

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
        save, length = BusTransaction(), ALERTS_LENGTH
        if in_order:
            length = await self._length.compute(bus, self.rule.stream, ALERTS_LENGTH)
        for name in changed:
            save.require(self.rule.states, name, stored[name] or b"")
        for event in in_order:
            save.add_entry(self.rule.stream, {"event": encode_event(event).decode()}, length)
        kept = {name: value for name, value in changed.items() if value}
        save.write_hash(self.rule.states, kept, changed.keys() - kept.keys())
        if not await commit(bus, save):
            return False
        for event in in_order:
            self.published[event.type.rpartition("_")[2]] += 1
            write = self._log.warning if event.type is self.rule.miss else self._log.info
            write(event.type.replace("_", "."), svc=event.svc, reason=event.reason, id=event.id)
        return True

    def _parse_stored(self, bus: Bus, name: str, raw: bytes | None) -> OutageState:
        """Report an invalid state, which counts as unknown."""
        state = parse_state(raw)
        if state is UNKNOWN_STATE and raw is not None:  # a valid state is an object of its own
            report_unusable(bus.name, self.rule.states, name)
        return state

    def _decode_names(self, bus: Bus, stored: Mapping[bytes, bytes]) -> dict[str, bytes]:
        """Leave out and report names that are not text."""
        found = {}
        for field, raw in stored.items():
            try:
                found[field.decode()] = raw
            except UnicodeDecodeError:
                report_unusable(bus.name, self.rule.states)
        return found
