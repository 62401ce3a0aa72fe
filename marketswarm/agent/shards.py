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
from typing import Any, Final

from marketswarm.agent.tasks import Host, subscribe_inside
from marketswarm.bus import WITHIN_SEC, Bus, BusError
from marketswarm.bus.scripts import Script
from marketswarm.keys import members_key
from marketswarm.metrics import Family, MetricTable
from marketswarm.time_slice import wait_until_due

DIGEST_BYTES: Final = 8
_CACHED_MEMBERS: Final = 1_024
LIFE: Final = 0.9  # of the timeout: in the remaining tenth the other members notice that this one is gone
REFRESHES: Final = 4
"""Renewals within the life of a membership."""
MAX_MEMBERS: Final = 1_000
LEAVE_WITHIN_SEC: Final = 0.5
KNOWN_WITHIN_SEC: Final = 2.0
_MIN_WITHIN_SEC: Final = 0.1
_JUST_AFTER_SEC: Final = 0.005
_PAUSE_SEC: Final = 0.02  # a flood on the members' channel costs at most fifty looks a second
_SHARE_SCRIPT: Final = Script.beside("marketswarm.agent", "share.lua")
_HELP: Final = {
    "members{what}": "Instances that share this work, this one included; 0 while nobody knows.",
    "keys{what}": "Keys of it that were this instance's when it last asked.",
}
_METRICS: Final = MetricTable("marketswarm_share_", _HELP)


def find_owners(keys: Iterable[str], members: Collection[str]) -> dict[str, str]:
    """Return the owner of each key, in the order of `keys`; an empty dict if there are no members.

    The order of `members` does not matter, and neither do repeats.
    """
    hashed = [(member, _hash_member(member)) for member in sorted(set(members))]
    return {key: max(hashed, key=_make_rating(key))[0] for key in keys} if hashed else {}


def select_owned(keys: Iterable[str], member: str, members: Collection[str]) -> list[str]:
    """Return the keys of `member`, in their order; none if it is not among `members`."""
    keys = list(keys)
    owner = find_owners(keys, members)
    return [key for key in keys if owner.get(key) == member]


def _make_rating(key: str) -> Callable[[tuple[str, Any]], bytes]:
    text = _encode(key)

    def weight(member_and_hash: tuple[str, Any]) -> bytes:
        state = member_and_hash[1].copy()
        state.update(text)
        return bytes(state.digest())

    return weight


@lru_cache(maxsize=_CACHED_MEMBERS)
def _hash_member(member: str) -> Any:
    """Return a cached hash state: copy it before you add a key."""
    name = blake2b(_encode(member), digest_size=DIGEST_BYTES).digest()
    return blake2b(name, digest_size=DIGEST_BYTES)


def _encode(text: str) -> bytes:
    # a key may come from JSON, which knows halves of surrogate pairs
    return text.encode("utf-8", "surrogatepass")


class Members:
    """The instances that share the work, as far as this one knows. Pure; times are in monotonic seconds.

    `boots` is empty while they are unknown.
    """

    def __init__(self) -> None:
        self.boots: tuple[str, ...] = ()
        self._answered_at = float("-inf")
        self._next_expiry_at = float("inf")

    def record_answer(self, boots: Iterable[str], next_expiry_sec: float | None, now: float) -> bool:
        """Record the members that the bus returned; return True if they changed.

        `next_expiry_sec` is the seconds until the first of the others expires, None if there are no others.
        """
        before, self.boots = self.boots, tuple(sorted(boots))
        self._answered_at = now
        self._next_expiry_at = float("inf") if next_expiry_sec is None else now + next_expiry_sec
        return self.boots != before

    def record_failure(self, life_sec: float, now: float) -> bool:
        """Record a failed request; return True once none has succeeded for `life_sec` seconds.

        The members are unknown then.
        """
        self._next_expiry_at = float("inf")
        if now - self._answered_at > life_sec:
            self.boots = ()
        return not self.boots

    def next_renewal_sec(self, life_sec: float, now: float) -> float:
        """Return the seconds until the next renewal, or until another member would expire."""
        expires_in_sec = self._next_expiry_at - now + _JUST_AFTER_SEC
        return max(_JUST_AFTER_SEC, min(life_sec / REFRESHES, expires_in_sec))


class Share:
    """One instance's part of its service's keys, created by `Agent.share`.

    `what` is the name of the share, `bus` the bus that holds the members, or None for the bus of the beats.
    """

    def __init__(self, me: Host, what: str, bus: str | None) -> None:
        self.what = what
        self.key_count = 0
        """The number of keys that the last call of `mine` returned."""
        self._me, self._bus_name = me, bus
        self._last_bus = me.bus(bus or me.beat_bus)
        self._key = members_key(me.name, None if what == "work" else what)
        self._members = Members()
        self._renewal_due, self._answered = asyncio.Event(), asyncio.Event()
        self._has_changed = False
        self._last_result: tuple[list[str], tuple[str, ...], list[str]] = ([], (), [])

    @property
    def members(self) -> tuple[str, ...]:
        return self._members.boots

    def mine(self, keys: Iterable[str]) -> list[str]:
        """Return the keys among `keys` that belong to this instance, in their order.

        Return all of them while this instance is alone or the members are unknown: work that is done twice is
        better than work that is not done.
        """
        requested, members, boot = list(keys), self.members, self._me.boot
        if members and boot not in members:  # we expired while our work made no progress, and it does again
            members = (*members, boot)
            self._renewal_due.set()
        if (requested, members) != self._last_result[:2]:
            owned = select_owned(requested, boot, members) if members else requested
            self._last_result = (requested, members, owned)
        mine = list(self._last_result[2])
        self.key_count = len(mine)
        return mine

    def changed(self) -> bool:
        """Return True if the members changed since the last call. A change also ends `me.rest`."""
        changed, self._has_changed = self._has_changed, False
        return changed

    async def known(self, within_sec: float = KNOWN_WITHIN_SEC) -> bool:
        """Wait for the bus's first answer; return True if the members are known."""
        with contextlib.suppress(TimeoutError):
            async with self._me.waiting(within_sec):
                await self._answered.wait()
        return bool(self.members)

    async def run(self) -> None:
        """Stay a member until cancelled, following the truth to another bus; then leave."""
        self._me.on_reseed(lambda _truth: self._renewal_due.set())
        while True:
            bus = self._find_bus()
            try:
                async with subscribe_inside(self._me.side_tasks, bus, self._key, self._on_message):
                    await self._stay_on(bus)
            finally:
                with contextlib.suppress(BusError):
                    await self._run_script(bus, 0.0, LEAVE_WITHIN_SEC)

    async def _stay_on(self, bus: Bus) -> None:
        while self._find_bus() is bus:
            await self._renew(bus)
            await asyncio.sleep(_PAUSE_SEC)
            pause_sec = self._members.next_renewal_sec(self._life_sec, time.monotonic())
            await wait_until_due(self._renewal_due, pause_sec)

    async def _renew(self, bus: Bus) -> None:
        # the membership runs from the last progress, so that a member whose work hangs expires, as its beats
        # stop
        left_sec = self._life_sec - self._me.work_progress.silent_sec(time.monotonic())
        within_sec = max(_MIN_WITHIN_SEC, min(WITHIN_SEC, self._life_sec / REFRESHES))
        try:
            next_expiry_ms, *boots = await self._run_script(bus, left_sec, within_sec)
        except BusError as error:
            before = self.members
            if self._members.record_failure(self._life_sec, time.monotonic()):
                self._me.set_degraded(
                    f"nobody knows who shares: {bus.name} {error.reason}", part=f"share {self.what}"
                )
            if before != self.members:
                self._announce_change()
            return
        next_expiry_sec = int(next_expiry_ms) / 1000 if int(next_expiry_ms) >= 0 else None
        names = [boot.decode("utf-8", "replace") for boot in boots]
        self._me.set_degraded(None, part=f"share {self.what}")
        if self._members.record_answer(names, next_expiry_sec, time.monotonic()):
            self._announce_change()
        self._answered.set()

    async def _run_script(self, bus: Bus, life_sec: float, within_sec: float) -> Sequence[Any]:
        """Return the milliseconds until another member expires (-1: no other), then the boots.

        A `life_sec` of 0 or less leaves the membership. Raise BusError if the bus fails.
        """
        lives_ms = (max(0, round(1000 * life_sec)), round(1000 * self._life_sec))
        args: list[str | bytes | float] = [self._me.boot, *lives_ms, MAX_MEMBERS]
        answer: Sequence[Any] = await bus.script(_SHARE_SCRIPT, [self._key], args, within_sec)
        return answer

    def _on_message(self, boot: bytes | None) -> None:
        """Renew the membership when another boot published a change, or messages may be missing (None)."""
        if boot != self._me.boot.encode():
            self._renewal_due.set()

    def _announce_change(self) -> None:
        self._has_changed = True
        self._me.log.info("share.changed", what=self.what, members=len(self.members))
        self._me.wake()

    @property
    def _life_sec(self) -> float:
        return LIFE * self._me.timeout_sec

    def _find_bus(self) -> Bus:
        """Return the bus of the truth in force; the last one if it has no URL."""
        with contextlib.suppress(BusError):
            self._last_bus = self._me.bus(self._bus_name or self._me.beat_bus)
        return self._last_bus


def collect_shares(shares: Iterable[Share]) -> Iterator[Family]:
    shares = list(shares)
    return _METRICS.collect(
        members={share.what: len(share.members) for share in shares},
        keys={share.what: share.key_count for share in shares},
    )
