"""Answer `add-checkpoint` as C2SP's tlog-witness describes: check what a log says, store it, cosign it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from services.signals.log.merkle import EMPTY_ROOT, is_consistent
from services.signals.log.note import (
    NoteError,
    PrivateKey,
    PublicKey,
    SignatureKind,
    SignedNote,
    verify_note,
)
from services.signals.log.submission import SIZE_TYPE, Status, Submission, parse_submission
from services.signals.witness.store import Head, WitnessStore

TEXT_TYPE: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class WitnessAnswer:
    """Hold an answer to a log: a cosignature, the size that is known, or why there is none."""

    status: Status
    body: str
    media_type: str = TEXT_TYPE


class Witness:
    """Cosigns the checkpoints of some logs, by origin, with a key; `now` returns epoch seconds.

    Raises NoteError for a key that can't cosign, or that is one of a log.
    """

    def __init__(
        self,
        key: PrivateKey,
        logs: Mapping[str, tuple[PublicKey, ...]],
        store: WitnessStore,
        now: Callable[[], float] = time.time,
    ) -> None:
        if key.public.kind is not SignatureKind.COSIGNATURE:
            raise NoteError("is the key of a log, and not of a witness")
        if any(key.public.key == each.key for keys in logs.values() for each in keys):
            raise NoteError("is the key of a log that it is to watch")
        self._key, self._logs, self._store, self._now = key, logs, store, now

    def add_checkpoint(self, body: bytes) -> WitnessAnswer:
        """Check a request and answer it; a cosigned checkpoint is on the disk before this returns.

        A head that contradicts ours is stored as evidence. Raises sqlite3.Error if nothing can be stored.
        """
        try:
            asked = parse_submission(body)
        except NoteError as error:
            return WitnessAnswer(Status.BAD_FORM, f"the request {error}\n")
        origin = asked.checkpoint.origin
        if origin not in self._logs:
            return WitnessAnswer(Status.UNKNOWN_ORIGIN, "this log is not watched here\n")
        if not self._is_signed(asked.note, self._logs[origin]):
            return WitnessAnswer(Status.BAD_SIGNATURE, "no key of this log signed the checkpoint\n")
        with self._store.change():
            return self._advance(asked)

    def _is_signed(self, note: SignedNote, keys: tuple[PublicKey, ...]) -> bool:
        try:
            return any(verify_note(note, key) is not None for key in keys)
        except NoteError:
            return False

    def _advance(self, asked: Submission) -> WitnessAnswer:
        new = asked.checkpoint
        known = self._store.find_head(new.origin) or Head(0, EMPTY_ROOT, b"")
        if asked.old_size != known.size:
            return WitnessAnswer(Status.OTHER_SIZE, f"{known.size}\n", SIZE_TYPE)
        if not is_consistent(known.size, new.size, asked.proof, known.root, new.root):
            is_fork = new.size == known.size and new.root != known.root
            if is_fork or new.size > known.size:
                self._store.keep_fork(new.origin, known.note, asked.raw, is_proven=is_fork)
            return WitnessAnswer(Status.BAD_PROOF, "the checkpoint does not continue the one before\n")
        self._store.save_head(new.origin, Head(new.size, new.root, asked.raw))
        line = self._key.sign(asked.note.text, int(self._now()))
        return WitnessAnswer(Status.COSIGNED, line)
