"""Make rows of entries: what each stream's entries become in the database and on the board. Pure.

A row has the columns of its table in the order in which the API names them, times as epoch milliseconds.
Each `make_…` raises EntryError for an invalid entry: the checks of the tables are made here, too, so that
PostgreSQL has nothing to refuse.
"""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, NamedTuple

import orjson

from marketswarm.event import MAX_EVENT_BYTES
from marketswarm.packed_log import MAX_PACKED, unpack_log
from services.market.actions import find_day
from services.market.entries import parse_action, parse_bar, parse_entry, parse_observation, parse_quote
from services.market.fields import (
    MAX_COUNT,
    MAX_DAY_SHIFT,
    MAX_MS,
    MIN_MS,
    EntryError,
    Fields,
    cut_text,
    read_count,
    read_day,
    read_flag,
    read_seconds,
    read_symbol,
    read_text,
    read_time,
    require_day,
)
from services.market.intervals import end_period, name_period
from services.market.records import (
    PERIODS,
    TIMEFRAME_SEC,
    Adjustment,
    AssetClass,
    Bar,
    Provenance,
    Record,
    RecordKind,
)
from services.market.separate import read_separate

MAX_VALUES: Final = 300
"""The most indicators or features of one entry."""
MAX_VALUES_BYTES: Final = 64 * 1024
MAX_DIAGNOSIS_BYTES: Final = 64 * 1024
"""The most bytes of a diagnosis with its patch, beside an entry of `medic:incidents`."""
_MAX_REV: Final = 2**31 - 1
_NUL: Final = re.compile(rb"(?<!\\)((?:\\\\)*+)\\u0000")
r"""A character of code 0 in JSON, and the backslashes before it: `\\u0000` is a backslash and "u0000"."""
_VALUE_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_ENTRY_ID: Final = re.compile(rb"(\d{1,20})-(\d{1,20})")
_SEQUENCE_BITS: Final = 20  # of an id's second number, which counts the entries of one millisecond
_DOWNLOAD_TEXTS: Final = {
    "source": 128,
    "series": 200,
    "symbol": 40,
    "kind": 20,
    "timeframe": 10,
    "url": 2000,
    "outcome": 64,
    "reason": 500,
    "digest": 128,
}
"""The texts of a download, and the most characters of each."""
_ALERT_TEXTS: Final = {"type": (1, 64), "svc": (1, 200), "id": (1, 300)}
"""The texts of an event, and the least and most characters of each."""
_TIMELINE_TEXTS: Final = {
    "incident": (1, 200),
    "svc": (1, 200),
    "what": (1, 50),
    "severity": (0, 20),
    "remedy": (0, 50),
    "reason": (0, 50),
    "text": (0, 300),
}
"""The texts of an entry of `medic:incidents`, in the order of a row, and the least and most characters."""
_EVIDENCE_TEXTS: Final = {
    "incident": (1, 200),
    "svc": (1, 200),
    "step": (0, 100),
    "packed_log": (0, MAX_PACKED),
}
"""The same of an entry of `medic:evidence`."""
_INCIDENT: Final = re.compile(r"[A-Za-z0-9_.:-]{1,200}")
_MAX_OUTAGE_SEC: Final = 1e9
_DOWNLOAD_COUNTS: Final = {"took_ms": _MAX_REV, "status": 999, "bytes": MAX_COUNT, "records": _MAX_REV}
"""The whole numbers of a download, and the greatest of each."""


class ColumnType(StrEnum):
    """Name the types of columns, whether of the database or of an answer."""

    TEXT = "text"
    NUMBER = "number"
    COUNT = "count"
    FLAG = "flag"
    DATE = "date"
    """A text: `2026-01-05`."""
    TIME = "time"
    """Epoch milliseconds."""
    JSON = "json"
    """A text of JSON; of values by name also the mapping of names to numbers or None."""


_POLARS_TYPES: Final = {
    ColumnType.NUMBER: "Float64",
    ColumnType.COUNT: "Int64",
    ColumnType.FLAG: "Boolean",
    ColumnType.DATE: "Date",
}


def find_polars_type(polars: Any, kind: ColumnType, time_unit: Literal["ms", "us"]) -> Any:
    """Return the type that a column has in a table of `polars`, the library; texts and JSON are strings."""
    if kind is ColumnType.TIME:
        return polars.Datetime(time_unit, "UTC")
    return getattr(polars, _POLARS_TYPES.get(kind, "String"))


Time = Annotated[int, ColumnType.TIME]
Day = Annotated[str, ColumnType.DATE]
Json = Annotated[str, ColumnType.JSON]
Cells = tuple[Any, ...]
"""Some cells of a row, in its order: those that an answer has, or that a statement reads."""


class BarRow(NamedTuple):
    """A row of `bars` or of `source_bars`."""

    symbol: str
    timeframe: str
    start: Time
    open: float
    high: float
    low: float
    close: float
    volume: float | None
    vwap: float | None
    trades: int | None
    final: bool
    rev: int
    epoch: int
    source: str
    asked_at: Time | None
    digest: str | None
    replay: bool
    day: Day | None = None
    minutes: int | None = None
    missing: int | None = None
    known_at: Time | None = None
    adjustment: str = Adjustment.RAW
    adjusted_to: Day | None = None
    volume_kind: str | None = None
    stream_position: int = 0

    @property
    def cells(self) -> Cells:
        return self[2:-1]


class QuoteRow(NamedTuple):
    """A row of `quotes`."""

    symbol: str
    at: Time
    price: float
    bid: float | None
    ask: float | None
    volume: float | None
    open_interest: float | None
    implied_volatility: float | None
    source: str
    asked_at: Time | None
    digest: str | None
    replay: bool
    stream_position: int = 0

    @property
    def cells(self) -> Cells:
        return self[:-1]


class ObservationRow(NamedTuple):
    """A row of `observations` and of `observation_vintages`."""

    symbol: str
    start: Time
    value: float
    known_at: Time
    source: str
    asked_at: Time | None
    digest: str | None
    replay: bool
    stream_position: int = 0


class ActionRow(NamedTuple):
    """A row of `actions`. One that is `withdrawn` has no value, and does not count."""

    symbol: str
    ex_day: Day
    kind: str
    ratio: float | None
    amount: float | None
    new_symbol: str | None
    withdrawn: bool
    source: str
    asked_at: Time | None
    digest: str | None
    replay: bool
    stream_position: int = 0


class IndicatorRow(NamedTuple):
    """A row of `indicators`."""

    symbol: str
    timeframe: str
    start: Time
    rev: int
    epoch: int
    final: bool
    replay: bool
    known_at: Time | None
    values: Json
    stream_position: int = 0

    @property
    def cells(self) -> Cells:
        return self[2:-1]


class FeatureRow(NamedTuple):
    """A row of `features`."""

    symbol: str
    start: Time
    rev: int
    epoch: int
    replay: bool
    day: Day | None
    known_at: Time | None
    values: Json
    stream_position: int = 0


class DownloadRow(NamedTuple):
    """A row of `downloads`; its key is the id of the stream's entry."""

    id: str
    source: str
    series: str | None
    symbol: str | None
    kind: str | None
    timeframe: str | None
    asked_at: Time
    took_ms: int | None
    url: str | None
    status: int | None
    outcome: str
    reason: str | None
    digest: str | None
    bytes: int | None
    records: int | None
    replay: bool = False


class AlertRow(NamedTuple):
    """A row of `alert_log`."""

    id: str
    at: Time
    type: str
    svc: str
    event: Json


class IncidentEventRow(NamedTuple):
    """A row of `incident_events`, from which PostgreSQL makes the rows of `incidents`."""

    id: str
    incident: str
    at: Time
    svc: str
    what: str
    severity: str
    remedy: str
    reason: str
    text: str
    sec: float | None
    stream_position: int = 0
    diagnosis: Json | None = None


class EvidenceRow(NamedTuple):
    """A row of `incident_evidence`."""

    id: str
    incident: str
    at: Time
    svc: str
    step: str
    facts: Json
    readings: Json
    log: str


class SymbolRow(NamedTuple):
    """A row of `symbols`: the class of a symbol, and the times of its first and last record."""

    symbol: str
    asset: str
    first_seen: Time
    last_seen: Time
    replay: bool

    def merge(self, other: "SymbolRow") -> "SymbolRow":
        return SymbolRow(
            self.symbol,
            other.asset,
            min(self.first_seen, other.first_seen),
            max(self.last_seen, other.last_seen),
            self.replay and other.replay,
        )


Row = (
    BarRow
    | QuoteRow
    | ObservationRow
    | ActionRow
    | IndicatorRow
    | FeatureRow
    | DownloadRow
    | AlertRow
    | IncidentEventRow
    | EvidenceRow
)
MadeRow = tuple[Row, SymbolRow | None]
RowMaker = Callable[[bytes, Fields], MadeRow]
"""Makes the row of an entry from its id and fields, and a row of its symbol if the entry names its class."""

BAR_CELLS: Final = BarRow._fields[2:-1]
"""The columns of a bar in an answer about one symbol and timeframe."""
QUOTE_CELLS: Final = QuoteRow._fields[:-1]
ACTION_CELLS: Final = tuple(
    name for name in ActionRow._fields if name not in ("symbol", "withdrawn", "stream_position")
)
"""The columns of an action in an answer about one symbol."""


def make_bar_row(entry: bytes, fields: Fields) -> tuple[BarRow, SymbolRow]:
    """Return the row of a bar; of a restated one `known_at` is None: it stays known since when it was."""
    bar, asset, provenance = parse_entry(parse_bar, fields)
    check_bar(bar, asset)
    is_raw = provenance.adjustment is Adjustment.RAW
    row = BarRow(
        *(bar.symbol, bar.timeframe, bar.start_ms, bar.open, bar.high, bar.low, bar.close),
        *(bar.volume, bar.vwap, bar.trades, read_flag(fields, b"final"), *_read_revision(fields)),
        *_make_origin(provenance),
        _read_bar_day(fields, bar),
        *(read_count(fields, b"minutes", _MAX_REV), read_count(fields, b"missing", _MAX_REV)),
        None if read_flag(fields, b"restated") else _read_optional_time(fields, b"known_at", b"end"),
        str(provenance.adjustment),
        None if is_raw else require_day(fields, b"adjusted_to").isoformat(),
        None if provenance.volume_kind is None else str(provenance.volume_kind),
        to_stream_position(entry),
    )
    return row, SymbolRow(bar.symbol, asset, bar.start_ms, bar.start_ms, provenance.is_replay)


def make_source_bar_row(entry: bytes, fields: Fields) -> tuple[BarRow, None]:
    """Return the row of a bar of one source; what a symbol has in all is said by its other bars alone."""
    plain, _, _ = read_separate(fields)
    row, _ = make_bar_row(entry, plain)
    return row, None


def _read_bar_day(fields: Fields, bar: Bar) -> str | None:
    """Return the trading day of a day, the first date of a week or month; None if its writer did not say it.

    The first trading day of a period may be any of it, and a trading day may begin on a date before its own.
    """
    if bar.timeframe == "1d":
        return read_day(fields, bar.start_ms)
    if b"day" not in fields or bar.timeframe not in PERIODS:
        return None
    day, begun = require_day(fields, b"day"), find_day(bar.start_ms)
    is_first = day == name_period(day, bar.timeframe)
    if not is_first or not day - MAX_DAY_SHIFT <= begun <= end_period(day, bar.timeframe):
        raise EntryError("day: not the first date of the period of its start")
    return day.isoformat()


def make_quote_row(entry: bytes, fields: Fields) -> tuple[QuoteRow, SymbolRow]:
    quote, asset, provenance = parse_entry(parse_quote, fields)
    _require_not_negative(quote, "volume", "open_interest", "implied_volatility")
    row = QuoteRow(
        *(quote.symbol, quote.at_ms, quote.price, quote.bid, quote.ask, quote.volume, quote.open_interest),
        quote.implied_volatility,
        *_make_origin(provenance),
        to_stream_position(entry),
    )
    return row, SymbolRow(quote.symbol, asset, quote.at_ms, quote.at_ms, provenance.is_replay)


def make_observation_row(entry: bytes, fields: Fields) -> tuple[ObservationRow, SymbolRow]:
    """Return the row of an observation, which is known since its source says, else since that was asked.

    Where that is not said either, it is known since its entry was written.
    """
    found, asset, provenance = parse_entry(parse_observation, fields)
    position = to_stream_position(entry)
    known_ms = found.known_ms
    if known_ms is None:
        known_ms = round(1000 * provenance.as_of) or min(position >> _SEQUENCE_BITS, MAX_MS)
    row = ObservationRow(
        *(found.symbol, found.start_ms, found.value, known_ms), *_make_origin(provenance), position
    )
    return row, SymbolRow(found.symbol, asset, found.start_ms, found.start_ms, provenance.is_replay)


def make_action_row(entry: bytes, fields: Fields) -> tuple[ActionRow, None]:
    """Make no row of the symbol: that something happened to a share does not say that its prices are here."""
    action, _, provenance = parse_entry(parse_action, fields)
    cells: tuple[Any, ...] = (action.symbol, action.ex_day.isoformat(), action.kind.value)
    cells += (action.ratio, action.amount, action.new_symbol, read_flag(fields, b"withdrawn"))
    return ActionRow._make((*cells, *_make_origin(provenance), to_stream_position(entry))), None


def make_indicator_row(entry: bytes, fields: Fields) -> tuple[IndicatorRow, None]:
    """Return the row of the indicators of a bar; `known_at` as of `make_bar_row`."""
    timeframe = read_text(fields, b"timeframe", "")
    if timeframe not in TIMEFRAME_SEC:
        raise EntryError("timeframe: unknown")
    row = IndicatorRow(
        *(read_symbol(fields), timeframe, read_time(fields, b"start"), *_read_revision(fields)),
        *(read_flag(fields, b"final"), read_flag(fields, b"replay")),
        known_at=None if read_flag(fields, b"restated") else _read_optional_time(fields, b"known_at"),
        values=_read_values(fields),
        stream_position=to_stream_position(entry),
    )
    return row, None


def make_feature_row(entry: bytes, fields: Fields) -> tuple[FeatureRow, None]:
    start_ms = read_time(fields, b"start")
    row = FeatureRow(
        *(read_symbol(fields), start_ms, *_read_revision(fields)),
        *(read_flag(fields, b"replay"), read_day(fields, start_ms)),
        known_at=_read_optional_time(fields, b"known_at"),
        values=_read_values(fields),
        stream_position=to_stream_position(entry),
    )
    return row, None


def make_download_row(entry: bytes, fields: Fields) -> tuple[DownloadRow, None]:
    to_stream_position(entry)
    found: dict[str, Any] = {
        name: cut_text(fields, name.encode(), most) for name, most in _DOWNLOAD_TEXTS.items()
    }
    if found["source"] is None or found["outcome"] is None or b"asked_at" not in fields:
        raise EntryError("source, outcome or asked_at: missing")
    if found["kind"] is not None and found["kind"] not in set(RecordKind):
        raise EntryError("kind: unknown")
    if found["timeframe"] is not None and found["timeframe"] not in TIMEFRAME_SEC:
        raise EntryError("timeframe: unknown")
    found |= {name: read_count(fields, name.encode(), most) for name, most in _DOWNLOAD_COUNTS.items()}
    asked_at = round(1000 * read_seconds(fields, b"asked_at"))
    return DownloadRow(entry.decode(), asked_at=asked_at, replay=read_flag(fields, b"replay"), **found), None


def make_alert_row(entry: bytes, fields: Fields) -> tuple[AlertRow, None]:
    event, written = parse_storable_object("event", fields.get(b"event", b""), MAX_EVENT_BYTES)
    at_ms = _require_time("event.ts", event.get("ts"))
    known = {"id": entry.decode("ascii", "replace"), **event}
    kind, svc, ident = _require_texts("event", known, _ALERT_TEXTS)
    return AlertRow(ident, at_ms, kind, svc, written), None


def make_incident_event_row(entry: bytes, fields: Fields) -> tuple[IncidentEventRow, None]:
    position = to_stream_position(entry)
    found, (incident, *others) = _parse_of_outage(fields, _TIMELINE_TEXTS)
    sec = found.get("sec")
    if sec is not None and not _is_number(sec, 0, _MAX_OUTAGE_SEC):
        raise EntryError("entry.sec: no duration")
    at_ms = _require_time("entry.ts", found.get("ts"))
    diagnosis = _write_diagnosis(fields.get(b"diagnosis"), incident)
    row = IncidentEventRow._make((entry.decode(), incident, at_ms, *others, sec, position, diagnosis))
    return row, None


def _write_diagnosis(raw: bytes | None, incident: str) -> str | None:
    """Return the JSON of a diagnosis of this incident, without NUL; None without one."""
    if raw is None:
        return None
    storable = _NUL.sub(rb"\1\\ufffd", raw)
    found, written = parse_storable_object("diagnosis", storable, MAX_DIAGNOSIS_BYTES)
    if found.get("incident") != incident:
        raise EntryError("diagnosis.incident: another one")
    return written


def make_evidence_row(entry: bytes, fields: Fields) -> tuple[EvidenceRow, None]:
    to_stream_position(entry)
    found, (incident, svc, step, packed) = _parse_of_outage(fields, _EVIDENCE_TEXTS)
    facts, readings = (_write_values(found.get(name), f"entry.{name}") for name in ("facts", "readings"))
    at_ms = _require_time("entry.ts", found.get("ts"))
    text = "\n".join(unpack_log(packed)).replace("\0", "�")
    return EvidenceRow(entry.decode(), incident, at_ms, svc, step, facts, readings, text), None


def check_bar(bar: Bar, asset: AssetClass) -> None:
    """Check what the archive demands of a bar that bars has checked. Raise EntryError."""
    if not bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high:
        raise EntryError("low, open, close and high: not in this order")
    # a commodity may cost less than nothing, as oil did in April 2020
    if asset is not AssetClass.COMMODITIES and (bar.low <= 0 or (bar.vwap is not None and bar.vwap <= 0)):
        raise EntryError("a price or the vwap: not above 0")
    _require_not_negative(bar, "volume", "trades")


def _require_not_negative(record: Record, *names: str) -> None:
    for name in names:
        number = getattr(record, name)
        if number is not None and number < 0:
            raise EntryError(f"{name}: less than 0")


def _write_values(found: Any, name: str) -> str:
    """Return an object of single values as JSON."""
    if not isinstance(found, dict) or any(isinstance(each, dict | list) for each in found.values()):
        raise EntryError(f"{name}: no values by name")
    return orjson.dumps(found).decode()


def _parse_of_outage(
    fields: Fields, bounds: Mapping[str, tuple[int, int]]
) -> tuple[Mapping[str, Any], list[str]]:
    """Return an entry about an outage, and its texts in the order of `bounds`: the id is the first."""
    found, _ = parse_storable_object("entry", fields.get(b"entry", b""), MAX_EVENT_BYTES)
    texts = _require_texts("entry", found, bounds)
    if _INCIDENT.fullmatch(texts[0]) is None:
        raise EntryError("entry.incident: no id")
    return found, texts


def _require_texts(place: str, found: Mapping[str, Any], bounds: Mapping[str, tuple[int, int]]) -> list[str]:
    """Return texts of an object, in the order of `bounds`; one that is missing is empty."""
    texts = [found.get(name, "") for name in bounds]
    for (name, (least, most)), text in zip(bounds.items(), texts, strict=True):
        if not isinstance(text, str) or not least <= len(text) <= most:
            raise EntryError(f"{place}.{name}: no text, or too long")
    return texts


def _require_time(name: str, value: Any) -> int:
    if not _is_number(value, MIN_MS / 1000, MAX_MS / 1000):
        raise EntryError(f"{name}: no time")
    return round(1000 * float(value))


def _is_number(value: Any, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def to_stream_position(entry: bytes) -> int:
    """Return an entry's id as one number, greater for a later entry. Raise EntryError if it is not an id.

    Ids from the year 2248 on, and those after the millionth of one millisecond, share a number. They are not
    refused: Redis gives every entry after such an id a greater one.
    """
    match = _ENTRY_ID.fullmatch(entry)
    if match is None:
        raise EntryError("entry: no id")
    most_sequence = (1 << _SEQUENCE_BITS) - 1
    position = (int(match[1]) << _SEQUENCE_BITS) + min(int(match[2]), most_sequence)
    return min(position, MAX_COUNT)


def _make_origin(provenance: Provenance) -> tuple[str, int | None, str | None, bool]:
    asked_at = round(1000 * provenance.asked_at) if provenance.asked_at else None
    return provenance.source, asked_at, provenance.digest or None, provenance.is_replay


def _read_optional_time(fields: Fields, *names: bytes) -> int | None:
    """Return the first of these fields that is there as epoch milliseconds, None if none is."""
    return next((read_time(fields, name) for name in names if name in fields), None)


def _read_revision(fields: Fields) -> tuple[int, int]:
    """Return `rev` and `epoch`."""
    return read_count(fields, b"rev", _MAX_REV) or 0, read_count(fields, b"epoch", MAX_MS) or 0


def _read_values(fields: Fields) -> str:
    """Return the JSON object of numbers and nulls in `values`, written again."""
    found, written = parse_storable_object("values", fields.get(b"values", b""), MAX_VALUES_BYTES)
    if len(found) > MAX_VALUES:
        raise EntryError(f"values: more than {MAX_VALUES}")
    for name, value in found.items():
        if _VALUE_NAME.fullmatch(name) is None:
            raise EntryError("values: a name that is not allowed")
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise EntryError("values: neither a number nor null")
    return written


def parse_storable_object(name: str, raw: bytes, most: int) -> tuple[Mapping[str, Any], str]:
    """Return a JSON object of up to `most` bytes that PostgreSQL can hold, and its JSON written again."""
    if len(raw) > most:
        raise EntryError(f"{name}: too long")
    try:
        found = orjson.loads(raw)
        written = orjson.dumps(found).decode()
    except orjson.JSONDecodeError:
        raise EntryError(f"{name}: no JSON") from None
    except TypeError:  # it reads what is nested deeper than it writes
        raise EntryError(f"{name}: nested too deep") from None
    if not isinstance(found, dict):
        raise EntryError(f"{name}: no JSON object")
    if _NUL.search(raw):  # text in PostgreSQL has no such character
        raise EntryError(f"{name}: a character of code 0")
    return found, written
