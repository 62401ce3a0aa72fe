"""Implement `marketswarm dead` and `resend`: show undelivered messages, and send them again."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.table import Table

from marketswarm.cli import event_loop, output, tables
from marketswarm.cli.data_folder import DATA, suggest_command
from marketswarm.cli.fleet_view import open_fleet
from marketswarm.cli.local_time import format_moment
from marketswarm.cli.notification_text import describe_delay
from marketswarm.cli.notifier import request_notifier
from marketswarm.cli.options import WITHIN_SEC, By, Data, Json, Within, author_name
from marketswarm.operator.dead_messages import UndeliveredMessage, read_dead_messages
from marketswarm.operator.requests import ALL, RequestKind
from marketswarm.status.notifications import (
    CHANNEL_REMEDY,
    Notifications,
    PendingDelivery,
    read_notifications,
)
from marketswarm.text import escape_text

_HEADS: Final = ("id", "channel", "since", "why", "what")


def dead(as_json: Json = False, data: Data = DATA) -> None:
    """Show the messages that a channel refused for good, and the messages that still wait for a channel.

    JSON has the first kind; the second is under `waiting` in `marketswarm status --json`.
    """
    messages, found, failed = event_loop.run(_read_from_fleet(data))
    pending = found.pending
    if as_json:
        output.print_json(messages)
        return
    now = time.time()
    if pending:
        output.print_line(f"{len(pending)} not delivered yet:")
        tables.print_drawing(_draw_pending(pending, now))
    if messages:
        if pending:
            output.print_line(f"\n{len(messages)} given up:")
        tables.print_drawing(_draw_dead(messages, now))
        one, every = suggest_command("resend ID", data), suggest_command("resend --all", data)
        output.print_line(f"{one} sends one again, {every} all of them")
    if found.channels is not None and not found.channels:
        output.print_line(f"no channel is open, so no message is sent: {CHANNEL_REMEDY}", output.YELLOW)
    elif not (messages or pending):
        output.print_line("everything was delivered")
    for bus, why in failed.items():
        output.print_line(f"bus {bus} does not answer: {why}", output.YELLOW)


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
    if (ident is None) is not every:
        raise typer.BadParameter("which? Say an id of `marketswarm dead`, or --all")
    request_notifier(RequestKind.RESEND, ident or ALL, author_name(by), within, data)


async def _read_from_fleet(
    data: Path,
) -> tuple[list[UndeliveredMessage], Notifications, dict[str, str]]:
    async with open_fleet(data) as fleet:
        messages, failed = await read_dead_messages(fleet.buses())
        return messages, await read_notifications(fleet.buses()), failed


def _draw_pending(pending: Sequence[PendingDelivery], now: float) -> Table:
    table = tables.make_table(folded=_HEADS)
    for each in pending:
        since, why = format_moment(each.ts, now), describe_delay(each, now)
        table.add_row(*map(escape_text, (each.id, each.channel, since, why, each.title)))
    return table


def _draw_dead(messages: Sequence[UndeliveredMessage], now: float) -> Table:
    table = tables.make_table(folded=_HEADS)
    for each in messages:
        since = "-" if each.ts is None else format_moment(each.ts, now)
        table.add_row(*map(escape_text, (each.id, each.channel, since, each.reason, each.title)))
    return table
