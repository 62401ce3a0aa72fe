"""Several buses, one set of silences: of each the latest version counts, wherever it was written."""

from collections.abc import Iterable, Mapping

from marketswarm.attention.silence import Silence


def merged(held: Iterable[Mapping[bytes, bytes]]) -> dict[str, Silence]:
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


def behind(held: Mapping[bytes, bytes], silences: Mapping[str, Silence]) -> dict[str, bytes]:
    """What to write to a bus that holds `held`, so that it has every one of `silences` in that version."""
    own = _read(held)
    return {key: silence.encode() for key, silence in silences.items() if own.get(key) != silence}


def _read(fields: Mapping[bytes, bytes]) -> dict[str, Silence]:
    found = ((key, Silence.parse(raw)) for key, raw in fields.items())
    return {each.id: each for key, each in found if each is not None and each.id.encode() == key}


def _rank(silence: Silence) -> tuple[float, float, bytes]:
    """Of two versions with one time, the one that is silent for less: rather a message too many."""
    return silence.changed_at, -silence.ends_at, silence.encode()
