"""Probe the market data API: the market status by REST, and a login by WebSocket.

An account usually has one WebSocket connection per cluster, and a new one ends the old one. So while massive
streams market data itself, the state of its stream is reported, and no connection is opened beside it;
`"websocket": false` is for accounts that stream with the same key elsewhere.
"""

from urllib.parse import urlsplit

from services.massive.market.errors import Ended, RestError
from services.massive.market.protocol import ProtocolMachine
from services.massive.market.rest import Rest
from services.massive.market.status import CONNECTING, STANDS_BY, STREAMING
from services.massive.market.stream import StreamConnection, authenticate
from services.massive.probes.probers.context import ProbeContext
from services.massive.probes.probers.trace import ProbeError, Trace
from services.massive.probes.result import Result
from services.massive.probes.targets import Polygon


async def probe(target: Polygon, means: ProbeContext) -> Result:
    """Request the status, then log in. The stages are `rest` and `ws`; the errors are their words."""
    url = target.url or means.rest_url
    trace = Trace("polygon", urlsplit(url).netloc)
    async with trace.within(means.within_sec):
        if means.api_key is None:
            raise ProbeError("no_key")
        try:
            with trace.step("rest"):
                async with Rest(url, means.api_key, means.within_sec) as rest:
                    market = (await rest.status()).get("market")
            trace.facts["market"] = market if isinstance(market, str) else "unknown"
            if target.websocket:
                with trace.step("ws"):
                    await _let_in(means, trace)
        except RestError as error:
            raise ProbeError(error.word) from None
        except Ended as ended:
            raise ProbeError(ended.reason) from None
    return trace.result()


async def _let_in(means: ProbeContext, trace: Trace) -> None:
    """Raise ProbeError or Ended if the login fails.

    A stream that is starting, or is another instance's, is fine.
    """
    stream = means.market_stream()
    if stream not in (None, STREAMING, CONNECTING, STANDS_BY):
        raise ProbeError(stream)
    trace.facts["by"] = "login" if stream is None else "our own stream"
    if stream is None and means.api_key is not None:
        async with StreamConnection(means.ws_url, means.api_key, means.within_sec) as wire:
            await authenticate(wire, ProtocolMachine(()), means.within_sec)
