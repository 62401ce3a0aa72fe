"""Answer requests for the newest bars of a chart without the routes, while the answer to them is kept.

Many users look at few charts. Where the answer is there, to find and to check a route costs ten times as much
as to find the answer; whatever else is asked, and all that fails, is left to the routes.
"""

import re
import time
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.board.access.tokens import find_address
from services.board.market.api import DEFAULT_TIMEFRAME, send_table
from services.board.market.market import Market
from services.board.market.query import ROWS, TableQuery

PREFIX: Final = "/api/v1/bars/"
_QUERY: Final = re.compile(rb"(?:timeframe=([0-9a-z]{1,4}))?(?:&?limit=([1-9][0-9]{0,3}))?")


class KeptCharts:
    """Answers what is kept for clients that take gzip, and hands all other requests on to `app`."""

    def __init__(self, app: ASGIApp, market: Market) -> None:
        self._app, self._market = app, market

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_chart = scope["type"] == "http" and scope["method"] == "GET" and scope["path"].startswith(PREFIX)
        found = self._find(Request(scope)) if is_chart else None
        await (found or self._app)(scope, receive, send)

    def _find(self, request: Request) -> Response | None:
        query = _QUERY.fullmatch(request.scope["query_string"])
        if query is None or "gzip" not in request.headers.get("accept-encoding", ""):
            return None
        frame, limit = query[1], query[2]
        answer = self._market.find_kept_chart(
            request.scope["path"].removeprefix(PREFIX),
            DEFAULT_TIMEFRAME if frame is None else frame.decode(),
            TableQuery(limit=ROWS if limit is None else int(limit)),
        )
        if answer is None:
            return None
        quota = self._market.limiter.take(find_address(request), time.monotonic())
        if quota is not None:
            if quota.wait_sec:
                return None  # nothing was taken: the route refuses it
            request.state.quota_headers = quota.headers
        return send_table(request, answer)
