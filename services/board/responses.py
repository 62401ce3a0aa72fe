"""Make the responses of all routes: pages, errors, JSON, and the static files.

A template has its dataclass as `page`; it reads values and makes no decisions about the fleet. Autoescape is
on, an unknown name in a template is an error, and no text in a page is ever markup.

Static files are served from memory, compressed once, under a path that changes with their content.
"""

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from typing import Any, ClassVar, Final, Protocol

import orjson
from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse, Response

from marketswarm import __version__
from marketswarm.text import escape_text
from services.board.access.sessions import BrowserSession, PageNotice
from services.board.fleet.probe_pictures import FILTERS as PROBE_FILTERS
from services.board.fleet.snapshot import FleetSnapshot
from services.board.fleet.words import FILTERS
from services.board.market.cascade import is_fallback
from services.board.market.pictures import FILTERS as MARKET_FILTERS

TYPES: Final[Mapping[str, str]] = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
FOREVER: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """A file: its content, its content compressed, and its media type."""

    content: bytes
    packed: bytes
    media_type: str


@lru_cache(maxsize=1)
def load_assets() -> Mapping[str, Asset]:
    """Return all static files by name; read once. A file of an unknown type is not served."""
    found = {}
    for file in sorted(files("services.board").joinpath("static").iterdir(), key=lambda file: file.name):
        media_type = TYPES.get(file.name.rpartition(".")[2])
        if file.is_file() and media_type is not None:
            content = file.read_bytes()
            found[file.name] = Asset(content, gzip.compress(content, 9, mtime=0), media_type)
    return found


@lru_cache(maxsize=1)
def find_assets_path() -> str:
    digest = sha256()
    for name, asset in load_assets().items():
        digest.update(name.encode() + b"\0" + asset.content)
    return f"/static/{digest.hexdigest()[:12]}"


def answer_asset(digest: str, name: str, *, takes_gzip: bool) -> Response:
    """Return the answer for a static file; 404 for an unknown name.

    Under another digest than that of now the file is served as well, and is not kept, because a page may be
    older than the server.
    """
    asset = load_assets().get(name)
    if asset is None:
        return Response("not found\n", 404, media_type="text/plain")
    is_current = find_assets_path() == f"/static/{digest}"
    headers = {"Cache-Control": FOREVER if is_current else "no-cache", "Vary": "Accept-Encoding"}
    packs = takes_gzip and len(asset.packed) < len(asset.content)
    if packs:
        headers["Content-Encoding"] = "gzip"
    return Response(asset.packed if packs else asset.content, headers=headers, media_type=asset.media_type)


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


@dataclass(frozen=True, slots=True)
class Frame:
    """What every page has around its own content.

    `position` is the id of the last event of the stream that `snapshot` includes; the page's script follows
    the stream from there on. `sections` are the paths and names of the menu. `session` is there on pages with
    forms if a person is signed in, and `notice` says the outcome of the form that led there, if one did.
    """

    title: str
    path: str
    snapshot: FleetSnapshot
    position: str
    sections: Sequence[tuple[str, str]] = ()
    session: BrowserSession | None = None
    notice: PageNotice | None = None


@lru_cache(maxsize=1)
def load_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("services.board"),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({**FILTERS, **PROBE_FILTERS, **MARKET_FILTERS, "is_fallback": is_fallback})
    environment.globals.update(assets=find_assets_path(), version=__version__)
    return environment


def render(page: PageModel) -> str:
    return load_environment().get_template(page.template).render(page=page)


def answer_page(page: PageModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return HTMLResponse(render(page), status, {**(headers or {}), "Cache-Control": "no-store"})


def redirect(path: str) -> Response:
    return RedirectResponse(path, 303, {"Cache-Control": "no-store"})


def answer_error(status: int, title: str, text: str, headers: Mapping[str, str] | None = None) -> Response:
    return answer_page(ErrorPage(status, title, text), status, headers)


def answer_body(request: Request, body: bytes, etag: str, media_type: str = "application/json") -> Response:
    """Return a body, or 304 if the client has it already by its `ETag`."""
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    known = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
    if known & {"*", etag.removeprefix("W/")}:  # RFC 9110 compares them weakly
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)


def make_sentence(text: str) -> str:
    text = escape_text(text.strip())
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "."


def answer_fresh(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, {"Cache-Control": "no-store"}, "application/json")
