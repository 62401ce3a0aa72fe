"""Show rows as a table as wide as the terminal, or as JSON; foreign text can't control a terminal."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from marketswarm.cli import output
from marketswarm.text import escape_lines, escape_text

PIPE_COLUMNS: Final = 4_000
"""The width of a table that goes into a pipe or a file, where nothing is to be wrapped or cut."""

REFRESH_SEC: Final = 1.0
"""How often what is shown live is read."""
STATUS_STYLES: Final = {"degraded": "yellow", "stopping": "yellow"}
"""The style of a status that a beat tells, if that is not `ok`."""
OVER: Final = Text("over", "dim")
"""The cell of something that is no longer valid."""

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


def show(
    rows: Sequence[T],
    columns: Mapping[str, Callable[[T], str | Text]],
    *,
    whole: Collection[str] = (),
    right: Collection[str] = (),
    as_json: bool = False,
    encode: Callable[[T], Any] = lambda row: row,
    empty: str = "",
    hint: str = "",
) -> None:
    """Print rows as a table, and a hint below it; or as a list in JSON, each row as `encode` returns it.

    Without rows, `empty` is printed in the place of the table, or the titles alone if there is no such text.

    Args:
        columns: by the title of each column, what its cell says of a row. Foreign text is escaped here.
        whole: columns that stay on one line; the cells of others are folded if they do not fit.
        right: columns whose cells stand at the right.
    """
    if as_json:
        output.print_json([encode(row) for row in rows])
    elif rows or not empty:
        table = make_table()
        for title in columns:
            no_wrap = title in whole
            side: JustifyMethod = "right" if title in right else "left"
            table.add_column(title, justify=side, no_wrap=no_wrap, overflow="ellipsis" if no_wrap else "fold")
        for row in rows:
            table.add_row(*(_escape_cell(find_cell(row)) for find_cell in columns.values()))
        print_drawing(table)
        output.print_lines([hint] if hint else [])
    else:
        output.print_line(empty)


def make_table() -> Table:
    """Return a table without lines, and without columns yet."""
    return Table(box=None, pad_edge=False, header_style="dim")


def _escape_cell(cell: str | Text) -> Text:
    return cell if isinstance(cell, Text) else Text(escape_text(cell))


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


async def show_again(
    read: Callable[[], Awaitable[T]],
    draw: Callable[[T], RenderableType],
    print_one: Callable[[T], None],
    *,
    as_json: bool,
) -> None:
    """Read a state and show it as `open_screen` does, again and again, until Ctrl-C."""
    with open_screen(draw, print_one, as_json=as_json) as show:
        while True:
            show(await read())
            await asyncio.sleep(REFRESH_SEC)
