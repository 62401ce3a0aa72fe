"""Seed a truth into every bus, or into none.

The steps: read all buses, plan, write one bus after the other, read all again to verify, and only then
publish on `truth:changed`. If a bus fails, another seeding writes or a signal arrives in between, restore the
former content of every bus that was written, its history included. The scripts are `seeding.lua` and
`back.lua`. Not here: waiting for buses (`readiness.py`), the plan (`plan.py`), files and exit codes.
"""

import asyncio
import hashlib
import math
import random
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import chain
from typing import Any, Final, TypeVar

import orjson

from marketswarm import log as logs
from marketswarm.bus import WITHIN_SEC, Bus, BusError, ClusterError
from marketswarm.bus.scripts import Script, load_all_scripts
from marketswarm.exit import Code
from marketswarm.keys import TRUTH_CHANGED, TRUTH_DOC, TRUTH_HISTORY, TRUTH_META
from marketswarm.seeding.functions import load_functions
from marketswarm.seeding.plan import BusState, make_plan
from marketswarm.tasks import finish_despite_cancellation, gather_all
from marketswarm.text import decode_text, parse_digits
from marketswarm.truth import Changes, Truth, TruthError, diff_truths, format_changes, parse_truth
from marketswarm.truth.patch import make_patch

SEED_SCRIPT: Final = Script.beside("marketswarm.seeding", "seeding.lua")
RESTORE_SCRIPT: Final = Script.beside("marketswarm.seeding", "back.lua")
KEPT_REVISIONS: Final = 50
"""How many revisions truth:history keeps."""
ATTEMPTS: Final = 5
"""How often a seeding starts again when another one runs at the same time."""
LATE: Final = "late"
"""The reason of a SeedError if the seeder has no time left."""
REPLACED: Final = "replaced"
"""The reason of a SeedError if the truth in force is not the one to replace."""
MOVED_DETAIL: Final = "someone else is seeding too"

T = TypeVar("T")

log = logs.get("seeding")


class SeedError(Exception):
    """A truth could not be seeded. Every bus is as before, except those in `unrestored`.

    `bus` names the first bus that failed. `reason` is the reason of its BusError, `moved` if other seedings
    ran at the same time, again and again, `replaced` if the truth in force is not the one to replace, or
    `late` if the seeder had no time left.
    """

    def __init__(self, bus: str, reason: str, detail: str = "", unrestored: Sequence[str] = ()) -> None:
        message = f"{bus}: {reason}" + (f" ({detail})" if detail else "")
        if unrestored:
            message += f"; could not be put back on {', '.join(unrestored)}: seed again once it answers"
        super().__init__(message)
        self.bus, self.reason, self.detail, self.unrestored = bus, reason, detail, tuple(unrestored)

    @property
    def code(self) -> Code:
        """Return CONFIGURATION if a bus is a Redis Cluster, otherwise NO_BUS."""
        return Code.CONFIGURATION if isinstance(self.__cause__, ClusterError) else Code.NO_BUS


class _ConcurrentSeedError(Exception):
    """Another seeding changed a bus after we read it; the message is the name of the bus."""


@dataclass(frozen=True, slots=True)
class SeedResult:
    """The result of a finished seeding; `revision` and `sha256` are those that every bus holds now."""

    revision: int
    sha256: str
    changed: bool
    """Whether the bytes are new."""
    changes: Changes
    """The differences to the document before; empty if `changed` is False."""
    repaired: tuple[str, ...]
    """The buses that did not hold what the others held, and do now."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one bus held at one moment, with the arguments that `back.lua` needs to restore it."""

    bus: Bus
    keys: tuple[str, str, str]
    """The keys of document, meta and history."""
    state: BusState
    token: bytes
    """A hash of the truth that was read; `seeding.lua` refuses to write if it has changed since."""
    read_at_ms: int
    """When the bus was read, by the server's clock, in epoch milliseconds."""
    read_at_sec: float
    """The same moment by the loop's clock, in seconds."""
    restore_arguments: tuple[Any, ...]
    """The arguments of `back.lua`."""
    left_sec: float = math.inf
    """How long after it was read the bus may be written."""


@dataclass(frozen=True, slots=True)
class _Revision:
    """A revision to write to every bus. The fields are in the order of the arguments of `seeding.lua`."""

    document: bytes
    number: int
    sha256: str
    seeded_at: str
    seeded_by: str


async def seed_truth(
    raw: bytes,
    buses: Sequence[Bus],
    seeded_by: str,
    *,
    key: str = TRUTH_DOC,
    replaces: str | None = None,
    loads_functions: bool = True,
    find_left_sec: Callable[[], float] | None = None,
) -> SeedResult:
    """Make every bus hold `raw` under one revision, or leave every bus as it was.

    A second call with the same bytes changes nothing. A call takes a few seconds at most, even if a server
    hangs.

    Args:
        seeded_by: the name of the seeder, for `truth:meta`.
        replaces: the SHA-256, in hex, of the only document that may be replaced; None allows any.
        loads_functions: whether to load this release's functions; a user without that right can't.
        find_left_sec: returns the seconds after which no bus may begin to hold it any more, such as those
            that are left of a lease. The buses themselves refuse what comes later.

    Raises:
        TruthError: the document is wrong; no request was sent to any bus.
        SeedError: a bus failed, or each of `ATTEMPTS` attempts met another seeding.
    """
    loaded = parse_truth(raw)
    moved_bus = ""
    for _ in range(ATTEMPTS):
        snapshots = await read_all([(bus, (key, TRUTH_META, TRUTH_HISTORY)) for bus in buses])
        if find_left_sec is not None:
            left_sec = find_left_sec()  # after they were read, so that the end is rather too early
            if left_sec <= 0:
                raise SeedError(buses[0].name, LATE, "no time is left for it")
            snapshots = [replace(each, left_sec=left_sec) for each in snapshots]
        plan = make_plan(raw, loaded.sha256, [each.state for each in snapshots])
        if replaces is not None and hashlib.sha256(plan.old_document or b"").hexdigest() != replaces:
            raise SeedError(buses[0].name, REPLACED, "the truth was changed meanwhile")
        if loads_functions:
            # before the truth, so that agents which apply it can call them
            scripts = load_all_scripts()
            await _gather_or_fail(load_functions(bus, scripts) for bus in buses)
        seeded_at = plan.seeded_at or f"{snapshots[0].read_at_ms / 1000:.3f}"
        revision = _Revision(raw, plan.revision, loaded.sha256, seeded_at, plan.seeded_by or seeded_by)
        targets = [each for each in snapshots if each.state.bus in plan.writes]
        try:
            await _write_all(revision, targets, snapshots)
        except _ConcurrentSeedError as error:
            moved_bus = str(error)
            log.warning("seeding.moved", bus=moved_bus)
            await asyncio.sleep(random.uniform(0.05, 0.3))
            continue
        await finish_despite_cancellation(_trim_histories(targets))
        if plan.must_publish:
            # a patch is about `truth:doc`, which is the key of an agent that uses it
            old = plan.old_document if key == TRUTH_DOC else None
            await finish_despite_cancellation(_publish_change(buses, revision, old))
        changes = diff_truths(_load_old(plan.old_document), loaded.truth) if plan.changed else Changes()
        return SeedResult(plan.revision, loaded.sha256, plan.changed, changes, plan.repairs)
    raise SeedError(moved_bus, "moved", MOVED_DETAIL)


def describe_seeding(result: SeedResult, path: str, buses: Sequence[str]) -> Iterator[str]:
    """Yield the lines, for people, that describe what `seed_truth` changed."""
    changes, bus_names = result.changes, " and ".join(buses)
    if result.changed:
        yield f"{path} is revision {result.revision} on {bus_names}"
    elif result.repaired:
        yield f"{path} is still revision {result.revision}; put back on {', '.join(result.repaired)}"
    else:
        yield f"{path} is still revision {result.revision} on {bus_names}: nothing to do"
    yield from (f"  {line}" for line in format_changes(changes))
    if result.changed and not changes:
        yield "  the same content, written differently"


async def read_all(targets: Iterable[tuple[Bus, tuple[str, str, str]]]) -> list[Snapshot]:
    """Read the truth of every bus, with its keys (document, meta, history), at the same time.

    Raises SeedError if a bus failed.
    """
    return await _gather_or_fail(_read_bus(bus, keys) for bus, keys in targets)


async def _gather_or_fail(requests: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """As `gather_all`, but raise SeedError if a bus failed."""
    try:
        return await gather_all(requests)
    except BusError as error:
        raise SeedError(error.bus, error.reason, error.detail) from error


async def _read_bus(bus: Bus, keys: tuple[str, str, str]) -> Snapshot:
    """Read the truth of one bus by one call of `seeding.lua`. Raises BusError if the bus failed."""
    reply = await bus.script(SEED_SCRIPT, keys, ["look"])
    at_ms, token, document, revision, sha256, seeded_at, seeded_by, *rest = reply
    last_revision, last_sha256, newest, meta, *keys_before = rest
    state = BusState(
        bus=bus.name,
        document=document,
        revision=parse_digits(revision) or 0,
        sha256=decode_text(sha256),
        seeded_at=decode_text(seeded_at),
        seeded_by=decode_text(seeded_by),
        last_revision=parse_digits(last_revision) or 0,
        last_sha256=decode_text(last_sha256),
    )
    clock = asyncio.get_running_loop().time
    restore_arguments = (document or b"", newest, len(meta), *meta, *chain.from_iterable(keys_before))
    return Snapshot(bus, keys, state, token, at_ms, clock(), restore_arguments)


async def _write_all(revision: _Revision, targets: Sequence[Snapshot], snapshots: Sequence[Snapshot]) -> None:
    """Write to `targets`, one after the other, then verify all of `snapshots`.

    If that fails or is cancelled, restore the buses that were written. Raises _ConcurrentSeedError if another
    seeding wrote meanwhile, and SeedError if a bus failed; `unrestored` names the buses that still hold our
    revision.
    """
    touched: list[Snapshot] = []
    written: list[str] = []
    try:
        for each in targets:
            touched.append(each)  # before the answer, because a bus that fails here may still have written
            if await _write_bus(each, revision):
                written.append(each.bus.name)
            else:
                touched.pop()
        await _verify_all(revision, snapshots)
    except SeedError as error:
        unrestored = await finish_despite_cancellation(_restore_all(touched, revision))
        raise SeedError(
            error.bus, error.reason, error.detail, [bus for bus in unrestored if bus in written]
        ) from error
    except _ConcurrentSeedError as error:
        unrestored = await finish_despite_cancellation(_restore_all(touched, revision))
        if unrestored:
            raise SeedError(str(error), "moved", MOVED_DETAIL, unrestored) from error
        raise
    except asyncio.CancelledError:
        unrestored = await finish_despite_cancellation(_restore_all(touched, revision))
        log.warning("seeding.stopped", left=unrestored)
        raise


async def _write_bus(target: Snapshot, revision: _Revision) -> bool:
    """Write the revision to one bus. Return False if the bus holds it already, otherwise True.

    It holds the revision already if two names lead to one server, or if another seeding wrote the same bytes.
    Raises SeedError, or _ConcurrentSeedError if the bus changed since the snapshot or got the command too
    late.
    """
    since_sec = asyncio.get_running_loop().time() - target.read_at_sec
    until_ms = target.read_at_ms + int(min(since_sec + WITHIN_SEC, target.left_sec) * 1000)
    arguments = ["write", target.token, until_ms, *astuple(revision)]
    try:
        outcome = await target.bus.script(SEED_SCRIPT, target.keys, arguments)
    except BusError as error:
        raise SeedError(error.bus, error.reason, error.detail) from error
    if outcome not in (b"written", b"already"):
        raise _ConcurrentSeedError(target.bus.name)
    return bool(outcome == b"written")


async def _verify_all(revision: _Revision, snapshots: Sequence[Snapshot]) -> None:
    """Read all buses again. Raises _ConcurrentSeedError if one does not hold the revision, byte for byte."""
    for after in await read_all([(each.bus, each.keys) for each in snapshots]):
        if not after.state.holds(revision.document, revision.sha256, revision.number):
            raise _ConcurrentSeedError(after.bus.name)


async def _restore_all(snapshots: Sequence[Snapshot], revision: _Revision) -> tuple[str, ...]:
    """Restore each bus that still holds our revision; return the buses that failed, which may hold it."""
    written = (revision.number, revision.sha256)
    restores = (
        each.bus.script(RESTORE_SCRIPT, each.keys, [*written, *each.restore_arguments]) for each in snapshots
    )
    outcomes = list(zip(snapshots, await asyncio.gather(*restores, return_exceptions=True), strict=True))
    for each, outcome in outcomes:
        if outcome == b"back":
            log.warning("seeding.put_back", bus=each.bus.name, revision=each.state.revision)
    return tuple(each.bus.name for each, outcome in outcomes if isinstance(outcome, BaseException))


async def _trim_histories(targets: Sequence[Snapshot]) -> None:
    """Trim truth:history, once no bus has to be restored; the next seeding makes up for a failure."""
    trims = (each.bus.script(SEED_SCRIPT, each.keys, ["trim", KEPT_REVISIONS]) for each in targets)
    await asyncio.gather(*trims, return_exceptions=True)


async def _publish_change(buses: Sequence[Bus], revision: _Revision, old: bytes | None) -> None:
    """Publish the revision, with a patch that makes its document of the `old` one if little changed.

    Only log a failure, because an agent that gets no message sees the new revision with its next beat.
    """
    found: dict[str, Any] = {"revision": revision.number, "sha256": revision.sha256}
    if old is not None and old != revision.document:
        patch = make_patch(old, hashlib.sha256(old).hexdigest(), revision.document)
        found |= {"patch": patch} if patch is not None else {}
    message = orjson.dumps(found)
    outcomes = await asyncio.gather(
        *(bus.ask(bus.client.publish(TRUTH_CHANGED, message)) for bus in buses), return_exceptions=True
    )
    for bus, outcome in zip(buses, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            log.warning("seeding.unannounced", bus=bus.name, why=str(outcome))


def _load_old(raw: bytes | None) -> Truth | None:
    """Parse the replaced document; None if there was none, or if this release refuses it."""
    try:
        return parse_truth(raw).truth if raw is not None else None
    except TruthError:
        return None
