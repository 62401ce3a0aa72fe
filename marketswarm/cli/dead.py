# ruff: noqa: PLC0415 - a command loads what it needs when it runs
"""`marketswarm dead` and `resend`: what could not be delivered, and once more with it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marketswarm.cli.options import DATA, WITHIN_SEC, By, Data, Json, Within, person

if TYPE_CHECKING:
    from rich.table import Table

    from marketswarm.cli.undelivered import Undelivered


def dead(as_json: Json = False, data: Data = DATA) -> None:
    """Show the messages that a channel did not take for good, and why."""
    import asyncio
    import time

    from marketswarm.cli import paper

    found, notes = asyncio.run(_read(data))
    if as_json:
        import orjson

        paper.raw(orjson.dumps(found))
        return
    if found:
        paper.console().print(_table(found, time.time()))
        paper.line("`marketswarm resend ID` sends one again, `marketswarm resend --all` all of them")
    else:
        paper.line("everything was delivered")
    for note in notes:
        paper.line(note, "33")


def resend(
    ident: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Which, as `marketswarm dead` shows it.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    by: By = None,
    within: Within = WITHIN_SEC,
    data: Data = DATA,
) -> None:
    """Send again what could not be delivered, under the same id, over the channel that did not take it."""
    import asyncio

    from marketswarm.cli import paper
    from marketswarm.cli.asking import ask, made
    from marketswarm.operator import ALL, Do

    if (ident is None) is not every:
        raise typer.BadParameter("which? Say an id of `marketswarm dead`, or --all")
    asyncio.run(ask(made(Do.RESEND, ident or ALL, person(by)), within, data, paper.line))


async def _read(data: Path) -> tuple[list["Undelivered"], list[str]]:
    from marketswarm.cli.sight import sight
    from marketswarm.cli.undelivered import undelivered

    async with sight(data) as fleet:
        found, away = await undelivered(fleet.buses())
    return found, [f"bus {bus} does not answer: {why}" for bus, why in away.items()]


def _table(found: Sequence["Undelivered"], now: float) -> "Table":
    from rich.table import Table

    from marketswarm.cli.words import moment
    from marketswarm.text import escape_text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("id", "channel", "since"):
        table.add_column(head, overflow="fold")
    for head in ("why", "what"):
        table.add_column(head, overflow="fold")
    for each in found:
        since = "-" if each.ts is None else moment(each.ts, now)
        table.add_row(*map(escape_text, (each.id, each.channel, since, each.reason, each.title)))
    return table
