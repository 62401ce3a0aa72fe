"""Results that wait for a bus: in order, bounded, and worth the same as all of them."""

import hypothesis.strategies as st
from hypothesis import given, settings

from services.massive.backlog import ROWS_AT_MOST, Backlog
from services.massive.outlook import NOTHING, Patience, Sight, judged


def sight(n, error=None):
    return Sight("b", n, float(n), error)


def test_they_come_out_in_the_order_in_which_they_came():
    backlog = Backlog(whole=3)
    for n, name in enumerate("abcab"):
        backlog.put(name, sight(n))
    assert [(name, each.n) for name, each in backlog.first(4)] == [("a", 0), ("b", 1), ("c", 2), ("a", 3)]


def test_a_clock_that_is_set_back_does_not_change_the_order():
    backlog = Backlog(whole=3)
    backlog.put("a", Sight("b", 1, 5000.0, None))
    backlog.put("a", Sight("b", 2, 1000.0, "refused"))
    assert [each.n for _, each in backlog.first(9)] == [1, 2]


def test_what_is_done_is_gone():
    backlog = Backlog(whole=3)
    for n in range(4):
        backlog.put("a", sight(n, "refused" if n % 2 else None))
    backlog.done(backlog.first(3))
    assert ([each.n for _, each in backlog.first(9)], len(backlog)) == ([3], 1)
    backlog.done(backlog.first(3))
    assert (backlog.first(9), len(backlog)) == ([], 0)


def test_a_long_row_of_the_same_takes_no_more_room_than_what_can_matter():
    backlog = Backlog(whole=3)
    for n in range(10_000):
        backlog.put("a", sight(n, "refused"))
    assert [each.n for _, each in backlog.first(99)] == [0, 1, 2, 9999]
    assert len(backlog) == 4


def test_of_what_flaps_for_ever_the_oldest_goes():
    backlog = Backlog(whole=3)
    for n in range(10_000):
        backlog.put("a", sight(n, "refused" if n % 2 else None))
    assert len(backlog) == ROWS_AT_MOST == len(backlog.first(10_000))
    assert backlog.first(1)[0][1].n == 10_000 - ROWS_AT_MOST


def test_what_is_forgotten_takes_no_room():
    backlog = Backlog(whole=3)
    backlog.put("a", sight(1))
    backlog.put("b", sight(2))
    backlog.forget("a")
    backlog.forget("c")
    assert ([name for name, _ in backlog.first(9)], len(backlog)) == (["b"], 1)


@settings(max_examples=60)
@given(st.lists(st.booleans(), max_size=80), st.integers(1, 4), st.integers(1, 4))
def test_what_is_kept_leads_to_the_same_events_as_all_of_it(well, down_after, up_after):
    patience = Patience(down_after, up_after)
    every = [sight(n, None if ok else "refused") for n, ok in enumerate(well, 1)]
    backlog = Backlog(whole=max(down_after, up_after))
    for each in every:
        backlog.put("a", each)
    kept = [each for _, each in backlog.first(1000)]
    assert told(every, patience) == told(kept, patience)


def told(sights, patience):
    known, events = NOTHING, []
    for each in sights:
        known, event = judged("a", known, each, patience)
        events += [] if event is None else [(event.type, event.ts, event.since, event.down_sec)]
    return events
