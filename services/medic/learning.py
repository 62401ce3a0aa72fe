"""Learn from the record which remedy helps against which symptom, as Beta posteriors. Pure.

There are two layers. The slow one counts a remedy against a symptom over all services, the fast one for one
service, with the slow one as its prior. `wait` is counted like a remedy: what heals by itself is the
baseline. All of it follows from the timelines of incidents, so nothing is stored, and a reset is a time from
which on incidents count.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import exp, lgamma, log
from typing import Final

from marketswarm.operator.healing import EntryKind, HealingIncident, TimelineEntry
from services.medic.remedies import Remedy

PRIOR_WEIGHT: Final = 4.0
"""As many attempts of a service itself weigh as much as all that is known of others."""
ENOUGH: Final = 20
"""From so many attempts on, an estimate is one to decide by."""
_STEPS: Final = 2000
_UNJUDGED: Final = (EntryKind.RECOVERED, EntryKind.ABANDONED)
"""What ends an attempt without a sign of whether the remedy did it."""


@dataclass(frozen=True, slots=True, order=True)
class Treatment:
    """A remedy against a symptom, of one service, or of all with an empty `svc`."""

    symptom: str
    remedy: str
    svc: str = ""


@dataclass(frozen=True, slots=True)
class Posterior:
    """A Beta distribution of how likely an attempt helps, and the attempts that it has seen itself."""

    alpha: float
    beta: float
    helped: int = 0
    failed: int = 0

    @property
    def mean(self) -> float:
        return self.alpha / (self.alpha + self.beta)

    @property
    def attempts(self) -> int:
        return self.helped + self.failed

    @property
    def is_enough(self) -> bool:
        return self.attempts >= ENOUGH


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is known of a treatment; `better` is how likely it helps more often than to wait does.

    `better` is None for `wait` itself.
    """

    treatment: Treatment
    posterior: Posterior
    better: float | None


def learn(incidents: Iterable[HealingIncident], since: float = 0.0) -> list[Lesson]:
    """Return what incidents that were opened at `since` (epoch seconds) or later teach, sorted.

    Incidents whose first entry is trimmed off teach nothing: of what they were is not known.
    """
    counts = Counter[tuple[Treatment, bool]]()
    for incident in incidents:
        if incident.symptom and incident.opened_at >= since:
            counts.update(_list_outcomes(incident))
    own = {treatment for treatment, _ in counts}
    everywhere = {Treatment(each.symptom, each.remedy) for each in own}
    posteriors: dict[Treatment, Posterior] = {each: _find_slow(each, counts) for each in sorted(everywhere)}
    posteriors |= {each: _find_fast(each, counts, posteriors) for each in sorted(own)}
    return [
        Lesson(each, found, _compare(each, posteriors))
        for each, found in sorted(posteriors.items(), key=_first)
    ]


def _first(item: tuple[Treatment, Posterior]) -> Treatment:
    return item[0]


def _list_outcomes(incident: HealingIncident) -> Iterator[tuple[Treatment, bool]]:
    """Yield each attempt that was judged, and whether it helped.

    A verified remedy has helped unless the outage came back. To wait has helped if the target was up next,
    and no other process was seen meanwhile. An attempt that is not judged is left out.
    """
    tried: str | None = None
    is_verified = False
    for entry in incident.timeline:
        begins = entry.what in (EntryKind.WAITING, EntryKind.ACTED)
        helped = _judge(entry, tried, is_verified=is_verified)
        if helped is not None and tried is not None:
            yield Treatment(incident.symptom, tried, incident.svc), helped
        is_verified = entry.what is EntryKind.VERIFIED or (is_verified and helped is None)
        if begins:
            tried = entry.remedy
        elif helped is not None or entry.what in (*_UNJUDGED, EntryKind.RESTARTED):
            tried = None


def _judge(entry: TimelineEntry, tried: str | None, *, is_verified: bool) -> bool | None:
    """Return what an entry says of the remedy that was tried last; None if it says nothing."""
    if tried is None:
        return None
    if tried == Remedy.WAIT:
        passed = (EntryKind.REFUSED, EntryKind.PROPOSED, EntryKind.INTENDED, EntryKind.ESCALATED)
        return True if entry.what is EntryKind.RECOVERED else False if entry.what in passed else None
    if entry.what is EntryKind.FAILED or (is_verified and entry.what is EntryKind.RELAPSED):
        return False
    return True if is_verified and entry.what is EntryKind.RESOLVED else None


def _find_slow(treatment: Treatment, counts: Mapping[tuple[Treatment, bool], int]) -> Posterior:
    """Return the posterior over all services, from one that says nothing."""
    helped, failed = (
        sum(
            count
            for (each, is_helped), count in counts.items()
            if is_helped is wanted and (each.symptom, each.remedy) == (treatment.symptom, treatment.remedy)
        )
        for wanted in (True, False)
    )
    return Posterior(1.0 + helped, 1.0 + failed, helped, failed)


def _find_fast(
    treatment: Treatment,
    counts: Mapping[tuple[Treatment, bool], int],
    posteriors: Mapping[Treatment, Posterior],
) -> Posterior:
    mean = posteriors[Treatment(treatment.symptom, treatment.remedy)].mean
    helped, failed = counts.get((treatment, True), 0), counts.get((treatment, False), 0)
    return Posterior(PRIOR_WEIGHT * mean + helped, PRIOR_WEIGHT * (1 - mean) + failed, helped, failed)


def _compare(treatment: Treatment, posteriors: Mapping[Treatment, Posterior]) -> float | None:
    """Return how likely a remedy helps more often than to wait does; None for `wait`, or without it."""
    if treatment.remedy == Remedy.WAIT:
        return None
    own = Treatment(treatment.symptom, Remedy.WAIT, treatment.svc)
    waiting = posteriors.get(own) or posteriors.get(Treatment(treatment.symptom, Remedy.WAIT))
    return None if waiting is None else find_probability(posteriors[treatment], waiting)


def find_probability(one: Posterior, other: Posterior) -> float:
    """Return how likely a draw of the first distribution is greater than one of the second."""
    points = [(step + 0.5) / _STEPS for step in range(_STEPS)]
    first, second = ([_density(each, point) for point in points] for each in (one, other))
    below, found = 0.0, 0.0
    for high, low in zip(first, second, strict=True):
        found += high * (below + low / 2)
        below += low
    total = sum(first) * below
    return found / total if total else 0.5


def _density(posterior: Posterior, point: float) -> float:
    a, b = posterior.alpha, posterior.beta
    scale = lgamma(a + b) - lgamma(a) - lgamma(b)
    return exp(scale + (a - 1) * log(point) + (b - 1) * log(1 - point))
