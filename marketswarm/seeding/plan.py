"""What a seeding has to do, from what each bus holds. Pure.

The revision is +1 when the bytes change, the same on every bus, and never goes back: whoever shows revision 7
has the same bytes as everyone else who shows it. Not here: asking and writing (`writing.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Standing:
    """What one bus holds. `revision` and `sha256` are those of truth:meta, 0 and empty where it has none."""

    bus: str
    document: bytes | None = None
    revision: int = 0
    sha256: str = ""
    seeded_at: str = ""
    seeded_by: str = ""
    last_revision: int = 0  # of truth:history
    last_sha256: str = ""

    @property
    def highest(self) -> int:
        """The highest revision that this bus knows of, also when its truth:meta was lost."""
        return max(self.revision, self.last_revision)

    @property
    def highest_sha256(self) -> str:
        """What that revision's bytes were."""
        return self.sha256 if self.revision >= self.last_revision else self.last_sha256

    def holds(self, document: bytes, sha256: str, revision: int) -> bool:
        """Whether nothing is left to do here."""
        return (
            self.document == document
            and (self.revision, self.sha256) == (revision, sha256)
            and (self.last_revision, self.last_sha256) == (revision, sha256)
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write, and where.

    `changed`: the bytes are new. `publish`: bytes changed somewhere, so agents have something to follow.
    `repairs`: buses that are only brought to what the others hold. `seeded_at` and `seeded_by` are empty for
    a new seeding.
    """

    revision: int
    changed: bool
    publish: bool
    writes: tuple[str, ...]
    repairs: tuple[str, ...]
    seeded_at: str = ""
    seeded_by: str = ""
    old: bytes | None = None  # what is replaced


def plan(document: bytes, sha256: str, standings: Sequence[Standing]) -> Plan:
    """The plan that leaves every bus with this document under one revision."""
    top = max(standing.highest for standing in standings)
    at_top = [standing for standing in standings if standing.highest == top]
    # truth:meta says what a revision's bytes were; bytes that someone put there behind its back have none, as
    # agents compare the sha256 too
    known = top > 0 and all(standing.highest_sha256 == sha256 for standing in at_top)
    revision = top if known else top + 1
    others = any(standing.document not in (None, document) for standing in standings)
    missing = all(standing.document is None for standing in standings)
    changed = not known and (others or missing or top > 0)
    writes = tuple(each.bus for each in standings if not each.holds(document, sha256, revision))
    keeper = next((each for each in at_top if known and each.revision == top and each.seeded_at), None)
    return Plan(
        revision=revision,
        changed=changed,
        publish=changed or others,
        writes=writes,
        repairs=() if changed else writes,
        seeded_at=keeper.seeded_at if keeper else "",
        seeded_by=keeper.seeded_by if keeper else "",
        old=next((each.document for each in (*at_top, *standings) if each.document is not None), None),
    )
