"""One term: from when this notifier leads until it does not, or the truth names other buses.

It puts the parts together and runs them; what each does stands in its own file. All that a term knows it
takes from the state on the buses, so that another instance can go on at any moment.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from marketswarm import log as logs
from marketswarm.agent import Agent
from marketswarm.bus import Bus, BusError
from marketswarm.bus.stored_values import report_unusable
from marketswarm.channels import Message
from marketswarm.exit import Exit
from marketswarm.operator import STATE
from marketswarm.settings import NotifierSettings
from marketswarm.truth import Heartbeat, Service
from notifier.channel_pool import (
    Address,
    Post,
    Wanted,
    addresses,
    at_least_one,
    new_address_message,
    opened,
    send_once,
    unopened_channel_message,
    wanted,
)
from notifier.dispatcher import Desk
from notifier.inbox import Intake
from notifier.lease import Lease
from notifier.metrics import Tally
from notifier.requests import Asking
from notifier.router import Policy, Section
from notifier.source import Reader, Silences, Sweep
from notifier.store import Store, reached


class Clock:
    """Call it for the time. Between steps it runs on with the monotonic clock."""

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._monotonic, self._wall = monotonic, wall
        self._ahead = wall() - monotonic()

    def __call__(self) -> float:
        """The time now, in epoch seconds."""
        run = self._monotonic()
        self._ahead = max(self._ahead, self._wall() - run)
        return run + self._ahead


LOOK_EVERY_SEC: Final = 1.0
LEAST_WAIT_SEC: Final = 0.002
PATIENCE_SEC: Final = 60.0
"""Longer than anything that is asked of a bus may take."""
PAUSE_REPORTED_SEC: Final = 1.0
"""A bus that takes longer for its acknowledgements is reported; one that is written in a moment is not."""
WIND_UP_SEC: Final = 0.8
"""What is on the wire when we are stopped may take so long."""

NOBODY: Final = "no channel is named: nobody is told"

log = logs.get("notifier")


class Over(Exception):  # noqa: N818 - an end, not an accident
    """Another notifier leads, or the buses are others."""


class Term:
    """One term of `me` over `buses`, as long as `lease` is held; `policy` gives the one in force."""

    def __init__(
        self,
        me: Agent[NotifierSettings],
        buses: Mapping[str, Bus],
        lease: Lease,
        *,
        policy: Callable[[], Policy],
        clock: Clock,
        tally: Tally,
    ) -> None:
        self._me, self._policy, self._lease, self._clock = me, policy, lease, clock
        self._buses = dict(buses)
        self._intake = Intake(tally.malformed)
        self._store = Store(me.boot, buses, turned_away=lease.turned_away, acknowledged=self._intake.forget)
        self._unread: dict[str, str] = {}
        self._want = Wanted(None, {})
        self._wrong: dict[str, str] = {}
        self._over = False
        self._post: Post
        self._under: asyncio.TaskGroup
        self.desk = Desk(
            name=me.name,
            clock=clock,
            intake=self._intake,
            commit=self._store.commit,
            reached=self._reached,
            hand_over=self._hand_over,
            tally=tally,
        )
        tally.incidents = lambda: len(self.desk.router.incidents())

    async def run(self) -> None:
        """Tells people until cancelled.

        Raises Over at the end of the term, both in a group, and BusError when no state can be read.
        """
        async with self._me.waiting(PATIENCE_SEC):
            for field in self.desk.restore(await self._store.load()):
                report_unusable(self._store.loaded_from, STATE, field)
        async with asyncio.TaskGroup() as under:
            self._under = under
            self._post = Post(self.desk.outbox, self.desk.came, under, self._paused)
            self.desk.tally.waiting, self.desk.tally.broken = self._post.waiting, self._post.broken
            under.create_task(self._store.run(), name="store")
            try:
                self.follow()
                await self._work()
            finally:
                await self._wind_up()

    def follow(self) -> None:
        """Goes by the truth in force, as far as the buses are the same."""
        if buses_of(self._me) != self._buses:
            self._over = True
            self._intake.poke()
            return
        policy = self._policy()
        self.desk.follow(policy, self._me.truth)
        self._post.retry_for(policy.retry_for_sec)
        before = self._want
        self._reopen(wanted(policy.channels, os.environ))
        self._tell_new_addresses(addresses(policy.channels), before)

    # -- inside

    def _paused(self, channel: str) -> tuple[int, float]:
        return self.desk.memo.pause(channel, time.time())

    def _hand_over(self, channel: str, message: Message) -> None:
        self._post.hand_over(channel, message)

    async def _work(self) -> None:
        boot, silences = self._me.boot, Silences(self.desk.silence)
        readers = [
            Reader(bus, boot, self._intake, room=self._room, answered=self._answered, failed=self._failed)
            for bus in self._buses.values()
        ]
        sweeps = [Sweep(reader, self._store, silences, boot) for reader in readers]
        await asyncio.gather(*(sweep.look_at_silences() for sweep in sweeps))
        async with asyncio.TaskGroup() as group:
            for reader, sweep in zip(readers, sweeps, strict=True):
                group.create_task(reader.run(), name=f"read:{reader.bus.name}")
                group.create_task(sweep.run(), name=f"sweep:{reader.bus.name}")
            asking = Asking(self.desk, self._post, list(self._buses.values()), self._clock)
            group.create_task(asking.run(self._intake), name="asks")
            group.create_task(self._until_over(), name="lease")
            while not self._over:
                async with self._me.waiting(PATIENCE_SEC):  # for buses
                    await self.desk.turn()
                self._me.ail("channels", self._trouble())
                await self._rest()
            raise Over

    async def _rest(self) -> None:
        due_sec = self.desk.wait_sec()
        wait_sec = LOOK_EVERY_SEC if due_sec is None else min(max(due_sec, LEAST_WAIT_SEC), LOOK_EVERY_SEC)
        with contextlib.suppress(TimeoutError):
            async with self._me.waiting(wait_sec):
                await self._intake.wait()

    async def _until_over(self) -> None:
        await self._lease.lost()
        raise Over

    async def _wind_up(self) -> None:
        """What is on the wire comes to its end, and what became of it is stored, if we still lead."""
        if self._lease.leads:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WIND_UP_SEC):
                    await self._post.finish(WIND_UP_SEC / 2)
                    await self.desk.turn()
                    await self._store.settle()

    def _reopen(self, want: Wanted) -> None:
        known, was_wrong = self._post.channels(), self._wrong
        keep = {name: channel for name, channel in known.items() if want.same(self._want, name)}
        found, self._wrong = opened(want, self._me.settings, keep)
        self._want = want
        self._post.open(found)
        self.desk.open(list(found))
        self._me.note(None if found else NOBODY)
        for name in self._wrong.keys() - was_wrong.keys():
            log.error("channel.not_opened", channel=name, why=self._wrong[name])
            self.desk.say(unopened_channel_message(name, self._wrong[name], self._clock()), list(found)[:1])

    def _tell_new_addresses(self, named: Mapping[str, Address], before: Wanted) -> None:
        """Has those told who had the messages so far, and all other channels."""
        news = self.desk.memo.new_addresses({name: each.digest for name, each in named.items()})
        if not news:
            return
        shown = {name: named[name].shown for name in sorted(news)}
        log.warning("channel.address_new", addresses=shown, revision=self._me.revision)
        note = new_address_message(shown, self._me.revision or 0, self._clock())
        self.desk.say(note, [name for name in self._post.channels() if name not in news])
        try:
            had, _ = opened(before, self._me.settings)
        except Exit as error:
            log.warning("channel.address_untold", channel="environment", reason=error.message)
            return
        ended = {
            name: each for name, each in had.items() if name in news or not self._want.same(before, name)
        }
        closing = [each.aclose() for name, each in had.items() if name not in ended]
        self._under.create_task(send_once(ended, note), name="new addresses")
        for each in closing:
            self._under.create_task(each, name="close")

    async def _reached(self, idents: Sequence[str]) -> set[str]:
        away = self._store.refusals()
        return await reached([bus for name, bus in self._buses.items() if name not in away], idents)

    async def _room(self, bus: str) -> None:
        """Wait while a bus has too many acknowledgements to take, and report that its log is not read."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PAUSE_REPORTED_SEC):
                await self._store.room(bus)
                return
        waiting, reason = self._store.unacknowledged(bus), self._store.refusals().get(bus, "slow")
        log.warning("reading.paused", bus=bus, unacknowledged=waiting, reason=reason)
        self._unread[bus] = f"{reason}: it has {waiting} acknowledgements to take"
        self._ail_of_buses()
        await self._store.room(bus)
        self._answered(bus)

    def _answered(self, bus: str) -> None:
        if self._unread.pop(bus, None) is not None:
            log.info("reading.resumed", bus=bus)
            self._ail_of_buses()

    def _failed(self, error: BusError) -> None:
        if self._unread.get(error.bus) != error.reason:
            log.warning("reading.failed", bus=error.bus, reason=error.reason, detail=error.detail)
        self._unread[error.bus] = error.reason
        self._ail_of_buses()

    def _ail_of_buses(self) -> None:
        words = ", ".join(f"{bus} ({reason})" for bus, reason in self._unread.items())
        self._me.ail("log", f"can't read the log of {words}" if words else None)

    def _trouble(self) -> str | None:
        wrong = [why for _, why in sorted(self._wrong.items())]
        return "; ".join(filter(None, (*wrong, self._post.trouble()))) or None


def buses_of(me: Agent[NotifierSettings]) -> dict[str, Bus]:
    """Every bus of the truth in force. Raises BusError when the URL of one can't be had."""
    return {name: me.bus(name) for name in me.truth.bus_names()}


NOTIFIER: Final = "notifier"
STANDBY_CHECK_SEC: Final = 1.0
AGAIN_SEC: Final = 0.5


def own_heartbeat(_settings: NotifierSettings, section: Service | None) -> Heartbeat:
    """The notifier's own beats: as its section has them, else the default."""
    return Heartbeat(channel=f"{NOTIFIER}:heartbeat") if section is None else section.heartbeat


async def watch(me: Agent[NotifierSettings]) -> None:
    """Tells people until cancelled. Raises Exit, code 2, when channels are named and none can be opened."""
    life = Life(me)
    await life.look_at_channels()
    while True:
        await life.serve()


class Life:
    """All terms of one process."""

    def __init__(self, me: Agent[NotifierSettings]) -> None:
        self._me = me
        self._section = me.own(Section)
        self._clock, self._tally = Clock(), Tally()
        self._term: Term | None = None
        self._buses: dict[str, Bus] = {}
        me.expose(self._tally.collect)
        me.on_reseed(lambda _truth: self._follow())

    def policy(self) -> Policy:
        """How people want to be told: as the truth says, and where it is silent, the environment."""
        policy = self._section().settings
        if policy.rate_limit_sec is None:
            return policy.model_copy(update={"rate_limit_sec": self._me.settings.rate_limit_sec})
        return policy

    async def look_at_channels(self) -> None:
        """Says which there are."""
        found, wrong = opened(wanted(self.policy().channels, os.environ), self._me.settings)
        for channel in found.values():
            await channel.aclose()
        at_least_one(found, wrong)
        if found:
            log.info("channels.named", channels=[f"{each.name} to {each.where}" for each in found.values()])
        else:
            log.warning("channels.none", why=NOBODY, name="WEBHOOK_URL")

    async def serve(self) -> None:
        """Stands by and leads, until the truth names other buses."""
        me = self._me
        self._buses = self._latest_buses()
        lease = Lease(me.boot, self._buses, me.settings.notifier_lease_sec)
        self._tally.leads = lambda: lease.leads
        try:
            async with asyncio.TaskGroup() as group:
                keeping = group.create_task(lease.run(), name="lease")
                await self._terms(lease)
                keeping.cancel()
        finally:
            await lease.give_back()

    def _latest_buses(self) -> dict[str, Bus]:
        """Those of the truth in force; of one whose buses can't be had, the last ones."""
        try:
            return buses_of(self._me)
        except BusError:
            if not self._buses:
                raise
            return self._buses

    async def _terms(self, lease: Lease) -> None:
        while self._latest_buses() == self._buses:
            if lease.leads:
                await self._lead(lease)
            else:
                await self._stand_by(lease)

    async def _stand_by(self, lease: Lease) -> None:
        other = lease.view.other
        self._me.note(f"stands by, {other} leads" if other else "stands by")
        try:
            async with self._me.waiting(STANDBY_CHECK_SEC):
                await lease.gained()
        except TimeoutError:
            return

    async def _lead(self, lease: Lease) -> None:
        me, failed = self._me, list[BusError]()
        me.note(None)
        self._term = Term(me, self._buses, lease, policy=self.policy, clock=self._clock, tally=self._tally)
        try:
            await self._term.run()
        except* Over:
            log.info("term.over")
        except* BusError as errors:
            failed = list(_leaves(errors))
        finally:
            self._term = None
            for part in ("log", "channels"):
                me.ail(part, None)
        if failed:
            log.warning("term.not_begun", bus=failed[0].bus, reason=failed[0].reason)
            await me.rest(AGAIN_SEC)

    def _follow(self) -> None:
        if self._term is not None:
            self._term.follow()


def _leaves(group: BaseExceptionGroup[BusError]) -> list[BusError]:
    found: list[BusError] = []
    for each in group.exceptions:
        found += _leaves(each) if isinstance(each, BaseExceptionGroup) else [each]
    return found
