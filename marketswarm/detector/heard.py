"""Beats that arrived together on one bus: the hot path. `service` says what a familiar payload is. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from marketswarm.detector.clock import HeardAt
from marketswarm.detector.verdict import Counts

NO_SIZE: Final = -1
"""The expected size while no payload is familiar."""


@dataclass(slots=True, eq=False, kw_only=True)
class LastPayload:
    """The last payload of a service, and what a familiar one is compared with.

    The slots of a class come before those of its heirs, by name. So all that a familiar beat reads and writes
    is in the first 64 bytes of a service, which is one line of the processor's cache, and not three.
    """

    # the payload that would be familiar: it is greater than the last one and less than this, which is
    # the text before `i` and a byte that is greater than any digit
    expected_below: bytes = b""
    expected_tail: bytes = b""
    expected_size: int = NO_SIZE
    payload: bytes = b""
    is_unparsed: bool = False  # the last payload was stored unparsed
    last_beat: HeardAt | None = None


Service = TypeVar("Service", bound=LastPayload)


def store_familiar(
    channels: Mapping[bytes, Service], messages: Iterable[Sequence[Any]], heard: HeardAt, counts: Counts
) -> Iterator[tuple[Service | None, Sequence[Any]]]:
    """Store the familiar payloads of a batch, in order; yield each other message with its service.

    It must be handled before the next one. The service is None for a channel of no service. The familiar ones
    are counted in the end.

    Args:
        messages: `[b"message", channel, payload]` each, as the server sends them.
        heard: when the batch was heard.
    """
    find: Callable[[bytes], Service | None] = channels.get
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
