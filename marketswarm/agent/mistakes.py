"""What pydantic finds wrong with a service's own part, in the words of the truth's own mistakes. Pure.

    services.rss_agg.endpoints[2].every_sec: -5 is not more than 0

Numbers are shown as they stand there, texts never: a secret may stand in the wrong place. What a model's own
validator says (a ValueError) is taken as it is, so that must not repeat a text either; where it begins with
the path of a part (`endpoints[3].name: …`), that is where it belongs.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic_core import ErrorDetails

from marketswarm.truth.problems import Place, Problem, found, hint, nearest, path

_INNER_PATH: Final = re.compile(r"(?P<path>\w+(?:\[\d+\]|\.\w+)*): (?P<said>.+)", re.DOTALL)
_STEP: Final = re.compile(r"\[(\d+)\]|(\w+)")
_PLAIN: Final = {
    "missing": "missing",
    "int_type": "is not a whole number",
    "int_parsing": "is not a whole number",
    "int_parsing_size": "is not a whole number",
    "int_from_float": "is not a whole number",
    "float_type": "is not a number",
    "float_parsing": "is not a number",
    "finite_number": "is not a finite number",
    "string_type": "is not text",
    "bool_type": "is not true or false",
    "bool_parsing": "is not true or false",
    "list_type": "is not a list",
    "tuple_type": "is not a list",
    "set_type": "is not a list",
    "frozen_set_type": "is not a list",
    "dict_type": "is not an object",
    "mapping_type": "is not an object",
    "model_type": "is not an object",
    "model_attributes_type": "is not an object",
    "dataclass_type": "is not an object",
    "string_pattern_mismatch": "does not have the form that is asked for",
    "extra_forbidden": "is not a known key",
    "union_tag_not_found": "says nowhere of what kind it is",
}
# the type of a mistake, what is said of it, and what of its context goes into that
_BOUNDS: Final = {
    "greater_than": ("is not more than {}", "gt"),
    "greater_than_equal": ("is less than {}", "ge"),
    "less_than": ("is not less than {}", "lt"),
    "less_than_equal": ("is more than {}", "le"),
    "multiple_of": ("is not a multiple of {}", "multiple_of"),
    "string_too_short": ("has less than {} characters", "min_length"),
    "string_too_long": ("has more than {} characters", "max_length"),
    "too_short": ("has less than {} entries", "min_length"),
    "too_long": ("has more than {} entries", "max_length"),
}


def problem(svc: str, section: Mapping[str, Any], mistake: ErrorDetails) -> Problem:
    """One mistake in `section`, the part of the document that `svc`'s model was made of."""
    place, said = _place(section, mistake), _said(mistake)
    if mistake["type"] == "value_error" and (inner := _INNER_PATH.fullmatch(said)) is not None:
        place += tuple(int(number) if number else name for number, name in _STEP.findall(inner["path"]))
        said = inner["said"]
    where = ("services", svc, *place)
    if mistake["type"] in ("missing", "value_error", "assertion_error", "extra_forbidden"):
        return Problem(path(where), said)
    return Problem(path(where), f"{_shown(where, mistake['input'])} {said}")


def _place(section: Mapping[str, Any], mistake: ErrorDetails) -> Place:
    """Where it is in the document: pydantic names branches of a union too, which are nowhere in it."""
    place: list[str | int] = []
    here: Any = section
    for index, step in enumerate(mistake["loc"]):
        missing = mistake["type"] == "missing" and index == len(mistake["loc"]) - 1
        if isinstance(here, dict) and (step in here or missing):
            place.append(step)
            here = here.get(step)
        elif isinstance(here, list | tuple) and isinstance(step, int) and step < len(here):
            place.append(step)
            here = here[step]
    return tuple(place)


def _said(mistake: ErrorDetails) -> str:
    kind, context = mistake["type"], mistake.get("ctx", {})
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        bound = context[name]
        return words.format(f"{bound:g}" if isinstance(bound, float) else bound)
    if kind in ("literal_error", "enum", "union_tag_invalid"):
        known = re.findall(r"'([^']+)'", str(context.get("expected") or context.get("expected_tags")))
        return "is none of those that are known" + _meant(mistake, known)
    message = mistake["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return message[:1].lower() + message[1:] if kind not in ("value_error", "assertion_error") else message


def _meant(mistake: ErrorDetails, known: list[str]) -> str:
    context = mistake.get("ctx", {})
    given = context.get("tag") if mistake["type"] == "union_tag_invalid" else mistake["input"]
    if isinstance(given, str) and nearest(given, known) is not None:
        return hint(given, known)
    return f" (known: {', '.join(known)})" if known else ""


def _shown(where: Place, value: Any) -> str:
    return "text" if isinstance(value, str) else found(where, value)
