"""Read the place of a symbol in a tick: what was decided of it, by which votes, made of which bars. Pure.

A place is canonical JSON, and its numbers are decimal text, as they were hashed. The reasons of votes are the
words of others: they may be anything, so they are bounded here, and have characters only that can be printed.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from marketswarm.text import escape_text
from services.market.fields import MAX_COUNT, MAX_MS, MIN_MS, SYMBOL
from services.tables.signals import MAX_PLACE_BYTES

MAX_VOTES: Final = 100
MAX_REASONS: Final = 10  # of a vote; what comes after them is left out
MAX_WORDS: Final = 300  # characters of a reason
_NUMBER: Final = r"^-?[0-9]{1,20}(\.[0-9]{1,20})?$"
_PRICE: Final = r"^[0-9]{1,25}(\.[0-9]{1,25})?(e[+-]?[0-9]{1,3})?$"
_DIGEST: Final = r"^[0-9a-f]{64}$"
_NAME: Final = r"^[A-Za-z0-9_.:-]{1,64}$"


def _cut_reasons(value: Any) -> Any:
    """Return the first reasons, each cut; a value that is no list of texts is left to the model to refuse."""
    if not isinstance(value, list):
        return value
    return [each[:MAX_WORDS] if isinstance(each, str) else each for each in value[:MAX_REASONS]]


Word = Annotated[str, Field(strict=True, max_length=MAX_WORDS), AfterValidator(escape_text)]
"""A short text; it is read with characters only that can be printed."""
DecimalText = Annotated[str, Field(strict=True, pattern=_NUMBER)]
Whole = Annotated[int, Field(strict=True, ge=0, le=MAX_COUNT)]
PriceText = Annotated[str, Field(strict=True, pattern=_PRICE)]
"""The shortest text of a price, of a very small one with an exponent."""
Moment = Annotated[int, Field(strict=True, ge=MIN_MS, le=MAX_MS)]
VoterName = Annotated[str, Field(strict=True, pattern=_NAME)]
SideWord = Literal["long", "short", "flat"]
OutcomeWord = Literal["signal", "unchanged", "closed", "abstained", "failed"]


class _PlacePart(BaseModel):
    """The base of the parts of a place: frozen, and tolerant of what a later version adds."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class PlacedBars(_PlacePart):
    """The bars that votes were made of: how many, of which source, from when to when, and their digest."""

    timeframe: Word | None = None
    source: Word | None = None
    first: Moment | None = None
    last: Moment | None = None
    count: Whole | None = None
    digest: Annotated[str, Field(strict=True, pattern=_DIGEST)] | None = None


class PlacedVote(_PlacePart):
    """What a voter said: a direction (1, 0 or -1) with its numbers, or why its vote does not count."""

    direction: Annotated[int, Field(strict=True, ge=-1, le=1)] | None = None
    strength: DecimalText | None = None
    confidence: DecimalText | None = None
    weight: DecimalText | None = None
    expires: Whole | None = None
    reasons: Annotated[tuple[Word, ...], BeforeValidator(_cut_reasons)] = ()
    abstained: Word | None = None
    bars: PlacedBars | None = None
    """Its own bars, if it sees those of one source alone."""

    @property
    def has_voted(self) -> bool:
        return self.abstained is None and None not in (self.direction, self.strength, self.confidence)


class SignalPlace(_PlacePart):
    """What a tick says of a symbol. Numbers are decimal text, as they were hashed."""

    symbol: Annotated[str, Field(strict=True, pattern=f"^{SYMBOL.pattern}$")]
    outcome: OutcomeWord
    tick: Whole | None = None
    since: Whole | None = None
    side: SideWord | None = None
    before: SideWord | None = None
    score: DecimalText | None = None
    confidence: DecimalText | None = None
    conflict: DecimalText | None = None
    participation: DecimalText | None = None
    effective: DecimalText | None = None
    price: PriceText | None = None
    as_of: Moment | None = None
    """The time of the market as of which it was decided, in epoch milliseconds."""
    replay: Annotated[bool, Field(strict=True)] = False
    why: Word | None = None
    votes: Annotated[Mapping[VoterName, PlacedVote], Field(max_length=MAX_VOTES)] = Field(
        default_factory=dict[str, PlacedVote]
    )
    bars: PlacedBars | None = None

    @property
    def voted(self) -> int:
        return sum(1 for one in self.votes.values() if one.has_voted)

    @property
    def reason(self) -> str:
        """Why, in one line: why there is no signal, or the first reason of the vote that weighs most in it.

        It is the greatest direction x strength x confidence towards the score; empty if no vote has a reason.
        """
        if self.why is not None:
            return self.why
        towards = -1.0 if (self.score or "").startswith("-") else 1.0
        voted = [(name, one) for name, one in self.votes.items() if one.has_voted and one.reasons]
        if not voted:
            return ""
        name, vote = max(voted, key=lambda each: towards * _find_lean(each[1]))
        return f"{name}: {vote.reasons[0]}"

    @property
    def sentence(self) -> str:
        """What was decided and why, as a sentence made by rule from the votes; never empty."""
        if self.outcome == "signal":
            kept = "stays" if self.before == self.side else "is now"
            score = "" if self.score is None else f", with a score of {self.score}"
            voted = f"{self.voted} of {len(self.votes)} voters voted{score}"
            most = f"; what weighs most is {self.reason}" if self.reason else ""
            return f"{self.symbol} {kept} {self.side}: {voted}{most}."
        if self.outcome == "abstained":
            absent = ", ".join(
                f"{name} ({one.abstained or 'no numbers'})"
                for name, one in self.votes.items()
                if not one.has_voted
            )
            without = f"; without a vote: {absent}" if absent else ""
            return f"{self.symbol} has no signal: {self.why or 'too few voted'}{without}."
        since = "" if self.since is None else f" since tick {self.since}"
        if self.outcome == "closed":
            return f"The market of {self.symbol} is closed{since}."
        if self.outcome == "unchanged":
            return f"{self.symbol} is unchanged{since}."
        return f"{self.symbol} could not be decided: {self.why or 'no reason is named'}."


def _find_lean(vote: PlacedVote) -> float:
    weight = 1.0 if vote.weight is None else float(vote.weight)
    return weight * (vote.direction or 0) * float(vote.strength or 0) * float(vote.confidence or 0)


def parse_place(content: str) -> SignalPlace | None:
    """Return what a place says; None if it is too long, no JSON, or not the place of a symbol."""
    if len(content) > MAX_PLACE_BYTES:
        return None
    try:
        return SignalPlace.model_validate(orjson.loads(content))
    except (orjson.JSONDecodeError, ValidationError):
        return None
