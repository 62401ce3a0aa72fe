"""Implement the protocol of Massive's WebSocket API, and parse its bars. Pure: no I/O, no key.

A `ProtocolMachine` is a table of states and statuses: it takes frames, and returns bars and requests to send.
The sender of a request adds the API key: it is not known here, so nothing here can reveal it. Everything that
the API sends is treated as hostile: an invalid bar becomes None, never an error.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import isfinite
from typing import Any, Final, Literal, TypeGuard

from marketswarm.pages import split_pages
from services.market.documents import load_json
from services.market.records import MINUTE_MS, Bar

SYMBOLS_PER_REQUEST: Final = 100
CHANNEL: Final = "AM."
CONFIRMATION: Final = "subscribed to: "
MAX_AGE_SEC: Final = 7 * 86_400
"""An older bar is implausible, since the bit that records whether it is on the stream may have expired."""
MAX_AHEAD_MS: Final = 2 * MINUTE_MS
"""The milliseconds by which a bar's end may be ahead of our clock; a later bar is implausible."""
SYMBOL: Final = re.compile(r"[A-Za-z][A-Za-z0-9.:\-]{0,19}")
"""A ticker as the API writes it."""
FINAL_STATUSES: Final = ("auth_failed", "auth_timeout", "max_connections", "slow_consumer")
"""Statuses that the server sends in any state before it hangs up; each is also the reason that we report."""


class ConnectionState(StrEnum):
    """Name the state of a connection."""

    GREETING = "greeting"  # the socket is open, and the server sends the first message
    AUTHENTICATING = "authenticating"  # the key was sent
    STREAMING = "streaming"
    OVER = "over"


Action = Literal["auth", "subscribe", "unsubscribe"]
TABLE: Final[Mapping[tuple[ConnectionState, str], tuple[ConnectionState, Action | None]]] = {
    (ConnectionState.GREETING, "connected"): (ConnectionState.AUTHENTICATING, "auth"),
    (ConnectionState.AUTHENTICATING, "auth_success"): (ConnectionState.STREAMING, "subscribe"),
    (ConnectionState.AUTHENTICATING, "error"): (ConnectionState.OVER, None),
    (ConnectionState.STREAMING, "success"): (ConnectionState.STREAMING, None),
    # such as one symbol refused: the others continue
    (ConnectionState.STREAMING, "error"): (ConnectionState.STREAMING, None),
    **{
        (state, final): (ConnectionState.OVER, None)
        for state in list(ConnectionState)[:-1]
        for final in FINAL_STATUSES
    },
}
"""By state and status, as the API spells it: the next state, and the action to request."""


@dataclass(frozen=True, slots=True)
class Request:
    """Hold a request to be sent. The `params` of an `auth` are the key, which the sender adds."""

    action: Action
    params: str = ""


@dataclass(frozen=True, slots=True)
class UnreadBar:
    """Hold what is known of a bar of a wanted symbol that makes no sense: its start, or None."""

    symbol: str
    start_ms: int | None


@dataclass(slots=True)
class FrameContent:
    """The content of one frame.

    `confirmed` are symbols whose bars the server sends from now on, `unread` the bars that could not be read,
    and are to be requested.
    """

    requests: list[Request] = field(default_factory=list)
    confirmed: list[str] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    unread: list[UnreadBar] = field(default_factory=list)
    end_reason: str | None = None


class ProtocolMachine:
    """Follow the protocol on one connection, as a state machine.

    `wanted` are the symbols that are requested, `confirmed` those whose bars the server sends.

    Args:
        symbols: the symbols that are wanted; None for all symbols, as for a recording.
        anomalies: the counter for what made no sense: malformed, unexpected, stranger (a symbol that was not
            requested), implausible. By default a new one.
    """

    def __init__(self, symbols: Collection[str] | None, anomalies: Counter[str] | None = None) -> None:
        self.state = ConnectionState.GREETING
        self.anomalies: Counter[str] = Counter() if anomalies is None else anomalies
        self.confirmed: set[str] = set()
        self.wanted = None if symbols is None else set(symbols)

    @property
    def unconfirmed(self) -> list[str]:
        return sorted((self.wanted or set()) - self.confirmed)

    def receive(self, frame: bytes | str, now_ms: float) -> FrameContent:
        """Return the content of a frame that arrived at `now_ms` (epoch milliseconds).

        It never raises, whatever the frame is; what makes no sense is counted in `anomalies`.
        """
        content = FrameContent()
        for event in self._parse_events(frame):
            if self.state is ConnectionState.OVER:
                break
            kind = event.get("ev")
            if kind == "status":
                self._apply_status(event, content)
            elif kind == "AM":
                self._add_bar(event, now_ms, content)
            else:
                self.anomalies["unexpected"] += 1
        return content

    def set_symbols(self, symbols: Collection[str]) -> list[Request]:
        """Want these symbols and no others from now on; return the requests to send."""
        before, self.wanted = self.wanted or set(), set(symbols)
        gone, new = before - self.wanted, self.wanted - before
        self.confirmed -= gone
        if self.state is not ConnectionState.STREAMING:
            return []  # all wanted symbols are requested once the connection streams
        return [*_make_requests("unsubscribe", gone), *_make_requests("subscribe", new)]

    def _parse_events(self, frame: bytes | str) -> Iterator[Mapping[str, Any]]:
        """Yield the JSON objects in a frame; count every other value as malformed."""
        try:
            found = load_json(frame)
        except ValueError:
            found = None
        events: Sequence[Any] = found if isinstance(found, list) else [found]
        for event in events:
            if isinstance(event, dict):
                yield event
            else:
                self.anomalies["malformed"] += 1

    def _apply_status(self, event: Mapping[str, Any], content: FrameContent) -> None:
        """Change the state by a status event; add the requests, confirmations or end reason that follow."""
        status, message = event.get("status"), event.get("message")
        step = TABLE.get((self.state, status)) if isinstance(status, str) else None
        if step is None:
            self.anomalies["unexpected"] += 1
            return
        self.state, action = step
        if action == "auth":
            content.requests.append(Request("auth"))
        elif action == "subscribe":
            content.requests += _make_requests("subscribe", self.wanted or set())
        elif self.state is ConnectionState.OVER:
            content.end_reason = str(status)
        elif status == "success" and isinstance(message, str) and message.startswith(CONFIRMATION):
            for channel in message.removeprefix(CONFIRMATION).split(","):
                self._confirm(channel.strip().removeprefix(CHANNEL), content)

    def _add_bar(self, event: Mapping[str, Any], now_ms: float, content: FrameContent) -> None:
        """Add the bar of an event to the content if it is valid, and else to `unread`; confirm its symbol.

        Nothing is added of a symbol that is not wanted.
        """
        sym, start = event.get("sym"), event.get("s")
        bar = make_bar(sym, start, event)
        is_plausible = _is_start(start) and (
            now_ms - 1000 * MAX_AGE_SEC <= start <= now_ms + MAX_AHEAD_MS - MINUTE_MS
        )
        if self.state is not ConnectionState.STREAMING:
            self.anomalies["unexpected"] += 1
        elif not isinstance(sym, str) or not SYMBOL.fullmatch(sym):
            self.anomalies["malformed"] += 1
        elif self.wanted is not None and sym not in self.wanted:
            self.anomalies["stranger"] += 1
        elif bar is None or not is_plausible:
            self.anomalies["malformed" if bar is None else "implausible"] += 1
            self._confirm(sym, content)
            content.unread.append(UnreadBar(sym, start if is_plausible else None))
        else:
            self._confirm(sym, content)
            content.bars.append(bar)

    def _confirm(self, sym: str, content: FrameContent) -> None:
        """Record that the server sends the bars of a wanted symbol, and add it to the content."""
        if self.wanted is not None and sym in self.wanted - self.confirmed:
            self.confirmed.add(sym)
            content.confirmed.append(sym)


def _make_requests(action: Action, symbols: Collection[str]) -> list[Request]:
    names = [CHANNEL + sym for sym in sorted(symbols)]
    return [Request(action, ",".join(page)) for page in split_pages(names, SYMBOLS_PER_REQUEST)]


def find_end(bar: Bar) -> int:
    """Return the first epoch millisecond after a bar."""
    return bar.start_ms + MINUTE_MS


def make_bar(sym: Any, start: Any, values: Mapping[str, Any]) -> Bar | None:
    """Return the bar with the prices and volume in `values`, or None if any of these is invalid.

    `values` are an event of the stream, or one of the `results` of the REST API.
    """
    prices = [_parse_number(values.get(name)) for name in "ohlcv"]
    if not isinstance(sym, str) or not SYMBOL.fullmatch(sym) or None in prices:
        return None
    if not _is_start(start):
        return None
    first, high, low, close, volume = (price or 0.0 for price in prices)
    return Bar(sym, "1m", start, first, high, low, close, volume, _parse_number(values.get("vw")))


def _is_start(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and 0 < value < 1 << 48 and value % MINUTE_MS == 0


def _parse_number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e18:
        return None
    return float(value) if isfinite(value) else None
