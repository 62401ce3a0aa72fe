"""Define what each page of the market shows, one dataclass per template."""

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from services.board.market.cascade import FallbackCount, SourceView, find_fallbacks
from services.board.market.correlations import HeatMap
from services.board.market.overview import TileView
from services.board.market.states import GateState, StoredSeries
from services.board.market.updates import MAX_TOPICS, TopicKind, name_topic
from services.board.rendering import Frame
from services.market.records import TIMEFRAMES


@dataclass(frozen=True, slots=True)
class MarketNotice:
    """Say what stands above every page of the market: what is away, and whether anything is a replay.

    `has_market` is False if the truth has no service that publishes a market.
    """

    has_market: bool = True
    problem: str | None = None
    away: str | None = None
    is_replay: bool = False
    gate: GateState | None = None


@dataclass(frozen=True, slots=True)
class TileGroup:
    """A group of tiles under a heading."""

    name: str
    tiles: tuple[TileView, ...]


@dataclass(frozen=True, slots=True)
class MarketPage:
    """The overview: the groups as small multiples."""

    template: ClassVar = "market_overview.html"
    frame: Frame
    notice: MarketNotice
    groups: tuple[TileGroup, ...]
    tab: str = "/market"

    @property
    def topics(self) -> str:
        """The topics of `/ws` that the page follows, separated by blanks: all symbols if these are many."""
        symbols = dict.fromkeys(tile.symbol for group in self.groups for tile in group.tiles)
        topics = [
            name_topic(kind, name, *more)
            for name in symbols
            for kind, more in ((TopicKind.QUOTES, ()), (TopicKind.BARS, ("1m",)))
        ]
        if len(topics) > MAX_TOPICS:
            topics = [name_topic(TopicKind.QUOTES), name_topic(TopicKind.BARS, "1m")]
        return " ".join(topics)


@dataclass(frozen=True, slots=True)
class Overlay:
    """An indicator that can be drawn: over the prices, or in a pane of its own.

    The names of its values in the API begin with `prefix`, and go on with `_` if at all.
    """

    prefix: str
    label: str
    place: Literal["price", "pane"] = "pane"


OVERLAYS: Final = (
    Overlay("sma", "SMA", "price"),
    Overlay("ema", "EMA", "price"),
    Overlay("bb", "Bollinger", "price"),
    Overlay("vwap", "VWAP", "price"),
    *(Overlay("rsi", "RSI"), Overlay("macd", "MACD"), Overlay("stoch", "Stochastic"), Overlay("adx", "ADX")),
    *(Overlay("atr", "ATR"), Overlay("cci", "CCI"), Overlay("willr", "Williams %R"), Overlay("obv", "OBV")),
    Overlay("mfi", "MFI"),
)


@dataclass(frozen=True, slots=True)
class SymbolPage:
    """One symbol: its chart, its indicators, and who serves it."""

    template: ClassVar = "market_symbol.html"
    frame: Frame
    notice: MarketNotice
    symbol: str
    timeframe: str
    tile: TileView
    series: tuple[StoredSeries, ...] = ()
    timeframes: tuple[str, ...] = TIMEFRAMES
    overlays: tuple[Overlay, ...] = OVERLAYS
    tab: str = ""


@dataclass(frozen=True, slots=True)
class QuarantinedView:
    """A record that failed a check: which, why, what it was, and whether it was played (`replay`)."""

    id: str
    at: float | None
    check: str
    why: str
    symbol: str
    source: str
    fields: str
    replay: bool = False


@dataclass(frozen=True, slots=True)
class DownloadView:
    """A request to a source, or to a recording (`replay`)."""

    at: float
    source: str
    series: str
    status: int | None
    outcome: str
    reason: str
    took_ms: int | None
    size: int | None
    records: int | None
    replay: bool = False


@dataclass(frozen=True, slots=True)
class SourcesPage:
    """The sources: their health and limits, the cascade in force, the quarantine, and the gate.

    `limits_away` says why it is not known what is left of the limits.
    """

    template: ClassVar = "market_sources.html"
    frame: Frame
    notice: MarketNotice
    sources: tuple[SourceView, ...]
    series: tuple[StoredSeries, ...]
    quarantine: tuple[QuarantinedView, ...] = ()
    quarantined: int | None = None
    downloads: tuple[DownloadView, ...] = ()
    limits_away: str | None = None
    tab: str = "/market/sources"

    @property
    def fallbacks(self) -> tuple[FallbackCount, ...]:
        return find_fallbacks(self.series)


@dataclass(frozen=True, slots=True)
class CorrelationsPage:
    """The correlations of daily returns as a heat map."""

    template: ClassVar = "market_correlations.html"
    frame: Frame
    notice: MarketNotice
    heat: HeatMap
    tab: str = "/market/correlations"


@dataclass(frozen=True, slots=True)
class EconomyPage:
    """The economic series, each with its latest values."""

    template: ClassVar = "market_economy.html"
    frame: Frame
    notice: MarketNotice
    tiles: tuple[TileView, ...]
    tab: str = "/market/economy"
