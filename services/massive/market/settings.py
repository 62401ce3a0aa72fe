"""What the truth says of market data: which symbols, from where, how much of it is kept. Pure.

What market data and its probe read from the environment: the key, and where the API is, if elsewhere.

The truth goes first for the places, and never has the key.
"""

import ipaddress
from collections.abc import Iterable
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from marketswarm.agent import ServiceConfig
from marketswarm.settings import CommonSettings, Token
from marketswarm.truth.env_policy import may_take_market_key, place_of
from services.massive.market.bars import SYMBOL

SYMBOLS_AT_MOST: Final = 500
BACKFILL_AT_MOST_SEC: Final = 7 * 86_400
LOOPBACK: Final = "localhost"
REST_URL: Final = "https://api.massive.com"
KEY_REMEDY: Final = "set MASSIVE_REST_URL or MASSIVE_WS_URL to that place in massive's environment"
WS_URLS: Final = {
    "delayed": "wss://delayed.massive.com/stocks",
    "real-time": "wss://socket.massive.com/stocks",
}


def secure(schemes: tuple[str, str], url: str) -> str:
    """`url`, if the key may be sent there: the second scheme, or the first on this very machine.

    Raises ValueError, without the URL: it may hold what it should not.
    """
    plain, encrypted = schemes
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    if not host or parts.scheme not in schemes or not url.isprintable() or " " in url:
        raise ValueError(f"must be {encrypted}://host/…")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must have no user, password or query: the key is sent in a header or a message")
    if parts.scheme == plain and not _is_loopback(host):
        raise ValueError(f"must be {encrypted}://, since the key is sent there; {plain}:// is for 127.0.0.1")
    return url


def _is_loopback(host: str) -> bool:
    try:
        return host == LOOPBACK or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _ticker(symbol: str) -> str:
    if symbol == "*":
        raise ValueError("must name tickers: what is missing of all of them (*) could not be asked for")
    if not SYMBOL.fullmatch(symbol):
        raise ValueError("must be a ticker as the API writes it, such as AAPL or BRK.B")
    return symbol


def _once(symbols: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({symbol for symbol in symbols if symbols.count(symbol) > 1})
    if twice:
        raise ValueError(f"names {', '.join(twice[:3])} more than once")
    return symbols


RestUrl = Annotated[str, Field(max_length=500), AfterValidator(lambda url: secure(("http", "https"), url))]
WsUrl = Annotated[str, Field(max_length=500), AfterValidator(lambda url: secure(("ws", "wss"), url))]
Symbol = Annotated[str, AfterValidator(_ticker)]
"""Not `*`: what nobody named, nobody could ask for again."""


class MarketSettings(ServiceConfig):
    """`settings.market` of massive."""

    source: Literal["live", "replay", "off"] = "live"
    """`live` needs symbols and `POLYGON_API_KEY`; `replay` plays `file`; `off` is nothing. Example:
    `"replay"`."""
    symbols: Annotated[tuple[Symbol, ...], Field(max_length=SYMBOLS_AT_MOST), AfterValidator(_once)] = ()
    """Tickers as the API writes them; `*` is refused. Example: `["AAPL", "BRK.B"]`."""
    feed: Literal["delayed", "real-time"] = "delayed"
    """Which feed your plan includes; `delayed` is 15 minutes late. Example: `"real-time"`."""
    rest_url: RestUrl | None = Field(default=None, repr=False)
    """Where the REST API is, `https://`. Default: `MASSIVE_REST_URL`, else `https://api.massive.com`.
    Example: `"https://api.massive.com"`."""
    ws_url: WsUrl | None = Field(default=None, repr=False)
    """Where the WebSocket API is, `wss://`. Default: `MASSIVE_WS_URL`, else that of `feed`. Example:
    `"wss://delayed.massive.com/stocks"`."""
    file: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    """The recording that `replay` plays. Example: `"recorded.jsonl"`."""
    speed: Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)] = 1.0
    """The speed of a replay: 1 is as recorded, 60 a minute in a second, 0 as fast as the bus takes it.
    Example: `60`."""
    backfill_sec: Annotated[float, Field(ge=0, le=BACKFILL_AT_MOST_SEC)] = 3 * 86_400.0
    """How far back a gap is filled; at most a week. Example: `86400`."""
    settle_sec: Annotated[float, Field(ge=0, le=300)] = 10.0
    """How long a bar is left to become final before REST is asked for it, and how far this machine's
    clock may be off. Example: `30`."""
    keep: Annotated[int, Field(gt=0, le=10_000_000)] = 100_000
    """About how many bars the stream holds. Example: `1000000`."""

    @model_validator(mode="after")
    def _replay_has_a_file(self) -> Self:
        if self.source == "replay" and self.file is None:
            raise ValueError('must have "file", the recording to play, with "source": "replay"')
        return self

    @property
    def delay_sec(self) -> float:
        """How long after its end a bar is told."""
        return 900.0 if self.feed == "delayed" else 0.0


def rest_url(wishes: MarketSettings, environment: str | None) -> str:
    """Where to ask: the truth goes before the environment, which goes before where the API says it is."""
    return wishes.rest_url or environment or REST_URL


def ws_url(wishes: MarketSettings, environment: str | None) -> str:
    """Where to listen, likewise."""
    return wishes.ws_url or environment or WS_URLS[wishes.feed]


def key_refusal(urls: Iterable[str | None], environment: tuple[str | None, ...]) -> str | None:
    """Why the key may not be sent to one of these URLs of the truth; None when it may go to all."""
    for url in filter(None, urls):
        if not may_take_market_key(url, environment):
            return f"the key is not sent to {place_of(url) or 'what is no URL'}: {KEY_REMEDY}"
    return None


class MarketEnvironment(CommonSettings):
    """All may be left out. The key has a `_FILE` twin, and so have the URLs."""

    polygon_api_key: Token | None = None
    massive_rest_url: RestUrl | None = Field(default=None, repr=False)
    massive_ws_url: WsUrl | None = Field(default=None, repr=False)
