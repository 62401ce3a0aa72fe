"""The notifier's life: it stands by until it leads, then tells people, term after term."""

import asyncio
import os
from typing import Final

from marketswarm import log as logs
from marketswarm.agent import Agent
from marketswarm.bus import Bus, BusError
from marketswarm.settings import NotifierSettings
from marketswarm.truth import Heartbeat, Service
from notifier.clock import Clock
from notifier.lease import Lease
from notifier.openings import at_least_one, opened, wanted
from notifier.router import Policy, Section
from notifier.tally import Tally
from notifier.term import NOBODY, Over, Term, buses_of

NOTIFIER: Final = "notifier"
LOOK_EVERY_SEC: Final = 1.0
AGAIN_SEC: Final = 0.5

log = logs.get(NOTIFIER)


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
            async with self._me.waiting(LOOK_EVERY_SEC):
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
