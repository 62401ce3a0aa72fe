"""Read and write silences, which every bus keeps.

Writing one also brings each bus up to date with the others; the latest version of a silence wins.
"""

import secrets
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from marketswarm.bus import Bus
from marketswarm.keys import NOTIFIER_SILENCES
from marketswarm.operator import Silence, find_missing_silences, merge_silences, parse_silences
from marketswarm.operator_link.buses import ask_buses

MAX_SILENCE_SEC: Final = 366 * 86_400.0
"""The longest silence that may be set, in seconds: a year."""


@dataclass(frozen=True, slots=True)
class StoredSilences:
    """Hold the silences of a fleet by id, each in its latest version.

    `by_bus` are those of each bus; `failed` are the buses that did not answer, with the reason.
    """

    silences: dict[str, Silence]
    by_bus: dict[str, dict[str, Silence]]
    failed: dict[str, str]


def create_silence(
    services: tuple[str, ...], tags: tuple[str, ...], for_sec: float, *, author: str, reason: str, now: float
) -> Silence:
    """Return a silence with a new id that begins at `now` (epoch seconds).

    Raises ValidationError if a part is out of bounds.
    """
    return Silence(
        id=secrets.token_hex(6),  # another silence with this id would be replaced
        starts_at=now,
        ends_at=now + for_sec,
        author=author,
        reason=reason,
        changed_at=now,
        services=services,
        tags=tags,
    )


async def read_silences(buses: Sequence[Bus]) -> StoredSilences:
    """Read the silences from every bus. Raises NoBusError if none answers."""
    found, failed = await ask_buses(buses, lambda bus: bus.client.hgetall(NOTIFIER_SILENCES))
    by_bus = {name: parse_silences(fields) for name, fields in found.items()}
    return StoredSilences(merge_silences(by_bus.values()), by_bus, failed)


async def write_silence(
    buses: Sequence[Bus], stored: StoredSilences, silence: Silence, now: float
) -> dict[str, str]:
    """Write a silence to every bus, with those that the bus lacks, and delete those that ended long ago.

    Return the buses that failed, with the reason. Raises NoBusError if every bus failed.
    """
    wanted = {**stored.silences, silence.id: silence}
    old = [ident for ident, each in wanted.items() if each.is_deletable(now)]
    kept = {ident: each for ident, each in wanted.items() if ident not in old}

    def write(bus: Bus) -> Awaitable[Any]:
        """Return the request that writes the missing silences to one bus and deletes the old ones."""
        # a bus that did not answer just now may do so again
        lacking: dict[Any, Any] = dict(find_missing_silences(stored.by_bus.get(bus.name, {}), kept))
        pipe = bus.pipeline(transaction=True)
        pipe.hset(NOTIFIER_SILENCES, mapping=lacking)
        if old:
            pipe.hdel(NOTIFIER_SILENCES, *old)
        return pipe.execute()

    _, failed = await ask_buses(buses, write)
    return failed
