from math import inf

from hypothesis import given
from hypothesis import strategies as st

from marketswarm.detector import TimingWheel
from marketswarm.detector.wheel import GRAIN_SEC


class Items:
    """Named items whose times tests move; `filed` counts what lies on the wheel as its owner knows it."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}
        self.wheel: TimingWheel[str] = TimingWheel(lambda name: self.at[name])

    def file(self, name: str, at: float) -> None:
        self.at[name] = at
        self.wheel.add(name)


def test_an_item_comes_up_at_its_time_and_not_before():
    items = Items()
    items.file("a", 10.1)
    assert items.wheel.pop_due(10.09) == []
    assert items.wheel.pop_due(10.1) == ["a"]
    assert items.wheel.pop_due(99) == []


def test_a_time_that_moved_later_needs_no_word_to_the_wheel():
    items = Items()
    items.file("a", 10)
    items.at["a"] = 25
    assert items.wheel.pop_due(12) == []
    assert items.wheel.pop_due(24.99) == []
    assert items.wheel.pop_due(25) == ["a"]


def test_an_item_filed_in_the_past_comes_up_at_once():
    items = Items()
    items.wheel.pop_due(100)
    items.file("a", 3)
    items.file("b", -50.2)
    assert items.wheel.next_due() == -50.2
    assert sorted(items.wheel.pop_due(100)) == ["a", "b"]


def test_infinity_takes_an_item_off():
    items = Items()
    items.file("a", 10)
    items.at["a"] = inf
    assert items.wheel.pop_due(1000) == []
    items.at["a"] = 5
    assert items.wheel.pop_due(2000) == []
    items.file("b", inf)
    assert items.wheel.next_due() == inf


def test_next_at_is_never_later_than_what_comes_first_and_never_already_past_after_a_look():
    items = Items()
    assert items.wheel.next_due() == inf
    items.file("a", 10.2)
    items.file("b", 10.05)
    assert 10 <= items.wheel.next_due() <= 10.05
    items.wheel.pop_due(10.04)
    assert items.wheel.next_due() == 10.05
    items.wheel.pop_due(10.1)
    assert items.wheel.next_due() == 10.2


times = st.floats(-50, 50).map(lambda sec: round(sec, 2))
moves = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.floats(0, 5) | st.just(inf), st.floats(0, 3) | st.just(0)),
    max_size=40,
)


@given(st.lists(times, min_size=6, max_size=6), moves)
def test_the_wheel_finds_exactly_what_a_look_at_every_item_would(begin, moves):
    items = Items()
    on = dict(zip("abcdef", begin, strict=True))
    for name, at in on.items():
        items.file(name, at)
    now, off = -60.0, set()
    for name, later, wait in moves:
        if name in on:
            items.at[name] += later  # later only, which nobody tells the wheel
        elif later < inf and name not in off:
            items.file(name, now + later)
            on[name] = 0
        assert items.wheel.next_due() <= min((items.at[each] for each in on), default=inf)
        now += wait
        due = sorted(each for each in on if items.at[each] <= now)
        assert sorted(items.wheel.pop_due(now)) == due
        assert items.wheel.next_due() > now
        off |= {each for each in on if items.at[each] == inf}  # its entry may still lie there
        for each in {*due, *off}:
            on.pop(each, None)


def test_an_idle_wheel_is_empty_and_a_busy_one_opens_only_the_slots_that_came_up():
    asked = []
    wheel: TimingWheel[int] = TimingWheel(lambda item: asked.append(item) or 100.0 + item)
    for item in range(50):
        wheel.add(item)
    asked.clear()
    assert wheel.pop_due(99) == []
    assert asked == []
    assert wheel.pop_due(100) == [0]
    assert asked == [0]


def test_one_call_looks_at_no_more_items_than_it_may_and_the_next_one_goes_on():
    asked = []
    due = [10.2]
    wheel: TimingWheel[int] = TimingWheel(lambda item: asked.append(item) or due[0])
    for item in range(1000):
        wheel.add(item)

    def look(now: float) -> int:
        asked.clear()
        found = wheel.pop_due(now, 100)
        assert len(asked) <= 100
        return len(found)

    assert look(10.1) == 0
    assert wheel.next_due() <= 10.1, "there is more to look at"
    for _ in range(9):
        assert look(10.1) == 0
    assert 10.1 < wheel.next_due() <= 10.2
    assert [look(10.2) for _ in range(10)] == [100] * 10
    assert (list(wheel), wheel.next_due()) == ([], inf)

    due[0] = 20
    for item in range(1000):
        wheel.add(item)
    assert look(25) == 100, "what is due when its slot is opened is found at the first look"
    due[0] = 30
    for _ in range(9):
        assert look(25) == 0
    assert (len(list(wheel)), wheel.next_due()) == (900, 30)


@given(st.lists(times, min_size=6, max_size=6), moves, st.integers(1, 4))
def test_a_wheel_that_may_look_at_few_items_a_call_loses_none_and_finds_none_too_late(begin, moves, at_most):
    items = Items()
    on = dict(zip("abcdef", begin, strict=True))
    for name, at in on.items():
        items.file(name, at)
    now, wanted = -60.0, set()
    for name, later, wait in moves:
        if name in on:
            items.at[name] += later
        elif items.at[name] < inf and later < inf:
            items.file(name, now + later - 1)  # perhaps into a slot that is half open
            on[name] = 0
        now += wait
        found = items.wheel.pop_due(now, at_most)
        assert len(found) <= at_most
        assert all(items.at[each] <= now for each in found)
        for each in found:
            del on[each]  # found once, and never when it was not on the wheel
        wanted = {each for each in on if items.at[each] <= now}
        if wanted:
            assert items.wheel.next_due() <= now
        assert {each for each in on if items.at[each] < inf} <= set(items.wheel)
    for _ in range(60):  # each look finds an item, or moves it on
        for each in items.wheel.pop_due(now, at_most):
            del on[each]
    assert not [each for each in on if items.at[each] <= now]
    assert items.wheel.next_due() > now


def test_a_wheel_that_is_late_finds_what_was_due_first_before_what_is_due_now_as_well():
    items = Items()
    items.file("moved", 10.1)  # then its time moves on, and nobody tells the wheel
    for at in (10.3, 10.9, 11.9):
        items.file(f"due {at}", at)
    items.at["moved"] = 11.6
    found = [items.wheel.pop_due(12.5, 1) for _ in range(5)]
    assert [name for names in found for name in names] == ["due 10.3", "due 10.9", "moved", "due 11.9"]


quarters = st.integers(0, 16).map(lambda quarter: quarter / 4)


@given(
    st.lists(st.tuples(quarters, quarters), min_size=4, max_size=30),
    quarters.map(lambda at: 2 * at),
    st.integers(1, 5),
)
def test_items_come_up_in_the_order_of_their_slots_however_late_the_wheel_is(filed, now, at_most):
    items = Items()
    for number, (at, _) in enumerate(filed):
        items.file(f"{number}", at)
    for number, (at, later) in enumerate(filed):
        items.at[f"{number}"] = at + later
    found: list[float] = []
    for _ in range(3 * len(filed)):
        found += [items.at[name] for name in items.wheel.pop_due(now, at_most)]
    slots = [at // GRAIN_SEC for at in found]
    assert slots == sorted(slots)
    assert sorted(found) == sorted(at + later for at, later in filed if at + later <= now)
