"""Define the records of the market: bars, quotes, observations and corporate actions. Pure."""

from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from typing import Final, Literal

MINUTE_MS: Final = 60_000
MINUTES_KEPT_DAYS: Final = 6.0
"""For how many days before the newest minute minutes are taken, unless the truth says otherwise."""
# fmt: off
KEPT_DAYS: Final = {
    "1m": 0, "5m": 0, "15m": 0, "30m": 0, "1h": 30, "4h": 60, "1d": 800,
    "1w": 5600, "1mo": 24_000,  # 800 of each, which indicators may need
}
# fmt: on
"""For how many days checked bars are kept, at the least; never shorter than what may be revised."""
DAY_MS: Final = 86_400_000
ROUNDING: Final = 1e-5
"""How far, as a share of it, an open or a close may be outside of low to high, since vendors round each."""
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


class RecordKind(StrEnum):
    """Name the kinds of records, as the truth and the catalogue spell them."""

    BARS = "bars"
    QUOTES = "quotes"
    OBSERVATIONS = "observations"
    ACTIONS = "actions"


class AssetClass(StrEnum):
    """Name the asset classes. A symbol is spelled as its class demands; see docs/services/sources.md."""

    STOCKS = "stocks"
    FOREX = "forex"
    CRYPTO = "crypto"
    ECONOMIC = "economic"
    COMMODITIES = "commodities"
    OPTIONS = "options"
    VOLATILITY = "volatility"


class VolumeKind(StrEnum):
    """Say whose trades the volume of a bar counts."""

    VENUE = "venue"
    """Those of one exchange."""
    CONSOLIDATED = "consolidated"
    """Those of all exchanges, or of many."""
    NONE = "none"
    """No trades: there is no volume, or one that counts changes of a quote, as of currencies."""


Timeframe = Literal["1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w", "1mo"]
SOURCE_TIMEFRAMES: Final[tuple[Timeframe, ...]] = ("1m", "5m", "15m", "30m", "1h", "4h", "1d")
"""The timeframes that are built of minutes, from the shortest to the longest; sources are asked for these."""
PERIODS: Final[tuple[Timeframe, ...]] = ("1w", "1mo")
"""The timeframes that are built of days, and never taken from a source: each begins its weeks as it likes."""
TIMEFRAMES: Final = SOURCE_TIMEFRAMES + PERIODS
"""The timeframes of checked bars, from the shortest to the longest."""


@dataclass(frozen=True, slots=True)
class Bar:
    """Hold a bar that opens at `start_ms` (epoch milliseconds). What the source does not say is None."""

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


def settle_range(bar: Bar) -> Bar:
    """Return a bar whose high and low include its open and close, if they lack no more than a rounding error.

    Vendors round each price for itself, so a close may be a hair above its high.
    """
    top, bottom = max(bar.open, bar.close), min(bar.open, bar.close)
    if bar.low <= bottom and top <= bar.high:
        return bar
    if top - bar.high > ROUNDING * abs(top) or bar.low - bottom > ROUNDING * abs(bottom):
        return bar
    return replace(bar, high=max(bar.high, top), low=min(bar.low, bottom))


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
    """Hold the value of an economic series for the period that begins at `start_ms` (epoch milliseconds).

    `known_ms` is since when the value was known, where its source says so; a period that was revised has
    several values, each known since another time.
    """

    symbol: str
    start_ms: int
    value: float
    known_ms: int | None = None


class Adjustment(StrEnum):
    """Say for which corporate actions the prices and volumes of a bar are adjusted.

    An adjusted bar of a past day is told as if each later action had happened before it.
    """

    RAW = "raw"
    """For none: the prices are those at which was traded."""
    SPLITS = "splits"
    ALL = "all"
    """For splits and dividends."""


class ActionKind(StrEnum):
    """Name what may happen to the shares of a symbol."""

    SPLIT = "split"
    DIVIDEND = "dividend"
    RENAME = "rename"
    SPIN_OFF = "spin_off"
    MERGER = "merger"
    RIGHTS = "rights"


@dataclass(frozen=True, slots=True)
class CorporateAction:
    """Hold what happened to shares: from the day `ex_day` on, they are traded without what it gave.

    Attributes:
        ratio: of a split the shares that one share becomes: 10.0 for ten for one, 0.5 for one for two. Of a
            spin-off, a merger and rights how many of `new_symbol` are given for a share, if that is known.
        amount: of a dividend the cash for a share as it was on the day before `ex_day`, so not adjusted
            for later splits, in the currency of the symbol's prices; of a merger the cash for a share.
        new_symbol: of a rename what the symbol is called from `ex_day` on; of a spin-off and rights what is
            given; of a merger the share of who takes it over, if that is given.
    """

    symbol: str
    kind: ActionKind
    ex_day: date
    ratio: float | None = None
    amount: float | None = None
    new_symbol: str | None = None


Record = Bar | Quote | Observation | CorporateAction


@dataclass(frozen=True, slots=True)
class Provenance:
    """Say where a record came from. What is unknown is 0 or empty.

    Attributes:
        source: the name of the source in the catalogue; of massive's stream `ws`, `rest` or `replay`.
        asked_at: when the source was asked, in epoch seconds.
        digest: the SHA-256 of the answer, as hexadecimal digits.
        is_replay: whether the record was played from a recording, and is not of today.
        played_at: when it was played by the recording's clock, in epoch seconds.
        rank: the place of the source in its cascade, 0 for the first one.
        adjustment: of a bar, for which actions its source has adjusted it: for those from the day after the
            bar's up to the day of `as_of`.
        volume_kind: of a bar, whose trades its volume counts; None if that is unknown.
    """

    source: str
    asked_at: float = 0.0
    digest: str = ""
    is_replay: bool = False
    played_at: float = 0.0
    rank: int = 0
    adjustment: Adjustment = Adjustment.RAW
    volume_kind: VolumeKind | None = None

    @property
    def as_of(self) -> float:
        """The time by which to judge how old the record is, in epoch seconds."""
        return self.played_at or self.asked_at
