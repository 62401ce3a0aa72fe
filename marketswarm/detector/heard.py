"""Beats that arrived together on one bus: the hot path. `service` says what a familiar payload is. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from marketswarm.detector.clock import HeardAt
from marketswarm.detector.service import WatchedService
from marketswarm.detector.verdict import Counts


def store_familiar(
    channels: Mapping[bytes, WatchedService],
    messages: Iterable[Sequence[Any]],
    heard: HeardAt,
    counts: Counts,
) -> Iterator[tuple[WatchedService | None, Sequence[Any]]]:
    """Store the familiar payloads of a batch, in order; yield each other message with its service.

    It must be handled before the next one. The service is None for a channel of no service. The familiar ones
    are counted in the end.

    Args:
        messages: `[b"message", channel, payload]` each, as the server sends them.
        heard: when the batch was heard.
    """
    find: Callable[[bytes], WatchedService | None] = channels.get
    familiar = 0
    for message in messages:
        _, channel, payload = message
        service = find(channel)
        if (
            service is not None
            and service.payload < payload < service.expected_below
            and len(payload) == service.expected_size
            and payload.endswith(service.expected_tail)
        ):
            service.payload = payload
            service.last_beat = heard
            service.is_unparsed = True
            familiar += 1
        else:
            yield service, message
    counts.heard += familiar
