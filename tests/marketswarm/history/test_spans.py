"""Spans from events: an outage begins at the last beat, and nobody's silence counts as up."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.event import Event, Kind
from marketswarm.history.spans import Change, Fact, KnownState, Span, Timeline, make_fact, paint, read_event

UP, DOWN, UNKNOWN = KnownState.UP, KnownState.DOWN, KnownState.UNKNOWN
T0 = 1_790_000_000


def event(kind, ts, svc="a", **more):
    return Event(kind, svc, T0 + ts, f"{kind}.{svc}.{ts}", "healer", **more)


def miss(ts, since, **more):
    return event(Kind.HEARTBEAT_MISS, ts, since=None if since is None else T0 + since, **more)


def ok(ts, since=None, down_sec=None, **more):
    return event(
        Kind.HEARTBEAT_OK, ts, since=None if since is None else T0 + since, down_sec=down_sec, **more
    )


def spans_of(*events, state=UP, end=1000, unheard=()):
    line = Timeline(T0, state, [fact for each in events if (fact := read_event(each)) is not None])
    found = line.spans([Span(T0 + a, T0 + b, UNKNOWN) for a, b in unheard], T0 + end)
    return [(span.start - T0, span.end - T0, span.state.value) for span in found]


def test_an_outage_begins_at_the_last_beat_and_ends_at_the_first_one_after_it():
    assert spans_of(miss(130, 100), ok(205, since=100, down_sec=100)) == [
        (0, 100, "up"),
        (100, 200, "down"),
        (200, 1000, "up"),
    ]


def test_an_outage_that_did_not_begin_with_the_last_beat_begins_when_its_events_say():
    expected = [(0, 300, "up"), (300, 320, "down"), (320, 1000, "up")]
    begun, ended = {"down_since": T0 + 300}, ok(325, since=100, down_sec=20, down_since=T0 + 300)
    assert spans_of(miss(310, 100, **begun), ended) == expected
    assert spans_of(ended) == expected
    assert spans_of(miss(310, None, late_sec=200.0, **begun)) == [(0, 300, "up"), (300, 1000, "down")]
    assert spans_of(miss(310, 100, down_since=1e15)) == [(0, 310, "up"), (310, 1000, "down")]


def test_an_outage_that_lasts_has_no_end():
    assert spans_of(miss(130, 100)) == [(0, 100, "up"), (100, 1000, "down")]


def test_a_service_that_was_never_heard_is_down_since_the_healer_began_to_listen():
    assert spans_of(miss(130, None, late_sec=30.0), state=UNKNOWN) == [
        (0, 100, "unknown"),
        (100, 1000, "down"),
    ]


def test_a_service_is_unknown_until_its_first_event():
    assert spans_of(ok(50, age_sec=10.0), state=UNKNOWN) == [(0, 40, "unknown"), (40, 1000, "up")]


def test_a_recovery_tells_of_its_outage_even_if_its_miss_is_lost():
    assert spans_of(ok(205, since=100, down_sec=100)) == [
        (0, 100, "up"),
        (100, 200, "down"),
        (200, 1000, "up"),
    ]


def test_a_second_miss_of_one_outage_changes_nothing():
    assert spans_of(miss(130, 100), miss(180, 150)) == [(0, 100, "up"), (100, 1000, "down")]


def test_an_outage_can_not_begin_before_the_one_before_it_ended():
    found = spans_of(miss(130, 100), ok(200, since=100, down_sec=100), miss(240, 150))
    assert found == [(0, 100, "up"), (100, 1000, "down")]


@pytest.mark.parametrize("turn", [1, -1])
def test_an_outage_that_begins_in_the_second_in_which_the_one_before_it_ended_lasts(turn):
    ended = ok(65.1, since=60.0, down_sec=5.1, down_since=T0 + 60.0)
    begun = miss(65.4, 65.1, down_since=T0 + 65.4)
    assert spans_of(*[miss(60.2, 60.0), ended, begun][::turn]) == [(0, 60, "up"), (60, 1000, "down")]
    # a beat that waited for the healer ended the one before, and the next failure came at once
    ended = ok(65.4, since=60.0, down_sec=3.0, age_sec=2.4)
    assert spans_of(*[miss(62, 60.0), ended, miss(65.45, 64.0)][::turn])[1:] == [
        (60, 63, "down"),
        (63, 64, "up"),
        (64, 1000, "down"),
    ]


@pytest.mark.parametrize("turn", [1, -1])
def test_an_outage_that_begins_and_ends_within_one_second_has_ended(turn):
    events = [miss(65.1, 60.0), ok(65.4, since=60.0, down_sec=5.4), miss(70.1, 70.1), ok(70.2, 70.1, 0.1)]
    assert spans_of(*events[::turn]) == [(0, 60, "up"), (60, 65, "down"), (65, 1000, "up")]


def test_time_in_which_nobody_listened_is_unknown_whatever_the_events_say():
    found = spans_of(miss(130, 100), unheard=[(50, 120), (900, 2000)])
    assert found == [(0, 50, "up"), (50, 120, "unknown"), (120, 900, "down"), (900, 1000, "unknown")]


def test_a_silence_that_the_beats_prove_is_down_even_where_nobody_listened():
    gap = event(Kind.HEARTBEAT_GAP, 400, since=T0 + 100, gap_sec=60.0, restarted=True)
    assert spans_of(gap, unheard=[(90, 300)]) == [
        (0, 90, "up"),
        (90, 100, "unknown"),
        (100, 160, "down"),
        (160, 300, "unknown"),
        (300, 1000, "up"),
    ]


def test_a_restart_without_a_proven_silence_is_no_outage():
    gap = event(Kind.HEARTBEAT_GAP, 400, since=T0 + 100, gap_sec=0.0, restarted=True)
    assert spans_of(gap) == [(0, 1000, "up")]


def test_a_service_that_nobody_watches_is_unknown():
    assert spans_of(miss(130, 100), event(Kind.HEARTBEAT_UNWATCHED, 300)) == [
        (0, 100, "up"),
        (100, 300, "down"),
        (300, 1000, "unknown"),
    ]


@pytest.mark.parametrize("end", [Kind.WATCH_OK, Kind.WATCH_UNWATCHED])
def test_a_service_whose_channel_is_refused_is_unknown_since_its_last_beat(end):
    found = spans_of(event(Kind.WATCH_MISS, 130, since=T0 + 100), event(end, 300))
    assert found == [(0, 100, "up"), (100, 300, "unknown"), (300, 1000, "up")]


def test_an_event_about_something_else_is_no_fact():
    assert read_event(event(Kind.TRUTH_DRIFT, 5)) is None
    assert read_event(event(Kind.PROBE_MISS, 5, svc="massive/x")) is None
    assert read_event(Event(Kind.HEARTBEAT_MISS, "a", -5.0, "x", "healer")) is None
    assert read_event(Event(Kind.HEARTBEAT_MISS, "a", 1e300, "x", "healer")) is None


def test_a_reach_gap_is_a_time_in_which_nobody_listened():
    fact = read_event(event(Kind.REACH_GAP, 400, svc="healer", gap_sec=50.0))
    assert fact == Fact(T0 + 400, Change.UNHEARD, T0 + 350, T0 + 400)


def test_what_lies_before_a_timeline_is_forgotten_and_the_rest_stays():
    line = Timeline(T0, UP, [read_event(miss(130, 100)), read_event(ok(205, since=100, down_sec=100))])
    before = line.spans((), T0 + 1000)
    line.advance(T0 + 150)
    assert line.spans((), T0 + 1000) == [
        span._replace(start=max(span.start, T0 + 150)) for span in before if span.end > T0 + 150
    ]


END = 100
moments = st.integers(0, 90)
facts = st.lists(
    st.builds(
        lambda change, at, back, length: make_fact(change, T0 + at, T0 + at - back, T0 + at - back + length),
        st.sampled_from(Change),
        moments,
        st.integers(0, 20),
        st.integers(0, 20),
    ),
    max_size=12,
)


@given(facts, st.randoms(use_true_random=False))
def test_any_order_of_facts_and_any_repetition_give_the_same_spans(found, chance):
    line, other = Timeline(T0, UP, found), Timeline(T0, UP)
    repeated = [*found, *found]
    random.Random(chance.random()).shuffle(repeated)
    for fact in repeated:
        other.add(fact)
    assert other.spans((), T0 + END) == line.spans((), T0 + END)
    assert other.facts == line.facts


@given(facts, st.lists(st.tuples(moments, moments), max_size=4), st.sampled_from(KnownState))
def test_spans_follow_each_other_without_holes_and_differ_from_their_neighbours(found, gaps, state):
    unheard = [Span(T0 + min(gap), T0 + max(gap), UNKNOWN) for gap in gaps]
    spans = Timeline(T0, state, found).spans(unheard, T0 + END)
    assert (spans[0].start, spans[-1].end) == (T0, T0 + END)
    for one, two in pairwise(spans):
        assert one.end == two.start
        assert one.state is not two.state
    assert all(span.start < span.end for span in spans)


@given(facts, st.lists(st.tuples(moments, moments), max_size=4))
def test_no_second_in_which_nobody_listened_is_up(found, gaps):
    unheard = [Span(T0 + min(gap), T0 + max(gap), UNKNOWN) for gap in gaps]
    for span in Timeline(T0, UP, found).spans(unheard, T0 + END):
        if span.state is UP:
            assert not any(
                one.start < span.end and span.start < one.end for one in unheard if one[0] < one[1]
            )


@given(facts, st.integers(0, END), st.sampled_from(KnownState))
def test_a_timeline_that_forgets_its_beginning_says_the_same_of_the_rest(found, at, state):
    line = Timeline(T0, state, found)
    before = seconds_of(line.spans((), T0 + END), T0 + at)
    line.advance(T0 + at)
    assert seconds_of(line.spans((), T0 + END), T0 + at) == before


def seconds_of(spans, begin):
    return {second: span.state for span in spans for second in range(max(span.start, begin), span.end)}


@given(facts, st.lists(st.tuples(moments, moments), max_size=5))
def test_painting_is_the_same_as_painting_second_by_second(found, gaps):
    base = Timeline(T0, UP, found).spans((), T0 + END)
    over = [Span(T0 + min(gap), T0 + max(gap), UNKNOWN) for gap in gaps]
    wanted = seconds_of(base, T0)
    wanted |= {second: UNKNOWN for span in over for second in range(span.start, span.end)}
    assert seconds_of(paint(base, over), T0) == wanted
