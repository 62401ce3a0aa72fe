"""The notifier's memory on every bus: read once at the start, then written turn by turn, the same on each.

A turn counts as stored once one bus has it. A bus that missed one is written whole when it can be reached
again. What waits for a bus that refuses has a bound: too many acknowledgements hold back the bus's own reader
(`room`), and no other. Not here: what is remembered.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from marketswarm import log as logs
from marketswarm.attention import ASKS, DEAD, GROUP, STATE, answers_key, told_key
from marketswarm.attention.keys import ANSWERS_SEC
from marketswarm.bus import Bus, BusError
from marketswarm.scripts import Script
from marketswarm.stored import is_wrong_type, report_unusable
from marketswarm.vigil.agreed import LOG
from notifier.intake import ROOM
from notifier.lease import KEY as LEASE
from notifier.turn import DEAD_LENGTH, TOLD_SEC, Turn

SEQ: Final = "seq"
BY: Final = "by"
LOAD_WITHIN_SEC: Final = 5.0
OTHERS_WITHIN_SEC: Final = 1.0
WITHIN_SEC: Final = 2.0
BYTES_A_SEC: Final = 20e6
FIRST_PAUSE_SEC: Final = 0.1
LONGEST_PAUSE_SEC: Final = 1.0
COMPLAIN_EVERY_SEC: Final = 30.0
BEHIND: Final = 0
TURNED_AWAY: Final = -1

_COMMIT: Final = Script.beside("notifier", "commit.lua")

log = logs.get("store")


class Store:
    """The state and its copies. Call `load` first, then `run`, beside which `commit` writes.

    Args:
        boot: who writes.
        buses: where to, by name.
        turned_away: told the name of a bus on which another notifier holds the lease.
        acknowledged: called with a bus's name, and the entries of its log and of its asks whose
            acknowledgement it took.
    """

    def __init__(
        self,
        boot: str,
        buses: Mapping[str, Bus],
        *,
        turned_away: Callable[[str], None],
        acknowledged: Callable[[str, Iterable[bytes], Iterable[bytes]], None],
    ) -> None:
        self.boot = boot
        self.fields: dict[str, bytes] = {}
        self.seq = 0
        self.loaded_from = ""
        self.turned_away, self.acknowledged = turned_away, acknowledged
        self._keepers = {name: Keeper(bus, self) for name, bus in buses.items()}

    async def load(self) -> dict[str, bytes]:
        """The latest state that can be read; who does not answer soon after the first is not waited for.

        Raises BusError when none can be read.
        """
        reads = {asyncio.ensure_future(_read(each.bus)): name for name, each in self._keepers.items()}
        try:
            await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait(reads, timeout=OTHERS_WITHIN_SEC)
            if all(isinstance(each.result(), BusError) for each in reads if each.done()):
                await asyncio.wait(reads)
            replies = {name: each.result() for each, name in reads.items() if each.done()}
        finally:
            for each in reads:
                each.cancel()
        found = {name: reply for name, reply in replies.items() if not isinstance(reply, BusError)}
        if not found:
            raise next(reply for reply in replies.values() if isinstance(reply, BusError))
        best = max(found.values(), key=_seq)
        self.seq = _seq(best)
        self.loaded_from = next(name for name, state in found.items() if state is best)
        self.fields = {name: value for name, value in best.items() if name not in (SEQ, BY)}
        for name, state in found.items():
            if state and state == best:
                self._keepers[name].held = self.seq
        return dict(self.fields)

    async def run(self) -> None:
        """Writes until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, keeper in self._keepers.items():
                group.create_task(keeper.run(), name=f"store:{name}")

    async def commit(self, turn: Turn) -> bool:
        """Writes a turn everywhere; whether one bus has it. Returns as soon as that is known."""
        self.seq += 1
        for name, value in turn.fields.items():
            if value is None:
                self.fields.pop(name, None)
            else:
                self.fields[name] = value
        waiting = {keeper.put(turn) for keeper in self._keepers.values()}
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if any(each.result() for each in done):
                return True
        return False

    async def settle(self) -> None:
        """Waits until every bus that takes something has everything."""
        await asyncio.gather(*(keeper.put(Turn()) for keeper in self._keepers.values()))

    def seen(self, bus: str, seq: bytes | None) -> None:
        """Somebody looked which `seq` a bus holds: one that lost its state gets it anew."""
        self._keepers[bus].seen(seq)

    def refusals(self) -> dict[str, str]:
        """By bus, why it takes nothing, as long as it takes nothing."""
        return {name: each.refusal for name, each in self._keepers.items() if each.refusal is not None}

    def unacknowledged(self, bus: str) -> int:
        """Return how many acknowledgements a bus has yet to take."""
        return self._keepers[bus].unacknowledged

    async def room(self, bus: str) -> None:
        """Wait while a bus has `ROOM` acknowledgements to take: its reader reads nothing until then."""
        await self._keepers[bus].room()


class Keeper:
    """What one bus has yet to take. `held` is the `seq` it has, None for a state that is not ours."""

    def __init__(self, bus: Bus, store: Store) -> None:
        self.bus = bus
        self.held: int | None = None
        self.refusal: str | None = None
        self._store = store
        self._turn, self._writing = Turn(), Turn()
        self._waiting: list[asyncio.Future[bool]] = []
        self._filled, self._stored = asyncio.Event(), asyncio.Event()
        self._complained_at = float("-inf")
        self._dropped_reported = False

    def put(self, turn: Turn) -> asyncio.Future[bool]:
        """Adds a turn; what is returned says, after the next attempt, whether the bus took it."""
        self._turn.add(turn.of(self.bus.name))
        self._filled.set()
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self.refusal is not None:
            answer.set_result(False)  # nobody waits for a bus that is away
        else:
            self._waiting.append(answer)
        return answer

    @property
    def unacknowledged(self) -> int:
        """How many acknowledgements the bus has yet to take."""
        return sum(turn.acks_count(self.bus.name) for turn in (self._writing, self._turn))

    async def room(self) -> None:
        """See `Store`."""
        while self.unacknowledged >= ROOM:
            self._stored.clear()
            await self._stored.wait()

    def seen(self, seq: bytes | None) -> None:
        """See `Store`. While something is being written, it may be of before that."""
        at_rest = self.held is not None and not self._filled.is_set() and not self._waiting
        if at_rest and seq != str(self.held).encode():
            self.held = None
            self._filled.set()

    async def run(self) -> None:
        """Writes until cancelled."""
        pause_sec = FIRST_PAUSE_SEC
        while True:
            await self._filled.wait()
            self._filled.clear()
            waiting, self._waiting = self._waiting, []
            turn, self._turn = self._turn, Turn()
            self._writing = turn
            stored = False
            try:
                stored = await self._write(turn)
            except BusError as error:
                self._refused(error)
            finally:
                self._writing = Turn()
                if not stored:
                    self._keep(turn)
                for each in waiting:
                    if not each.done():
                        each.set_result(stored)
            if stored:
                self.refusal, self._dropped_reported, pause_sec = None, False, FIRST_PAUSE_SEC
                self._store.acknowledged(self.bus.name, *turn.acks(self.bus.name))
                self._stored.set()
            else:
                self._filled.set()
                await asyncio.sleep(pause_sec)
                pause_sec = min(2 * pause_sec, LONGEST_PAUSE_SEC)

    def _keep(self, turn: Turn) -> None:
        """Keep a turn that the bus did not take, and what came after it, for the next attempt."""
        turn.add(self._turn)
        self._turn = turn
        dropped = turn.shorten()
        if dropped and not self._dropped_reported:
            self._dropped_reported = True
            log.warning("store.dropped", bus=self.bus.name, **dropped)

    async def _write(self, turn: Turn) -> bool:
        reply = await self._attempt(turn, self.held)
        if reply == BEHIND:
            reply = await self._attempt(turn, None)
        if reply == TURNED_AWAY:
            self.held, self.refusal = None, "another notifier"
            self._store.turned_away(self.bus.name)
        return bool(reply == 1)

    async def _attempt(self, turn: Turn, held: int | None) -> object:
        store, seq = self._store, self._store.seq
        fields: dict[str, bytes | None] = turn.fields if held is not None else {**store.fields}
        keys = [LEASE, STATE, DEAD, LOG, ASKS, *map(told_key, turn.told), *map(answers_key, turn.answers)]
        fixed = [store.boot, "" if held is None else held, seq, GROUP, TOLD_SEC, ANSWERS_SEC, DEAD_LENGTH]
        args = [*fixed, *turn.args(self.bus.name, fields)]
        size = sum(len(each) for each in args if isinstance(each, (str, bytes)))
        self.held = None  # until the bus says that it has it
        reply = await self.bus.script(_COMMIT, keys, args, WITHIN_SEC + size / BYTES_A_SEC)
        if reply == 1:
            self.held = seq
        return reply

    def _refused(self, error: BusError) -> None:
        self.refusal = error.reason
        now = time.monotonic()
        if now - self._complained_at >= COMPLAIN_EVERY_SEC:
            self._complained_at = now
            log.warning("store.waiting", bus=error.bus, reason=error.reason, detail=error.detail)


async def _read(bus: Bus) -> dict[str, bytes] | BusError:
    """Return the fields of `notifier:state`, none if it is no hash, or the error of a bus that fails."""
    try:
        found = await bus.ask(bus.client.hgetall(STATE), LOAD_WITHIN_SEC)
    except BusError as error:
        if not is_wrong_type(error):
            return error
        # what somebody else wrote under our key counts as nothing
        report_unusable(bus.name, STATE, "no hash")
        return {}
    return {name.decode("utf-8", "replace"): value for name, value in found.items()}


def _seq(state: Mapping[str, bytes]) -> int:
    raw = state.get(SEQ, b"")
    return int(raw) if raw.isdigit() and len(raw) < 16 else 0
