"""Implement `marketswarm token`: who may use the board's API or ping over HTTP, and for what."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError

from marketswarm.bus import Bus, BusError
from marketswarm.cli import output
from marketswarm.cli.beat import print_unknown_service
from marketswarm.cli.data_folder import DATA, suggest_command
from marketswarm.cli.fleet_view import FleetView, add_remedy, ask_fleet
from marketswarm.cli.local_time import format_moment
from marketswarm.cli.options import (
    By,
    Data,
    Json,
    argument,
    author_name,
    flag,
    require_service_name,
    service_option,
    time_option,
)
from marketswarm.cli.tables import OVER, show
from marketswarm.exit import Code, Exit, Mistake
from marketswarm.operator.tokens import (
    MAX_PING_KEYS,
    MAX_TOKENS,
    PingKey,
    Scope,
    Token,
    create_ping_key,
    create_token,
    read_ping_keys,
    read_tokens,
    replace_token,
    revoke_ping_key,
    revoke_token,
    rotate_ping_key,
    rotate_token,
    wait_until_refused,
    write_ping_key,
    write_token,
)
from marketswarm.text import escape_text
from marketswarm.truth import SYSTEM, suggest_name

T = TypeVar("T")
Secret = Token | PingKey
"""What proves that a client may do something: the bus keeps the hash of its text alone."""

_MAX_SEC = 10 * 366 * 86_400.0


def create(
    name: Annotated[str, argument("NAME", "What it is for: deploy, wall, grafana.")],
    *,
    scopes: Annotated[
        list[Scope] | None,
        typer.Option("--scope", help="What it allows; repeatable. By default read.", show_default=False),
    ] = None,
    for_sec: Annotated[float | None, time_option("--for", "90d", "For how long; without it, always.")] = None,
    ping: Annotated[
        str | None, service_option("--ping", "Make a UUID by which this service is pinged over HTTP.")
    ] = None,
    ping_key: Annotated[
        bool, flag("--ping-key", "Make a key by which every service is pinged over HTTP.")
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
    made: tuple[Secret, object]
    try:
        if ping is not None or ping_key:
            made = create_ping_key(name.strip(), ping, author=author, now=now, for_sec=for_sec)
        else:
            allowed = scopes or [Scope.READ]
            made = create_token(name.strip(), allowed, author=author, now=now, for_sec=for_sec)
    except ValidationError:
        raise typer.BadParameter("a name has 1 to 200 letters", param_hint="NAME") from None
    one, text = made
    store_secret(one, data)
    if as_json:
        output.print_json({**_encode(one, now), "secret": str(text)})
    else:
        _print_text(str(text), _describe(one, now))
    if ping is not None:
        ask_fleet(data, lambda fleet: _warn_of_unknown(ping, fleet))


async def _warn_of_unknown(svc: str, fleet: FleetView) -> None:
    """Print that no truth names a service yet: its pings are answered by 404 until one does."""
    truth = None if fleet.found is None else fleet.truth
    if truth is None or svc not in {watch.svc for watch in truth.watched()}:
        print_unknown_service(svc, truth)


def store_secret(one: Secret, data: Path) -> None:
    """Store a new token or ping key on system-redis. Raises Exit if there are as many as there may be."""

    async def write(bus: Bus) -> bool:
        return await (write_ping_key(bus, one) if isinstance(one, PingKey) else write_token(bus, one))

    if not _ask_system_bus(data, write):
        most = f"{MAX_PING_KEYS} ping keys" if isinstance(one, PingKey) else f"{MAX_TOKENS} tokens"
        known = suggest_command("token list", data)
        raise Mistake(f"there are {most} already: revoke some, {known}")


def _describe(one: Secret, now: float) -> str:
    end = "" if one.expires_at is None else f" until {format_moment(one.expires_at, now)}"
    if isinstance(one, Token):
        return f"token {one.id} allows {', '.join(one.scopes)}{end}"
    what = "every service: /ping/KEY/SVC" if one.svc is None else f"{escape_text(one.svc)}: /ping/UUID"
    return f"ping key {one.id} is for {what}{end}"


def _print_text(text: str, said: str) -> None:
    output.print_line(text)
    output.print_aside(f"{said}. Keep it: it is not shown again.")


async def _read_all(bus: Bus) -> list[Secret]:
    return [*await read_tokens(bus), *await read_ping_keys(bus)]


def list_(as_json: Json = False, data: Data = DATA) -> None:
    """Show the tokens of the board's API and the ping keys: what each is for, and what it allows."""
    found, now = _ask_system_bus(data, _read_all), time.time()
    show(
        found,
        {
            "id": lambda each: each.id,
            "scopes": _describe_rights,
            "until": lambda each: OVER if each.expired(now) else _format_end(each, now),
            "for": lambda each: each.name,
            "by": lambda each: each.author,
        },
        whole=("id", "scopes", "until"),
        as_json=as_json,
        encode=lambda each: _encode(each, now),
        empty="there is no token",
    )


def rotate(
    ident: Annotated[str, argument("ID", "Which, as `marketswarm token list` shows it.")],
    data: Data = DATA,
) -> None:
    """Replace the secret of a token or a ping key, and print the new one: once. The old one is refused."""
    now = time.time()

    async def replace_secret(bus: Bus) -> tuple[str, str] | None:
        one = next((each for each in await _read_all(bus) if each.id == ident), None)
        if isinstance(one, PingKey):
            key, secret = rotate_ping_key(one, now)
            await write_ping_key(bus, key)
            await wait_until_refused()
            return secret, _describe(key, now)
        if one is not None:
            token, text = rotate_token(one, now)
            await replace_token(bus, token)
            return str(text), f"token {ident} has a new secret"
        return None

    found = _ask_system_bus(data, replace_secret)
    if found is None:
        raise _make_unknown_error(ident, data)
    _print_text(*found)


def revoke(
    ident: Annotated[str, argument("ID", "Which, as `marketswarm token list` shows it.")],
    data: Data = DATA,
) -> None:
    """Revoke a token or a ping key: the board refuses it from now on."""

    async def revoke_any(bus: Bus) -> bool:
        return await revoke_token(bus, ident) or await revoke_ping_key(bus, ident)

    if not _ask_system_bus(data, revoke_any):
        raise _make_unknown_error(ident, data)
    output.print_line(f"token {escape_text(ident)} is revoked")


def _make_unknown_error(ident: str, data: Path) -> Exit:
    ids = [each.id for each in _ask_system_bus(data, _read_all)]
    hint = suggest_name(ident, ids, f"{suggest_command('token list', data)} shows them:")
    return Mistake(f"no token has the id {escape_text(ident)}; {escape_text(hint)}")


def _ask_system_bus(data: Path, request: Callable[[Bus], Awaitable[T]]) -> T:
    async def ask(fleet: FleetView) -> T:
        bus = fleet.bus(SYSTEM)
        try:
            return await request(bus)
        except BusError as error:
            message = f"bus {bus.name} at {bus.where}, which keeps the tokens: {error.reason}"
            raise Exit(Code.NO_BUS, add_remedy(message, bus.name, error.reason)) from None

    return ask_fleet(data, ask)


def _encode(one: Secret, now: float) -> dict[str, Any]:
    """Return its fields for JSON, without the hash of its secret."""
    found = {each.name: getattr(one, each.name) for each in fields(one) if each.name != "sha256"}
    return found | {"expired": one.expired(now)}


def _describe_rights(one: Secret) -> str:
    if isinstance(one, Token):
        return ", ".join(one.scopes)
    return "ping every service" if one.svc is None else f"ping {one.svc}"


def _format_end(one: Secret, now: float) -> str:
    return "always" if one.expires_at is None else format_moment(one.expires_at, now)
