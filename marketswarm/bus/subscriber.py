"""Subscribe to channels and patterns of one bus, for callers that may miss messages.

The subscriber has a connection of its own, which it makes again after any error. Pings detect a connection
that broke without an error. The caller is notified of each new subscription, and then reads the state that it
may have missed. A program that must prove that it receives messages, as the healer must, uses `listener.py`.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final

from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.asyncio.client import PubSub
from redis.asyncio.connection import ConnectionPool
from redis.exceptions import InvalidResponse, RedisError

from marketswarm.bus.bus import Bus
from marketswarm.bus.errors import BusError, make_bus_error
from marketswarm.bus.parser import (
    MAX_MESSAGE_BYTES,
    MAX_TRACED_BYTES,
    SkippingParser,
    reply_limit,
)
from marketswarm.bus.session import Gather
from marketswarm.net.retry import Backoff

PING_SEC: Final = 5.0
BACKOFF: Final = Backoff(first_sec=0.1, longest_sec=2.0)
YIELD_EVERY: Final = 50
"""After so many messages other tasks run once."""
_Forward = Callable[[list[Any]], None]


async def subscribe(
    bus: Bus,
    *,
    on_message: Callable[[bytes, bytes], None],
    on_subscribed: Callable[[], None],
    on_lost: Callable[[BusError], None] = lambda _error: None,
    channels: Sequence[str] = (),
    patterns: Sequence[str] = (),
    on_skipped: Callable[[bytes], None] | None = None,
    ping_sec: float = PING_SEC,
    gather_sec: float = 0.0,
) -> None:
    """Receive the messages of channels and patterns until cancelled, connecting again after each error.

    Args:
        on_message: called with the channel and the payload of each message.
        on_subscribed: called after each connect, when the server has acknowledged all subscriptions.
        on_lost: called with the error when a connection ended or could not be made.
        on_skipped: called with the channel of each message longer than `MAX_MESSAGE_BYTES`, which is not
            stored. Where the beginning of such a message can't be found, the connection ends instead.
        ping_sec: seconds of silence until a ping is sent, and then until the connection counts as lost.
        gather_sec: seconds for which messages gather before they are read. With many senders each message
            wakes the program, which costs more than to handle it.
    """
    reply_limit.set(MAX_TRACED_BYTES)
    forward = _make_forwarder(on_message, on_skipped)
    failures = 0
    while True:
        kwargs = {**bus.pool.connection_kwargs, "parser_class": SkippingParser}
        pubsub = PubSub(ConnectionPool(connection_class=bus.pool.connection_class, **kwargs))
        try:
            if channels:
                await bus.ask(pubsub.subscribe(*channels))
            if patterns:
                await bus.ask(pubsub.psubscribe(*patterns))
            pending_count = len(channels) + len(patterns)
            await _await_acknowledgements(bus, pubsub, forward, pending_count)
            on_subscribed()
            failures = 0
            await _forward_messages(bus, pubsub, forward, ping_sec, gather_sec)
        except (BusError, RedisError, OSError) as error:
            on_lost(make_bus_error(bus.name, error))
        finally:
            with contextlib.suppress(RedisError, OSError):
                await pubsub.aclose()  # type: ignore[no-untyped-call]
        failures += 1
        await asyncio.sleep(BACKOFF.pause_sec(failures))


async def _await_acknowledgements(bus: Bus, pubsub: PubSub, forward: _Forward, pending_count: int) -> None:
    """Wait until the server has acknowledged `pending_count` subscriptions, passing messages on meanwhile.

    Raises BusError if the server refuses a subscription, or does not answer in time.
    """
    while pending_count:
        reply = await bus.ask(_read_reply(pubsub))
        if reply[0] in (b"subscribe", b"psubscribe"):
            pending_count -= 1
        else:
            forward(reply)


async def _read_reply(pubsub: PubSub) -> list[Any]:
    connection: Any = pubsub.connection
    reply = await connection.read_response(disconnect_on_error=False)
    # so a bus in memory answers a ping
    return [reply] if reply == b"PONG" else _require_push(reply)


def _require_push(reply: Any) -> list[Any]:
    """Return what the server sent unasked, `[kind, ...]`; raise RedisError for an error or anything else."""
    if isinstance(reply, RedisError):
        raise reply
    if type(reply) is not list or not reply:
        raise InvalidResponse("not a message")
    return reply


async def _forward_messages(
    bus: Bus, pubsub: PubSub, forward: _Forward, ping_sec: float, gather_sec: float
) -> None:
    """Pass messages on until the connection fails; after `ping_sec` seconds without any, send a ping.

    Messages that arrived together cost one wait and one timer, not one for each.

    Raises:
        TimeoutError: the ping was not answered within `ping_sec` seconds either.
        BusError: the ping could not be sent.
        RedisError: the connection failed.
    """
    parser = getattr(pubsub.connection, "_parser", None)  # private, and the one way to what has arrived
    if not isinstance(parser, SkippingParser):
        parser = None  # of a bus in memory
    gather, is_pinged, count = Gather(), False, 0
    while True:
        try:
            async with asyncio.timeout(ping_sec):
                # no time-out of the client's own, see `Bus`
                reply = await _read_reply(pubsub)
        except TimeoutError:
            if is_pinged:
                raise
            is_pinged = True
            await bus.ask(pubsub.ping())
            continue
        is_pinged = False
        forward(reply)
        while True:
            count += 1
            if count % YIELD_EVERY == 0:
                # reading messages that have arrived never waits, so no other task would run
                await asyncio.sleep(0)
            if parser is None or (arrived := parser.get_reply_reader()()) is NOT_ENOUGH_DATA:
                break
            forward(_require_push(arrived))
        if gather_sec and parser is not None and parser.is_drained:
            await gather.wait(pubsub.connection, gather_sec)


def _make_forwarder(
    on_message: Callable[[bytes, bytes], None], on_skipped: Callable[[bytes], None] | None
) -> _Forward:
    """Return a function that passes a message to `on_message`, or to `on_skipped` if it is too long."""

    def forward(reply: list[Any]) -> None:
        if reply[0] not in (b"message", b"pmessage"):
            return
        channel, payload = reply[-2:]
        if not isinstance(channel, bytes) or not isinstance(payload, bytes):
            raise InvalidResponse("not a message")
        if type(payload) is bytes and len(payload) <= MAX_MESSAGE_BYTES:
            on_message(channel, payload)
        elif on_skipped is not None:
            on_skipped(channel)

    return forward
