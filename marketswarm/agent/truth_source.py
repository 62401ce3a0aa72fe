"""The truth of an agent: read the first valid one at the start, then follow each reseed.

A reseed is in force within a second. The agent subscribes to `truth:changed` on every bus that may hold the
truth, and polls size, revision and hash after each beat, in case a message was lost. If little changed, the
message has a patch, and only an agent that can't use it reads the document. A document that is not valid, or
that the agent refuses, never replaces the truth in force. The agents of one process share what they parse.
"""

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

from marketswarm import log
from marketswarm.bus import WITHIN_SEC, Bus, BusError, ClusterError, Pipeline, find_bus_url
from marketswarm.bus.outage import PAUSES
from marketswarm.bus.subscriber import subscribe
from marketswarm.exit import Code, Exit
from marketswarm.keys import TRUTH_CHANGED, TRUTH_DOC, TRUTH_META
from marketswarm.settings import CommonSettings
from marketswarm.time_slice import wait_until_due
from marketswarm.truth import ParsedTruth, Truth, TruthError, parse_truth
from marketswarm.truth.parse import MAX_BYTES
from marketswarm.truth.patch import Patch, parse_patch

NOT_A_REDIS: Final = "gives answers that no Redis gives"
NAMED_TRUTH_BUSES: Final = ("market-redis", "system-redis")
"""The buses on which the truth is looked for beside the URLs of the settings; the last one is asked first."""
LARGE_BYTES: Final = 64 * 1024
"""A larger document is checked in a thread."""
MIN_BYTES_A_SEC: Final = 10e6
"""The least rate, in bytes a second, at which a bus sends a document while all agents read it."""
READ_WITHIN_SEC: Final = 1.0
READ_PAUSE_SEC: Final = 0.05  # however many messages come on `truth:changed`: at most 20 reads a second
READ_EVERY_POLLS: Final = 30  # polls until the documents are read again, changed or not
BYTES_A_SEC: Final = 100e6
"""The bytes a second that all agents together read of a new document. Each agent reads it after a random part
of the time that this takes: a fleet of 500 services has a reseed in force within a second."""
MAX_DELAY_SEC: Final = 10.0
ASKS_A_SEC: Final = 5000
"""How many agents a second ask for the fingerprint of a new document, so that a bus, or a machine with
thousands of agents, answers each within READ_WITHIN_SEC."""
MAX_ASK_DELAY_SEC: Final = 1.0
MAX_RETRIES: Final = 3
"""How often a bus that gave no answer after a message is asked again, before the next poll."""
L = TypeVar("L", bound=ParsedTruth | None)
_shared: Final = WeakValueDictionary[str, ParsedTruth]()
"""The documents that agents of this process have in force, by their SHA-256."""
_pending: Final[dict[tuple[asyncio.AbstractEventLoop, str], asyncio.Event]] = {}
"""Those that an agent of this process makes now; set when it has, or failed."""


@dataclass(frozen=True, slots=True)
class FoundTruth:
    """A valid truth and the bus that it was read from.

    `revision` is None if the bus's `truth:meta` is not about this document. `skip_reasons` has one reason for
    each bus that was asked before this one and held no valid truth.
    """

    loaded: ParsedTruth
    revision: int | None
    bus: Bus
    skip_reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TruthReading:
    """The result of reading one bus: a valid truth in `found`, or in `reason` the reason that there is none.

    `has_answered` is False if the bus gave no answer; `is_cluster` is True for a Redis Cluster, which can't
    hold a truth.
    """

    bus: Bus
    found: FoundTruth | None
    reason: str = ""
    has_answered: bool = True
    is_cluster: bool = False


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The size of a bus's document in bytes, with the revision and hash that its `truth:meta` has."""

    size: int
    revision: bytes | None
    sha256: bytes | None


def find_truth_buses(
    settings: CommonSettings, environ: Mapping[str, str], truth: Truth | None = None
) -> dict[str, str]:
    """Return the buses that may hold the truth, URL to name, in the order of docs/contract.md, section 2.

    `truth` is the one in force, whose URLs count for the buses that it names. Raises Exit, code 2, if a bus
    has no URL.
    """
    try:
        urls = {name: find_bus_url(name, environ, truth) for name in NAMED_TRUTH_BUSES}
    except BusError as error:
        raise Exit(Code.CONFIGURATION, str(error)) from None
    return order_truth_buses(settings, urls)


def order_truth_buses(settings: CommonSettings, urls: Mapping[str, str]) -> dict[str, str]:
    """Return the buses that may hold the truth, URL to name, in the order of docs/contract.md, section 2.

    `urls` has the URL of each of NAMED_TRUTH_BUSES by its name, in that order; a bus may be left out.
    """
    named = {url: name for name, url in urls.items()}
    places: dict[str, str] = {}
    for url in (settings.truth_redis_url, settings.redis_url, *reversed(named)):
        if url is not None:
            places.setdefault(url, named.get(url, "truth-redis"))
    return places


def create_bus(name: str, url: str) -> Bus:
    """Return a bus that is not connected yet. Raise Exit, code 2, if the URL is not valid."""
    try:
        return Bus(name, url)
    except BusError as error:
        raise Exit(Code.CONFIGURATION, str(error)) from None


async def read_truth(
    bus: Bus, key: str, known: ParsedTruth | None = None, within_sec: float = WITHIN_SEC
) -> TruthReading:
    """Read and validate the document of one bus; never raise BusError.

    A document with the same hash as `known` is not parsed again.
    """
    pipe = bus.pipeline(transaction=True)
    pipe.get(key)
    answer = await _ask_with_meta(bus, pipe, within_sec)
    if isinstance(answer, TruthReading):
        return answer
    raw, meta = answer
    if not isinstance(raw, bytes | None):
        return TruthReading(bus, None, NOT_A_REDIS)
    if raw is None:
        return TruthReading(bus, None, "has none")
    return await _load_document(bus, raw, hashlib.sha256(raw).hexdigest(), meta, known)


async def _ask_with_meta(
    bus: Bus, pipe: Pipeline, within_sec: float
) -> tuple[Any, list[bytes | None]] | TruthReading:
    """Return the answer to the one command in `pipe`, with the revision and hash in `truth:meta`.

    If the bus gives none, return the reading that says why.
    """
    pipe.hmget(TRUTH_META, "revision", "sha256")
    try:
        answer, meta = await bus.ask(pipe.execute(), within_sec)
    except ClusterError as error:
        return TruthReading(bus, None, error.detail, is_cluster=True)
    except BusError as error:
        return TruthReading(bus, None, error.reason, has_answered=error.reason == "error")
    is_meta = isinstance(meta, list) and len(meta) == 2 and all(isinstance(x, bytes | None) for x in meta)
    return (answer, meta) if is_meta else TruthReading(bus, None, NOT_A_REDIS)


async def _load_document(
    bus: Bus, raw: bytes, sha256: str, meta: Sequence[Any], known: ParsedTruth | None
) -> TruthReading:
    async def parse() -> ParsedTruth:
        return await _run(len(raw), lambda: parse_truth(raw))

    try:
        if known is None or known.sha256 != sha256:
            known = await _share(sha256, parse)
    except TruthError as error:
        return _make_refusal(bus, error)
    return TruthReading(bus, FoundTruth(known, _parse_revision(meta, sha256), bus))


def _make_refusal(bus: Bus, error: TruthError) -> TruthReading:
    more = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
    return TruthReading(bus, None, f"refused: {error.problems[0]}{more}")


async def _run(size: int, work: Callable[[], L]) -> L:
    """Call `work` on a document of this size; beats go out meanwhile."""
    return await asyncio.to_thread(work) if size > LARGE_BYTES else work()


async def _share(sha256: str, make: Callable[[], Awaitable[L]]) -> ParsedTruth | L:
    """Return the document with this SHA-256 that this process has, otherwise what `make` returns.

    Of many agents that ask at once, one calls `make`. The others wait, and call their own if that failed.
    """
    place = asyncio.get_running_loop(), sha256
    if (pending := _pending.get(place)) is not None:
        await pending.wait()
    if (shared := _shared.get(sha256)) is not None:
        return shared
    made = _pending.setdefault(place, asyncio.Event())
    try:
        loaded = await make()
        if loaded is not None:
            _shared[sha256] = loaded
        return loaded
    finally:
        _pending.pop(place, None)
        made.set()


async def read_fingerprint(bus: Bus, key: str, within_sec: float) -> Fingerprint | TruthReading:
    """Read the size, revision and hash of a bus's document, without the document; never raise BusError.

    If the bus gives none, return the reading that says why.
    """
    pipe = bus.pipeline()
    pipe.strlen(key)
    answer = await _ask_with_meta(bus, pipe, within_sec)
    if isinstance(answer, TruthReading):
        return answer
    size, meta = answer
    return Fingerprint(size, *meta) if isinstance(size, int) else TruthReading(bus, None, NOT_A_REDIS)


async def read_fingerprints(
    buses: Sequence[Bus], key: str, within_sec: float
) -> list[Fingerprint | TruthReading]:
    """Read the fingerprints of all buses at once: one that hangs delays the others by `within_sec` at most.

    Never raises BusError.
    """
    return await asyncio.gather(*(read_fingerprint(bus, key, within_sec) for bus in buses))


def _match_known(bus: Bus, fingerprint: Fingerprint, known: ParsedTruth | None) -> TruthReading | None:
    """Return a reading with the known document if the fingerprint matches it, otherwise None."""
    size, revision, sha256 = fingerprint.size, fingerprint.revision, fingerprint.sha256
    if known is None or (size, sha256) != (known.size, known.sha256.encode()):
        return None
    return TruthReading(bus, FoundTruth(known, _parse_revision((revision, sha256), known.sha256), bus))


async def _load_patched(
    bus: Bus, key: str, fingerprint: Fingerprint, known: ParsedTruth | None, patch: Patch | None
) -> TruthReading | None:
    """Return a reading of what the patch makes of the known document, or None if the bus has another one.

    A patch is about `truth:doc` only: `truth:meta` may be about a copy under another key.
    """
    if known is None or patch is None or key != TRUTH_DOC or patch.of != known.sha256:
        return None
    if fingerprint.sha256 is None:
        return None

    async def parse() -> ParsedTruth | None:
        return await _run(known.size, lambda: _parse_patched(known, patch, fingerprint))

    try:
        # another agent's document is as good as the patched one: it has the same hash
        loaded = await _share(fingerprint.sha256.decode("ascii", "replace"), parse)
    except TruthError as error:
        return _make_refusal(bus, error)
    return None if loaded is None else _match_known(bus, fingerprint, loaded)


def _parse_patched(known: ParsedTruth, patch: Patch, fingerprint: Fingerprint) -> ParsedTruth | None:
    """Return the next document, or None if its size and SHA-256 are not those of the fingerprint."""
    raw = patch.apply(known.unpack())
    if raw is None or len(raw) != fingerprint.size:
        return None
    if hashlib.sha256(raw).hexdigest().encode() != fingerprint.sha256:
        return None
    return parse_truth(raw)


async def read_first_valid(
    buses: Sequence[Bus],
    key: str,
    known: ParsedTruth | None,
    within_sec: float,
    delay_sec: Callable[[int], float] = lambda _size: 0.0,
    *,
    fingerprints: Sequence[Fingerprint | TruthReading] | None = None,
    patch: Patch | None = None,
    wait_for_patch: Callable[[float], Awaitable[Patch | None]] = asyncio.sleep,
) -> list[TruthReading]:
    """Read the buses' documents, best bus first, up to the first valid truth; return the result of each bus.

    `fingerprints` are those that `read_fingerprints` returned just now, if it was called. A document is read
    only if its fingerprint is another one than that of `known` and of what `patch` makes of it, after a delay
    of `delay_sec(size)` seconds. `wait_for_patch` waits so long, or returns a patch that comes before, which
    may save the read.
    """
    fingerprints = fingerprints or await read_fingerprints(buses, key, within_sec)
    clock = asyncio.get_running_loop().time
    readings: list[TruthReading] = []
    for bus, fingerprint in zip(buses, fingerprints, strict=True):
        if isinstance(fingerprint, TruthReading):
            readings.append(fingerprint)
            continue
        load_patched = partial(_load_patched, bus, key, fingerprint, known)
        if (match := _match_known(bus, fingerprint, known)) is not None:
            reading = match
        elif fingerprint.size > MAX_BYTES:
            reading = TruthReading(
                bus, None, f"refused: {fingerprint.size} bytes, and {MAX_BYTES} are allowed"
            )
        elif (patched := await load_patched(patch)) is not None:
            reading = patched
        else:
            read_at = clock() + delay_sec(fingerprint.size)
            while patched is None and (left_sec := read_at - clock()) > 0:
                patched = await load_patched(await wait_for_patch(left_sec))
            reading = patched or await read_truth(
                bus, key, known, within_sec + fingerprint.size / MIN_BYTES_A_SEC
            )
        readings.append(reading)
        if reading.found is not None:
            break
    return readings


async def read_all_truths(
    buses: Sequence[Bus], key: str, known: ParsedTruth | None, within_sec: float
) -> list[TruthReading]:
    return list(await asyncio.gather(*(read_truth(bus, key, known, within_sec) for bus in buses)))


def find_first_valid(readings: Sequence[TruthReading]) -> FoundTruth | None:
    """Return the first valid truth, with the reasons of the buses before it; None if no bus held one."""
    for index, reading in enumerate(readings):
        if reading.found is not None:
            return replace(reading.found, skip_reasons=format_reasons(readings[:index]))
    return None


def format_reasons(readings: Sequence[TruthReading]) -> tuple[str, ...]:
    """Return `<bus> <reason>` for each bus, fit for a log line and a beat's detail."""
    return tuple(f"{reading.bus.name} {reading.reason}" for reading in readings)


async def load_truth(settings: CommonSettings, buses: Sequence[Bus], wait_sec: float) -> FoundTruth:
    """Return the first valid truth on `buses`, best first; wait for it up to `wait_sec` seconds.

    Raises Exit after that: code 3 if no bus answered meanwhile, 4 if one did. Raises it at once, with code 2,
    if one is a Redis Cluster, which can't hold a truth.
    """
    clock = asyncio.get_running_loop().time
    until = clock() + wait_sec
    failures, any_answered, logged_reasons = 0, False, None
    while True:
        within_sec = min(WITHIN_SEC, max(0.2, until - clock()))
        readings = await read_first_valid(buses, settings.truth_redis_key, None, within_sec)
        found = find_first_valid(readings)
        if found is not None:
            return found
        any_answered = any_answered or any(reading.has_answered for reading in readings)
        reasons = ", ".join(
            f"{reading.bus.name} at {reading.bus.where}: {reading.reason}" for reading in readings
        )
        if any(reading.is_cluster for reading in readings):
            raise Exit(Code.CONFIGURATION, reasons)
        if clock() >= until:
            if not any_answered:
                raise Exit(Code.NO_BUS, f"no bus answered within {wait_sec:g} s ({reasons})")
            raise Exit(
                Code.NO_TRUTH,
                f"no valid truth under {settings.truth_redis_key} within {wait_sec:g} s ({reasons}): "
                "run bootstrap (python -m bootstrap, or make seed)",
            )
        if reasons != logged_reasons:
            log.get().warning("truth.waiting", why=reasons, wait_sec=wait_sec)
            logged_reasons = reasons
        failures += 1
        await asyncio.sleep(min(PAUSES.pause_sec(failures), max(0.0, until - clock())))


def _parse_revision(meta: Sequence[Any], sha256: str) -> int | None:
    """Return the revision in `truth:meta`; None if unusable, or if it belongs to another document."""
    revision, meta_sha256 = meta
    if meta_sha256 is not None and meta_sha256.decode("ascii", "replace") != sha256:
        return None
    is_usable = isinstance(revision, bytes) and revision.isdigit() and len(revision) < 16
    return int(revision) if is_usable else None


class TruthRefused(Exception):  # noqa: N818 - an answer, not an accident
    """`apply` refused a truth, since this agent can't work by it. The message says why."""


def choose_truth(
    current: FoundTruth, readings: Sequence[TruthReading]
) -> tuple[FoundTruth | None, str | None]:
    """Choose the truth to put in force, None for the current one; return it and the trouble with it, or None.

    The best bus's valid document is chosen whatever its revision. That of a lesser bus is chosen only if its
    revision is higher, because that bus may have missed a seeding.
    """
    best = find_first_valid(readings)
    if best is None:
        stays = f"; revision {current.revision} stays" if current.revision is not None else ""
        return None, f"no valid truth: {', '.join(format_reasons(readings))}{stays}"
    trouble = _format_trouble(best)
    if best.loaded.sha256 == current.loaded.sha256:
        is_current = best.revision in (None, current.revision)
    else:
        is_current = bool(best.skip_reasons) and (best.revision or 0) <= (current.revision or 0)
    return None if is_current else best, trouble


def _format_trouble(found: FoundTruth) -> str | None:
    return f"truth from {found.bus.name}: {', '.join(found.skip_reasons)}" if found.skip_reasons else None


class TruthFollower:
    """Calls `apply` with each new truth; `apply` may raise TruthRefused.

    `trouble` says what is wrong now, or None.
    """

    def __init__(
        self, buses: Sequence[Bus], key: str, current: FoundTruth, apply: Callable[[FoundTruth], None]
    ) -> None:
        self.trouble = _format_trouble(current)
        self._buses, self._key, self._current, self._apply = buses, key, current, apply
        self._refused: dict[str, str] = {}  # sha256 to why: one document at most
        self._read_due, self._poll_due = asyncio.Event(), asyncio.Event()
        self._fingerprints: list[Fingerprint | TruthReading] = []
        self._is_told = False  # by a message, since the last reading
        self._patch: Patch | None = None  # of the last message, until it was used
        self._patch_came = asyncio.Event()  # since it was used last
        self._retries = 0
        self._skips_poll = False  # a truth was applied, and no beat followed yet
        self._unsubscribed: set[str] = set()
        self._log = log.get("truth")

    def poll(self) -> None:
        """Ask the buses soon whether their documents changed; called after each beat.

        The beat that shows a new truth needs no answer: that truth was read just now.
        """
        if self._skips_poll:
            self._skips_poll = False
        else:
            self._poll_due.set()

    async def run(self) -> None:
        """Follow the truth until cancelled.

        Read it when `truth:changed` is published on any of the buses, and when a poll shows a change.
        """
        async with asyncio.TaskGroup() as group:
            for bus in self._buses:
                group.create_task(self._listen(bus), name=f"truth:changed on {bus.name}")
            group.create_task(self._poll_on_beats(), name="truth polls")
            group.create_task(self._read_when_due(), name="truth looks")

    async def _listen(self, bus: Bus) -> None:
        await subscribe(
            bus,
            channels=(TRUTH_CHANGED,),
            on_message=self._note_change,
            on_subscribed=lambda: self._on_subscribed(bus),
            on_lost=self._on_lost,
        )

    def _note_change(self, _channel: bytes, message: bytes) -> None:
        self._patch, self._is_told, self._retries = parse_patch(message), True, 0
        if self._patch is not None:
            self._patch_came.set()
        self._read_due.set()

    def _on_subscribed(self, bus: Bus) -> None:
        """Read the truth, since messages may have been missed."""
        self._unsubscribed.discard(bus.name)
        self._read_due.set()

    def _on_lost(self, error: BusError) -> None:
        if error.bus not in self._unsubscribed:
            self._unsubscribed.add(error.bus)
            self._log.info("truth.subscription_lost", bus=error.bus, reason=error.reason)

    async def _read_when_due(self) -> None:
        """Read the truth each time that a message or a poll asks for it, at most 20 times a second."""
        while True:
            await self._read_due.wait()
            if self._is_told:  # so that not all agents ask for a fingerprint at once
                agents = len(self._current.loaded.truth.services)
                await asyncio.sleep(random.random() * min(MAX_ASK_DELAY_SEC, agents / ASKS_A_SEC))
            self._read_due.clear()
            is_told, self._is_told = self._is_told, False
            patch = self._take_patch()
            fingerprints = await read_fingerprints(self._buses, self._key, READ_WITHIN_SEC)
            readings = await read_first_valid(
                self._buses,
                self._key,
                self._current.loaded,
                READ_WITHIN_SEC,
                self._choose_delay_sec,
                fingerprints=fingerprints,
                patch=patch,
                wait_for_patch=self._wait_for_patch,
            )
            self._fingerprints = fingerprints
            self._apply_choice(readings)
            await asyncio.sleep(READ_PAUSE_SEC)
            if is_told and not all(reading.has_answered for reading in readings):
                await self._retry(patch)

    def _take_patch(self) -> Patch | None:
        self._patch_came.clear()
        patch, self._patch = self._patch, None
        return patch

    async def _wait_for_patch(self, sec: float) -> Patch | None:
        """Return the patch of a message that comes within `sec` seconds, at once; None if there is none.

        A poll may have seen the new document before the message about it came.
        """
        await wait_until_due(self._patch_came, sec)
        return self._take_patch()

    async def _retry(self, patch: Patch | None) -> None:
        """Have the document that a message told of read again after a pause, at most MAX_RETRIES times."""
        if self._retries == MAX_RETRIES:
            return
        self._retries += 1
        await asyncio.sleep(PAUSES.pause_sec(self._retries, random.random()))
        if not self._is_told:  # by a newer message
            self._is_told, self._patch = True, patch
        self._read_due.set()

    def _choose_delay_sec(self, size: int) -> float:
        """Return a random delay in seconds, so that not all agents read a new document at once."""
        readers = len(self._current.loaded.truth.services)
        return random.random() * min(MAX_DELAY_SEC, readers * size / BYTES_A_SEC)

    async def _poll_on_beats(self) -> None:
        """After each beat, read the buses' fingerprints; have the documents read if they changed.

        The documents are also read while there is trouble, and at every 30th poll.
        """
        count = 0
        while True:
            await self._poll_due.wait()
            self._poll_due.clear()
            count += 1
            fingerprints = await read_fingerprints(self._buses, self._key, READ_WITHIN_SEC)
            if self.trouble or fingerprints != self._fingerprints or count % READ_EVERY_POLLS == 0:
                self._read_due.set()
            self._fingerprints = fingerprints

    def _apply_choice(self, readings: Sequence[TruthReading]) -> None:
        found, trouble = choose_truth(self._current, readings)
        if found is not None:
            trouble = self._apply_truth(found) or trouble
        if trouble != self.trouble:
            if trouble:
                self._log.warning("truth.unusable", why=trouble, revision=self._current.revision)
            else:
                self._log.info("truth.usable", revision=self._current.revision)
        self.trouble = trouble

    def _apply_truth(self, found: FoundTruth) -> str | None:
        """Apply a truth, unless the same document was refused before; return why it is refused, or None."""
        sha256 = found.loaded.sha256
        if sha256 not in self._refused:
            self._refused.clear()
            try:
                self._apply(found)
            except TruthRefused as error:
                self._refused[sha256] = f"truth revision {found.revision} refused: {error}"
            else:
                self._current, self._skips_poll = found, True
        return self._refused.get(sha256)
