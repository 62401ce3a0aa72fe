"""Define silences, and read and write them: every bus keeps them. Name what they can be about.

Writing one also brings each bus up to date with the others; the latest version of a silence wins.
"""

import dataclasses
import secrets
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, Self

from pydantic import Field
from pydantic.dataclasses import dataclass

from marketswarm.bus import Bus
from marketswarm.keys import NOTIFIER_SILENCES
from marketswarm.operator.buses import ask_buses
from marketswarm.operator.fields import MAX_EPOCH_SEC, STRICT, Epoch, Ident, JsonRecord, Name, Text
from marketswarm.truth import Truth, find_probe_targets

KEPT_SEC: Final = 30 * 86_400.0
"""How long a silence is kept after its end, in seconds."""
_MIN_CHANGE_SEC: Final = 0.001
"""The least difference between two versions' `changed_at`, in seconds."""
MAX_SILENCE_SEC: Final = 366 * 86_400.0
"""The longest silence that may be set, in seconds: a year."""
NO_REASON: Final = "no reason given"
"""The reason of a silence without one: at 3 a.m. no operator has to think of one."""
_PATTERN_CHARS: Final = frozenset("*?[")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Silence(JsonRecord):
    """One silence, from `starts_at` up to `ends_at` (epoch seconds).

    `services` are patterns of names (`rss_*`, `feed-[0-9]`), `tags` whole tags of the truth; a service that
    matches one of them is silenced. `changed_at` grows with each change; of two versions on two buses the
    later one counts. A silence is never deleted early, only ended. Raises ValueError when a field is out of
    bounds, `ends_at` is before `starts_at`, or neither services nor tags are given.
    """

    id: Ident
    starts_at: Epoch
    ends_at: Epoch
    author: Name
    reason: Text
    changed_at: Epoch
    services: Annotated[tuple[Name, ...], Field(max_length=50)] = ()
    tags: Annotated[tuple[Name, ...], Field(max_length=50)] = ()

    def __post_init__(self) -> None:
        if self.ends_at < self.starts_at:
            raise ValueError("a silence ends after it starts")
        if not self.services and not self.tags:
            raise ValueError("a silence is on some service or tag")

    def matches(self, svc: str, tags: Collection[str] = ()) -> bool:
        """Return True if the silence names a service called `svc` with these tags, active or not."""
        return any(fnmatchcase(svc, pattern) for pattern in self.services) or any(
            tag in tags for tag in self.tags
        )

    def is_active(self, now: float) -> bool:
        """Return True from `starts_at` until just before `ends_at`; all are in epoch seconds."""
        return self.starts_at <= now < self.ends_at

    def has_ended(self, now: float) -> bool:
        """Return True from `ends_at` on; `now` is in epoch seconds."""
        return now >= self.ends_at

    def is_deletable(self, now: float) -> bool:
        """Return True if the silence ended KEPT_SEC or more before `now` (epoch seconds)."""
        return now >= self.ends_at + KEPT_SEC

    def end_at(self, now: float) -> Self:
        """Return a copy that ends at `now` (epoch seconds) at the latest, with a later `changed_at`.

        `changed_at` grows even if the clock was set back.
        """
        start = min(self.starts_at, now)
        changed_at = min(max(now, self.changed_at + _MIN_CHANGE_SEC), MAX_EPOCH_SEC)
        return replace(self, starts_at=start, ends_at=min(now, self.ends_at), changed_at=changed_at)


def parse_silences(fields: Mapping[bytes, bytes]) -> dict[str, Silence]:
    """Return the silences in a bus's hash by id; skip fields that can't be parsed or have another id."""
    found = ((key, Silence.parse(raw)) for key, raw in fields.items())
    return {each.id: each for key, each in found if each is not None and each.id.encode() == key}


def merge_silences(by_bus: Iterable[Mapping[str, Silence]]) -> dict[str, Silence]:
    """Keep the latest version of each, in the order of their starts."""
    latest: dict[str, Silence] = {}
    for silences in by_bus:
        for ident, silence in silences.items():
            other = latest.get(ident)
            if other is None or (silence != other and _rank_version(silence) > _rank_version(other)):
                latest[ident] = silence
    return {each.id: each for each in sorted(latest.values(), key=lambda each: (each.starts_at, each.id))}


def find_missing_silences(stored: Mapping[str, Silence], silences: Mapping[str, Silence]) -> dict[str, bytes]:
    """Return as fields what a bus (`stored`) lacks or has in another version."""
    return {key: silence.encode() for key, silence in silences.items() if stored.get(key) != silence}


def _rank_version(silence: Silence) -> tuple[float, float, bytes]:
    """Return a sort key for versions of one silence; of two changed at one time, the shorter one counts."""
    return silence.changed_at, -silence.ends_at, silence.encode()


@dataclasses.dataclass(frozen=True, slots=True)
class StoredSilences:
    """Hold the silences of a fleet by id, each in its latest version.

    `by_bus` are those of each bus; `failed` are the buses that did not answer, with the reason.
    """

    silences: dict[str, Silence]
    by_bus: dict[str, dict[str, Silence]]
    failed: dict[str, str]


def create_silence(
    services: tuple[str, ...],
    tags: tuple[str, ...],
    for_sec: float,
    *,
    author: str,
    reason: str = NO_REASON,
    now: float,
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


def list_targets(truth: Truth) -> dict[str, tuple[str, ...]]:
    """Return the tags of every service, bus and probe target that a notification can be about, by name."""
    tags: dict[str, tuple[str, ...]] = dict.fromkeys([watch.svc for watch in truth.watched()], ())
    tags |= dict.fromkeys(truth.bus_names(), ())
    tags |= {svc: service.tags for svc, service in truth.services.items()}
    return tags | {target.svc: target.tags for target in find_probe_targets(truth)}


def match_targets(silence: Silence, targets: Mapping[str, tuple[str, ...]]) -> list[str]:
    return [name for name, tags in targets.items() if silence.matches(name, tags)]


def find_unknown_target(silence: Silence, targets: Mapping[str, tuple[str, ...]]) -> str | None:
    """Return the first name in a silence that is neither a target nor a pattern; None if there is none."""
    return next((name for name in silence.services if name not in targets and not is_pattern(name)), None)


def is_pattern(name: str) -> bool:
    """Return True if a silence with this name matches others than the one that is called so."""
    return bool(_PATTERN_CHARS & set(name))
