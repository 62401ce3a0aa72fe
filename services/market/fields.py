"""Read single fields of an entry of a stream: texts, symbols, times, numbers. Pure.

Other programs write to the streams, too. A field that can't be read is an `EntryError`; an absent one is
None, 0 or a default, unless it is required.
"""

import re
from collections.abc import Mapping
from datetime import date, timedelta
from functools import lru_cache
from typing import Final

from services.market.documents import NUMBER
from services.market.records import DAY_MS

Fields = Mapping[bytes, bytes]

SYMBOL: Final = re.compile(r"[A-Za-z0-9^][A-Za-z0-9.:/_^=-]{0,39}")
"""Any symbol of ours."""
PAIR: Final = re.compile(r"([A-Z0-9]{2,15})/([A-Z0-9]{2,15})")
"""How a pair, and nothing else, is spelled: EUR/USD, BTC/USDT. Its prices are in the second currency."""
MAX_MS: Final = 4_102_444_800_000
"""The year 2100, in epoch milliseconds: each record is earlier."""
MIN_MS: Final = -5_364_662_400_000
"""The year 1800: some economic series are that old."""
TRADED_SINCE_MS: Final = 631_152_000_000
"""The year 1990: each quote, and each bar shorter than a day, is later. A time in seconds is one of 1970."""
MAX_AHEAD_MS: Final = DAY_MS
"""How far ahead of a reader's clock a record may be."""
MAX_NUMBER: Final = 1e18
MAX_COUNT: Final = 2**63 - 1
"""The greatest whole number that PostgreSQL holds."""
MAX_TEXT: Final = 128
MAX_DAY_SHIFT: Final = timedelta(days=3)
"""The most between a trading day and the date in UTC at which it begins: a day, and more over holidays."""
_TEXTS: Final = 8192  # the distinct texts of a market: its symbols, and the digests of its last answers
_NUMBER: Final = re.compile(NUMBER.pattern.encode())
_DAY: Final = re.compile(rb"\d{4}-\d{2}-\d{2}")
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()


class EntryError(ValueError):
    """An entry is not a record; the message says which field is wrong, and never its value."""


def read_text(fields: Fields, name: bytes, default: str) -> str:
    value = fields.get(name)
    if value is None:
        return default
    text = _decode_text(value) if len(value) <= MAX_TEXT else None
    if text is None:
        raise EntryError(f"{name.decode()}: must be ASCII, at most {MAX_TEXT} characters")
    return text


def cut_text(fields: Fields, name: bytes, most: int) -> str | None:
    """Return a field's text, cut to `most` characters; None where it is absent or empty."""
    value = fields.get(name)
    if not value:
        return None
    text = value[: 4 * most].decode("utf-8", "replace").replace("\0", "�")[:most]
    return text or None


@lru_cache(maxsize=_TEXTS)
def _decode_text(value: bytes) -> str | None:
    text = value.decode("ascii") if value.isascii() else "\0"
    return text if text.isprintable() else None


def read_symbol(fields: Fields) -> str:
    symbol = read_text(fields, b"sym", "")
    if not _is_symbol(symbol):
        raise EntryError("sym: no symbol")
    return symbol


@lru_cache(maxsize=_TEXTS)
def _is_symbol(text: str) -> bool:
    return SYMBOL.fullmatch(text) is not None


def read_time(fields: Fields, name: bytes) -> int:
    value = fields.get(name, b"")
    if not value.removeprefix(b"-").isdigit() or len(value) > 14 or not MIN_MS <= int(value) < MAX_MS:
        raise EntryError(f"{name.decode()}: no time in epoch milliseconds")
    return int(value)


def read_trading_time(fields: Fields, name: bytes) -> int:
    """Return the time of a quote, or of a bar shorter than a day: of 1990 or later."""
    at_ms = read_time(fields, name)
    if at_ms < TRADED_SINCE_MS:
        raise EntryError(f"{name.decode()}: before 1990, or not in milliseconds")
    return at_ms


def read_day(fields: Fields, start_ms: int) -> str | None:
    """Return the trading day, such as `2026-01-05`, of an entry that begins at `start_ms`."""
    value = fields.get(b"day")
    if value is None:
        return None
    day = _parse_day(value)
    if day is None or abs(day - date.fromordinal(_EPOCH_DAY + start_ms // DAY_MS)) > MAX_DAY_SHIFT:
        raise EntryError("day: no date, or not that of its start")
    return value.decode()


def require_day(fields: Fields, name: bytes) -> date:
    """Return a date of the years in which a record may be: `2026-01-05`."""
    day = _parse_day(fields.get(name, b""))
    if day is None or not MIN_MS <= (day.toordinal() - _EPOCH_DAY) * DAY_MS < MAX_MS:
        raise EntryError(f"{name.decode()}: no date of these centuries")
    return day


def _parse_day(value: bytes) -> date | None:
    try:
        return date.fromisoformat(value.decode()) if _DAY.fullmatch(value) else None
    except ValueError:
        return None


def read_flag(fields: Fields, name: bytes) -> bool:
    value = fields.get(name, b"0")
    if value not in (b"0", b"1"):
        raise EntryError(f"{name.decode()}: neither 0 nor 1")
    return value == b"1"


def read_count(fields: Fields, name: bytes, most: int) -> int | None:
    """Return a whole number from 0 to `most`; None for an empty field, too."""
    value = fields.get(name)
    if not value:
        return None
    if len(value) > 19 or not value.isdigit() or int(value) > most:
        raise EntryError(f"{name.decode()}: no whole number from 0 to {most}")
    return int(value)


def read_number(fields: Fields, name: bytes) -> float | None:
    value = fields.get(name)
    if value is None:
        return None
    if len(value) > 32 or _NUMBER.fullmatch(value) is None or not abs(number := float(value)) <= MAX_NUMBER:
        raise EntryError(f"{name.decode()}: no number")
    return number


def require_number(fields: Fields, name: bytes) -> float:
    number = read_number(fields, name)
    if number is None:
        raise EntryError(f"{name.decode()}: missing")
    return number


def read_seconds(fields: Fields, name: bytes) -> float:
    seconds = read_number(fields, name) or 0.0
    if not MIN_MS <= 1000 * seconds <= MAX_MS:
        raise EntryError(f"{name.decode()}: out of bounds")
    return seconds
