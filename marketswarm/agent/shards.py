"""`me.share()`: divide a service's keys among its instances that are alive now.

    share = me.share()
    await share.known()
    while True:
        for url in share.mine(section.urls): ...
        await me.rest(60)  # returns at once when the members change

Each instance keeps its boot in a sorted set on the bus while its work makes progress, and is notified when
others come and go. Keys belong to members by rendezvous hashing: each key has a number for each member, and
belongs to the member with the highest number. So all instances that know the same members agree without a
message, in every process and every version of Python. When a member leaves, only its keys move; when a member
comes, it takes its part from the others.

Two members may own one key for a moment, and for longer while the bus is away: shared work must tolerate
being done twice. Work that does not tolerate it needs `me.lease`.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from marketswarm.agent.tasks import hearing
from marketswarm.bus import WITHIN_SEC, Bus, BusError
from marketswarm.bus.scripts import Script
from marketswarm.keys import members_key
from marketswarm.metrics import Family

if TYPE_CHECKING:
    from marketswarm.agent.member import Agent

DIGEST_BYTES: Final = 8
_REMEMBERED: Final = 1_024


def owners(keys: Iterable[str], members: Collection[str]) -> dict[str, str]:
    """Return the owner of each key, in the order of `keys`; an empty dict if there are no members.

    The order of `members` does not matter, and neither do repeats.
    """
    rated = [(member, _of_member(member)) for member in sorted(set(members))]
    return {key: max(rated, key=_by_weight(key))[0] for key in keys} if rated else {}


def owned(keys: Iterable[str], member: str, members: Collection[str]) -> list[str]:
    """Return those of `keys` that belong to `member`, in their order; none if it is not among `members`."""
    keys = list(keys)
    owner = owners(keys, members)
    return [key for key in keys if owner.get(key) == member]


def _by_weight(key: str) -> Callable[[tuple[str, Any]], bytes]:
    """Return a function that rates a pair of `owners`, a member and its hash, for this key."""
    text = _bytes(key)

    def weight(rated: tuple[str, Any]) -> bytes:
        """Return the member's number for the key, as bytes."""
        whole = rated[1].copy()
        whole.update(text)
        return bytes(whole.digest())

    return weight


@lru_cache(maxsize=_REMEMBERED)
def _of_member(member: str) -> Any:
    """Return the hash state of a member's name. Copy it before you add a key: it is cached."""
    name = blake2b(_bytes(member), digest_size=DIGEST_BYTES).digest()
    return blake2b(name, digest_size=DIGEST_BYTES)


def _bytes(text: str) -> bytes:
    """Return a text as UTF-8, with lone surrogates kept."""
    # a key may come from JSON, which knows halves of surrogate pairs
    return text.encode("utf-8", "surrogatepass")


LIFE: Final = 0.9  # of the timeout: in the remaining tenth the other members notice that this one is gone
REFRESHES: Final = 4
"""Renewals within the life of a membership."""
MOST_MEMBERS: Final = 1_000
LEAVE_WITHIN_SEC: Final = 0.5
KNOWN_WITHIN_SEC: Final = 2.0
_LEAST_WITHIN_SEC: Final = 0.1
_JUST_AFTER_SEC: Final = 0.005
_PAUSE_SEC: Final = 0.02  # a flood on the members' channel costs at most fifty looks a second
_TURN: Final = Script.beside("marketswarm.agent", "share.lua")


class Members:
    """The instances that share the work, as far as this one knows. Pure; times are in monotonic seconds.

    `boots` is empty while they are unknown.
    """

    def __init__(self) -> None:
        self.boots: tuple[str, ...] = ()
        self._answered_at = float("-inf")
        self._next_gone_at = float("inf")

    def answered(self, boots: Iterable[str], next_gone_sec: float | None, now: float) -> bool:
        """Record the members that the bus returned; return True if they changed.

        `next_gone_sec` is the seconds until the first of the others expires, None if there are no others.
        """
        before, self.boots = self.boots, tuple(sorted(boots))
        self._answered_at = now
        self._next_gone_at = float("inf") if next_gone_sec is None else now + next_gone_sec
        return self.boots != before

    def unanswered(self, life_sec: float, now: float) -> bool:
        """Record a failed request; return True if the members are unknown.

        They are unknown once no request has succeeded for `life_sec` seconds.
        """
        self._next_gone_at = float("inf")
        if now - self._answered_at > life_sec:
            self.boots = ()
        return not self.boots

    def look_in(self, life_sec: float, now: float) -> float:
        """Return the seconds until the next renewal, or until another member would expire."""
        gone_in = self._next_gone_at - now + _JUST_AFTER_SEC
        return max(_JUST_AFTER_SEC, min(life_sec / REFRESHES, gone_in))


class Share:
    """One instance's part of its service's keys, created by `Agent.share`.

    `what` is the name of the share, `bus` the bus that holds the members, or None for the bus of the beats.
    """

    def __init__(self, me: "Agent[Any]", what: str, bus: str | None) -> None:
        self.what = what
        self.held = 0
        """The number of keys that the last call of `mine` returned."""
        self._me, self._bus_name = me, bus
        self._last_bus = me.bus(bus or me.beat_bus)
        self._key = members_key(me.name, None if what == "work" else what)
        self._members = Members()
        self._due, self._known = asyncio.Event(), asyncio.Event()
        self._changed = False
        self._asked: tuple[list[str], tuple[str, ...], list[str]] = ([], (), [])

    @property
    def members(self) -> tuple[str, ...]:
        """Return the boots of all members, this one included, in order; empty while they are unknown."""
        return self._members.boots

    def mine(self, keys: Iterable[str]) -> list[str]:
        """Return the keys among `keys` that belong to this instance, in their order.

        Return all of them while this instance is alone or the members are unknown: work that is done twice is
        better than work that nobody does.
        """
        asked, members, boot = list(keys), self.members, self._me.boot
        if members and boot not in members:  # we expired while our work made no progress, and it does again
            members = (*members, boot)
            self._due.set()
        if (asked, members) != self._asked[:2]:
            self._asked = (asked, members, owned(asked, boot, members) if members else asked)
        mine = list(self._asked[2])
        self.held = len(mine)
        return mine

    def changed(self) -> bool:
        """Return True if the members changed since the last call. A change also ends `me.rest`."""
        changed, self._changed = self._changed, False
        return changed

    async def known(self, within_sec: float = KNOWN_WITHIN_SEC) -> bool:
        """Wait at most `within_sec` seconds for the bus's first answer.

        Return True if the members are known.
        """
        with contextlib.suppress(TimeoutError):
            async with self._me.waiting(within_sec):
                await self._known.wait()
        return bool(self.members)

    async def run(self) -> None:
        """Stay a member until cancelled, following the truth to another bus; then leave."""
        self._me.on_reseed(lambda _truth: self._due.set())
        while True:
            bus = self._bus()
            try:
                async with hearing(self._me, bus, self._key, self._heard):
                    await self._stay(bus)
            finally:
                with contextlib.suppress(BusError):
                    await self._ask(bus, 0.0, LEAVE_WITHIN_SEC)

    async def _stay(self, bus: Bus) -> None:
        """Stay a member on this bus until the truth names another bus."""
        while self._bus() is bus:
            self._due.clear()
            await self._turn(bus)
            await asyncio.sleep(_PAUSE_SEC)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._members.look_in(self._life_sec, time.monotonic())):
                    await self._due.wait()

    async def _turn(self, bus: Bus) -> None:
        """Renew our membership on `bus` once, and record the members that it returns, or its failure."""
        # the membership runs from the last progress: a member whose work hangs expires, as its beats stop
        left_sec = self._life_sec - self._me.work_progress.silent_sec(time.monotonic())
        within_sec = max(_LEAST_WITHIN_SEC, min(WITHIN_SEC, self._life_sec / REFRESHES))
        try:
            next_gone_ms, *boots = await self._ask(bus, left_sec, within_sec)
        except BusError as error:
            known = self.members
            if self._members.unanswered(self._life_sec, time.monotonic()):
                self._me.set_degraded(
                    f"nobody knows who shares: {bus.name} {error.reason}", part=f"share {self.what}"
                )
            if known != self.members:
                self._tell()
            return
        next_gone_sec = int(next_gone_ms) / 1000 if int(next_gone_ms) >= 0 else None
        names = [boot.decode("utf-8", "replace") for boot in boots]
        self._me.set_degraded(None, part=f"share {self.what}")
        if self._members.answered(names, next_gone_sec, time.monotonic()):
            self._tell()
        self._known.set()

    async def _ask(self, bus: Bus, life_sec: float, within_sec: float) -> Sequence[Any]:
        """Run share.lua; return the milliseconds until another member expires (-1: no other), then the boots.

        A `life_sec` of 0 or less leaves the membership. Raise BusError if the bus fails.
        """
        lives_ms = (max(0, round(1000 * life_sec)), round(1000 * self._life_sec))
        args: list[str | bytes | float] = [self._me.boot, *lives_ms, MOST_MEMBERS]
        answer: Sequence[Any] = await bus.script(_TURN, [self._key], args, within_sec)
        return answer

    def _heard(self, boot: bytes | None) -> None:
        """Have the membership renewed when another boot published a change.

        `boot` is None when messages may be missing.
        """
        if boot != self._me.boot.encode():
            self._due.set()

    def _tell(self) -> None:
        """Mark and log a change of the members, and wake the work loop."""
        self._changed = True
        self._me.log.info("share.changed", what=self.what, members=len(self.members))
        self._me.wake()

    @property
    def _life_sec(self) -> float:
        """Return the seconds after which a membership expires without renewal."""
        return LIFE * self._me.timeout_sec

    def _bus(self) -> Bus:
        """Return the bus that the truth in force names; the last one if it has no URL."""
        with contextlib.suppress(BusError):
            self._last_bus = self._me.bus(self._bus_name or self._me.beat_bus)
        return self._last_bus


def collect(shares: Iterable[Share]) -> Iterator[Family]:
    """Yield the metrics of the shares of one agent."""
    shares = list(shares)
    yield Family(
        "marketswarm_share_members",
        "gauge",
        "Instances that share this work, this one included; 0 while nobody knows.",
        [((share.what,), float(len(share.members))) for share in shares],
        labels=("what",),
    )
    yield Family(
        "marketswarm_share_keys",
        "gauge",
        "Keys of it that were this instance's when it last asked.",
        [((share.what,), float(share.held)) for share in shares],
        labels=("what",),
    )
