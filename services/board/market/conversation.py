"""Speak with one client of `/ws`: it names topics, and gets a snapshot and then numbered updates.

    → {"subscribe": ["bars:SPY:1m", "quotes:EUR/USD"], "after": "b1-204"}
    ← {"type": "snapshot", "position": "b1-311", "topics": {"bars:SPY:1m": [], "quotes:EUR/USD": {}}}
    ← {"type": "updates", "last": 312, "updates": [{"n": 312, "topic": "bars:SPY:1m", "data": {...}}]}

With `after`, a client that comes back gets what it missed instead of a snapshot, and `resumed` says so; if
the board does not know that any more, it is a snapshot. A message that is wrong is answered with `error`; a
client that continues like that is dropped.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from marketswarm.tasks import run_until_first
from marketswarm.web.limits import RateLimiter
from marketswarm.web.updates import (
    INTERVAL_SEC,
    MAX_INTERVAL_SEC,
    MAX_TOPICS,
    DropReason,
    Follower,
    FollowersFull,
    UpdateHub,
)
from marketswarm.web.validation import describe_invalid, place_errors
from services.board.market.market import Market
from services.board.market.names import UnknownNameError
from services.board.market.topics import OF_SYMBOLS, TopicKind
from services.market.fields import SYMBOL
from services.market.records import TIMEFRAMES

MESSAGES: Final = 20  # how many messages a client may send at once
MESSAGES_PER_SEC: Final = 5.0
MAX_MESSAGE_CHARS: Final = 64 * 1024
WIDE_COST: Final = 500
RESUME_COST: Final = 100  # for how many topics a resume counts: it looks through all updates that are kept
SEND_SEC: Final = 10.0  # how long a client may take to read a message; what waits longer was not read
CLOSE_SEC: Final = 3.0

GOING_AWAY: Final = 1001
FULL: Final = 1013
BAD_MESSAGE: Final = 4400
TOO_SLOW: Final = 4408
LOST: Final = 4410
TOO_MANY: Final = 4429

_ENDS: Final[Mapping[DropReason, tuple[int, str]]] = {
    DropReason.CLOSED: (GOING_AWAY, "the board ends"),
    DropReason.TOO_SLOW: (TOO_SLOW, "too slow: updates waited longer than this client read"),
    DropReason.LOST: (LOST, "updates were lost: connect again"),
}
"""By why a follower was dropped, the code and the reason of the close frame."""

_FULL_MARKET: Final = "too many clients follow the market: try again later"
_FULL_ADDRESS: Final = "too many clients of this address follow the market"

Topic = Annotated[str, Field(min_length=1, max_length=80)]


class ClientMessage(BaseModel):
    """What a client may send."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subscribe: Annotated[tuple[Topic, ...], Field(max_length=MAX_TOPICS)] = ()
    unsubscribe: Annotated[tuple[Topic, ...], Field(max_length=MAX_TOPICS)] = ()
    after: Annotated[str, Field(max_length=100)] | None = None
    interval_sec: (
        Annotated[float, Field(ge=INTERVAL_SEC, le=MAX_INTERVAL_SEC, allow_inf_nan=False)] | None
    ) = None


class MessageError(ValueError):
    """A message of a client is wrong; the text says how, and repeats no value of it."""


class Disconnect(Exception):  # noqa: N818 - the end of a conversation
    """A client is dropped: the code and the reason of the close frame."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


def parse_message(text: str) -> ClientMessage:
    if len(text) > MAX_MESSAGE_CHARS:
        raise MessageError("the message is too long")
    try:
        message = ClientMessage.model_validate(orjson.loads(text))
    except orjson.JSONDecodeError:
        raise MessageError("the message is not JSON") from None
    except ValidationError as error:
        raise MessageError(describe_invalid(place_errors(error, "message", ClientMessage))) from None
    if not all(map(is_topic, message.subscribe)):
        raise MessageError(
            "a topic is series, quotes, quotes:SYMBOL, signals, signals:SYMBOL, bars:1m, bars:SYMBOL:1m"
            " or indicators:SYMBOL:1m"
        )
    return message


def is_topic(text: str) -> bool:
    if text in (TopicKind.QUOTES, TopicKind.SERIES, TopicKind.SIGNALS):
        return True
    kind, _, rest = text.partition(":")
    if kind in OF_SYMBOLS:
        return SYMBOL.fullmatch(rest) is not None
    symbol, _, timeframe = rest.rpartition(":")
    if kind not in (TopicKind.BARS, TopicKind.INDICATORS) or timeframe not in TIMEFRAMES:
        return False
    return SYMBOL.fullmatch(symbol) is not None or (kind == TopicKind.BARS and rest == timeframe)


def find_cost(topic: str) -> int:
    """Return how many topics this one counts as; one of all symbols has a large snapshot."""
    rest = topic.partition(":")[2]
    return WIDE_COST if not rest or rest in TIMEFRAMES else 1


async def serve_client(socket: WebSocket, market: Market) -> None:
    """Accept a client that the guard let in, and speak with it until one of both ends it.

    One that breaks the rules, or too many, are disconnected. At the end it is dropped from the hub.
    """
    hub = market.hub
    await socket.accept()
    try:
        follower = hub.join(socket.client.host if socket.client else "")
    except FollowersFull as full:
        await _close(socket, Disconnect(FULL, _FULL_ADDRESS if full.is_of_address else _FULL_MARKET))
        return
    try:
        writing = asyncio.Lock()  # a snapshot must be out before the updates that follow it
        hello = {"type": "hello", "position": hub.position, "interval_sec": follower.interval_sec}
        await _send(socket, orjson.dumps(hello))
        reading = _read(socket, follower, market, writing)
        await run_until_first(reading, _send_updates(socket, follower, writing))
    except Disconnect as end:
        await _close(socket, end)
    except WebSocketDisconnect:
        pass
    finally:
        hub.leave(follower)


async def _read(socket: WebSocket, follower: Follower, market: Market, writing: asyncio.Lock) -> None:
    """Do what the client's messages say; each spends from a limit of messages, and of topics.

    Raises Disconnect, or WebSocketDisconnect once the client goes.
    """
    limiter = RateLimiter(MESSAGES, MESSAGES_PER_SEC, max_keys=1)
    while True:
        try:
            text = await socket.receive_text()
        except KeyError:
            raise Disconnect(BAD_MESSAGE, "messages are text") from None
        if limiter.take("", time.monotonic()):
            raise Disconnect(TOO_MANY, "too many messages")
        answer: Callable[[], bytes]
        try:
            message = parse_message(text)
            if len(follower.topics.union(message.subscribe)) > MAX_TOPICS:
                raise MessageError(f"a client has at most {MAX_TOPICS} topics")  # noqa: TRY301
            resume_cost = RESUME_COST if message.after is not None else 0
            await _wait_for_topics(market.hub, follower, resume_cost + sum(map(find_cost, message.subscribe)))
            await market.prepare_snapshots(message.subscribe)
        except (MessageError, UnknownNameError) as error:
            answer = partial(orjson.dumps, {"type": "error", "detail": str(error)})
        else:
            answer = partial(_follow, follower, message, market)
        async with writing:
            await _send(socket, answer())


async def _wait_for_topics(hub: UpdateHub, follower: Follower, count: int) -> None:
    """Spend `count` topics of the follower's address; return once it has had them."""
    while True:
        wait_sec = hub.topic_limiter.take(follower.address, time.monotonic(), count)
        if not wait_sec:
            return
        await asyncio.sleep(wait_sec)


def _follow(follower: Follower, message: ClientMessage, market: Market) -> bytes:
    hub = market.hub
    if message.interval_sec is not None:
        follower.interval_sec = message.interval_sec
    hub.unsubscribe(follower, message.unsubscribe)
    topics = tuple(dict.fromkeys(message.subscribe))
    is_resumed = message.after is not None and hub.resume(follower, message.after, topics)
    hub.subscribe(follower, topics)
    position = hub.find_position(follower)
    if is_resumed:
        return orjson.dumps({"type": "resumed", "after": message.after, "position": position})
    states = {topic: market.find_snapshot(topic) for topic in topics}
    return orjson.dumps({"type": "snapshot", "position": position, "topics": states})


async def _send_updates(socket: WebSocket, follower: Follower, writing: asyncio.Lock) -> None:
    """Send what waits for a follower, at most once an interval. Raises Disconnect once it is dropped."""
    while True:
        last, updates = await follower.take()
        if follower.dropped is not None:
            raise Disconnect(*_ENDS[follower.dropped])
        wires = b",".join(one.wire for one in updates)
        async with writing:
            await _send(socket, b'{"type":"updates","last":%d,"updates":[%s]}' % (last, wires))
        await follower.pause()


async def _send(socket: WebSocket, wire: bytes) -> None:
    try:
        async with asyncio.timeout(SEND_SEC):
            await socket.send_text(wire.decode())
    except TimeoutError:
        raise Disconnect(*_ENDS[DropReason.TOO_SLOW]) from None


async def _close(socket: WebSocket, end: Disconnect) -> None:
    with contextlib.suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
        async with asyncio.timeout(CLOSE_SEC):
            await socket.close(end.code, end.reason)
