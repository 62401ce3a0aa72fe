"""Implement the protocol of the WebSocket API as a table of states and statuses. Pure: no I/O, no key.

A `ProtocolMachine` takes frames, and returns bars and requests to send. The sender of a request adds the API
key: it is not known here, so nothing here can reveal it.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal

import orjson

from services.massive.market.bars import MinuteBar, Source, is_plausible, parse_stream_bar
from services.massive.market.settings import MAX_BACKFILL_SEC

SYMBOLS_PER_REQUEST: Final = 100
CHANNEL: Final = "AM."
CONFIRMATION: Final = "subscribed to: "
MAX_AGE_MS: Final = 1000.0 * MAX_BACKFILL_SEC
"""An older bar is implausible, since the bit that records whether it is on the stream may have expired."""


class ConnectionState(StrEnum):
    """Name the state of a connection."""

    GREETING = "greeting"  # the socket is open, and the server sends the first message
    AUTHENTICATING = "authenticating"  # the key was sent
    STREAMING = "streaming"
    OVER = "over"


class ServerStatus(StrEnum):
    """Name the statuses of the server that change the state, as the API spells them."""

    CONNECTED = "connected"
    AUTH_SUCCESS = "auth_success"
    AUTH_FAILED = "auth_failed"
    AUTH_TIMEOUT = "auth_timeout"
    MAX_CONNECTIONS = "max_connections"
    SLOW_CONSUMER = "slow_consumer"
    SUCCESS = "success"
    ERROR = "error"


Action = Literal["auth", "subscribe", "unsubscribe"]
FINAL_STATUSES: Final = (
    ServerStatus.AUTH_FAILED,
    ServerStatus.AUTH_TIMEOUT,
    ServerStatus.MAX_CONNECTIONS,
    ServerStatus.SLOW_CONSUMER,
)
"""Statuses that the server sends in any state before it hangs up; each is also the reason that we report."""

TABLE: Final[Mapping[tuple[ConnectionState, ServerStatus], tuple[ConnectionState, Action | None]]] = {
    (ConnectionState.GREETING, ServerStatus.CONNECTED): (ConnectionState.AUTHENTICATING, "auth"),
    (ConnectionState.AUTHENTICATING, ServerStatus.AUTH_SUCCESS): (ConnectionState.STREAMING, "subscribe"),
    (ConnectionState.AUTHENTICATING, ServerStatus.ERROR): (ConnectionState.OVER, None),
    (ConnectionState.STREAMING, ServerStatus.SUCCESS): (ConnectionState.STREAMING, None),
    # such as one symbol refused: the others go on
    (ConnectionState.STREAMING, ServerStatus.ERROR): (ConnectionState.STREAMING, None),
    **{
        (state, final): (ConnectionState.OVER, None)
        for state in list(ConnectionState)[:-1]
        for final in FINAL_STATUSES
    },
}
"""By state and status: the next state, and the action to request."""


@dataclass(frozen=True, slots=True)
class Request:
    """Hold a request to be sent. The `params` of an `auth` are the key, which the sender adds."""

    action: Action
    params: str = ""


@dataclass(slots=True)
class FrameContent:
    """Hold the content of one frame.

    Attributes:
        requests: what to send in answer.
        confirmed: the symbols whose bars the server sends from now on.
        end_reason: why the connection ends, if it does.
    """

    requests: list[Request] = field(default_factory=list)
    confirmed: list[str] = field(default_factory=list)
    bars: list[MinuteBar] = field(default_factory=list)
    end_reason: str | None = None


class ProtocolMachine:
    """Follow the protocol on one connection, as a state machine.

    Args:
        symbols: the symbols that are wanted; None for all symbols, as for a recording.
        source: the source of the bars that are parsed.
        anomalies: the counter for what made no sense: malformed, unexpected, stranger (a symbol that was not
            requested), implausible. By default a new one.
    """

    def __init__(
        self, symbols: Collection[str] | None, source: Source = "ws", anomalies: Counter[str] | None = None
    ) -> None:
        self.state = ConnectionState.GREETING
        self.anomalies: Counter[str] = Counter() if anomalies is None else anomalies
        self.confirmed: set[str] = set()
        self._wanted = None if symbols is None else set(symbols)
        self._source: Source = source

    @property
    def unconfirmed(self) -> list[str]:
        return sorted((self._wanted or set()) - self.confirmed)

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

    def set_symbols(self, symbols: Collection[str] | None) -> list[Request]:
        """Want these symbols and no others (None: all) from now on; return the requests to send."""
        if symbols is None:
            self._wanted = None
            return []
        before, self._wanted = self._wanted or set(), set(symbols)
        gone, new = before - self._wanted, self._wanted - before
        self.confirmed -= gone
        if self.state is not ConnectionState.STREAMING:
            return []  # all wanted symbols are requested once the connection streams
        return [*_make_requests("unsubscribe", gone), *_make_requests("subscribe", new)]

    def _parse_events(self, frame: bytes | str) -> Iterator[Mapping[str, Any]]:
        """Yield the JSON objects in a frame; count every other value as malformed."""
        try:
            found = orjson.loads(frame)
        except orjson.JSONDecodeError:
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
        step = TABLE.get((self.state, ServerStatus(status))) if status in list(ServerStatus) else None
        if step is None:
            self.anomalies["unexpected"] += 1
            return
        self.state, action = step
        if action == "auth":
            content.requests.append(Request("auth"))
        elif action == "subscribe":
            content.requests += _make_requests("subscribe", self._wanted or set())
        elif self.state is ConnectionState.OVER:
            content.end_reason = str(status)
        elif status == ServerStatus.SUCCESS and isinstance(message, str) and message.startswith(CONFIRMATION):
            for channel in message.removeprefix(CONFIRMATION).split(","):
                self._confirm(channel.strip().removeprefix(CHANNEL), content)

    def _add_bar(self, event: Mapping[str, Any], now_ms: float, content: FrameContent) -> None:
        """Add the bar of an event to the content, if it is valid and wanted; it also confirms its symbol."""
        bar = parse_stream_bar(event, self._source)
        if self.state is not ConnectionState.STREAMING:
            self.anomalies["unexpected"] += 1
        elif bar is None:
            self.anomalies["malformed"] += 1
        elif self._wanted is not None and bar.sym not in self._wanted:
            self.anomalies["stranger"] += 1
        elif not is_plausible(bar, now_ms, MAX_AGE_MS):
            self.anomalies["implausible"] += 1
        else:
            self._confirm(bar.sym, content)
            content.bars.append(bar)

    def _confirm(self, sym: str, content: FrameContent) -> None:
        """Record that the server sends the bars of a wanted symbol, and add it to the content."""
        if self._wanted is not None and sym in self._wanted - self.confirmed:
            self.confirmed.add(sym)
            content.confirmed.append(sym)


def _make_requests(action: Action, symbols: Collection[str]) -> list[Request]:
    """Put at most SYMBOLS_PER_REQUEST into each request."""
    names = [CHANNEL + sym for sym in sorted(symbols)]
    size = SYMBOLS_PER_REQUEST
    return [Request(action, ",".join(names[at : at + size])) for at in range(0, len(names), size)]
