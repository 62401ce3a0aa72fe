"""Find places in the text of a document, and change the value of one place. Pure.

All other text stays as its author wrote it, with its blanks and its order. Not here: what is wrong with a
document (`parse.py`), and which values a service has (`document_edit.py`).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from marketswarm.truth.errors import WHOLE_DOCUMENT, Place, Problem, format_path

_WORD: Final = re.compile(r'[{}\[\]:,]|"(?:[^"\\]|\\.)*+"?|[^\s{}\[\]:,"]+')
_JSON_LINE: Final = re.compile(r"\(line (\d{1,9}), column \d{1,9}\)\Z")
_COLON: Final = re.compile(r"\s*:\s*")
_FIRST_INDENT: Final = re.compile(r"\A\s*\{[ \t]*\r?\n([ \t]+)\"")
_LINE_INDENT: Final = re.compile(r"[ \t]*")
_DEFAULT_INDENT: Final = "  "
_DECODER: Final = json.JSONDecoder()


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


def set_value(text: str, place: Place, value: Any) -> str:
    """Return the text of a valid document with another value at a place.

    A key or an entry that is missing is added after all others of its object or list, and so are missing
    objects around it. The step of a new entry of a list is the number of its entries.
    """
    entry = _find_entry(text, place)
    if entry is not None:
        indent = _find_line_indent(text, entry.begin)
        return text[: entry.value] + _write(text, value, indent) + text[entry.end :]
    holder = place[:-1]
    bounds = _find_bounds(text, holder)
    if bounds is None:
        return set_value(text, holder, {place[-1]: value} if isinstance(place[-1], str) else [value])
    return _append(text, bounds, place[-1], value)


def remove_value(text: str, place: Place) -> str:
    """Return the text of a valid document without the entry at a place; unchanged if it has none."""
    entry = _find_entry(text, place)
    if entry is None:
        return text
    before, after = text[: entry.begin].rstrip(), text[entry.end :].lstrip()
    if before.endswith(","):
        return before[:-1] + text[entry.end :]
    if after.startswith(","):
        return text[: entry.begin] + after[1:].lstrip()
    return before + after


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where an entry begins (its key, or its value in a list), where its value begins, and where it ends."""

    begin: int
    value: int
    end: int


def _find_entry(text: str, place: Place) -> _Entry | None:
    begin = next((mark.offset for mark in _walk(text) if mark.place == place and not mark.is_end), None)
    if begin is None:
        return None
    value = begin
    try:
        if isinstance(place[-1], str):
            colon = _COLON.match(text, _DECODER.raw_decode(text, begin)[1])
            value = colon.end() if colon else begin
        return _Entry(begin, value, _DECODER.raw_decode(text, value)[1])
    except (ValueError, RecursionError):  # the text is not JSON
        return None


def _find_bounds(text: str, place: Place) -> tuple[int, int] | None:
    """Return where an object or list begins, and where its closing bracket is; None if it is missing."""
    end = next((mark.offset for mark in _walk(text) if mark.is_end and mark.place == place), None)
    if end is None:
        return None
    entry = _find_entry(text, place) if place else None
    begin = entry.value if entry else len(text) - len(text.lstrip())
    return begin, end


def _append(text: str, bounds: tuple[int, int], step: str | int, value: Any) -> str:
    """Return the text with one more entry at the end of an object or list, written like its neighbours."""
    begin, end = bounds
    is_empty = not text[begin + 1 : end].strip()
    is_long = "\n" in text[begin:end] if not is_empty else isinstance(value, (Mapping, list, tuple))
    before = text[:end].rstrip()
    comma = "" if is_empty else ","
    key = f"{_dump(step)}: " if isinstance(step, str) else ""
    if not is_long:
        return f"{before}{comma}{'' if is_empty else ' '}{key}{_dump(value)}{text[end:]}"
    line_end = "\r\n" if "\r\n" in text else "\n"
    outer = _find_line_indent(text, begin)
    indent = outer + _find_unit(text)
    entry = key + _write(text, value, indent)
    return f"{before}{comma}{line_end}{indent}{entry}{line_end}{outer}{text[end:]}"


def _write(text: str, value: Any, indent: str) -> str:
    """Return a value as JSON, its lines indented like those of `text`; on one line if nothing is nested."""
    nested = (
        value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    )
    if not any(isinstance(each, (Mapping, list, tuple)) for each in nested) or "\n" not in text.strip():
        return _dump(value)
    line_end = "\r\n" if "\r\n" in text else "\n"
    inner = indent + _find_unit(text)
    opening, closing = "{}" if isinstance(value, Mapping) else "[]"
    pairs = value.items() if isinstance(value, Mapping) else ((None, each) for each in value)
    entries = (
        (f"{_dump(key)}: " if key is not None else "") + _write(text, each, inner) for key, each in pairs
    )
    lines = f",{line_end}".join(inner + entry for entry in entries)
    return f"{opening}{line_end}{lines}{line_end}{indent}{closing}"


def _dump(value: Any) -> str:
    """Return a value as JSON on one line, in which every character can be shown."""
    written = json.dumps(value, ensure_ascii=False)
    return written if written.isprintable() else json.dumps(value)


def _find_unit(text: str) -> str:
    """Return by how much the author of a text indents: by as much as the first key."""
    found = _FIRST_INDENT.match(text)
    return found[1] if found else _DEFAULT_INDENT


def _find_line_indent(text: str, offset: int) -> str:
    found = _LINE_INDENT.match(text, text.rfind("\n", 0, offset) + 1)
    return found[0] if found else ""


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
