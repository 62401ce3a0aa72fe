"""Probe the market data API: the market status by REST, and a login by WebSocket.

An account usually has one WebSocket connection per cluster, and a new one ends the old one. So while massive
streams market data itself, the state of its stream is reported, and no connection is opened beside it;
`"websocket": false` is for accounts that stream with the same key elsewhere.
"""

from urllib.parse import urlsplit

from services.massive.market.errors import Ended, RestError
from services.massive.market.protocol import Machine
from services.massive.market.rest import Rest
from services.massive.market.status import CONNECTING, STANDS_BY, STREAMING
from services.massive.market.stream import Wire, authenticate
from services.massive.probes.probers.context import Means
from services.massive.probes.probers.trace import Course, Wrong
from services.massive.probes.result import Result
from services.massive.probes.targets import Polygon


async def probe(target: Polygon, means: Means) -> Result:
    """Request the status, then log in. The stages are `rest` and `ws`; the errors are their words."""
    url = target.url or means.rest_url
    course = Course("polygon", urlsplit(url).netloc)
    async with course.within(means.within_sec):
        if means.api_key is None:
            raise Wrong("no_key")
        try:
            with course.step("rest"):
                async with Rest(url, means.api_key, means.within_sec) as rest:
                    market = (await rest.status()).get("market")
            course.facts["market"] = market if isinstance(market, str) else "unknown"
            if target.websocket:
                with course.step("ws"):
                    await _let_in(means, course)
        except RestError as error:
            raise Wrong(error.word) from None
        except Ended as ended:
            raise Wrong(ended.reason) from None
    return course.result()


async def _let_in(means: Means, course: Course) -> None:
    """Raise Wrong or Ended if the login fails.

    A stream that is starting, or is another instance's, is fine.
    """
    stream = means.market_stream()
    if stream not in (None, STREAMING, CONNECTING, STANDS_BY):
        raise Wrong(stream)
    course.facts["by"] = "login" if stream is None else "our own stream"
    if stream is None and means.api_key is not None:
        async with Wire(means.ws_url, means.api_key, means.within_sec) as wire:
            await authenticate(wire, Machine(()), means.within_sec)
