"""Which times count of an age: those that a medic observed, and in which the writer could have written."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.medic.rules.observed_time import MAX_SPANS, ObservedTime
from support.examples import examples

UNNOTICED_SEC, GAP_SEC = 20.0, 10.0
EVERY_SEC, LIMIT_SEC = 25.0, 30.0
"""How often the writer writes, and from which age on it is taken for one that does not."""


def note(observed, now, is_clear=True):
    observed.note(now, is_clear=is_clear, longest_gap_sec=GAP_SEC, unnoticed_sec=UNNOTICED_SEC)


def test_a_time_is_observed_from_look_to_look_and_not_over_a_longer_gap():
    observed = ObservedTime()
    for now in (100.0, 105.0, 115.0):
        note(observed, now)
    assert (observed.since, observed.measure(0.0, 110.0)) == (100.0, 10.0)
    note(observed, 200.0)
    assert (observed.since, observed.measure(0.0, 300.0)) == (200.0, 0.0), (
        "too short for a standstill to show"
    )


def test_a_standstill_that_shows_may_have_begun_before_it_did():
    observed = ObservedTime()
    for now in range(100, 200, 5):
        note(observed, float(now))
    note(observed, 200.0, is_clear=False)
    assert (observed.since, observed.measure(0.0, 300.0)) == (None, 75.0)


def test_the_next_medic_goes_on_with_what_was_observed_and_keeps_a_bounded_part_of_it():
    observed = ObservedTime()
    observed.resume([(100.0, 200.0), (300.0, 400.0)], UNNOTICED_SEC)
    assert (observed.since, observed.measure(150.0, 390.0)) == (None, 50.0 + 80.0)
    for at in range(1000, 9000, 100):
        note(observed, float(at), is_clear=False)
        for now in range(at + 10, at + 60, 10):
            note(observed, float(now))
    assert len(observed.spans) == MAX_SPANS


class AgeWorld:
    """A stream that is written while the fleet runs, and medics that measure how old its last entry is."""

    def __init__(self):
        self.now, self.written_at, self.left_sec = 1000.0, 1000.0, EVERY_SEC
        self.observed, self.stored = ObservedTime(), ()

    def pass_time(self, kind, sec):
        for second in range(sec):
            self.now += 1.0
            runs = kind in ("runs", "without a medic")
            self.left_sec -= runs
            if self.left_sec <= 0:
                self.written_at, self.left_sec = self.now, EVERY_SEC
            if kind in ("runs", "stands still"):
                self.look(is_clear=runs or second < UNNOTICED_SEC)
        if "medic" in kind:  # another one takes over
            self.observed = ObservedTime()
            self.observed.resume(self.stored, UNNOTICED_SEC)

    def look(self, *, is_clear):
        note(self.observed, self.now, is_clear)
        since, age_sec = self.observed.since, self.now - self.written_at
        if since is not None:
            end = self.now - UNNOTICED_SEC  # a standstill since then may not show yet
            assert self.observed.measure(self.now - age_sec, end) < LIMIT_SEC, f"it writes, at {self.now}"
        if self.now % 10 == 0:
            self.stored = tuple(self.observed.spans)


PHASES = st.sampled_from(["runs", "stands still", "all stand still", "without a medic", "no medic, still"])


@given(st.lists(st.tuples(PHASES, st.sampled_from([25, 26, 60, 200])), min_size=2, max_size=12))
@settings(max_examples=examples(100))
def test_a_writer_that_writes_whenever_it_can_is_never_taken_for_one_that_does_not(phases):
    world = AgeWorld()
    world.pass_time("runs", 100)
    for kind, sec in phases:
        world.pass_time(kind, sec)
    world.pass_time("runs", 100)
