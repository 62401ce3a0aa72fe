"""Define what a voter outside is asked. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from services.signals.view import BarWindow

ASKED_BARS: Final = 30
"""The most bars that leave the house with a question."""
MAX_HEADLINES: Final = 8
MAX_HEADLINE: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteQuestion:
    """Ask one voter about one symbol.

    Attributes:
        as_of_ms: the instant of the question, in epoch milliseconds. Nothing later counts.
        price: the last price at that instant.
        bars: the last bars, which end at the instant; ASKED_BARS of them are sent.
        timeframe: that of the bars.
        volatility: how far the price moves from bar to bar, as a mean share of it: 0.001 is 0.1 %.
        is_open: whether the symbol's market trades at the instant.
    """

    symbol: str
    voter: str
    as_of_ms: int
    price: float
    bars: BarWindow
    timeframe: str = "1m"
    volatility: float = 0.0
    is_open: bool = True

    @property
    def key(self) -> tuple[str, str]:
        return self.symbol, self.voter


def encode_question(question: VoteQuestion, headlines: Sequence[str] | None = None) -> bytes:
    """Return a question as JSON. Of the texts of others it has the headlines alone, if they are asked for.

    Each list is bounded, the newest last; a volume that is unknown is null.
    """
    bars = zip(*(column[-ASKED_BARS:].tolist() for column in question.bars), strict=True)
    names = ("at", *BarWindow._fields[1:])
    body: dict[str, Any] = {
        "symbol": question.symbol,
        "as_of": question.as_of_ms,
        "price": question.price,
        "timeframe": question.timeframe,
        "bars": [dict(zip(names, bar, strict=True)) for bar in bars],
    }
    if headlines is not None:
        body["headlines"] = [each[:MAX_HEADLINE] for each in headlines[-MAX_HEADLINES:]]
    return orjson.dumps(body)
