from hypothesis import given
from hypothesis import strategies as st

from marketswarm.agent.rhythm import JITTER, Rhythm

CHANCE = st.floats(0, 1, exclude_max=True)


@given(st.floats(0.01, 1000), CHANCE, st.lists(st.tuples(CHANCE, st.floats(0, 5)), max_size=30))
def test_a_beat_is_due_on_the_grid_and_in_the_future(interval_sec, phase, steps):
    rhythm = Rhythm(interval_sec, 100.0, phase)
    now = due = rhythm.next_due(100.0, 0.0)
    grid = due
    assert 0.499 * interval_sec <= due - 100.0 <= 1.001 * interval_sec
    for chance, late in steps:
        now = max(now, due + late * interval_sec)
        due = rhythm.next_due(now, chance)
        slots = (due + JITTER * interval_sec * chance - grid) / interval_sec
        assert abs(slots - round(slots)) < 1e-6
        assert now - JITTER * interval_sec <= due <= now + (1 + 2 * JITTER) * interval_sec


def test_beats_on_time_keep_their_number():
    rhythm, now = Rhythm(10, 0.0, 0.5), 0.0
    for _ in range(1000):
        now = rhythm.next_due(now, 0.3) + 0.01
    assert 9980 < now < 10000


def test_slots_that_were_slept_through_are_not_made_up_for():
    rhythm = Rhythm(10, 0.0, 1.0)
    assert rhythm.next_due(0.0, 0) == 10
    assert rhythm.next_due(47.0, 0) == 50
    assert rhythm.next_due(50.0, 0) == 60


def test_two_that_begin_together_come_apart():
    assert Rhythm(10, 0.0, 0.1).next_due(0.0, 0) != Rhythm(10, 0.0, 0.9).next_due(0.0, 0)
