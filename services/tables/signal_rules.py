"""Describe by which rules and weights a tick was decided, stored once and named by their digest. Pure.

The entry of a tick has the digest, so nobody can say later that other weights were in force. What is stored
has no URL and no key of a voter: only what is needed to decide the tick once more.
"""

from collections.abc import Mapping
from typing import Annotated, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.tables.signal_places import MAX_VOTES, DecimalText, PriceText, VoterName, Whole, Word
from services.tables.signals import MAX_PLACE_BYTES, find_signal_id

SELECT_RULES: Final = "select rules from signal_rules where digest = decode($1::text, 'hex')"
"""Selects the text of rules by their digest in hexadecimal digits."""
RULES_DIGEST: Final = r"^[0-9a-f]{64}$"


class StoredBarVoter(BaseModel):
    """A voter of bars: by which rule it votes, and the source whose bars alone it sees."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    rule: Word
    source: Word | None = None


class StoredRules(BaseModel):
    """The rules of a tick. Numbers with a point are decimal text, as they were hashed."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    weights: Annotated[Mapping[VoterName, DecimalText], Field(max_length=MAX_VOTES)]
    quorum: PriceText
    """The shortest text of the number, as is `skip_move`."""
    least_votes: Whole
    enter: DecimalText
    leave: DecimalText
    cooldown_ms: Whole
    timeframe: Word
    skip_move: PriceText
    bar_voters: Annotated[Mapping[VoterName, StoredBarVoter], Field(max_length=MAX_VOTES)]


def parse_stored_rules(text: str | None, digest: str) -> StoredRules | None:
    """Return the rules that have a digest; None if they are not stored, or what is stored is not them."""
    if text is None or len(text) > MAX_PLACE_BYTES or find_signal_id(text.encode()) != digest:
        return None
    try:
        return StoredRules.model_validate(orjson.loads(text))
    except (orjson.JSONDecodeError, ValidationError):
        return None
