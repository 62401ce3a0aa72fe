"""Measure interest rates, credit spreads and sentiment by the economic series that there are. Pure.

A series has the name of the catalogue (`US.10Y`) or that of FRED (`DGS10`); the first one that has values
counts. A past value is the last one that was known a month or a year before the newest one of its series.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from services.board.fleet.words import format_iso
from services.market.decimals import find_precision, subtract_prices
from services.market.records import DAY_MS

MONTH_MS: Final = 30 * DAY_MS
YEAR_MS: Final = 365 * DAY_MS
VALUES: Final = 400
"""How many of the newest values of a series are read: more than a year of days."""
LAST: Final = 10  # by so many of its last values it is known in how many decimals a series is given
LONG: Final = ".LONG"
SHORT: Final = ".SHORT"
POSITIONS: Final = "US.COT."
"""The begin of the names of what speculators hold of futures, of which the catalogue has LONG and SHORT."""

SLOPES: Final = {"10y_2y": ("10 years", "2 years"), "10y_3m": ("10 years", "3 months")}
"""The slopes of the curve: by name the yield from which, and the one which is subtracted."""
HIGH_YIELD: Final = "High yield"
INVESTMENT_GRADE: Final = "Investment grade"


class MeasureSeries(NamedTuple):
    """Name a measure and the series that have it; `years` is the maturity of a yield."""

    label: str
    series: tuple[str, ...]
    years: float | None = None


YIELDS: Final = (
    MeasureSeries("1 month", ("US.1M", "DGS1MO"), 1 / 12),
    MeasureSeries("3 months", ("US.3M", "DGS3MO"), 0.25),
    MeasureSeries("6 months", ("US.6M", "DGS6MO"), 0.5),
    MeasureSeries("1 year", ("US.1Y", "DGS1"), 1.0),
    MeasureSeries("2 years", ("US.2Y", "DGS2"), 2.0),
    MeasureSeries("3 years", ("US.3Y", "DGS3"), 3.0),
    MeasureSeries("5 years", ("US.5Y", "DGS5"), 5.0),
    MeasureSeries("7 years", ("US.7Y", "DGS7"), 7.0),
    MeasureSeries("10 years", ("US.10Y", "DGS10"), 10.0),
    MeasureSeries("20 years", ("US.20Y", "DGS20"), 20.0),
    MeasureSeries("30 years", ("US.30Y", "DGS30"), 30.0),
)
CREDIT: Final = (
    MeasureSeries(HIGH_YIELD, ("US.HIGH_YIELD_SPREAD", "BAMLH0A0HYM2")),
    MeasureSeries(INVESTMENT_GRADE, ("US.CORPORATE_SPREAD", "BAMLC0A0CM")),
)
SENTIMENT: Final = (MeasureSeries("Consumers, University of Michigan", ("US.SENTIMENT", "UMCSENT")),)


class SeriesValue(NamedTuple):
    """Hold a value of a series at the begin of its period (epoch milliseconds)."""

    start: int
    value: float
    source: str = ""
    replay: bool = False


Values = Mapping[str, Sequence[SeriesValue]]
"""The values of each series, the oldest first."""


@dataclass(frozen=True, slots=True)
class Measure:
    """Hold the newest value of a series, its values a month and a year before, and its range of a year.

    `decimals` are those in which its last values are given.
    """

    label: str
    series: str
    day: str
    value: float
    month_ago: float | None
    year_ago: float | None
    low: float
    high: float
    source: str
    replay: bool
    years: float | None = None
    decimals: int = 2


def measure_all(wanted: Iterable[MeasureSeries], values: Values) -> tuple[Measure, ...]:
    """Return a measure for each of those that have values."""
    found = (_find_measure(one, values) for one in wanted)
    return tuple(each for each in found if each is not None)


def list_missing_series(wanted: Iterable[MeasureSeries], found: Iterable[Measure]) -> list[str]:
    """Return the names, as the catalogue has them, of the series without values."""
    known = {one.label for one in found}
    return [one.series[0] for one in wanted if one.label not in known]


def _find_measure(one: MeasureSeries, values: Values) -> Measure | None:
    name = next((name for name in one.series if values.get(name)), None)
    if name is None:
        return None
    some = values[name]
    last = some[-1]
    year = [each.value for each in some if each.start > last.start - YEAR_MS]
    return Measure(
        one.label,
        name,
        format_iso(last.start / 1000)[:10],
        last.value,
        _find_past(some, last.start - MONTH_MS),
        _find_past(some, last.start - YEAR_MS),
        min(year),
        max(year),
        last.source,
        last.replay,
        one.years,
        find_precision(each.value for each in some[-LAST:]),
    )


def _find_past(values: Sequence[SeriesValue], at_ms: int) -> float | None:
    """Return the last value at a time or before."""
    return next((one.value for one in reversed(values) if one.start <= at_ms), None)


def subtract_series(values: Values, series: str, less: str) -> Sequence[SeriesValue]:
    """Return the difference of two series at each time that both have."""
    other = {one.start: one for one in values.get(less, ())}
    return [
        SeriesValue(
            one.start,
            _subtract(one.value, other[one.start].value),
            " and ".join(dict.fromkeys((one.source, other[one.start].source))),
            one.replay or other[one.start].replay,
        )
        for one in values.get(series, ())
        if one.start in other
    ]


def _subtract(value: float, other: float) -> float:
    return subtract_prices(value, other, find_precision((value, other)))


def measure_slopes(curve: Sequence[Measure]) -> dict[str, float | None]:
    """Return each slope of the curve in percentage points; None unless both yields are of one day."""
    by_label = {one.label: one for one in curve}
    found: dict[str, float | None] = {}
    for name, (longer, shorter) in SLOPES.items():
        one, other = by_label.get(longer), by_label.get(shorter)
        is_known = one is not None and other is not None and one.day == other.day
        found[name] = _subtract(one.value, other.value) if is_known and one and other else None
    return found


def list_positions(series: Iterable[str]) -> list[tuple[str, str, str]]:
    """Return by market what speculators hold: a label, and the names of the series of both sides."""
    known = set(series)
    markets = sorted(
        name.removesuffix(LONG) for name in known if name.startswith(POSITIONS) and name.endswith(LONG)
    )
    return [
        (f"Net position of speculators, {market.removeprefix(POSITIONS)}", market + LONG, market + SHORT)
        for market in markets
        if market + SHORT in known
    ]
