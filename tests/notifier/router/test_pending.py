"""What waits to be said: for how long, and what of it is still held."""

from dataclasses import replace

import pytest

from notifier.router.incident import Notice, NoticeKind
from notifier.router.pending import ALONE_SEC, PendingNotices


def line(ident: str, at: float = 100.0, key: str = "a", say: NoticeKind = NoticeKind.DOWN) -> Notice:
    return Notice(ident, key, key, say, at, at, ("{}",), (ident,))


def send_all(waiting: PendingNotices, now: float) -> list[str]:
    notices = waiting.list_oldest(99)
    waiting.drop_sent(notices, now)
    return [each.id for each in notices]


@pytest.fixture
def waiting():
    return PendingNotices("n:")


def test_one_alone_after_quiet_waits_a_moment_and_all_others_wait_for_each_other(waiting):
    assert waiting.due_at(2.0) is None
    waiting.put(line("1"))
    assert waiting.due_at(2.0) == 100.0 + ALONE_SEC
    waiting.put(line("2", 101.0))
    assert waiting.due_at(2.0) == 102.0
    assert waiting.due_at(0.0) == 100.0
    send_all(waiting, 102.0)
    waiting.put(line("3", 103.0))
    assert waiting.due_at(2.0) == 105.0, "it follows closely on others"
    send_all(waiting, 105.0)
    waiting.put(line("4", 107.0))
    assert waiting.due_at(2.0) == 107.0 + ALONE_SEC


@pytest.mark.parametrize("key", ["healer", "bus:market-redis"])
def test_what_the_sentinel_sends_after_a_while_waits_no_longer_than_that(waiting, key):
    waiting.put(line("1"))
    waiting.put(line("2", 101.0))
    assert waiting.due_at(60.0) == 160.0
    waiting.put(line("3", 105.0, key=key))
    waiting.put(line("4", 106.0, key=key))
    assert waiting.due_at(60.0) == 110.0
    assert waiting.due_at(5.0) == 105.0
    assert waiting.due_at(2.0) == 102.0
    assert send_all(waiting, 115.0) == ["1", "2", "3", "4"]
    waiting.put(line("5", 120.0, key=key))
    assert waiting.due_at(30.0) == 125.0, "it follows closely on others"
    send_all(waiting, 125.0)
    waiting.put(line("6", 190.0, key=key))
    assert waiting.due_at(30.0) == 190.0 + ALONE_SEC


def test_an_event_is_held_while_any_line_has_it(waiting):
    waiting.put(line("1"))
    waiting.put(replace(line("2"), ids=("1", "2")))
    waiting.drop("1")
    assert waiting.holds("1")
    waiting.drop("2")
    assert not waiting.holds("1")
    assert waiting.drop("2") is None


def test_a_line_put_again_takes_the_place_of_the_first(waiting):
    waiting.put(line("1"))
    waiting.put(line("1", 105.0))
    assert len(waiting.notices) == 1
    waiting.drop("1")
    assert not waiting.holds("1")


def test_lines_are_found_by_what_they_are_on_and_an_opening_by_its_miss(waiting):
    waiting.put(line("1"))
    waiting.put(line("2", key="b"))
    waiting.put(line("3", say=NoticeKind.REMINDER))
    assert [each.id for each in waiting.of("a")] == ["1", "3"]
    assert waiting.opening("1") is not None
    assert waiting.opening("3") is None
    assert waiting.opening("4") is None
    assert send_all(waiting, 101.0) == ["1", "2", "3"]
    assert waiting.of("a") == []
    assert not waiting.holds("1")


def test_notices_of_one_time_are_restored_in_their_order_whatever_that_of_the_fields():
    notices = PendingNotices("r:l:")
    for name in ("a", "b", "c"):
        notices.put(Notice(name, "svc", "svc", NoticeKind.UP, 1.0, 1.0))
    notices.put(notices.notices["a"].in_thread("t", ("one",)))  # again, behind the others
    fields = notices.changes()
    again = PendingNotices("r:l:")
    assert again.restore(dict(sorted(fields.items()))) == []
    assert list(again.notices) == ["b", "c", "a"]


def test_the_order_of_what_waits_outlives_two_restarts_and_what_is_queued_between_them(waiting):
    sent = [f"sent {number}" for number in range(5)]
    for ident in (*sent, "1", "2"):
        waiting.put(line(ident))
    for ident in sent:
        waiting.drop(ident)
    fields = waiting.changes()
    for ident in ("3", "4"):
        again = PendingNotices("n:")
        again.restore({name: value for name, value in fields.items() if value is not None})
        again.put(line(ident))
        fields |= again.changes()
    last = PendingNotices("n:")
    last.restore(fields)
    assert list(last.notices) == ["1", "2", "3", "4"]
