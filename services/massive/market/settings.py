"""Define the settings of market data in the truth and in the environment. Pure.

The truth has the symbols, the source and the limits; the environment has the API key. Both may have a URL of
the API: then the truth's is used.
"""

from collections.abc import Iterable
from functools import partial
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from marketswarm.agent import ServiceConfig
from marketswarm.net.addresses import require_encrypted_url
from marketswarm.settings import CommonSettings, Token
from marketswarm.truth.env_policy import may_take_market_key, parse_destination
from services.market.massive import MAX_AGE_SEC, SYMBOL
from services.market.records import MINUTES_KEPT_DAYS

MAX_SYMBOLS: Final = 500
MAX_KEEP: Final = 10_000_000
"""The most entries of a stream. `sources` has the same limit."""
NO_KEY: Final = "POLYGON_API_KEY is not set"
REST_URL: Final = "https://api.massive.com"
KEY_REMEDY: Final = "set MASSIVE_REST_URL or MASSIVE_WS_URL to that place in massive's environment"
WS_URLS: Final = {
    "delayed": "wss://delayed.massive.com/stocks",
    "real-time": "wss://socket.massive.com/stocks",
}


def _require_ticker(symbol: str) -> str:
    if symbol == "*":
        raise ValueError("must name tickers: what is missing of all of them (*) could not be asked for")
    if not SYMBOL.fullmatch(symbol):
        raise ValueError("must be a ticker as the API writes it, such as AAPL or BRK.B")
    return symbol


def _require_unique(symbols: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({symbol for symbol in symbols if symbols.count(symbol) > 1})
    if twice:
        raise ValueError(f"names {', '.join(twice[:3])} more than once")
    return symbols


RestUrl = Annotated[str, Field(max_length=500), AfterValidator(partial(require_encrypted_url, "https"))]
WsUrl = Annotated[str, Field(max_length=500), AfterValidator(partial(require_encrypted_url, "wss"))]
Symbol = Annotated[str, AfterValidator(_require_ticker)]
"""A ticker; never `*`, since missing bars can only be requested by ticker."""


class MarketSettings(ServiceConfig):
    """`settings.market` of massive."""

    source: Literal["live", "off"] = "live"
    """`live` needs symbols and `POLYGON_API_KEY`; `off` is nothing. Example: `"off"`."""
    symbols: Annotated[
        tuple[Symbol, ...], Field(max_length=MAX_SYMBOLS), AfterValidator(_require_unique)
    ] = ()
    """Tickers as the API writes them; `*` is refused. Example: `["AAPL", "BRK.B"]`."""
    feed: Literal["delayed", "real-time"] = "delayed"
    """The feed that your plan includes; `delayed` is 15 minutes late. Example: `"real-time"`."""
    rest_url: RestUrl | None = Field(default=None, repr=False)
    """The URL of the REST API, `https://`. Default: `MASSIVE_REST_URL`, else `https://api.massive.com`.
    Example: `"https://api.massive.com"`."""
    ws_url: WsUrl | None = Field(default=None, repr=False)
    """The URL of the WebSocket API, `wss://`. Default: `MASSIVE_WS_URL`, else the URL of `feed`. Example:
    `"wss://delayed.massive.com/stocks"`."""
    backfill_sec: Annotated[float, Field(ge=0, le=MAX_AGE_SEC)] = 3 * 86_400.0
    """The age up to which gaps are filled; at most a week. Example: `86400`."""
    revise_days: Annotated[float, Field(ge=0, le=MAX_AGE_SEC / 86_400)] = MINUTES_KEPT_DAYS
    """How many days back bars are requested by REST again each hour, since the API has some late or corrects
    them. As the `revise_days` of `bars`, at most a week. Example: `2`."""
    settle_sec: Annotated[float, Field(ge=0, le=300)] = 10.0
    """The time after the end of a bar before it is requested by REST, so that it is final and this machine's
    clock may be off by as much. Example: `30`."""
    keep: Annotated[int, Field(gt=0, le=MAX_KEEP)] = 100_000
    """The number of bars, roughly, that the stream keeps: more if another service that writes to it keeps
    more, and up to twice as many while a reader is behind. Example: `1000000`."""

    @property
    def delay_sec(self) -> float:
        """How many seconds after its end the API sends a bar."""
        return 900.0 if self.feed == "delayed" else 0.0


def key_refusal(urls: Iterable[str | None], environment: tuple[str | None, ...]) -> str | None:
    """Return why the key may not be sent to one of `urls` from the truth; None if it may be sent to all.

    The key may go to the API's own hosts, and to the URLs in `environment`.
    """
    for url in filter(None, urls):
        if not may_take_market_key(url, environment):
            return f"the key is not sent to {parse_destination(url) or 'a malformed URL'}: {KEY_REMEDY}"
    return None


class MarketEnvironment(CommonSettings):
    """The variables of market data. All are optional, and each has a `_FILE` twin."""

    polygon_api_key: Token | None = None
    massive_rest_url: RestUrl | None = Field(default=None, repr=False)
    massive_ws_url: WsUrl | None = Field(default=None, repr=False)

    def find_urls(self, market: MarketSettings) -> tuple[str, str]:
        """Return the URLs of REST and WebSocket: of the truth, else the environment's, else the API's own."""
        rest_url = market.rest_url or self.massive_rest_url or REST_URL
        return rest_url, market.ws_url or self.massive_ws_url or WS_URLS[market.feed]

    def refuse_key(self, *urls: str | None) -> str | None:
        """Return why the key may not be sent to one of these URLs of the truth; None if it may be."""
        return key_refusal(urls, (self.massive_rest_url, self.massive_ws_url))
