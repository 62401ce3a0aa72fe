"""Looks at the keys of one bus: what is there, how much, who lags. Bounded and cheap; judges nothing."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from marketswarm.bus import Bus, BusError
from marketswarm.scripts import Script

LOOK: Final = Script.beside("services.mesh", "flow_look.lua")
KEYS_AT_ONCE: Final = 25  # half a millisecond of a server
GROUPS_AT_MOST: Final = 20
BYTES_AT_MOST: Final = 32 * 1024 * 1024
"""Of a stream's entries, which the server copies to tell their ids: 20 ms of a server."""
YEAR_2001_MS: Final = 10**12  # an id below that was not made of a time


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group of a stream. `lag` and `read` are None where the server can't tell.

    `oldest_sec` is the age of the oldest entry that it has not settled, taken or not; None: nothing is left.
    """

    name: str
    consumers: int
    pending: int
    lag: int | None
    read: int | None
    oldest_sec: float | None


@dataclass(frozen=True, slots=True)
class Seen:
    """What stands at a key. `kind` is Redis' word, or `channel`, or `none`; what follows is of streams.

    `groups` is None when there are more than can be looked at, and when the entries are too large for that:
    then `too_large` is how many bytes they had.
    """

    kind: str
    subscribers: int = 0
    length: int = 0
    added: int | None = None
    last_sec: float | None = None  # the age of the newest entry
    groups: tuple[Group, ...] | None = ()
    too_large: int = 0


async def look(bus: Bus, names: Sequence[str], length_alone: Collection[str] = ()) -> dict[str, Seen]:
    """Ask a bus for the kind of each key, and for the length, age and consumer groups of streams.

    Of the streams in `length_alone` only the length is asked for. Raises BusError.
    """
    seen: dict[str, Seen] = {}
    for some in _some(names):
        alone = [int(name in length_alone) for name in some]
        at_ms, *found = await bus.script(LOOK, some, [GROUPS_AT_MOST, BYTES_AT_MOST, *alone])
        try:
            seen |= {name: seen_of(one, at_ms) for name, one in zip(some, found, strict=True)}
        except (TypeError, ValueError, AttributeError) as error:
            raise BusError(bus.name, "error", f"an answer that is none ({type(error).__name__})") from None
    absent = [name for name, one in seen.items() if one.kind == "none"]
    for some in _some(absent):
        for name, count in await bus.ask(bus.client.pubsub_numsub(*some)):
            if count:
                seen[name.decode("utf-8", "replace")] = Seen("channel", int(count))
    return seen


def _some(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[at : at + KEYS_AT_ONCE] for at in range(0, len(names), KEYS_AT_ONCE))


def seen_of(found: Any, at_ms: int) -> Seen:
    """What the script said of one key, at `at_ms` by the server's clock. Pure."""
    if isinstance(found, bytes):
        return Seen(found.decode("ascii", "replace"))
    kind, length, added, _first, last, groups, too_large, *listed = found
    return Seen(
        kind.decode("ascii", "replace"),
        length=int(length),
        added=_known(added),
        last_sec=age_sec(last, at_ms),
        groups=tuple(_group(one, at_ms) for one in listed)
        if len(listed) == groups and not too_large
        else None,
        too_large=int(too_large),
    )


def age_sec(entry_id: bytes, at_ms: int) -> float | None:
    """How long ago an entry was made, by its id; None when that was not made of a time."""
    head = entry_id.partition(b"-")[0]
    made_ms = int(head) if head.isdigit() else 0
    return max(0.0, (at_ms - made_ms) / 1000) if YEAR_2001_MS < made_ms <= at_ms + 60_000 else None


def _group(found: Any, at_ms: int) -> Group:
    name, consumers, pending, lag, read, delivered, unread, taken = found
    ages = [age for entry_id in (unread, taken) if (age := age_sec(entry_id, at_ms)) is not None]
    return Group(
        name.decode("utf-8", "replace"),
        int(consumers),
        int(pending),
        _known(lag),
        0 if delivered == b"0-0" else _known(read),
        max(ages, default=None),
    )


def _known(number: int) -> int | None:
    return None if number < 0 else int(number)
