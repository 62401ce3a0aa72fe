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
from marketswarm.attention import STATE
from marketswarm.bus import Bus, BusError
from marketswarm.channels import Message
from marketswarm.exit import Exit
from marketswarm.settings import NotifierSettings
from marketswarm.stored import report_unusable
from notifier import notes
from notifier.addresses import Address, addresses, send_once
from notifier.asking import Asking
from notifier.clock import Clock
from notifier.desk import Desk
from notifier.intake import Intake
from notifier.lease import Lease
from notifier.openings import Wanted, opened, wanted
from notifier.post import Post
from notifier.reading import Reader
from notifier.router import Policy
from notifier.store import Store
from notifier.sweeping import Silences, Sweep
from notifier.tally import Tally
from notifier.told import reached

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
        """Restore the state, then read events and send messages until cancelled.

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
            self.desk.say(notes.unopened(name, self._wrong[name], self._clock()), list(found)[:1])

    def _tell_new_addresses(self, named: Mapping[str, Address], before: Wanted) -> None:
        """Has those told who had the messages so far, and all other channels."""
        news = self.desk.memo.new_addresses({name: each.digest for name, each in named.items()})
        if not news:
            return
        shown = {name: named[name].shown for name in sorted(news)}
        log.warning("channel.address_new", addresses=shown, revision=self._me.revision)
        note = notes.readdressed(shown, self._me.revision or 0, self._clock())
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
