"""Draw tables on stdout, as wide as the terminal; foreign text in them can't control a terminal."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from marketswarm.text import escape_lines

PIPE_COLUMNS: Final = 4_000
"""The width of a table that goes into a pipe or a file, where nothing is to be wrapped or cut."""

T = TypeVar("T")


class _EscapingConsole(Console):
    """Render as rich does, and escape control characters in the text."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(escape_lines(segment.text), segment.style)


def make_console() -> Console:
    wide = not sys.stdout.isatty() and not os.environ.get("COLUMNS")
    return _EscapingConsole(
        highlight=False, markup=False, emoji=False, soft_wrap=False, width=PIPE_COLUMNS if wide else None
    )


def make_table(*heads: str, folded: Sequence[str] = ()) -> Table:
    """Return a table without lines: columns that keep their width, then those whose cells are `folded`."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in heads:
        table.add_column(head, no_wrap=True)
    for head in folded:
        table.add_column(head, overflow="fold")
    return table


def print_drawing(what: RenderableType) -> None:
    """Print a renderable of the rich library; lines end where their text ends."""
    console = make_console()
    if console.is_terminal:
        console.print(what)
        return
    with console.capture() as captured:
        console.print(what)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
    sys.stdout.flush()


@contextlib.contextmanager
def open_screen(
    draw: Callable[[T], RenderableType], print_one: Callable[[T], None], *, as_json: bool
) -> Iterator[Callable[[T], None]]:
    """Yield the function that shows a state: `draw` in place on a terminal, otherwise `print_one`."""
    console = make_console()
    if as_json or not console.is_terminal:
        yield print_one
        return
    from rich.live import Live  # noqa: PLC0415 - it takes a while, and most commands show one table

    with Live(console=console, auto_refresh=False, screen=True) as live:
        yield lambda state: live.update(draw(state), refresh=True)
