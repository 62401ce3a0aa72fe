"""Sum up the outages of some days: what was healed, what needed a person, and how long each took. Pure.

All of it follows from the record of incidents (`medic:incidents`), which holds about 20,000 entries. So a
report says from when on the record is complete.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from marketswarm.operator.healing import EntryKind, HealingIncident
from services.medic.learning import Lesson, learn
from services.medic.remedies import Remedy
from services.medic.repair import Resolution

P95: Final = 0.95
MEDIAN: Final = 0.5


@dataclass(frozen=True, slots=True)
class OutagePattern:
    """The outages of one service with one symptom; `median_sec` is None if none of them is over."""

    svc: str
    symptom: str
    outages: int
    healed: int
    escalated: int
    median_sec: float | None


@dataclass(frozen=True, slots=True)
class HealingReport:
    """What the incidents that were opened from `since` on (epoch seconds) show.

    `resolutions` counts those that are over, by how they ended; `escalated` those that were given up at some
    time. The times are from the beginning of an outage until the service was up, None without one. `lessons`
    are about all services, the baseline `wait` included. `unknown` counts incidents whose beginning is
    trimmed off; they are in no other number. `complete_since` is the oldest entry of the record if the record
    begins after `since`.
    """

    since: float
    outages: int
    resolutions: tuple[tuple[str, int], ...]
    escalated: int
    median_sec: float | None
    p95_sec: float | None
    patterns: tuple[OutagePattern, ...]
    lessons: tuple[Lesson, ...]
    unknown: int
    complete_since: float | None

    @property
    def ended(self) -> int:
        return sum(count for _, count in self.resolutions)

    @property
    def healed(self) -> int:
        return dict(self.resolutions).get(Resolution.HEALED, 0)

    @property
    def share_healed(self) -> float | None:
        """The share of the outages that are over; None without one."""
        return self.healed / self.ended if self.ended else None

    @property
    def share_escalated(self) -> float | None:
        """The share of all outages; None without one."""
        return self.escalated / self.outages if self.outages else None


def make_report(
    incidents: Iterable[HealingIncident], since: float, oldest: float | None = None
) -> HealingReport:
    """Return the report of the incidents from `since` on; `oldest` is the oldest entry of a full record."""
    found = [each for each in incidents if each.opened_at >= since]
    known = [each for each in found if each.timeline[0].what is EntryKind.OPENED]
    groups: dict[tuple[str, str], list[HealingIncident]] = {}
    for each in known:
        groups.setdefault((each.svc, each.symptom), []).append(each)
    patterns = [_make_pattern(svc, symptom, group) for (svc, symptom), group in groups.items()]
    resolutions = Counter(each.resolution for each in known if each.end is not None)
    times = _list_times(known)
    return HealingReport(
        since=since,
        outages=len(known),
        resolutions=tuple(resolutions.most_common()),
        escalated=sum(each.is_escalated for each in known),
        median_sec=find_quantile(times, MEDIAN),
        p95_sec=find_quantile(times, P95),
        patterns=tuple(sorted(patterns, key=lambda each: (-each.outages, each.svc, each.symptom))),
        lessons=tuple(each for each in learn(known) if not each.treatment.svc),
        unknown=len(found) - len(known),
        complete_since=oldest if oldest is not None and oldest > since else None,
    )


def _make_pattern(svc: str, symptom: str, group: Sequence[HealingIncident]) -> OutagePattern:
    healed = sum(each.end is not None and each.resolution == Resolution.HEALED for each in group)
    escalated = sum(each.is_escalated for each in group)
    return OutagePattern(
        svc, symptom, len(group), healed, escalated, find_quantile(_list_times(group), MEDIAN)
    )


def _list_times(incidents: Iterable[HealingIncident]) -> list[float]:
    ends = (each.end for each in incidents)
    return [end.sec for end in ends if end is not None and end.sec is not None]


def find_quantile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that at least this share of the values does not exceed; None without any."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def sort_lessons(report: HealingReport) -> list[Lesson]:
    """Return what is known of the remedies, those that helped most often first; `wait` is the last."""
    return sorted(
        report.lessons,
        key=lambda each: (each.treatment.remedy == Remedy.WAIT, -each.posterior.helped, each.treatment),
    )
