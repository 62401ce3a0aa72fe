"""Two medics that are killed, frozen and cut off: no action twice, none lost, none without the lease."""

from collections import Counter
from datetime import UTC, datetime

import pytest

from support.examples import examples
from support.simulation.medics import POINTS, TROUBLES, MedicWorld

DIRECTED = (
    ("freeze", "before act"),
    ("freeze", "after intended"),
    ("kill", "before act"),
    ("kill", "after act"),
    ("cut", "after intended"),
)


@pytest.mark.slow
@pytest.mark.parametrize("trouble", DIRECTED, ids=" ".join)
def test_the_worst_moments_neither_double_nor_lose_an_action(trouble):
    assert MedicWorld(0, [trouble]).run() == [" ".join(trouble)]


@pytest.mark.slow
def test_at_any_point_no_action_is_done_twice_or_lost_or_by_a_medic_without_its_lease():
    for seed in range(examples(50)):
        MedicWorld(seed).run()


@pytest.mark.nightly("test_at_any_point_… has ten stories in every run")
@pytest.mark.timeout(1200)
def test_a_thousand_troubles_at_named_points():
    met = Counter[str]()
    first = 1000 * datetime.now(UTC).date().toordinal()  # none that a night before had
    for seed in range(first, first + 1000):
        met.update(MedicWorld(seed).run())
    assert met.total() >= 1000
    assert set(met) == {f"{trouble} {point}" for trouble in TROUBLES for point in POINTS}
