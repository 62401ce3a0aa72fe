"""Make the table of the gym from what was judged. Pure."""

import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import median
from typing import Any, Final

from bench.faultgym.case import Case, Expectation, Judgement

BEGIN: Final = "<!-- figures: written by make faultgym -->"
COMPARED_BEGIN: Final = "<!-- the comparison: written by make faultgym -->"
END: Final = "<!-- end of the figures -->"
HEAD: Final = (
    "| what is right | kinds | trials | done right | detected: median, p95 | verified: median, p95 "
    "| needless | harmful | called healed in vain |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)
COMPARED_HEAD: Final = (
    "| what is right | healer | done right | well again: median, p95 "
    "| needless | harmful | failed requests |\n"
    "| --- | --- | --- | --- | --- | --- | --- |"
)
_GROUPS: Final[Mapping[str, Callable[[Case], bool]]] = {
    "a remedy heals it": lambda case: case.expect is Expectation.HEAL,
    "it is up again without medic": lambda case: case.expect is Expectation.RECOVER,
    "a person is needed: escalated": lambda case: case.expect is Expectation.ESCALATE,
    "no remedy is there: reported, and left alone": lambda case: case.expect is Expectation.REPORT,
    "controls: nothing may be done": lambda case: case.is_control,
}


@dataclass(frozen=True, slots=True)
class TrialResult:
    """One trial with what is said of it; `problem` is why it could not be carried out."""

    case: Case
    seed: int
    judgement: Judgement | None
    problem: str = ""

    @property
    def is_right(self) -> bool:
        return self.judgement is not None and self.judgement.is_right

    def to_json(self) -> dict[str, Any]:
        judged = {} if self.judgement is None else asdict(self.judgement)
        said = {name: round(each, 2) if isinstance(each, float) else each for name, each in judged.items()}
        head = {"case": self.case.name, "seed": self.seed, "expect": self.case.expect}
        return {**head, "is_control": self.case.is_control, "problem": self.problem, **said}


def parse_trial(found: Mapping[str, Any], cases: Mapping[str, Case]) -> TrialResult | None:
    """Return a trial of an earlier run, as `to_json` made it; None if there is no such case any more."""
    case = cases.get(found["case"])
    if case is None:
        return None
    said = {each.name: found[each.name] for each in fields(Judgement) if each.name in found}
    return TrialResult(case, found["seed"], Judgement(**said) if said else None, found["problem"])


def find_percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least so many percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def format_times(values: Iterable[float | None]) -> str:
    known = [each for each in values if each is not None]
    return f"{median(known):.1f} s, {find_percentile(known, 95):.1f} s" if known else "-"


def render_table(results: Sequence[TrialResult]) -> str:
    """Return the table as Markdown."""
    return "\n".join([HEAD, *(_render_row(name, mine) for name, mine in _group(results).items())])


def _group(results: Sequence[TrialResult]) -> dict[str, list[TrialResult]]:
    grouped = {name: [each for each in results if belongs(each.case)] for name, belongs in _GROUPS.items()}
    return {name: mine for name, mine in grouped.items() if mine}


def _render_row(name: str, results: Sequence[TrialResult]) -> str:
    judged = [each.judgement for each in results if each.judgement is not None]
    right = sum(each.is_right for each in results)
    cells = [
        name,
        str(len({each.case.name for each in results})),
        str(len(results)),
        f"{right} ({100 * right / len(results):.1f} %)",
        format_times(each.detected_sec for each in judged),
        format_times(each.verified_sec for each in judged),
        str(sum(each.needless for each in judged)),
        str(sum(each.harmful for each in judged)),
        str(sum(each.false for each in judged)),
    ]
    return f"| {' | '.join(cells)} |"


def render_comparison(by_healer: Mapping[str, Sequence[TrialResult]], sees: Mapping[str, str]) -> str:
    """Return a table with a row for each expectation and healer, of the trials that all of them had.

    `sees` has, for some healers, a sentence about what they see. A healer whose trials are other ones than
    those of the others would be compared with them by chance.
    """
    common = set.intersection(*({_name_trial(each) for each in mine} for mine in by_healer.values()))
    rows = [
        _render_compared(name, healer, mine)
        for name in _GROUPS
        for healer, results in by_healer.items()
        if (mine := _group([each for each in results if _name_trial(each) in common]).get(name))
    ]
    kinds = len({case for case, _ in common})
    head = f"The same {len(common)} trials of {kinds} kinds, with each healer:"
    parts = [
        head,
        "\n".join([COMPARED_HEAD, *rows]),
        render_requests(by_healer, common),
        *(sees[healer] for healer in by_healer if healer in sees),
    ]
    return "\n\n".join(parts)


def render_requests(
    by_healer: Mapping[str, Sequence[TrialResult]], common: Container[tuple[str, int]]
) -> str:
    """Return how many requests failed with each healer, in trials in which a healer can do something."""
    failed = {
        healer: sum(
            each.judgement.failed
            for each in results
            if each.judgement is not None
            and _name_trial(each) in common
            and each.case.expect in (Expectation.HEAL, Expectation.RECOVER)
        )
        for healer, results in by_healer.items()
    }
    words = ", ".join(f"{healer} {count:,}" for healer, count in failed.items())
    return f"Failed requests where a service can be well again: {words}."


def _name_trial(result: TrialResult) -> tuple[str, int]:
    return result.case.name, result.seed


def _render_compared(name: str, healer: str, results: Sequence[TrialResult]) -> str:
    judged = [each.judgement for each in results if each.judgement is not None]
    right = sum(each.is_right for each in results)
    cells = [
        name,
        healer,
        f"{right} of {len(results)} ({100 * right / len(results):.1f} %)",
        format_times(each.up_sec for each in judged if each.is_right),
        str(sum(each.needless for each in judged)),
        str(sum(each.harmful for each in judged)),
        f"{sum(each.failed for each in judged):,} of {sum(each.asked for each in judged):,}",
    ]
    return f"| {' | '.join(cells)} |"


def render_failures(results: Iterable[TrialResult]) -> str:
    """Return a line for each trial that was not right; empty if there is none."""
    wrong = (each for each in results if not each.is_right)
    return "\n".join(
        f"- `{each.case.name}`, seed {each.seed}: "
        f"{each.judgement.why if each.judgement is not None else each.problem}"
        for each in wrong
    )


def render_report(results: Sequence[TrialResult], origin: Mapping[str, Any]) -> str:
    """Return the table, with what it was made from before it and what was not right after it."""
    machine = ", ".join(f"{name} {value}" for name, value in origin["machine"].items())
    head = (
        f"The healer is {origin['healer']}, with {origin['seeds']} seeds and a timeout of "
        f"{origin['timeout_sec']:g} s. Measured on: {machine}."
    )
    tail = (
        f"Actions on services that no case was about: {origin['strays']}. Trials that were made anew, since "
        f"they were not right while the machine stood still: {origin['excused']}."
    )
    wrong = render_failures(results)
    parts = [head, render_table(results), tail, *([f"Not right:\n\n{wrong}"] if wrong else [])]
    return "\n\n".join(parts)


def replace_table(page: str, text: str, begin: str = BEGIN) -> str:
    """Put a new table between `begin` and the next end mark of the page. Raise ValueError if it lacks one."""
    before, found, rest = page.partition(begin)
    _, end, after = rest.partition(END)
    if not found or not end:
        raise ValueError(f"the page lacks {begin} or {END}")
    return f"{before}{begin}\n\n{text.strip()}\n\n{END}{after}"
