"""A section put into the text of a truth that someone wrote by hand, which stays as it is around it. Pure.

The document must have been accepted before (`marketswarm.truth`). What comes out is to be held against what
was meant, by reading it again.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

_WORD: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')
_WIDTH: Final = 100  # what fits is written on one line
_SERVICES: Final = "services"


class _Place(NamedTuple):
    """The services' object: its brace, the end of what is in it, and its first key, if there is one."""

    opens: int
    ends: int
    first: int | None


def with_section(text: str, name: str, section: Mapping[str, Any]) -> str:
    """The text with that section as the last of the services, indented as the others are.

    Raises ValueError when there is no place for it.
    """
    place = _services(text)
    line_end = "\r\n" if "\r\n" in text else "\n"
    own = _indent(text, place.opens)
    if place.first is not None:
        beside = text[text.rfind("\n", 0, place.first) + 1 : place.first]
        if beside.strip():  # it does not begin its line: all is on one
            added = f", {json.dumps(name)}: {json.dumps(section, ensure_ascii=False)}"
            return text[: place.ends] + added + text[place.ends :]
        unit = beside.removeprefix(own) or "  "
        written = _written(section, beside, unit)
        added = f",\n{beside}{json.dumps(name)}: {written}"
        return text[: place.ends] + added.replace("\n", line_end) + text[place.ends :]
    unit = own or "  "
    written = f"\n{own}{unit}{json.dumps(name)}: {_written(section, own + unit, unit)}\n{own}"
    return text[: place.opens + 1] + written.replace("\n", line_end) + text[text.index("}", place.opens) :]


def _services(text: str) -> _Place:
    """Where the services' object is: under its key, in the outermost object."""
    depth, opens, first, last = 0, None, None, 0
    words = list(_words(text))
    for at, (start, end, word) in enumerate(words):
        if word in ("}", "]"):
            depth -= 1
            if opens is not None and depth == 1:
                return _Place(opens, last, first)
        if opens is not None:
            first = start if first is None else first
        elif depth == 1 and word == "{" and _key_before(words, at) == _SERVICES:
            opens = start
        if word in ("{", "["):
            depth += 1
        last = end
    raise ValueError("no object of services")


def _words(text: str) -> Iterator[tuple[int, int, str]]:
    return ((match.start(), match.end(), match[0]) for match in _WORD.finditer(text))


def _key_before(words: list[tuple[int, int, str]], at: int) -> Any:
    """The key whose value begins at this word."""
    if at < 2 or words[at - 1][2] != ":":
        return None
    return json.loads(words[at - 2][2])


def _indent(text: str, at: int) -> str:
    """What the line of a place begins with."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip())]


def _written(value: Any, indent: str, unit: str) -> str:
    """JSON that is on one line where it fits."""
    flat = json.dumps(value, ensure_ascii=False)
    fits = len(indent) + len(flat) <= _WIDTH and not (isinstance(value, dict) and len(value) > 2)
    if fits or not isinstance(value, dict | list) or not value:
        return flat
    inner = indent + unit
    if isinstance(value, dict):
        lines = [f"{json.dumps(key)}: {_written(each, inner, unit)}" for key, each in value.items()]
        return "{\n" + ",\n".join(inner + line for line in lines) + f"\n{indent}}}"
    return "[\n" + ",\n".join(inner + _written(each, inner, unit) for each in value) + f"\n{indent}]"
