"""Read what a voter outside answers, and decide how long that counts. Pure.

An answer is foreign text: `{"direction": "up", "strength": 0.6, "confidence": 0.5, "reason": "…"}`. It
becomes the vote of its own voter, or an abstention, and nothing else.
"""

import json
import math
from dataclasses import dataclass
from typing import Any, Final

import orjson

from marketswarm.bus.stored_values import MAX_EPOCH_SEC, parse_count, parse_number, parse_object
from marketswarm.channels.text import printable_line
from services.signals.ask.questions import VoteQuestion
from services.signals.consensus.consensus import UNIT, Abstention
from services.signals.voters.votes import MAX_REASON, MAX_VALUE, NoVote, Vote, make_vote

MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_STORED_BYTES: Final = 4096
DIRECTIONS: Final = {"up": 1, "down": -1, "flat": 0}
CALM: Final = 0.001
"""The volatility at which an answer counts for as long as the settings say."""
SHORTEST_SHARE: Final = 0.25
LONGEST_TIMES: Final = 4.0
"""How much shorter and longer an answer counts where a symbol moves more, or less."""
CLOSED_TIMES: Final = 12.0
"""How much longer an answer counts while the market is closed; it ends when the market opens."""
MAX_LIFE_MS: Final = 86_400_000
_MAX_MS: Final = int(1000 * MAX_EPOCH_SEC)
_READ_CHARS: Final = 10 * MAX_REASON


class _TwiceError(ValueError):
    """A key stands twice in an object."""


def parse_answer(text: str | bytes, expires_ms: int) -> Vote | Abstention:
    """Return the vote in an answer, or why it has none: FAILED, NOT_A_NUMBER or OUT_OF_RANGE.

    Unknown fields are ignored, no type is converted, and a field that stands twice is refused.
    """
    answer = _read_object(text)
    direction, reason = answer.get("direction"), answer.get("reason")
    strength, confidence = answer.get("strength"), answer.get("confidence")
    if not isinstance(direction, str) or direction not in DIRECTIONS or not isinstance(reason, str):
        return Abstention.FAILED
    if not isinstance(strength, float) or not isinstance(confidence, float):
        return Abstention.FAILED
    if not (math.isfinite(strength) and math.isfinite(confidence)):
        return Abstention.NOT_A_NUMBER
    if not (0 <= strength <= 1 and 0 <= confidence <= 1):
        return Abstention.OUT_OF_RANGE
    line = clean_reason(reason)
    vote = make_vote(DIRECTIONS[direction] * strength, confidence, expires_ms, line)
    return Abstention.FAILED if not line or isinstance(vote, NoVote) else vote


def _read_object(text: str | bytes) -> dict[str, Any]:
    """Return the object in a JSON text, each number as a float, also NaN and 1e999; {} for anything else."""
    try:
        found = json.loads(text, parse_int=float, object_pairs_hook=_refuse_twice)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _TwiceError
    return found


def clean_reason(text: str) -> str:
    """Return foreign text as one printable line of at most MAX_REASON characters."""
    return " ".join(printable_line(text[:_READ_CHARS]).split())[:MAX_REASON].rstrip()


def find_life_ms(answer_sec: float, question: VoteQuestion) -> int:
    """Return for how many milliseconds an answer to a question counts."""
    if not question.is_open:
        times = CLOSED_TIMES
    elif question.volatility > 0:
        times = min(LONGEST_TIMES, max(SHORTEST_SHARE, CALM / question.volatility))
    else:
        times = LONGEST_TIMES
    return min(MAX_LIFE_MS, round(1000 * answer_sec * times))


@dataclass(frozen=True, slots=True)
class CachedVote:
    """Hold a vote with what its voter was asked, as it is kept in memory and in Redis.

    Attributes:
        asked_at_ms: the instant of the question, in epoch milliseconds; the vote knows when it expires.
        price: the price that the voter was told.
        is_open: whether the market traded then.
        identity: who answered: `CallSettings.identity`.
    """

    vote: Vote
    asked_at_ms: int
    price: float
    is_open: bool
    identity: str

    def is_usable(self, question: VoteQuestion, identity: str, stale_move: float) -> bool:
        """Return whether the vote still answers a question.

        It does not if it was asked later, has expired, if the price moved by the share `stale_move`, if the
        market opened or closed, or if another voter has the name now.
        """
        return (
            self.identity == identity
            and self.asked_at_ms <= question.as_of_ms < self.vote.expires_ms
            and self.is_open == question.is_open
            and abs(question.price - self.price) < stale_move * abs(self.price)
        )


def encode_vote(symbol: str, voter: str, cached: CachedVote) -> bytes:
    vote = cached.vote
    return orjson.dumps(
        {
            "symbol": symbol,
            "voter": voter,
            "direction": vote.direction,
            "strength": vote.strength,
            "confidence": vote.confidence,
            "reasons": list(vote.reasons),
            "asked_at": cached.asked_at_ms,
            "expires": vote.expires_ms,
            "price": cached.price,
            "open": cached.is_open,
            "of": cached.identity,
        }
    )


def parse_vote(raw: bytes, symbol: str, voter: str) -> CachedVote | None:
    """Return a stored vote of a voter about a symbol; None for anything else that is stored there."""
    found = parse_object(raw, MAX_STORED_BYTES)
    direction, reasons = found.get("direction"), found.get("reasons")
    strength, confidence = parse_count(found.get("strength")), parse_count(found.get("confidence"))
    asked_at, expires = parse_count(found.get("asked_at")), parse_count(found.get("expires"))
    price = parse_number(found.get("price"), -MAX_VALUE, MAX_VALUE)
    is_open, identity = found.get("open"), found.get("of")
    if (found.get("symbol"), found.get("voter")) != (symbol, voter):
        return None
    if type(direction) is not int or direction not in DIRECTIONS.values():
        return None
    if strength is None or confidence is None or max(strength, confidence) > UNIT:
        return None
    if asked_at is None or expires is None or not asked_at < expires <= min(_MAX_MS, asked_at + MAX_LIFE_MS):
        return None
    if price is None or not isinstance(is_open, bool) or not isinstance(identity, str):
        return None
    if not isinstance(reasons, list) or len(reasons) != 1 or not isinstance(reasons[0], str):
        return None
    if not reasons[0] or reasons[0] != clean_reason(reasons[0]):
        return None
    vote = Vote(direction, strength, confidence, expires, (reasons[0],))
    return CachedVote(vote, asked_at, price, is_open, identity)
