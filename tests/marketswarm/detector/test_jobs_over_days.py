"""Jobs over days, with gaps, restarts, takeovers, reseeds and set clocks: every alert is as it should be."""

from datetime import UTC, datetime

import pytest

from support.examples import examples
from support.simulation.jobs import run_world

DAYS = 3.0
FIRST_SEED = 1
FLEETS = 4
"""One a part, at least; `make test` runs four, and each night seven hundred that no night before had."""
NIGHTLY_SEEDS, PART = 700, 50


@pytest.mark.slow
@pytest.mark.timeout(900)  # a busy machine may take ten times as long
@pytest.mark.parametrize("part", range(4))
def test_no_alert_about_a_job_is_false_or_missing_or_told_twice(part):
    seeds = range(FIRST_SEED + part, FIRST_SEED + max(FLEETS, examples(19)), 4)
    worlds = [run_world(seed, DAYS) for seed in seeds]
    assert sum(world.runs for world in worlds) > 100 * len(worlds), "they ran"
    assert sum(world.alerts for world in worlds) > 5 * len(worlds), "and some went wrong"


@pytest.mark.nightly("test_no_alert_about_a_job_… runs four fleets in every run")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(0, NIGHTLY_SEEDS, PART))
def test_no_alert_is_false_in_thousands_of_days_of_fleets(part):
    first = 1000 * datetime.now(UTC).date().toordinal() + part
    for seed in range(first, first + PART):
        run_world(seed, DAYS)  # a failure names its seed
