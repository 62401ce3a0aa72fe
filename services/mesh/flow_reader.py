"""Read the keys of one bus: their types and lengths, and how far behind each consumer group is.

The cost of one reading for the server is limited.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from marketswarm.bus import Bus, BusError
from marketswarm.bus.scripts import Script
from marketswarm.pages import split_pages

READ_FLOW: Final = Script.beside("services.mesh", "read_flow.lua")
KEYS_PER_STEP: Final = 25  # half a millisecond of the server's time
MAX_GROUPS: Final = 20
MAX_ENTRY_BYTES: Final = 32 * 1024 * 1024
"""Bytes of entries in one step: the server copies entries to return their ids, about 20 ms for so many."""
YEAR_2001_MS: Final = 10**12  # a lower id was not made from a time


@dataclass(frozen=True, slots=True)
class ConsumerGroup:
    """Hold a consumer group of a stream; `lag` and `read` are None if the server can't tell.

    `oldest_sec` is the age of the oldest entry that the group has not acknowledged, delivered or not; None if
    there is none. `rate` is how many entries a second it reads; None for a single reading.
    """

    name: str
    consumers: int
    pending: int
    lag: int | None
    read: int | None
    oldest_sec: float | None
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class KeyReading:
    """Hold one reading of a key.

    `kind` is the Redis type, or `channel`, or `none`; `subscribers` is of channels, all other fields are of
    streams. `rate` is how many entries a second come; None for a single reading. `groups` is None if there
    are more than the limit, or if the entries are too large to be read: then `too_large` is how many bytes
    they have.
    """

    kind: str
    subscribers: int = 0
    length: int = 0
    added: int | None = None
    rate: float | None = None
    last_sec: float | None = None  # the age of the newest entry
    groups: tuple[ConsumerGroup, ...] | None = ()
    too_large: int = 0


async def read_keys(
    bus: Bus, names: Sequence[str], length_only: Collection[str] = ()
) -> dict[str, KeyReading]:
    """Return a reading of each key; of the streams in `length_only` their length alone. Raises BusError."""
    seen: dict[str, KeyReading] = {}
    for batch in split_pages(names, KEYS_PER_STEP):
        flags = [int(name in length_only) for name in batch]
        at_ms, *found = await bus.script(READ_FLOW, batch, [MAX_GROUPS, MAX_ENTRY_BYTES, *flags])
        try:
            seen |= {name: parse_key(one, at_ms) for name, one in zip(batch, found, strict=True)}
        except (TypeError, ValueError, AttributeError) as error:
            raise BusError(bus.name, "error", f"an unexpected answer ({type(error).__name__})") from None
    absent = [name for name, one in seen.items() if one.kind == "none"]
    for batch in split_pages(absent, KEYS_PER_STEP):
        for name, count in await bus.ask(bus.client.pubsub_numsub(*batch)):
            if count:
                seen[name.decode("utf-8", "replace")] = KeyReading("channel", int(count))
    return seen


def parse_key(found: Any, at_ms: int) -> KeyReading:
    """Return the reading of one key from the script's answer; `at_ms` is the server's time. Pure."""
    if isinstance(found, bytes):
        return KeyReading(found.decode("ascii", "replace"))
    kind, length, added, _first, last, groups, too_large, *listed = found
    return KeyReading(
        kind.decode("ascii", "replace"),
        length=int(length),
        added=_known_number(added),
        last_sec=age_sec(last, at_ms),
        groups=tuple(_parse_group(one, at_ms) for one in listed)
        if len(listed) == groups and not too_large
        else None,
        too_large=int(too_large),
    )


def age_sec(entry_id: bytes, at_ms: int) -> float | None:
    """Return how many seconds before `at_ms` an entry was added; None if its id was not made from a time."""
    head = entry_id.partition(b"-")[0]
    made_ms = int(head) if head.isdigit() else 0
    return max(0.0, (at_ms - made_ms) / 1000) if YEAR_2001_MS < made_ms <= at_ms + 60_000 else None


def _parse_group(found: Any, at_ms: int) -> ConsumerGroup:
    name, consumers, pending, lag, read, delivered, unread, taken = found
    ages = [age for entry_id in (unread, taken) if (age := age_sec(entry_id, at_ms)) is not None]
    return ConsumerGroup(
        name.decode("utf-8", "replace"),
        int(consumers),
        int(pending),
        _known_number(lag),
        0 if delivered == b"0-0" else _known_number(read),
        max(ages, default=None),
    )


def _known_number(number: int) -> int | None:
    return None if number < 0 else int(number)  # the script has -1 for what the server does not know
