"""Parse one minute bar of one symbol, from the stream, the REST API or a recording. Pure.

Everything that the API sends is treated as hostile: an invalid bar becomes None, never an error.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final, Literal

MINUTE_MS: Final = 60_000
DAY_MINUTES: Final = 1440
MAX_AHEAD_MS: Final = 2 * MINUTE_MS
"""The milliseconds by which a bar's end may be ahead of our clock; a later bar is implausible."""

SYMBOL: Final = re.compile(r"[A-Za-z][A-Za-z0-9.:\-]{0,19}")
"""A ticker as the API writes it."""

Source = Literal["ws", "rest", "replay"]


@dataclass(frozen=True, slots=True)
class MinuteBar:
    """Hold a minute bar.

    `start` is in epoch milliseconds; `vwap` is the price weighted by volume, if known.
    """

    sym: str
    start: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float | None
    source: Source

    @property
    def end(self) -> int:
        """The first epoch millisecond after the bar."""
        return self.start + MINUTE_MS

    @property
    def day(self) -> int:
        """Days since the epoch, UTC."""
        return self.start // (DAY_MINUTES * MINUTE_MS)

    @property
    def minute(self) -> int:
        """The minute within its day, 0 to 1439."""
        return self.start // MINUTE_MS % DAY_MINUTES

    def fields(self) -> dict[str, str]:
        """Leave out an unknown `vwap`."""
        numbers = {name: getattr(self, name) for name in ("open", "high", "low", "close", "volume", "vwap")}
        return {
            "sym": self.sym,
            **{name: _format_number(number) for name, number in numbers.items() if number is not None},
            "start": str(self.start),
            "end": str(self.end),
            "source": self.source,
        }


def parse_stream_bar(event: Mapping[str, Any], source: Source) -> MinuteBar | None:
    """Return the bar in an `AM` event of the WebSocket API; None if it has no valid bar."""
    return _make_bar(event.get("sym"), event.get("s"), event, source)


def parse_rest_bar(sym: str, result: Mapping[str, Any]) -> MinuteBar | None:
    """Return the bar in one of the `results` of the REST API; None if it has no valid bar."""
    return _make_bar(sym, result.get("t"), result, "rest")


def is_plausible(bar: MinuteBar, now_ms: float, max_age_ms: float) -> bool:
    """Return True if the bar began at most `max_age_ms` ago and does not end in the future."""
    return now_ms - max_age_ms <= bar.start and bar.end <= now_ms + MAX_AHEAD_MS


def _make_bar(sym: Any, start: Any, values: Mapping[str, Any], source: Source) -> MinuteBar | None:
    """Return the bar with the prices and volume in `values`, or None if any of these is invalid."""
    prices = [_parse_number(values.get(name)) for name in "ohlcv"]
    if not isinstance(sym, str) or not SYMBOL.fullmatch(sym) or None in prices:
        return None
    if not isinstance(start, int) or not 0 < start < 1 << 48 or start % MINUTE_MS:
        return None
    first, high, low, close, volume = (price or 0.0 for price in prices)
    return MinuteBar(sym, start, first, high, low, close, volume, _parse_number(values.get("vw")), source)


def _parse_number(value: Any) -> float | None:
    """Return a finite number from 0 to 1e18 as a float; None for anything else, such as a bool."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e18:
        return None
    return float(value) if isfinite(value) else None


def _format_number(number: float) -> str:
    return str(int(number)) if number == int(number) else repr(number)
