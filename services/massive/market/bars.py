"""Parse one minute bar of one symbol, from the stream, the REST API or a recording, and encode it. Pure.

Everything that the API sends is treated as hostile: an invalid bar becomes None, never an error.
"""

import re
from collections.abc import Mapping
from math import isfinite
from typing import Any, Final, Literal

from services.market.entries import encode_entry
from services.market.records import MINUTE_MS, AssetClass, Bar, Provenance

MAX_AHEAD_MS: Final = 2 * MINUTE_MS
"""The milliseconds by which a bar's end may be ahead of our clock; a later bar is implausible."""
SYMBOL: Final = re.compile(r"[A-Za-z][A-Za-z0-9.:\-]{0,19}")
"""A ticker as the API writes it."""
Source = Literal["ws", "rest", "replay"]
"""How a bar came: by the stream, by REST, or from a recording."""


def parse_stream_bar(event: Mapping[str, Any]) -> Bar | None:
    """Return the bar in an `AM` event of the WebSocket API, or None if it holds no valid bar."""
    return _make_bar(event.get("sym"), event.get("s"), event)


def parse_rest_bar(sym: str, result: Mapping[str, Any]) -> Bar | None:
    """Return the bar of `sym` in one of the `results` of the REST API, or None if it holds no valid bar."""
    return _make_bar(sym, result.get("t"), result)


def encode_bar(bar: Bar, source: Source) -> dict[str, str]:
    """Return the fields of a bar's entry, which names neither its timeframe nor its class."""
    fields = encode_entry(bar, AssetClass.STOCKS, Provenance(source))
    del fields["timeframe"], fields["asset"]
    return fields


def find_end(bar: Bar) -> int:
    """Return the first epoch millisecond after a bar."""
    return bar.start_ms + MINUTE_MS


def is_plausible(bar: Bar, now_ms: float, max_age_ms: float) -> bool:
    """Return True if the bar began at most `max_age_ms` ago and does not end in the future."""
    return now_ms - max_age_ms <= bar.start_ms and find_end(bar) <= now_ms + MAX_AHEAD_MS


def _make_bar(sym: Any, start: Any, values: Mapping[str, Any]) -> Bar | None:
    """Return the bar with the prices and volume in `values`, or None if any of these is invalid."""
    prices = [_parse_number(values.get(name)) for name in "ohlcv"]
    if not isinstance(sym, str) or not SYMBOL.fullmatch(sym) or None in prices:
        return None
    if not isinstance(start, int) or not 0 < start < 1 << 48 or start % MINUTE_MS:
        return None
    first, high, low, close, volume = (price or 0.0 for price in prices)
    return Bar(sym, "1m", start, first, high, low, close, volume, _parse_number(values.get("vw")))


def _parse_number(value: Any) -> float | None:
    """Return a finite number from 0 to 1e18 as a float; None for anything else, such as a bool."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e18:
        return None
    return float(value) if isfinite(value) else None
