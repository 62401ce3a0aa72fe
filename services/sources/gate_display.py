"""Show people how far the gate is, and what failed: a bar on a terminal, a table on stdout."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from marketswarm.text import escape_text

_PIPE_COLUMNS = 1_000


class FailedSeries(Protocol):
    """Is a series that the gate misses."""

    @property
    def series(self) -> str:
        """Return the name of the series."""
        ...

    @property
    def status(self) -> str:
        """Return in which state it is."""
        ...

    @property
    def reason(self) -> str:
        """Return what its sources came to; foreign text."""
        ...

    @property
    def is_critical(self) -> bool:
        """Return True if the gate stays closed without it."""
        ...


@contextlib.contextmanager
def show_progress(total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes how many series are done; it draws a bar if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _done: None
        return
    columns = (TextColumn("loading the market"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("series", total=total)
        yield lambda done: progress.update(task, completed=done)


def print_failures(failures: Sequence[FailedSeries]) -> None:
    """Print a table of the series that are not there or not fresh; critical ones first."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("series", "is", "why", ""):
        table.add_column(head, overflow="fold")
    for failure in sorted(failures, key=lambda each: not each.is_critical):
        words = (failure.series, failure.status, failure.reason, "critical" if failure.is_critical else "")
        table.add_row(*map(escape_text, words))
    width = None if sys.stdout.isatty() else _PIPE_COLUMNS
    console = Console(highlight=False, markup=False, emoji=False, width=width)
    with console.capture() as captured:
        console.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
    sys.stdout.flush()
