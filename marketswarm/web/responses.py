"""Make the responses of all routes: pages, errors, JSON, and the static files.

A template has its dataclass as `page`; it reads values and makes no decisions. Autoescape is on, an unknown
name in a template is an error, and no text in a page is ever markup.

Static files are served from memory, compressed once, under a path that changes with their content.
"""

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib.resources import files
from typing import Any, ClassVar, Final, Protocol

import orjson
from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse, Response

from marketswarm import __version__
from marketswarm.text import escape_text

TYPES: Final[Mapping[str, str]] = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
FOREVER: Final = "public, max-age=31536000, immutable"
NO_HEADERS: Final[Mapping[str, str]] = {}
NO_FUNCTIONS: Final[Mapping[str, Callable[[], Any]]] = {}
PACKED: Final[Mapping[str, str]] = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file: its content, its content compressed, and its media type."""

    content: bytes
    packed: bytes
    media_type: str


class PageModel(Protocol):
    """What a template shows: a dataclass that names its template."""

    template: ClassVar[str]


@dataclass(frozen=True, slots=True)
class ErrorPage:
    """Why a request has no page: the HTTP status, a title and a text."""

    template: ClassVar = "error.html"
    status: int
    title: str
    text: str


class Templates:
    """The pages and static files of a package: its folders `templates` and `static`, read once, when used.

    `filters` are the functions that the templates apply to values, by name, and `functions` those that they
    call. One template is `error.html`, for an ErrorPage.
    """

    def __init__(
        self,
        package: str,
        filters: Mapping[str, Callable[..., Any]],
        functions: Mapping[str, Callable[[], Any]] = NO_FUNCTIONS,
    ) -> None:
        self._package, self._filters, self._functions = package, filters, functions

    def replace_functions(self, functions: Mapping[str, Callable[[], Any]]) -> "Templates":
        """Return the same pages and files with other functions in place of those of the same name."""
        return Templates(self._package, self._filters, {**self._functions, **functions})

    @cached_property
    def assets(self) -> Mapping[str, Asset]:
        """Return all static files by name. A file of an unknown type is not served."""
        found = {}
        for file in sorted(files(self._package).joinpath("static").iterdir(), key=lambda file: file.name):
            media_type = TYPES.get(file.name.rpartition(".")[2])
            if file.is_file() and media_type is not None:
                content = file.read_bytes()
                found[file.name] = Asset(content, gzip.compress(content, 9, mtime=0), media_type)
        return found

    @cached_property
    def assets_path(self) -> str:
        digest = sha256()
        for name, asset in self.assets.items():
            digest.update(name.encode() + b"\0" + asset.content)
        return f"/static/{digest.hexdigest()[:12]}"

    @cached_property
    def _environment(self) -> Environment:
        environment = Environment(
            loader=PackageLoader(self._package),
            autoescape=True,
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update(self._filters)
        environment.globals.update(self._functions)
        environment.globals.update(assets=self.assets_path, version=__version__)
        return environment

    def render(self, page: PageModel) -> str:
        return self._environment.get_template(page.template).render(page=page)

    def answer(
        self, page: PageModel, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Response:
        return HTMLResponse(self.render(page), status, {**(headers or {}), "Cache-Control": "no-store"})

    def answer_error(
        self, status: int, title: str, text: str, headers: Mapping[str, str] | None = None
    ) -> Response:
        return self.answer(ErrorPage(status, title, text), status, headers)

    def answer_asset(self, digest: str, name: str, *, takes_gzip: bool) -> Response:
        """Return the answer for a static file; 404 for an unknown name.

        Under another digest than the current one the file is served as well, and is not kept, because a page
        may be older than the server.
        """
        asset = self.assets.get(name)
        if asset is None:
            return Response("not found\n", 404, media_type="text/plain")
        is_current = self.assets_path == f"/static/{digest}"
        headers = {"Cache-Control": FOREVER if is_current else "no-cache", "Vary": "Accept-Encoding"}
        packs = takes_gzip and len(asset.packed) < len(asset.content)
        if packs:
            headers["Content-Encoding"] = "gzip"
        return Response(
            asset.packed if packs else asset.content, headers=headers, media_type=asset.media_type
        )


def redirect(path: str) -> Response:
    return RedirectResponse(path, 303, {"Cache-Control": "no-store"})


def answer_body(
    request: Request,
    body: bytes,
    etag: str,
    media_type: str = "application/json",
    more: Mapping[str, str] = NO_HEADERS,
    *,
    is_packed: bool = False,
) -> Response:
    """Return a body, or 304 if the client has it already by its `ETag`; both with `more` headers.

    `is_packed` says that the body is as gzip has it, because the client takes that.
    """
    headers = {"ETag": etag, "Cache-Control": "no-cache", **more}
    wanted = request.headers.get("if-none-match")
    if wanted is not None and has_tag(wanted, etag):
        return Response(status_code=304, headers=headers)
    if is_packed:
        headers |= PACKED
    return Response(body, headers=headers, media_type=media_type)


def has_tag(wanted: str, etag: str) -> bool:
    """Return True if an `If-None-Match` names a tag; RFC 9110 compares them weakly."""
    known = {each.strip().removeprefix("W/") for each in wanted.split(",")}
    return bool(known & {"*", etag.removeprefix("W/")})


def make_sentence(text: str) -> str:
    text = escape_text(text.strip())
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "."


def answer_fresh(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, {"Cache-Control": "no-store"}, "application/json")
