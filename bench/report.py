"""Make the tables and plots of docs/performance.md from results. Pure."""

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final, NamedTuple

from bench.figures import Figure, Pair, Result, Spread, spread_of

BEGIN: Final = "<!-- figures: written by make bench -->"
END: Final = "<!-- end of the figures -->"
HEAD: Final = (
    "| what | unit | the limit | measured: min, median, max | times the limit: min, median, max | goal |\n"
    "| --- | --- | --- | --- | --- | --- |"
)
LABEL_PX: Final = 330
PLOT_PX: Final = 400
ROW_PX: Final = 22
STYLE: Final = (
    "text{font:12px sans-serif;fill:#24292f}line{stroke:#8c959f}.range{stroke:#0969da;stroke-width:3}"
    "circle{fill:#0969da}.limit{stroke:#1a7f37;stroke-width:2}.grid{stroke-dasharray:2 4}"
    "@media(prefers-color-scheme:dark){text{fill:#d0d7de}}"
)


class Row(NamedTuple):
    """A figure with all of its repeats, and the name of its bench."""

    bench: str
    figure: Figure
    pairs: Sequence[Pair]


def make_rows(benches: Mapping[str, Mapping[str, Figure]], results: Mapping[str, Result]) -> Iterator[Row]:
    """Yield the figures that were measured, in the order of the benches."""
    for bench, figures in benches.items():
        for name, figure in figures.items():
            if bench in results and (pairs := results[bench].figures.get(name)):
                yield Row(bench, figure, pairs)


def format_number(value: float) -> str:
    """Return three digits, with commas between thousands: `0.0123`, `4.57`, `410,000`."""
    rounded = float(f"{value:.3g}")
    digits = max(0, 2 - math.floor(math.log10(abs(rounded)))) if rounded else 0
    return f"{rounded:,.{digits}f}"


def format_spread(spread: Spread) -> str:
    """Return one number if a single repeat was made, otherwise all three."""
    low, median, high = map(format_number, spread)
    return low if low == high else f"{low}, **{median}**, {high}"


def format_goal(row: Row) -> str:
    figure, sign = row.figure, "≥" if row.figure.is_rate else "≤"
    words = [f"{sign} {format_number(figure.goal)}"] if figure.goal is not None else []
    words += [f"≤ {figure.goal_ratio:g} times"] if figure.goal_ratio is not None else []
    if not words:
        return ""
    return f"{', '.join(words)}: {'met' if figure.is_met(row.pairs) else '**missed**'}"


def format_cells(row: Row) -> list[str]:
    """Return the cells of one line of a table."""
    limit = spread_of([pair.limit for pair in row.pairs]).median
    return [
        f"`{row.bench}`: {row.figure.text}",
        row.figure.unit,
        f"{row.figure.limit}: {format_number(limit)}",
        format_spread(spread_of([pair.value for pair in row.pairs])),
        format_spread(row.figure.spread(row.pairs)),
        format_goal(row),
    ]


def strip_marks(row: Row) -> list[str]:
    """Return the cells for a terminal, without the marks of Markdown."""
    return [cell.replace("*", "").replace("`", "") for cell in format_cells(row)]


def render_table(rows: Sequence[Row]) -> str:
    return "\n".join([HEAD, *(f"| {' | '.join(format_cells(row))} |" for row in rows)])


def render_plot(title: str, rows: Sequence[Row]) -> str:
    """Return an SVG: for each figure a line from its lowest to its highest ratio, and a dot at the median.

    The axis is logarithmic. A green line stands at 1, the limit.
    """
    spreads = [row.figure.spread(row.pairs) for row in rows]
    first = math.floor(math.log10(min(1.0, *(spread.low for spread in spreads))))
    last = max(first + 1, math.ceil(math.log10(max(1.0, *(spread.high for spread in spreads)))))

    def find_x(ratio: float) -> str:
        return f"{LABEL_PX + PLOT_PX * (math.log10(ratio) - first) / (last - first):.1f}"

    height = ROW_PX * (len(rows) + 2)
    parts = []
    for power in range(first, last + 1):
        x, kind = find_x(10.0**power), "limit" if power == 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{x}" x2="{x}" y1="{ROW_PX}" y2="{height - ROW_PX}"/>')
        parts.append(f'<text x="{x}" y="{height - 6}" text-anchor="middle">{10.0**power:g}</text>')
    for number, (row, spread) in enumerate(zip(rows, spreads, strict=True), 1):
        y, label = ROW_PX * number + ROW_PX // 2, escape(f"{row.bench}: {row.figure.text}")
        low, median, high = map(find_x, spread)
        parts.append(f'<text x="{LABEL_PX - 10}" y="{y + 4}" text-anchor="end">{label}</text>')
        parts.append(f'<line class="range" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle cx="{median}" cy="{y}" r="4"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LABEL_PX + PLOT_PX + 30}" height="{height}">'
        f'<style>{STYLE}</style><text x="{LABEL_PX}" y="15">{escape(title)}</text>{"".join(parts)}</svg>\n'
    )


def describe_origin(machine: Mapping[str, Any], results: Mapping[str, Result]) -> str:
    """Return a sentence with the machine, the commit and the day of the results."""
    commits = sorted({f"{result.commit} ({result.day})" for result in results.values()})
    words = ", ".join(f"{name} {value}" for name, value in machine.items())
    return f"Measured on: {words}. Commit: {', '.join(commits)}."


def replace_figures(page: str, figures: str) -> str:
    """Put new figures between the two markers of the page. Raise ValueError if it lacks one."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n\n{figures.strip()}\n\n{END}{after}"
