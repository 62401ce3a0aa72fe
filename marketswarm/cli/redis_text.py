"""Write replies of a server as `redis-cli` does: for people on a terminal, and raw for programs. Pure."""

from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

from marketswarm.bus.raw_command import Reply, format_error
from marketswarm.text import escape_text

_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\a": "\\a", "\b": "\\b"}


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
