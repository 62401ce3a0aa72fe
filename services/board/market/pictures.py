"""Draw sparklines and format numbers of the market for its pages. Pure."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final
from urllib.parse import quote

from markupsafe import Markup, escape

from services.board.fleet.words import NONE, format_age, format_iso
from services.board.market.rates import Measure
from services.market.decimals import find_precision, subtract_prices
from services.tables.adjusted_bars import find_row_day

WIDTH: Final = 240
HEIGHT: Final = 56
_EDGE: Final = 3
CURVE_WIDTH: Final = 640
CURVE_HEIGHT: Final = 180
CURVE_EDGE: Final = 8
_BREAK: Final = 4.0  # A step of time that is so many times the usual one breaks the line
OLD_SEC: Final = 172_800  # from this age on the time itself says more than the age
Point = tuple[int, float]


def trace_sparkline(points: Sequence[Point]) -> tuple[str, str] | None:
    """Return points as paths in a picture of WIDTH by HEIGHT: a line, and the area below it.

    They are in the order of their times. Return None for less than two.

    Points stand side by side as the bars of a chart do. A step that is far longer than the usual one, such as
    a night or a gap, breaks the line, so that no price is shown where there was none.
    """
    if len(points) < 2:
        return None
    values = [value for _, value in points]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    steps = sorted(after[0] - before[0] for before, after in pairwise(points))
    longest = _BREAK * steps[len(steps) // 2]
    pieces: list[list[tuple[float, float]]] = [[]]
    for number, (at, value) in enumerate(points):
        if number and at - points[number - 1][0] > longest:
            pieces.append([])
        x = round(WIDTH * number / (len(points) - 1), 1)
        y = round(HEIGHT - _EDGE - (HEIGHT - 2 * _EDGE) * (value - low) / span, 1)
        pieces[-1].append((x, y))
    line = "".join("M" + "L".join(f"{x:g} {y:g}" for x, y in piece) for piece in pieces)
    area = "".join(
        f"M{piece[0][0]:g} {HEIGHT}L"
        + "L".join(f"{x:g} {y:g}" for x, y in piece)
        + f"L{piece[-1][0]:g} {HEIGHT}Z"
        for piece in pieces
    )
    return line, area


def draw_sparkline(points: Sequence[Point], change: float | None = None) -> Markup:
    """Return the picture of points, in the colour of the change; nothing for less than two.

    The picture is decoration: the numbers beside it say the same in words.
    """
    traced = trace_sparkline(points)
    if traced is None:
        return Markup("")
    (line, area), direction = traced, find_direction(change)
    return Markup(  # noqa: S704 - made of numbers
        f'<svg class="spark {direction}" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none"'
        ' aria-hidden="true">'
        f'<path class="a" d="{area}"/><path class="l" d="{line}"/></svg>'
    )


def draw_curve(yields: Sequence[Measure]) -> Markup:
    """Return a picture of a yield curve: now, a month and a year ago; nothing for less than two maturities.

    Maturities stand side by side, since those of months would stick together on a scale of years. The table
    below the picture has the same numbers.
    """
    lines: list[tuple[str, list[float] | list[float | None]]] = [
        ("now", [one.value for one in yields]),
        ("month", [one.month_ago for one in yields]),
        ("year", [one.year_ago for one in yields]),
    ]
    known = [value for _, values in lines for value in values if value is not None]
    if len(yields) < 2:
        return Markup("")
    low, span = min(known), (max(known) - min(known)) or 1.0
    paths = []
    for name, values in lines:
        places = [
            (CURVE_EDGE + (CURVE_WIDTH - 2 * CURVE_EDGE) * number / (len(values) - 1),
             CURVE_EDGE + (CURVE_HEIGHT - 2 * CURVE_EDGE) * (1 - (value - low) / span))
            for number, value in enumerate(values)
            if value is not None
        ]  # fmt: skip
        if len(places) > 1:
            line = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
            paths.append(f'<path class="{name}" d="M{line}"/>')
    return Markup(  # noqa: S704 - made of numbers
        f'<svg class="curve" viewBox="0 0 {CURVE_WIDTH} {CURVE_HEIGHT}" preserveAspectRatio="none"'
        f' aria-hidden="true">{"".join(paths)}</svg><p class="curve-key"><i class="now"></i> now'
        ' <i class="month"></i> a month ago <i class="year"></i> a year ago</p>'
    )


def find_direction(change: float | None) -> str:
    if not change:
        return "flat"
    return "rise" if change > 0 else "fall"


def format_price(price: float | None, decimals: int | None = None, like: float | None = None) -> str:
    """Return a price with the decimals of its symbol, at least two: `5,321.20`, `149.613`.

    If these are not known, its size decides: a price of 1 to 100 has two to four decimals, a smaller one six
    digits. `like` is a price whose size decides, for a difference.
    """
    if price is None:
        return NONE
    if decimals is not None:
        return f"{price:,.{max(2, decimals)}f}"
    size = abs(price if like is None else like)
    if size >= 100 or size == 0:
        return f"{price:,.2f}"
    if size >= 1:
        return _trim(f"{price:,.4f}")
    text = f"{price:.6g}"
    return text if "e" not in text else _trim(f"{price:.10f}")


def _trim(text: str) -> str:
    """Return a number without zeros at its end beyond two decimals."""
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals[:2]}{decimals[2:].rstrip('0')}"


def format_measure(value: float | None, decimals: int) -> str:
    """Return a value of an economic series with its own decimals: `4.20`, `190,000`."""
    return NONE if value is None else f"{value:,.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def format_change(change: float | None, price: float | None = None, decimals: int | None = None) -> str:
    """Return a change with its sign, with at least the decimals of the price: `+0.0060` beside `1.3849`.

    `decimals` are those of the symbol, None if they are not known.
    """
    if change is None:
        return NONE
    sign = "+" if change > 0 else "\N{MINUS SIGN}" if change < 0 else ""
    text = format_price(abs(change), decimals, price)
    lacking = _count_decimals(format_price(price, decimals)) - _count_decimals(text)
    return sign + text + "0" * lacking


def _count_decimals(text: str) -> int:
    return len(text.partition(".")[2])


def format_recency(at_ms: int | None, now: float) -> str:
    """Return how long before `now` (epoch seconds) something was, or its time in UTC if that is days ago."""
    if at_ms is None:
        return NONE
    age_sec = now - at_ms / 1000
    if age_sec < OLD_SEC:
        return f"{format_age(age_sec)} ago"
    iso = format_iso(at_ms / 1000)
    return f"{iso[:10]} {iso[11:16]} UTC".removesuffix(" 00:00 UTC")


def write_recency(at_ms: int | None, now: float) -> Markup:
    """Return what `format_recency` does; a script lets an age grow."""
    text = format_recency(at_ms, now)
    if at_ms is None or now - at_ms / 1000 >= OLD_SEC:
        return escape(text)
    return Markup('<span data-since="{}" data-after=" ago">{}</span>').format(at_ms / 1000, text)


def format_day(start_ms: int) -> str:
    """Return the date of a trading day, by the start of a bar of it, as the market calls it: `2013-10-09`."""
    return find_row_day(start_ms, None).isoformat()


def format_percent(percent: float | None) -> str:
    """Return a change in percent with its sign: `+1.25 %`."""
    if percent is None:
        return NONE
    rounded = round(percent, 2)
    sign = "+" if rounded > 0 else "\N{MINUS SIGN}" if rounded < 0 else ""
    return f"{sign}{abs(rounded):.2f} %"


def format_count(count: float | None) -> str:
    """Return a number in few characters: `950`, `12.3 k`, `4.5 M`."""
    if count is None:
        return NONE
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(count) >= size:
            return f"{count / (1e3 if unit == 'k' else size):.1f} {unit}"
    return f"{count:,.0f}"


def format_last_change(points: Sequence[Point]) -> str:
    """Return the change from the last but one of some points to the last one, in their decimals."""
    if len(points) < 2:
        return NONE
    (_, before), (_, last) = points[-2:]
    decimals = find_precision((before, last))
    return format_change(subtract_prices(last, before, decimals), last, decimals)


def format_limit(left: int, allowed: int, sec: int) -> str:
    """Return what is left of a limit: `187 of 200 a minute`."""
    span = {1: "a second", 60: "a minute", 3600: "an hour", 86_400: "a day", 30 * 86_400: "in 30 days"}
    return f"{left:,} of {allowed:,} {span.get(sec, f'in {sec} s')}"


def find_series_state(status: str) -> str:
    """Return the state, as the marks of the pages know them, of the status of a series."""
    return {"fresh": "up", "closed": "up", "failed": "down", "waiting": "unknown"}.get(status, "silent")


def format_correlation(value: float | None) -> str:
    """Return a correlation with two decimals; an empty text for None."""
    if value is None:
        return ""
    rounded = round(value, 2)
    return f"{abs(rounded):.2f}" if rounded >= 0 else f"\N{MINUS SIGN}{-rounded:.2f}"


def find_heat(value: float | None) -> str:
    """Return the class of a correlation's colour: of 11 steps from `h-5` to `h5`."""
    return "h-none" if value is None else f"h{max(-5, min(5, round(5 * value)))}"


def symbol_path(symbol: str) -> str:
    return "/market/symbol/" + quote(symbol, safe="/:=^.")


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "change": format_change,
    "correlation": format_correlation,
    "count": "{:,}".format,
    "count_short": format_count,
    "curve": draw_curve,
    "direction": find_direction,
    "heat": find_heat,
    "last_change": format_last_change,
    "limit": format_limit,
    "measure": format_measure,
    "percent": format_percent,
    "price": format_price,
    "recency": write_recency,
    "series_state": find_series_state,
    "spark": draw_sparkline,
    "symbol_path": symbol_path,
}
