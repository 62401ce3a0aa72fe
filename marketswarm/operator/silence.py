"""Define a silence, and merge the silences of several buses.

While a silence is active, no message is sent about the services that it names.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Annotated, Final, Self

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from marketswarm.operator.fields import (
    MAX_BYTES,
    MAX_EPOCH_SEC,
    STRICT,
    Epoch,
    Ident,
    Name,
    Text,
    encode_fields,
)

KEPT_SEC: Final = 30 * 86_400.0
"""How long a silence is kept after its end, in seconds."""
_MIN_CHANGE_SEC: Final = 0.001
"""The least difference between two versions' `changed_at`, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Silence:
    """One silence, from `starts_at` up to `ends_at` (epoch seconds).

    `services` are patterns of names (`rss_*`, `feed-[0-9]`), `tags` whole tags of the truth; a service that
    matches one of them is silenced. `changed_at` grows with each change: of two versions on two buses the
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

    def encode(self) -> bytes:
        return encode_fields(self)

    @classmethod
    def parse(cls, raw: bytes) -> "Silence | None":
        """Return None if the JSON can't be parsed or is longer than MAX_BYTES."""
        if len(raw) > MAX_BYTES:
            return None
        try:
            return _SILENCE_ADAPTER.validate_json(raw)
        except ValidationError:
            return None


_SILENCE_ADAPTER: Final = TypeAdapter(Silence)


def parse_silences(fields: Mapping[bytes, bytes]) -> dict[str, Silence]:
    """Return the silences in a bus's hash by id; skip fields that can't be parsed or have another id."""
    found = ((key, Silence.parse(raw)) for key, raw in fields.items())
    return {each.id: each for key, each in found if each is not None and each.id.encode() == key}


def merge_silences(by_bus: Iterable[Mapping[str, Silence]]) -> dict[str, Silence]:
    """Return the latest version of each silence by id, in the order of their starts.

    `by_bus` are the silences of several buses by id, as `parse_silences` returns them.
    """
    latest: dict[str, Silence] = {}
    for silences in by_bus:
        for ident, silence in silences.items():
            other = latest.get(ident)
            if other is None or (silence != other and _rank_version(silence) > _rank_version(other)):
                latest[ident] = silence
    return {each.id: each for each in sorted(latest.values(), key=lambda each: (each.starts_at, each.id))}


def find_missing_silences(stored: Mapping[str, Silence], silences: Mapping[str, Silence]) -> dict[str, bytes]:
    """Return those of `silences` that a bus lacks or has in another version, as fields to write there.

    `stored` are the silences of that bus by id.
    """
    return {key: silence.encode() for key, silence in silences.items() if stored.get(key) != silence}


def _rank_version(silence: Silence) -> tuple[float, float, bytes]:
    """Return a sort key for versions of one silence; of two changed at one time, the shorter one counts."""
    return silence.changed_at, -silence.ends_at, silence.encode()
