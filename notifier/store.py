"""Keep the notifier's state on every bus.

The state is loaded once at the start and then written one transaction at a time. A transaction counts
as stored once one bus has it. A bus that missed one gets the whole state when it answers again, unless it
holds a state that this one does not include (`state_copies.py`): then the term ends, and loads both. The
writes that wait for a bus that refuses them are bounded; too many acknowledgements pause the reader of
that bus alone (`wait_for_room`). Not here: what the state means (`dispatcher.py`, `state.py`,
`router/`).
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from typing import Any, Final

import orjson

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.bus.outage import PAUSES, Outage
from marketswarm.bus.scripts import Script
from marketswarm.bus.stored_values import is_wrong_type, parse_object, report_unusable
from marketswarm.keys import (
    ALERT_LOG,
    NOTIFIER_DEAD,
    NOTIFIER_GROUP,
    NOTIFIER_LEASE,
    NOTIFIER_REQUESTS,
    NOTIFIER_STATE,
    answers_key,
    delivery_key,
)
from marketswarm.operator.requests import ANSWERS_KEPT_SEC, REQUESTS_KEPT
from marketswarm.text import parse_digits
from notifier.inbox import CAPACITY
from notifier.state import REPLAY_START, parse_positions
from notifier.state_copies import (
    PAST,
    Lineage,
    StateCopy,
    find_apart,
    find_newest,
    find_replay_starts,
    join_lineages,
    join_replay_starts,
    merge_fields,
)

RECORDS_AT_MOST: Final = 20_000
"""How many delivery records are kept in memory for a bus that does not answer."""
DEAD_LENGTH: Final = 1000
"""About how many dead letters are kept, on a bus and in memory for a bus that does not answer."""
RECORD_SEC: Final = 86_400
"""How long a delivery record is kept on a bus, in seconds."""
RECORDS_WITHIN_SEC: Final = 0.5
"""How long reading delivery records from a bus may take, in seconds."""
LOAD_WITHIN_SEC: Final = 5.0
"""How long loading waits for the answer of a bus, in seconds."""
LOADING_WITHIN_SEC: Final = 15.0
"""How long loading waits for a bus that says that it reads its data from disk, in seconds."""
LOADING_PAUSE_SEC: Final = 0.2
"""The pause between two attempts to read the state from such a bus, in seconds."""
WITHIN_SEC: Final = 2.0
"""How long a write may take, in seconds, besides the time for its bytes."""
BYTES_A_SEC: Final = 20e6
"""The bytes of a write that prolong its time limit by one second."""
REJECTED: Final = -1
"""The reply of `commit.lua` when another notifier holds the lease."""
ATTEMPTS: Final = 3
"""How often a write is tried again at once because the bus holds another state than expected."""
_TERMS: Final = itertools.count(1)
_BY_BUS: Final = ("log_acks", "request_acks", "deleted_dead")
_COMMIT: Final = Script.beside("notifier", "commit.lua")


@dataclass(frozen=True, slots=True)
class RefusedMessage:
    """An encoded message that a channel refused for good, and why; `ts` in epoch seconds."""

    message: bytes
    channel: str
    reason: str
    ts: float


@dataclass(slots=True)
class Transaction:
    """The changes that one dispatch writes to every bus in one step.

    `fields` are the changed fields of the state, None for deleted ones; `records` are by event id, `answers`
    by request id. `log_acks`, `request_acks` and `deleted_dead` are, by bus, ids of stream entries.
    """

    fields: dict[str, bytes | None] = field(default_factory=dict)
    records: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, list[bytes]] = field(default_factory=dict)
    dead: list[RefusedMessage] = field(default_factory=list)
    log_acks: dict[str, list[bytes]] = field(default_factory=dict)
    request_acks: dict[str, list[bytes]] = field(default_factory=dict)
    deleted_dead: dict[str, list[bytes]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) for each in fields(self))

    def add(self, later: "Transaction") -> None:
        """Append what a later transaction writes; a field gets its later value."""
        self.fields.update(later.fields)
        self.records.update(later.records)
        self.dead = [*self.dead, *later.dead][-DEAD_LENGTH:]
        for name in ("answers", *_BY_BUS):
            for key, values in getattr(later, name).items():
                getattr(self, name).setdefault(key, []).extend(values)

    def shorten(self) -> dict[str, int]:
        """Drop the parts that a bus that did not store this transaction doesn't need.

        Changed fields are dropped because such a bus gets the whole state with the next attempt. Return how
        many answers and delivery records were dropped, by name.
        """
        self.fields.clear()
        kept: tuple[tuple[str, dict[str, Any], int], ...] = (
            ("answers", self.answers, REQUESTS_KEPT),
            ("told", self.records, RECORDS_AT_MOST),
        )
        dropped: dict[str, int] = {}
        for name, values, at_most in kept:
            if old := list(values)[:-at_most]:
                dropped[name] = len(old)
            for key in old:
                del values[key]
        for bus, entries in self.deleted_dead.items():
            self.deleted_dead[bus] = list(dict.fromkeys(entries))[-2 * DEAD_LENGTH :]
        return dropped

    def acks(self, bus: str) -> tuple[list[bytes], list[bytes]]:
        return self.log_acks.get(bus, []), self.request_acks.get(bus, [])

    def of(self, bus: str) -> "Transaction":
        """Return the part for one bus: without the acknowledgements and deletions on other buses.

        It shares its lists with this transaction, and is only to be added to another one.
        """
        own: dict[str, Any] = {name: {bus: getattr(self, name).get(bus, [])} for name in _BY_BUS}
        return replace(self, **own)

    def args(self, bus: str, changed: dict[str, bytes | None]) -> list[str | bytes | float]:
        """Return the arguments of `commit.lua`, in its order, with `changed` as the fields of the state."""
        kept = [(name, value) for name, value in changed.items() if value is not None]
        gone = [name for name, value in changed.items() if value is None]
        dead = [(each.message, each.channel, each.reason, f"{each.ts:.3f}") for each in self.dead]
        lists: list[Iterable[str | bytes | float]] = [
            _with_count(self.records.values()),
            [len(self.answers)],
            *(_with_count(lines) for lines in self.answers.values()),
            [len(kept)],
            *kept,
            _with_count(gone),
            [len(dead)],
            *dead,
            _with_count(self.deleted_dead.get(bus, ())),
            _with_count(self.log_acks.get(bus, ())),
            _with_count(self.request_acks.get(bus, ())),
        ]
        return list(chain.from_iterable(lists))


def _with_count(values: Iterable[str | bytes]) -> list[str | bytes | float]:
    found = list(values)
    return [len(found), *found]


def make_delivery_record(now: float, channels: Iterable[str], by: str, held: str | None = None) -> bytes:
    """Return the JSON of a delivery record, `notifier:told:{event id}`.

    `channels` accepted the message about the event; `held` is the reason if the message is held back.
    """
    found: dict[str, Any] = {"ts": round(now, 3), "channels": list(channels), "by": by}
    return orjson.dumps(found if held is None else found | {"held": held})


async def _read_records(bus: Bus, idents: Sequence[str]) -> list[bytes | None]:
    """Return a bus's delivery record or None for each event id; [] if the bus does not answer."""
    found: list[bytes | None] = []
    with contextlib.suppress(BusError):
        found = await bus.ask(bus.client.mget(map(delivery_key, idents)), RECORDS_WITHIN_SEC)
    return found


log = logs.get("store")


class Store:
    """The state and its copies on the buses: call `load`, then `run`; `commit` needs `run` to be running.

    Args:
        boot: the boot id of this notifier, which fences its writes.
        rejected: called with the name of a bus on which another notifier holds the lease.
        ahead: called with the name of a bus that holds a state which ours does not include: it is not written
            over, and the term must end, to load both.
        acknowledged: called with a bus's name and the acknowledged entries of its log and of its requests.
    """

    def __init__(
        self,
        boot: str,
        buses: Mapping[str, Bus],
        *,
        rejected: Callable[[str], None],
        acknowledged: Callable[[str, Iterable[bytes], Iterable[bytes]], None],
        ahead: Callable[[str], None] = lambda _bus: None,
    ) -> None:
        self.boot, self.term = boot, f"{boot}.{next(_TERMS)}"
        self.fields: dict[str, bytes] = {}
        self.seq = 0
        self.lineage = Lineage()
        self.loaded_from = ""
        self.replay_starts: dict[str, bytes] = {}
        """By bus, the entry of its log after which the events are to be handled again.

        They are in the state until that is done: a notifier that is killed before leaves it to the next one.
        """
        self.rejected, self.ahead, self.acknowledged = rejected, ahead, acknowledged
        self.writers = {name: BusWriter(bus, self) for name, bus in buses.items()}

    async def load(self) -> dict[str, bytes]:
        """Return the fields of the latest state on any bus, and what others have that it does not include.

        Each bus is waited for, LOAD_WITHIN_SEC long, or LOADING_WITHIN_SEC while it reads its data from disk.
        Raises BusError when no bus answers.
        """
        replies = await asyncio.gather(*(_try_reading(each.bus) for each in self.writers.values()))
        found = {
            name: StateCopy.parse(reply)
            for name, reply in zip(self.writers, replies, strict=True)
            if not isinstance(reply, BusError)
        }
        if not found:
            raise next(reply for reply in replies if isinstance(reply, BusError))
        for name, copy in found.items():
            self.writers[name].found = copy.by.encode(), copy.raw_seq
        self.loaded_from = find_newest(found)
        newest = found[self.loaded_from]
        # an earlier merge may have been killed before a log was handled again
        fields, starts = dict(newest.fields), parse_positions(newest.fields, REPLAY_START)
        for name in reversed(apart := find_apart(found)):
            other = found[name].fields
            fields = merge_fields(fields, other)
            since_both = find_replay_starts(newest.fields, other)
            starts = join_replay_starts(starts, parse_positions(other, REPLAY_START), since_both)
        self.replay_starts = starts
        fields |= {REPLAY_START + bus: start for bus, start in starts.items()}
        if apart:
            log.warning("store.merged", newest=self.loaded_from, buses=apart)
        self.seq, self.lineage = newest.seq, join_lineages(found.values())
        self.fields = {**fields, PAST: self.lineage.encode(self.term)}
        return fields

    def includes(self, by: str, seq: int) -> bool:
        """Return True if this state includes the one with this number by this term (`by`)."""
        return by == self.term or self.lineage.includes(by, seq)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for name, writer in self.writers.items():
                group.create_task(writer.run(), name=f"store:{name}")

    async def commit(self, transaction: Transaction) -> bool:
        """Write a transaction to every bus; return True once one has stored it, False if none has."""
        self.seq += 1
        for name, value in transaction.fields.items():
            if value is None:
                self.fields.pop(name, None)
            else:
                self.fields[name] = value
        waiting = {writer.add(transaction) for writer in self.writers.values()}
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if any(each.result() for each in done):
                return True
        return False

    async def find_delivered(self, idents: Sequence[str]) -> set[str]:
        """Return the event ids for which a bus that answers has a delivery record that names a channel.

        A bus whose last write failed is not asked.
        """
        reading = (_read_records(each.bus, idents) for each in self.writers.values() if each.refusal is None)
        answers = await asyncio.gather(*reading)
        found = (each for values in answers for each in zip(idents, values, strict=False))
        return {ident for ident, raw in found if parse_object(raw).get("channels")}

    async def settle(self) -> None:
        """Wait until every bus that accepts writes has stored everything added so far."""
        await asyncio.gather(*(writer.add(Transaction()) for writer in self.writers.values()))


class BusWriter:
    """Writes transactions to one bus, several at once if they wait.

    `held` is the sequence number of this term's state on the bus, None if the bus needs the whole state.
    `found` is who wrote the state that is replaced then, and its number. `refusal` is why the last write
    failed, None if it did not.
    """

    def __init__(self, bus: Bus, store: Store) -> None:
        self.bus = bus
        self.held: int | None = None
        self.found: tuple[bytes, bytes] = b"", b""
        self.refusal: str | None = None
        self._store = store
        self._next, self._writing = Transaction(), Transaction()
        self._waiting: list[asyncio.Future[bool]] = []
        self._filled, self._stored = asyncio.Event(), asyncio.Event()
        self._outage = Outage(log, "store.waiting", "store.resumed")
        self._dropped_reported = False

    def add(self, transaction: Transaction) -> asyncio.Future[bool]:
        """Add a transaction; return a future of whether the next attempt stores it, False after a failure."""
        self._next.add(transaction.of(self.bus.name))
        self._filled.set()
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self.refusal is not None:
            answer.set_result(False)  # no caller waits for a bus that is away
        else:
            self._waiting.append(answer)
        return answer

    @property
    def unacknowledged(self) -> int:
        """Return how many entries of this bus's log are read, and not acknowledged yet."""
        found = (*self._writing.acks(self.bus.name), *self._next.acks(self.bus.name))
        return sum(map(len, found))

    async def wait_for_room(self) -> None:
        while self.unacknowledged >= CAPACITY:
            self._stored.clear()
            await self._stored.wait()

    def check_seq(self, seq: bytes | None) -> None:
        """Have the whole state written if the bus holds another sequence number than `held`.

        A number that was read while a write is under way may be older than the write, and is ignored.
        """
        at_rest = self.held is not None and not self._filled.is_set() and not self._waiting
        if at_rest and seq != str(self.held).encode():
            self.held = None
            self._filled.set()

    async def run(self) -> None:
        """Write added transactions to the bus until cancelled; after a failure retry with a pause."""
        failures = 0
        while True:
            await self._filled.wait()
            self._filled.clear()
            waiting, self._waiting = self._waiting, []
            transaction, self._next = self._next, Transaction()
            self._writing = transaction
            stored = False
            try:
                stored = await self._write(transaction)
            except BusError as error:
                self.refusal = error.reason
                self._outage.record(error)
            finally:
                self._writing = Transaction()
                if not stored:
                    self._requeue(transaction)
                for each in waiting:
                    if not each.done():
                        each.set_result(stored)
            if stored:
                self.refusal, self._dropped_reported, failures = None, False, 0
                self._outage.end()
                self._store.acknowledged(self.bus.name, *transaction.acks(self.bus.name))
                self._stored.set()
            else:
                self._filled.set()
                failures += 1
                await asyncio.sleep(PAUSES.pause_sec(failures))

    def _requeue(self, transaction: Transaction) -> None:
        """Keep a transaction that the bus did not store, with what was added since, for the next attempt."""
        transaction.add(self._next)
        self._next = transaction
        dropped = transaction.shorten()
        if dropped and not self._dropped_reported:
            self._dropped_reported = True
            log.warning("store.dropped", bus=self.bus.name, **dropped)

    async def _write(self, transaction: Transaction) -> bool:
        """Write a transaction, or the whole state if the changes don't fit; return True if it was stored.

        What the bus holds is replaced only if our state includes it. Raises BusError.
        """
        reply: object = None
        for _ in range(ATTEMPTS):
            reply = await self._attempt(transaction, self.held)
            if not isinstance(reply, list):
                break
            by, seq = bytes(reply[0]), bytes(reply[1])
            if not self._store.includes(by.decode("utf-8", "replace"), parse_digits(seq) or 0):
                await self._report_ahead()
                break
            self.found = by, seq
        if reply == REJECTED:
            self.held, self.refusal = None, "another notifier"
            self._store.rejected(self.bus.name)
        return reply == 1

    async def _report_ahead(self) -> None:
        """Have the term end, if the state on the bus can be read. Raises BusError."""
        await _read_state(self.bus)
        self.refusal = "ahead"
        log.warning("store.ahead", bus=self.bus.name, seq=self._store.seq)
        self._store.ahead(self.bus.name)

    async def _attempt(self, transaction: Transaction, held: int | None) -> object:
        """Call `commit.lua` for the state with the number `held`; None writes it whole. Raises BusError."""
        store, seq = self._store, self._store.seq
        fields: dict[str, bytes | None] = transaction.fields if held is not None else {**store.fields}
        keys = [NOTIFIER_LEASE, NOTIFIER_STATE, NOTIFIER_DEAD, ALERT_LOG, NOTIFIER_REQUESTS]
        keys += [*map(delivery_key, transaction.records), *map(answers_key, transaction.answers)]
        known = ("1", *self.found) if held is None else ("", store.term, held)
        fixed = [store.boot, store.term, *known, seq, NOTIFIER_GROUP]
        fixed += [RECORD_SEC, ANSWERS_KEPT_SEC, DEAD_LENGTH]
        args = [*fixed, *transaction.args(self.bus.name, fields)]
        size = sum(len(each) for each in args if isinstance(each, (str, bytes)))
        self.held = None  # unknown until the bus answers that it has stored the transaction
        reply = await self.bus.script(_COMMIT, keys, args, WITHIN_SEC + size / BYTES_A_SEC)
        if reply == 1:
            self.held = seq
            self.found = store.term.encode(), str(seq).encode()
        return reply


async def _try_reading(bus: Bus) -> dict[str, bytes] | BusError:
    try:
        return await _read_state(bus)
    except BusError as error:
        return error


async def _read_state(bus: Bus) -> dict[str, bytes]:
    """Return the fields of `notifier:state`, none if it is not a hash. Raises BusError.

    While the bus reads its data from disk, ask again, for LOADING_WITHIN_SEC.
    """
    give_up_at = time.monotonic() + LOADING_WITHIN_SEC
    while True:
        try:
            found = await bus.ask(bus.client.hgetall(NOTIFIER_STATE), LOAD_WITHIN_SEC)
            return {name.decode("utf-8", "replace"): value for name, value in found.items()}
        except BusError as error:
            if is_wrong_type(error):
                # a value of another type, written by another program, counts as an empty state
                report_unusable(bus.name, NOTIFIER_STATE, "no hash")
                return {}
            if error.reason != "loading" or time.monotonic() > give_up_at:
                raise
        await asyncio.sleep(LOADING_PAUSE_SEC)
