"""Refuse requests with a parameter that their route does not have. Pure.

A parameter that is not known and not refused is the worst answer: `?as_of=2013-10-01` would get today's
values with status 200.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection


def make_parameter_check(
    everywhere: Collection[str] = (), by_path: Mapping[str, Collection[str]] | None = None
) -> Callable[[HTTPConnection], Awaitable[None]]:
    """Return a dependency for all routes that refuses unknown parameters of a query with 422.

    Known are those that a route declares, those that are allowed `everywhere`, and by the path of a route
    those that it reads by itself.
    """
    own = by_path or {}

    async def check(connection: HTTPConnection) -> None:
        """Refuse a parameter that is not known here. A coroutine, since FastAPI runs others in a thread."""
        route = connection.scope.get("route")
        if not connection.url.query or not isinstance(route, APIRoute):
            return
        known = {*_iter_declared(route.dependant), *everywhere, *own.get(route.path, ())}
        if unknown := [name for name in dict.fromkeys(connection.query_params) if name not in known]:
            raise RequestValidationError([_describe(name, known - set(everywhere)) for name in unknown])

    return check


def _describe(name: str, known: Collection[str]) -> dict[str, Any]:
    return {"type": "extra_forbidden", "loc": ("query", name), "msg": "", "ctx": {"known": sorted(known)}}


def _iter_declared(dependant: Dependant) -> Iterator[str]:
    """Yield the parameters that a route and what it depends on declare."""
    yield from (each.alias for each in dependant.query_params)
    for each in dependant.dependencies:
        yield from _iter_declared(each)
