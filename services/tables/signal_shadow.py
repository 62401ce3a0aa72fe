"""Define what signals says of a revision in the shadow, and read it again: the board shows it. Pure.

A word for what was decided of a symbol is one of SHADOW_WORDS: a side, or why there is none.
"""

from typing import Annotated, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.market.fields import MAX_COUNT, SYMBOL

SHADOW_WORDS: Final = ("long", "short", "flat", "abstained", "failed")
MAX_LISTED: Final = 50
"""The differences that a report lists: the last ones, and those that there are now."""
MAX_REPORT_BYTES: Final = 65_536

ShadowWord = Literal["long", "short", "flat", "abstained", "failed"]
Score = Annotated[str, Field(pattern=r"^-?[01]\.[0-9]{12}$")]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]


class ShadowDifference(BaseModel):
    """A symbol of which a tick and the shadow decided differently; `at` is in epoch milliseconds."""

    model_config = ConfigDict(frozen=True, strict=True)

    tick: Count
    at: Count
    symbol: Annotated[str, Field(pattern=f"^{SYMBOL.pattern}$")]
    live: ShadowWord
    shadow: ShadowWord
    live_score: Score | None = None
    shadow_score: Score | None = None


class ShadowReport(BaseModel):
    """What is known of a revision in the shadow since it began; times are epoch milliseconds.

    Attributes:
        name: by which the truth calls it.
        began: since when it is played; `at` is when this was written.
        ticks: the ticks in which a symbol was compared, `evaluated` how many symbols that were together.
        same: of these, how many were decided alike; `counts` has the others, by `<live> <shadow>`.
        now: the symbols that differ at present, MAX_LISTED at most, of `now_count`.
        last: the last differences, the newest first.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    name: Annotated[str, Field(min_length=1, max_length=40)]
    began: Count
    at: Count
    ticks: Count
    evaluated: Count
    same: Count
    counts: dict[str, Count]
    now_count: Count
    now: Annotated[list[ShadowDifference], Field(max_length=MAX_LISTED)]
    last: Annotated[list[ShadowDifference], Field(max_length=MAX_LISTED)]

    def encode(self) -> bytes:
        return orjson.dumps(self.model_dump())


def parse_shadow(raw: bytes | None) -> ShadowReport | None:
    """Return a stored report; None if there is none, or what is stored is not one."""
    if raw is None or len(raw) > MAX_REPORT_BYTES:
        return None
    try:
        return ShadowReport.model_validate_json(raw)
    except ValidationError:
        return None
