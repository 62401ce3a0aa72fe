"""One minute of one symbol, however it came: from the stream, by REST, out of a recording. Pure.

Whatever the other side says is hostile: what is no bar is `None`, and never an error.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final, Literal

MINUTE_MS: Final = 60_000
DAY_MINUTES: Final = 1440
AHEAD_MS: Final = 2 * MINUTE_MS
"""How far a bar's end may lie ahead of our clock, which may be wrong; beyond that theirs is, or they lie."""

SYMBOL: Final = re.compile(r"[A-Za-z][A-Za-z0-9.:\-]{0,19}")
"""A ticker as the API writes it."""

Source = Literal["ws", "rest", "replay"]


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar. `start` and `end` are epoch milliseconds; `vwap` is the price weighted by volume, if told."""

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
        """The first millisecond that is no longer in it."""
        return self.start + MINUTE_MS

    @property
    def day(self) -> int:
        """Days since the epoch, UTC."""
        return self.start // (DAY_MINUTES * MINUTE_MS)

    @property
    def minute(self) -> int:
        """Which minute of its day."""
        return self.start // MINUTE_MS % DAY_MINUTES

    def fields(self) -> dict[str, str]:
        """The fields of the stream's entry; a `vwap` that nobody told is left out."""
        numbers = {name: getattr(self, name) for name in ("open", "high", "low", "close", "volume", "vwap")}
        return {
            "sym": self.sym,
            **{name: _written(number) for name, number in numbers.items() if number is not None},
            "start": str(self.start),
            "end": str(self.end),
            "source": self.source,
        }


def from_stream(event: Mapping[str, Any], source: Source) -> Bar | None:
    """The bar that an `AM` event of the WebSocket tells."""
    return _bar(event.get("sym"), event.get("s"), event, source)


def from_aggregate(sym: str, found: Mapping[str, Any]) -> Bar | None:
    """The bar that one of the `results` of the REST aggregates tells."""
    return _bar(sym, found.get("t"), found, "rest")


def plausible(bar: Bar, now_ms: float, age_ms: float) -> bool:
    """Whether it can be one of now: begun at most `age_ms` ago, and not still to come."""
    return now_ms - age_ms <= bar.start and bar.end <= now_ms + AHEAD_MS


def _bar(sym: Any, start: Any, said: Mapping[str, Any], source: Source) -> Bar | None:
    prices = [_number(said.get(name)) for name in "ohlcv"]
    if not isinstance(sym, str) or not SYMBOL.fullmatch(sym) or None in prices:
        return None
    if not isinstance(start, int) or not 0 < start < 1 << 48 or start % MINUTE_MS:
        return None
    first, high, low, close, volume = (price or 0.0 for price in prices)
    return Bar(sym, start, first, high, low, close, volume, _number(said.get("vw")), source)


def _number(value: Any) -> float | None:
    """A finite number that is not below zero; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e18:
        return None
    return float(value) if isfinite(value) else None


def _written(number: float) -> str:
    return str(int(number)) if number == int(number) else repr(number)
