"""Implement `marketswarm token create`, `list` and `revoke`: who may use the board's API, and for what."""

import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from marketswarm.bus import Bus, BusError
from marketswarm.cli import event_loop, output, tables
from marketswarm.cli.event_text import format_moment
from marketswarm.cli.fleet_view import open_fleet
from marketswarm.cli.options import DATA, By, Data, Json, author_name, parse_duration, suggest_command
from marketswarm.exit import Code, Exit
from marketswarm.operator.token import Scope, Token
from marketswarm.operator_link.tokens import (
    MAX_TOKENS,
    create_token,
    read_tokens,
    revoke_token,
    write_token,
)
from marketswarm.text import escape_text
from marketswarm.truth import SYSTEM

T = TypeVar("T")

_MAX_SEC = 10 * 366 * 86_400.0


def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for: deploy, wall, grafana.")],
    *,
    scopes: Annotated[
        list[Scope] | None,
        typer.Option("--scope", help="What it allows; repeatable. By default read.", show_default=False),
    ] = None,
    for_sec: Annotated[
        float | None,
        typer.Option("--for", parser=parse_duration, metavar="90d", help="For how long; without it, always."),
    ] = None,
    by: By = None,
    data: Data = DATA,
) -> None:
    """Make a token for the board's API, and print it: once, since only its hash is kept.

    Its text is the one line on stdout. Send it as `Authorization: Bearer TOKEN`.
    """
    if not name.strip() or not name.isprintable():
        raise typer.BadParameter("a name has 1 to 200 letters", param_hint="NAME")
    if for_sec is not None and not 0 < for_sec <= _MAX_SEC:
        raise typer.BadParameter("--for: more than nothing, and at most ten years")
    now = time.time()
    try:
        token, text = create_token(
            name.strip(), scopes or [Scope.READ], author=author_name(by), now=now, for_sec=for_sec
        )
    except ValidationError:
        raise typer.BadParameter("a name has 1 to 200 letters", param_hint="NAME") from None
    if not event_loop.run(_ask_system_bus(data, lambda bus: write_token(bus, token))):
        known = suggest_command("token list", data)
        raise Exit(Code.CONFIGURATION, f"there are {MAX_TOKENS} tokens already: revoke some, {known}")
    output.print_line(str(text))
    end = "" if token.expires_at is None else f" until {format_moment(token.expires_at, now)}"
    sys.stderr.write(
        f"token {token.id} allows {', '.join(token.scopes)}{end}. Keep it: it is not shown again.\n"
    )


def list_(as_json: Json = False, data: Data = DATA) -> None:
    """Show the tokens of the board's API: what each is for, and what it allows."""
    tokens, now = event_loop.run(_ask_system_bus(data, read_tokens)), time.time()
    if as_json:
        output.print_json([{**_public_fields(each), "expired": each.expired(now)} for each in tokens])
    elif tokens:
        tables.print_drawing(_draw_table(tokens, now))
    else:
        output.print_line("there is no token")


def revoke(
    ident: Annotated[str, typer.Argument(metavar="ID", help="Which, as `marketswarm token list` shows it.")],
    data: Data = DATA,
) -> None:
    """Revoke a token: the board refuses it from now on."""
    if not event_loop.run(_ask_system_bus(data, lambda bus: revoke_token(bus, ident))):
        raise Exit(
            Code.CONFIGURATION,
            f"no token has the id {escape_text(ident)}; {suggest_command('token list', data)} shows them",
        )
    output.print_line(f"token {escape_text(ident)} is revoked")


async def _ask_system_bus(data: Path, request: Callable[[Bus], Awaitable[T]]) -> T:
    """Return the result of a request to the bus that keeps the tokens.

    Raises Exit, code 3, if it does not answer.
    """
    async with open_fleet(data) as fleet:
        bus = fleet.bus(SYSTEM)
        try:
            return await request(bus)
        except BusError as error:
            raise Exit(
                Code.NO_BUS, f"bus {bus.name} at {bus.where}, which keeps the tokens: {error.reason}"
            ) from None


def _public_fields(token: Token) -> dict[str, Any]:
    """Return the fields of a token that may be shown: all but the hash."""
    return {each.name: getattr(token, each.name) for each in fields(token) if each.name != "sha256"}


def _draw_table(tokens: Sequence[Token], now: float) -> Table:
    """Return the table of tokens."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("id", "scopes", "until"):
        table.add_column(head, no_wrap=True)
    for head in ("for", "by"):
        table.add_column(head, overflow="fold")
    for each in tokens:
        expired = each.expired(now)
        until = "always" if each.expires_at is None else format_moment(each.expires_at, now)
        table.add_row(
            each.id,
            ", ".join(each.scopes),
            Text("over" if expired else until, style="dim" if expired else ""),
            escape_text(each.name),
            escape_text(each.author),
        )
    return table
