"""Sum up the outages of some days: what was healed, what needed a person, and how long each took. Pure.

All of it follows from the record of incidents (`medic:incidents`), which holds about 20,000 entries. So a
report says from when on the record is complete.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from marketswarm.operator.healing import HealingIncident
from marketswarm.operator.healing_stats import measure_resolutions
from services.medic.learning import Lesson, Treatment, learn
from services.medic.remedies import Remedy
from services.medic.repair import Resolution


@dataclass(frozen=True, slots=True)
class OutagePattern:
    """The outages of one service with one symptom. Times are in seconds."""

    svc: str
    symptom: str
    outages: int
    healed: int
    escalated: int
    resolution_time_median_seconds: float | None


@dataclass(frozen=True, slots=True)
class HealingReport:
    """What the incidents that were opened from `since` on (epoch seconds) show, by the names of its JSON.

    `ended` and `resolutions` count those that have ended, by how they ended; `share_healed` is the share of
    those, `share_escalated` that of all. A share, or a time in seconds, is None without any. `remedies` are
    lessons about all services: remedies that helped most often first, the baseline `wait` last.
    `without_beginning` counts incidents whose beginning is trimmed off; they are in no other number.
    `complete_since` is the oldest entry of the record if the record begins after `since`.
    """

    since: float
    complete_since: float | None
    outages: int
    ended: int
    resolutions: Mapping[str, int]
    share_healed: float | None
    share_escalated: float | None
    resolution_time_median_seconds: float | None
    resolution_time_p95_seconds: float | None
    patterns: tuple[OutagePattern, ...]
    remedies: tuple[Lesson, ...]
    without_beginning: int


def make_report(
    incidents: Iterable[HealingIncident], since: float, oldest: float | None = None
) -> HealingReport:
    """Return the report of the incidents from `since` on; `oldest` is the oldest entry of a full record."""
    found = [each for each in incidents if each.opened_at >= since]
    known = [each for each in found if each.symptom]
    groups: dict[tuple[str, str], list[HealingIncident]] = {}
    for each in known:
        groups.setdefault((each.svc, each.symptom), []).append(each)
    patterns = list[OutagePattern]()
    for (svc, symptom), group in groups.items():
        own = measure_resolutions(group)
        healed = own.by_status.get(Resolution.HEALED, 0)
        patterns.append(OutagePattern(svc, symptom, own.count, healed, own.escalated, own.median_sec))
    stats = measure_resolutions(known)
    resolutions = Counter(each.resolution for each in known if each.end is not None)
    ended = resolutions.total()
    lessons = (each for each in learn(known) if not each.treatment.svc)
    return HealingReport(
        since=since,
        complete_since=oldest if oldest is not None and oldest > since else None,
        outages=stats.count,
        ended=ended,
        resolutions=dict(resolutions.most_common()),
        share_healed=resolutions[Resolution.HEALED] / ended if ended else None,
        share_escalated=stats.escalated / stats.count if stats.count else None,
        resolution_time_median_seconds=stats.median_sec,
        resolution_time_p95_seconds=stats.p95_sec,
        patterns=tuple(sorted(patterns, key=lambda each: (-each.outages, each.svc, each.symptom))),
        remedies=tuple(sorted(lessons, key=_rank_lesson)),
        without_beginning=len(found) - len(known),
    )


def _rank_lesson(lesson: Lesson) -> tuple[bool, int, Treatment]:
    return lesson.treatment.remedy == Remedy.WAIT, -lesson.posterior.helped, lesson.treatment
