"""Implement `marketswarm redis`: send a command to a bus of the fleet, as `redis-cli` does."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from marketswarm.bus import Bus, get_url_variable
from marketswarm.bus.raw_command import Reply, find_refused_user, is_streaming, run_command
from marketswarm.cli import event_loop, output
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.fleet_view import FleetView, open_fleet
from marketswarm.cli.options import Data
from marketswarm.cli.redis_text import encode_reply, format_reply
from marketswarm.exit import Code, Exit
from marketswarm.text import escape_text
from marketswarm.truth import MARKET, SYSTEM, describe_unknown

REFUSED: Final = 1
"""The exit code when the server answered with an error."""
_EXAMPLES: Final = (
    "marketswarm redis system-redis GET health:rss_agg",
    "marketswarm redis system-redis SUBSCRIBE healer:alerts",
)


def redis(
    bus: Annotated[str, typer.Argument(metavar="BUS", help="Its name: system-redis, market-redis.")] = "",
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND", help="The command and its arguments, as redis-cli takes them."),
    ] = None,
    *,
    raw: Annotated[
        bool | None,
        typer.Option(
            "--raw/--no-raw",
            help="Print values as they are; by default when the output is no terminal.",
            show_default=False,
        ),
    ] = None,
    data: Data = DATA,
) -> None:
    """Send a command to a bus of this fleet, with the fleet's own address and password, as redis-cli does.

    SUBSCRIBE, PSUBSCRIBE and MONITOR run until Ctrl-C. Options come before the BUS. Ends with 1 when the
    server answers with an error, which is on stderr.
    """
    if not bus or not words:
        raise Exit(
            Code.CONFIGURATION,
            "\n".join(["say a bus and a command, for example:", *(f"  {each}" for each in _EXAMPLES)]),
        )
    is_raw = not sys.stdout.isatty() if raw is None else raw
    if not event_loop.run(_run(bus, words, data, is_raw=is_raw)):
        raise Exit(REFUSED, "")


async def _run(name: str, words: list[str], data: Path, *, is_raw: bool) -> bool:
    """Print each reply; return False if one is an error."""
    async with open_fleet(data) as fleet:
        _require_bus(name, fleet)
        bus = fleet.bus(name)
        async with contextlib.aclosing(run_command(bus, words)) as replies:
            if is_streaming(words) and not is_raw:
                sys.stderr.write("Reading messages... (Ctrl-C ends)\n")
            async for reply in replies:
                if isinstance(reply.value, Exception):
                    sys.stderr.write(f"{format_reply(reply)}\n")
                    _print_refused_user(bus, reply)
                    return False
                _print(reply, is_raw=is_raw)
    return True


def _print(reply: Reply, *, is_raw: bool) -> None:
    """Print a reply for people, or its bytes as they are; on a terminal control characters are escaped."""
    if not is_raw:
        output.print_line(format_reply(reply))
    elif sys.stdout.isatty():
        output.print_line(encode_reply(reply.value).decode("utf-8", "replace"))
    else:
        sys.stdout.buffer.write(encode_reply(reply.value) + b"\n")
        sys.stdout.buffer.flush()


def _print_refused_user(bus: Bus, reply: Reply) -> None:
    """Say as whom the command was sent if that user may not: many users may not ask ACL WHOAMI either."""
    user = find_refused_user(bus, reply)
    if user is not None:
        another = f"{get_url_variable(bus.name)}_FILE=FILE, a file with the URL, asks as another one"
        output.print_error(f"the user {escape_text(user)} has no right to this; {another}")


def _require_bus(name: str, fleet: FleetView) -> None:
    known = (SYSTEM, MARKET) if fleet.found is None else fleet.truth.bus_names()
    if name not in known:
        raise Exit(Code.CONFIGURATION, describe_unknown(name, known))
