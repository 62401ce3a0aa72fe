"""Sign a checkpoint over what is committed each minute, and have a witness cosign it."""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Protocol

from marketswarm import log as logs
from marketswarm.net.http import HttpClient
from marketswarm.net.retry import Backoff
from marketswarm.postgres.errors import PostgresAwayError, RefusedRowsError
from services.signals.key_file import KeyFileError
from services.signals.log.checkpoint import Checkpoint, parse_checkpoint
from services.signals.log.merkle import EMPTY_ROOT, Node, Span, hash_span, list_consistency, split_span
from services.signals.log.note import (
    NoteError,
    PrivateKey,
    PublicKey,
    parse_note,
    parse_public_key,
    verify_note,
)
from services.signals.proofs.witness_client import WitnessClient, WitnessReason, WitnessResult
from services.signals.store.reader import LastCosignature

_log = logs.get("signals")
RETRY: Final = Backoff(first_sec=2.0, longest_sec=60.0)
"""The pauses after a checkpoint that was not signed, or not cosigned."""
CLOCK_SEC: Final = 300.0
"""How far the clock of a witness may be before ours."""
WARNED_SEC: Final = 3600.0
"""How long the beats name what a witness did that it must not do."""


class SigningProblem(StrEnum):
    """Why no checkpoint is signed."""

    NO_KEY = "no_key"
    KEY_UNUSABLE = "key_unusable"
    OTHER_LOG = "other_log"
    """The key is named after another log."""
    KEY_CHANGED = "key_changed"
    """The last key change of the log names another key than the one that is here."""
    LOG_CHANGED = "log_changed"
    """The log does not continue the last checkpoint: entries, nodes or checkpoints were changed."""
    DATABASE_AWAY = "database_away"


class WitnessWarning(StrEnum):
    """What a witness did that it must not do."""

    WENT_BACK = "went_back"
    """It knows less than it had cosigned: it was restored, and could cosign a second history."""
    CLOCK_BACK = "clock_back"
    """Its cosignature says an earlier time than one before."""
    CLOCK_AHEAD = "clock_ahead"
    """Its cosignature says a time that is still to come."""


WARNINGS: Final[Mapping[WitnessWarning, str]] = {
    WitnessWarning.WENT_BACK: "the witness went back",
    WitnessWarning.CLOCK_BACK: "the clock of the witness went back",
    WitnessWarning.CLOCK_AHEAD: "the clock of the witness is ahead of ours",
}


@dataclass(frozen=True, slots=True)
class WitnessTarget:
    """Say where a witness is, and by which public key it is known, as its owner gave the line."""

    url: str
    key: str


@dataclass(frozen=True, slots=True)
class SignerSettings:
    """Hold the name of the log, how often a checkpoint is signed, and by whom it is cosigned, if at all."""

    origin: str
    checkpoint_sec: float
    witness: WitnessTarget | None


class CheckpointStore(Protocol):
    """What the signer needs of `CheckpointTables`, which a test may replace by memory.

    Each method may raise PostgresAwayError.
    """

    async def read_size(self) -> int:
        """Return how many entries are committed."""

    async def read_nodes(self, nodes: Sequence[Node]) -> Mapping[Node, bytes]:
        """Return the hashes of those full subtrees that there are."""

    async def read_newest_key(self) -> str | None:
        """Return the public key that the last key change names; None if the key never changed."""

    async def read_checkpoint(self) -> bytes | None:
        """Return the note of the largest checkpoint that is stored."""

    async def read_cosignature(self, witness: str) -> LastCosignature | None:
        """Return the cosignature of a witness over the largest checkpoint that it cosigned."""

    async def write_checkpoint(self, size: int, at: float, note: bytes) -> None:
        """Store a checkpoint; do nothing if there is one of this size."""

    async def write_cosignature(self, size: int, witness: str, at_sec: int, line: str) -> None:
        """Store a verified cosignature; do nothing if the witness has one over this size."""


@dataclass(frozen=True, slots=True)
class SignerStatus:
    """Hold how signing and cosigning are; times are epoch seconds, and 0 if there is none.

    Attributes:
        problem: why no checkpoint is signed; None if they are.
        size: how many entries the newest checkpoint covers, which was signed at `signed_at`.
        cosigned_size: how many entries are cosigned, the last of them at `cosigned_at` by the witness.
        whole_at: when all that was committed was signed and cosigned the last time.
        reason: how the last attempt at the witness ended; None before the first one, and without a witness.
        warning: what the witness did that it must not do, noted at `warned_at`.
        words: more about `problem` or `reason`, for people.
    """

    begun_at: float
    problem: SigningProblem | None = None
    size: int = 0
    signed_at: float = 0
    cosigned_size: int = 0
    cosigned_at: float = 0
    whole_at: float = 0
    reason: WitnessReason | None = None
    warning: WitnessWarning | None = None
    warned_at: float = 0
    words: str = ""

    def describe(self, now: float) -> str | None:
        """Return what is wrong, for the detail of a beat; None if nothing is."""
        found = []
        if self.problem is not None:
            found.append(f"checkpoints are not signed: {self.problem}")
        if self.reason is not None and self.reason is not WitnessReason.COSIGNED:
            found.append(f"not cosigned: {self.reason}")
        if found and self.words:
            found[-1] += f" ({self.words})"
        if self.warning is not None and now - self.warned_at < WARNED_SEC:
            found.append(WARNINGS[self.warning])
        return "; ".join(found) or None


class CheckpointSigner:
    """Signs and has cosigned what is committed, as long as this process leads.

    Args:
        read_key: returns the log's key, None without one, and may raise KeyFileError. It is called for each
            checkpoint, so a file that is replaced counts at once.
        report: called after each attempt.
    """

    def __init__(
        self,
        store: CheckpointStore,
        read_key: Callable[[], PrivateKey | None],
        read_settings: Callable[[], SignerSettings],
        http: HttpClient,
        *,
        report: Callable[[SignerStatus], None] = lambda _status: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._read_key, self._read_settings = store, read_key, read_settings
        self._http, self._report, self._now = http, report, now
        self._signed: tuple[Checkpoint, bytes] | None = None
        self._cosigned: dict[str, LastCosignature] = {}
        self.status = SignerStatus(now())

    async def run(self) -> None:
        """Sign and have cosigned until cancelled; after a failure try again, after growing pauses."""
        failures = 0
        while True:
            is_done = False
            try:
                is_done = await self.step()
            except Exception as error:  # noqa: BLE001 - ticks are decided, whatever is wrong here
                _log.exception("checkpoint.failed", error=type(error).__name__)
            failures = 0 if is_done else failures + 1
            pause_sec = self._read_settings().checkpoint_sec
            if failures:
                pause_sec = min(pause_sec, RETRY.pause_sec(failures, random.random()))
            await asyncio.sleep(pause_sec)

    async def step(self) -> bool:
        """Sign a checkpoint, if one is due, and have the newest one cosigned; return whether all is done."""
        before, settings = self.status, self._read_settings()
        try:
            if self._is_due(settings):
                problem, words = await self._sign(settings.origin)
                self.status = replace(self.status, problem=problem, words=words)
            if self.status.problem is None and self._signed is not None and settings.witness is not None:
                await self._ask_witness(settings.witness)
        except (PostgresAwayError, RefusedRowsError) as error:
            self.status = replace(self.status, problem=SigningProblem.DATABASE_AWAY, words=str(error))
        if settings.witness is None:
            self.status = replace(self.status, reason=None)
        if self.status.reason is WitnessReason.COSIGNED and self.status.problem is None:
            self.status = replace(self.status, whole_at=self._now())
        self._log_change(before)
        self._report(self.status)
        is_cosigned = self.status.reason in (None, WitnessReason.COSIGNED)
        return self.status.problem in (None, SigningProblem.NO_KEY) and is_cosigned

    def _is_due(self, settings: SignerSettings) -> bool:
        """Return whether a checkpoint is to be signed: after a failure at once, else after its time."""
        past_sec = self._now() - self.status.signed_at
        return self.status.problem is not None or not 0 <= past_sec < 0.9 * settings.checkpoint_sec

    async def _sign(self, origin: str) -> tuple[SigningProblem | None, str]:
        """Sign and store a checkpoint over what is committed; return why not, or None, and words."""
        try:
            key = self._read_key()
        except KeyFileError as error:
            return SigningProblem.KEY_UNUSABLE, str(error)
        if key is None:
            return SigningProblem.NO_KEY, ""
        if key.public.name != origin:
            return SigningProblem.OTHER_LOG, f"the key is of {key.public.name}, the log is {origin}"
        size = await self._store.read_size()
        newest = await self._store.read_newest_key()  # after the size: it is the one of that size
        if newest is not None and newest != str(key.public):
            return SigningProblem.KEY_CHANGED, "the log was given another key: start with its file"
        return await self._sign_with(key, size)

    async def _sign_with(self, key: PrivateKey, size: int) -> tuple[SigningProblem | None, str]:
        """Sign and store a checkpoint over the first `size` entries; return why not, and words, if so.

        It is not done if the log contradicts the checkpoint before.
        """
        try:
            before = await self._read_last() or Checkpoint(key.public.name, 0, EMPTY_ROOT)
        except NoteError as error:
            return SigningProblem.LOG_CHANGED, f"its last checkpoint {error}"
        if before.origin != key.public.name:
            return SigningProblem.OTHER_LOG, f"this log was signed as {before.origin}, and keeps its name"
        if before.size > size:
            return SigningProblem.LOG_CHANGED, f"it has {size} entries, and had {before.size}"
        try:
            root, root_before = await self._hash_spans([(0, size), (0, before.size)])
        except KeyError:
            return SigningProblem.LOG_CHANGED, "a node of its tree is missing"
        if root_before != before.root:
            return SigningProblem.LOG_CHANGED, f"its first {before.size} entries have another root"
        if size and (self._signed is None or size > self._signed[0].size):
            made = Checkpoint(key.public.name, size, root)
            note = made.format() + b"\n" + key.sign(made.format()).encode()
            await self._store.write_checkpoint(size, self._now(), note)
            self._signed = made, note
        self.status = replace(self.status, size=size, signed_at=self._now())
        return None, ""

    async def _read_last(self) -> Checkpoint | None:
        """Return the last checkpoint: of this process, else the one that is stored. Raises NoteError."""
        if self._signed is not None:
            return self._signed[0]
        stored = await self._store.read_checkpoint()
        return None if stored is None else parse_checkpoint(parse_note(stored).text)

    async def _hash_spans(self, spans: Iterable[Span]) -> list[bytes]:
        """Return the roots of subtrees of the log. Raises KeyError for a node that is missing."""
        wanted = list(spans)
        nodes = await self._store.read_nodes([node for span in wanted for node in split_span(span)])
        return [hash_span(span, nodes) for span in wanted]

    async def _ask_witness(self, target: WitnessTarget) -> None:
        try:
            client = WitnessClient(target.url, parse_public_key(target.key), self._http)
        except NoteError as error:
            words = f"the key of the witness {error}"
            self.status = replace(self.status, reason=WitnessReason.BAD_KEY, words=words)
        else:
            await self._have_cosigned(client)

    async def _have_cosigned(self, client: WitnessClient) -> None:
        """Ask the witness, and store its cosignature; go on once from the size that it knows instead."""
        assert self._signed is not None  # noqa: S101 - step asks first
        checkpoint, note = self._signed
        last = await self._find_cosigned(client.key.name)
        if last is not None and last.size == checkpoint.size and _covers(last, note, client.key):
            self.status = replace(self.status, reason=WitnessReason.COSIGNED, words="")
            return
        old_size = 0 if last is None else last.size
        result = await self._ask(client, old_size, checkpoint, note)
        if result.reason is WitnessReason.OTHER_SIZE:
            if result.known_size < old_size:
                self._warn(WitnessWarning.WENT_BACK, known=result.known_size, had=old_size)
            result = await self._ask(client, result.known_size, checkpoint, note)
        if result.reason is WitnessReason.COSIGNED:
            await self._keep(client.key.name, checkpoint.size, result, last)
        self.status = replace(self.status, reason=result.reason, words=result.words)

    async def _ask(
        self, client: WitnessClient, old_size: int, checkpoint: Checkpoint, note: bytes
    ) -> WitnessResult:
        """Return what the witness answers to a proof from `old_size` on."""
        if old_size > checkpoint.size:
            size = await self._store.read_size()
            if old_size <= size:  # another leader had a later one cosigned
                return WitnessResult(WitnessReason.OTHER_SIZE, known_size=old_size)
            words = f"it knows {old_size} entries, the log has {size}"
            return WitnessResult(WitnessReason.WITNESS_AHEAD, words=words)
        try:
            proof = await self._hash_spans(list_consistency(old_size, checkpoint.size) if old_size else [])
        except KeyError:
            return WitnessResult(WitnessReason.BAD_PROOF, words="a node of the log's tree is missing")
        return await client.add_checkpoint(old_size, proof, note)

    async def _find_cosigned(self, witness: str) -> LastCosignature | None:
        if witness not in self._cosigned:
            stored = await self._store.read_cosignature(witness)
            if stored is not None:
                self._cosigned[witness] = stored
                self.status = replace(
                    self.status, cosigned_size=stored.size, cosigned_at=float(stored.at_sec)
                )
        return self._cosigned.get(witness)

    async def _keep(
        self, witness: str, size: int, result: WitnessResult, last: LastCosignature | None
    ) -> None:
        """Store a cosignature, and note a clock that went back."""
        await self._store.write_cosignature(size, witness, result.at_sec, result.line)
        self._cosigned[witness] = LastCosignature(size, result.at_sec, result.line)
        if last is not None and result.at_sec < last.at_sec:
            self._warn(WitnessWarning.CLOCK_BACK, at=result.at_sec, had=last.at_sec)
        elif result.at_sec > self._now() + CLOCK_SEC:
            self._warn(WitnessWarning.CLOCK_AHEAD, at=result.at_sec, had=int(self._now()))
        self.status = replace(self.status, cosigned_size=size, cosigned_at=float(result.at_sec))

    def _warn(self, warning: WitnessWarning, **values: int) -> None:
        """Log what the witness did, and have the beats say it for an hour."""
        _log.error("witness.warned", warning=str(warning), **values)
        self.status = replace(self.status, warning=warning, warned_at=self._now())

    def _log_change(self, before: SignerStatus) -> None:
        """Log a problem or a refusal when it begins, and when it ends."""
        now = self.status
        if now.problem is not before.problem:
            if now.problem is None:
                _log.info("checkpoint.resumed", size=now.size)
            else:
                _log.error("checkpoint.not_signed", reason=str(now.problem), why=now.words)
        if now.reason is not before.reason and now.reason is not None:
            if now.reason is WitnessReason.COSIGNED:
                _log.info("witness.cosigned", size=now.cosigned_size)
            else:
                _log.error("witness.not_cosigned", reason=str(now.reason), why=now.words)


def _covers(last: LastCosignature, note: bytes, key: PublicKey) -> bool:
    """Return whether a stored cosignature is one of the key over this note."""
    try:
        return verify_note(parse_note(note + last.line.encode()), key) is not None
    except NoteError:
        return False
