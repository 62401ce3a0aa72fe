"""Work that only one instance of a service may do at a time, for as long as the service runs."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from marketswarm.agent.lease import Lease, LeaseLost
from marketswarm.agent.member import Agent
from marketswarm.bus.outage import Outage, retrying
from marketswarm.tasks import run_beside

LOST_REST_SEC: Final = 1.0
"""The pause after a lost lease: work whose epoch a store refuses may lose it again at once."""
LEADERLESS_SEC: Final = 60.0
"""How long no instance may be known to lead until beats say so; for a long lease, twice its life."""
PROVEN_SEC: Final = 10.0
"""How long work has to continue until it counts as done: work that is refused ends at once."""
_WATCH_EVERY_SEC: Final = 2.0


class LeaderWatch:
    """Know since when no instance is known to lead, and have the agent's beats say so.

    One leads if its work continues here, or if it is seen to renew its lease. That somebody holds the lease
    proves nothing: its key may have been written by another client, or its holder be refused by a store.

    Args:
        name: of the lease.
        patience_sec: how long that may be so until it is said.
        tell: called with the words every two seconds while it is so.
    """

    def __init__(
        self, me: Agent[Any], name: str, patience_sec: float, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        self._me, self._name, self._patience_sec, self._tell = me, name, patience_sec, tell
        self._read_clock = asyncio.get_running_loop().time
        self._led_at = self._read_clock()
        self._working_since: float | None = None
        self._loss = ""
        self._is_leaderless = False

    def note(self) -> None:
        """Note that an instance leads now."""
        self._led_at, self._loss = self._read_clock(), ""

    def begin_work(self) -> None:
        self._working_since = self._read_clock()

    def end_work(self, loss: str = "") -> None:
        """Note that the work here ended; `loss` is why it lost the lease."""
        self._note_work()
        self._working_since, self._loss = None, loss

    async def run(self) -> None:
        """Set and end the agent's degraded status until cancelled."""
        while True:
            await asyncio.sleep(_WATCH_EVERY_SEC)
            self._note_work()
            self._show()

    def _show(self) -> None:
        for_sec = self._read_clock() - self._led_at
        is_leaderless = for_sec > self._patience_sec
        words = f"no process leads ({self._name}) for {for_sec:.0f} s" + (self._loss and f": {self._loss}")
        if is_leaderless or self._is_leaderless:
            self._me.set_degraded(words if is_leaderless else None, part=f"leader of {self._name}")
        if is_leaderless:
            self._tell(words)
        if is_leaderless is not self._is_leaderless:
            self._is_leaderless = is_leaderless
            if is_leaderless:
                self._me.log.error("lease.leaderless", lease=self._name, sec=round(for_sec), why=self._loss)
            else:
                self._me.log.info("lease.led_again", lease=self._name)

    def _note_work(self) -> None:
        if self._working_since is not None and self._read_clock() - self._working_since >= PROVEN_SEC:
            self.note()


async def lead(
    me: Agent[Any],
    name: str,
    work: Callable[[Lease], Awaitable[None]],
    outage: Outage,
    *,
    former: str | None = None,
    get_bus: Callable[[], str] = lambda: "system-redis",
    life_sec: float = 10.0,
    on_leaderless: Callable[[str], None] = lambda _: None,
    on_other_holder: Callable[[], None] = lambda: None,
) -> None:
    """Do `work` while this process holds its service's own lease `name`, again and again until cancelled.

    The lease is waited for again after it was lost, after `work` has raised a BusError, and after it
    returned. If no process is known to lead for a minute, the beats are degraded and say so.

    Args:
        work: is passed the lease, whose epoch can fence its writes. It may raise LeaseLost itself, when a
            store has refused its epoch.
        outage: records the BusErrors of `work`. It lasts until `work` returns, or ends it itself.
        former: the name under which older releases ask for this lease: see `Agent.lease`.
        life_sec: the seconds until the lease of a dead process expires.
        on_leaderless: called with words for people every two seconds while no process is known to lead.
        on_other_holder: called whenever it is seen that another process holds the lease.
    """
    watch = LeaderWatch(me, name, max(LEADERLESS_SEC, 2 * life_sec), on_leaderless)

    def note_other(is_renewed: bool) -> None:
        if is_renewed:
            watch.note()
        on_other_holder()

    async with run_beside(watch.run()):
        async for attempt in retrying(outage):
            try:
                with attempt:
                    async with me.lease(
                        name,
                        life_sec=life_sec,
                        bus=get_bus(),
                        own=True,
                        former=former,
                        on_other_holder=note_other,
                    ) as lease:
                        watch.begin_work()
                        await work(lease)
                        watch.note()
            except LeaseLost as lost:
                watch.end_work(str(lost))
                await asyncio.sleep(LOST_REST_SEC)
            else:
                watch.end_work()
