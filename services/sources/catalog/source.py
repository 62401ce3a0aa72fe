"""Define a source of the catalogue: what a file in `catalog/` may say. Pure.

A source is a TOML file that says how to ask it and how to read its answers, so that adding one needs no
code. docs/services/sources.md explains every key with examples.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from string import Formatter
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo

import jmespath
from jmespath.exceptions import JMESPathError
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from services.market.fields import PAIR
from services.market.records import TIMEFRAME_SEC, Adjustment, AssetClass, RecordKind, VolumeKind
from services.sources.limits import LimitSettings

NAME: Final = re.compile(r"[a-z][a-z0-9_]{1,39}")
VARIABLE: Final = re.compile(r"[A-Z][A-Z0-9_]{2,63}")
EPOCH_UNITS: Final = {"epoch_s": 1, "epoch_ms": 1_000, "epoch_us": 1_000_000, "epoch_ns": 1_000_000_000}
"""Formats of times that are numbers: how many of them are a second."""
OPTION: Final = re.compile(r"([A-Z]{1,6})\d{6}[CP]\d{8}")
"""How an option is spelled: its underlying, the day it ends, call or put, the strike in thousandths."""

REQUIRED_FIELDS: Final[Mapping[RecordKind, frozenset[str]]] = {
    RecordKind.BARS: frozenset({"start", "open", "high", "low", "close"}),
    RecordKind.QUOTES: frozenset({"price"}),
    RecordKind.OBSERVATIONS: frozenset({"start", "value"}),
    RecordKind.ACTIONS: frozenset({"ex_day"}),
}
OPTIONAL_FIELDS: Final[Mapping[RecordKind, frozenset[str]]] = {
    RecordKind.BARS: frozenset({"volume", "vwap", "trades"}),
    RecordKind.QUOTES: frozenset(
        {"at", "bid", "ask", "volume", "symbol", "open_interest", "implied_volatility"}
    ),
    RecordKind.OBSERVATIONS: frozenset({"known_at"}),
    RecordKind.ACTIONS: frozenset({"ratio", "amount", "new_symbol", "action"}),
}
TIME_FIELDS: Final = frozenset({"start", "at", "known_at", "ex_day"})
TEXT_FIELDS: Final = frozenset({"symbol", "new_symbol", "action"})
PLACEHOLDERS: Final = frozenset(
    {"symbol", "base", "quote", "underlying", "timeframe", "limit", "key"}
    | {"start", "before_start", "end", "after_end"}
)
_USUAL_BYTES: Final[Mapping[RecordKind, int]] = {
    RecordKind.BARS: 20_000_000,
    RecordKind.OBSERVATIONS: 10_000_000,
    RecordKind.ACTIONS: 10_000_000,
    RecordKind.QUOTES: 1_000_000,
}
PATH_MARKS: Final = ("{symbol}", "{base}", "{quote}")
"""What stands for a symbol's spelling, and the parts of a pair, in a path."""


class FilePart(BaseModel):
    """A part of a source's file or of a recording: unknown keys are errors, and the values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@cache
def compile_path(path: str) -> Any:
    """Return a JMESPath expression, compiled once. Raise ValueError if it is not valid."""
    try:
        return jmespath.compile(path)
    except JMESPathError as error:
        raise ValueError(f"{path!r} is not a JMESPath expression: {error}") from error


def _require_path(path: str) -> str:
    path_of_one = path
    for mark in PATH_MARKS:
        path_of_one = path_of_one.replace(mark, "name")
    compile_path(path_of_one)
    return path


def _require_template(text: str) -> str:
    for _, name, _, conversion in Formatter().parse(text):
        if name is not None and (name not in PLACEHOLDERS or conversion is not None):
            raise ValueError(f"{{{name}}} is not one of {', '.join(sorted(PLACEHOLDERS))}")
    return text


def _require_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    return pattern


def _require_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError) as error:
        raise ValueError(f"{name!r} is not a time zone") from error
    return name


Path = Annotated[str, AfterValidator(_require_path)]
Template = Annotated[str, AfterValidator(_require_template)]
Zone = Annotated[str, AfterValidator(_require_zone)]


class AuthPlace(StrEnum):
    """Name where a source wants its key."""

    NONE = "none"
    QUERY = "query"
    HEADER = "header"
    BEARER = "bearer"
    BASIC = "basic"  # the key is the user's name, the secret the password
    PATH = "path"  # the path has {key}


class Auth(FilePart):
    """How a source knows us. `optional` sources answer without a key, too, within narrower limits."""

    place: AuthPlace = AuthPlace.NONE
    name: str = ""
    """The name of the parameter or header; a header's value is `prefix` and the key."""
    prefix: str = ""
    env: str = ""
    """The variable with the key, or with several, separated by commas, which take turns."""
    secret_env: str = ""
    """The variable with the secret that belongs to the key, in the same order."""
    secret_name: str = ""
    """The name of the header with the secret."""
    optional: bool = False

    @property
    def is_key_needed(self) -> bool:
        """Whether the source is never asked without a key."""
        return bool(self.env) and not self.optional

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        """Raise ValueError if a part is missing that the place needs."""
        if self.place is AuthPlace.NONE:
            if self.env or self.name:
                raise ValueError("place: a key needs one: query, header, bearer, basic or path")
            return self
        if not VARIABLE.fullmatch(self.env) or (self.secret_env and not VARIABLE.fullmatch(self.secret_env)):
            raise ValueError("env: the name of a variable, such as ALPHA_VANTAGE_API_KEY")
        if self.place in (AuthPlace.QUERY, AuthPlace.HEADER) and not self.name:
            raise ValueError(f"name: what the {self.place} is called")
        return self


class SymbolRule(FilePart):
    """How a source spells the symbols of one asset class."""

    template: Template = "{symbol}"
    """The spelling, of {symbol}, or of {base} and {quote} of a pair."""
    case: Literal["upper", "lower", "as_is"] = "as_is"
    names: Mapping[str, str] = {}
    """Symbols that are spelled otherwise: ours, then the source's."""
    currencies: Mapping[str, str] = {}
    """Parts of pairs that are spelled otherwise: ours, then the source's."""
    only: bool = False
    """Whether the source has no symbols but those in `names`."""
    replace: Mapping[str, str] = {}
    """Parts of a symbol that are written otherwise, such as "." as "-" in BRK.B."""
    pattern: Annotated[str, AfterValidator(_require_pattern)] = ""
    """What our symbols must look like; others the source does not have."""
    prefix: str = ""
    """How our symbols begin behind which the source's own spelling stands, as in FRED.UNRATE."""
    ids: Annotated[str, AfterValidator(_require_pattern)] = ""
    """What a spelling behind `prefix` must look like."""

    @model_validator(mode="after")
    def _prefix_has_ids(self) -> Self:
        """Raise ValueError for a prefix whose spellings have no form, or a form without a prefix."""
        if bool(self.prefix) != bool(self.ids):
            raise ValueError("prefix: goes with `ids`, the form of what may stand behind it")
        return self

    def spell(self, symbol: str) -> str | None:
        """Return the source's spelling of our symbol; None if the source does not have it."""
        if symbol in self.names:
            return self.names[symbol]
        if self.prefix and symbol.startswith(self.prefix):
            own = symbol.removeprefix(self.prefix)
            return own if re.fullmatch(self.ids, own) else None
        if self.only or (self.pattern and re.fullmatch(self.pattern, symbol) is None):
            return None
        base, quote = self.split(symbol)
        if base is None and ("{base}" in self.template or "{quote}" in self.template):
            return None
        written = symbol
        for ours, theirs in self.replace.items():
            written = written.replace(ours, theirs)
        text = self.template.format(symbol=written, base=base, quote=quote)
        return {"upper": text.upper(), "lower": text.lower()}.get(self.case, text)

    def split(self, symbol: str) -> tuple[str | None, str | None]:
        """Return both parts of a pair in the source's spelling; None twice for anything else."""
        pair = PAIR.fullmatch(symbol)
        if pair is None:
            return None, None
        base, quote = (self.currencies.get(part, part) for part in pair.groups())
        return base, quote


class FieldRule(FilePart):
    """Where a field of a record is in a row, and how it is written."""

    path: Path
    format: str = ""
    """Of a time: epoch_s, epoch_ms, epoch_us, epoch_ns, iso, period, or a pattern of strptime."""
    zone: Zone = "UTC"
    """The time zone of times that name none."""
    scale: Annotated[float, Field(gt=0)] = 1.0
    """What a number is multiplied by, such as 0.01 for cents."""
    divide_by: Path | None = None
    """Where the row has what the number is divided by, such as for how many units a rate is."""
    fraction: str = ""
    """What stands between two numbers of which the first is divided by the second, as in 4/1."""
    inverse: bool = False
    """Whether the number is 1 divided by the above, as for a rate the other way round."""


class Paging(FilePart):
    """How a source gives more than one page."""

    next: Path
    """Where the document has the token or the address of the next page."""
    param: str = ""
    """The parameter that takes the token; empty where `next` is an address."""
    max_pages: Annotated[int, Field(ge=2, le=100)] = 20


class Signs(FilePart):
    """How a document says that it is not an answer: paths that then have a value, tried in this order.

    Before them those of the source are tried that say `limited`.
    """

    unknown: tuple[Path, ...] = ()
    """That the source does not know the symbol. Also looked for in documents with another status."""
    denied: tuple[Path, ...] = ()
    """That the key is wrong, where the status does not say so. Also looked for with another status."""
    failed: tuple[Path, ...] = ()
    empty: tuple[Path, ...] = ()
    """That there is nothing. Also looked for with a status that is about the question, such as 400."""


class Endpoint(FilePart):
    """One question that a source answers."""

    kind: RecordKind
    assets: Annotated[tuple[AssetClass, ...], Field(min_length=1)]
    timeframes: Mapping[str, str] = {}
    """Of bars: our timeframe, then what the source calls it."""
    without: Mapping[AssetClass, tuple[str, ...]] = {}
    """The timeframes that are not asked for of a class: its bars begin where none of ours do."""
    adjustment: Adjustment | None = None
    """Of bars of stocks: how prices and volumes are adjusted. What else is traded has no corporate actions.

    Of dividends: `splits` if an amount is divided by the ratio of each later split, `raw` if it is as it was
    paid."""
    method: Literal["GET", "POST"] = "GET"
    path: Template
    params: Mapping[str, Template] = {}
    json_body: Mapping[str, Any] | None = None
    """Of a POST: the body; its texts are templates, too."""
    headers: Mapping[str, str] = {}
    keep_slashes: bool = False
    """Whether a / in what fills the path stays one."""
    format: Literal["json", "csv", "xml"] = "json"
    delimiter: str = ","
    skip_lines: Annotated[int, Field(ge=0, le=100)] = 0
    """Lines before the header of a CSV."""
    columns: tuple[str, ...] = ()
    """The names of a CSV's columns, where it has no header."""
    records: Path = "@"
    """Where the rows are in the document."""
    layout: Literal["rows", "columns", "by_key"] = "rows"
    """`rows`: a list of rows. `columns`: an object, each field a list. `by_key`: an object of rows by time,
    in which `key` is the row's key and `value` the row."""
    fields: Mapping[str, FieldRule]
    volume: VolumeKind | None = None
    """Of bars: whose trades their volume counts. Default: `venue` of coins, else `consolidated`; of forex
    and indices always `none`."""
    without_volume: tuple[AssetClass, ...] = ()
    """Of bars and quotes: the classes whose volume is left out, as it counts money and not units."""
    at_close: bool = False
    """Of quotes: whether `at` is the close of the day of the price, as the source names that day alone. Until
    then the price is of the time at which it was asked for."""
    days: Literal["session", "utc"] = "session"
    """Whether its days of currencies are those of the session, from 17:00 to 17:00 in New York, or of UTC."""
    delay_sec: Annotated[float, Field(ge=0, le=86_400)] | None = None
    """How long after the close its bars of days are there; default: 20 minutes, of exchanges alone."""
    stamp: Literal["open", "close"] = "open"
    """Which end of a bar its time is."""
    missing: tuple[str, ...] = ("", ".", "-", "N/A", "NaN", "null", "ND")
    """Texts that stand for no value."""
    optional: bool = False
    """Of actions: whether the other questions for them count where this one has no answer."""
    thousands: str = ""
    """What separates thousands in numbers."""
    signs: Signs = Signs()
    empty_status: tuple[int, ...] = ()
    """Statuses, such as 404, that say that there is nothing."""
    paging: Paging | None = None
    limit: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """The most records that one answer has: a longer question is asked in parts."""
    max_days: Annotated[float, Field(gt=0)] | None = None
    """The longest time that one request may ask for: a longer question is asked in parts."""
    by_year: bool = False
    """Whether one request asks for one calendar year: a question is cut at the ends of years."""
    history_days: Annotated[float, Field(gt=0)] | None = None
    """How far back its answers go: older records are not asked for."""
    history_bars: Annotated[int, Field(ge=1)] | None = None
    """The same, as a number of bars."""
    max_bytes: Annotated[int, Field(ge=1_000, le=20_000_000)] | None = None
    """The longest answer; by default 20 MB for bars, 10 MB for observations, 1 MB for quotes."""
    revised_days: Annotated[float, Field(ge=0)] | None = None
    """The age up to which its observations may be corrected, and are asked for again; default: 400 days."""
    min_interval_sec: Annotated[float, Field(ge=0)] = 0.0
    """For how long an answer counts at least: the limits would not last for more frequent questions."""
    symbols: Mapping[AssetClass, SymbolRule] = {}
    """The spelling of symbols, where it is not that of the whole source."""

    @property
    def size_limit(self) -> int:
        return self.max_bytes or _USUAL_BYTES[self.kind]

    @property
    def is_untimed(self) -> bool:
        """Whether its quotes may have no time but that at which they were asked for."""
        return self.kind is RecordKind.QUOTES and (self.at_close or "at" not in self.fields)

    def find_adjustment(self, asset: AssetClass) -> Adjustment:
        """Return for what its bars of a class are adjusted: only a stock has splits and dividends."""
        return (asset is AssetClass.STOCKS and self.adjustment) or Adjustment.RAW

    def find_volume(self, asset: AssetClass) -> VolumeKind:
        """Return whose trades the volume of its bars of a class counts."""
        is_left_out = asset in (AssetClass.FOREX, AssetClass.VOLATILITY, *self.without_volume)
        if "volume" not in self.fields or is_left_out:
            return VolumeKind.NONE
        usual = VolumeKind.VENUE if asset is AssetClass.CRYPTO else VolumeKind.CONSOLIDATED
        return self.volume or usual

    @model_validator(mode="after")
    def _fields_are_those_of_the_kind(self) -> Self:
        """Raise ValueError if a field is missing, unknown, or a time without a format.

        The same if observations have a zone: one date would be another time from each source.
        """
        needed, possible = REQUIRED_FIELDS[self.kind], OPTIONAL_FIELDS[self.kind]
        if absent := needed - self.fields.keys():
            raise ValueError(f"fields: {self.kind} need {', '.join(sorted(absent))}")
        if unknown := self.fields.keys() - needed - possible:
            raise ValueError(f"fields: {self.kind} have no {', '.join(sorted(unknown))}")
        for name in TIME_FIELDS & self.fields.keys():
            if not self.fields[name].format:
                raise ValueError(f"fields.{name}: a time needs a format")
        if self.kind is RecordKind.OBSERVATIONS and self.fields["start"].zone != "UTC":
            raise ValueError("fields.start: the date of an observation is a midnight of UTC, without a zone")
        return self

    @model_validator(mode="after")
    def _what_is_asked_for_is_there(self) -> Self:
        """Raise ValueError if a request needs a limit or a timeframe that is not there, or not known."""
        if self.limit is None and any("{limit" in text for text in (self.path, *self.params.values())):
            raise ValueError("limit: {limit} needs one")
        if (self.kind is RecordKind.BARS) != bool(self.timeframes):
            raise ValueError("timeframes: bars need them, and nothing else has any")
        if unknown := {name for names in self.without.values() for name in names} - self.timeframes.keys():
            raise ValueError(f"without: {', '.join(sorted(unknown))}: not of its timeframes")
        if self.without_volume and "volume" not in self.fields:
            raise ValueError("without_volume: it has none to leave out")
        if self.at_close and (self.kind is not RecordKind.QUOTES or "at" not in self.fields):
            raise ValueError("at_close: quotes with an at have it alone")
        if unknown := self.timeframes.keys() - TIMEFRAME_SEC.keys():
            raise ValueError(f"timeframes: {', '.join(sorted(unknown))}: not of {', '.join(TIMEFRAME_SEC)}")
        return self

    @model_validator(mode="after")
    def _says_how_it_is_adjusted(self) -> Self:
        """Raise ValueError if bars of stocks or dividends don't say how they are adjusted, or others do."""
        is_of_stocks = self.kind is RecordKind.BARS and AssetClass.STOCKS in self.assets
        is_needed = is_of_stocks or "amount" in self.fields
        if is_needed and self.adjustment is None:
            raise ValueError(f"adjustment: bars of stocks and dividends need it: {', '.join(Adjustment)}")
        if self.adjustment is not None and not is_needed:
            raise ValueError("adjustment: of bars of stocks and of dividends alone")
        return self

    @model_validator(mode="after")
    def _actions_are_complete(self) -> Self:
        """Raise ValueError if actions are not those of stocks, have no value, or amounts can't be restored.

        To restore an amount all later splits are needed, in the same document.
        """
        if self.kind is not RecordKind.ACTIONS:
            return self
        if self.assets != (AssetClass.STOCKS,) or self.fields.keys() <= {"ex_day", "action"}:
            raise ValueError("fields: actions are of stocks, and have a ratio, an amount or a new_symbol")
        if self.adjustment is Adjustment.ALL:
            raise ValueError("adjustment: dividends are raw, or adjusted for splits")
        is_in_parts = self.paging is not None or self.max_days is not None or self.by_year
        if self.adjustment is Adjustment.SPLITS and (is_in_parts or "ratio" not in self.fields):
            raise ValueError("adjustment: adjusted dividends come in one document with all splits")
        return self


class Stream(FilePart):
    """How a source sends bars of a minute by itself, over a WebSocket, each when its time has ended."""

    protocol: Literal["binance_klines"]
    """What is said there; `websocket.py` speaks it."""
    url: Annotated[str, Field(pattern=r"^wss://[^/].*[^/]$")]
    assets: Annotated[tuple[AssetClass, ...], Field(min_length=1)]
    symbols: Mapping[AssetClass, SymbolRule] = {}
    """How it spells symbols, where that is not the source's spelling."""


class MarketSource(FilePart):
    """One file of the catalogue."""

    name: Annotated[str, Field(pattern=NAME.pattern)]
    title: Annotated[str, Field(min_length=2, max_length=60)]
    docs: Annotated[tuple[str, ...], Field(min_length=1)]
    """The pages that describe the questions and the shape of the answers."""
    tried: Literal["never"] | str = "never"  # noqa: PYI051 - the word is part of what people read here
    """When the real source was last asked with this file: a date, or `never`."""
    terms: str = ""
    """What one should know before using it: a free plan or none, delays, a licence."""
    limited: tuple[Path, ...] = ()
    """Paths that have a value in a document, of any status, which says that it takes no more requests now.

    A document that is not of the endpoint's format is a text, which is `@`.
    """
    limited_by_status: str = ""
    """Of a source without such documents: what is known of how it says that."""
    base_url: str
    headers: Mapping[str, str] = {}
    """What every request has, such as a User-Agent; a question may say otherwise."""
    auth: Auth = Auth()
    limits: LimitSettings = LimitSettings()
    """How many requests it takes, over all processes with the same key."""
    limits_without_key: LimitSettings | None = None
    """The limits of a source with an optional key, when there is none."""
    symbols: Mapping[AssetClass, SymbolRule] = {}
    serves: Annotated[Mapping[str, Endpoint], Field(min_length=1)]
    """The questions that it answers, by a name such as `minute_bars`."""
    stream: Stream | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        """Raise ValueError for an address without https, an invalid date, or a template without its key."""
        if not self.base_url.startswith("https://") or self.base_url.endswith("/"):
            raise ValueError("base_url: https://, without a / at its end")
        if self.tried != "never":
            datetime.strptime(self.tried, "%Y-%m-%d").replace(tzinfo=UTC)
        for name, endpoint in self.serves.items():
            texts = [endpoint.path, *endpoint.params.values()]
            if any("{key}" in text for text in texts) and self.auth.place is not AuthPlace.PATH:
                raise ValueError(f"serves.{name}: {{key}} is for a key whose place is the path")
        return self

    def find_endpoints(
        self, kind: RecordKind, asset: AssetClass, symbol: str, timeframe: str = ""
    ) -> Iterator[Endpoint]:
        """Yield the endpoints that answer a question of this kind, in the order in which to try them."""
        for endpoint in self.serves.values():
            fits = endpoint.kind is kind and asset in endpoint.assets
            if kind is RecordKind.BARS:
                left_out = endpoint.without.get(asset, ())
                fits = fits and timeframe in endpoint.timeframes and timeframe not in left_out
            if fits and self.symbol_rule(endpoint, asset).spell(symbol) is not None:
                yield endpoint

    def find_adjustments(self, asset: AssetClass, symbol: str, timeframe: str) -> set[Adjustment]:
        """Return how the bars that answer a question are adjusted; empty if the source does not have them."""
        endpoints = self.find_endpoints(RecordKind.BARS, asset, symbol, timeframe)
        return {each.find_adjustment(asset) for each in endpoints}

    def find_volume_kind(self, asset: AssetClass, symbol: str, timeframe: str) -> VolumeKind | None:
        """Return whose trades the volume of its bars of a symbol counts; None if it does not serve them."""
        endpoint = next(self.find_endpoints(RecordKind.BARS, asset, symbol, timeframe), None)
        return None if endpoint is None else endpoint.find_volume(asset)

    def find_limits(self, *, has_key: bool) -> LimitSettings:
        return self.limits if has_key or self.limits_without_key is None else self.limits_without_key

    def replace_limits(self, limits: Mapping[str, LimitSettings]) -> Self:
        """Return the source with the limits that the settings say, by the names of sources, if they do."""
        own = limits.get(self.name)
        return self if own is None else self.model_copy(update={"limits": own})

    def symbol_rule(self, part: Endpoint | Stream, asset: AssetClass) -> SymbolRule:
        return part.symbols.get(asset) or self.symbols.get(asset) or SymbolRule()

    def spell_streamed(self, asset: AssetClass, symbol: str) -> str | None:
        if self.stream is None or asset not in self.stream.assets:
            return None
        return self.symbol_rule(self.stream, asset).spell(symbol)
