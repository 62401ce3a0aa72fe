"""Decide by the record what is passed over, what comes first, and what has earned to act unasked. Pure.

`Experience` follows the entries of the record as they are written. Another medic that reads the same record
decides the same.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Final

from marketswarm.operator.healing import (
    ENTRIES_KEPT,
    MAX_TIMELINE,
    EntryKind,
    HealingIncident,
    TimelineEntry,
)
from marketswarm.operator.healing_stats import ApprovalStats, JudgedAttempt, list_attempts
from services.medic.learning import (
    Lesson,
    Outcomes,
    Posterior,
    Treatment,
    compare_to_wait,
    count_outcomes,
    estimate,
    find_probability,
    make_lessons,
)
from services.medic.refusal import Refusal
from services.medic.remedies import REMEDIES, Remedy, build_ladder

SURE: Final = 0.95
"""How likely a comparison must hold for the medic to go by it."""
RARELY: Final = 0.1
"""A remedy that helps more often than this is never passed over, however often waiting helps.

To wait is tried on each outage, a remedy on those alone that waiting did not end. So waiting seems better
than it is.
"""
RETRIED_AFTER: Final = 9
"""After so many outages in a row in which it was passed over, a remedy has one attempt again.

Services change, and what is never tried could never show that it helps by now.
"""


@dataclass(frozen=True, slots=True)
class IncidentOutcome:
    """What one incident of the record teaches.

    `intended` are the remedies that were begun, `passed_over` those that were not, by what was learned.
    """

    svc: str
    opened_at: float
    attempts: tuple[JudgedAttempt, ...]
    counts: Outcomes
    intended: frozenset[Treatment]
    passed_over: frozenset[Treatment]


def judge_incident(timeline: Sequence[TimelineEntry]) -> IncidentOutcome | None:
    """Return what a timeline teaches so far; None without its beginning."""
    incident = HealingIncident(tuple(timeline))
    if not incident.symptom:
        return None
    attempts = tuple(list_attempts(incident))
    intended = (each.remedy for each in timeline if each.what is EntryKind.INTENDED)
    useless = (each.remedy for each in timeline if each.reason == Refusal.DOES_NOT_HELP)
    return IncidentOutcome(
        svc=incident.svc,
        opened_at=incident.opened_at,
        attempts=attempts,
        counts=count_outcomes(incident.symptom, incident.svc, attempts),
        intended=frozenset(Treatment(incident.symptom, each, incident.svc) for each in intended),
        passed_over=frozenset(Treatment(incident.symptom, each, incident.svc) for each in useless),
    )


@dataclass(slots=True)
class _Teaching:
    """What all incidents teach together.

    `skips` counts for each remedy the last outages in a row in which it was passed over.
    """

    posteriors: dict[Treatment, Posterior] = field(default_factory=dict)
    approvals: dict[tuple[str, str], ApprovalStats] = field(default_factory=dict)
    skips: dict[Treatment, int] = field(default_factory=dict)


class Experience:
    """What the newest ENTRIES_KEPT entries of the record teach; nothing before `load`.

    Incidents that were opened before a person had them forgotten teach nothing.
    """

    def __init__(self) -> None:
        self.is_loaded = False
        self._since = 0.0
        self._order: deque[str] = deque()  # the incident of each entry
        self._open: dict[str, list[TimelineEntry]] = {}
        self._ended: dict[str, IncidentOutcome | None] = {}
        self._summary: _Teaching | None = None

    def load(self, entries: Iterable[TimelineEntry], since: float) -> None:
        """Take the whole record, oldest first; what was opened before `since` (epoch seconds) is left out."""
        self.is_loaded, self._since = True, since
        self.note(entries)

    def forget(self, since: float) -> None:
        if since != self._since:
            self._since, self._summary = since, None

    def note(self, entries: Iterable[TimelineEntry]) -> None:
        """Add entries that were written to the record."""
        if not self.is_loaded:
            return
        for entry in entries:
            self._add(entry)
            if len(self._order) > ENTRIES_KEPT:
                self._drop(self._order.popleft())
            self._summary = None

    def _add(self, entry: TimelineEntry) -> None:
        ident = entry.incident
        self._order.append(ident)
        if ident in self._ended:
            return
        timeline = self._open.setdefault(ident, [])
        timeline.append(entry)
        if entry.what is EntryKind.RESOLVED:
            self._ended[ident] = judge_incident(self._open.pop(ident))
        elif len(timeline) >= MAX_TIMELINE:
            self._drop(ident)

    def _drop(self, ident: str) -> None:
        """Let an incident teach nothing, since its beginning is cut off: what may follow has none, either."""
        self._open.pop(ident, None)
        self._ended.pop(ident, None)

    # --- what follows ---

    def list_lessons(self) -> list[Lesson]:
        return make_lessons(self._sum_up().posteriors)

    def list_approvals(self) -> list[ApprovalStats]:
        """Return the outcome of what people approved, by service and remedy."""
        found = self._sum_up().approvals
        return [found[of] for of in sorted(found) if found[of].helped or found[of].failed]

    def list_decisions(self, ladder_of: Callable[[str], Iterable[Remedy]]) -> dict[Treatment, str]:
        """Return what is decided of treatments of single services: `does_not_help` or `preferred`.

        `ladder_of` returns the remedies that may be tried for a service.
        """
        own = [each for each in self._sum_up().posteriors if each.svc and each.remedy in REMEDIES]
        useless = (each for each in own if self.find_useless(each.svc, each.symptom, Remedy(each.remedy)))
        found: dict[Treatment, str] = dict.fromkeys(useless, Refusal.DOES_NOT_HELP)
        for symptom, svc in {(each.symptom, each.svc) for each in own}:
            ladder = [each for each in ladder_of(svc) if symptom in REMEDIES[each].symptoms]
            if (preferred := self.find_preferred(svc, symptom, ladder)) is not None:
                found[Treatment(symptom, preferred[0], svc)] = EntryKind.PREFERRED
        return found

    def count_helped_in_a_row(self, svc: str, remedy: Remedy) -> int:
        """Return how many approved attempts at a remedy helped since one failed last."""
        stats = self._sum_up().approvals.get((svc, remedy))
        return 0 if stats is None else stats.in_a_row

    def find_useless(self, svc: str, symptom: str, remedy: Remedy) -> str | None:
        """Return in words why a remedy is to be passed over; None if it is to be tried.

        It helps rarely, and no more often than waiting; it was tried for this service, too; and it is not
        due to be tried again.
        """
        found, treatment = self._sum_up(), Treatment(symptom, remedy, svc)
        posterior = self._find_decisive(treatment)
        if posterior is None or posterior.mean > RARELY or found.skips.get(treatment, 0) >= RETRIED_AFTER:
            return None
        better = compare_to_wait(treatment, found.posteriors)
        if better is None or better >= 1 - SURE:
            return None
        waiting = replace(treatment, remedy=Remedy.WAIT)
        if waiting not in found.posteriors:
            waiting = replace(waiting, svc="")
        return f"helped in {self._describe(treatment)}, to wait in {self._describe(waiting)}"

    def find_preferred(
        self,
        svc: str,
        symptom: str,
        offered: Collection[Remedy],
        is_allowed: Callable[[Remedy], bool] = lambda _: True,
    ) -> tuple[Remedy, str] | None:
        """Return the remedy that is to come before cheaper ones of those offered, and why; None without one.

        It is surely better than to wait and than each cheaper one, and all of them were tried often enough.
        """
        ladder = [each for each in build_ladder(offered) if each is not Remedy.WAIT]
        for at in range(len(ladder) - 1, 0, -1):
            remedy, cheaper = ladder[at], ladder[:at]
            if not REMEDIES[remedy].may_precede_cheaper or not is_allowed(remedy):
                continue
            if self._is_best(svc, symptom, remedy, cheaper):
                first = Treatment(symptom, cheaper[0], svc)
                text = f"helped in {self._describe(Treatment(symptom, remedy, svc))}"
                return remedy, f"{text}, {cheaper[0]} in {self._describe(first)}"
        return None

    def _is_best(self, svc: str, symptom: str, remedy: Remedy, cheaper: Iterable[Remedy]) -> bool:
        own = self._find_decisive(Treatment(symptom, remedy, svc))
        others = [self._find_decisive(Treatment(symptom, each, svc)) for each in cheaper]
        better = compare_to_wait(Treatment(symptom, remedy, svc), self._sum_up().posteriors) if own else None
        if own is None or better is None or better < SURE:
            return False
        return all(other is not None and find_probability(own, other) >= SURE for other in others)

    def _find_decisive(self, treatment: Treatment) -> Posterior | None:
        """Return what is known of a treatment of one service if it is enough to decide by.

        The attempts of all services may be enough, but one failing service must not speak for the others: at
        least one attempt is of this service.
        """
        posteriors = self._sum_up().posteriors
        own = posteriors.get(treatment)
        if own is None:
            return None
        everywhere = posteriors[Treatment(treatment.symptom, treatment.remedy)]
        return own if own.is_enough or everywhere.is_enough else None

    def _describe(self, treatment: Treatment) -> str:
        """Return `1 of 25`, or `0 of 3 (all services: 1 of 60)` where a service itself has few attempts."""
        posteriors = self._sum_up().posteriors
        own, slow = posteriors[treatment], posteriors[Treatment(treatment.symptom, treatment.remedy)]
        text = f"{own.helped} of {own.attempts}"
        return text if own.is_enough else f"{text} (all services: {slow.helped} of {slow.attempts})"

    def _sum_up(self) -> _Teaching:
        if self._summary is not None:
            return self._summary
        found, outcomes = _Teaching(), Outcomes()
        judged = (*self._ended.values(), *map(judge_incident, self._open.values()))
        known = (each for each in judged if each is not None and each.opened_at >= self._since)
        for each in sorted(known, key=attrgetter("opened_at")):
            outcomes.update(each.counts)
            for attempt in each.attempts:
                of = each.svc, attempt.remedy
                found.approvals.setdefault(of, ApprovalStats(*of)).add(attempt)
            for treatment in each.passed_over:
                found.skips[treatment] = found.skips.get(treatment, 0) + 1
            found.skips.update(dict.fromkeys(each.intended, 0))
        found.posteriors = estimate(outcomes)
        self._summary = found
        return found
