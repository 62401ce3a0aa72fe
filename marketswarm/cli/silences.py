# ruff: noqa: PLC0415 - a command loads what it needs when it runs
"""`marketswarm silences`: who is not told of what, until when, and why."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marketswarm.cli.options import DATA, Data, Json

if TYPE_CHECKING:
    from rich.table import Table

    from marketswarm.operator import Silence


def silences(
    every: Annotated[bool, typer.Option("--all", help="Those that are over too, for a month.")] = False,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Show the silences that are in force, the one that ends first at the top."""
    import asyncio
    import time

    from marketswarm.cli import paper

    found, notes = asyncio.run(_read(data))
    now = time.time()
    shown = sorted((each for each in found if every or not each.over(now)), key=lambda each: each.ends_at)
    if as_json:
        import orjson

        paper.raw(orjson.dumps([_object(each, now) for each in shown]))
        return
    if shown:
        paper.console().print(_table(shown, now))
    else:
        paper.line("no silence is in force")
    for note in notes:
        paper.line(note, "33")


def on(silence: "Silence") -> str:
    """What a silence is on, as it was said: `rss_*, tag ingest`."""
    from marketswarm.text import escape_text

    return escape_text(", ".join((*silence.services, *(f"tag {tag}" for tag in silence.tags))))


async def _read(data: Path) -> tuple[list["Silence"], list[str]]:
    """The silences, and what is to be said of buses that did not answer."""
    from marketswarm.cli import held
    from marketswarm.cli.sight import sight

    async with sight(data) as fleet:
        there = await held.read(fleet.buses())
    return list(there.silences.values()), [
        f"bus {bus} does not answer: {why}" for bus, why in there.away.items()
    ]


def _object(silence: "Silence", now: float) -> dict[str, Any]:
    import orjson

    return {**orjson.loads(silence.encode()), "active": silence.active(now)}


def _table(shown: Sequence["Silence"], now: float) -> "Table":
    from rich.table import Table
    from rich.text import Text

    from marketswarm.cli.words import moment, seconds
    from marketswarm.text import escape_text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("id", "until", "left"):
        table.add_column(head, no_wrap=True)
    for head in ("on", "by", "why"):
        table.add_column(head, overflow="fold")
    for each in shown:
        left = "over" if each.over(now) else seconds(each.ends_at - now)
        table.add_row(
            each.id,
            moment(each.ends_at, now),
            Text(left, style="dim" if each.over(now) else ""),
            on(each),
            escape_text(each.author),
            escape_text(each.reason),
        )
    return table
