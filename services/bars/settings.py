"""Define the settings of bars in the truth: which symbols, in which sessions, held to which limits. Pure."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from marketswarm.agent import ServiceConfig, point_like
from marketswarm.keys import (
    CHECKED_BARS,
    FEATURES,
    INDICATORS,
    MARKET_ACTIONS,
    MARKET_BARS,
    MARKET_QUARANTINE,
    MARKET_QUOTES,
)
from marketswarm.settings import CommonSettings, list_variables
from marketswarm.truth import AccessPoint, Service
from services.market.fields import SYMBOL
from services.market.records import MINUTES_KEPT_DAYS, TIMEFRAMES, AssetClass, Timeframe
from services.market.sessions import ROUND_THE_CLOCK, find_default_session

MAX_SYMBOLS: Final = 5000
OUTPUTS: Final = (CHECKED_BARS, INDICATORS, MARKET_QUARANTINE, FEATURES)
"""The streams of results, by our own names."""


def _require_symbol(text: str) -> str:
    if SYMBOL.fullmatch(text) is None:
        raise ValueError("must be a symbol: 1 to 40 letters, digits and . : / _ ^ = -, such as BTC/USD")
    return text


Symbol = Annotated[str, AfterValidator(_require_symbol)]
IndicatorName = Literal[
    "sma", "ema", "rsi", "macd", "bbands", "atr", "stoch", "adx", "cci", "obv", "mfi", "vwap", "willr"
]
INDICATOR_NAMES: Final[tuple[IndicatorName, ...]] = get_args(IndicatorName)
"""The indicators by name, as `indicators.py` has them; a truth is checked without TA-Lib."""
Seconds = Annotated[float, Field(ge=0, le=86_400 * 30, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]


class CheckSettings(ServiceConfig):
    """`checks`: the limits of the checks."""

    jump_atr: Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)] = 25.0
    """How far the prices of a minute, or the close of a longer bar, may be from the close before it, in
    average true ranges of the 14 bars before. Example: `40`."""
    jump_share: Share = 0.03
    """How far they may always be, as a share of the price, however calm the bars before were. Example:
    `0.05`."""
    open_share: Share = 0.2
    """The same for the first minute after the market was closed: few stocks open further from their last
    close. Example: `0.1`."""
    disagree_share: Share = 0.02
    """The difference between two sources about the close of a final bar that is too large, as a share of it.
    Example: `0.01`."""
    ahead_sec: Seconds = 120.0
    """The seconds by which a bar may begin after it was seen: the clocks of two machines differ. Example:
    `10`."""
    stale_sec: Seconds = 900.0
    """The age at which the newest bar is counted as stale when it comes. Example: `1200`."""


class SymbolGroup(ServiceConfig):
    """`endpoints[]` of bars: symbols that are treated alike."""

    symbols: Annotated[tuple[Symbol, ...], Field(min_length=1, max_length=MAX_SYMBOLS)]
    """The symbols, spelled as `sources` writes them. Example: `["SPY", "AAPL"]`."""
    asset: AssetClass = AssetClass.STOCKS
    """Their asset class. Example: `"crypto"`."""
    session: Annotated[str, Field(pattern=r"^[A-Za-z0-9_/]{2,24}$")] | None = None
    """When they trade: `24x7`, `24x5`, `us_futures`, `us_volatility` or an exchange such as `XNYS`. Default:
    by the asset class. Example: `"XLON"`."""
    timeframes: Annotated[tuple[Timeframe, ...], Field(min_length=1)] = TIMEFRAMES
    """The timeframes to publish. Example: `["1m", "1h", "1d"]`."""
    indicators: tuple[IndicatorName, ...] = INDICATOR_NAMES
    """The indicators to publish; default: all, `[]`: none. Example: `["sma", "rsi"]`."""
    quotes: bool = False
    """Whether their minutes are made of quotes instead of bars of minutes. Example: `true`."""
    checks: CheckSettings = CheckSettings()
    """The limits of the checks."""

    def find_session(self, symbol: str) -> str:
        return self.session or find_default_session(self.asset, symbol) or ROUND_THE_CLOCK


class BarsOptions(ServiceConfig):
    """`settings` of bars."""

    settle_sec: Seconds = 10.0
    """The seconds after the end of an interval at which its bar is final without a minute that follows.
    Example: `30`."""
    revise_days: Annotated[float, Field(ge=1, le=30, allow_inf_nan=False)] = MINUTES_KEPT_DAYS
    """How late a minute or its correction may come, in days before the newest minute, and any time of that
    trading day. More than the first load of minutes, which has five days. Example: `8`."""
    batch: Annotated[int, Field(ge=1, le=10_000)] = 2000
    """The number of entries that are read at once. Example: `5000`."""
    keep: Annotated[int, Field(ge=1000, le=100_000_000)] = 300_000
    """The number of entries, roughly, that each stream of bars and indicators keeps. Example: `1000000`."""
    features: Annotated[int, Field(ge=1000, le=10_000_000)] = 50_000
    """The number of entries, roughly, that the stream of features keeps; each has 2 kB. Example: `100000`."""
    quarantine: Annotated[int, Field(ge=10, le=1_000_000)] = 10_000
    """The number of entries, roughly, that the quarantine keeps. Example: `50000`."""
    behind_sec: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = 60.0
    """The waiting time of an entry from which the service is `degraded`. Example: `120`."""
    benchmark: Symbol = "SPY"
    """The symbol that features compare others with. Example: `"BTC/USD"`."""


class BarsSettings(ServiceConfig):
    """The settings of bars in the truth."""

    variables: ClassVar = list_variables(CommonSettings)

    endpoints: Annotated[tuple[SymbolGroup, ...], Field(max_length=MAX_SYMBOLS)] = ()
    """The symbols, by groups."""
    settings: BarsOptions = BarsOptions()
    """How bars reads its streams and how long it waits."""

    @model_validator(mode="after")
    def _symbols_are_unique(self) -> Self:
        """Raise ValueError if a symbol is named twice: one session and one set of limits hold for it."""
        seen: set[str] = set()
        for number, group in enumerate(self.endpoints):
            twice = seen.intersection(group.symbols) or len(set(group.symbols)) < len(group.symbols)
            if twice:
                raise ValueError(f"endpoints[{number}].symbols: names a symbol that was named before")
            seen.update(group.symbols)
        return self

    def find_groups(self) -> dict[str, SymbolGroup]:
        return {symbol: group for group in self.endpoints for symbol in group.symbols}


def list_inputs(section: Service) -> tuple[AccessPoint, AccessPoint, AccessPoint]:
    """Return the streams of bars, of quotes and of corporate actions that the truth names."""
    points = section.access_points.subscribe_to
    return (
        point_like(points, "market-redis", MARKET_BARS),
        point_like(points, "market-redis", MARKET_QUOTES),
        point_like(points, "market-redis", MARKET_ACTIONS),
    )


def find_other_bus(section: Service) -> str | None:
    """Return in words which stream is on another bus than market:bars; None if all are on one.

    A symbol's state and all that came of some entries are written in one step, so they are on one bus.
    """
    (bars, *inputs), points = list_inputs(section), section.access_points.publish_to
    outputs = [point_like(points, bars.bus, name) for name in OUTPUTS]
    others = [point for point in (*inputs, *outputs) if point.bus != bars.bus]
    if not others:
        return None
    return f"{others[0].key} is on {others[0].bus}, and {bars.key} on {bars.bus}: put all streams on one bus"


def list_outputs(section: Service) -> Mapping[str, str]:
    """Return the key of each stream of results, by our own name for it."""
    points = section.access_points.publish_to
    return {name: point_like(points, "market-redis", name).key for name in OUTPUTS}
