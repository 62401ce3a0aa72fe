"""What is due is taken, in its order, and nothing else is looked at; what may begin of it does."""

from hypothesis import given
from hypothesis import strategies as some

from marketswarm.due_queue import MAX_OWNERS, NEVER, SPARE, DueQueue, DueWork


def test_a_key_is_due_at_its_latest_time_and_once():
    agenda = DueQueue()
    agenda.put("a", 5.0)
    agenda.put("a", 9.0)
    agenda.put_earlier("b", 7.0)
    agenda.put_earlier("b", 8.0)
    assert agenda.next_at() == 7.0
    assert agenda.take(8.0, 10) == ["b"]
    assert agenda.take(9.0, 10) == ["a"]
    assert agenda.next_at() == NEVER
    agenda.put("a", 1.0)
    agenda.put("a", NEVER)
    assert agenda.take(9.0, 10) == []


def test_too_many_are_taken_in_several_turns():
    agenda = DueQueue()
    for n in range(10):
        agenda.put(f"k{n}", float(n))
    assert agenda.take(100.0, 4) == ["k0", "k1", "k2", "k3"]
    assert agenda.next_at() == 4.0
    assert len(agenda.take(100.0, 99)) == 6


def test_what_was_replaced_does_not_pile_up():
    agenda = DueQueue()
    for n in range(20 * SPARE):
        agenda.put("a", 1e9 - n)
    assert len(agenda._heap) <= SPARE + 3  # noqa: SLF001 - memory is all that shows it
    assert agenda.take(1e9, 9) == ["a"]


@given(some.lists(some.tuples(some.sampled_from("abc"), some.integers(0, 20), some.booleans()), max_size=40))
def test_it_is_the_same_as_a_look_at_all_times(steps):
    agenda, times = DueQueue(), {}
    for key, at, takes in steps:
        if takes:
            due = sorted((each for each in times if times[each] <= at), key=lambda each: (times[each], each))
            assert agenda.take(float(at), 99) == due
            for each in due:
                del times[each]
        else:
            agenda.put(key, float(at))
            times[key] = at
        assert agenda.next_at() == min(times.values(), default=NEVER)


# -- what may begin: the owner of a key is its first letter


def work_of(*keys, at_once=99, owner_at_once=2, spacing_sec=0.0):
    work = DueWork(lambda key: key[0])
    work.limit(at_once, owner_at_once, spacing_sec)
    for key in keys:
        work.put(key, 0.0)
    return work


def begun(work, now):
    return list(iter(lambda: work.begin(now), None))


def test_of_one_owner_so_many_run_at_once_and_no_more():
    work = work_of("a0", "a1", "a2", "a3", "b0")
    assert sorted(begun(work, 0.0)) == ["a0", "a1", "b0"]
    assert work.next_at(0.0) == NEVER
    work.finish("a0", 1.0)
    assert work.next_at(1.0) == 1.0
    assert begun(work, 1.0) == ["a2"]


def test_owners_take_turns():
    assert begun(work_of("a0", "a1", "b0", "b1"), 0.0) == ["a0", "b0", "a1", "b1"]


def test_keys_without_an_owner_have_the_one_that_has_no_name():
    work = DueWork(lambda _key: "")
    work.put("a", 0.0)
    assert begun(work, 0.0) == ["a"]


def test_the_owner_of_whom_fewest_run_is_next_whoever_waits_longer():
    work = work_of("a0", "a1", "a2", "b0", "b1", at_once=3, owner_at_once=9)
    assert begun(work, 0.0) == ["a0", "b0", "a1"]
    work.finish("b0", 1.0)
    assert begun(work, 1.0) == ["b1"]


def test_of_all_owners_so_many_run_at_once_and_the_first_that_waits_says_how_late_it_is():
    work = work_of("a0", "b0", "c0", at_once=2)
    work.put("c1", 9.0)
    assert begun(work, 1.0) == ["a0", "b0"]
    assert work.next_at(2.0) == 9.0
    assert work.overdue_sec(5.0) == 4.0
    work.finish("a0", 5.0)
    assert begun(work, 5.0) == ["c0"]
    assert work.overdue_sec(5.0) == 0.0


def test_between_two_of_an_owner_there_is_a_pause():
    work = work_of("a0", "a1", "b0", spacing_sec=0.5)
    assert begun(work, 10.0) == ["a0", "b0"]
    assert work.next_at(10.1) == 10.5
    assert begun(work, 10.49) == []
    assert begun(work, 10.5) == ["a1"]


def test_an_owner_that_wants_to_be_left_alone_is():
    work = work_of("a0", "a1", owner_at_once=1)
    assert begun(work, 0.0) == ["a0"]
    work.finish("a0", 1.0, 60.0)
    assert begun(work, 60.9) == []
    assert work.next_at(2.0) == 61.0
    assert begun(work, 61.0) == ["a1"]


def test_a_pause_takes_no_longer_because_the_clock_is_set_back():
    work = work_of("a0", "a1", "b0", spacing_sec=5.0)
    assert [work.begin(4000.0), work.begin(4000.0)] == ["a0", "b0"]
    assert [work.begin(now) for now in (4001.0, 401.0, 404.9, 405.0)] == [None, None, None, "a1"]


def test_what_is_put_later_or_removed_while_it_waits_does_not_begin():
    work = work_of("a0", "a1", "a2", owner_at_once=1)
    assert begun(work, 0.0) == ["a0"]
    work.put("a1", 7.0)
    work.put("a2", NEVER)
    work.finish("a0", 1.0)
    assert begun(work, 6.0) == []
    assert begun(work, 7.0) == ["a1"]


def test_what_runs_does_not_begin_again_before_it_is_finished():
    work = work_of("a0")
    assert begun(work, 0.0) == ["a0"]
    work.put("a0", 1.0)
    assert begun(work, 1.0) == []
    work.finish("a0", 2.0)
    work.put("a0", 3.0)
    assert begun(work, 3.0) == ["a0"]


def test_after_a_clear_nothing_waits_and_a_pause_stays():
    work = work_of("a0", "a1", spacing_sec=5.0)
    assert work.begin(0.0) == "a0"
    work.put("a9", 1.0)
    work.clear()
    assert work.next_at(10.0) == NEVER
    work.put("a2", 0.0)
    assert begun(work, 1.0) == []
    assert begun(work, 5.0) == ["a2"]


def test_owners_that_nothing_is_left_to_say_of_are_forgotten():
    work = DueWork(lambda key: key)
    for n in range(MAX_OWNERS + 9):
        work.put(f"k{n}", 0.0)
        assert work.begin(float(n)) == f"k{n}"
        work.finish(f"k{n}", float(n))
    assert 0 < len(work) <= MAX_OWNERS
