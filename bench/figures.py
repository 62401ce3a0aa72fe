"""What a bench measures, the ratio of it to a limit, and what got slower. Pure.

A limit is what a bare program needs for the same work in the same run. A ratio says how many times as much we
need: 1.0 is as good as the bare program, and less is better, also where the value is a rate.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

SLOWER: Final = 1.2
"""A ratio that grew by more than this factor is a slowdown."""
SLOWER_ELSEWHERE: Final = 2.0
"""The same beside figures of another machine, whose ratios differ by what its processor is good at."""
OF_A_CORE: Final = "of a core"
"""How the units of what is taken from a processor end."""
CLOCK: Final = ("s", "ms")
"""The units of what the clock says. It depends on what work leaves of a machine: one that is three times as
slow may be a hundred times as late, so such times say nothing beside those of another machine."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a table.

    Attributes:
        text: what is measured, for readers.
        unit: of the value and of its limit.
        limit: the bare program, for readers.
        goal: the worst value that is good enough, in the unit; None if only the ratio has a goal.
        goal_ratio: the same of the ratio.
        is_rate: whether larger values are better.
        slack: a value that is worse by less than this, in the unit, is not slower. It is for times that are
            so short that a busy machine changes them by a multiple.
    """

    text: str
    unit: str
    limit: str
    goal: float | None = None
    goal_ratio: float | None = None
    is_rate: bool = False
    slack: float = 0.0

    def ratio(self, pair: "Pair") -> float:
        """Raise ValueError if the value or its limit is not positive, because then nothing was measured."""
        if pair.value <= 0 or pair.limit <= 0:
            raise ValueError(f"{self.text}: measured {pair.value:g}, the limit {pair.limit:g} {self.unit}")
        return pair.limit / pair.value if self.is_rate else pair.value / pair.limit

    def is_met(self, pairs: Sequence["Pair"]) -> bool | None:
        """Return whether the medians meet the goals; None without a goal."""
        value, ratio = spread_of([pair.value for pair in pairs]).median, self.spread(pairs).median
        checks = []
        if self.goal is not None:
            checks.append(value >= self.goal if self.is_rate else value <= self.goal)
        if self.goal_ratio is not None:
            checks.append(ratio <= self.goal_ratio)
        return all(checks) if checks else None

    def spread(self, pairs: Sequence["Pair"]) -> "Spread":
        """Return the minimum, median and maximum of the ratios."""
        return spread_of([self.ratio(pair) for pair in pairs])


class Pair(NamedTuple):
    """What one repeat measured, and the limit in the same run."""

    value: float
    limit: float


Sample = Mapping[str, Pair]
"""What one repeat of a bench measured, by the name of the figure."""


class Spread(NamedTuple):
    """The minimum, median and maximum of the repeats."""

    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True)
class Bench:
    """A bench and its figures.

    Attributes:
        group: the heading below which the page shows it.
        measure: runs it once. Its argument scales sizes and times, for a try; figures are made with 1.0.
        repeats: how often `make bench` runs it; 0 for one that runs only when it is named.
        check_repeats: how often `make benchcheck` runs it; 0 for never.
    """

    group: str
    measure: Callable[[float], Sample]
    repeats: int
    check_repeats: int
    figures: Mapping[str, Figure]


@dataclass(slots=True)
class Result:
    """All repeats of one bench, by the name of the figure, and their commit and day."""

    commit: str
    day: str
    figures: dict[str, list[Pair]] = field(default_factory=dict)

    def add(self, sample: Sample) -> None:
        for name, pair in sample.items():
            self.figures.setdefault(name, []).append(pair)

    def join(self, earlier: "Result | None") -> "Result":
        """Return a result with the repeats of an earlier one too, if that is of the same commit."""
        if earlier is None or earlier.commit != self.commit:
            return self
        names = earlier.figures | self.figures
        pairs = {name: earlier.figures.get(name, []) + self.figures.get(name, []) for name in names}
        return Result(self.commit, self.day, pairs)


@dataclass(frozen=True, slots=True)
class Slowdown:
    """A figure that needs more of its limit than it needed: `before` and `now` are ratios."""

    bench: str
    text: str
    before: Spread
    now: Spread

    def __str__(self) -> str:
        """Return for example `heard, a beat (µs): at best 1.50 times the limit, was 1.04 (1.00 to 1.10)`."""
        return (
            f"{self.bench}, {self.text}: at best {self.now.low:.2f} times the limit, "
            f"was {self.before.median:.2f} ({self.before.low:.2f} to {self.before.high:.2f})"
        )


def spread_of(values: Sequence[float]) -> Spread:
    return Spread(min(values), statistics.median(values), max(values))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that this share of all values, 0.0 to 1.0, does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def find_pace(
    benches: Mapping[str, Bench], before: Mapping[str, Result], now: Mapping[str, Result | None]
) -> float:
    """Return how many times the processor time of before bare programs take now: the median of all, or 1.0.

    Bare programs have nothing of the product in them, so this is the machine alone. Its name does not say it:
    the processors of two virtual machines can have one name, and one of them a third of the other's pace.
    """
    ratios = [
        min(pair.limit for pair in new) / min(pair.limit for pair in old)
        for bench, result in now.items()
        if result and bench in before
        for name, figure in benches[bench].figures.items()
        if figure.unit.endswith(OF_A_CORE)
        if (old := before[bench].figures.get(name)) and (new := result.figures.get(name))
    ]
    return statistics.median(ratios) if ratios else 1.0


def find_slowdowns(
    bench: str, figures: Mapping[str, Figure], before: Result, now: Result, *, elsewhere: float | None = None
) -> Iterator[Slowdown]:
    """Yield the figures that got slower.

    Noise only makes a repeat slower, so the best repeats are compared: the best one of now is more than
    SLOWER times the best one before, and beyond all that were measured before.

    `elsewhere` is the pace of another machine than that of before, by `find_pace`. Then it has to be
    SLOWER_ELSEWHERE, and processor time also that much beyond what the pace explains, since not every bare
    program is slowed by the same; what the clock says is left out.
    """
    factor = SLOWER if elsewhere is None else SLOWER_ELSEWHERE
    for name, figure in figures.items():
        if not (old := before.figures.get(name)) or not (new := now.figures.get(name)):
            continue
        best, best_before = min(pair.value for pair in new), min(pair.value for pair in old)
        if elsewhere is not None and figure.unit in CLOCK:
            continue
        explained = elsewhere if elsewhere is not None and figure.unit.endswith(OF_A_CORE) else 0.0
        if best <= factor * explained * best_before:
            continue
        was, found = figure.spread(old), figure.spread(new)
        if found.low <= max(was.high, factor * was.low):
            continue
        if figure.slack and best - best_before < figure.slack:
            continue
        yield Slowdown(bench, f"{figure.text} ({figure.unit})", was, found)


def encode_results(machine: Mapping[str, Any], results: Mapping[str, Result]) -> dict[str, Any]:
    """Return what docs/performance.json holds: the values and limits of all repeats, in order."""
    benches = {
        bench: {
            "commit": result.commit,
            "day": result.day,
            "figures": {
                name: {
                    "values": [round_value(pair.value) for pair in pairs],
                    "limits": [round_value(pair.limit) for pair in pairs],
                }
                for name, pairs in result.figures.items()
            },
        }
        for bench, result in results.items()
    }
    return {"machine": dict(machine), "benches": benches}


def decode_results(found: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Result]]:
    """Return the machine and the results. Raise KeyError, TypeError or ValueError for another document."""
    results = {
        bench: Result(
            each["commit"],
            each["day"],
            {
                name: [Pair(*pair) for pair in zip(figure["values"], figure["limits"], strict=True)]
                for name, figure in each["figures"].items()
            },
        )
        for bench, each in found["benches"].items()
    }
    return dict(found["machine"]), results


def round_value(value: float) -> float:
    """Keep four digits, which is more than a repeat is good for."""
    return float(f"{value:.4g}")
