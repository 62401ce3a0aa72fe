"""Keep pages that are the same for everyone: each is made and packed once for all browsers that show it."""

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
MAX_PAGES: Final = 20
PACK_LEVEL: Final = 4


@dataclass(frozen=True, slots=True)
class KeptPage:
    """A page as HTML, and the same compressed."""

    body: bytes
    packed: bytes


class PageStore:
    """Makes pages, and keeps each for PAGE_SEC, in memory: many who look at it cost as much as one.

    A page of a person who is signed in has their name and a secret, so it is made for them alone.
    """

    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        self._kept = Cached[Hashable, KeptPage](PAGE_SEC, MAX_PAGES)

    async def answer(
        self,
        request: Request,
        frame: Frame,
        key: Hashable,
        version: Hashable,
        make: Callable[[], Awaitable[PageModel]],
    ) -> Response:
        """Return the page with this key, made by `make` unless it is kept and has this version."""

        async def make_page() -> KeptPage:
            body = self._templates.render(await make()).encode()
            return KeptPage(body, gzip.compress(body, PACK_LEVEL, mtime=0))

        if frame.session is not None:
            page = await make_page()
        else:
            page = await self._kept.find(key, make_page, version)
        headers = {"Cache-Control": "no-store", "Vary": "Accept-Encoding"}
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return HTMLResponse(page.body, headers=headers)
        return HTMLResponse(page.packed, headers=headers | {"Content-Encoding": "gzip"})
