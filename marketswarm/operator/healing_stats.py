"""Measure the outages on record: how they ended, how long they took, and what each remedy achieved. Pure.

Of each attempt at a remedy it is judged whether it helped, and whether a person had approved it.
The texts of the record are escaped, because who can write to it writes what is shown here.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

from marketswarm.operator.healing import BESIDE, RETIRED, UNDONE, EntryKind, HealingIncident, TimelineEntry
from marketswarm.operator.remedies import Remedy
from marketswarm.text import escape_text

_UNJUDGED: Final = (EntryKind.RECOVERED, EntryKind.ABANDONED)
"""What ends an attempt without a sign of whether the remedy did it."""
_AFTER_WAIT: Final = (EntryKind.REFUSED, EntryKind.PROPOSED, EntryKind.INTENDED, EntryKind.ESCALATED)


@dataclass(frozen=True, slots=True)
class ResolutionStats:
    """How outages ended, and how long the services were down, in seconds; None if none of them has ended."""

    count: int = 0
    by_status: Mapping[str, int] = field(default_factory=dict)
    escalated: int = 0
    median_sec: float | None = None
    p95_sec: float | None = None


@dataclass(slots=True)
class RemedyStats:
    """What a remedy achieved in the incidents on record. `wait` does nothing: it shows what heals by itself.

    `relapsed` counts outages that came back before the service was stable; `unknown` are attempts that may
    not have been carried out.
    """

    remedy: str
    attempts: int = 0
    verified: int = 0
    failed: int = 0
    relapsed: int = 0
    unknown: int = 0
    success: float | None = None
    """The share of the attempts that were verified and did not relapse; None without any."""


def measure_resolutions(incidents: Sequence[HealingIncident]) -> ResolutionStats:
    seconds = [each.end.sec for each in incidents if each.end is not None and each.end.sec is not None]
    return ResolutionStats(
        count=len(incidents),
        by_status=dict(Counter(escape_text(each.resolution) for each in incidents).most_common()),
        escalated=sum(each.is_escalated for each in incidents),
        median_sec=find_quantile(seconds, 0.5),
        p95_sec=find_quantile(seconds, 0.95),
    )


def find_quantile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that at least this share of the values does not exceed; None without any."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else None


def measure_remedies(incidents: Iterable[HealingIncident]) -> tuple[RemedyStats, ...]:
    """Return what each remedy achieved, the one that was tried most often first."""
    found: dict[str, RemedyStats] = {}
    for each in incidents:
        _count_steps(each, found)
    for stats in found.values():
        if stats.attempts:
            stats.success = max(0, stats.verified - stats.relapsed) / stats.attempts
    return tuple(sorted(found.values(), key=lambda one: (-one.attempts, one.remedy)))


def _count_steps(incident: HealingIncident, found: dict[str, RemedyStats]) -> None:
    healer: RemedyStats | None = None  # what made the service well the last time
    waiting = False
    for step in incident.timeline:
        stats = found.setdefault(name, RemedyStats(name)) if (name := escape_text(step.remedy)) else None
        match step.what:
            case EntryKind.ABANDONED if step.reason == UNDONE:
                pass
            case EntryKind.WAITING | EntryKind.ACTED | EntryKind.ABANDONED if stats is not None:
                stats.attempts += 1
                stats.unknown += step.what is EntryKind.ABANDONED
            case EntryKind.VERIFIED if stats is not None:
                stats.verified += 1
                healer = stats
            case EntryKind.FAILED if stats is not None:
                stats.failed += 1
            case EntryKind.RECOVERED if waiting:
                healer = found[Remedy.WAIT]
                healer.verified += 1
            case EntryKind.RELAPSED if healer is not None:
                healer.relapsed += 1
                healer = None
        is_wait = step.what is EntryKind.WAITING and name == Remedy.WAIT
        waiting = is_wait or (waiting and step.what in BESIDE)


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
