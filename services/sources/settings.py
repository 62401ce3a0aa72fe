"""Define the settings of sources in the truth and the environment: the series, and how they are loaded. Pure.

`bootstrap` and `validate` check a truth with these models, so nothing heavy is imported here; the catalogue
is only read to warn of a source that does not serve a series.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Self

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode

from marketswarm.agent import ServiceConfig, point_like
from marketswarm.agent.service_config import require_file_below
from marketswarm.keys import MARKET_BARS
from marketswarm.net.addresses import require_encrypted_url
from marketswarm.settings import list_variables
from marketswarm.settings.programs import MonitorSettings
from marketswarm.text import format_names
from marketswarm.truth import Service, Truth
from marketswarm.truth.errors import Place, find_nearest
from marketswarm.truth.schedule import ScheduleError, parse_schedule
from services.market.fields import SYMBOL
from services.market.records import (
    MINUTES_KEPT_DAYS,
    PERIODS,
    SOURCE_TIMEFRAMES,
    TIMEFRAME_SEC,
    Adjustment,
    AssetClass,
    RecordKind,
)
from services.market.sessions import (
    FOREX,
    OWN_SESSIONS,
    ROUND_THE_CLOCK,
    US_FUTURES,
    UnknownSessionError,
    find_default_session,
    get_session,
)
from services.market.universe import UNOFFICIAL_CLOSE, list_entry_symbols, list_left_out
from services.sources.limits import FailureSettings, LimitSettings

CATALOG: Final = Path(__file__).with_name("catalog")
MARKET: Final = "market-redis"
MASSIVE: Final = "massive"
"""The source whose minutes of stocks come over massive's own stream."""
STREAM_SUFFIX: Final = "_stream"
"""Behind the name of a source: what SOURCES_BASE_URLS calls its stream."""
MAX_SERIES: Final = 20_000
DAY_SEC: Final = 86_400.0

# fmt: off
HISTORY_DAYS: Final[Mapping[str, float]] = {
    "1m": 5, "5m": 20, "15m": 40, "30m": 50, "1h": 60, "4h": 180, "1d": 730,
}
# fmt: on
"""How far back the first load of bars goes, by timeframe."""
OBSERVATION_DAYS: Final = 3650.0
QUOTE_DAYS: Final = 1.0
ACTION_DAYS: Final = 7305.0
"""How far back the actions of a share go: twenty years."""
DAYS_AN_ACTION: Final = 30.0
"""How far apart the actions of a share are, on average, if they are many: some funds pay each month."""
MANY_ENTRIES: Final = 1_000_000
"""The length of a stream from which on a truth gets a warning."""
ENTRY_BYTES: Final = 210
"""The memory of an entry of a stream, as measured."""

_EXTENDED_SHARE: Final = 2 / 3
"""The part of a day in which stocks trade, before the open and after the close as well."""
_WEEK_SHARE: Final = 5 / 7
# a regular expression takes 2 ms for all files, tomllib 70, and these are read by each import of the settings
_KEY_VARIABLE: Final = re.compile(r'^(?:secret_)?env = "([A-Z][A-Z0-9_]+)"', re.MULTILINE)
_REPLAY_NAME: Final = re.compile(r"[a-z][a-z0-9_]{1,39}")
_PLAIN_NAME: Final = re.compile(r"[a-z][a-z_]{1,23}")
_SESSION: Final = re.compile(r"[A-Za-z0-9_/]{2,24}")
_MAX_BASE_URLS: Final = 100
_PRICES: Final = {
    Adjustment.RAW: "raw prices",
    Adjustment.SPLITS: "prices adjusted for splits",
    Adjustment.ALL: "prices adjusted for splits and dividends",
}
_ONE_SCALE: Final = "one series can't have both, since they differ after a split or a dividend"


def _parse_base_urls(value: Any) -> Any:
    """Parse a JSON object; return any other value unchanged."""
    if not isinstance(value, str | bytes):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        raise ValueError("must be a JSON object: a source's name, then its URL") from None


def require_safe_urls(urls: dict[str, str]) -> dict[str, str]:
    """Return the URLs without a / at their ends if keys may be sent there; otherwise raise ValueError."""
    if len(urls) > _MAX_BASE_URLS:
        raise ValueError(f"has more than {_MAX_BASE_URLS} URLs")
    for name, url in urls.items():
        require_encrypted_url("wss" if name.endswith(STREAM_SUFFIX) else "https", url)
    return {name: url.rstrip("/") for name, url in urls.items()}


BaseUrls = Annotated[
    dict[str, str],
    NoDecode,  # a mistake in it must be named as that of every other variable
    BeforeValidator(_parse_base_urls),
    AfterValidator(require_safe_urls),
]


class SourcesEnvironment(MonitorSettings):
    """The variables of sources, besides the keys that the files of the catalogue name."""

    # where to find sources instead, as a JSON object of URLs by name: a proxy, or a stand-in of a test; the
    # stream of NAME is NAME_stream
    sources_base_urls: BaseUrls | None = Field(default=None, repr=False)


def list_key_variables(folder: Path = CATALOG) -> frozenset[str]:
    """Return the variables with the keys of all sources, as the files of a folder name them.

    A file that can't be read is left out.
    """
    return frozenset(name for path in folder.glob("*.toml") for name in _KEY_VARIABLE.findall(_read(path)))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _require_symbol(symbol: str) -> str:
    if SYMBOL.fullmatch(symbol) is None:
        raise ValueError("must be a symbol of ours, such as SPY, BRK.B, EUR/USD or US.CPI")
    return symbol


def _require_timeframe(timeframe: str) -> str:
    if timeframe in PERIODS:
        raise ValueError("must be that of a day at most: bars builds weeks and months of a series of 1d")
    if timeframe not in SOURCE_TIMEFRAMES:
        raise ValueError(f"must be one of {', '.join(SOURCE_TIMEFRAMES)}: bars makes no others")
    return timeframe


def _require_session(code: str) -> str:
    if _SESSION.fullmatch(code) is None:
        raise ValueError(f"must be {', '.join(OWN_SESSIONS)} or the code of an exchange, such as XNYS")
    return code


def _require_cron(text: str) -> str:
    try:
        parse_schedule(text)
    except ScheduleError as error:
        raise ValueError(str(error)) from None
    return text


def _require_folder(path: str) -> str:
    return require_file_below("")(path)


def _require_names(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names) or not all(map(_REPLAY_NAME.fullmatch, names)):
        raise ValueError("must be different names of small letters, digits and _, such as replay_a")
    return names


Symbol = Annotated[str, AfterValidator(_require_symbol)]
Seconds = Annotated[float, Field(gt=0, le=366 * DAY_SEC, allow_inf_nan=False)]


class SeriesEntry(ServiceConfig):
    """One entry of `endpoints`: a series, or one for each of several symbols."""

    symbol: Symbol | None = None
    """The symbol of the series. Example: `"SPY"`."""
    symbols: Annotated[tuple[Symbol, ...], Field(max_length=1000)] = ()
    """Several symbols, each of which gets a series. Example: `["SPY", "QQQ"]`."""
    group: Annotated[str, Field(min_length=1, max_length=60)] | None = None
    """The name under which the board shows the symbols together. Example: `"indices"`."""
    kind: RecordKind = RecordKind.BARS
    """What is loaded: `bars`, `quotes`, `observations`, or the `actions` of a stock: splits, dividends and
    renames. Example: `"quotes"`."""
    timeframe: Annotated[str, AfterValidator(_require_timeframe)] = "1m"
    """The length of each bar. Example: `"1d"`."""
    asset: AssetClass = AssetClass.STOCKS
    """The asset class, which decides how a symbol is spelled and when it trades. Example: `"crypto"`."""
    sources: Annotated[tuple[str, ...], Field(alias="from", min_length=1, max_length=10)]
    """The sources in the order in which they may serve: the first one that is fresh does. Of bars of stocks
    all have raw prices, or all are adjusted in the same way. Example: `["massive", "tiingo", "eodhd"]`."""
    max_age_sec: Seconds | None = None
    """How late a record may be, beyond its own length, before the next source takes over. Default:
    `gate.fresh_sec`; two days for observations and actions, counted from the last answer. Example: `900`."""
    every_sec: Annotated[float, Field(ge=0.1, le=DAY_SEC, allow_inf_nan=False)] | None = None
    """The time between two loads while the market is open. Default: `load.refresh` alone. Example: `60`."""
    critical: bool = False
    """Whether the gate fails and the service is degraded without it. Example: `true`."""
    session: Annotated[str, AfterValidator(_require_session)] | None = None
    """When it trades: `24x7`, `24x5`, `us_futures`, `us_volatility` or an exchange. Default: by its asset
    class, `XNYS` for stocks. Example: `"XLON"`."""
    history_days: Annotated[float, Field(gt=0, le=40_000, allow_inf_nan=False)] | None = None
    """How far back the history goes; bars from that day's open. What the first load can't have is asked for
    later. Default: by kind and timeframe, 5 days for minutes, 20 years for actions. Example: `30`."""
    stream: bool = True
    """Whether minutes come over the stream of the first source in `from` that has one, as `binance` has; what
    is missing is asked for. Example: `false`."""
    separate: bool = False
    """Whether the bars of its one source are kept for themselves, beside the normal series of the symbol: for
    voters of `signals` that are held to that source. They are asked for, and never come over a stream.
    Example: `true`."""

    @model_validator(mode="after")
    def _has_symbols(self) -> Self:
        """Raise ValueError if there is no symbol, or a symbol beside a list of them."""
        if (self.symbol is None) is not bool(self.symbols):
            raise ValueError("symbol: give either `symbol` or `symbols`")
        if len(set(self.sources)) != len(self.sources):
            raise ValueError("from: names a source twice")
        if self.kind is RecordKind.ACTIONS and self.asset is not AssetClass.STOCKS:
            raise ValueError("kind: only stocks have actions")
        if self.separate and self.kind is not RecordKind.BARS:
            raise ValueError("separate: only bars are kept by source")
        if self.separate and len(self.sources) > 1:
            raise ValueError("separate: needs one source in `from`, whose bars these are")
        return self

    def find_session(self, symbol: str) -> str:
        """Return the code of the trading session of a symbol: an exchange's, or `24x7`."""
        return self.session or find_default_session(self.asset, symbol) or ROUND_THE_CLOCK

    @property
    def days(self) -> float:
        """How many days back the first load goes."""
        usual = {
            RecordKind.QUOTES: QUOTE_DAYS,
            RecordKind.OBSERVATIONS: OBSERVATION_DAYS,
            RecordKind.ACTIONS: ACTION_DAYS,
        }
        return self.history_days or usual.get(self.kind) or HISTORY_DAYS[self.timeframe]

    def count_first_load(self) -> int:
        """Return about how many records the first load of one symbol brings, rather too many than too few."""
        if self.kind is RecordKind.QUOTES:
            return 1
        if self.kind is RecordKind.ACTIONS:
            return ceil(self.days / DAYS_AN_ACTION)
        days, session = self.days, self.find_session(self.all_symbols[0])
        if session != ROUND_THE_CLOCK:
            days = days * _WEEK_SHARE + 1.5  # the first day is whole, and the last one may be
        length_sec = TIMEFRAME_SEC[self.timeframe] if self.kind is RecordKind.BARS else DAY_SEC
        is_always = session in (ROUND_THE_CLOCK, FOREX, US_FUTURES) or length_sec >= DAY_SEC
        return ceil(days * DAY_SEC * (1.0 if is_always else _EXTENDED_SHARE) / length_sec) + 1

    @property
    def all_symbols(self) -> tuple[str, ...]:
        return self.symbols or (() if self.symbol is None else (self.symbol,))


class LoadSettings(ServiceConfig):
    """`settings.load`: how series are loaded."""

    concurrency: Annotated[int, Field(ge=1, le=100)] = 10
    """The number of series that one instance loads at the same time. Example: `20`."""
    refresh: Annotated[str, AfterValidator(_require_cron)] = "5 * * * *"
    """When one instance loads all series that are old enough, as cron has it, in UTC. Example:
    `"*/15 * * * *"`."""
    older_than_sec: Annotated[float, Field(ge=0, le=DAY_SEC, allow_inf_nan=False)] = 3300.0
    """The age of the last answer from which `refresh` loads a series again. Example: `600`."""
    revise_days: Annotated[float, Field(ge=0, le=30, allow_inf_nan=False)] = MINUTES_KEPT_DAYS
    """How many days back minutes are asked for again each hour, since sources have some late or correct them;
    longer bars as far back as `bars` keeps them. As its `revise_days`. Example: `8`."""
    patience_sec: Annotated[float, Field(ge=0, le=300, allow_inf_nan=False)] = 2.0
    """How long a request waits for a source's limits before the next source is asked. Example: `10`."""
    timeout_sec: Annotated[float, Field(ge=1, le=600, allow_inf_nan=False)] = 120.0
    """The time limit of one load. Its sources share it: one of three may take a third. Example: `60`."""
    miss_after: Annotated[int, Field(ge=1, le=1000)] = 3
    """The number of failures in a row after which a source is missed. Example: `5`."""


class GateSettings(ServiceConfig):
    """`settings.gate`: when the gate lets the readers start."""

    share: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.8
    """The share of all series that must be loaded. Example: `0.9`."""
    fresh_sec: Seconds = 900.0
    """The `max_age_sec` of series that have none. Example: `1800`."""
    need_keys: bool = True
    """Whether a series counts that no source can serve because the keys of all are missing; with `false` it
    neither closes the gate nor, if it is critical, degrades the service. Example: `false`."""
    timeout_sec: Annotated[float, Field(ge=1, le=86_400, allow_inf_nan=False)] = 600.0
    """How long the gate may take. Example: `120`."""
    patience_sec: Annotated[float, Field(ge=0, le=300, allow_inf_nan=False)] = 15.0
    """How long its requests wait for a source's limits. Example: `60`."""


class KeepSettings(ServiceConfig):
    """`settings.keep`: about how many entries each stream keeps; more if the first loads need it.

    While a reader is behind up to twice as many are kept.
    """

    bars: Annotated[int, Field(ge=1000, le=100_000_000)] = 200_000
    """The entries of `market:bars`. Example: `1000000`."""
    quotes: Annotated[int, Field(ge=1000, le=10_000_000)] = 100_000
    """The entries of `market:quotes`. Example: `50000`."""
    observations: Annotated[int, Field(ge=1000, le=10_000_000)] = 100_000
    """The entries of `market:observations`. Example: `50000`."""
    actions: Annotated[int, Field(ge=1000, le=10_000_000)] = 50_000
    """The entries of `market:actions`. Example: `10000`."""
    downloads: Annotated[int, Field(ge=1000, le=10_000_000)] = 50_000
    """The entries of `market:downloads`. Example: `10000`."""


class ReplaySettings(ServiceConfig):
    """`settings.replay` of sources: a recorded day that is played as if it were now, and marked as such."""

    file: Annotated[
        str, Field(min_length=1, max_length=1000), AfterValidator(require_file_below(".jsonl.gz", ".jsonl"))
    ]
    """The recording: a path below the working directory, ending in `.jsonl.gz`; in `.jsonl` if it has frames
    of massive's stream. Example: `"examples/recorded/day.jsonl.gz"`."""
    speed: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)] = 60.0
    """How much faster than it was recorded: 1 is as recorded, 60 is a minute in a second. Example: `600`."""
    names: Annotated[tuple[str, ...], Field(min_length=1, max_length=10), AfterValidator(_require_names)] = (
        "replay",
    )
    """What `from` of a series calls the recording; several names are several sources. Example:
    `["replay_a", "replay_b"]`."""
    start: Annotated[str, Field(min_length=1, max_length=40)] | None = None
    """When within the recording it begins, in ISO 8601; another one needs a new data folder. Default: its own
    beginning. Example: `"2026-11-20T14:30:00Z"`."""


class WorkSettings(ServiceConfig):
    """`settings` of sources."""

    load: LoadSettings = LoadSettings()
    """How series are loaded."""
    gate: GateSettings = GateSettings()
    """When the gate lets the readers start."""
    keep: KeepSettings = KeepSettings()
    """How long the streams are."""
    limits: Mapping[str, LimitSettings] = {}
    """By the name of a source the limits of your keys, as of a plan that you pay for. Example:
    `{"massive": {"per_minute": 100}}`."""
    failures: Mapping[str, FailureSettings] = {}
    """By the name of a source when it is left alone after failures, and whether it is asked again first.
    Example: `{"yahoo": {"failure_threshold": 5, "recovery_sec": 60, "retries": 1}}`."""
    catalog: Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_require_folder)] | None = (
        None
    )
    """A folder with source files of your own, below the working directory; one takes the place of a shipped
    file of its name. It is read at the start. Default: none. Example: `"my-sources"`."""
    replay: ReplaySettings | None = None
    """A recording that is played under names of its own. Default: none."""
    disabled: Annotated[tuple[Symbol, ...], Field(max_length=MAX_SERIES)] = ()
    """The symbols that are not loaded, whatever series name them. Example: `["LTC/USD"]`."""


def _explain_unknown(source: str, known: Collection[str]) -> str:
    """Name the nearest known source, and do not repeat what may be a key."""
    name = f"{source} is" if _PLAIN_NAME.fullmatch(source) else "is"
    nearest = find_nearest(source, known)
    hint = f"; did you mean {nearest}?" if nearest else ""
    return f"{name} no source{hint}; `marketswarm source list` has them all"


class SourcesSettings(ServiceConfig):
    """The settings of sources in the truth."""

    variables: ClassVar = list_variables(SourcesEnvironment) | list_key_variables()

    @classmethod
    def find_variables(cls, section: Service) -> frozenset[str]:
        """Return the variables with the keys of source files of one's own."""
        folder = section.settings.get("catalog")
        try:
            return (
                list_key_variables(Path(_require_folder(folder))) if isinstance(folder, str) else frozenset()
            )
        except ValueError:
            return frozenset()

    endpoints: Annotated[tuple[SeriesEntry, ...], Field(max_length=MAX_SERIES)] = ()
    """The series; each symbol, kind and timeframe once, and once more of each source that is `separate`."""
    settings: WorkSettings = WorkSettings()
    """How they are loaded."""

    @cached_property
    def first_loads(self) -> Mapping[RecordKind, int]:
        """Return about how many records of each kind the first loads of all series bring."""
        found: Counter[RecordKind] = Counter()
        for entry in self.endpoints:
            found[entry.kind] += entry.count_first_load() * len(entry.all_symbols)
        return found

    @cached_property
    def work(self) -> WorkSettings:
        """Return how the series are loaded. A stream is never shorter than the first loads of all series.

        Otherwise it would lose the history before anyone could read it, and what was published is not
        asked for again.
        """
        keep = {
            kind.value: max(getattr(self.settings.keep, kind), self.first_loads[kind]) for kind in RecordKind
        }
        return self.settings.model_copy(update={"keep": self.settings.keep.model_copy(update=keep)})

    @model_validator(mode="after")
    def _series_are_unique(self) -> Self:
        """Raise ValueError if two entries have the same series, or there are too many."""
        seen: dict[tuple[str, RecordKind, str, str], int] = {}
        for number, entry in enumerate(self.endpoints):
            timeframe = entry.timeframe if entry.kind is RecordKind.BARS else ""
            own = entry.sources[0] if entry.separate else ""
            for symbol, times in Counter(entry.all_symbols).items():
                first = seen.setdefault((symbol, entry.kind, timeframe, own), number)
                if first != number or times > 1:
                    raise ValueError(
                        f"endpoints[{number}]: {symbol} is a series of endpoints[{first}] already"
                    )
        if len(seen) > MAX_SERIES:
            raise ValueError(f"endpoints: more than {MAX_SERIES} series")
        return self

    @model_validator(mode="after")
    def _sources_are_known(self) -> Self:
        """Raise ValueError if a series, a limit or the like names a source that is not known.

        Where the folder with files of one's own is missing, any name may be that of one: a warning says so.
        """
        replay, own = self.settings.replay, self.settings.catalog
        if own is not None and not Path(own).is_dir():
            return self
        in_catalog = {
            path.stem for folder in (CATALOG, own) if folder for path in Path(folder).glob("*.toml")
        }
        for part in ("limits", "failures"):
            for name in getattr(self.settings, part).keys() - in_catalog:
                raise ValueError(f"settings.{part}: {_explain_unknown(name, in_catalog)}")
        known = in_catalog | set(replay.names if replay else ())
        for number, entry in enumerate(self.endpoints):
            for at, source in enumerate(entry.sources):
                if source not in known:
                    raise ValueError(f"endpoints[{number}].from[{at}]: {_explain_unknown(source, known)}")
        return self

    @model_validator(mode="after")
    def _prices_are_of_one_kind(self) -> Self:
        """Raise ValueError if the sources of one series adjust prices of a stock for other corporate actions.

        After the next split one source would have another price for the same day than the one before it.
        The catalogue is only read for a series of several of its sources.
        """
        in_catalog = {path.stem for path in CATALOG.glob("*.toml")}
        for number, entry in enumerate(self.endpoints):
            are_several = len(in_catalog.intersection(entry.sources)) > 1
            if entry.kind is RecordKind.BARS and entry.asset is AssetClass.STOCKS and are_several:
                found = dict(_list_adjustments(entry))
                first = next(iter(found), "")
                for name, each in found.items():
                    if each != found[first]:
                        at = f"endpoints[{number}].from[{entry.sources.index(name)}]"
                        what, others = _describe_prices(each), _describe_prices(found[first])
                        raise ValueError(f"{at}: {name} has {what}, and {first} {others}: {_ONE_SCALE}")
        return self

    def find_warnings(self) -> Iterator[tuple[Place, str]]:
        """Yield warnings: a very long stream, a source that does not serve a symbol, an unknown session.

        So is a disabled symbol that no series has.
        """
        loaded = {symbol for entry in self.endpoints for symbol in entry.all_symbols}
        if unknown := [symbol for symbol in self.settings.disabled if symbol not in loaded]:
            yield ("settings", "disabled"), f"no series has {format_names(unknown)}"
        yield from self._find_long_streams()
        yield from self._find_unserved()
        yield from self._find_mixed_prices()
        yield from self._find_mixed_volumes()
        yield from self._find_unknown_sessions()

    def find_truth_warnings(self, truth: Truth) -> Iterator[tuple[Place, str]]:
        """Yield a warning for symbols that only the section of `bars` names, and for old minutes.

        So is a stock with minutes and without days.
        """
        own, bars = truth.services.get("sources"), truth.services.get("bars")
        if own is None or bars is None:
            return
        stream = point_like(own.access_points.publish_to, MARKET, MARKET_BARS)
        if point_like(bars.access_points.subscribe_to, MARKET, MARKET_BARS) != stream:
            return
        brought = set(self.settings.disabled)  # on purpose
        kept_days = bars.settings.get("revise_days", MINUTES_KEPT_DAYS)
        for number, entry in enumerate(self.endpoints):
            is_minutes = entry.kind is RecordKind.BARS and entry.timeframe == "1m"
            if is_minutes and isinstance(kept_days, int | float) and entry.days >= kept_days:
                why = f"bars takes minutes of {kept_days:g} days: set its `revise_days` above {entry.days:g}"
                yield ("endpoints", number, "history_days"), why
            if entry.kind in (RecordKind.BARS, RecordKind.QUOTES) and not entry.separate:
                brought.update(entry.all_symbols)
        others = {svc: each for svc, each in truth.services.items() if svc != "sources"}
        writers = {svc: each for svc, each in others.items() if stream in each.access_points.publish_to}
        for svc, section in writers.items():
            market = section.settings.get("market")
            keep = market.get("keep") if isinstance(market, dict) else None
            if isinstance(keep, int) and keep > self.work.keep.bars:
                why = f"{svc} writes to {stream.key}, too, and wants {keep:,} entries kept: set {keep}"
                yield ("settings", "keep", "bars"), why
        named = dict.fromkeys(
            symbol
            for group in bars.endpoints
            if isinstance(group, dict)
            for symbol in list_entry_symbols(group)
        )
        if missing := [symbol for symbol in named if symbol not in brought and not writers]:
            yield ("endpoints",), f"bars names {format_names(missing)}, and no series here brings their bars"
        yield from self._find_unofficial_closes(bars)

    def _find_unofficial_closes(self, bars: Service) -> Iterator[tuple[Place, str]]:
        """Yield a warning for stocks whose days are built of minutes alone, one for each cascade."""
        entries = [
            (number, entry)
            for number, entry in enumerate(self.endpoints)
            if entry.kind is RecordKind.BARS and entry.asset is AssetClass.STOCKS and not entry.separate
        ]
        others = {*self.settings.disabled, *list_left_out(bars)}
        others.update(symbol for _, each in entries if each.timeframe == "1d" for symbol in each.all_symbols)
        found: dict[tuple[str, ...], tuple[int, dict[str, None]]] = {}
        for number, entry in entries:
            without = [each for each in entry.all_symbols if each not in others]
            if entry.timeframe == "1m" and without:
                _, symbols = found.setdefault(entry.sources, (number, {}))
                symbols |= dict.fromkeys(without)
        for number, symbols in found.values():
            yield ("endpoints", number), f"{format_names(symbols)}: {UNOFFICIAL_CLOSE}"

    def _find_unknown_sessions(self) -> Iterator[tuple[Place, str]]:
        for number, entry in enumerate(self.endpoints):
            if entry.session is not None and entry.session not in (ROUND_THE_CLOCK, FOREX, US_FUTURES):
                try:
                    get_session(entry.session)
                except UnknownSessionError as error:
                    yield ("endpoints", number, "session"), f"{error}; it counts as always open"
                except ImportError:
                    return  # without the market's libraries this is unknown

    def _find_long_streams(self) -> Iterator[tuple[Place, str]]:
        for kind, entries in self.first_loads.items():
            if entries > max(MANY_ENTRIES, getattr(self.settings.keep, kind)):
                size = f"about {entries:,} entries, {entries * ENTRY_BYTES / 1e6:,.0f} MB of the bus"
                why = (
                    f"the stream is so long for the first loads: {size}; a shorter `history_days` needs less"
                )
                yield ("settings", "keep", kind.value), why

    def _find_mixed_prices(self) -> Iterator[tuple[Place, str]]:
        """Yield a warning for a stock whose minutes are of another kind of prices than its days."""
        first: dict[str, tuple[int, frozenset[Adjustment]]] = {}
        for number, entry in enumerate(self.endpoints):
            if entry.kind is not RecordKind.BARS or entry.asset is not AssetClass.STOCKS or entry.separate:
                continue
            found = next((each for _, each in _list_adjustments(entry)), None)
            for symbol in entry.all_symbols if found else ():
                other, known = first.setdefault(symbol, (number, found or frozenset()))
                if found is not None and known != found:
                    what, others = _describe_prices(found), _describe_prices(known)
                    why = (
                        f"{what} of {symbol}, and {others} in endpoints[{other}]: after a split bars has both"
                    )
                    yield ("endpoints", number, "from"), why
                    break

    def _find_mixed_volumes(self) -> Iterator[tuple[Place, str]]:
        """Yield a warning for a cascade of bars in which one source counts the trades of another market."""
        from services.sources.catalog.files import shipped_catalog  # noqa: PLC0415 - for checks of a truth alone

        catalog = shipped_catalog()
        for number, entry in enumerate(self.endpoints):
            kinds: dict[str, str] = {}
            for name in entry.sources if entry.kind is RecordKind.BARS else ():
                asked, source = (entry.asset, entry.all_symbols[0], entry.timeframe), catalog.get(name)
                if source is not None and (kind := source.find_volume_kind(*asked)) is not None:
                    kinds[name] = str(kind)
            if len(set(kinds.values())) > 1:
                why = f"volumes of two kinds, which make no sum: {_format_volumes(kinds)}"
                yield ("endpoints", number, "from"), why

    def _find_unserved(self) -> Iterator[tuple[Place, str]]:
        from services.sources.catalog.files import load_catalog  # noqa: PLC0415 - for checks of a truth alone

        catalog, problems = load_catalog(self.settings.catalog)
        for problem in problems:
            yield ("settings", "catalog"), problem
        for number, entry in enumerate(self.endpoints):
            symbol = entry.all_symbols[0]
            timeframe = entry.timeframe if entry.kind is RecordKind.BARS else ""
            for at, name in enumerate(entry.sources):
                source = catalog.get(name)
                is_stream = is_stream_of_massive(name, entry.kind, timeframe, entry.asset)
                if source is None or (is_stream and not entry.separate):
                    continue
                if next(source.find_endpoints(entry.kind, entry.asset, symbol, timeframe), None) is None:
                    what = f"{entry.kind} of {entry.asset}{timeframe and f' in {timeframe}'}"
                    yield ("endpoints", number, "from", at), f"{name} does not serve {symbol}: {what}"


def _list_adjustments(entry: SeriesEntry) -> Iterator[tuple[str, frozenset[Adjustment]]]:
    """Yield how each source of a series adjusts its bars; a recording and what it does not have are left out.

    Without the libraries of the market it is unknown, and nothing is yielded.
    """
    try:
        from services.sources.catalog.files import shipped_catalog  # noqa: PLC0415 - as in _find_unserved
    except ImportError:
        return
    symbol = entry.all_symbols[0]
    for name in entry.sources:
        if is_stream_of_massive(name, entry.kind, entry.timeframe, entry.asset):
            yield name, frozenset({Adjustment.RAW})
        elif (source := shipped_catalog().get(name)) is not None:
            found = source.find_adjustments(entry.asset, symbol, entry.timeframe)
            if found:
                yield name, frozenset(found)


def _describe_prices(adjustments: Iterable[Adjustment]) -> str:
    return " or ".join(_PRICES[each] for each in Adjustment if each in adjustments)


def _format_volumes(named: Mapping[str, str]) -> str:
    return ", ".join(f"{source} {kind}" for source, kind in named.items())


def is_stream_of_massive(source: str, kind: RecordKind, timeframe: str, asset: AssetClass) -> bool:
    """Return True if a source stands for massive's own stream, which has minutes of stocks."""
    return (source, kind, timeframe, asset) == (MASSIVE, RecordKind.BARS, "1m", AssetClass.STOCKS)
