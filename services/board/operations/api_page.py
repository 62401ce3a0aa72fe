"""Show the API on a page: its operations with their parameters and answers, from the OpenAPI document.

The page is made here and works without JavaScript, under the CSP of all pages: a reader follows links and
copies commands. Where scripts run, Swagger UI takes its place, from the board's own files: it tries requests.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from fastapi import APIRouter
from starlette.responses import Response

from services.board.fleet.fleet_board import FleetBoard

DOCS_PATH: Final = "/docs"
_METHODS: Final = ("get", "post", "put", "patch", "delete")
_PREFIX: Final = "/api/v1/"


@dataclass(frozen=True, slots=True)
class ParameterView:
    """A parameter of an operation: where it stands (`path`, `query`, `header`), its type and its meaning."""

    name: str
    place: str
    kind: str
    text: str
    is_required: bool


@dataclass(frozen=True, slots=True)
class OperationView:
    """An operation; `body` are the fields of its body, `answers` its statuses with what each means.

    `link` is where a reader may try it at once; None if it needs values, or changes something.
    """

    method: str
    path: str
    title: str
    text: str
    parameters: tuple[ParameterView, ...]
    body: tuple[ParameterView, ...]
    answers: tuple[tuple[str, str], ...]
    link: str | None
    command: str


@dataclass(frozen=True, slots=True)
class ApiPage:
    """The operations of the API by the first word of their paths."""

    template: ClassVar = "api.html"
    title: str
    version: str
    groups: Mapping[str, tuple[OperationView, ...]]


def make_page_of_api(fleet: FleetBoard, describe: Callable[[], dict[str, Any]]) -> APIRouter:
    """Return the route of the page; `describe` returns the OpenAPI document."""
    site = APIRouter(include_in_schema=False)

    @site.get(DOCS_PATH)
    async def show_api() -> Response:
        """Show what the API takes and answers."""
        return fleet.templates.answer(make_api_page(describe()))

    return site


def make_api_page(document: Mapping[str, Any]) -> ApiPage:
    groups: dict[str, tuple[OperationView, ...]] = {}
    for path, item in sorted(document["paths"].items()):
        word = find_group(path)
        if word is not None:
            found = tuple(_make_operation(path, name, item[name]) for name in _METHODS if name in item)
            groups[word] = (*groups.get(word, ()), *found)
    info = document["info"]
    return ApiPage(f"{info['title']}: API", info["version"], dict(sorted(groups.items())))


def find_group(path: str) -> str | None:
    """Return the group in which the page shows a path; None if it is no part of the API."""
    if path.startswith(_PREFIX):
        return path.removeprefix(_PREFIX).partition("/")[0]
    return "health" if path in ("/health", "/healthz", "/readyz") else None


def _make_operation(path: str, method: str, operation: Mapping[str, Any]) -> OperationView:
    title, _, text = operation.get("description", "").partition("\n")
    parameters = tuple(map(_make_parameter, operation.get("parameters", ())))
    is_plain = method == "get" and "{" not in path and path != "/api/v1/stream"
    is_ready = is_plain and not any(each.is_required for each in parameters)
    answers = tuple((status, each["description"]) for status, each in operation["responses"].items())
    body = tuple(_list_fields(operation.get("requestBody", {})))
    return OperationView(
        method=method.upper(),
        path=path,
        title=title,
        text=text.strip(),
        parameters=parameters,
        body=body,
        answers=tuple(sorted(answers)),
        link=path if is_ready else None,
        command=_make_command(path, method, has_body=bool(body)),
    )


def _make_command(path: str, method: str, *, has_body: bool) -> str:
    words = ["curl"]
    if method != "get":
        words += ["-X", method.upper(), '-H "Authorization: Bearer $TOKEN"']
    if has_body:
        words.append("-H 'Content-Type: application/json' -d '{…}'")
    return " ".join([*words, f"http://127.0.0.1:8080{path}"])


def _make_parameter(one: Mapping[str, Any]) -> ParameterView:
    schema = one.get("schema", {})
    kind = _describe_kind(schema)
    return ParameterView(one["name"], one["in"], kind, one.get("description", ""), one.get("required", False))


def _list_fields(body: Mapping[str, Any]) -> Iterator[ParameterView]:
    for content in body.get("content", {}).values():
        schema = content.get("schema", {})
        for name, each in schema.get("properties", {}).items():
            is_required = name in schema.get("required", ())
            yield ParameterView(name, "body", _describe_kind(each), each.get("description", ""), is_required)


def _describe_kind(schema: Mapping[str, Any]) -> str:
    """Return the types of a value, such as `integer, 1 to 100`, and its default."""
    kinds = [each.get("type", "value") for each in schema.get("anyOf", (schema,))]
    words = " or ".join("nothing" if kind == "null" else str(kind) for kind in kinds)
    if "minimum" in schema and "maximum" in schema:
        words += f", {schema['minimum']} to {schema['maximum']}"
    default = schema.get("default")
    return words if default in (None, "") else f"{words}, else {default}"
