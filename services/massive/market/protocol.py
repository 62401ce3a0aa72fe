"""The protocol of the WebSocket server as a table of states and events. Pure: no I/O, no key.

Frames come in, requests and bars go out. The sender of a request adds the key: it is not known here, so
nothing here can reveal it.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal

import orjson

from services.massive.market.bars import Bar, Source, from_stream, plausible
from services.massive.market.settings import BACKFILL_AT_MOST_SEC

ASKED_AT_ONCE: Final = 100
CHANNEL: Final = "AM."
CONFIRMED: Final = "subscribed to: "
AGE_MS: Final = 1000.0 * BACKFILL_AT_MOST_SEC
"""Bars that began before that are none of now: what is known of them may be forgotten already."""


class State(StrEnum):
    """The state of a connection."""

    GREETING = "greeting"  # the socket is open, and they have the first word
    ASKING = "asking"  # the key was shown, and they make up their mind
    STREAMING = "streaming"
    OVER = "over"


class ServerStatus(StrEnum):
    """The statuses of the server that matter to us, in its words."""

    CONNECTED = "connected"
    AUTH_SUCCESS = "auth_success"
    AUTH_FAILED = "auth_failed"
    AUTH_TIMEOUT = "auth_timeout"
    MAX_CONNECTIONS = "max_connections"
    SLOW_CONSUMER = "slow_consumer"
    SUCCESS = "success"
    ERROR = "error"


Action = Literal["auth", "subscribe", "unsubscribe"]
ENDS: Final = (
    ServerStatus.AUTH_FAILED,
    ServerStatus.AUTH_TIMEOUT,
    ServerStatus.MAX_CONNECTIONS,
    ServerStatus.SLOW_CONSUMER,
)
"""What they say before they hang up, whenever that is; the word is the reason that everyone shows."""

TABLE: Final[Mapping[tuple[State, ServerStatus], tuple[State, Action | None]]] = {
    (State.GREETING, ServerStatus.CONNECTED): (State.ASKING, "auth"),
    (State.ASKING, ServerStatus.AUTH_SUCCESS): (State.STREAMING, "subscribe"),
    (State.ASKING, ServerStatus.ERROR): (State.OVER, None),
    (State.STREAMING, ServerStatus.SUCCESS): (State.STREAMING, None),
    (State.STREAMING, ServerStatus.ERROR): (
        State.STREAMING,
        None,
    ),  # one symbol refused, say; the others go on
    **{(state, said): (State.OVER, None) for state in list(State)[:-1] for said in ENDS},
}


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to be sent. The `params` of an `auth` are the key, which the sender adds."""

    action: Action
    params: str = ""


@dataclass(slots=True)
class FrameContent:
    """What one frame brought. `held`: symbols whose bars are sent from now on.

    `over`: why the connection ends.
    """

    asks: list[Ask] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    over: str | None = None


class ProtocolMachine:
    """The state machine of one connection.

    `symbols` are those wanted, None for all that come (of a recording).

    `odd` counts what made no sense: malformed, unexpected, stranger (a symbol nobody asked for), implausible.
    """

    def __init__(
        self, symbols: Collection[str] | None, source: Source = "ws", odd: Counter[str] | None = None
    ) -> None:
        self.state = State.GREETING
        self.odd: Counter[str] = Counter() if odd is None else odd
        self.held: set[str] = set()
        self._wanted = None if symbols is None else set(symbols)
        self._source: Source = source

    @property
    def unheld(self) -> list[str]:
        """Return the symbols that were requested, and of which nothing has come yet."""
        return sorted((self._wanted or set()) - self.held)

    def receive(self, frame: bytes | str, now_ms: float) -> FrameContent:
        """Return what a frame means, at `now_ms` since the epoch. Never raises, whatever the frame is."""
        heard = FrameContent()
        for event in self._events(frame):
            if self.state is State.OVER:
                break
            kind = event.get("ev")
            if kind == "status":
                self._status(event, heard)
            elif kind == "AM":
                self._told(event, now_ms, heard)
            else:
                self.odd["unexpected"] += 1
        return heard

    def want(self, symbols: Collection[str] | None) -> list[Ask]:
        """Return what to request now that these symbols are wanted, and no others; None as above."""
        if symbols is None:
            self._wanted = None
            return []
        before, self._wanted = self._wanted or set(), set(symbols)
        gone, new = before - self._wanted, self._wanted - before
        self.held -= gone
        if self.state is not State.STREAMING:
            return []  # all that is wanted is asked for when it begins
        return [*_asks("unsubscribe", gone), *_asks("subscribe", new)]

    def _events(self, frame: bytes | str) -> Iterator[Mapping[str, Any]]:
        try:
            found = orjson.loads(frame)
        except orjson.JSONDecodeError:
            found = None
        events: Sequence[Any] = found if isinstance(found, list) else [found]
        for event in events:
            if isinstance(event, dict):
                yield event
            else:
                self.odd["malformed"] += 1

    def _status(self, event: Mapping[str, Any], heard: FrameContent) -> None:
        status, message = event.get("status"), event.get("message")
        step = TABLE.get((self.state, ServerStatus(status))) if status in list(ServerStatus) else None
        if step is None:
            self.odd["unexpected"] += 1
            return
        self.state, action = step
        if action == "auth":
            heard.asks.append(Ask("auth"))
        elif action == "subscribe":
            heard.asks += _asks("subscribe", self._wanted or set())
        elif self.state is State.OVER:
            heard.over = str(status)
        elif status == ServerStatus.SUCCESS and isinstance(message, str) and message.startswith(CONFIRMED):
            for channel in message.removeprefix(CONFIRMED).split(","):
                self._hold(channel.strip().removeprefix(CHANNEL), heard)

    def _told(self, event: Mapping[str, Any], now_ms: float, heard: FrameContent) -> None:
        bar = from_stream(event, self._source)
        if self.state is not State.STREAMING:
            self.odd["unexpected"] += 1
        elif bar is None:
            self.odd["malformed"] += 1
        elif self._wanted is not None and bar.sym not in self._wanted:
            self.odd["stranger"] += 1
        elif not plausible(bar, now_ms, AGE_MS):
            self.odd["implausible"] += 1
        else:
            self._hold(bar.sym, heard)
            heard.bars.append(bar)

    def _hold(self, sym: str, heard: FrameContent) -> None:
        if self._wanted is not None and sym in self._wanted - self.held:
            self.held.add(sym)
            heard.held.append(sym)


def _asks(action: Action, symbols: Collection[str]) -> list[Ask]:
    """Return requests of a size that any server takes."""
    names = [CHANNEL + sym for sym in sorted(symbols)]
    return [
        Ask(action, ",".join(names[at : at + ASKED_AT_ONCE])) for at in range(0, len(names), ASKED_AT_ONCE)
    ]
