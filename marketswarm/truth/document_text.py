"""Find places in the text of a document: the line of a path, and where a section can be added. Pure.

The text stays as its author wrote it, with its blanks and its order. Not here: what is wrong with a document
(`parse.py`).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from marketswarm.truth.errors import WHOLE_DOCUMENT, Place, Problem, format_path

_WORD: Final = re.compile(r'[{}\[\]:,]|"(?:[^"\\]|\\.)*"|[^\s{}\[\]:,"]+')
_JSON_LINE: Final = re.compile(r"\(line (\d{1,9}), column \d{1,9}\)\Z")


@dataclass(frozen=True, slots=True)
class _Mark:
    """A place in a text: where its key or its value begins, or where its object or list ends."""

    place: Place
    offset: int
    is_end: bool = False


def find_lines(text: str, problems: Iterable[Problem]) -> dict[Problem, int]:
    """Return the line of each problem, counted from 1.

    A problem with what is missing has the line of the nearest object around it. A problem of the whole
    document has no line, unless the text is not JSON.
    """
    found: dict[Problem, int] = {}
    places: dict[str, int | None] = {}
    for each in problems:
        match = _JSON_LINE.search(each.message) if each.path == WHOLE_DOCUMENT else None
        if match:
            found[each] = int(match[1])
        places.update(dict.fromkeys(_list_ancestors(each.path)))
    for mark in _walk(text) if places else ():
        path = format_path(mark.place)
        if not mark.is_end and path in places:
            places[path] = text.count("\n", 0, mark.offset) + 1
    for each in problems:
        line = next(filter(None, map(places.get, _list_ancestors(each.path))), None)
        if line is not None:
            found[each] = line
    return found


def insert_service(text: str, svc: str, section: Mapping[str, Any]) -> str | None:
    """Return the text of a valid document with one more service after all others; None without `services`."""
    end = next((each.offset for each in _walk(text) if each.is_end and each.place == ("services",)), None)
    if end is None:
        return None
    before = text[:end].rstrip()
    entry = f"{json.dumps(svc)}: {json.dumps(section, indent=2)}".replace("\n", "\n    ")
    return f"{before}{'' if before.endswith('{') else ','}\n    {entry}\n  {text[end:]}"


def _list_ancestors(path: str) -> Iterator[str]:
    while path and path != WHOLE_DOCUMENT:
        yield path
        path = path[: max(path.rfind("."), path.rfind("["), 0)]


def _walk(text: str) -> Iterator[_Mark]:
    """Yield each place of a JSON text, in its order; of another text, some places."""
    steps: list[str | int] = []
    kinds: list[str] = []
    awaits_key = False
    for match in _WORD.finditer(text):
        word, kind = match[0], kinds[-1] if kinds else ""
        if word in ("}", "]"):
            if kinds:
                kinds.pop()
                steps.pop()
                yield _Mark(tuple(steps), match.start(), is_end=True)
            awaits_key = False
        elif word == ",":
            awaits_key = kind == "{"
            if kind == "[":
                steps[-1] = int(steps[-1]) + 1
        elif word != ":" and kind == "{" and awaits_key:
            steps[-1], awaits_key = _parse_key(word), False
            yield _Mark(tuple(steps), match.start())
        elif word != ":":
            if kind == "[":
                yield _Mark(tuple(steps), match.start())
            if word in ("{", "["):
                kinds.append(word)
                steps.append("" if word == "{" else 0)
                awaits_key = word == "{"


def _parse_key(word: str) -> str:
    try:
        return str(json.loads(word))
    except ValueError:
        return word
