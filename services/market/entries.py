"""Write records as entries of a Redis stream, and read them back. Pure.

An entry is flat: each field of a record is a field of the entry, `sym` is its symbol, and a number is its
shortest text. Other programs write to these streams, too: an entry that is no record is an `EntryError`.
Bars of massive have neither `timeframe` nor `asset`: they are minutes of stocks.
"""

import re
from collections.abc import Mapping
from datetime import date, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Final

from services.market.records import (
    DAY_MS,
    TIMEFRAME_SEC,
    AssetClass,
    Bar,
    Observation,
    Provenance,
    Quote,
    Record,
    RecordKind,
)

Fields = Mapping[bytes, bytes]

SYMBOL: Final = re.compile(r"[A-Za-z0-9^][A-Za-z0-9.:/_^=-]{0,39}")
"""Any symbol of ours."""
MAX_MS: Final = 4_102_444_800_000
"""The year 2100, in epoch milliseconds: each record is earlier."""
MIN_MS: Final = -5_364_662_400_000
"""The year 1800: some economic series are that old."""
MAX_AHEAD_MS: Final = DAY_MS
"""How far ahead of a reader's clock a record may be."""
MAX_NUMBER: Final = 1e18
MAX_TEXT: Final = 128
MAX_RANK_DIGITS: Final = 2
MAX_DAY_SHIFT: Final = timedelta(days=3)
"""The most between a trading day and the date in UTC at which it begins: a day, and more over holidays."""

_TEXTS: Final = 8192  # the distinct texts of a market: its symbols, and the digests of its last answers
_ORIGINS: Final = 1024  # the last answers of a market's sources
_ORIGIN: Final = (b"source", b"asked_at", b"digest", b"played_at", b"rank")
_ASSETS: Final[Mapping[str, AssetClass]] = {str(each): each for each in AssetClass}
_DAY: Final = re.compile(rb"\d{4}-\d{2}-\d{2}")
_MASSIVE: Final = frozenset({"ws", "rest", "replay"})  # what massive calls its ways
_BAR_NUMBERS: Final = ("open", "high", "low", "close", "volume", "vwap", "trades")
_QUOTE_NUMBERS: Final = ("price", "bid", "ask", "volume", "open_interest", "implied_volatility")
_read_bar_numbers: Final = attrgetter(*_BAR_NUMBERS)
_read_quote_numbers: Final = attrgetter(*_QUOTE_NUMBERS)


class EntryError(ValueError):
    """An entry is no record; the message says which field is wrong, and never its value."""


def kind_of(record: Record) -> RecordKind:
    """Return the kind of a record."""
    if isinstance(record, Bar):
        return RecordKind.BARS
    return RecordKind.QUOTES if isinstance(record, Quote) else RecordKind.OBSERVATIONS


def format_number(number: float) -> str:
    """Return the shortest text that is read as this number again."""
    return repr(number).removesuffix(".0")


def encode_entry(record: Record, asset: AssetClass, provenance: Provenance) -> dict[str, str]:
    """Return the fields of a record's entry. What is None is left out."""
    fields = {"sym": record.symbol, "asset": str(asset)}
    names: tuple[str, ...]
    if isinstance(record, Bar):
        fields["timeframe"], fields["start"] = record.timeframe, str(record.start_ms)
        if record.timeframe != "1mo":  # a month's end is a matter of the calendar
            fields["end"] = str(record.start_ms + 1000 * TIMEFRAME_SEC[record.timeframe])
        names, numbers = _BAR_NUMBERS, _read_bar_numbers(record)
    elif isinstance(record, Quote):
        fields["at"] = str(record.at_ms)
        names, numbers = _QUOTE_NUMBERS, _read_quote_numbers(record)
    else:
        fields["start"] = str(record.start_ms)
        names, numbers = ("value",), (record.value,)
    for name, number in zip(names, numbers, strict=True):
        if number is not None:
            fields[name] = format_number(number)
    fields.update(_list_origin(provenance))
    return fields


def encode_provenance(provenance: Provenance) -> dict[str, str]:
    """Return the fields that say where a record came from."""
    return dict(_list_origin(provenance))


@lru_cache(maxsize=_ORIGINS)  # one answer has many records, and a minute is in six bars
def _list_origin(provenance: Provenance) -> tuple[tuple[str, str], ...]:
    """Return the names and values of the fields that say where a record came from."""
    fields = {"source": provenance.source}
    if provenance.asked_at:
        fields["asked_at"] = format(provenance.asked_at, ".3f")
    if provenance.digest:
        fields["digest"] = provenance.digest
    if provenance.is_replay:
        fields["replay"] = "1"
    if provenance.played_at:
        fields["played_at"] = format(provenance.played_at, ".3f")
    if provenance.rank:
        fields["rank"] = str(provenance.rank)
    return tuple(fields.items())


def parse_provenance(fields: Fields) -> Provenance:
    """Return where an entry's record came from. Raise EntryError if a field is wrong."""
    # what is cached must be short, and nobody checks how long `replay` is
    return _parse_origin(fields.get(b"replay") == b"1", *map(fields.get, _ORIGIN))


def parse_bar(fields: Fields) -> Bar:
    """Return the bar that an entry holds; raise EntryError if a field is missing or out of bounds."""
    timeframe = _read_text(fields, b"timeframe", "1m")
    if timeframe not in TIMEFRAME_SEC:
        raise EntryError("timeframe: unknown")
    trades = _read_count(fields, b"trades")
    return Bar(
        _read_symbol(fields),
        timeframe,
        _read_time(fields, b"start"),
        _require_number(fields, b"open"),
        _require_number(fields, b"high"),
        _require_number(fields, b"low"),
        _require_number(fields, b"close"),
        volume=_read_number(fields, b"volume"),
        vwap=_read_number(fields, b"vwap"),
        trades=trades,
    )


def parse_quote(fields: Fields) -> Quote:
    """Return the quote of an entry. Raise EntryError if it is none."""
    return Quote(
        _read_symbol(fields),
        _read_time(fields, b"at"),
        _require_number(fields, b"price"),
        bid=_read_number(fields, b"bid"),
        ask=_read_number(fields, b"ask"),
        volume=_read_number(fields, b"volume"),
        open_interest=_read_number(fields, b"open_interest"),
        implied_volatility=_read_number(fields, b"implied_volatility"),
    )


def parse_observation(fields: Fields) -> Observation:
    """Return the observation of an entry. Raise EntryError if it is none."""
    return Observation(_read_symbol(fields), _read_time(fields, b"start"), _require_number(fields, b"value"))


def parse_entry(kind: RecordKind, fields: Fields) -> tuple[Record, AssetClass, Provenance]:
    """Return the record of an entry of a stream of this kind. Raise EntryError if it is none."""
    record: Record
    if kind is RecordKind.BARS:
        record = parse_bar(fields)
    elif kind is RecordKind.QUOTES:
        record = parse_quote(fields)
    else:
        record = parse_observation(fields)
    provenance = parse_provenance(fields)
    named = _read_text(fields, b"asset", AssetClass.STOCKS if provenance.source in _MASSIVE else "")
    asset = _ASSETS.get(named)
    if asset is None:
        raise EntryError("asset: unknown")
    return record, asset, provenance


def check_bar(bar: Bar, asset: AssetClass) -> None:
    """Check what the archive demands of a bar that was checked. Raise EntryError if it can't be.

    A commodity may cost less than nothing, as oil did in April 2020.
    """
    if not bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high:
        raise EntryError("low, open, close and high: not in this order")
    if asset is not AssetClass.COMMODITIES and (bar.low <= 0 or (bar.vwap is not None and bar.vwap <= 0)):
        raise EntryError("a price or the vwap: not above 0")
    if bar.volume is not None and bar.volume < 0:
        raise EntryError("volume: less than 0")
    if bar.trades is not None and bar.trades < 0:
        raise EntryError("trades: less than 0")


def check_quote(quote: Quote) -> None:
    """Check what the archive demands of a quote. Raise EntryError if it can't be."""
    for name in ("volume", "open_interest", "implied_volatility"):
        number = getattr(quote, name)
        if number is not None and number < 0:
            raise EntryError(f"{name}: less than 0")


def require_past(name: str, at_ms: float, now_ms: float) -> None:
    """Raise EntryError if the time of a field is more than MAX_AHEAD_MS after `now_ms`.

    What lies in the future would stay the newest record, whatever comes.
    """
    if at_ms > now_ms + MAX_AHEAD_MS:
        raise EntryError(f"{name}: more than a day ahead")


def parse_day(fields: Fields, begin: date) -> date | None:
    """Return the trading day of an entry that begins on `begin` in UTC; None if it is absent.

    Raise EntryError if it is no date, or not that of its begin.
    """
    value = fields.get(b"day")
    if value is None:
        return None
    try:
        day = date.fromisoformat(value.decode()) if _DAY.fullmatch(value) else None
    except ValueError:
        day = None
    if day is None or abs(day - begin) > MAX_DAY_SHIFT:
        raise EntryError("day: no date, or not that of its start")
    return day


def parse_flag(fields: Fields, name: bytes) -> bool:
    """Return a field that is 0 or 1; an absent one is 0. Raise EntryError for anything else."""
    value = fields.get(name, b"0")
    if value not in (b"0", b"1"):
        raise EntryError(f"{name.decode()}: neither 0 nor 1")
    return value == b"1"


@lru_cache(maxsize=_ORIGINS)  # one answer has many records
def _parse_origin(is_replay: bool, *values: bytes | None) -> Provenance:
    """Return a provenance of the values of `_ORIGIN`, in order. Raise EntryError if one is wrong."""
    fields = {name: value for name, value in zip(_ORIGIN, values, strict=True) if value is not None}
    source = _read_text(fields, b"source", "")
    asked_at = _read_number(fields, b"asked_at") or 0.0
    if not MIN_MS <= 1000 * asked_at <= MAX_MS:
        raise EntryError("asked_at: out of bounds")
    rank = fields.get(b"rank", b"0")
    if not rank.isdigit() or len(rank) > MAX_RANK_DIGITS:
        raise EntryError("rank: no place in a cascade")
    return Provenance(
        source or "unknown",
        asked_at,
        _read_text(fields, b"digest", ""),
        is_replay=is_replay or source == "replay",
        played_at=_read_number(fields, b"played_at") or 0.0,
        rank=int(rank),
    )


def _read_text(fields: Fields, name: bytes, default: str) -> str:
    """Return a field's text; raise EntryError if it is too long or no text."""
    value = fields.get(name)
    if value is None:
        return default
    text = _decode_text(value) if len(value) <= MAX_TEXT else None
    if text is None:
        raise EntryError(f"{name.decode()}: no text of ASCII, or too long")
    return text


@lru_cache(maxsize=_TEXTS)
def _decode_text(value: bytes) -> str | None:
    """Return the text that a value is; None if it is no printable ASCII."""
    text = value.decode("ascii") if value.isascii() else "\0"
    return text if text.isprintable() else None


def _read_symbol(fields: Fields) -> str:
    """Return the symbol; raise EntryError if it is none."""
    symbol = _read_text(fields, b"sym", "")
    if not _is_symbol(symbol):
        raise EntryError("sym: no symbol")
    return symbol


@lru_cache(maxsize=_TEXTS)
def _is_symbol(text: str) -> bool:
    """Return True if a text can be a symbol."""
    return SYMBOL.fullmatch(text) is not None


def _read_time(fields: Fields, name: bytes) -> int:
    """Return a time in epoch milliseconds; raise EntryError if it is none."""
    value = fields.get(name, b"")
    if not value.removeprefix(b"-").isdigit() or len(value) > 14 or not MIN_MS <= int(value) < MAX_MS:
        raise EntryError(f"{name.decode()}: no time in epoch milliseconds")
    return int(value)


def _read_number(fields: Fields, name: bytes) -> float | None:
    """Return a number, or None where the field is absent; raise EntryError if it is no number."""
    value = fields.get(name)
    if value is None:
        return None
    try:
        number = float(value) if len(value) <= 32 else float("nan")
    except ValueError:
        number = float("nan")
    if not -MAX_NUMBER <= number <= MAX_NUMBER:  # which NaN and infinity are not, either
        raise EntryError(f"{name.decode()}: no number")
    return number


def _read_count(fields: Fields, name: bytes) -> int | None:
    """Return a whole number exactly, or None where the field is absent; raise EntryError if it is no number.

    A fraction is cut off.
    """
    number = _read_number(fields, name)
    if number is None:
        return None
    text = fields[name]
    return int(text) if text.isdigit() else int(number)  # a float holds no more than 53 bits


def _require_number(fields: Fields, name: bytes) -> float:
    """Return a number; raise EntryError if it is absent or no number."""
    number = _read_number(fields, name)
    if number is None:
        raise EntryError(f"{name.decode()}: missing")
    return number
