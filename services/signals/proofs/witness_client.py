"""Ask a witness to cosign a checkpoint, and judge what it answers. Its answers are hostile until verified."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from marketswarm.net.http import HttpClient, HttpError
from marketswarm.text import decode_text, extract_line
from services.signals.log.checkpoint import parse_size
from services.signals.log.note import NoteError, PublicKey, SignatureKind, parse_note, verify_note
from services.signals.log.submission import Status, format_submission

WITHIN_SEC: Final = 10.0
"""How long a witness may take to answer."""
MAX_ANSWER_BYTES: Final = 16 * 1024
PATH: Final = "/add-checkpoint"


class WitnessReason(StrEnum):
    """How an attempt to have a checkpoint cosigned ended."""

    COSIGNED = "cosigned"
    OTHER_SIZE = "other_size"
    """The witness knows another size of the log than was said."""
    AWAY = "away"
    """No whole answer came, or one that says: later."""
    BAD_KEY = "bad_key"
    """What the settings have as the key of the witness is none."""
    BAD_FORM = "bad_form"
    BAD_SIGNATURE = "bad_signature"
    """The witness knows the log, and not its key."""
    UNKNOWN_LOG = "unknown_log"
    BAD_PROOF = "bad_proof"
    """The checkpoint does not continue what the witness cosigned: this log, or the witness, was changed."""
    FALSE_COSIGNATURE = "false_cosignature"
    """What came as a cosignature is none of the witness's key over this checkpoint."""
    WITNESS_AHEAD = "witness_ahead"
    """The witness cosigned more entries than the log has: entries of this log are gone."""


REFUSALS: Final = (
    WitnessReason.BAD_KEY,
    WitnessReason.BAD_FORM,
    WitnessReason.BAD_SIGNATURE,
    WitnessReason.UNKNOWN_LOG,
    WitnessReason.BAD_PROOF,
    WitnessReason.FALSE_COSIGNATURE,
    WitnessReason.WITNESS_AHEAD,
)
"""What waiting does not mend: a person must look."""
_REASONS: Final = {
    Status.BAD_FORM: WitnessReason.BAD_FORM,
    Status.BAD_SIGNATURE: WitnessReason.BAD_SIGNATURE,
    Status.UNKNOWN_ORIGIN: WitnessReason.UNKNOWN_LOG,
    Status.BAD_PROOF: WitnessReason.BAD_PROOF,
}


@dataclass(frozen=True, slots=True)
class WitnessResult:
    """Hold what came of asking a witness.

    Attributes:
        line: the verified cosignature, and `at_sec` when it was made by the witness's clock (epoch seconds).
        known_size: the size that the witness says to know, if the reason is OTHER_SIZE.
        words: what else is known, for people: one printable line.
    """

    reason: WitnessReason
    line: str = ""
    at_sec: int = 0
    known_size: int = 0
    words: str = ""


class WitnessClient:
    """Asks one witness, by its URL, and believes its public key alone.

    Raises NoteError for the key of a log.
    """

    def __init__(self, url: str, key: PublicKey, http: HttpClient) -> None:
        if key.kind is not SignatureKind.COSIGNATURE:
            raise NoteError("is the key of a log")
        self.key, self._url, self._http = key, url.rstrip("/") + PATH, http

    async def add_checkpoint(self, old_size: int, proof: Sequence[bytes], note: bytes) -> WitnessResult:
        """Send a signed checkpoint with a proof from `old_size` on, and return what came of it."""
        body = format_submission(old_size, proof, note)
        try:
            answer = await self._http.fetch(
                "POST", self._url, within_sec=WITHIN_SEC, max_bytes=MAX_ANSWER_BYTES, body=body
            )
        except HttpError as error:
            return WitnessResult(WitnessReason.AWAY, words=error.reason)
        return judge_answer(answer.status, answer.body, note, self.key)


def judge_answer(status: int, body: bytes, note: bytes, key: PublicKey) -> WitnessResult:
    """Return what an answer of HTTP means; a cosignature counts only if `key` made it over `note`. Pure."""
    try:
        if status == Status.COSIGNED:
            return _verify_cosignature(body, note, key)
        if status == Status.OTHER_SIZE:
            known = parse_size(body.decode("ascii").removesuffix("\n"))
            return WitnessResult(WitnessReason.OTHER_SIZE, known_size=known)
    except (NoteError, UnicodeDecodeError) as error:
        is_cosignature = status == Status.COSIGNED
        reason = WitnessReason.FALSE_COSIGNATURE if is_cosignature else WitnessReason.BAD_FORM
        return WitnessResult(reason, words=f"its answer {error}")
    words = extract_line(decode_text(body))
    reason = _REASONS[Status(status)] if status in _REASONS else WitnessReason.AWAY
    return WitnessResult(reason, words=f"HTTP {status}: {words}" if words else f"HTTP {status}")


def _verify_cosignature(body: bytes, note: bytes, key: PublicKey) -> WitnessResult:
    """Return the line of the key among those that came. Raises NoteError if it is missing or false."""
    text = note.partition(b"\n\n")[0] + b"\n\n"
    for each in body.removesuffix(b"\n").split(b"\n"):
        line = each + b"\n"
        at_sec = verify_note(parse_note(text + line), key)
        if at_sec is not None:
            return WitnessResult(WitnessReason.COSIGNED, line.decode(), at_sec)
    raise NoteError(f"has no signature of {key.name}")
