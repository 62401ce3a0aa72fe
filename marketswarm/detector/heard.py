"""Beats that arrived together on one bus: the hot path. `service` says what a familiar payload is. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from marketswarm.detector.clock import HeardAt
from marketswarm.detector.service import WatchedService


class BeatBatch:
    """Beats that arrived together on one bus: familiar ones are stored here, the others are yielded.

    Args:
        messages: `[b"message", channel, payload]` each, as the server sends them.
        heard: when the batch was heard.
    """

    __slots__ = ("_channels", "_heard", "_messages", "familiar", "others")

    def __init__(
        self,
        channels: Mapping[bytes, WatchedService],
        messages: Iterable[Sequence[Any]],
        heard: HeardAt,
    ) -> None:
        self._channels, self._messages, self._heard = channels, messages, heard
        self.familiar = 0
        """The number of familiar payloads, once `iterate_unfamiliar` is exhausted."""
        self.others: list[Sequence[Any]] = []
        """Messages on channels of no service."""

    def iterate_unfamiliar(self) -> Iterator[tuple[WatchedService, bytes]]:
        """Store the familiar payloads, in order; yield every other one, to be parsed before the next."""
        find: Callable[[bytes], WatchedService | None] = self._channels.get
        heard = self._heard
        familiar = 0
        for message in self._messages:
            _, channel, payload = message
            service = find(channel)
            if service is None:
                self.others.append(message)
            elif (
                service.payload < payload < service.expected_below
                and len(payload) == service.expected_size
                and payload.endswith(service.expected_tail)
            ):
                service.payload = payload
                service.last_beat = heard
                service.is_unparsed = True
                familiar += 1
            else:
                yield service, payload
        self.familiar = familiar
