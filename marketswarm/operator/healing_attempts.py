"""Judge the attempts at remedies on record: which helped, and which a person had approved. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from marketswarm.operator.healing import RETIRED, EntryKind, HealingIncident, TimelineEntry
from marketswarm.operator.remedies import Remedy
from marketswarm.text import escape_text

_UNJUDGED: Final = (EntryKind.RECOVERED, EntryKind.ABANDONED)
"""What ends an attempt without a sign of whether the remedy did it."""
_AFTER_WAIT: Final = (EntryKind.REFUSED, EntryKind.PROPOSED, EntryKind.INTENDED, EntryKind.ESCALATED)


@dataclass(frozen=True, slots=True)
class JudgedAttempt:
    """An attempt of which the record says whether it helped; `wait` is one, too.

    `is_approved` says that a person approved it as a remedy of the ladder, not as one of a diagnosis.
    """

    remedy: str
    helped: bool
    is_approved: bool = False


def list_attempts(incident: HealingIncident) -> Iterator[JudgedAttempt]:
    """Yield each attempt that was judged. One that is not judged is left out.

    A verified remedy has helped unless the outage came back. To wait has helped if the target was up next,
    and no other process was seen meanwhile.
    """
    tried: str | None = None
    proposed = approved = ""
    is_verified = is_approved = False
    for entry in incident.timeline:
        helped = _judge(entry, tried, is_verified=is_verified)
        if helped is not None and tried is not None:
            yield JudgedAttempt(tried, helped, is_approved)
        is_verified = entry.what is EntryKind.VERIFIED or (is_verified and helped is None)
        match entry.what:
            case EntryKind.PROPOSED:
                proposed = entry.remedy
            case EntryKind.DIAGNOSED if entry.proposal:
                proposed = ""
            case EntryKind.APPROVED:
                approved = entry.remedy if entry.remedy == proposed else ""
            case EntryKind.INTENDED:
                is_approved, approved = approved == entry.remedy, ""
        if entry.what in (EntryKind.WAITING, EntryKind.ACTED):
            tried = entry.remedy
        elif helped is not None or entry.what in (*_UNJUDGED, EntryKind.RESTARTED):
            tried = None


def _judge(entry: TimelineEntry, tried: str | None, *, is_verified: bool) -> bool | None:
    """Return whether the remedy that was tried last has helped, by this entry; None if it does not say."""
    if tried is None:
        return None
    if tried == Remedy.WAIT:
        return True if entry.what is EntryKind.RECOVERED else False if entry.what in _AFTER_WAIT else None
    if entry.what is EntryKind.FAILED or (is_verified and entry.what is EntryKind.RELAPSED):
        return False
    return True if is_verified and entry.what is EntryKind.RESOLVED and entry.reason != RETIRED else None


@dataclass(slots=True)
class ApprovalStats:
    """The outcome of a remedy for one service after people had approved it.

    `helped` and `failed` count attempts that a person approved. `in_a_row` is how many of these helped since
    an attempt at this remedy failed last, approved or not.
    """

    svc: str
    remedy: str
    helped: int = 0
    failed: int = 0
    in_a_row: int = 0

    def add(self, attempt: JudgedAttempt) -> None:
        self.helped += attempt.is_approved and attempt.helped
        self.failed += attempt.is_approved and not attempt.helped
        self.in_a_row = self.in_a_row + attempt.is_approved if attempt.helped else 0


def measure_approvals(incidents: Iterable[HealingIncident]) -> tuple[ApprovalStats, ...]:
    """Return the outcome of what people approved, by service and remedy; texts are escaped.

    Incidents whose beginning is trimmed off say nothing.
    """
    found: dict[tuple[str, str], ApprovalStats] = {}
    for incident in sorted((each for each in incidents if each.symptom), key=attrgetter("opened_at")):
        for attempt in list_attempts(incident):
            of = escape_text(incident.svc), escape_text(attempt.remedy)
            found.setdefault(of, ApprovalStats(*of)).add(attempt)
    return tuple(found[of] for of in sorted(found) if found[of].helped or found[of].failed)
