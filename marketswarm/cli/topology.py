# ruff: noqa: PLC0415 - a command loads what it needs when it runs
"""`marketswarm topology`: who runs and what flows between services, drawn; or as text for others to draw."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marketswarm.cli.options import DATA, Data, Json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from marketswarm.cli.topology_picture import Picture

_EVERY_SEC = 1.0


def topology(
    *,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Look again every second, until Ctrl-C.")
    ] = False,
    as_mermaid: Annotated[bool, typer.Option("--mermaid", help="The flow as a Mermaid flowchart.")] = False,
    as_dot: Annotated[bool, typer.Option("--dot", help="The flow as a digraph for Graphviz.")] = False,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="TRUTH", help="Draw a truth file alone; no server is asked."),
    ] = None,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Show who runs, which keys they write and read, how fast, who lags, and what is wrong with it."""
    import asyncio

    if sum((watch, as_mermaid, as_dot)) > 1 or as_json + as_mermaid + as_dot > 1:
        raise typer.BadParameter("--watch, --mermaid and --dot exclude each other, and --json the last two")
    write = _writer(as_json, as_mermaid, as_dot)
    if file is not None:
        from marketswarm.cli.topology_reading import drawn_from

        write(drawn_from(file))
    elif watch:
        asyncio.run(_watch(data, as_json, write))
    else:
        from marketswarm.cli.topology_reading import look

        write(asyncio.run(look(data)))


def _writer(as_json: bool, as_mermaid: bool, as_dot: bool) -> "Callable[[Picture], None]":
    """What puts a picture on stdout, in the form that is wanted."""

    def write(picture: "Picture") -> None:
        from marketswarm.cli import paper

        if as_json:
            import orjson

            paper.raw(orjson.dumps(picture))
        elif as_mermaid or as_dot:
            from marketswarm.cli.topology_graphs import dot, mermaid

            paper.line((mermaid if as_mermaid else dot)(picture))
        else:
            from marketswarm.cli.topology_drawing import drawn

            paper.drawing(drawn(picture))

    return write


async def _watch(data: Path, as_json: bool, write: "Callable[[Picture], None]") -> None:
    import asyncio

    with _screen(as_json, write) as show:
        while True:
            show(await _look_or_why_not(data))
            await asyncio.sleep(_EVERY_SEC)


async def _look_or_why_not(data: Path) -> "Picture":
    """As `look`; while there is nothing to see, an empty picture that says why."""
    from marketswarm.cli.topology_picture import Picture
    from marketswarm.cli.topology_reading import look
    from marketswarm.exit import Code, Exit

    try:
        return await look(data)
    except Exit as end:
        if end.code == Code.CONFIGURATION:
            raise
        return Picture(None, False, [], [], [], [end.message])


@contextlib.contextmanager
def _screen(as_json: bool, write: "Callable[[Picture], None]") -> "Iterator[Callable[[Picture], None]]":
    """Shows picture after picture: in one place on a terminal, one after the other elsewhere."""
    from marketswarm.cli import paper

    console = paper.console()
    if as_json or not console.is_terminal:
        yield write
        return
    from rich.live import Live

    from marketswarm.cli.topology_drawing import drawn

    with Live(console=console, auto_refresh=False, screen=True) as live:
        yield lambda picture: live.update(drawn(picture, worst_first=True), refresh=True)
