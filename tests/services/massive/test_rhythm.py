"""When targets are probed."""

import hypothesis.strategies as st
from hypothesis import given, settings

from services.massive.rhythm import first_wait_sec, next_due

CHANCE = st.floats(0, 1)


@settings(max_examples=50)
@given(CHANCE, st.floats(0.1, 1000))
def test_the_next_probe_is_up_to_a_tenth_off(chance, every_sec):
    assert 0.9 * every_sec <= next_due(0.0, 0.0, every_sec, chance) <= 1.1 * every_sec + 1e-9


def test_what_was_missed_is_not_made_up_for():
    assert next_due(100.0, 500.0, 10.0, 0.5) == 500.0


def test_a_probe_that_took_its_time_does_not_shift_the_rhythm():
    assert next_due(100.0, 104.0, 10.0, 0.5) == 110.0


def test_the_first_probes_of_many_are_spread_and_those_of_a_few_come_at_once():
    assert first_wait_sec(15.0, 2, 1.0) <= 0.05
    assert first_wait_sec(15.0, 500, 1.0) == 10.0
    assert first_wait_sec(1.0, 500, 1.0) == 1.0
    assert first_wait_sec(15.0, 500, 0.0) == 0.0
