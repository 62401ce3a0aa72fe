"""Seeds a truth into every bus, or into none.

The order: look at all, plan, write one bus after the other, look at all again, and only then say so on
`truth:changed`. Whatever comes between, a bus that fails, someone else's seeding, a signal: what was written
is put back as it was, history included. Not here: waiting for buses (`answering.py`), files, exit codes.
"""

import asyncio
import random
from collections.abc import Coroutine, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Final, TypeVar

import orjson

from marketswarm import log as logs
from marketswarm.bus import WITHIN_SEC, Bus, BusError
from marketswarm.bus.scripts import all_scripts
from marketswarm.seeding.functions import load_functions
from marketswarm.seeding.looking import BACK, SCRIPT, Seen, Unseeded, look_at_all
from marketswarm.seeding.plan import plan
from marketswarm.truth import Changes, Truth, TruthError, diff, load

DOCUMENT: Final = "truth:doc"
META: Final = "truth:meta"
HISTORY: Final = "truth:history"
CHANGED: Final = "truth:changed"
KEPT: Final = 50  # revisions in the history
ATTEMPTS: Final = 5  # when others seed at the same time

MOVED: Final = "someone else is seeding too"
T = TypeVar("T")

log = logs.get("seeding")


class _Moved(Exception):  # noqa: N818 - an answer: the bus named here is not as it was when looked at
    pass


@dataclass(frozen=True, slots=True)
class Seeding:
    """A seeding that is done.

    `changed`: the bytes are new. `repaired`: buses that did not hold what the others did, and do now.
    """

    revision: int
    sha256: str
    changed: bool
    changes: Changes
    repaired: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Edition:
    """What every bus is to hold; the order is the script's."""

    document: bytes
    revision: int
    sha256: str
    seeded_at: str
    seeded_by: str


async def seed(raw: bytes, buses: Sequence[Bus], by: str, *, key: str = DOCUMENT) -> Seeding:
    """Makes every bus hold `raw` under one revision, or leaves every bus as it was.

    A second call with the same bytes changes nothing. Takes a few seconds at most, also when a server hangs.

    Args:
        raw: the bytes of a truth.json.
        buses: where to, in the order of writing.
        by: who seeds, for `truth:meta`.
        key: of the document.

    Raises:
        TruthError: the document is wrong; no bus was asked anything.
        Unseeded: a bus failed.
    """
    loaded = load(raw)
    moved = ""
    for _ in range(ATTEMPTS):
        seen = await look_at_all([(bus, (key, META, HISTORY)) for bus in buses])
        await _load_functions(buses)
        wanted = plan(raw, loaded.sha256, [each.standing for each in seen])
        edition = _Edition(
            raw,
            wanted.revision,
            loaded.sha256,
            wanted.seeded_at or f"{seen[0].at_ms / 1000:.3f}",
            wanted.seeded_by or by,
        )
        try:
            await _write_all(edition, [each for each in seen if each.standing.bus in wanted.writes], seen)
        except _Moved as other:
            moved = str(other)
            log.warning("seeding.moved", bus=moved)
            await asyncio.sleep(random.uniform(0.05, 0.3))
            continue
        await _undisturbed(_trim([each for each in seen if each.standing.bus in wanted.writes]))
        if wanted.publish:
            await _undisturbed(_publish(buses, edition))
        changes = diff(_old(wanted.old), loaded.truth) if wanted.changed else Changes()
        return Seeding(wanted.revision, loaded.sha256, wanted.changed, changes, wanted.repairs)
    raise Unseeded(moved, "moved", MOVED)


async def _load_functions(buses: Sequence[Bus]) -> None:
    """Before the truth: who acts on a new one finds the functions that go with it. Raises Unseeded."""
    scripts = all_scripts()
    outcomes = await asyncio.gather(*(load_functions(bus, scripts) for bus in buses), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BusError):
            raise Unseeded(outcome.bus, outcome.reason, outcome.detail) from outcome
        if isinstance(outcome, BaseException):
            raise outcome


async def _write_all(edition: _Edition, places: Sequence[Seen], seen: Sequence[Seen]) -> None:
    """Writes to `places`, one after the other, and looks whether all hold it. Else none was written to.

    Raises:
        _Moved: someone else wrote meanwhile; all that was written is put back.
        Unseeded: a bus failed; likewise.
    """
    touched: list[Seen] = []
    written: list[str] = []
    try:
        for each in places:
            touched.append(each)  # before the answer: what a bus that fails now may have done is undone too
            if await _write(each, edition):
                written.append(each.bus.name)
            else:
                touched.pop()
        await _verify(edition, seen)
    except Unseeded as why:
        left = await _undisturbed(_put_back(touched, edition))
        raise Unseeded(why.bus, why.reason, why.detail, [bus for bus in left if bus in written]) from why
    except _Moved as why:
        left = await _undisturbed(_put_back(touched, edition))
        if left:
            raise Unseeded(str(why), "moved", MOVED, left) from why
        raise
    except asyncio.CancelledError:
        left = await _undisturbed(_put_back(touched, edition))
        log.warning("seeding.stopped", left=left)
        raise


async def _write(each: Seen, edition: _Edition) -> bool:
    """Writes to one bus. False if it holds it already: it is the same server, or someone else's seeding."""
    since_sec = asyncio.get_running_loop().time() - each.at
    until_ms = each.at_ms + int((since_sec + WITHIN_SEC) * 1000)
    try:
        outcome = await each.bus.script(SCRIPT, each.keys, ["write", each.token, until_ms, *astuple(edition)])
    except BusError as error:
        raise Unseeded(error.bus, error.reason, error.detail) from error
    if outcome not in (b"written", b"already"):
        raise _Moved(each.bus.name)
    return bool(outcome == b"written")


async def _verify(edition: _Edition, seen: Sequence[Seen]) -> None:
    """Every bus holds it, byte for byte."""
    for after in await look_at_all([(each.bus, each.keys) for each in seen]):
        if not after.standing.holds(edition.document, edition.sha256, edition.revision):
            raise _Moved(after.bus.name)


async def _put_back(touched: Sequence[Seen], edition: _Edition) -> tuple[str, ...]:
    """Puts back what is ours, on all at once. Returns the buses that may still hold it."""
    ours = (edition.revision, edition.sha256)
    outcomes = await asyncio.gather(
        *(each.bus.script(BACK, each.keys, [*ours, *each.before]) for each in touched),
        return_exceptions=True,
    )
    for each, outcome in zip(touched, outcomes, strict=True):
        if outcome == b"back":
            log.warning("seeding.put_back", bus=each.bus.name, revision=each.standing.revision)
    return tuple(
        each.bus.name
        for each, outcome in zip(touched, outcomes, strict=True)
        if isinstance(outcome, BaseException)
    )


async def _trim(places: Sequence[Seen]) -> None:
    """Shortens the histories, now that none has to be put back. What fails is done with the next seeding."""
    trims = (each.bus.script(SCRIPT, each.keys, ["trim", KEPT]) for each in places)
    await asyncio.gather(*trims, return_exceptions=True)


async def _publish(buses: Sequence[Bus], edition: _Edition) -> None:
    """Tells agents. Who misses it sees the new revision with the next beat, so failing is no failure."""
    message = orjson.dumps({"revision": edition.revision, "sha256": edition.sha256})
    outcomes = await asyncio.gather(
        *(bus.ask(bus.client.publish(CHANGED, message)) for bus in buses), return_exceptions=True
    )
    for bus, outcome in zip(buses, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            log.warning("seeding.unannounced", bus=bus.name, why=str(outcome))


async def _undisturbed(work: Coroutine[Any, Any, T]) -> T:
    """Does bounded work to its end, however often the task is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            continue
    return task.result()


def _old(raw: bytes | None) -> Truth | None:
    try:
        return load(raw).truth if raw is not None else None
    except TruthError:
        return None
