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

from marketswarm.web.cache import Cached
from marketswarm.web.responses import PageModel, Templates
from services.board.fleet.frame import Frame

PAGE_SEC: Final = 1.0  # how long a page is kept: one with thousands of rows takes half a second to render
MAX_PAGES: Final = 40
PACK_LEVEL: Final = 4


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

    A page of a person who is signed in, which `cookie` shows, has their name and a secret, so it is made for
    them alone. `versions` has, by path, what returns the version of a page now; such a page is answered
    without its route, which then must not refuse anyone.
    """

    def __init__(self, templates: Templates, cookie: str) -> None:
        self.versions: dict[str, Callable[[], Hashable]] = {}
        self._templates, self._cookie = templates, cookie
        self._kept = Cached[Hashable, KeptPage](PAGE_SEC, MAX_PAGES)

    async def answer(
        self, request: Request, frame: Frame, version: Hashable, make: Callable[[], Awaitable[PageModel]]
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
        """Return the answer to a request without the cookie of a session, if it is kept and current."""
        find_version = self.versions.get(request.scope["path"])
        if find_version is None or self._cookie in request.cookies:
            return None
        page = self._kept.find_kept(_find_address(request), find_version())
        return page.answer(request) if page else None


def _find_address(request: Request) -> Hashable:
    return request.scope["path"], request.scope["query_string"]
