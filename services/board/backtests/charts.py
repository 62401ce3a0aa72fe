"""Draw the equity of a backtest beside that of buy and hold. Pure."""

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from services.signals.report import ReportPoint

WIDTH: Final = 640
HEIGHT: Final = 180
_EDGE: Final = 8
_MAX_POINTS: Final = 640
"""The most points of a line: one for each unit of width."""


def draw_equity(points: Sequence[ReportPoint]) -> Markup:
    """Return the picture of both lines on one scale; nothing for less than two points."""
    if len(points) < 2:
        return Markup("")
    step = max(1, -(-len(points) // _MAX_POINTS))
    shown = [*points[:-1:step], points[-1]]
    lines = {
        "year": [float(one.buy_and_hold) for one in shown],
        "now": [float(one.equity) for one in shown],
    }
    every = [value for values in lines.values() for value in values]
    low, high = min(every), max(every)
    paths = "".join(
        f'<path class="{name}" d="M{_trace(values, low, (high - low) or 1.0)}"/>'
        for name, values in lines.items()
    )
    return Markup(  # noqa: S704 - numbers alone
        f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
        f'{paths}</svg><p class="curve-key"><i class="now"></i> equity <i class="year"></i> buy and hold</p>'
    )


def _trace(values: Sequence[float], low: float, span: float) -> str:
    width, height = (WIDTH - 2 * _EDGE) / (len(values) - 1), HEIGHT - 2 * _EDGE
    return "L".join(
        f"{_EDGE + place * width:.1f} {HEIGHT - _EDGE - height * (value - low) / span:.1f}"
        for place, value in enumerate(values)
    )
