"""Describe in the OpenAPI document what the board answers when a request fails. Pure.

FastAPI describes its own answer to a wrong value, which is not ours, and knows neither the guard around the
application nor what routes raise.
"""

from typing import Any, Final

_TEXT: Final = {"text/plain": {"schema": {"type": "string"}}}
_JSON: Final = {"application/json": {"schema": {"$ref": "#/components/schemas/Failure"}}}
_FAILURE: Final = {
    "type": "object",
    "title": "Failure",
    "required": ["detail"],
    "properties": {"detail": {"type": "string", "title": "Detail"}},
}
_EVERYWHERE: Final = {
    "401": "A token is needed: the client is on another machine, or wants to change something",
    "403": "The token lacks the scope",
    "413": "The body is too long",
    "414": "The path or the query is too long",
    "421": "The host name is not the board's",
    "429": "Too many requests, or too many wrong tokens: `Retry-After` says when to try again",
    "431": "The headers are too long",
    "503": "The board has nothing to show yet, or a bus does not answer",
}
_WITH_PARAMETERS: Final = {"404": "There is no such thing", "422": "A value is wrong; `detail` names it"}
_OWN: Final = ("HTTPValidationError", "ValidationError")
"""The names of FastAPI's own schemas of an answer to a wrong value."""


def describe_failures(document: dict[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI document with the failures of each operation; other answers stay as they are."""
    paths = {
        path: {method: _describe_operation(each, path) for method, each in item.items()}
        for path, item in document.get("paths", {}).items()
    }
    components = document.get("components", {})
    schemas = {name: each for name, each in components.get("schemas", {}).items() if name not in _OWN}
    schemas["Failure"] = _FAILURE
    return {**document, "paths": paths, "components": {**components, "schemas": schemas}}


def _describe_operation(operation: dict[str, Any], path: str) -> dict[str, Any]:
    """Return one operation with its failures."""
    answers = dict(operation.get("responses", {}))
    takes_values = bool(operation.get("parameters")) or "requestBody" in operation
    for status, words in (_EVERYWHERE | (_WITH_PARAMETERS if takes_values else {})).items():
        known = answers.get(status, {})
        has_own = "content" in known and status != "422"
        content = known["content"] if has_own else {**_TEXT, **(_JSON if path.startswith("/api/") else {})}
        answers[status] = {"description": words, **known, "content": content}
    if "422" in answers:
        answers["422"] = {**answers["422"], "content": _JSON}
    return {**operation, "responses": answers}
