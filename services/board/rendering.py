"""Render pages: what every page has around its own content, and the templates.

A template has its dataclass as `page`, and nothing else; it reads values and makes no decisions about the
fleet. Autoescape is on, an unknown name in a template is an error, and no text in a page is ever markup.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined

from services.board.access.sessions import SessionView
from services.board.fleet.snapshot import FleetSnapshot
from services.board.fleet.words import FILTERS
from services.board.market.cascade import is_fallback
from services.board.market.pictures import FILTERS as MARKET_FILTERS


@dataclass(frozen=True, slots=True)
class ErrorPage:
    """Why a request has no page: the HTTP status, a title and a text."""

    template: ClassVar = "error.html"
    status: int
    title: str
    text: str
    assets: str = "/static/0"


class PageModel(Protocol):
    """What a template shows: a dataclass that names its template."""

    template: ClassVar[str]


def render(page: PageModel) -> str:
    return load_environment().get_template(page.template).render(page=page)


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
    environment.filters.update({**FILTERS, **MARKET_FILTERS, "is_fallback": is_fallback})
    return environment


@dataclass(frozen=True, slots=True)
class Frame:
    """What every page has around its own content.

    `position` is the id of the last event of the stream that `snapshot` includes; the page's script follows
    the stream from there on. `assets` is the path of the static files, with a mark that changes with their
    content. `version` is the program's. `session` is there on pages with forms if a person is signed in.
    """

    title: str
    path: str
    snapshot: FleetSnapshot
    position: str
    assets: str = "/static/0"
    version: str = ""
    session: SessionView | None = None
