"""Is the market data API there, and does it know us: its market status by REST, its login by WebSocket.

An account has one WebSocket connection a cluster as a rule, and a new one throws the old one out. So while
massive streams market data itself, its stream is what is looked at, and nothing is opened beside it; and
`"websocket": false` is for who streams with the same key elsewhere.
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
    """Ask for the status, then show the key. The stages are `rest` and `ws`; the errors are their words."""
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
    """Raises Wrong, or Ended, where we are not. A stream that only begins has its time, or another's turn."""
    stream = means.market_stream()
    if stream not in (None, STREAMING, CONNECTING, STANDS_BY):
        raise Wrong(stream)
    course.facts["by"] = "login" if stream is None else "our own stream"
    if stream is None and means.api_key is not None:
        async with Wire(means.ws_url, means.api_key, means.within_sec) as wire:
            await authenticate(wire, Machine(()), means.within_sec)
