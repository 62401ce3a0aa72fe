"""The errors and warnings of a truth: the path, the value found, and the remedy.

Not here: what counts as an error. No secret is ever shown: `format_found` formats each value in a message.
"""

import contextlib
import difflib
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import ErrorDetails

from marketswarm.text import format_names
from marketswarm.truth.credentials import is_secret_key

Place = tuple[str | int, ...]

WHOLE_DOCUMENT: Final = "truth"  # the path of a problem of the whole document
_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
# a name of cron, such as `@daily`, also a misspelt one: with nothing before its `@`, it holds no credential
_CRON_NAME: Final = re.compile(r"@[A-Za-z]{1,12}")
# a URL that may be shown: it has no part that could hold a credential
_CLEAN_URL: Final = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://(?:\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::\d{1,5})?(?:/[\w./-]*)?"
)
_MAX_SHOWN_CHARS: Final = 60  # characters of a value that are shown
_MAX_COMPARED_NAMES: Final = 2_000  # names to compare with: more would take seconds
_COMPARED_CHARS: Final = 100  # of each name
MAX_COMPARED_CHARS: Final = 10_000_000
"""How many pairs of characters are compared for the hints of one document: half a second of a processor."""
_MESSAGES: Final = {
    kind: message
    for message, kinds in {
        "missing": "missing",
        "is not a whole number": "int_type int_parsing int_parsing_size int_from_float",
        "is not a number": "float_type float_parsing",
        "is not a finite number": "finite_number",
        "is not text": "string_type",
        "is not true or false": "bool_type bool_parsing",
        "is not a list": "list_type tuple_type set_type frozen_set_type",
        "is not an object": "dict_type mapping_type model_type model_attributes_type dataclass_type",
        "does not have the form that is asked for": "string_pattern_mismatch",
        "is not a known key": "extra_forbidden",
        "says nowhere of what kind it is": "union_tag_not_found",
        "is not more than {gt}": "greater_than",
        "is less than {ge}": "greater_than_equal",
        "is not less than {lt}": "less_than",
        "is more than {le}": "less_than_equal",
        "is not a multiple of {multiple_of}": "multiple_of",
        "has less than {min_length} characters": "string_too_short",
        "has more than {max_length} characters": "string_too_long",
        "has less than {min_length} entries": "too_short",
        "has more than {max_length} entries": "too_long",
    }.items()
    for kind in kinds.split()
}
"""The message of each of pydantic's error types; a name in braces is a key of the error's context."""
_left_to_compare: ContextVar[list[int] | None] = ContextVar("left_to_compare", default=None)


@dataclass(frozen=True, slots=True)
class Problem:
    """One error or warning. `path` looks like `services.rss_agg.heartbeat.interval_sec`, or is `truth`."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class TruthError(ValueError):
    """A document was refused. `problems` holds all its errors, in the document's order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class Findings:
    """Collects errors and warnings while a document is checked."""

    def __init__(self) -> None:
        self._errors: list[tuple[Place, str, bool]] = []
        self._warnings: list[tuple[Place, str]] = []
        self._wrong: set[Place] = set()

    def add_error(self, place: Place, message: str, *, unless_other: bool = False) -> None:
        """With `unless_other`, the error counts only if the same place has none without it."""
        self._errors.append((place, message, unless_other))
        self._wrong.add(place)

    def add_warning(self, place: Place, message: str) -> None:
        self._warnings.append((place, message))

    def repeat_at(self, place: Place, findings: "Findings") -> None:
        """Add these findings, of a part of a document, to `findings` as those of an equal one at `place`."""
        length = len(place)
        for where, message, unless_other in self._errors:
            findings.add_error((*place, *where[length:]), message, unless_other=unless_other)
        for where, message in self._warnings:
            findings.add_warning((*place, *where[length:]), message)

    def __len__(self) -> int:
        return len(self._errors) + len(self._warnings)

    @property
    def has_errors(self) -> bool:
        return bool(self._errors)

    def has_error_at(self, *places: Place) -> bool:
        """Return True if an error was noted at one of these places or at a parent of one."""
        return bool(self._wrong) and any(
            place[:length] in self._wrong for place in places for length in range(1, len(place) + 1)
        )

    def errors(self, document: Any) -> tuple[Problem, ...]:
        """Return all errors, each once, in the order in which `document` has their places."""
        definite = {place for place, _, unless_other in self._errors if not unless_other}
        kept = [
            (p, message) for p, message, unless_other in self._errors if not (unless_other and p in definite)
        ]
        return _sort_problems(kept, document)

    def warnings(self, document: Any) -> tuple[Problem, ...]:
        return _sort_problems(self._warnings, document)


def format_path(place: Place) -> str:
    """Format a place for people: `services.rss_agg.tags[0]`, or `truth` for the document as a whole.

    A key with other characters than letters, digits, `_` and `-` stands in brackets and quotes.
    """
    text = ""
    for step in place:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN_KEY.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{format_value(step)}]"
    return text or WHOLE_DOCUMENT


def format_found(place: Place, value: Any) -> str:
    """Format the value found at a place, for a message.

    A text or number is called `the value` if a key of its place, such as `password`, makes it a secret. The
    names of services and buses are no such keys.
    """
    # leave out the name of a service or a bus, unless the value stands directly under it
    keys = place[2:] if place[:1] in (("services",), ("buses",)) and len(place) > 2 else place
    may_be_secret = isinstance(value, (str, int, float)) and not isinstance(value, bool)
    if may_be_secret and any(isinstance(step, str) and is_secret_key(step) for step in keys):
        return "the value"
    return format_value(value)


def format_value(value: Any) -> str:
    """Format a value on one short line, without credentials; of a list or an object, only the kind."""
    if isinstance(value, str):
        return _format_text(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        # Python refuses to print a number of thousands of digits
        return str(value) if value.bit_length() < 100 else "a number of more than 30 digits"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else json.dumps(value)
    return "a list" if isinstance(value, (list, tuple)) else "an object"


@contextlib.contextmanager
def limited_hints() -> Iterator[None]:
    """Let the block compare MAX_COMPARED_CHARS for its hints; after that `find_nearest` finds no name.

    A short document can have a thousand unknown names, and as many that are known.
    """
    token = _left_to_compare.set([MAX_COMPARED_CHARS])
    try:
        yield
    finally:
        _left_to_compare.reset(token)


def find_nearest(name: str, known: Collection[str]) -> str | None:
    """Return the known name most similar to `name`.

    Return None if no name is similar, over 2,000 are known, or `limited_hints` lets no more be compared.
    """
    left = _left_to_compare.get()
    if len(known) > _MAX_COMPARED_NAMES or (left is not None and left[0] <= 0):
        return None
    plain = {_simplify(each): each for each in known}
    wanted = _simplify(name)
    if left is not None:
        left[0] -= len(wanted) * sum(map(len, plain))
        if left[0] < 0:
            return None
    close = difflib.get_close_matches(wanted, plain, n=1, cutoff=0.6)
    return plain[close[0]] if close else None


def _simplify(name: str) -> str:
    """Unify the spelling of a name, so that similar ones are compared."""
    return name[:_COMPARED_CHARS].lower().replace("-", "_")


def suggest_name(name: str, known: Collection[str], otherwise: str = "it names") -> str:
    """Return `did you mean x?`; if no known name is near, `otherwise` and the first known names."""
    near = find_nearest(name, known)
    return f"did you mean {near}?" if near else f"{otherwise} {format_names(known, 12) or 'none'}"


def describe_unknown(name: str, known: Collection[str]) -> str:
    """Return the sentence about a name that the truth does not have: `the truth names no x; did you …`."""
    return f"the truth names no {name}; {suggest_name(name, known)}"


def format_hint(name: str, known: Collection[str]) -> str:
    """Return ` (did you mean "x"?)`, or ` (known: a, b)` for up to 12 known names, or an empty text."""
    near = find_nearest(name, known)
    if near is not None:
        return f" (did you mean {format_value(near)}?)"
    if not 0 < len(known) <= 12:
        return ""
    return f" (known: {', '.join(format_value(each)[1:-1] for each in known)})"


def format_mismatch(error: ErrorDetails) -> str:
    """Return what is wrong with a value that pydantic refused, without the value: `is not a list`."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in _MESSAGES:
        bounds = {name: f"{each:g}" if isinstance(each, float) else each for name, each in context.items()}
        return _MESSAGES[kind].format_map(bounds)
    if kind in ("literal_error", "enum", "union_tag_invalid"):
        known = re.findall(r"'([^']+)'", str(context.get("expected") or context.get("expected_tags")))
        given = error["ctx"].get("tag") if kind == "union_tag_invalid" else error["input"]
        hint = f" (known: {', '.join(known)})" if known else ""
        if isinstance(given, str) and find_nearest(given, known) is not None:
            hint = format_hint(given, known)
        return f"is not a known value{hint}"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return message[:1].lower() + message[1:] if kind not in ("value_error", "assertion_error") else message


def _format_text(value: str) -> str:
    """Format a text in quotes, in at most 60 characters, with escapes for what can't be printed.

    Of a text that may hold a credential (an `@`, an unusual URL), only the scheme is shown: `"https://***"`.
    """
    has_at = "@" in value and not _CRON_NAME.fullmatch(value)
    if has_at or ("://" in value and not _CLEAN_URL.fullmatch(value)):
        scheme, colon, _ = value.partition("://")
        return f'"{scheme}://***"' if colon and scheme.isalpha() and len(scheme) < 12 else '"***"'
    cut = value if len(value) <= _MAX_SHOWN_CHARS else value[: _MAX_SHOWN_CHARS - 1] + "…"
    # escape control and direction characters and halves of surrogate pairs, which a terminal would obey
    return json.dumps(cut, ensure_ascii=not cut.isprintable())


def _sort_problems(notes: Iterable[tuple[Place, str]], document: Any) -> tuple[Problem, ...]:
    ranks: dict[int, dict[str, int]] = {}

    def sort_key(note: tuple[Place, str]) -> list[tuple[int, str]]:
        steps: list[tuple[int, str]] = []
        here = document
        for step in note[0]:
            if isinstance(step, int):
                steps.append((step, ""))
                here = here[step] if isinstance(here, list) and step < len(here) else None
                continue
            if isinstance(here, dict):
                if id(here) not in ranks:
                    ranks[id(here)] = {key: rank for rank, key in enumerate(here)}
                steps.append((ranks[id(here)].get(step, len(here)), step))
                here = here.get(step)
            else:
                steps.append((0, step))
                here = None
        return steps

    # a dictionary keeps the first of equal lines
    return tuple(
        dict.fromkeys(Problem(format_path(place), message) for place, message in sorted(notes, key=sort_key))
    )
