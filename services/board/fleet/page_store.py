"""Keep pages that are the same for everyone: each is made and packed once for all browsers that show it.

After each event all browsers ask for their page at once, and to find a route costs more than to send what is
kept. So a page that is kept is answered without the routes.
"""

import gzip
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Final

from fastapi import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from marketswarm.web.cache import Cached
from marketswarm.web.responses import PageModel, Templates
from services.board.fleet.frame import Frame

PAGE_SEC: Final = 1.0  # how long a page is kept: one with thousands of rows takes half a second to render
MAX_PAGES: Final = 40
PACK_LEVEL: Final = 4
FindVersion = Callable[[], Hashable]
"""Returns what is another value once a page shows something else."""
Address = tuple[str, bytes]
"""The path and the query of a page."""


@dataclass(frozen=True, slots=True)
class KeptPage:
    """A page as HTML, and the same compressed."""

    body: bytes
    packed: bytes

    def answer(self, request: Request) -> Response:
        headers = {"Cache-Control": "no-store", "Vary": "Accept-Encoding"}
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return HTMLResponse(self.body, headers=headers)
        return HTMLResponse(self.packed, headers=headers | {"Content-Encoding": "gzip"})


class PageStore:
    """Makes pages, and keeps each for PAGE_SEC, in memory: many who look at it cost as much as one.

    A page of a person who is signed in has their name and a secret, so it is made for them alone. `versions`
    has the paths whose pages may be answered without their route, which then must not refuse anyone.
    """

    def __init__(self, templates: Templates) -> None:
        self.versions: dict[str, FindVersion] = {}
        self._templates = templates
        self._kept = Cached[Address, KeptPage](PAGE_SEC, MAX_PAGES)

    async def answer(
        self,
        request: Request,
        frame: Frame,
        version: Hashable,
        make: Callable[[], Awaitable[PageModel]],
    ) -> Response:
        """Return the page of a request, made by `make` unless it is kept and has this version."""

        async def make_page() -> KeptPage:
            body = self._templates.render(await make()).encode()
            return KeptPage(body, gzip.compress(body, PACK_LEVEL, mtime=0))

        if frame.session is not None:
            page = await make_page()
        else:
            page = await self._kept.find(_find_address(request), make_page, version)
        return page.answer(request)

    def find_kept(self, request: Request) -> Response | None:
        """Return the answer to a request of a person who is not signed in, if it is kept and current."""
        find_version = self.versions.get(request.scope["path"])
        page = find_version and self._kept.find_kept(_find_address(request), find_version())
        return page.answer(request) if page else None


def _find_address(request: Request) -> Address:
    return request.scope["path"], request.scope["query_string"]


class KeptPages:
    """Answers what `pages` keeps to clients without the `cookie` of a session; `app` answers all others."""

    def __init__(self, app: ASGIApp, pages: PageStore, cookie: str) -> None:
        self._app, self._pages, self._cookie = app, pages, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = None
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"] in self._pages.versions:
            request = Request(scope)
            found = None if self._cookie in request.cookies else self._pages.find_kept(request)
        await (found or self._app)(scope, receive, send)
