"""Hours of a fleet with all that befalls a notifier: who is down is queued, told or held at every instant."""

from datetime import UTC, datetime

import pytest

from support.examples import examples
from support.simulation.notifications import play

STORIES = 30
"""At a hundred examples; `make test` plays three, and each night two thousand that no night before had."""
NIGHTLY_STORIES, PART = 2000, 100
CLOCK_BEHIND = 7_399_511_372
"""A story of a night: its outage is dated by a clock an hour behind, so before the notifier began."""


@pytest.mark.timeout(900)  # a busy machine may take ten times as long
def test_row_64_nothing_is_lost_or_told_twice_and_nothing_is_told_inside_a_silence():
    assert play(1, examples(STORIES)) > 20


def test_a_hold_that_counts_from_a_clock_behind_ends_in_a_mute_as_any_other():
    assert play(CLOCK_BEHIND, 1) > 20


@pytest.mark.nightly("test_row_64_nothing_is_lost_… plays three stories in every run")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(0, NIGHTLY_STORIES, PART))
def test_nothing_is_lost_or_told_twice_in_thousands_of_stories(part):
    play(10_000 * datetime.now(UTC).date().toordinal() + part, PART)  # a failure names its seed
