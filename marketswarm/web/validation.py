"""Say in words what is wrong with the values of a request, for every route and for the WebSocket. Pure.

The names of unknown keys are a client's own text: they are escaped and cut. No value is repeated.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from marketswarm.truth.errors import format_hint, format_mismatch, format_path

MAX_SHOWN: Final = 10
"""A body may have thousands of unknown keys."""
_KNOWN: Final = "known"


def place_errors(error: ValidationError, root: str, model: type[BaseModel]) -> list[dict[str, Any]]:
    """Return the errors of a model with their places below `root`, and for hints what keys are known."""
    known = {_KNOWN: tuple(model.model_fields)}
    return [
        {
            **each,
            "loc": (root, *each["loc"]),
            "ctx": each.get("ctx", {}) | (known if len(each["loc"]) == 1 else {}),
        }
        for each in error.errors(include_url=False)
    ]


def describe_invalid(errors: Iterable[Mapping[str, Any]]) -> str:
    """Return what is wrong: `wrong: body.for: is not a known key (did you mean "for_sec"?); …`.

    `errors` are pydantic's, with their inputs and contexts.
    """
    found = list(dict.fromkeys(map(_describe, errors)))
    more = f"; and {len(found) - MAX_SHOWN} more" if len(found) > MAX_SHOWN else ""
    return f"wrong: {'; '.join(found[:MAX_SHOWN])}{more}"


def _describe(error: Any) -> str:
    place, message = tuple(error["loc"]), format_mismatch(error)
    if error["type"] == "extra_forbidden":
        message += format_hint(str(place[-1]), error.get("ctx", {}).get(_KNOWN, ()))
    return f"{format_path(place)}: {message}"
