"""Probe the market data API: the market status by REST, and a login by WebSocket.

An account usually has one WebSocket connection, and a new one ends the old one. So while massive itself
streams market data, the probe reports the state of that stream and opens no connection. `"websocket": false`
is for accounts that stream with the same key elsewhere.
"""

from urllib.parse import urlsplit

from marketswarm.net.errors import ConnectionEnded
from services.market.massive import ProtocolMachine
from services.massive.market.api import RestClient, RestError, StreamConnection, authenticate
from services.massive.market.status import CONNECTING, STANDBY, STREAMING
from services.massive.probes.probers.context import ProbeContext
from services.massive.probes.probers.trace import ProbeError, Trace
from services.massive.probes.result import ProbeResult
from services.massive.targets import Polygon


async def probe(target: Polygon, context: ProbeContext) -> ProbeResult:
    """Return whether the API answers and accepts the key. The stages are `rest` and `ws`."""
    url = target.url or context.rest_url
    trace = Trace("polygon", urlsplit(url).netloc)
    async with trace.within(context.timeout_sec):
        if context.api_key is None:
            raise ProbeError("no_key")
        try:
            with trace.step("rest"):
                async with RestClient(url, context.api_key, context.timeout_sec) as rest:
                    market = (await rest.fetch_market_status()).get("market")
            trace.facts["market"] = market if isinstance(market, str) else "unknown"
            if target.websocket:
                with trace.step("ws"):
                    await _check_login(context, trace)
        except RestError as error:
            raise ProbeError(error.reason) from None
        except ConnectionEnded as ended:
            raise ProbeError(ended.reason) from None
    return trace.result()


async def _check_login(context: ProbeContext, trace: Trace) -> None:
    """Log in by WebSocket, unless our own stream is open, starting, or run by another instance.

    If our own stream has failed, raise ProbeError with its reason. Raises ConnectionEnded if the login fails.
    """
    stream = context.market_stream()
    if stream not in (None, STREAMING, CONNECTING, STANDBY):
        raise ProbeError(stream)
    trace.facts["by"] = "login" if stream is None else "our own stream"
    if stream is None and context.api_key is not None:
        async with StreamConnection(context.ws_url, context.api_key, context.timeout_sec) as connection:
            await authenticate(connection, ProtocolMachine(()), context.timeout_sec)
