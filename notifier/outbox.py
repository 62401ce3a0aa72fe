"""Keep every message that is not delivered yet, with its channels and its outcome on each of them.

Pure: `changes` returns what must survive a restart as fields of the state, `restore` reads them back. A
message stays until each of its channels accepted it or refused it for good; a message that all of them
refused goes to another channel. Not here: which messages there are (`router/`), and the sending
(`marketswarm/channels/worker.py`).
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson

from marketswarm.bus.stored_values import parse_object
from marketswarm.channels import Message
from marketswarm.channels.message import encode_message, parse_message
from notifier.router.incident import parse_known_event

MESSAGE: Final = "o:m:"
"""Prefix of the state's fields that hold a message; its id follows."""
DELIVERIES: Final = "o:w:"
"""Prefix of the state's fields that hold the deliveries of a message; its id follows."""
ANCHORS: Final = "o:a:"
"""Prefix of the state's fields that hold a thread's anchors by channel; the thread's id follows."""
THREADS_KEPT: Final = 2000
"""Of how many threads anchors are kept at most."""


@dataclass(slots=True)
class OutboxEntry:
    """A message and its deliveries by channel: None while pending, True once accepted, otherwise the refusal.

    `n` is its place in the order of all entries, `since` when an attempt first failed on each channel (epoch
    seconds), `events` the ids of its events.
    """

    message: Message
    n: int
    deliveries: dict[str, bool | str | None]
    since: dict[str, float] = field(default_factory=dict)
    events: tuple[str, ...] = field(default=())

    @property
    def open(self) -> bool:
        return None in self.deliveries.values()

    @property
    def accepted(self) -> list[str]:
        return [name for name, outcome in self.deliveries.items() if outcome is True]

    @property
    def refused(self) -> bool:
        return not self.open and not self.accepted


class Outbox:
    """The entries, oldest first, and the anchors of threads: what a channel needs to continue a thread."""

    def __init__(self) -> None:
        self._entries: dict[str, OutboxEntry] = {}
        self._anchors: OrderedDict[str, dict[str, str]] = OrderedDict()
        self._covered: Counter[str] = Counter()  # by event, the number of entries about it
        self._about: dict[str, dict[str, None]] = {}  # by service or bus, the ids of the entries
        self._next = 1
        self._changed: dict[str, bytes | None] = {}

    def restore(self, fields: Mapping[str, bytes]) -> list[str]:
        """Restore what `changes` returned in an earlier run; return the fields that can't be parsed."""
        found: list[OutboxEntry] = []
        unusable: list[str] = []
        for name, raw in fields.items():
            if name.startswith(DELIVERIES):
                message = parse_message(fields.get(MESSAGE + name.removeprefix(DELIVERIES), b""))
                entry = None if message is None else _parse_entry(message, raw)
                if entry is not None:
                    found.append(entry)
                else:
                    unusable.append(name)
            elif name.startswith(ANCHORS) and (anchors := parse_object(raw)):
                self._anchors[name.removeprefix(ANCHORS)] = {key: str(each) for key, each in anchors.items()}
            elif name.startswith(ANCHORS):
                unusable.append(name)
            elif name.startswith(MESSAGE) and DELIVERIES + name.removeprefix(MESSAGE) not in fields:
                unusable.append(name)  # no channel would ever get it
        for entry in sorted(found, key=lambda each: each.n):
            self._add(entry)
            self._next = max(self._next, entry.n + 1)
        return unusable

    def changes(self) -> dict[str, bytes | None]:
        """Return the fields that changed since the last call; None for deleted ones."""
        changed, self._changed = self._changed, {}
        return changed

    # -- queries

    def pending_messages(self, channel: str) -> list[Message]:
        return [each.message for each in self._entries.values() if each.deliveries.get(channel, "") is None]

    def channels_with_pending(self) -> set[str]:
        deliveries = (pair for each in self._entries.values() for pair in each.deliveries.items())
        return {name for name, outcome in deliveries if outcome is None}

    def after(self, message: Message) -> list[Message]:
        """Return the pending messages that continue this one's thread and must arrive after it."""
        thread, first = message.thread or message.id, self._entries[message.id].n
        about = dict.fromkeys(ident for key in message.about for ident in self._about.get(key, ()))
        later = [entry for ident in about if (entry := self._entries[ident]).n > first]
        return [each.message for each in later if thread in (each.message.thread, *each.message.closes)]

    def holds(self, message_id: str) -> bool:
        return message_id in self._entries

    def covers(self, event_id: str) -> bool:
        return event_id in self._covered

    def failing_sec(self, message: Message, channel: str, now: float) -> float | None:
        """Return how many seconds ago a message first failed on a channel; None if it has not."""
        entry = self._entries.get(message.id)
        since = None if entry is None else entry.since.get(channel)
        return None if since is None else max(0.0, now - since)

    def find_pending_message(self, key: str) -> str | None:
        return next(iter(self._about.get(key, ())), None)

    def anchor(self, message: Message, channel: str) -> str | None:
        return self._anchors.get(message.thread or message.id, {}).get(channel)

    # -- input

    def add(self, message: Message, channels: Iterable[str]) -> list[str]:
        """Add a message; return those of the channels that have to send it now.

        These have neither accepted it nor have it pending. Without any channel nothing is kept.
        """
        entry = self._entries.get(message.id)
        if entry is None:
            deliveries: dict[str, bool | str | None] = dict.fromkeys(channels)
            if not deliveries:
                return []
            entry = OutboxEntry(message, self._next, deliveries, events=_event_ids(message))
            self._next += 1
            self._add(entry)
            self._changed[MESSAGE + message.id] = encode_message(message)
            new = list(deliveries)
        else:
            new = [
                name for name in dict.fromkeys(channels) if entry.deliveries.get(name, "") not in (None, True)
            ]
            entry.deliveries.update(dict.fromkeys(new))
            for name in new:
                entry.since.pop(name, None)
        self._write(entry)
        return new

    def record_accepted(self, ident: str, channel: str, anchor: str | None = None) -> OutboxEntry | None:
        """Record that a channel accepted a message; return its entry, None if it isn't pending there."""
        entry = self._pending_entry(ident, channel)
        if entry is None:
            return None
        entry.deliveries[channel] = True
        if anchor is not None:
            thread = entry.message.thread or ident
            self._anchors.setdefault(thread, {}).setdefault(channel, anchor)
            self._anchors.move_to_end(thread)
            self._changed[ANCHORS + thread] = orjson.dumps(self._anchors[thread])
            if len(self._anchors) > THREADS_KEPT:
                self._drop_thread(next(iter(self._anchors)))
        self._settle(entry)
        return entry

    def record_failure(self, ident: str, channel: str, at: float) -> None:
        """Record when a channel began to fail a message, in epoch seconds: its first failure counts."""
        entry = self._pending_entry(ident, channel)
        if entry is not None and channel not in entry.since:
            entry.since[channel] = round(at, 3)
            self._write(entry)

    def shift_times(self, by_sec: float) -> None:
        """Move the times at which attempts first failed by `by_sec`: the clock was set by that."""
        for entry in self._entries.values():
            if entry.since:
                entry.since = {name: round(at + by_sec, 3) for name, at in entry.since.items()}
                self._write(entry)

    def record_rejection(
        self, ident: str, channel: str, reason: str, others: Sequence[str] = ()
    ) -> str | None:
        """Record that a channel refused a message for good.

        If every channel of the message refused it, it becomes pending for the first of `others` that is new
        to it; return that channel.
        """
        entry = self._pending_entry(ident, channel)
        if entry is None:
            return None
        entry.deliveries[channel] = reason
        new = (name for name in others if name not in entry.deliveries)
        another = next(new, None) if entry.refused else None
        if another is not None:
            entry.deliveries[another] = None
        self._settle(entry)
        return another

    # -- helpers

    def _pending_entry(self, ident: str, channel: str) -> OutboxEntry | None:
        entry = self._entries.get(ident)
        return entry if entry is not None and entry.deliveries.get(channel, "") is None else None

    def _add(self, entry: OutboxEntry) -> None:
        ident = entry.message.id
        self._entries[ident] = entry
        self._covered.update(entry.events)
        for key in entry.message.about:
            self._about.setdefault(key, {})[ident] = None

    def _settle(self, entry: OutboxEntry) -> None:
        """Store an entry; once nothing of it is pending, remove it, with the threads that it closes."""
        ident = entry.message.id
        if entry.open:
            self._write(entry)
            return
        del self._entries[ident]
        for key in entry.message.about:
            self._about[key].pop(ident, None)
            if not self._about[key]:
                del self._about[key]
        self._covered.subtract(entry.events)
        for event in entry.events:
            if not self._covered[event]:
                del self._covered[event]
        self._changed[MESSAGE + ident] = self._changed[DELIVERIES + ident] = None
        for thread in entry.message.closes:
            self._drop_thread(thread)

    def _write(self, entry: OutboxEntry) -> None:
        self._changed[DELIVERIES + entry.message.id] = orjson.dumps(
            {"n": entry.n, "ways": entry.deliveries, "since": entry.since}
        )

    def _drop_thread(self, thread: str) -> None:
        if self._anchors.pop(thread, None) is not None:
            self._changed[ANCHORS + thread] = None


def _event_ids(message: Message) -> tuple[str, ...]:
    events = map(parse_known_event, message.events)
    return tuple(dict.fromkeys(each.id for each in events if each is not None))


def _parse_entry(message: Message, raw: bytes) -> OutboxEntry | None:
    """Return a message's entry from stored deliveries; None if unusable or none is pending."""
    found = parse_object(raw)
    n, ways, since = found.get("n"), found.get("ways"), found.get("since")
    if type(n) is not int or not isinstance(ways, dict) or None not in ways.values():
        return None
    deliveries: dict[str, bool | str | None] = {
        name: each if each is None or each is True else str(each) for name, each in ways.items()
    }
    times = since.items() if isinstance(since, dict) else ()
    known = {name: at for name, at in times if type(at) in (int, float)}
    return OutboxEntry(message, n, deliveries, known, _event_ids(message))
