"""Check documents, and seed them, for clients with a token of the scope `seed`.

A document replaces the one that its author has seen, or nothing; the SHA-256 of that one goes with it. It is
written as `marketswarm seed` writes it: to every bus, or to none. Each seeding is in the audit log before it
is done. The buses of a fleet can't be changed here, because a client of the board may not reach other
servers.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from marketswarm.agent.service_config import load_with_sections
from marketswarm.bus import Bus, BusError
from marketswarm.operator.audit import Act, Action, AuditOutcome
from marketswarm.seeding.readiness import wait_for_healer_access
from marketswarm.seeding.transaction import REPLACED, SeedError, seed_truth
from marketswarm.status import revisions
from marketswarm.text import escape_text
from marketswarm.truth import (
    ParsedTruth,
    Problem,
    Truth,
    TruthError,
    diff_truths,
    format_changes,
    parse_truth,
)
from marketswarm.truth.document_text import find_lines, set_value
from marketswarm.truth.parse import MAX_BYTES
from marketswarm.web.audit import AuditLog
from marketswarm.web.limits import RETRY_SEC, RefusedError
from marketswarm.web.tokens import Client

MAX_PROBLEMS: Final = 200  # how many errors, warnings and changes of a document are shown
MAX_NUMBERED_CHARS: Final = 1024 * 1024  # the longest text in which the lines of problems are looked up
USERS_WITHIN_SEC: Final = 1.0  # how long a seeding waits until the healer may hear each service
PINGED: Final[Mapping[str, Any]] = {
    "description": "Added by its first ping",
    "tags": ["pinged"],
    "heartbeat": {"interval_sec": 86_400, "timeout_sec": 90_000},
}
"""The section of a service that a ping adds: as elsewhere, one run a day, and an hour of grace."""
ADD_ATTEMPTS: Final = 3
WAIT_SEC: Final = 2.0  # how long a document waits until another one is checked
NOT_ALLOWED: Final = "the truth does not let the board change it: services.board.settings.seed is not true"
OTHER_BUSES: Final = "not seeded: the document has other buses; `marketswarm seed` changes these"
_REPLACED_STATUS: Final = 412
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ProblemView:
    """An error or a warning of a document: its path, its words, and its line in the text if that is known."""

    path: str
    message: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class CheckAnswer:
    """What a check found. `changes` say what seeding would change; `same` is True if it is in force already.

    A document with errors has no changes.
    """

    valid: bool
    sha256: str
    errors: tuple[ProblemView, ...] = ()
    warnings: tuple[ProblemView, ...] = ()
    changes: tuple[str, ...] = ()
    same: bool = False


@dataclass(frozen=True, slots=True)
class SeedAnswer:
    """What a seeding did: the revision in force now, and what it changed, in lines.

    `changed` is False if the buses had these bytes already. `unheard` has the services that the healer may
    not hear, by bus: their users are old.
    """

    revision: int
    sha256: str
    changed: bool
    changes: tuple[str, ...]
    unheard: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class TruthInForce:
    """The document that the buses hold, and its truth; None for one that this release refuses."""

    raw: bytes
    sha256: str
    truth: Truth | None


@dataclass(slots=True)
class TruthEditor:
    """Checks and seeds the documents of one fleet.

    `buses` returns every bus of the fleet, `truth` the truth in force, `may_seed` whether that truth lets the
    board change it. `key` is the key of the document. Every async method may raise RefusedError.
    """

    buses: Callable[[], Sequence[Bus]]
    audit: AuditLog
    truth: Callable[[], Truth]
    may_seed: Callable[[], bool]
    key: str
    _seeding: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _working: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _known: TruthInForce | None = field(default=None, init=False)

    async def read_in_force(self) -> TruthInForce:
        """Return the document in force, of the first bus that has one."""
        raw = None
        failed: list[str] = []
        for bus in self.buses():
            try:
                raw = await bus.ask(bus.client.get(self.key), max_bytes=MAX_BYTES + 1024)
            except BusError as error:
                failed.append(f"bus {error.bus}: {error.reason}")
            if raw is not None:
                break
        else:
            raise RefusedError(503, f"no bus has a truth; {'; '.join(failed)}".rstrip("; "), RETRY_SEC)
        if self._known is None or self._known.raw != raw:
            self._known = await self.work(_parse_in_force, raw)
        return self._known

    async def check(self, raw: bytes) -> CheckAnswer:
        current = await self.read_in_force()
        return await self.work(check_document_text, raw, current)

    async def find_revision(self, number: int) -> revisions.Revision:
        """Return a revision that some bus keeps intact."""
        failed: list[str] = []
        for bus in self.buses():
            try:
                async for one in revisions.read_revisions(bus):
                    if one.number == number and one.is_intact:
                        return one
            except BusError as error:
                failed.append(f"bus {error.bus}: {error.reason}")
        if failed:
            raise RefusedError(503, f"revision {number} was not found; {'; '.join(failed)}", RETRY_SEC)
        raise RefusedError(404, f"no bus keeps a revision {number} intact")

    async def seed(self, client: Client, raw: bytes, by: str, replaces: str) -> SeedAnswer:
        """Seed a document in the name of `by`, if the document in force has the SHA-256 `replaces`.

        RefusedError has 412 if the truth was changed meanwhile, and 422 if the document has errors, or other
        buses than the truth in force.
        """
        loaded = await self._require_seedable(raw)
        act = Act(Action.SEED, loaded.sha256, client.token, client.address, f"by {by}")
        return await self._seed(act, raw, loaded, by, replaces)

    async def add_service(self, svc: str, author: str) -> bool:
        """Seed the truth in force with one more service; return False if it has the service already.

        The caller has made sure that the client may do that; `author` says who it is.
        """
        for attempt in range(ADD_ATTEMPTS):
            current = await self.read_in_force()
            if current.truth is None:
                raise RefusedError(409, "the truth in force is not valid")
            if svc in current.truth.services:
                return False
            raw = set_value(current.raw.decode(), ("services", svc), PINGED).encode()
            loaded = await self._require_seedable(raw)
            act = Act(Action.SEED, loaded.sha256, None, "", f"service {svc} added by {author}")
            try:
                await self._seed(act, raw, loaded, author, current.sha256)
            except RefusedError as error:
                if error.status != _REPLACED_STATUS or attempt == ADD_ATTEMPTS - 1:
                    raise
            else:
                return True
        return False

    async def _require_seedable(self, raw: bytes) -> ParsedTruth:
        if not self.may_seed():
            raise RefusedError(403, NOT_ALLOWED)
        try:
            loaded = await self.work(load_with_sections, raw)
        except TruthError as error:
            more = "" if len(error.problems) == 1 else f", and {len(error.problems) - 1} more"
            raise RefusedError(422, f"not seeded: {error.problems[0]}{more}") from None
        now = self.truth()
        if set(loaded.truth.bus_names()) != set(now.bus_names()) or loaded.truth.buses != now.buses:
            raise RefusedError(422, OTHER_BUSES)
        return loaded

    async def _seed(self, act: Act, raw: bytes, loaded: ParsedTruth, by: str, replaces: str) -> SeedAnswer:
        """Seed a checked document, with entries in the audit log."""
        buses = self.buses()
        missing = set(self.truth().bus_names()) - {bus.name for bus in buses}
        if missing:
            raise RefusedError(503, f"the board does not know where bus {min(missing)} is", RETRY_SEC)
        if self._seeding.locked():
            raise RefusedError(503, "another document is being seeded", RETRY_SEC)
        async with self._seeding:
            await self.audit.begin(act)
            try:
                unheard = await wait_for_healer_access(buses, loaded.truth, USERS_WITHIN_SEC)
                author = f"{by}@board"
                done = await seed_truth(
                    raw, buses, author, key=self.key, replaces=replaces, loads_functions=False
                )
            except SeedError as error:
                is_replaced = error.reason == REPLACED
                outcome = AuditOutcome.REFUSED if is_replaced else AuditOutcome.FAILED
                await self.audit.end(act, outcome, str(error))
                if is_replaced:
                    reason = "not seeded: the truth was changed meanwhile"
                    raise RefusedError(_REPLACED_STATUS, reason) from None
                raise RefusedError(503, f"not seeded: {escape_text(str(error))}", RETRY_SEC) from None
            await self.audit.end(act, AuditOutcome.DONE, f"revision {done.revision}, {act.detail}")
        changes = _escape_changes(format_changes(done.changes))
        return SeedAnswer(done.revision, done.sha256, done.changed, changes, unheard)

    async def parse_revision(self, revision: revisions.Revision) -> Truth:
        """Return the truth of a revision. A document that is not valid may hold secrets, so it is refused."""
        try:
            return (await self.work(parse_truth, revision.document)).truth
        except TruthError as error:
            why = escape_text(str(error.problems[0]))
            raise RefusedError(422, f"revision {revision.number} is not valid any more: {why}") from None

    async def work(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call it in a thread, one at a time; the next waits for its end even if its caller was cancelled."""
        try:
            async with asyncio.timeout(WAIT_SEC):
                await self._working.acquire()
        except TimeoutError:
            raise RefusedError(503, "other documents are being checked", RETRY_SEC) from None
        thread = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
        thread.add_done_callback(lambda _: self._working.release())
        return await asyncio.shield(thread)


def check_document_text(raw: bytes, current: TruthInForce) -> CheckAnswer:
    """Return what is wrong with a document, by the line, and what it changes in the truth in force."""
    sha256 = hashlib.sha256(raw).hexdigest()
    try:
        loaded = load_with_sections(raw)
    except TruthError as error:
        return CheckAnswer(valid=False, sha256=sha256, errors=_number_problems(raw, error.problems))
    changes = diff_truths(current.truth, loaded.truth)
    return CheckAnswer(
        valid=True,
        sha256=sha256,
        warnings=_number_problems(raw, loaded.warnings),
        changes=_escape_changes(format_changes(changes)),
        same=sha256 == current.sha256,
    )


def _number_problems(raw: bytes, problems: Sequence[Problem]) -> tuple[ProblemView, ...]:
    """Return the first problems of a document, with their lines unless the document is long."""
    shown = problems[:MAX_PROBLEMS]
    text = raw.decode("utf-8", "replace")
    lines = find_lines(text, shown) if len(text) <= MAX_NUMBERED_CHARS else {}
    return tuple(
        ProblemView(escape_text(each.path), escape_text(each.message), lines.get(each)) for each in shown
    )


def _parse_in_force(raw: bytes) -> TruthInForce:
    sha256 = hashlib.sha256(raw).hexdigest()
    try:
        return TruthInForce(raw, sha256, parse_truth(raw).truth)
    except TruthError:
        return TruthInForce(raw, sha256, None)


def _escape_changes(lines: Iterable[str]) -> tuple[str, ...]:
    found = [escape_text(line) for line in lines]
    more = [f"and {len(found) - MAX_PROBLEMS} more"] if len(found) > MAX_PROBLEMS else []
    return (*found[:MAX_PROBLEMS], *more)
