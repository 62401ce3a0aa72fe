"""Describe the thirteen indicators: their parameters, what they read, and when they are warm. Pure.

docs/services/features.md says in words what each one is. The seed of an average is TA-Lib's: the plain mean
of its first values.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final

from services.bars.bar_columns import CLOSE, HIGH, LOW, VOLUME

_ROWS: Final = {"high": HIGH, "low": LOW, "close": CLOSE, "volume": VOLUME}


@dataclass(frozen=True, slots=True)
class Indicator:
    """Describe an indicator.

    Attributes:
        outputs: the names of its values, in the order in which TA-Lib returns them.
        function: TA-Lib's name of it; empty for what is summed here.
        rows: the rows of the table that it reads, in TA-Lib's order.
        pick: takes these rows out of those of one bar.
        warm_bars: how many bars it needs for its first value.
    """

    name: str
    outputs: tuple[str, ...]
    function: str
    rows: tuple[int, ...]
    options: Mapping[str, float]
    warm_bars: int
    pick: Callable[[Sequence[float]], Sequence[float]] = field(init=False, compare=False)
    needs_volume: bool = field(init=False)

    def __post_init__(self) -> None:
        """Prepare what every bar of every series asks for. The rows of an indicator stand side by side."""
        object.__setattr__(self, "pick", itemgetter(slice(self.rows[0], self.rows[-1] + 1)))
        object.__setattr__(self, "needs_volume", VOLUME in self.rows)


def _describe(outputs: str, function: str, inputs: str, warm_bars: int, **options: float) -> Indicator:
    """Return an indicator; its name is TA-Lib's in small letters."""
    rows = tuple(_ROWS[name] for name in inputs.split())
    return Indicator(function.lower(), tuple(outputs.split()), function, rows, options, warm_bars)


_LIST: Final = (
    _describe("sma_20", "SMA", "close", 20, timeperiod=20),
    _describe("ema_20", "EMA", "close", 20, timeperiod=20),
    _describe("rsi_14", "RSI", "close", 15, timeperiod=14),
    _describe(
        "macd macd_signal macd_hist", "MACD", "close", 34, fastperiod=12, slowperiod=26, signalperiod=9
    ),
    _describe("bb_upper bb_middle bb_lower", "BBANDS", "close", 20, timeperiod=20, nbdevup=2.0, nbdevdn=2.0),
    _describe("atr_14", "ATR", "high low close", 15, timeperiod=14),
    _describe(
        "stoch_k stoch_d", "STOCH", "high low close", 18, fastk_period=14, slowk_period=3, slowd_period=3
    ),
    _describe("adx_14", "ADX", "high low close", 28, timeperiod=14),
    _describe("cci_20", "CCI", "high low close", 20, timeperiod=20),
    _describe("obv", "OBV", "close volume", 1),
    _describe("mfi_14", "MFI", "high low close volume", 15, timeperiod=14),
    Indicator("vwap", ("vwap",), "", (HIGH, LOW, CLOSE, VOLUME), {}, 1),
    _describe("willr_14", "WILLR", "high low close", 14, timeperiod=14),
)

INDICATORS: Final[Mapping[str, Indicator]] = {entry.name: entry for entry in _LIST}
"""The thirteen indicators by the name that the truth gives them."""


def select_indicators(names: Collection[str]) -> tuple[Indicator, ...]:
    """Return the indicators of these names; raise ValueError if one is unknown, or none is named."""
    unknown = sorted(set(names) - INDICATORS.keys())
    if unknown or not names:
        raise ValueError(f"no indicator {unknown[0] if unknown else ''!r}; there are {', '.join(INDICATORS)}")
    return tuple(indicator for name, indicator in INDICATORS.items() if name in names)
