"""Every message that is on its way: over which channels, and what became of it there.

Pure. What it must not forget it gives as fields of the state (`changes`), and takes from there (`restore`).
A message stays until each of its channels accepted it or refused it for good; what all of them refused goes
to another one. Not here: which messages there are (`router/`), the sending (`deliver.py`).
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from marketswarm.channels import Message
from marketswarm.channels.storing import encode, parse
from marketswarm.event import Malformed
from marketswarm.event import parse as parse_event

MESSAGE: Final = "o:m:"
"""Fields of the state that hold a message begin with this, and end with its id."""
WAYS: Final = "o:w:"
ANCHORS: Final = "o:a:"
THREADS_KEPT: Final = 2000


@dataclass(slots=True)
class Parcel:
    """A message and its ways: by channel None while it waits, True once accepted, else why it was refused.

    `n` is its place in the order of all; `since` is when an attempt first failed, by channel.
    """

    message: Message
    n: int
    ways: dict[str, bool | str | None]
    since: dict[str, float] = field(default_factory=dict)
    events: tuple[str, ...] = field(default=())

    @property
    def open(self) -> bool:
        """Whether it still waits somewhere."""
        return None in self.ways.values()

    @property
    def accepted(self) -> list[str]:
        """The channels that have it."""
        return [name for name, outcome in self.ways.items() if outcome is True]

    @property
    def refused(self) -> bool:
        """Whether nobody has it, and nobody will."""
        return not self.open and not self.accepted


class Outbox:
    """All parcels, oldest first, and what channels want back with the next message of a thread."""

    def __init__(self) -> None:
        self._parcels: dict[str, Parcel] = {}
        self._anchors: OrderedDict[str, dict[str, str]] = OrderedDict()
        self._covered: Counter[str] = Counter()  # by event, the parcels that tell of it
        self._about: dict[str, dict[str, None]] = {}  # by service or bus, the ids of the parcels
        self._next = 1
        self._changed: dict[str, bytes | None] = {}

    def __len__(self) -> int:
        return len(self._parcels)

    def restore(self, fields: Mapping[str, bytes]) -> list[str]:
        """Restore what `changes` gave; return the names of the fields that can't be read."""
        found: list[Parcel] = []
        unusable: list[str] = []
        for name, raw in fields.items():
            if name.startswith(WAYS):
                message = parse(fields.get(MESSAGE + name.removeprefix(WAYS), b""))
                parcel = None if message is None else _read(message, raw)
                if parcel is not None:
                    found.append(parcel)
                else:
                    unusable.append(name)
            elif name.startswith(ANCHORS) and (anchors := _object(raw)) is not None:
                self._anchors[name.removeprefix(ANCHORS)] = {key: str(each) for key, each in anchors.items()}
            elif name.startswith(ANCHORS):
                unusable.append(name)
        for parcel in sorted(found, key=lambda each: each.n):
            self._add(parcel)
            self._next = max(self._next, parcel.n + 1)
        return unusable

    def changes(self) -> dict[str, bytes | None]:
        """The fields that changed since this was last asked; None for those that are gone."""
        changed, self._changed = self._changed, {}
        return changed

    # -- what is there

    def __getitem__(self, ident: str) -> Parcel:
        return self._parcels[ident]

    def get(self, ident: str) -> Parcel | None:
        """The parcel of a message, while it is on its way."""
        return self._parcels.get(ident)

    def waiting(self, channel: str) -> list[Message]:
        """What waits for a channel, in order."""
        return [each.message for each in self._parcels.values() if each.ways.get(channel, "") is None]

    def bound_for(self) -> set[str]:
        """The channels that something waits for, whether they are there or not."""
        return {
            name for each in self._parcels.values() for name, outcome in each.ways.items() if outcome is None
        }

    def after(self, message: Message) -> list[Message]:
        """The messages on their way that continue or close the thread of one that was put before them."""
        thread, first = message.thread or message.id, self._parcels[message.id].n
        about = dict.fromkeys(ident for key in message.about for ident in self._about.get(key, ()))
        later = [parcel for ident in about if (parcel := self._parcels[ident]).n > first]
        return [each.message for each in later if thread in (each.message.thread, *each.message.closes)]

    def covers(self, event_id: str) -> bool:
        """Whether a message on its way tells of an event."""
        return event_id in self._covered

    def failing_sec(self, message: Message, channel: str, now: float) -> float | None:
        """How long ago an attempt first failed, at `now` (epoch seconds); None if none has."""
        parcel = self._parcels.get(message.id)
        since = None if parcel is None else parcel.since.get(channel)
        return None if since is None else max(0.0, now - since)

    def on_its_way(self, key: str) -> str | None:
        """The id of the oldest message on its way that tells of a service or a bus."""
        return next(iter(self._about.get(key, ())), None)

    def anchor(self, message: Message, channel: str) -> str | None:
        """What a channel wants back with this message."""
        return self._anchors.get(message.thread or message.id, {}).get(channel)

    # -- what happens

    def put(self, message: Message, channels: Iterable[str]) -> list[str]:
        """Adds a message; those of the channels that are to have it now.

        One that is on its way already goes to those alone that it did not go to before. Without any channel
        there is nobody to tell, and nothing is kept.
        """
        parcel = self._parcels.get(message.id)
        if parcel is None:
            ways: dict[str, bool | str | None] = dict.fromkeys(channels)
            if not ways:
                return []
            parcel = Parcel(message, self._next, ways, events=_ids(message))
            self._next += 1
            self._add(parcel)
            self._changed[MESSAGE + message.id] = encode(message)
            new = list(ways)
        else:
            new = [name for name in dict.fromkeys(channels) if parcel.ways.get(name, "") not in (None, True)]
            parcel.ways.update(dict.fromkeys(new))
            for name in new:
                parcel.since.pop(name, None)
        self._write(parcel)
        return new

    def accepted(self, ident: str, channel: str, anchor: str | None = None) -> Parcel | None:
        """A channel took it. The parcel, as it is then; None for one that nobody waits for."""
        parcel = self._waiting(ident, channel)
        if parcel is None:
            return None
        parcel.ways[channel] = True
        if anchor is not None:
            thread = parcel.message.thread or ident
            self._anchors.setdefault(thread, {}).setdefault(channel, anchor)
            self._anchors.move_to_end(thread)
            self._changed[ANCHORS + thread] = orjson.dumps(self._anchors[thread])
            if len(self._anchors) > THREADS_KEPT:
                self._let_go(next(iter(self._anchors)))
        self._settle(parcel)
        return parcel

    def failed(self, ident: str, channel: str, at: float) -> None:
        """An attempt failed at `at` (epoch seconds); a channel will be tried again."""
        parcel = self._waiting(ident, channel)
        if parcel is not None and channel not in parcel.since:
            parcel.since[channel] = round(at, 3)
            self._write(parcel)

    def refused(self, ident: str, channel: str, reason: str, others: Sequence[str] = ()) -> str | None:
        """A channel will never take it.

        If that was the last hope of a message, it goes to the first of `others` that it was not for yet:
        that one's name is returned.
        """
        parcel = self._waiting(ident, channel)
        if parcel is None:
            return None
        parcel.ways[channel] = reason
        another = next((name for name in others if name not in parcel.ways), None) if parcel.refused else None
        if another is not None:
            parcel.ways[another] = None
        self._settle(parcel)
        return another

    # -- inside

    def _waiting(self, ident: str, channel: str) -> Parcel | None:
        parcel = self._parcels.get(ident)
        return parcel if parcel is not None and parcel.ways.get(channel, "") is None else None

    def _add(self, parcel: Parcel) -> None:
        ident = parcel.message.id
        self._parcels[ident] = parcel
        self._covered.update(parcel.events)
        for key in parcel.message.about:
            self._about.setdefault(key, {})[ident] = None

    def _settle(self, parcel: Parcel) -> None:
        ident = parcel.message.id
        if parcel.open:
            self._write(parcel)
            return
        del self._parcels[ident]
        for key in parcel.message.about:
            self._about[key].pop(ident, None)
            if not self._about[key]:
                del self._about[key]
        self._covered.subtract(parcel.events)
        for event in parcel.events:
            if not self._covered[event]:
                del self._covered[event]
        self._changed[MESSAGE + ident] = self._changed[WAYS + ident] = None
        for thread in parcel.message.closes:
            self._let_go(thread)

    def _write(self, parcel: Parcel) -> None:
        self._changed[WAYS + parcel.message.id] = orjson.dumps(
            {"n": parcel.n, "ways": parcel.ways, "since": parcel.since}
        )

    def _let_go(self, thread: str) -> None:
        if self._anchors.pop(thread, None) is not None:
            self._changed[ANCHORS + thread] = None


def _ids(message: Message) -> tuple[str, ...]:
    """The ids of the events that a message tells of, each once."""
    events = (parse_event(raw) for raw in message.events)
    return tuple(dict.fromkeys(each.id for each in events if not isinstance(each, Malformed)))


def _read(message: Message, raw: bytes) -> Parcel | None:
    found = _object(raw)
    if found is None or type(found.get("n")) is not int or type(found.get("ways")) is not dict:
        return None
    ways = {name: _outcome(value) for name, value in found["ways"].items()}
    if None not in ways.values():
        return None
    since = found.get("since")
    times = {name: at for name, at in since.items() if _is_time(at)} if isinstance(since, dict) else {}
    return Parcel(message, found["n"], ways, times, _ids(message))


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _outcome(value: Any) -> bool | str | None:
    return value if value is None or value is True else str(value)


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
