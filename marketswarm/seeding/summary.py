"""A seeding in a few lines, for a person. Pure."""

from collections.abc import Iterator, Sequence

from marketswarm.seeding.writing import Seeding


def summary(seeding: Seeding, path: str, buses: Sequence[str]) -> Iterator[str]:
    """What became of the truth in the file `path` on these buses."""
    changes, places = seeding.changes, " and ".join(buses)
    if seeding.changed:
        yield f"{path} is revision {seeding.revision} on {places}"
    elif seeding.repaired:
        yield f"{path} is still revision {seeding.revision}; put back on {', '.join(seeding.repaired)}"
    else:
        yield f"{path} is still revision {seeding.revision} on {places}: nothing to do"
    yield from (f"  + {svc}" for svc in changes.added)
    yield from (f"  - {svc}" for svc in changes.dropped)
    yield from (f"  ~ {name}: {what}" for name, what in (*changes.changed, *changes.buses))
    if seeding.changed and not changes:
        yield "  the same content, written differently"
