"""A silence: for a while, with a reason, nobody is told of some services."""

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
"""How long a silence that has ended can still be looked up, in seconds."""
_TICK_SEC: Final = 0.001


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Silence:
    """One silence, from `starts_at` up to `ends_at`, epoch seconds.

    `services` are patterns of names (`rss_*`, `feed-[0-9]`), `tags` whole words of the truth; each one that
    is listed adds to what is silent. `changed_at` grows with each change: of two versions on two buses the
    later one counts. A silence is never deleted early, only ended.

    Raises:
        ValueError: when a field is out of bounds, `ends_at` is before `starts_at`, or it is on nothing.
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
        """Whether a service with these tags is one of those that it is on, now or not."""
        return any(fnmatchcase(svc, pattern) for pattern in self.services) or any(
            tag in tags for tag in self.tags
        )

    def active(self, now: float) -> bool:
        """Whether it is in force at `now`, epoch seconds; its end is the first moment when it is not."""
        return self.starts_at <= now < self.ends_at

    def over(self, now: float) -> bool:
        """Whether it will not be in force again."""
        return now >= self.ends_at

    def old(self, now: float) -> bool:
        """Whether it ended so long ago that nobody needs to see it any more."""
        return now >= self.ends_at + KEPT_SEC

    def ended(self, now: float) -> Self:
        """The same, over at `now`; later than what it was made of, whatever the clocks say."""
        start = min(self.starts_at, now)
        changed_at = min(max(now, self.changed_at + _TICK_SEC), MAX_EPOCH_SEC)
        return replace(self, starts_at=start, ends_at=min(now, self.ends_at), changed_at=changed_at)

    def encode(self) -> bytes:
        """As JSON."""
        return encode_fields(self)

    @classmethod
    def parse(cls, raw: bytes) -> "Silence | None":
        """Reads one back; None when the bytes are none."""
        if len(raw) > MAX_BYTES:
            return None
        try:
            return _SILENCE.validate_json(raw)
        except ValidationError:
            return None


_SILENCE: Final = TypeAdapter(Silence)


def merge_silences(held: Iterable[Mapping[bytes, bytes]]) -> dict[str, Silence]:
    """The silences that the hashes of several buses make together, in the order in which they start.

    What is no silence, or stands under another's id, is passed over.
    """
    latest: dict[str, Silence] = {}
    for fields in held:
        for silence in _read(fields).values():
            other = latest.get(silence.id)
            if other is None or _rank(silence) > _rank(other):
                latest[silence.id] = silence
    return {each.id: each for each in sorted(latest.values(), key=lambda each: (each.starts_at, each.id))}


def missing_silences(held: Mapping[bytes, bytes], silences: Mapping[str, Silence]) -> dict[str, bytes]:
    """What to write to a bus that holds `held`, so that it has every one of `silences` in that version."""
    own = _read(held)
    return {key: silence.encode() for key, silence in silences.items() if own.get(key) != silence}


def _read(fields: Mapping[bytes, bytes]) -> dict[str, Silence]:
    found = ((key, Silence.parse(raw)) for key, raw in fields.items())
    return {each.id: each for key, each in found if each is not None and each.id.encode() == key}


def _rank(silence: Silence) -> tuple[float, float, bytes]:
    """Of two versions with one time, the one that is silent for less: rather a message too many."""
    return silence.changed_at, -silence.ends_at, silence.encode()
