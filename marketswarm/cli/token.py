"""Implement `marketswarm token`: who may use the board's API or ping over HTTP, and for what."""

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
from marketswarm.cli.beat import print_unknown_service
from marketswarm.cli.bus_trouble import add_remedy
from marketswarm.cli.data_folder import DATA, suggest_command
from marketswarm.cli.fleet_view import open_fleet
from marketswarm.cli.local_time import format_moment
from marketswarm.cli.options import (
    By,
    Data,
    Json,
    author_name,
    complete_service,
    parse_duration,
    require_service_name,
)
from marketswarm.exit import Code, Exit
from marketswarm.operator.ping_keys import (
    MAX_PING_KEYS,
    PingKey,
    create_ping_key,
    read_ping_keys,
    revoke_ping_key,
    rotate_ping_key,
    wait_until_refused,
    write_ping_key,
)
from marketswarm.operator.tokens import (
    MAX_TOKENS,
    Scope,
    Token,
    create_token,
    read_tokens,
    replace_token,
    revoke_token,
    rotate_token,
    write_token,
)
from marketswarm.text import escape_text
from marketswarm.truth import SYSTEM, suggest_name

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
    ping: Annotated[
        str | None,
        typer.Option(
            "--ping",
            metavar="SVC",
            help="Make a UUID by which this service is pinged over HTTP.",
            show_default=False,
            autocompletion=complete_service,
        ),
    ] = None,
    ping_key: Annotated[
        bool, typer.Option("--ping-key", help="Make a key by which every service is pinged over HTTP.")
    ] = False,
    by: By = None,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Make a token for the board's API, or a key for pings, and print it: once, since only its hash is kept.

    Its text is the one line on stdout. JSON is the same as for `token list`, with the text as `secret`. Send
    a token as `Authorization: Bearer TOKEN`; a key is a part of the address: /ping/UUID, or /ping/KEY/SVC.
    """
    if (ping is not None) + ping_key + bool(scopes) > 1:
        raise typer.BadParameter("one of --scope, --ping and --ping-key")
    if not name.strip() or not name.isprintable():
        raise typer.BadParameter("a name has 1 to 200 letters", param_hint="NAME")
    if for_sec is not None and not 0 < for_sec <= _MAX_SEC:
        raise typer.BadParameter("--for: more than nothing, and at most ten years")
    if ping is not None:
        require_service_name(ping, "--ping")
    now, author = time.time(), author_name(by)
    try:
        if ping is not None or ping_key:
            key, secret = create_ping_key(name.strip(), ping, author=author, now=now, for_sec=for_sec)
            store_ping_key(key, data)
            if as_json:
                _print_json(key, secret, now)
            else:
                _print_ping_key(key, secret, now)
            if ping is not None:
                event_loop.run(_warn_of_unknown(ping, data))
            return
        allowed = scopes or [Scope.READ]
        token, text = create_token(name.strip(), allowed, author=author, now=now, for_sec=for_sec)
    except ValidationError:
        raise typer.BadParameter("a name has 1 to 200 letters", param_hint="NAME") from None
    _store(data, lambda bus: write_token(bus, token), f"{MAX_TOKENS} tokens")
    if as_json:
        _print_json(token, str(text), now)
        return
    output.print_line(str(text))
    end = "" if token.expires_at is None else f" until {format_moment(token.expires_at, now)}"
    sys.stderr.write(
        f"token {token.id} allows {', '.join(token.scopes)}{end}. Keep it: it is not shown again.\n"
    )


async def _warn_of_unknown(svc: str, data: Path) -> None:
    """Print that no truth names a service yet: its pings are answered by 404 until one does."""
    async with open_fleet(data) as fleet:
        truth = None if fleet.found is None else fleet.truth
        if truth is None or svc not in {watch.svc for watch in truth.watched()}:
            print_unknown_service(svc, truth)


def store_ping_key(key: PingKey, data: Path) -> None:
    """Store a new ping key on system-redis. Raises Exit if there are as many as there may be."""
    _store(data, lambda bus: write_ping_key(bus, key), f"{MAX_PING_KEYS} ping keys")


def _store(data: Path, write: Callable[[Bus], Awaitable[bool]], most: str) -> None:
    """Raise Exit if there are as many as there may be, `most`."""
    if not event_loop.run(_ask_system_bus(data, write)):
        known = suggest_command("token list", data)
        raise Exit(Code.CONFIGURATION, f"there are {most} already: revoke some, {known}")


def _print_ping_key(key: PingKey, secret: str, now: float) -> None:
    output.print_line(secret)
    end = "" if key.expires_at is None else f" until {format_moment(key.expires_at, now)}"
    what = "every service: /ping/KEY/SVC" if key.svc is None else f"{escape_text(key.svc)}: /ping/UUID"
    sys.stderr.write(f"ping key {key.id} is for {what}{end}. Keep it: it is not shown again.\n")


async def _read_all(bus: Bus) -> tuple[list[Token], list[PingKey]]:
    return await read_tokens(bus), await read_ping_keys(bus)


def list_(as_json: Json = False, data: Data = DATA) -> None:
    """Show the tokens of the board's API and the ping keys: what each is for, and what it allows."""
    (stored, keys), now = event_loop.run(_ask_system_bus(data, _read_all)), time.time()
    tokens: list[Token | PingKey] = [*stored, *keys]
    if as_json:
        output.print_json([_encode(each, now) for each in tokens])
    elif tokens:
        tables.print_drawing(_draw_table(tokens, now))
    else:
        output.print_line("there is no token")


def rotate(
    ident: Annotated[str, typer.Argument(metavar="ID", help="Which, as `marketswarm token list` shows it.")],
    data: Data = DATA,
) -> None:
    """Replace the secret of a token or a ping key, and print the new one: once. The old one is refused."""
    now = time.time()

    async def replace_secret(bus: Bus) -> tuple[Token, str] | tuple[PingKey, str] | None:
        tokens, keys = await _read_all(bus)
        for key in keys:
            if key.id == ident:
                changed, secret = rotate_ping_key(key, now)
                await write_ping_key(bus, changed)
                await wait_until_refused()
                return changed, secret
        for token in tokens:
            if token.id == ident:
                renewed, text = rotate_token(token, now)
                await replace_token(bus, renewed)
                return renewed, str(text)
        return None

    found = event_loop.run(_ask_system_bus(data, replace_secret))
    if found is None:
        raise _make_unknown_error(ident, data)
    one, secret = found
    if isinstance(one, PingKey):
        _print_ping_key(one, secret, now)
        return
    output.print_line(secret)
    sys.stderr.write(f"token {one.id} has a new secret. Keep it: it is not shown again.\n")


def revoke(
    ident: Annotated[str, typer.Argument(metavar="ID", help="Which, as `marketswarm token list` shows it.")],
    data: Data = DATA,
) -> None:
    """Revoke a token or a ping key: the board refuses it from now on."""

    async def revoke_any(bus: Bus) -> bool:
        return await revoke_token(bus, ident) or await revoke_ping_key(bus, ident)

    if not event_loop.run(_ask_system_bus(data, revoke_any)):
        raise _make_unknown_error(ident, data)
    output.print_line(f"token {escape_text(ident)} is revoked")


def _make_unknown_error(ident: str, data: Path) -> Exit:
    tokens, keys = event_loop.run(_ask_system_bus(data, _read_all))
    ids = [*(each.id for each in tokens), *(each.id for each in keys)]
    hint = suggest_name(ident, ids, f"{suggest_command('token list', data)} shows them:")
    return Exit(Code.CONFIGURATION, f"no token has the id {escape_text(ident)}; {escape_text(hint)}")


async def _ask_system_bus(data: Path, request: Callable[[Bus], Awaitable[T]]) -> T:
    async with open_fleet(data) as fleet:
        bus = fleet.bus(SYSTEM)
        try:
            return await request(bus)
        except BusError as error:
            message = f"bus {bus.name} at {bus.where}, which keeps the tokens: {error.reason}"
            raise Exit(Code.NO_BUS, add_remedy(message, bus.name, error.reason)) from None


def _print_json(token: Token | PingKey, secret: str, now: float) -> None:
    output.print_json({**_encode(token, now), "secret": secret})


def _encode(token: Token | PingKey, now: float) -> dict[str, Any]:
    """Return its fields for JSON, without the hash of its secret."""
    found = {each.name: getattr(token, each.name) for each in fields(token) if each.name != "sha256"}
    return found | {"expired": token.expired(now)}


def _draw_table(tokens: Sequence[Token | PingKey], now: float) -> Table:
    table = tables.make_table("id", "scopes", "until", folded=("for", "by"))
    for each in tokens:
        expired = each.expired(now)
        if isinstance(each, Token):
            rights = ", ".join(each.scopes)
        else:
            rights = "ping every service" if each.svc is None else f"ping {escape_text(each.svc)}"
        until = "always" if each.expires_at is None else format_moment(each.expires_at, now)
        table.add_row(
            each.id,
            rights,
            Text("over" if expired else until, style="dim" if expired else ""),
            escape_text(each.name),
            escape_text(each.author),
        )
    return table
