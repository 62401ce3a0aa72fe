"""What waits for a bus: all of it up to a limit, and beyond that nothing that anybody would miss."""

import random
import tracemalloc

import pytest

from marketswarm.detector import Publication, State, Subject, Verdict
from marketswarm.monitor.verdict_queue import (
    MIN_QUEUE_LIMIT,
    PendingVerdict,
    VerdictQueue,
    cancel_out,
    compute_queue_limit,
)

DOWN, UP, GONE = State.DOWN, State.UP, State.UNWATCHED


def first_up(svc="a", ts=0.0):
    return Verdict(svc, UP, Publication.LOG, ts)


def down(svc="a", ts=1.0, reason="silent", **more):
    return Verdict(svc, DOWN, Publication.ALERT, ts, reason=reason, **more)


def up(svc="a", ts=2.0, **more):
    return Verdict(svc, UP, Publication.ALERT, ts, down_sec=1.0, **more)


def gone(svc="a", ts=3.0, publication=Publication.NONE):
    return Verdict(svc, GONE, publication, ts)


def gap(svc="a", ts=3.0):
    return Verdict(svc, UP, Publication.ALERT, ts, gap_sec=9.0, event_id=f"gap.{ts}")


def put(backlog, *verdicts):
    for verdict in verdicts:
        backlog.add(PendingVerdict(verdict, verdict.ts))
    return [one.verdict for one in backlog]


def test_so_many_are_kept_as_one_death_and_one_recovery_of_each_service_make():
    assert (compute_queue_limit(0), compute_queue_limit(100_000)) == (MIN_QUEUE_LIMIT, 200_000)


@pytest.mark.parametrize(
    ("first", "second", "nothing_left"),
    [
        (down(), up(), True),
        (down(subject=Subject.BUS), up(subject=Subject.BUS), True),
        (down(reason="never_seen"), up(), False),  # the roster is still to learn that it is there
        (up(), down(), False),  # people know of the outage that the ok ends
        (first_up(), down(), False),
        (first_up(), gone(), True),
        (down(reason="never_seen"), gone(publication=Publication.ALERT), True),
        (down(), gone(publication=Publication.ALERT), False),  # the roster has it up, and is to forget it
        (up(), gone(), False),
        (gone(), first_up(), False),
        (down(), gap(), False),
    ],
)
def test_which_pairs_leave_nothing_to_tell_when_nobody_knows_the_first(first, second, nothing_left):
    assert cancel_out(first, second) is nothing_left


def test_below_the_limit_everything_waits():
    backlog = VerdictQueue(limit=100)
    verdicts = [each for n in range(40) for each in (down(ts=n), up(ts=n + 0.5))]
    assert put(backlog, *verdicts) == verdicts
    assert backlog.superseded == 0


def test_at_the_limit_a_miss_that_nobody_was_told_of_goes_with_its_ok_and_all_else_stays_in_order():
    backlog = VerdictQueue(limit=4)
    told_end, lasting = up("a", 0.0), down("a", 8.0)
    kept = put(
        backlog,
        *(down("x", 0.1), told_end, down("y", 0.2), down("z", 0.3)),
        *(each for n in range(1, 8) for each in (down("a", n), up("a", n + 0.5))),
        *(gap("y", 7.7), lasting),
    )
    assert kept == [down("x", 0.1), told_end, down("y", 0.2), down("z", 0.3), lasting]
    assert backlog.superseded == 7 * 2 + 1


def test_a_day_of_flapping_against_a_bus_that_refuses_keeps_a_few_of_each_service():
    services = [f"s{n}" for n in range(10)]
    backlog = VerdictQueue(limit=2 * len(services))
    put(backlog, *(first_up(svc) for svc in services))
    for ts in range(1, 1000):
        put(backlog, *(each for svc in services for each in (down(svc, ts), up(svc, ts + 0.5))))
    assert len(backlog) <= 4 * len(services)
    states: dict[str, State] = {}
    for one in backlog:
        assert states.get(one.verdict.svc) != one.verdict.state, "a step that is none"
        states[one.verdict.svc] = one.verdict.state
    assert set(states.values()) == {UP}


def test_what_was_offered_and_not_answered_is_never_dropped():
    """The bus may have taken it: an outage that people know of must be ended."""
    backlog = VerdictQueue(limit=1)
    put(backlog, down())
    assert backlog.next_batch(10) == [down()]
    assert put(backlog, up()) == [down(), up()]
    assert backlog.pop_oldest(1) == [down()]
    assert backlog.next_batch(10) == [up()]


def test_two_of_one_service_never_go_together_and_what_comes_first_goes_first():
    backlog = VerdictQueue()
    put(backlog, up("b"), down("a"), up("a"))
    backlog.add_first([PendingVerdict(down("b", 0.5), 0.5), PendingVerdict(down("c"), 1.0)])
    assert backlog.next_batch(10) == [down("b", 0.5), down("c")]
    assert backlog.pop_oldest(2) + backlog.pop_oldest(3) == [
        down("b", 0.5),
        down("c"),
        up("b"),
        down("a"),
        up("a"),
    ]
    assert not backlog


def test_what_somebody_else_told_is_dropped():
    backlog = VerdictQueue()
    put(backlog, down("a"), down("b"), up("a"))
    backlog.remove([one for one in backlog if one.verdict.svc == "a"])
    assert [one.verdict for one in backlog] == [down("b")]


def test_the_fields_of_all_that_waits_are_seen_as_they_are_at_any_time():
    backlog = VerdictQueue()
    fields = backlog.fields
    put(backlog, down(), up(), down("b"))
    assert set(fields) == {"a", "b"}
    backlog.pop_oldest(1)
    assert set(fields) == {"a", "b"}
    backlog.pop_oldest(1)
    assert set(fields) == {"b"}
    backlog.add_first([PendingVerdict(down("c"), 0.0)])
    backlog.remove([one for one in backlog if one.verdict.svc == "b"])
    assert set(fields) == {"c"}


@pytest.mark.parametrize(
    ("verdicts", "withdrawn"),
    [([down()], True), ([up()], False), ([up(), down()], False), ([down(), gap()], False), ([], False)],
)
def test_only_a_miss_that_is_all_of_its_service_is_withdrawn(verdicts, withdrawn):
    backlog = VerdictQueue()
    put(backlog, down("b"), *verdicts)
    assert backlog.withdraw_miss("a") is withdrawn
    assert [one.verdict for one in backlog] == [down("b"), *([] if withdrawn else verdicts)]


def test_a_miss_that_the_bus_may_have_taken_is_not_withdrawn():
    backlog = VerdictQueue()
    put(backlog, down())
    backlog.next_batch(10)
    assert not backlog.withdraw_miss("a")


def test_a_queue_that_was_long_takes_no_memory_once_it_is_empty():
    waiting = [PendingVerdict(first_up(f"svc{n}"), 0.0) for n in range(5000)]
    queue = VerdictQueue()
    tracemalloc.start()
    try:
        for one in waiting:
            queue.add(one)
        while queue:
            for _ in queue.next_batch(100):
                queue.pop_oldest(1)
        taken, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < most / 50


def test_whatever_happens_to_a_queue_it_has_the_order_and_the_fields_that_a_list_would_have():
    chance = random.Random(11)
    for _ in range(200):
        queue, kept = VerdictQueue(), []
        for ts in range(60):
            one = PendingVerdict(chance.choice((down, up))(chance.choice("abc"), float(ts)), float(ts))
            do = chance.randrange(6)
            if do < 2:
                queue.add(one)
                kept.append(one)
            elif do == 2:
                queue.add_first([one])
                kept.insert(0, one)
            elif do == 3 and kept:
                count = chance.randint(1, len(kept))
                assert queue.pop_oldest(count) == [one.verdict for one in kept[:count]]
                del kept[:count]
            elif do == 4:
                gone = chance.sample(kept, chance.randint(0, min(2, len(kept))))
                queue.remove(gone)
                kept = [each for each in kept if each not in gone]
            elif do == 5 and queue.withdraw_miss(svc := chance.choice("abc")):
                (miss,) = [each for each in kept if each.verdict.svc == svc]
                assert miss.verdict.state is DOWN
                kept.remove(miss)
            assert list(queue) == kept
            assert len(queue) == len(kept)
            assert set(queue.fields) == {each.verdict.svc for each in kept}
            batch = queue.next_batch(2)
            assert batch == [each.verdict for each in kept[: len(batch)]]
            if len(kept) > 1:
                assert len(batch) == 1 + (kept[0].verdict.svc != kept[1].verdict.svc)
