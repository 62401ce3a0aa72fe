"""Define the settings of bars in the truth: which symbols, in which sessions, held to which limits. Pure."""

from collections.abc import Container, Iterator, Mapping
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
    SOURCE_BARS,
)
from marketswarm.settings import CommonSettings, list_variables
from marketswarm.text import format_names
from marketswarm.truth import AccessPoint, Service, Truth
from marketswarm.truth.errors import Place
from services.market.fields import SYMBOL
from services.market.records import MINUTES_KEPT_DAYS, TIMEFRAMES, AssetClass, Timeframe
from services.market.separate import join_source
from services.market.sessions import ROUND_THE_CLOCK, find_default_session
from services.market.universe import (
    UNOFFICIAL_CLOSE,
    LoadedSymbol,
    find_default_share,
    list_loaded_symbols,
    list_separate_bars,
)

MAX_SYMBOLS: Final = 10_000
OUTPUTS: Final = (CHECKED_BARS, SOURCE_BARS, INDICATORS, MARKET_QUARANTINE, FEATURES)
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
    day_share: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    """The share of its minutes of which a built day must be made, or features and correlations leave it out;
    0: none is left out. Default: 0.25; 0 of options and of minutes of quotes. Example: `0.5`."""
    stale_sec: Seconds = 900.0
    """The age at which the newest bar is counted as stale when it comes. Example: `1200`."""


class SymbolGroup(ServiceConfig):
    """`endpoints[]` of bars: symbols that are treated alike."""

    symbols: Annotated[tuple[Symbol, ...], Field(max_length=MAX_SYMBOLS)] = ()
    """The symbols, spelled as `sources` writes them. Default: all of the asset class that `sources` loads and
    no other group names. Example: `["SPY", "AAPL"]`."""
    asset: AssetClass = AssetClass.STOCKS
    """Their asset class. Example: `"crypto"`."""
    session: Annotated[str, Field(pattern=r"^[A-Za-z0-9_/]{2,24}$")] | None = None
    """When they trade: `24x7`, `24x5`, `us_futures`, `us_volatility` or an exchange such as `XNYS`. Default:
    by the asset class; without `symbols`, as `sources` has it. Example: `"XLON"`."""
    timeframes: Annotated[tuple[Timeframe, ...], Field(min_length=1)] = TIMEFRAMES
    """The timeframes to publish. Example: `["1m", "1h", "1d"]`."""
    indicators: tuple[IndicatorName, ...] = INDICATOR_NAMES
    """The indicators to publish; default: all, `[]`: none. Example: `["sma", "rsi"]`."""
    quotes: bool = False
    """Whether their minutes are made of quotes instead of bars of minutes. Example: `true`."""
    checks: CheckSettings = CheckSettings()
    """The limits of the checks."""

    @property
    def day_share(self) -> float:
        """The share of its minutes of which a built day must be made so that features read it."""
        if self.checks.day_share is not None:
            return self.checks.day_share
        return find_default_share(self.asset, quotes=self.quotes)

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
    """The number of entries, roughly, that each stream of bars and indicators keeps; up to twice as many
    while a reader is behind. Example: `1000000`."""
    features: Annotated[int, Field(ge=1000, le=10_000_000)] = 50_000
    """The number of entries, roughly, that the stream of features keeps; each has 2 kB. Example: `100000`."""
    quarantine: Annotated[int, Field(ge=10, le=1_000_000)] = 10_000
    """The number of entries, roughly, that the quarantine keeps. Example: `50000`."""
    behind_sec: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = 60.0
    """The waiting time of an entry from which the service is `degraded`. Example: `120`."""
    without: Annotated[tuple[Symbol, ...], Field(max_length=MAX_SYMBOLS)] = ()
    """The symbols that `sources` loads and bars does not take. Example: `["GLD"]`."""
    benchmark: Symbol = "SPY"
    """The symbol that features compare others with. Example: `"BTC/USD"`."""


class BarsSettings(ServiceConfig):
    """The settings of bars in the truth."""

    variables: ClassVar = list_variables(CommonSettings)

    endpoints: Annotated[tuple[SymbolGroup, ...], Field(max_length=MAX_SYMBOLS)] = ()
    """What is said of symbols, by groups. What `sources` loads is taken without being named here."""
    settings: BarsOptions = BarsOptions()
    """How bars reads its streams and how long it waits."""
    separate: tuple[tuple[str, str], ...] = ()
    """The symbols and sources whose bars sources loads for themselves; `complete` takes them over."""

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

    @model_validator(mode="after")
    def _classes_are_unique(self) -> Self:
        """Raise ValueError if two groups without symbols are of one class."""
        seen: set[AssetClass] = set()
        for number, group in enumerate(self.endpoints):
            if not group.symbols and group.asset in seen:
                raise ValueError(
                    f"endpoints[{number}].asset: {group.asset} has a group without symbols already"
                )
            seen |= set() if group.symbols else {group.asset}
        return self

    def complete(self, truth: Truth) -> Self:
        """Return the settings with groups of all symbols that sources loads by this truth, and `separate`.

        Left out are symbols that a group names, and those that `without` does.
        """
        named = {symbol for group in self.endpoints for symbol in group.symbols}
        others: dict[LoadedSymbol, list[str]] = {}
        for symbol, loaded in find_loaded(truth).items():
            if symbol not in named and symbol not in self.settings.without:
                others.setdefault(loaded, []).append(symbol)
        usual = {group.asset: group for group in self.endpoints if not group.symbols}
        groups = [group for group in self.endpoints if group.symbols]
        for loaded, symbols in others.items():
            group = usual.get(loaded.asset, SymbolGroup(asset=loaded.asset))
            update = {"symbols": tuple(symbols), "session": group.session or loaded.session}
            groups.append(group.model_copy(update=update))
        separate = tuple(sorted(find_separate(truth)))
        return self.model_copy(update={"endpoints": tuple(groups), "separate": separate})

    def find_groups(self) -> dict[str, SymbolGroup]:
        return {symbol: group for group in self.endpoints for symbol in group.symbols}

    def find_separate_groups(self) -> dict[str, SymbolGroup]:
        """Return by name, such as `SPY@massive`, how the bars of one source are treated: as their symbol's.

        They have no indicators, and are of no quotes. A symbol that bars does not take has none.
        """
        groups = self.find_groups()
        return {
            join_source(symbol, source): groups[symbol].model_copy(update={"indicators": (), "quotes": False})
            for symbol, source in self.separate
            if symbol in groups
        }

    def find_truth_warnings(self, truth: Truth) -> Iterator[tuple[Place, str]]:
        """Yield warnings: a symbol that has another class in sources, one left out that sources lacks."""
        loaded = find_loaded(truth)
        for number, group in enumerate(self.endpoints):
            for symbol in group.symbols:
                if symbol in loaded and loaded[symbol].asset is not group.asset:
                    why = f"{symbol} is {group.asset} here and {loaded[symbol].asset} in sources"
                    yield ("endpoints", number, "asset"), why
                    break
        if unknown := [symbol for symbol in self.settings.without if symbol not in loaded]:
            yield ("settings", "without"), f"sources loads no bars of {format_names(unknown)}"
        yield from self._find_unofficial_closes(truth, loaded)

    def _find_unofficial_closes(self, truth: Truth, loaded: Container[str]) -> Iterator[tuple[Place, str]]:
        """Yield a warning for each group of stocks that another writer than sources brings, as minutes."""
        bars = truth.services.get("bars")
        stream = None if bars is None else list_inputs(bars)[0]
        others = [each for svc, each in truth.services.items() if svc != "sources"]
        if all(stream not in each.access_points.publish_to for each in others):
            return
        for number, group in enumerate(self.endpoints):
            is_of_trades = group.asset is AssetClass.STOCKS and not group.quotes
            if alone := [symbol for symbol in group.symbols if is_of_trades and symbol not in loaded]:
                yield ("endpoints", number, "symbols"), f"{format_names(alone)}: {UNOFFICIAL_CLOSE}"


def find_loaded(truth: Truth) -> dict[str, LoadedSymbol]:
    """Return the symbols whose bars the section of sources loads; none if it writes to another stream."""
    sources = _find_read_sources(truth)
    return {} if sources is None else list_loaded_symbols(sources)


def find_separate(truth: Truth) -> frozenset[tuple[str, str]]:
    """Return the symbols and sources whose bars sources loads for themselves; none as of `find_loaded`."""
    return frozenset(list_separate_bars(_find_read_sources(truth)))


def _find_read_sources(truth: Truth) -> Service | None:
    """Return the section of sources if it writes to the stream of bars that bars reads."""
    sources, bars = truth.services.get("sources"), truth.services.get("bars")
    if sources is None or bars is None:
        return None
    written = point_like(sources.access_points.publish_to, "market-redis", MARKET_BARS)
    return sources if written == list_inputs(bars)[0] else None


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
