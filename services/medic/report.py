"""Sum up the outages of some days: what was healed, what needed a person, and how long each took. Pure.

All of it follows from the record of incidents (`medic:incidents`), which holds about 20,000 entries. So a
report says from when on the record is complete.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from marketswarm.operator.healing import EntryKind, HealingIncident
from marketswarm.operator.healing_stats import ResolutionStats, measure_resolutions
from services.medic.learning import Lesson, Treatment, learn
from services.medic.remedies import Remedy
from services.medic.repair import Resolution


@dataclass(frozen=True, slots=True)
class OutagePattern:
    """The outages of one service with one symptom."""

    svc: str
    symptom: str
    stats: ResolutionStats

    @property
    def healed(self) -> int:
        return self.stats.by_status.get(Resolution.HEALED, 0)


@dataclass(frozen=True, slots=True)
class HealingReport:
    """What the incidents that were opened from `since` on (epoch seconds) show.

    `resolutions` counts those that have ended, by how they ended. `lessons` are about all services, those of
    remedies that helped most often first, the baseline `wait` last. `unknown` counts incidents whose
    beginning is trimmed off; they are in no other number. `complete_since` is the oldest entry of the record
    if the record begins after `since`.
    """

    since: float
    stats: ResolutionStats
    resolutions: tuple[tuple[str, int], ...]
    patterns: tuple[OutagePattern, ...]
    lessons: tuple[Lesson, ...]
    unknown: int
    complete_since: float | None

    @property
    def ended(self) -> int:
        return sum(count for _, count in self.resolutions)

    @property
    def share_healed(self) -> float | None:
        """The share of the outages that have ended; None without one."""
        return dict(self.resolutions).get(Resolution.HEALED, 0) / self.ended if self.ended else None

    @property
    def share_escalated(self) -> float | None:
        """The share of all outages; None without one."""
        return self.stats.escalated / self.stats.count if self.stats.count else None


def make_report(
    incidents: Iterable[HealingIncident], since: float, oldest: float | None = None
) -> HealingReport:
    """Return the report of the incidents from `since` on; `oldest` is the oldest entry of a full record."""
    found = [each for each in incidents if each.opened_at >= since]
    known = [each for each in found if each.timeline[0].what is EntryKind.OPENED]
    groups: dict[tuple[str, str], list[HealingIncident]] = {}
    for each in known:
        groups.setdefault((each.svc, each.symptom), []).append(each)
    patterns = [OutagePattern(*of, measure_resolutions(group)) for of, group in groups.items()]
    return HealingReport(
        since=since,
        stats=measure_resolutions(known),
        resolutions=tuple(Counter(each.resolution for each in known if each.end is not None).most_common()),
        patterns=tuple(sorted(patterns, key=lambda each: (-each.stats.count, each.svc, each.symptom))),
        lessons=tuple(sorted((each for each in learn(known) if not each.treatment.svc), key=_rank_lesson)),
        unknown=len(found) - len(known),
        complete_since=oldest if oldest is not None and oldest > since else None,
    )


def _rank_lesson(lesson: Lesson) -> tuple[bool, int, Treatment]:
    return lesson.treatment.remedy == Remedy.WAIT, -lesson.posterior.helped, lesson.treatment
