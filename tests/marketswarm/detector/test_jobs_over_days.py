"""Jobs over days, with gaps, restarts, takeovers, reseeds and set clocks: every alert is as it should be."""

import pytest

from support.examples import examples
from support.simulation.jobs import run_world

DAYS = 3.0
FIRST_SEED = 1
FLEETS = 4
"""One a part, at least; `make test` runs four, and the night seven hundred others."""
NIGHTLY_FROM, NIGHTLY_SEEDS, PART = 1000, 700, 50


@pytest.mark.slow
@pytest.mark.timeout(400)  # a busy machine may take ten times as long
@pytest.mark.parametrize("part", range(4))
def test_no_alert_about_a_job_is_false_or_missing_or_told_twice(part):
    seeds = range(FIRST_SEED + part, FIRST_SEED + max(FLEETS, examples(19)), 4)
    worlds = [run_world(seed, DAYS) for seed in seeds]
    assert sum(world.runs for world in worlds) > 100 * len(worlds), "they ran"
    assert sum(world.alerts for world in worlds) > 5 * len(worlds), "and some went wrong"


@pytest.mark.nightly("test_no_alert_about_a_job_… runs four fleets in every run")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("first", range(NIGHTLY_FROM, NIGHTLY_FROM + NIGHTLY_SEEDS, PART))
def test_no_alert_is_false_in_thousands_of_days_of_fleets(first):
    for seed in range(first, first + PART):
        run_world(seed, DAYS)
