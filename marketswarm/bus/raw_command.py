"""Send one command as a person typed it, and return its replies as the server sent them.

`Bus.client` turns the replies of commands that it knows into other values, as OK into True. Here nothing is
changed, and an error reply is a value, too.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from marketswarm.bus.bus import Bus
from marketswarm.bus.parser import BoundedParser

WITHIN_SEC: Final = 30.0
"""The time limit of a command that waits for nothing."""
FOREVER_SEC: Final = 1e9
STREAMING: Final = frozenset({"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "MONITOR"})
"""Commands whose replies have no end."""
_WAITING: Final = frozenset(
    {"BLPOP", "BRPOP", "BLMOVE", "BLMPOP", "BRPOPLPUSH", "BZPOPMIN", "BZPOPMAX", "BZMPOP", "WAIT", "WAITAOF"}
)
_MAY_WAIT: Final = frozenset({"XREAD", "XREADGROUP"})


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: bytes, an integer, None, an error, or a list of these; of HELLO 3 a mapping.

    `is_status` says that the bytes are a status as OK or PONG, and not a value.
    """

    value: Any
    is_status: bool = False


def is_streaming(words: Sequence[str]) -> bool:
    return words[0].upper() in STREAMING


async def run_command(bus: Bus, words: Sequence[str]) -> AsyncGenerator[Reply]:
    """Send a command; yield its reply, or each of them if they have no end, and then close the connection.

    A command that waits, as BLPOP does, may do so forever. Raises BusError if the connection fails, or the
    server wants another password than that of the bus.
    """
    connection = await bus.ask(bus.pool.get_connection())  # type: ignore[no-untyped-call]  # the library's
    try:
        await bus.ask(connection.send_command(*(word.encode("utf-8", "surrogateescape") for word in words)))
        limit_sec = FOREVER_SEC if _is_waiting(words) else WITHIN_SEC
        yield await bus.ask(_read_reply(connection), limit_sec)
        while is_streaming(words):
            yield await bus.ask(_read_reply(connection), FOREVER_SEC)
    finally:
        await connection.disconnect(nowait=True)
        await bus.pool.release(connection)


def _is_waiting(words: Sequence[str]) -> bool:
    name = words[0].upper()
    is_blocked = name in _MAY_WAIT and "BLOCK" in (word.upper() for word in words)
    return name in _WAITING or name in STREAMING or is_blocked


async def _read_reply(connection: Any) -> Reply:
    try:
        value = await connection.read_response(disconnect_on_error=False)
    except (ResponseError, AuthenticationError) as error:
        # the latter is the answer to an AUTH that was typed
        return Reply(error)
    parser: BoundedParser = connection._parser  # noqa: SLF001 - it alone knows how the reply came
    return Reply(value, isinstance(value, bytes) and parser.was_status(value))


def find_refused_user(bus: Bus, reply: Reply) -> str | None:
    """Return the name of the user who lacks a right, by the server's reply; None for other replies."""
    if not isinstance(reply.value, NoPermissionError):
        return None
    return str(bus.pool.connection_kwargs.get("username") or "default")


def format_error(error: Exception) -> str:
    """Return an error reply as the server sent it: with its code, as ERR, which the library takes off."""
    code = getattr(error, "status_code", None)
    return f"{code} {error}" if code else str(error)
