"""Make rows of entries: what each stream's entries become in the database. Pure.

An invalid entry is a `RowError` with the reason: the checks of the tables are made here, too, so that
PostgreSQL has nothing to refuse.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from math import isfinite
from typing import Any, Final, NamedTuple, get_args

import orjson

from marketswarm.event import MAX_EVENT_BYTES
from marketswarm.market.entries import (
    MAX_AHEAD_MS,
    MAX_MS,
    MIN_MS,
    SYMBOL,
    EntryError,
    Fields,
    check_bar,
    check_quote,
    parse_day,
    parse_entry,
    parse_flag,
)
from marketswarm.market.records import (
    TIMEFRAME_SEC,
    AssetClass,
    Bar,
    Observation,
    Provenance,
    Quote,
    RecordKind,
)

MAX_VALUES: Final = 300
"""The most indicators or features of one entry."""
_MAX_REV: Final = 2**31 - 1
_MAX_COUNT: Final = 2**63 - 1
_TIMES: Final = 4096
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LONG_AGO: Final = datetime(1, 1, 1, tzinfo=UTC)
_VALUE_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_ENTRY_ID: Final = re.compile(rb"(\d{1,20})-(\d{1,20})")
_SEQUENCE_BITS: Final = 20  # of an id's second number, which counts the entries of one millisecond


class RowError(ValueError):
    """An entry is invalid; the message says which field is wrong, and never its value."""


class BarRow(NamedTuple):
    """A row of `bars`."""

    symbol: str
    timeframe: str
    start: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float | None
    vwap: float | None
    trades: int | None
    final: bool
    rev: int
    source: str
    asked_at: datetime | None
    digest: str | None
    replay: bool
    epoch: int = 0
    stream_position: int = 0
    day: date | None = None

    @property
    def rank(self) -> tuple[Any, ...]:
        """Of two rows with one key, the one with the greater rank stays."""
        return self.epoch, self.rev, self.final, self.stream_position


class QuoteRow(NamedTuple):
    """A row of `quotes`."""

    symbol: str
    at: datetime
    price: float
    bid: float | None
    ask: float | None
    volume: float | None
    open_interest: float | None
    implied_volatility: float | None
    source: str
    asked_at: datetime | None
    digest: str | None
    replay: bool
    stream_position: int = 0

    @property
    def rank(self) -> tuple[Any, ...]:
        return self.asked_at or _LONG_AGO, self.stream_position


class ObservationRow(NamedTuple):
    """A row of `observations`."""

    symbol: str
    start: datetime
    value: float
    source: str
    asked_at: datetime | None
    digest: str | None
    replay: bool
    stream_position: int = 0

    @property
    def rank(self) -> tuple[Any, ...]:
        return self.asked_at or _LONG_AGO, self.stream_position


class IndicatorRow(NamedTuple):
    """A row of `indicators`; `values` is JSON."""

    symbol: str
    timeframe: str
    start: datetime
    rev: int
    final: bool
    values: str
    epoch: int = 0
    stream_position: int = 0
    replay: bool = False

    @property
    def rank(self) -> tuple[Any, ...]:
        return self.epoch, self.rev, self.final, self.stream_position


class FeatureRow(NamedTuple):
    """A row of `features`; `values` is JSON."""

    symbol: str
    start: datetime
    rev: int
    values: str
    epoch: int = 0
    stream_position: int = 0
    replay: bool = False
    day: date | None = None

    @property
    def rank(self) -> tuple[Any, ...]:
        return self.epoch, self.rev, self.stream_position


class DownloadRow(NamedTuple):
    """A row of `downloads`; its key is the id of the stream's entry."""

    id: str
    source: str
    series: str | None
    symbol: str | None
    kind: str | None
    timeframe: str | None
    asked_at: datetime
    took_ms: int | None
    url: str | None
    status: int | None
    outcome: str
    reason: str | None
    digest: str | None
    bytes: int | None
    records: int | None
    replay: bool = False

    @property
    def rank(self) -> tuple[Any, ...]:
        """A row never replaces another one of its key."""
        return ()


class AlertRow(NamedTuple):
    """A row of `alerts`; `event` is JSON."""

    id: str
    at: datetime
    type: str
    svc: str
    event: str

    @property
    def rank(self) -> tuple[Any, ...]:
        """A row never replaces another one of its key."""
        return ()


class SymbolRow(NamedTuple):
    """A row of `symbols`: the class of a symbol, and the times of its first and last record."""

    symbol: str
    asset: str
    first_seen: datetime
    last_seen: datetime
    replay: bool

    def merge(self, other: "SymbolRow") -> "SymbolRow":
        """Combine the records of both; `other` is the later one."""
        return SymbolRow(
            self.symbol,
            other.asset,
            min(self.first_seen, other.first_seen),
            max(self.last_seen, other.last_seen),
            self.replay and other.replay,
        )


Row = BarRow | QuoteRow | ObservationRow | IndicatorRow | FeatureRow | DownloadRow | AlertRow
_TIMES_OF: Final[Mapping[type, Sequence[tuple[str, int]]]] = {
    kind: [(name, at) for at, name in enumerate(kind._fields) if name in ("start", "at", "asked_at", "epoch")]
    for kind in get_args(Row)
}
"""By the class of a row: the fields that are times, and their places."""
MadeRow = tuple[Row, SymbolRow | None]
RowMaker = Callable[[bytes, Fields], MadeRow]
"""Makes the row of an entry from its id and fields, and that of its symbol if the entry names its class."""


def make_bar_row(entry: bytes, fields: Fields) -> MadeRow:
    """Return the row of an entry of `bars:bars`. Raise RowError if the entry is invalid."""
    bar, asset, provenance = _parse(RecordKind.BARS, fields)
    assert isinstance(bar, Bar)  # noqa: S101 - by its kind
    start, final, rev = to_time(bar.start_ms), _read_flag(fields, b"final"), _read_rev(fields)
    prices = (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.vwap, bar.trades)
    origin = (*_make_provenance(provenance), _read_epoch(fields), to_stream_position(entry))
    day = _read_day(fields, start) if bar.timeframe == "1d" else None
    row = BarRow(bar.symbol, bar.timeframe, start, *prices, final, rev, *origin, day)
    return row, SymbolRow(bar.symbol, asset, start, start, provenance.is_replay)


def make_quote_row(entry: bytes, fields: Fields) -> MadeRow:
    """Return the row of an entry of `market:quotes`. Raise RowError if the entry is invalid."""
    quote, asset, provenance = _parse(RecordKind.QUOTES, fields)
    assert isinstance(quote, Quote)  # noqa: S101 - by its kind
    at = to_time(quote.at_ms)
    row = QuoteRow(
        *(quote.symbol, at, quote.price, quote.bid, quote.ask, quote.volume, quote.open_interest),
        quote.implied_volatility,
        *_make_provenance(provenance),
        to_stream_position(entry),
    )
    return row, SymbolRow(quote.symbol, asset, at, at, provenance.is_replay)


def make_observation_row(entry: bytes, fields: Fields) -> MadeRow:
    """Return the row of an entry of `market:observations`. Raise RowError if the entry is invalid."""
    found, asset, provenance = _parse(RecordKind.OBSERVATIONS, fields)
    assert isinstance(found, Observation)  # noqa: S101 - by its kind
    start = to_time(found.start_ms)
    origin = (*_make_provenance(provenance), to_stream_position(entry))
    row = ObservationRow(found.symbol, start, found.value, *origin)
    return row, SymbolRow(found.symbol, asset, start, start, provenance.is_replay)


def make_indicator_row(entry: bytes, fields: Fields) -> MadeRow:
    """Return the row of an entry of `bars:indicators`. Raise RowError if the entry is invalid."""
    timeframe = _read_text(fields, b"timeframe", 10)
    if timeframe not in TIMEFRAME_SEC:
        raise RowError("timeframe: unknown")
    symbol, start = _read_symbol(fields), _read_start(fields)
    final, rev = _read_flag(fields, b"final"), _read_rev(fields)
    origin = _read_epoch(fields), to_stream_position(entry), _read_flag(fields, b"replay")
    return IndicatorRow(symbol, timeframe, start, rev, final, _read_values(fields), *origin), None


def make_feature_row(entry: bytes, fields: Fields) -> MadeRow:
    """Return the row of an entry of `bars:features`. Raise RowError if the entry is invalid."""
    symbol, start, rev = _read_symbol(fields), _read_start(fields), _read_rev(fields)
    origin = _read_epoch(fields), to_stream_position(entry), _read_flag(fields, b"replay")
    return FeatureRow(symbol, start, rev, _read_values(fields), *origin, _read_day(fields, start)), None


def make_download_row(entry: bytes, fields: Fields) -> MadeRow:
    """Return the row of an entry of `market:downloads`. Raise RowError if the entry is invalid."""
    to_stream_position(entry)
    source, outcome = _read_text(fields, b"source", 128), _read_text(fields, b"outcome", 64)
    asked_at = _read_number(fields, b"asked_at")
    if source is None or outcome is None or asked_at is None:
        raise RowError("source, outcome or asked_at: missing")
    kind, timeframe = _read_text(fields, b"kind", 20), _read_text(fields, b"timeframe", 10)
    if kind is not None and kind not in set(RecordKind):
        raise RowError("kind: unknown")
    if timeframe is not None and timeframe not in TIMEFRAME_SEC:
        raise RowError("timeframe: unknown")
    row = DownloadRow(
        *(entry.decode(), source, _read_text(fields, b"series", 200), _read_text(fields, b"symbol", 40)),
        *(kind, timeframe, _from_seconds(asked_at), _read_count(fields, b"took_ms", _MAX_REV)),
        *(_read_text(fields, b"url", 2000), _read_count(fields, b"status", 999), outcome),
        *(_read_text(fields, b"reason", 500), _read_text(fields, b"digest", 128)),
        *(_read_count(fields, b"bytes", _MAX_COUNT), _read_count(fields, b"records", _MAX_REV)),
        _read_flag(fields, b"replay"),
    )
    return row, None


def make_alert_row(entry: bytes, fields: Fields) -> MadeRow:
    """Return the row of an entry of the alert log. Raise RowError if the entry is invalid."""
    event, written = _parse_object("event", fields.get(b"event", b""), MAX_EVENT_BYTES)
    kind, svc, at = event.get("type"), event.get("svc"), event.get("ts")
    ident = event.get("id", entry.decode("ascii", "replace"))
    if not isinstance(at, int | float) or isinstance(at, bool):
        raise RowError("event.ts: no time")
    for name, text, most in (("type", kind, 64), ("svc", svc, 200), ("id", ident, 300)):
        if not isinstance(text, str) or not 1 <= len(text) <= most:
            raise RowError(f"event.{name}: no text, or too long")
    return AlertRow(str(ident), _from_seconds(at), str(kind), str(svc), written), None


def require_past(row: Row, now: float) -> None:
    """Raise RowError if a time of a row is more than a day after `now` (epoch seconds).

    Such a row would never be replaced, and have a partition of its own that is never old enough to go.
    """
    latest_ms = 1000 * now + MAX_AHEAD_MS
    latest = to_time(int(latest_ms))
    for name, index in _TIMES_OF[type(row)]:
        value: Any = row[index]
        if value is not None and value > (latest_ms if name == "epoch" else latest):
            raise RowError(f"{name}: more than a day ahead")


@lru_cache(maxsize=_TIMES)  # the bars of many symbols begin together
def to_time(epoch_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=epoch_ms)


def to_stream_position(entry: bytes) -> int:
    """Return an entry's id as one number, greater for a later entry. Raise RowError if it is not an id.

    Ids from the year 2248 on, and those after the millionth of one millisecond, share a number. They are not
    refused: Redis gives every entry after such an id a greater one.
    """
    match = _ENTRY_ID.fullmatch(entry)
    if match is None:
        raise RowError("entry: no id")
    most_sequence = (1 << _SEQUENCE_BITS) - 1
    position = (int(match[1]) << _SEQUENCE_BITS) + min(int(match[2]), most_sequence)
    return min(position, _MAX_COUNT)


def _parse(kind: RecordKind, fields: Fields) -> tuple[Bar | Quote | Observation, AssetClass, Provenance]:
    """Return the record of an entry. Raise RowError if the entry is invalid."""
    try:
        record, asset, provenance = parse_entry(kind, fields)
        if isinstance(record, Bar):
            check_bar(record, asset)
        elif isinstance(record, Quote):
            check_quote(record)
    except EntryError as error:
        raise RowError(str(error)) from None
    return record, asset, provenance


def _make_provenance(provenance: Provenance) -> tuple[str, datetime | None, str | None, bool]:
    """Return the columns source, asked_at, digest and replay. Raise RowError if the time can't be."""
    asked_at = _from_seconds(provenance.asked_at) if provenance.asked_at else None
    return provenance.source, asked_at, provenance.digest or None, provenance.is_replay


@lru_cache(maxsize=_TIMES)  # one answer has many bars
def _from_seconds(seconds: float) -> datetime:
    """Return a time of epoch seconds, rounded to milliseconds. Raise RowError if it is out of bounds."""
    if not MIN_MS <= seconds * 1000 <= MAX_MS:
        raise RowError("a time in epoch seconds is out of bounds")
    return to_time(round(seconds * 1000))


def _read_text(fields: Fields, name: bytes, most: int) -> str | None:
    """Return a field's text, cut to `most` characters; None if it is absent or empty."""
    value = fields.get(name)
    if not value:
        return None
    text = value[: 4 * most].decode("utf-8", "replace").replace("\0", "�")[:most]
    return text or None


def _read_symbol(fields: Fields) -> str:
    """Return the symbol. Raise RowError if it is not valid."""
    symbol = fields.get(b"sym", b"")[:100].decode("ascii", "replace")
    if SYMBOL.fullmatch(symbol) is None:
        raise RowError("sym: no symbol")
    return symbol


def _read_start(fields: Fields) -> datetime:
    """Return the start. Raise RowError if it is not a time in epoch milliseconds."""
    value = fields.get(b"start", b"")
    if not value.removeprefix(b"-").isdigit() or len(value) > 14 or not MIN_MS <= int(value) < MAX_MS:
        raise RowError("start: no time in epoch milliseconds")
    return to_time(int(value))


def _read_day(fields: Fields, start: datetime) -> date | None:
    """Return the trading day that begins at `start`; None if it is absent. Raise RowError if it is wrong."""
    try:
        return parse_day(fields, start.date())
    except EntryError as error:
        raise RowError(str(error)) from None


def _read_flag(fields: Fields, name: bytes) -> bool:
    """Return a field that is 0 or 1; an absent one is 0. Raise RowError for anything else."""
    try:
        return parse_flag(fields, name)
    except EntryError as error:
        raise RowError(str(error)) from None


def _read_rev(fields: Fields) -> int:
    """Return the revision; an absent one is 0. Raise RowError if it is not a whole number."""
    return _read_count(fields, b"rev", _MAX_REV) or 0


def _read_epoch(fields: Fields) -> int:
    """Return the epoch; an absent one is 0. Raise RowError if it is not a time in milliseconds."""
    return _read_count(fields, b"epoch", MAX_MS) or 0


def _read_count(fields: Fields, name: bytes, most: int) -> int | None:
    """Return a whole number from 0 to `most`; None where it is absent. Raise RowError for anything else."""
    value = fields.get(name)
    if not value:
        return None
    if len(value) > 19 or not value.isdigit() or int(value) > most:
        raise RowError(f"{name.decode()}: no whole number from 0 to {most}")
    return int(value)


def _read_number(fields: Fields, name: bytes) -> float | None:
    """Return a number; None where it is absent. Raise RowError if it is not valid."""
    value = fields.get(name)
    if not value:
        return None
    try:
        number = float(value) if len(value) <= 32 else float("nan")
    except ValueError:
        number = float("nan")
    if not isfinite(number):
        raise RowError(f"{name.decode()}: no number")
    return number


def _read_values(fields: Fields) -> str:
    """Return the JSON object in `values`, written anew. Raise RowError if it is not numbers and nulls."""
    found, written = _parse_object("values", fields.get(b"values", b""), 64 * 1024)
    if len(found) > MAX_VALUES:
        raise RowError(f"values: more than {MAX_VALUES}")
    for name, value in found.items():
        if _VALUE_NAME.fullmatch(name) is None:
            raise RowError("values: a name that is not allowed")
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise RowError("values: neither a number nor null")
    return written


def _parse_object(name: str, raw: bytes, most: int) -> tuple[Mapping[str, Any], str]:
    """Return a JSON object of up to `most` bytes that PostgreSQL can hold, and its JSON written anew.

    Raise RowError for other text.
    """
    if len(raw) > most:
        raise RowError(f"{name}: too long")
    try:
        found = orjson.loads(raw)
        written = orjson.dumps(found).decode()
    except orjson.JSONDecodeError:
        raise RowError(f"{name}: no JSON") from None
    except TypeError:  # it reads what is nested deeper than it writes
        raise RowError(f"{name}: nested too deep") from None
    if not isinstance(found, dict):
        raise RowError(f"{name}: no JSON object")
    if b"\\u0000" in raw:  # text in PostgreSQL has no such character
        raise RowError(f"{name}: a character of code 0")
    return found, written
