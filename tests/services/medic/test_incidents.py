"""Incidents with a hidden truth: the verdicts are right, and never "healed" while the fault is there."""

from collections import Counter

import pytest

from support.examples import examples
from support.simulation.incidents import KINDS, IncidentWorld

RIGHT_SHARE = 0.99


def judge(seeds):
    """Let the incidents happen; return the verdicts that were right, the wrong ones, and their stories."""
    right, wrong, stories = Counter(), Counter(), []
    for seed in seeds:
        world = IncidentWorld(seed)
        oracle = world.run()
        story = "\n".join([f"IncidentWorld({seed}) {world.kind}", *oracle.story])
        assert not oracle.false, f"called well while the fault was there: {oracle.false}\n{story}"
        assert not oracle.forbidden, f"{oracle.forbidden}\n{story}"
        assert not oracle.needless, f"{oracle.needless}\n{story}"
        assert not oracle.repeated, f"{oracle.repeated}\n{story}"
        assert not oracle.hasty, f"{oracle.hasty}\n{story}"
        right.update(oracle.right)
        wrong.update(oracle.wrong)
        stories += [story] if oracle.wrong else []
    return right, wrong, stories


def check(seeds):
    right, wrong, stories = judge(seeds)
    share = right.total() / (right.total() + wrong.total())
    assert share >= RIGHT_SHARE, "\n\n".join([f"{share:.2%} right; wrong: {wrong}", *stories[:3]])
    return right


@pytest.mark.slow
def test_verdicts_are_right_and_nothing_is_called_healed_while_its_fault_is_there():
    right = check(range(examples(50 * len(KINDS))))
    assert {"verified", "failed", "relapsed", "recovered", "end"} < set(right)
    assert {"resolved healed", "resolved recovered", "resolved restarted"} < set(right)
    assert {"escalated exhausted", "escalated crash_loop", "undone"} < set(right)


@pytest.mark.nightly("test_verdicts_are_right_… has 180 incidents in every run")
@pytest.mark.timeout(1200)  # a busy machine may take ten times as long
def test_verdicts_on_ten_thousand_incidents_are_right():
    check(range(10_000))
