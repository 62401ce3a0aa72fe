"""Run benches, and write or compare what they measured."""

import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.figures import Bench, Result, Slowdown, decode_results, encode_results, find_slowdowns
from bench.report import describe_origin, make_rows, render_plot, render_table, replace_figures, strip_marks

JSON_FILE: Final = "performance.json"
PAGE: Final = "performance.md"

Results = Mapping[str, Result]
Benches = Mapping[str, Bench]


def run_bench(name: str, bench: Bench, repeats: int, scale: float, result: Result) -> bool:
    """Add repeats to a result. Print an error and return False if the bench could not measure."""
    for number in range(1, repeats + 1):
        print_line(f"== {name}, {number} of {repeats}")
        try:
            sample = bench.measure(scale)
            for figure, pair in sample.items():
                bench.figures[figure].ratio(pair)  # nothing was measured if there is none
            result.add(sample)
        except Exception:  # noqa: BLE001 - the others are measured all the same
            traceback.print_exc()
            print_line(f"== {name} could not measure")
            return False
    return True


def run_all(
    benches: Benches, repeats: Mapping[str, int], scale: float, origin: tuple[str, str]
) -> dict[str, Result | None]:
    """Run benches as often as `repeats` says; return None for one that could not measure.

    `origin` is the commit and the day.
    """
    found: dict[str, Result | None] = {}
    for name, count in repeats.items():
        result = Result(*origin)
        found[name] = result if run_bench(name, benches[name], count, scale, result) else None
        show(benches, {name: result})
    return found


def check_again(
    benches: Benches, before: Results, found: Mapping[str, Result | None], *, elsewhere: float | None
) -> list[Slowdown]:
    """Compare results with those before, and return what got slower; `elsewhere` as in `find_slowdowns`.

    A bench that looks slower runs as often again before that counts, so a moment in which the machine was
    busy with other work makes no slowdown.
    """
    slower: list[Slowdown] = []
    for name, result in found.items():
        if name not in before or result is None:
            continue
        figures = benches[name].figures
        suspects = list(find_slowdowns(name, figures, before[name], result, elsewhere=elsewhere))
        if suspects and run_bench(name, benches[name], benches[name].check_repeats, 1.0, result):
            suspects = list(find_slowdowns(name, figures, before[name], result, elsewhere=elsewhere))
        slower += suspects
    return slower


def load_results(docs: Path) -> tuple[dict[str, Any], dict[str, Result]]:
    """Return the committed machine and results; both empty if there are none."""
    path = docs / JSON_FILE
    return decode_results(json.loads(path.read_text("utf-8"))) if path.exists() else ({}, {})


def write_results(docs: Path, benches: Benches, machine: Mapping[str, Any], results: Results) -> None:
    """Write the JSON, the tables of the page, and a plot for each group."""
    (docs / JSON_FILE).write_text(json.dumps(encode_results(machine, results), indent=1) + "\n", "utf-8")
    parts = [describe_origin(machine, results)]
    groups: dict[str, dict[str, Any]] = {}
    for name, bench in benches.items():
        groups.setdefault(bench.group, {})[name] = bench.figures
    for number, (group, figures) in enumerate(groups.items(), 1):
        if rows := list(make_rows(figures, results)):
            plot = f"performance-{number}.svg"
            (docs / plot).write_text(render_plot(f"{group}: times the limit", rows), "utf-8")
            parts.append(f"### {group}\n\n![{group}]({plot})\n\n{render_table(rows)}")
    page = docs / PAGE
    page.write_text(replace_figures(page.read_text("utf-8"), "\n\n".join(parts)), "utf-8")


def show(benches: Benches, results: Results) -> None:
    table = Table("what", "unit", "the limit", "measured", "times the limit", "goal")
    rows = list(make_rows({name: bench.figures for name, bench in benches.items()}, results))
    for row in rows:
        table.add_row(*strip_marks(row))
    if rows:
        Console(width=None if sys.stdout.isatty() else 150).print(table)


def print_line(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def missing(found: Mapping[str, Result | None]) -> Sequence[str]:
    return [name for name, result in found.items() if result is None]
