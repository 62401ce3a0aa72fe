"""Define what a source answers: bars, quotes and observations, and the kinds of answers. Pure."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class RecordKind(StrEnum):
    """Name the kinds of records, as the truth and the catalogue spell them."""

    BARS = "bars"
    QUOTES = "quotes"
    OBSERVATIONS = "observations"


class AssetClass(StrEnum):
    """Name the asset classes. A symbol is spelled as its class demands; see docs/services/sources.md."""

    STOCKS = "stocks"
    FOREX = "forex"
    CRYPTO = "crypto"
    ECONOMIC = "economic"
    COMMODITIES = "commodities"
    OPTIONS = "options"
    VOLATILITY = "volatility"


class AnswerStatus(StrEnum):
    """Name the answers to a question. Only FAILED and LIMITED count against a source."""

    OK = "ok"
    EMPTY = "empty"  # the source knows the symbol, and has nothing for that time
    CLOSED = "closed"  # nobody trades now, so nothing newer can be there
    LIMITED = "limited"  # the source refuses more requests for now
    FAILED = "failed"


TIMEFRAME_SEC: Final = {
    "1m": 60,
    "5m": 300,
    "15m": 900,
    "30m": 1800,
    "1h": 3600,
    "4h": 14_400,
    "1d": 86_400,
    "1w": 604_800,
    "1mo": 2_592_000,
}
"""The timeframes of bars, and about how long each is, in seconds."""


@dataclass(frozen=True, slots=True)
class Bar:
    """Hold a bar of one timeframe.

    `start_ms` is its open time in epoch milliseconds. What the source does not say is None.
    """

    symbol: str
    timeframe: str
    start_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float | None = None
    vwap: float | None = None
    trades: int | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """Hold the latest price of a symbol at `at_ms` (epoch milliseconds)."""

    symbol: str
    at_ms: int
    price: float
    bid: float | None = None
    ask: float | None = None
    volume: float | None = None
    open_interest: float | None = None
    implied_volatility: float | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """Hold the value of an economic series for the period that begins at `start_ms` (epoch milliseconds)."""

    symbol: str
    start_ms: int
    value: float


Record = Bar | Quote | Observation


@dataclass(frozen=True, slots=True)
class Misfit:
    """Say what of an answer could not be mapped: the row's number, the field, and why."""

    row: int
    field: str
    why: str


@dataclass(frozen=True, slots=True)
class Page:
    """Hold what one document of a source says.

    Attributes:
        outcome: never CLOSED, which no document says.
        reason: why, in one word or in the source's own words; empty for OK.
        records: in the order of the document.
        misfits: what is no record, the first hundred.
        missing: how many rows have no value, as the source itself marks them.
        next_page: how to ask for more: a token, or an address; None on the last page.
    """

    outcome: AnswerStatus
    reason: str = ""
    records: tuple[Record, ...] = ()
    misfits: tuple[Misfit, ...] = ()
    missing: int = 0
    next_page: str | None = field(default=None, repr=False)  # a token may be a secret
