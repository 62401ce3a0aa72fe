"""Show people how far the gate is, and what failed: a bar or log lines on stderr, a table on stdout."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from marketswarm import log as logs
from marketswarm.text import escape_text

LOG_EVERY_SEC: Final = 3.0
_PIPE_COLUMNS: Final = 1_000

log = logs.get("sources")


@dataclass(frozen=True, slots=True)
class GateFailure:
    """Hold a series that is missing or not fresh, and why.

    `reason` is what its sources answered, which is foreign text. Without a series that is `critical` the gate
    stays closed. The state of the gate on the bus has these fields, as they are named here.
    """

    series: str
    source: str
    status: str
    reason: str
    critical: bool

    def describe(self) -> str:
        """Return the series and why it is missing, as `SPY:bars:1m late: yahoo limited (429)`."""
        return f"{self.series} {self.status}{self.reason and f': {self.reason}'}"


@contextlib.contextmanager
def show_progress(total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes how many series are done.

    It draws a bar if stderr is a terminal. Else it logs `gate.loading` every few seconds, so that the log of
    a fleet shows progress, too.
    """
    if not sys.stderr.isatty():
        logged_at = time.monotonic()

        def log_progress(done: int) -> None:
            nonlocal logged_at
            if time.monotonic() >= logged_at + LOG_EVERY_SEC:
                logged_at = time.monotonic()
                log.info("gate.loading", done=done, total=total)

        yield log_progress
        return
    columns = (TextColumn("loading the market"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("series", total=total)
        yield lambda done: progress.update(task, completed=done)


def print_failures(failures: Sequence[GateFailure]) -> None:
    """Print a table of the series that are not there or not fresh."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("series", "is", "why", ""):
        table.add_column(head, overflow="fold")
    for failure in failures:
        words = (failure.series, failure.status, failure.reason, "critical" if failure.critical else "")
        table.add_row(*map(escape_text, words))
    width = None if sys.stdout.isatty() else _PIPE_COLUMNS
    console = Console(highlight=False, markup=False, emoji=False, width=width)
    with console.capture() as captured:
        console.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
    sys.stdout.flush()
