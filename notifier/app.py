"""Run the notifier: stand by until this process leads, then send messages, term after term.

`NotifierApp` lives as long as the process, a `LeadershipTerm` from when this notifier becomes the
leader until it loses the lease or the truth names other buses. A term restores everything from the
state on the buses, so that another instance can continue at any moment.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

from marketswarm import log as logs
from marketswarm.agent import Agent
from marketswarm.bus import Bus, BusError
from marketswarm.bus.outage import PAUSES
from marketswarm.bus.stored_values import report_unusable
from marketswarm.exit import Exit, find_error
from marketswarm.keys import NOTIFIER_STATE
from marketswarm.settings.programs import NotifierSettings
from marketswarm.truth import SYSTEM, Heartbeat, Service
from notifier.channel_pool import (
    ChannelAddress,
    ChannelConfig,
    ChannelPool,
    find_channel_addresses,
    make_new_address_message,
    make_unopened_channel_message,
    open_configured,
    require_one_channel,
    resolve_channels,
    send_and_close,
)
from notifier.dispatcher import Dispatcher
from notifier.inbox import Inbox
from notifier.lease import NotifierLease
from notifier.medic_reader import MedicReader
from notifier.message_links import make_link_adder
from notifier.metrics import NotifierMetrics
from notifier.requests import RequestHandler
from notifier.router import Policy, Section
from notifier.source import BusPoller, LogReader, SilenceSync
from notifier.store import Store

DISPATCH_EVERY_SEC: Final = 2.0
"""The longest time between two dispatches, in seconds. Only a clock that is set makes one late by it."""
MIN_WAIT_SEC: Final = 0.002
"""The shortest limit of a wait between two dispatches, in seconds."""
BUS_ANSWER_WITHIN_SEC: Final = 60.0
"""No wait for an answer of a bus takes longer than this, in seconds."""
PAUSE_REPORTED_SEC: Final = 1.0
"""A bus that takes longer than this to store its acknowledgements is reported, in seconds."""
FINISH_WITHIN_SEC: Final = 0.8
"""How long attempts that are under way may take when the notifier is stopped, in seconds."""
NO_CHANNEL: Final = "no channel is configured: no message can be sent"
NOTIFIER: Final = "notifier"
CLOCK_STEP_SEC: Final = 1.0
"""A wall clock that differs by so much from ours was set, in seconds; a smaller difference is let be."""
STANDBY_CHECK_SEC: Final = 1.0
"""How often a standby checks whether the truth names other buses, in seconds."""


class SteadyClock:
    """A clock in epoch seconds that runs with the monotonic clock; `follow_wall` sets it by the wall clock.

    A wait is as long as it should be, although the wall clock is set meanwhile, if the times of the wait are
    moved by what `follow_wall` returns.
    """

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._monotonic, self._wall = monotonic, wall
        self._ahead = wall() - monotonic()

    def __call__(self) -> float:
        return self._monotonic() + self._ahead

    def follow_wall(self) -> float:
        """Set this clock if the wall clock was set; return by how many seconds, 0.0 if it was not."""
        step_sec = self._wall() - self()
        if abs(step_sec) < CLOCK_STEP_SEC:
            return 0.0
        self._ahead += step_sec
        return step_sec


log = logs.get("notifier")


class TermEnded(Exception):  # noqa: N818 - an end, not an accident
    """The exception that ends a term, because another notifier leads, or the truth names other buses."""


class TermTimedOut(Exception):  # noqa: N818 - an end, as `TermEnded`
    """The exception that ends a term when the buses did not answer within BUS_ANSWER_WITHIN_SEC."""


class LeadershipTerm:
    """The work of this notifier from when it becomes the leader until its term ends."""

    def __init__(
        self,
        me: Agent[NotifierSettings],
        buses: Mapping[str, Bus],
        lease: NotifierLease,
        *,
        policy: Callable[[], Policy],
        clock: SteadyClock,
        metrics: NotifierMetrics,
    ) -> None:
        self._me, self._policy, self._lease, self._clock = me, policy, lease, clock
        self._buses = dict(buses)
        self._inbox = Inbox(metrics.malformed)
        self._store = Store(
            me.boot,
            buses,
            rejected=lease.deny_leadership,
            acknowledged=self._inbox.forget_acknowledged,
            ahead=lambda _bus: self._end(),
        )
        self._unread_buses: dict[str, str] = {}
        self._config = ChannelConfig(None, {})
        self._config_errors: dict[str, str] = {}
        self._is_over = False
        self._pool = ChannelPool(self._inbox, me.tracer, prepare=make_link_adder(me.settings), clock=clock)
        self._tasks: asyncio.TaskGroup
        self.dispatcher = Dispatcher(
            name=me.name,
            clock=clock,
            inbox=self._inbox,
            store=self._store,
            pool=self._pool,
            metrics=metrics,
        )
        metrics.incidents = lambda: len(self.dispatcher.router.open_incidents())
        metrics.workers = lambda: self._pool.workers

    async def run(self) -> None:
        """Load the stored state, then send messages until cancelled.

        Raises TermEnded, in an exception group, at the end of the term, BusError when no state can be read,
        and TermTimedOut, alone or in an exception group, when the buses take too long. After any other
        exception nothing more is stored.
        """
        async with self._wait_for_buses():
            self._clock.follow_wall()  # nothing waits yet
            for field in self.dispatcher.restore(await self._store.load()):
                report_unusable(self._store.loaded_from, NOTIFIER_STATE, field)
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._store.run(), name="store")
            try:
                self.apply_truth()
                await self._run_tasks()
            except BaseException as error:
                # after a defect nothing is stored that may be half done: what is on the buses is whole
                if is_orderly_end(error):
                    await self._finish_attempts()
                raise

    def apply_truth(self) -> None:
        """Apply the truth in force; end the term if the truth names other buses."""
        if resolve_buses(self._me) != self._buses:
            self._end()
            return
        policy = self._policy()
        self.dispatcher.apply_policy(policy, self._me.truth)
        self._pool.set_retry_for(policy.retry_for_sec)
        before = self._config
        self._reopen_channels(resolve_channels(policy.channels, os.environ))
        self._report_new_addresses(find_channel_addresses(policy.channels), before)

    # -- helpers

    def _end(self) -> None:
        """End the term before its next dispatch."""
        self._is_over = True
        self._inbox.wake()

    @contextlib.asynccontextmanager
    async def _wait_for_buses(self) -> AsyncIterator[None]:
        """Count the block as progress; raise TermTimedOut when it takes longer than BUS_ANSWER_WITHIN_SEC.

        Each request to a bus has a shorter limit. All limits pass at once if the whole process was stopped
        for a minute (SIGSTOP, a paused container) while it waited.
        """
        try:
            async with self._me.waiting(BUS_ANSWER_WITHIN_SEC):
                yield
        except TimeoutError as error:
            raise TermTimedOut from error

    async def _run_tasks(self) -> None:
        """Read the buses, handle requests and dispatch until the term ends.

        Raises TermEnded or TermTimedOut in an exception group.
        """
        boot, silences = self._me.boot, SilenceSync(self.dispatcher.set_silences)
        readers = [
            LogReader(
                bus,
                boot,
                self._inbox,
                replay_after=self._store.replay_starts.get(bus.name),
                replayed=self.dispatcher.state.end_replay,
                room=self._wait_for_room,
                answered=self._record_answer,
                failed=self._record_failure,
            )
            for bus in self._buses.values()
        ]
        pollers = [BusPoller(reader, self._store, silences) for reader in readers]
        router, set_medic = self.dispatcher.router, self.dispatcher.set_medic
        medic = MedicReader(self._buses[SYSTEM], router.list_waiting_for_medic, set_medic, self._clock)
        await asyncio.gather(medic.read(), *(poller.read_silences() for poller in pollers))
        async with asyncio.TaskGroup() as group:
            for reader, poller in zip(readers, pollers, strict=True):
                group.create_task(reader.run(), name=f"read:{reader.bus.name}")
                group.create_task(poller.run(), name=f"poller:{reader.bus.name}")
            group.create_task(medic.run(), name="medic")
            handler = RequestHandler(self.dispatcher, self._pool, list(self._buses.values()), self._clock)
            group.create_task(handler.run(self._inbox), name="asks")
            group.create_task(self._end_when_lease_lost(), name="lease")
            while not self._is_over:
                self._follow_clock()
                async with self._wait_for_buses():
                    await self.dispatcher.dispatch()
                self._me.set_degraded(self._channel_trouble(), part="channels")
                self._me.set_degraded(self.dispatcher.find_trouble(), part="router")
                await self._wait_until_due()
            raise TermEnded

    def _follow_clock(self) -> None:
        """If the wall clock was set, continue by it, and log that."""
        step_sec = self._clock.follow_wall()
        if step_sec:
            log.warning("clock.set", by_sec=round(step_sec, 1))
            self.dispatcher.shift_times(step_sec)

    async def _wait_until_due(self) -> None:
        """Wait until the next dispatch is due or the inbox is woken, DISPATCH_EVERY_SEC at most."""
        due_sec = self.dispatcher.next_dispatch_in_sec()
        wait_sec = (
            DISPATCH_EVERY_SEC if due_sec is None else min(max(due_sec, MIN_WAIT_SEC), DISPATCH_EVERY_SEC)
        )
        with contextlib.suppress(TimeoutError):
            async with self._me.waiting(wait_sec):
                await self._inbox.wait()

    async def _end_when_lease_lost(self) -> None:
        """Wait until this notifier no longer leads, then raise TermEnded."""
        await self._lease.wait_until(is_leader=False)
        raise TermEnded

    async def _finish_attempts(self) -> None:
        """Let attempts under way end and store their outcomes, within FINISH_WITHIN_SEC, while we lead."""
        if self._lease.is_leader:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FINISH_WITHIN_SEC):
                    await self._pool.finish(FINISH_WITHIN_SEC / 2)
                    await self.dispatcher.dispatch()
                    await self._store.settle()

    def _reopen_channels(self, want: ChannelConfig) -> None:
        """Open the channels of a configuration, keep unchanged ones, close others, and report new errors.

        Errors are logged and sent as messages over the first open channel.
        """
        known, was_wrong = self._pool.channels(), self._config_errors
        keep = {name: channel for name, channel in known.items() if want.same(self._config, name)}
        found, self._config_errors = open_configured(want, self._me.settings, keep)
        self._config = want
        self._pool.open(found, self._tasks)
        self.dispatcher.set_channels(list(found), closed=list(self._config_errors))
        self.dispatcher.state.record_channels({name: each.where for name, each in found.items()})
        self._me.set_detail(None if found else NO_CHANNEL)
        for name in self._config_errors.keys() - was_wrong.keys():
            log.error("channel.not_opened", channel=name, why=self._config_errors[name])
            self.dispatcher.send_message(
                make_unopened_channel_message(name, self._config_errors[name], self._clock()), list(found)[:1]
            )

    def _report_new_addresses(self, named: Mapping[str, ChannelAddress], before: ChannelConfig) -> None:
        """Record the addresses in the truth; if some are new, send a warning about them.

        The warning goes over the channels whose address is not new, and over the changed channels as they
        were configured in `before`. `named` are the truth's addresses by channel.
        """
        news = self.dispatcher.state.record_addresses({name: each.digest for name, each in named.items()})
        if not news:
            return
        shown = {name: named[name].shown for name in sorted(news)}
        log.warning("channel.address_new", addresses=shown, revision=self._me.revision)
        note = make_new_address_message(shown, self._me.revision or 0, self._clock())
        self.dispatcher.send_message(note, [name for name in self._pool.channels() if name not in news])
        try:
            had, _ = open_configured(before, self._me.settings)
        except Exit as error:
            log.warning("channel.address_unsent", channel="environment", reason=error.message)
            return
        ended = {
            name: each for name, each in had.items() if name in news or not self._config.same(before, name)
        }
        self._tasks.create_task(send_and_close(ended, note), name="new addresses")
        for name in had.keys() - ended.keys():
            self._tasks.create_task(had[name].aclose(), name="close")

    async def _wait_for_room(self, bus: str) -> None:
        """Wait until a bus has stored enough acknowledgements for its log to be read on.

        After PAUSE_REPORTED_SEC report that the log is not read meanwhile.
        """
        writer = self._store.writers[bus]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PAUSE_REPORTED_SEC):
                await writer.wait_for_room()
                return
        waiting, reason = writer.unacknowledged, writer.refusal or "slow"
        log.warning("reading.paused", bus=bus, unacknowledged=waiting, reason=reason)
        self._unread_buses[bus] = f"{reason}: it has {waiting} acknowledgements to take"
        self._report_unread_buses()
        await writer.wait_for_room()
        self._record_answer(bus)

    def _record_answer(self, bus: str) -> None:
        """Record that a bus's log is read again; log this if its reading was paused or had failed."""
        if self._unread_buses.pop(bus, None) is not None:
            log.info("reading.resumed", bus=bus)
            self._report_unread_buses()

    def _record_failure(self, error: BusError) -> None:
        """Record that a bus's log can't be read, and log the error unless its reason is unchanged."""
        if self._unread_buses.get(error.bus) != error.reason:
            log.warning("reading.failed", bus=error.bus, reason=error.reason, detail=error.detail)
        self._unread_buses[error.bus] = error.reason
        self._report_unread_buses()

    def _report_unread_buses(self) -> None:
        """Set the beat's degraded state to the buses whose log can't be read; clear it if there are none."""
        words = ", ".join(f"{bus} ({reason})" for bus, reason in self._unread_buses.items())
        self._me.set_degraded(f"can't read the log of {words}" if words else None, part="log")

    def _channel_trouble(self) -> str | None:
        wrong = [why for _, why in sorted(self._config_errors.items())]
        return "; ".join(filter(None, (*wrong, self._pool.trouble()))) or None


def is_orderly_end(error: BaseException) -> bool:
    """Return True if an exception ends a term between two steps, so that its state is whole."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_orderly_end, error.exceptions))
    return isinstance(error, (asyncio.CancelledError, TermEnded, TermTimedOut, BusError))


def resolve_buses(me: Agent[NotifierSettings]) -> dict[str, Bus]:
    """Return every bus of the truth in force, by name. Raises BusError when the URL of a bus can't be had."""
    return {name: me.bus(name) for name in me.truth.bus_names()}


def notifier_heartbeat(_settings: NotifierSettings, section: Service | None) -> Heartbeat:
    """Return the settings in the notifier's section of the truth, otherwise the default."""
    return Heartbeat() if section is None else section.heartbeat


async def run_notifier(me: Agent[NotifierSettings]) -> None:
    """Check the configured channels, then run the notifier until cancelled.

    Raises Exit, code 2, when channels are configured and none of them can be opened.
    """
    me.open_tracer()
    app = NotifierApp(me)
    await app.check_channels()
    while True:
        await app.serve()


class NotifierApp:
    """The notifier of one process, over all its terms."""

    def __init__(self, me: Agent[NotifierSettings]) -> None:
        self._me = me
        self._section = me.config(Section)
        self._clock, self._metrics = SteadyClock(), NotifierMetrics()
        self._term: LeadershipTerm | None = None
        self._buses: dict[str, Bus] = {}
        me.expose(self._metrics.collect)
        me.on_reseed(lambda _truth: self._apply_truth())

    def policy(self) -> Policy:
        """Return the policy of the truth, with RATE_LIMIT_SEC of the environment where the truth has none."""
        policy = self._section().settings
        if policy.rate_limit_sec is None:
            return policy.model_copy(update={"rate_limit_sec": self._me.settings.rate_limit_sec})
        return policy

    async def check_channels(self) -> None:
        """Open and close every configured channel once, and log which channels there are.

        Raises Exit, code 2, when channels are configured and none of them can be opened.
        """
        found, wrong = open_configured(
            resolve_channels(self.policy().channels, os.environ), self._me.settings
        )
        for channel in found.values():
            await channel.aclose()
        require_one_channel(found, wrong)
        if found:
            log.info("channels.named", channels=[f"{each.name} to {each.where}" for each in found.values()])
        else:
            log.warning("channels.none", why=NO_CHANNEL, name="WEBHOOK_URL")

    async def serve(self) -> None:
        """Stand by or lead until the truth names other buses; release the lease at the end."""
        me = self._me
        self._buses = self._latest_buses()
        lease = NotifierLease(me.boot, self._buses, me.settings.notifier_lease_sec)
        self._metrics.leads = lambda: lease.is_leader
        try:
            async with asyncio.TaskGroup() as group:
                keeping = group.create_task(lease.run(), name="lease")
                await self._run_terms(lease)
                keeping.cancel()
        finally:
            await lease.release()

    def _latest_buses(self) -> dict[str, Bus]:
        """Return the buses of the truth in force, or the last ones if the URL of a bus can't be had.

        Raises BusError if there are no last ones.
        """
        try:
            return resolve_buses(self._me)
        except BusError:
            if not self._buses:
                raise
            return self._buses

    async def _run_terms(self, lease: NotifierLease) -> None:
        """Run a term while this notifier leads, otherwise stand by, until the truth names other buses."""
        while self._latest_buses() == self._buses:
            if lease.is_leader:
                await self._run_term(lease)
            else:
                await self._stand_by(lease)

    async def _stand_by(self, lease: NotifierLease) -> None:
        """Name the leader in the beat's `detail`; wait to lead, for STANDBY_CHECK_SEC at most."""
        other = lease.other
        self._me.set_detail(f"stands by, {other} leads" if other else "stands by")
        with contextlib.suppress(TimeoutError):
            async with self._me.waiting(STANDBY_CHECK_SEC):
                await lease.wait_until(is_leader=True)

    async def _run_term(self, lease: NotifierLease) -> None:
        """Run one term to its end; after a bus error or a timeout, log it and pause."""
        me, timed_out = self._me, False
        failed: BusError | None = None
        me.set_detail(None)
        self._term = LeadershipTerm(
            me, self._buses, lease, policy=self.policy, clock=self._clock, metrics=self._metrics
        )
        try:
            await self._term.run()
        except* TermEnded:
            log.info("leadership.ended")
        except* BusError as errors:
            failed = find_error(errors, BusError)
        except* TermTimedOut:
            timed_out = True
        finally:
            self._term = None
            for part in ("log", "channels", "router"):
                me.set_degraded(None, part=part)
        if failed is not None:
            log.warning("leadership.failed", bus=failed.bus, reason=failed.reason)
        if timed_out:
            log.warning("leadership.timed_out", after_sec=BUS_ANSWER_WITHIN_SEC)
        if failed is not None or timed_out:
            await me.rest(PAUSES.longest_sec)

    def _apply_truth(self) -> None:
        if self._term is not None:
            self._term.apply_truth()
