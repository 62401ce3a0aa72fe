"""Draw the charts of a report as SVG: lines, areas and the marks of fills, without any script. Pure."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, isfinite, log10
from typing import Final

WIDTH: Final = 960
HEIGHT: Final = 260
LEFT: Final = 76
RIGHT: Final = 12
TOP: Final = 10
BOTTOM: Final = 26
MAX_MARKS: Final = 2000
"""The most marks of one chart."""
_LABELS: Final = 6
_STEPS: Final = (1, 2, 2.5, 5, 10)
_DAY_LENGTH: Final = len("2026-01-05")


@dataclass(frozen=True, slots=True)
class ChartLine:
    """Hold a series of a chart: its name, its class in the style sheet, and a value for each time."""

    name: str
    style: str
    values: Sequence[float]
    is_area: bool = False


@dataclass(frozen=True, slots=True)
class FillMark:
    """Hold the mark of a fill: `at` is its time, `text` is shown where a pointer rests on it."""

    at: str
    value: float
    is_buy: bool
    text: str


@dataclass(frozen=True, slots=True)
class _Scale:
    """Place values in the picture: `low` is at the bottom, `high` at the top."""

    low: float
    high: float
    count: int

    def x(self, place: float) -> float:
        span = WIDTH - LEFT - RIGHT
        return LEFT + (span * place / (self.count - 1) if self.count > 1 else span / 2)

    def y(self, value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (self.high - value) / (self.high - self.low)


def draw_chart(
    title: str,
    times: Sequence[str],
    lines: Sequence[ChartLine],
    marks: Sequence[FillMark] = (),
    unit: str = "",
) -> str:
    """Return a chart as SVG, with a legend if it has several lines.

    Args:
        title: what it shows, for those who can't see it.
        times: of the values, ascending texts of times.
        unit: stands behind the values on the axis.
    """
    values = [each for line in lines for each in line.values if isfinite(each)]
    values += [mark.value for mark in marks[:MAX_MARKS]]
    if not times or not values:
        return ""
    low, high = min(values), max(values)
    if any(line.is_area for line in lines):
        low, high = min(low, 0.0), max(high, 0.0)
    ticks = list_ticks(low, high)
    scale = _Scale(min(low, ticks[0]), max(high, ticks[-1]), len(times))
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        *_draw_grid(scale, ticks, unit),
        *_draw_times(scale, times),
        *(_draw_line(scale, line) for line in lines),
        *_draw_marks(scale, times, marks[:MAX_MARKS]),
        "</svg>",
    ]
    return "".join(parts)


def list_ticks(low: float, high: float) -> list[float]:
    """Return round values of an axis, the first at or below `low`, the last at or above `high`."""
    span = high - low or abs(high) or 1.0
    raw = span / _LABELS
    power = 10.0 ** floor(log10(raw))
    step = next(each * power for each in _STEPS if each * power >= raw)
    first, last = floor(low / step), -floor(-high / step)
    if first == last:
        last += 1
    return [place * step for place in range(first, last + 1)]


def _draw_grid(scale: _Scale, ticks: Sequence[float], unit: str) -> Iterator[str]:
    decimals = max(0, -floor(log10(ticks[1] - ticks[0]) + 1e-9))
    decimals += any(abs(round(tick, decimals) - tick) > 1e-9 * (abs(tick) + 1) for tick in ticks)
    for tick in ticks:
        y = scale.y(tick)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        text = f"{tick:,.{decimals}f}{unit}"
        yield f'<text class="axis" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>'


def _draw_times(scale: _Scale, times: Sequence[str]) -> Iterator[str]:
    is_short = times[0][:_DAY_LENGTH] == times[-1][:_DAY_LENGTH]
    count = min(_LABELS, len(times))
    for number in range(count):
        place = round(number * (len(times) - 1) / max(1, count - 1))
        text = times[place][_DAY_LENGTH + 1 : _DAY_LENGTH + 6] if is_short else times[place][:_DAY_LENGTH]
        anchor = "start" if number == 0 else "end" if number == count - 1 else "middle"
        where = f'x="{scale.x(place):.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}"'
        yield f'<text class="axis" {where}>{escape(text)}</text>'


def _draw_line(scale: _Scale, line: ChartLine) -> str:
    points = [
        f"{scale.x(place):.1f},{scale.y(value):.1f}"
        for place, value in enumerate(line.values)
        if isfinite(value)
    ]
    if line.is_area and points:
        first, last = points[0].split(",")[0], points[-1].split(",")[0]
        zero = f"{scale.y(0.0):.1f}"
        corners = " ".join([f"{first},{zero}", *points, f"{last},{zero}"])
        return f'<polygon class="area {line.style}" points="{corners}"/>'
    return f'<polyline class="line {line.style}" points="{" ".join(points)}"/>'


def _draw_marks(scale: _Scale, times: Sequence[str], marks: Iterable[FillMark]) -> Iterator[str]:
    """Yield a triangle for each fill: its tip, up for a purchase, is at the price."""
    for mark in marks:
        x = scale.x(min(bisect_right(times, mark.at), len(times) - 1))
        y = scale.y(mark.value)
        base = y + 9 if mark.is_buy else y - 9
        corners = f"{x:.1f},{y:.1f} {x - 5:.1f},{base:.1f} {x + 5:.1f},{base:.1f}"
        style = "buy" if mark.is_buy else "sell"
        title = f"<title>{escape(mark.text)}</title>"
        yield f'<polygon class="mark {style}" points="{corners}">{title}</polygon>'
