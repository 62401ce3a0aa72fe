"""Plan a seeding: from what each bus holds, decide which revision to write and where. Pure.

The revision grows by 1 when the bytes change, is the same on every bus, and never goes back, so two agents
that show revision 7 have the same bytes. Not here: reading and writing the buses (`transaction.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BusState:
    """The truth as one bus holds it; each SHA-256 is in hex.

    Where truth:meta is missing, `revision` is 0 and `sha256` is empty; likewise `last_revision` and
    `last_sha256` where truth:history is missing.
    """

    bus: str
    document: bytes | None = None
    revision: int = 0
    """The revision in truth:meta."""
    sha256: str = ""
    seeded_at: str = ""
    """When that revision was seeded: epoch seconds as text."""
    seeded_by: str = ""
    last_revision: int = 0
    """The newest revision in truth:history."""
    last_sha256: str = ""

    @property
    def highest_revision(self) -> int:
        """The highest revision that this bus knows, even if its truth:meta was lost."""
        return max(self.revision, self.last_revision)

    @property
    def highest_sha256(self) -> str:
        return self.sha256 if self.revision >= self.last_revision else self.last_sha256

    def holds(self, document: bytes, sha256: str, revision: int) -> bool:
        """Return True if the document, truth:meta and the newest history entry are those of this revision."""
        return (
            self.document == document
            and (self.revision, self.sha256) == (revision, sha256)
            and (self.last_revision, self.last_sha256) == (revision, sha256)
        )


@dataclass(frozen=True, slots=True)
class SeedPlan:
    """The revision to write, and the buses to write it to."""

    revision: int
    changed: bool
    """Whether the bytes are new."""
    must_publish: bool
    """Whether the document changed on at least one bus, so that agents have something to apply."""
    writes: tuple[str, ...]
    repairs: tuple[str, ...]
    """The buses to write to if the bytes are not new (`changed` is False); otherwise empty."""
    seeded_at: str = ""
    """When and by whom this revision was first seeded; both empty for a new revision."""
    seeded_by: str = ""
    old_document: bytes | None = None
    """The document that is replaced; None if no bus had one."""


def make_plan(document: bytes, sha256: str, states: Sequence[BusState]) -> SeedPlan:
    """Return the plan after which every bus holds this document, with its SHA-256, under one revision.

    The revision is the highest that any bus knows if it has these bytes wherever it is known, otherwise the
    next one. `states` are what the buses hold now, at least one, in the order of writing.
    """
    highest = max(state.highest_revision for state in states)
    at_highest = [state for state in states if state.highest_revision == highest]
    # Only truth:meta and truth:history say which bytes belong to a revision. A document that was set without
    # them needs a new revision, because agents compare the sha256 too.
    is_known = highest > 0 and all(state.highest_sha256 == sha256 for state in at_highest)
    revision = highest if is_known else highest + 1
    has_other_documents = any(state.document not in (None, document) for state in states)
    has_no_document = all(state.document is None for state in states)
    changed = not is_known and (has_other_documents or has_no_document or highest > 0)
    writes = tuple(each.bus for each in states if not each.holds(document, sha256, revision))
    first_seeded = next(
        (each for each in at_highest if is_known and each.revision == highest and each.seeded_at), None
    )
    return SeedPlan(
        revision=revision,
        changed=changed,
        must_publish=changed or has_other_documents,
        writes=writes,
        repairs=() if changed else writes,
        seeded_at=first_seeded.seeded_at if first_seeded else "",
        seeded_by=first_seeded.seeded_by if first_seeded else "",
        old_document=next(
            (each.document for each in (*at_highest, *states) if each.document is not None), None
        ),
    )
