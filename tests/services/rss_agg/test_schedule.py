from services.rss_agg.items import Feed, Section
from services.rss_agg.schedule import Schedule, summed_up

A, B, C = (
    Feed(url=f"http://{name}", name=name, every_sec=every) for name, every in (("a", 10), ("b", 20), ("c", 5))
)


def test_what_was_never_read_is_due_at_once():
    assert Schedule().due(Section(endpoints=(A, B)), 100.0) == [A, B]


def test_each_feed_keeps_its_own_time():
    schedule, section = Schedule(), Section(endpoints=(A, B))
    schedule.was_read(A, 100.0)
    schedule.was_read(B, 100.0)
    assert schedule.next_sec(section, 101.0) == 9.0
    assert schedule.due(section, 109.9) == []
    assert schedule.due(section, 110.0) == [A]
    assert schedule.due(section, 120.0) == [A, B]


def test_a_new_feed_is_due_at_once_and_a_feed_that_is_gone_is_forgotten():
    schedule = Schedule()
    schedule.was_read(A, 100.0)
    assert schedule.next_sec(Section(endpoints=(A, C)), 101.0) == 0.0
    schedule.next_sec(Section(endpoints=(C,)), 101.0)
    assert schedule.due(Section(endpoints=(A,)), 101.0) == [A]


def test_without_feeds_there_is_nothing_to_do_for_a_while():
    assert Schedule().next_sec(Section(), 100.0) == 60.0


def test_feeds_that_fail_are_named_with_their_reason():
    assert summed_up([A, B], {}) is None
    assert summed_up([A, B, C], {A.url: "timeout", C.url: "404"}) == "2 of 3 feeds fail: a (timeout), c (404)"
    many = [Feed(url=f"http://{n}", name=str(n)) for n in range(9)]
    assert summed_up(many, {feed.url: "x" for feed in many}).endswith("3 (x) and 5 more")
