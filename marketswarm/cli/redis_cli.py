"""Implement `marketswarm redis`: send a command to a bus of the fleet, as `redis-cli` does."""

import contextlib
import sys
from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Any, Final

import typer

from marketswarm.access.entitled import find_entitled
from marketswarm.access.users import OPERATOR, AclError, build_users
from marketswarm.bus import Bus, get_url_variable
from marketswarm.bus.raw_command import Reply, find_refused_user, format_error, is_streaming, run_command
from marketswarm.cli import output
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.fleet_view import FleetView, ask_fleet
from marketswarm.cli.options import Data, argument
from marketswarm.exit import Exit, Mistake
from marketswarm.text import escape_text, format_names
from marketswarm.truth import MARKET, SYSTEM, describe_unknown

REFUSED: Final = 1
"""The exit code when the server answered with an error."""
_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\a": "\\a", "\b": "\\b"}
_NO_COMMAND: Final = """say a bus and a command, for example:
  marketswarm redis system-redis GET health:rss_agg
  marketswarm redis system-redis SUBSCRIBE healer:alerts"""


def redis(
    bus: Annotated[str, argument("BUS", "Its name: system-redis, market-redis.")] = "",
    words: Annotated[
        list[str] | None, argument("COMMAND", "The command and its arguments, as redis-cli takes them.")
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
        raise Mistake(_NO_COMMAND)
    is_raw = not sys.stdout.isatty() if raw is None else raw
    if not ask_fleet(data, lambda fleet: _run(bus, words, fleet, is_raw=is_raw)):
        raise Exit(REFUSED, "")


async def _run(name: str, words: list[str], fleet: FleetView, *, is_raw: bool) -> bool:
    """Print each reply; return False if one is an error."""
    known = (SYSTEM, MARKET) if fleet.found is None else fleet.truth.bus_names()
    if name not in known:
        raise Mistake(describe_unknown(name, known))
    bus = fleet.bus(name)
    async with contextlib.aclosing(run_command(bus, words)) as replies:
        if is_streaming(words) and not is_raw:
            output.print_aside("Reading messages... (Ctrl-C ends)")
        async for reply in replies:
            if isinstance(reply.value, Exception):
                output.print_aside(format_reply(reply))
                _print_refused_user(bus, reply, _list_entitled(fleet, name, words))
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


def _list_entitled(fleet: FleetView, bus: str, words: list[str]) -> tuple[str, ...] | None:
    """Return the users who may send a command by the fleet's truth; None without a truth that says so."""
    if fleet.found is None:
        return None
    try:
        return find_entitled(build_users(fleet.truth, bus), words)
    except AclError:
        return None


def _print_refused_user(bus: Bus, reply: Reply, entitled: tuple[str, ...] | None) -> None:
    """Say as whom the command was sent if that user may not, and who may.

    It is asked of no server, for many users may not ask ACL WHOAMI either.
    """
    user = find_refused_user(bus, reply)
    if user is not None:
        another = f"{get_url_variable(bus.name)}_FILE=FILE, a file with the URL, asks as another one"
        needed = _describe_needed(user, entitled)
        output.print_error(f"the user {escape_text(user)} has no right to this: {needed}; {another}")


def _describe_needed(user: str, entitled: tuple[str, ...] | None) -> str:
    if entitled is None or OPERATOR in entitled:
        return "it needs a service's own user" if user == OPERATOR else f"it needs the user {OPERATOR}"
    if not entitled:
        return "no user of this fleet has it"
    which = "the user" if len(entitled) == 1 else "one of the users"
    return f"it needs {which} {format_names(entitled)}"


def format_reply(reply: Reply) -> str:
    """Return the lines for a terminal, which no character in them can control: `1) "a"`, `(integer) 3`."""
    if reply.is_status:
        return escape_text(reply.value.decode("utf-8", "backslashreplace"))
    return "\n".join(_format_value(reply.value))


def _format_value(value: Any) -> Iterator[str]:
    if isinstance(value, (list, tuple, dict)):
        yield from _format_list(_list_items(value))
    elif isinstance(value, bytes):
        yield quote_bytes(value)
    elif isinstance(value, Exception):
        yield f"(error) {escape_text(format_error(value))}"
    elif value is None:
        yield "(nil)"
    else:
        yield f"(integer) {value}"


def _list_items(value: list[Any] | tuple[Any, ...] | dict[Any, Any]) -> list[Any]:
    """Return the values of a list, or the keys of a mapping, each with its value after it."""
    return [*chain.from_iterable(value.items())] if isinstance(value, dict) else [*value]


def _format_list(values: list[Any]) -> Iterator[str]:
    if not values:
        yield "(empty array)"
    width = len(str(len(values)))
    for number, value in enumerate(values, 1):
        head = f"{number:>{width}}) "
        for line in _format_value(value):
            yield head + line
            head = " " * len(head)


def quote_bytes(raw: bytes) -> str:
    r"""Return bytes in quotes; what can't be printed is `\n`, `\x1b`, or each byte of it as `\xe2`."""
    text = raw.decode("utf-8", "surrogateescape")
    return f'"{"".join(map(_quote_char, text))}"'


def _quote_char(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))


def encode_reply(value: Any) -> bytes:
    """Return a value as it is, each one of a list on a line of its own; nothing for one that is not there."""
    if isinstance(value, (list, tuple, dict)):
        return b"\n".join(map(encode_reply, _list_items(value)))
    if isinstance(value, bytes):
        return value
    if isinstance(value, Exception):
        return format_error(value).encode("utf-8", "surrogateescape")
    return b"" if value is None else str(value).encode()
