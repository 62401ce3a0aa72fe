"""What is due is taken, in its order, and nothing else is looked at."""

from hypothesis import given
from hypothesis import strategies as some

from marketswarm.due_queue import NEVER, SPARE, DueQueue


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
