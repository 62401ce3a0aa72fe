"""Measure the outages on record: how they ended, how long they took, and what each remedy achieved. Pure.

The texts of the record are escaped, because who can write to it writes what is shown here.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from marketswarm.operator.healing import BESIDE, UNDONE, EntryKind, HealingIncident
from marketswarm.operator.remedies import Remedy
from marketswarm.text import escape_text


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
