"""Learn from the record which remedy helps against which symptom, as Beta posteriors. Pure.

There are two layers. The slow one counts a remedy against a symptom over all services, the fast one for one
service, with the slow one as its prior. `wait` is counted like a remedy: what heals by itself is the
baseline. All of it follows from the timelines of incidents, so nothing is stored, and a reset is a time from
which on incidents count. `experience.py` decides by it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import exp, lgamma, log
from typing import Final

from marketswarm.operator.healing import HealingIncident
from marketswarm.operator.healing_stats import JudgedAttempt, list_attempts
from services.medic.remedies import Remedy

PRIOR_WEIGHT: Final = 4.0
"""As many attempts of a service itself weigh as much as all that is known of others."""
ENOUGH: Final = 20
"""From so many attempts on, an estimate is one to decide by."""
_STEPS: Final = 2000
_FARTHEST: Final = 20.0
"""The logarithm of the odds up to which a distribution is cut into steps; what is beyond is one step."""


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


Outcomes = Counter[tuple[Treatment, bool]]
"""How often each treatment of a service helped, and how often it did not."""


def learn(incidents: Iterable[HealingIncident]) -> list[Lesson]:
    """Return what incidents teach, sorted.

    Incidents whose first entry is trimmed off teach nothing: of what they were is not known.
    """
    counts = Outcomes()
    for incident in incidents:
        if incident.symptom:
            counts.update(count_outcomes(incident.symptom, incident.svc, list_attempts(incident)))
    return make_lessons(estimate(counts))


def count_outcomes(symptom: str, svc: str, attempts: Iterable[JudgedAttempt]) -> Outcomes:
    return Outcomes((Treatment(symptom, each.remedy, svc), each.helped) for each in attempts)


def estimate(counts: Outcomes) -> dict[Treatment, Posterior]:
    """Return the posterior of each treatment: of a service, and over all services."""
    total = Outcomes()
    for (each, is_helped), count in counts.items():
        total[Treatment(each.symptom, each.remedy), is_helped] += count
    slow = {each: _update(1.0, 1.0, each, total) for each, _ in total}
    fast: dict[Treatment, Posterior] = {}
    for each, _ in counts:
        mean = slow[Treatment(each.symptom, each.remedy)].mean
        fast[each] = _update(PRIOR_WEIGHT * mean, PRIOR_WEIGHT * (1 - mean), each, counts)
    return slow | fast


def _update(alpha: float, beta: float, treatment: Treatment, counts: Outcomes) -> Posterior:
    """Return the posterior that follows from a prior and what was counted of a treatment."""
    helped, failed = counts[treatment, True], counts[treatment, False]
    return Posterior(alpha + helped, beta + failed, helped, failed)


def make_lessons(posteriors: Mapping[Treatment, Posterior]) -> list[Lesson]:
    """Return the posteriors with how each compares to waiting, sorted by the treatment."""
    return [Lesson(each, posteriors[each], compare_to_wait(each, posteriors)) for each in sorted(posteriors)]


def compare_to_wait(treatment: Treatment, posteriors: Mapping[Treatment, Posterior]) -> float | None:
    """Return how likely a remedy helps more often than to wait does; None for `wait`, or without it."""
    if treatment.remedy == Remedy.WAIT:
        return None
    own = Treatment(treatment.symptom, Remedy.WAIT, treatment.svc)
    waiting = posteriors.get(own) or posteriors.get(Treatment(treatment.symptom, Remedy.WAIT))
    return None if waiting is None else find_probability(posteriors[treatment], waiting)


def find_probability(one: Posterior, other: Posterior) -> float:
    """Return how likely a draw of the first distribution is greater than one of the second."""
    below, found = 0.0, 0.0
    first, second = _weigh(one), _weigh(other)
    for high, low in zip(first, second, strict=True):
        found += high * (below + low / 2)
        below += low
    total = sum(first) * below
    return found / total if total else 0.5


def _weigh(posterior: Posterior) -> list[float]:
    """Return how likely a draw is in each step, from 0 to 1.

    The steps are even in the logarithm of the odds: a remedy that never helped has nearly all of its weight
    next to 0, where even steps of the probability itself would miss it.
    """
    a, b = posterior.alpha, posterior.beta
    scale = lgamma(a + b) - lgamma(a) - lgamma(b)
    points = _list_points()
    steps = [exp(scale + a * low + b * high) * 2 * _FARTHEST / _STEPS for low, high in points]
    edges = (exp(scale - a * _FARTHEST) / a, exp(scale - b * _FARTHEST) / b)
    return [edges[0], *steps, edges[1]]


@cache
def _list_points() -> Sequence[tuple[float, float]]:
    """Return the logarithms of a probability and of its complement, in the middle of each step."""
    odds = (_FARTHEST * (2 * step + 1 - _STEPS) / _STEPS for step in range(_STEPS))
    return [(-log(1 + exp(-each)), -log(1 + exp(each))) for each in odds]
