"""The values of a silence and of failures: what follows from each event, whatever came before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.beat import Beat
from marketswarm.detector.clock import HeardAt
from marketswarm.detector.trouble import (
    ANY_WAY,
    BESIDE,
    MAX_OPEN_FAILURES,
    NO_TROUBLE,
    PLAIN,
    SAVED,
    PresentSilence,
    ReportedFailure,
    Trouble,
)

FAILURE = ReportedFailure(HeardAt(1.0, 2.0, 3.0), 4, "why")
LIFE, ENDED = Beat("a", 1, 1.0, boot="b"), Beat("a", 1, 1.0, boot="b", run="ended")

vias = st.sampled_from([None, BESIDE, "kuma", "gatus", *(f"way{n}" for n in range(MAX_OPEN_FAILURES))])
beats = st.builds(
    Beat,
    st.just("a"),
    st.just(1),
    st.just(1.0),
    boot=st.sampled_from([None, "b", "c"]),
    run=st.sampled_from([None, "ended"]),
    via=st.sampled_from([None, "kuma", "way1"]),
)


@st.composite
def troubles(draw: st.DrawFn) -> Trouble:
    """What follows from any reports and signs of life."""
    found = NO_TROUBLE
    for each in draw(st.lists(st.one_of(vias, beats), max_size=20)):
        if isinstance(each, Beat):
            found = found.end_failures(each, is_new_process=draw(st.booleans()))
        else:
            found = found.add_failure(FAILURE, each, draw(st.sampled_from([None, "b"])))
    return found


@given(troubles())
def test_each_way_has_one_open_failure_and_there_are_so_many_at_most(trouble):
    ways = [each.via for each in trouble.open]
    assert len(ways) == len(set(ways)) <= MAX_OPEN_FAILURES


@given(troubles(), vias)
def test_a_report_that_is_repeated_changes_nothing(trouble, via):
    once = trouble.add_failure(FAILURE, via, None)
    assert once.add_failure(FAILURE, via, None) is once


@given(troubles(), beats, st.booleans())
def test_a_sign_of_life_ends_its_own_failure_and_adds_none(trouble, beat, is_new):
    after = trouble.end_failures(beat, is_new_process=is_new)
    assert after.failure is None
    assert set(after.open) <= set(trouble.open)
    assert after.end_failures(beat, is_new_process=is_new) == after


@given(troubles())
def test_the_failure_that_is_missed_is_its_own_or_the_first_open_one(trouble):
    if trouble.failure is not None:
        assert (trouble.due_failure, trouble.via) == (trouble.failure, None)
    elif trouble.open:
        assert (trouble.due_failure, trouble.via) == (trouble.open[0].report, trouble.open[0].via)
    else:
        assert (trouble.due_failure, trouble.via) == (None, None)


@pytest.mark.parametrize(
    ("via", "boot", "beat", "is_new", "ends"),
    [
        ("kuma", None, LIFE, False, False),
        ("kuma", None, LIFE, True, False),
        ("kuma", None, ENDED, False, True),  # it names no way
        ("kuma", None, Beat("a", 1, 1.0, run="ended", via="kuma"), False, True),
        ("kuma", None, Beat("a", 1, 1.0, run="ended", via="gatus"), False, False),
        (BESIDE, "c", LIFE, False, False),
        (BESIDE, "c", LIFE, True, True),
        (BESIDE, "b", LIFE, False, True),  # the process that reported it
        (BESIDE, "c", ENDED, False, True),
    ],
)
def test_what_ends_an_open_failure(via, boot, beat, is_new, ends):
    trouble = NO_TROUBLE.add_failure(FAILURE, via, boot).end_failures(beat, is_new_process=is_new)
    assert (trouble.open == ()) is ends


def test_without_a_beat_all_failures_end():
    assert NO_TROUBLE.add_failure(FAILURE, "kuma", None).add_failure(FAILURE, None, None).end_failures() == (
        NO_TROUBLE
    )


def test_while_a_service_is_restored_it_is_noted_what_has_ended():
    before = NO_TROUBLE.add_failure(FAILURE, "kuma", None)
    after = before.end_failures(ENDED).note_ended(before, ENDED)
    assert (after.ended_failure, after.resolved) == (FAILURE, (ANY_WAY,))
    still = before.end_failures(LIFE).note_ended(before, LIFE)
    assert (still.ended_failure, still.resolved) == (None, ())


def test_failures_move_with_the_clock():
    trouble = NO_TROUBLE.add_failure(FAILURE, None, None).add_failure(FAILURE, "kuma", None).shift(10.0)
    assert [each.heard for each in (trouble.failure, trouble.open[0].report)] == [HeardAt(11.0, 2.0, 3.0)] * 2
    assert NO_TROUBLE.shift(10.0) is NO_TROUBLE


silences = st.builds(
    PresentSilence,
    st.booleans(),
    st.booleans(),
    st.sampled_from([-float("inf"), 60.0]),
    st.sampled_from([None, FAILURE.heard]),
).map(lambda each: PLAIN if each == PLAIN else SAVED if each == SAVED else each)


@given(silences)
def test_a_silence_is_saved_and_dropped_and_nothing_else_of_it_changes(silence):
    assert silence.save() == silence._replace(is_saved=True)
    assert silence.drop() == silence._replace(is_saved=False)
    assert silence.stop(True) == silence._replace(stopped=True)
    assert silence.stop(False) == silence._replace(stopped=False)


def test_the_silences_of_most_services_are_one_object():
    assert PLAIN.save() is SAVED
    assert SAVED.drop() is PLAIN
    assert PLAIN.drop() is PLAIN.stop(False) is PLAIN.shift(5.0) is PLAIN
    assert SAVED.shift(5.0) is SAVED


def test_of_a_service_that_starts_the_time_moves_with_the_clock():
    silence = PresentSilence(starting_until=60.0, unheard=FAILURE.heard).shift(-10.0)
    assert silence == PresentSilence(starting_until=50.0)
