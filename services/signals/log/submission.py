"""Write and read what a log sends to a witness, as C2SP's tlog-witness describes `add-checkpoint`. Pure."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from services.signals.log.checkpoint import Checkpoint, parse_checkpoint, parse_size
from services.signals.log.merkle import HASH_BYTES
from services.signals.log.note import NoteError, SignedNote, decode_base64, parse_note

MAX_REQUEST_BYTES: Final = 64 * 1024
MAX_PROOF_LINES: Final = 63
SIZE_TYPE: Final = "text/x.tlog.size"


class Status(IntEnum):
    """The answers of a witness, as HTTP has them."""

    COSIGNED = 200
    BAD_FORM = 400
    BAD_SIGNATURE = 403
    UNKNOWN_ORIGIN = 404
    OTHER_SIZE = 409
    BAD_PROOF = 422


@dataclass(frozen=True, slots=True)
class Submission:
    """Hold a request: the size that the log believes the witness to know, a proof from there on, its note."""

    old_size: int
    proof: tuple[bytes, ...]
    note: SignedNote
    checkpoint: Checkpoint
    raw: bytes


def format_submission(old_size: int, proof: Sequence[bytes], note: bytes) -> bytes:
    """Return the body of a request; `proof` leads from the tree of `old_size` to the checkpoint of `note`."""
    lines = [f"old {old_size}", *(base64.b64encode(each).decode() for each in proof), "", ""]
    return "\n".join(lines).encode() + note


def parse_submission(body: bytes) -> Submission:
    """Return what a request says. Raises NoteError."""
    head, blank, raw = body.partition(b"\n\n")
    if len(body) > MAX_REQUEST_BYTES or not blank:
        raise NoteError(
            f"is no request: lines, an empty one, a checkpoint, {MAX_REQUEST_BYTES} bytes at most"
        )
    try:
        first, *lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise NoteError("has letters before its checkpoint that are not ASCII") from None
    if not first.startswith("old "):
        raise NoteError("does not begin with old and a size")
    proof = tuple(map(decode_base64, lines))
    if len(proof) > MAX_PROOF_LINES or any(len(each) != HASH_BYTES for each in proof):
        raise NoteError(f"has a proof of more than {MAX_PROOF_LINES} lines, or a line that is no hash")
    note = parse_note(raw)
    checkpoint = parse_checkpoint(note.text)
    old_size = parse_size(first.removeprefix("old "))
    if old_size > checkpoint.size or (not old_size and proof):
        raise NoteError("has an old size above that of its checkpoint, or a proof from nothing")
    return Submission(old_size, proof, note, checkpoint, raw)
