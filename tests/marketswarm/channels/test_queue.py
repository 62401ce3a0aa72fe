"""Which message is tried next: order within a thread, nobody held up by another's failure, no flood."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some

from marketswarm.channels import Message, Severity
from marketswarm.channels.queue import NEVER, QUEUE_LIMIT, REJECTIONS_UNTIL_BROKEN, ChannelQueue

CHANCE = 0.5  # pauses of 1 s, 2 s, 4 s …


def message(ident, thread="", about=(), closes=()):
    return Message(ident, "t", "x", Severity.WARNING, 0.0, thread=thread, about=about, closes=closes)


def filled(*messages):
    backlog = ChannelQueue()
    for each in messages:
        backlog.put(message(each) if isinstance(each, str) else each, 0.0)
    return backlog


def tried(backlog, now):
    entry, _ = backlog.next_attempt(now)
    return None if entry is None else entry.message.id


def fail(backlog, now, *, after=None):
    entry, _ = backlog.next_attempt(now)
    backlog.record_failure(entry, now, "500", after, CHANCE)
    return entry.message.id


def accept(backlog, now):
    entry, _ = backlog.next_attempt(now)
    backlog.record_accepted(entry, now, CHANCE)
    return entry.message.id


def test_messages_go_out_in_order():
    backlog = filled("a", "b", "c")
    assert [accept(backlog, 0.0) for _ in range(3)] == ["a", "b", "c"]
    assert backlog.next_attempt(0.0) == (None, NEVER)


def test_one_that_always_fails_holds_up_no_other_and_its_own_pauses_grow():
    backlog = filled("bad")
    assert fail(backlog, 0.0) == "bad"
    attempts, now = [0.0], 0.0
    for n in range(600):
        now = float(n) / 10
        if n % 10 == 5:
            backlog.put(message(f"m{n}"), now)
            while tried(backlog, now) == "bad":
                attempts.append(now)
                fail(backlog, now)
            assert accept(backlog, now) == f"m{n}", "it went out at once"
    pauses = [later - earlier for earlier, later in pairwise(attempts)]
    assert len(attempts) <= 9
    assert pauses == sorted(pauses)


def test_a_receiver_that_is_wholly_down_gets_one_try_after_each_growing_pause_whoever_waits():
    backlog = filled(*(f"m{n}" for n in range(50)))
    assert [fail(backlog, 0.0), fail(backlog, 0.0)] == ["m0", "m1"]
    attempts, now = [], 0.0
    while now < 600.0:
        entry, again_at = backlog.next_attempt(now)
        if entry is None:
            assert again_at > now
            now = again_at
            continue
        attempts.append(now)
        backlog.record_failure(entry, now, "500", None, CHANCE)
        assert tried(backlog, now) is None
    pauses = [later - earlier for earlier, later in pairwise(attempts)]
    assert pauses == sorted(pauses)
    assert len(attempts) <= 9
    assert max(pauses) <= 300


def test_when_the_receiver_is_back_nothing_waits_for_a_long_pause_of_its_own():
    backlog = filled("a", "b", "c", "d")
    now = 0.0
    for _ in range(10):
        _, again_at = backlog.next_attempt(now)
        now = max(now, again_at) if again_at < NEVER else now
        fail(backlog, now)
    now = backlog.next_attempt(now)[1]
    taken = [accept(backlog, now)]
    taken += [accept(backlog, now + 1.0) for _ in range(3)]
    assert sorted(taken) == ["a", "b", "c", "d"]
    assert backlog.trouble == ""


@pytest.mark.parametrize(
    "later",
    [
        message("later", thread="first"),
        message("later", about=("alpha",)),
        message("later", closes=("first",)),
        message("later", about=("beta", "alpha")),
    ],
)
def test_what_follows_in_a_thread_or_about_the_same_service_waits_for_what_fails(later):
    backlog = filled(message("first", about=("alpha",)), later, "other")
    assert fail(backlog, 0.0) == "first"
    assert accept(backlog, 0.0) == "other"
    assert tried(backlog, 0.5) is None
    assert accept(backlog, 1.0) == "first"
    assert accept(backlog, 1.0) == "later"


def test_a_pause_that_the_receiver_asks_for_is_for_all_messages():
    backlog = filled("a", "b")
    assert fail(backlog, 0.0, after=40.0) == "a"
    assert backlog.next_attempt(39.0) == (None, 40.0)
    assert tried(backlog, 40.0) == "b"


def test_a_pause_that_the_receiver_asks_for_holds_nothing_back_for_longer_than_its_age():
    backlog = filled("a")
    fail(backlog, 0.0, after=3600.0)
    backlog.put(message("b"), 2.0)
    assert backlog.expires_at(6.0) == 6.0
    assert [(each.message.id, each.reason) for each in backlog.take_expired(6.0, 6.0)] == [("a", "500")]
    assert backlog.expires_at(6.0) == 8.0
    assert [(each.message.id, each.reason) for each in backlog.take_expired(8.0, 6.0)] == [("b", "500")]
    backlog.put(message("c"), 3590.0)
    assert backlog.take_expired(3600.0, 60.0) == []
    assert tried(backlog, 3600.0) == "c"
    accept(backlog, 3600.0)
    backlog.put(message("d"), 3601.0)
    assert backlog.expires_at(6.0) == NEVER


def test_a_pause_of_an_earlier_run_holds_nothing_back_for_longer_than_its_age():
    backlog = ChannelQueue(3, 3600.0)
    backlog.put(message("a"), 0.0)
    assert [(each.message.id, each.reason) for each in backlog.take_expired(6.0, 6.0)] == [("a", "paused")]


def test_a_message_that_fails_is_given_up_at_its_age_and_so_is_what_waits_for_a_channel_that_is_down():
    backlog = filled("a", "b", "c")
    backlog.put(message("late"), 50.0)
    assert backlog.take_expired(1e9, 60.0) == [], "no attempt has failed"
    fail(backlog, 50.0)
    fail(backlog, 50.0)
    assert backlog.expires_at(60.0) == 60.0
    assert [(each.message.id, each.reason) for each in backlog.take_expired(60.0, 60.0)] == [("c", "500")]
    assert backlog.expires_at(60.0) == 110.0
    assert [each.message.id for each in backlog.take_expired(110.0, 60.0)] == ["a", "b", "late"]


def test_what_failed_in_an_earlier_run_gets_an_attempt_before_its_age_counts():
    backlog = ChannelQueue()
    backlog.put(message("a"), 0.0, 4000.0)
    backlog.put(message("b"), 0.0, 4000.0)
    assert backlog.take_expired(0.0, 3600.0) == []
    fail(backlog, 0.0)
    assert [each.message.id for each in backlog.take_expired(0.0, 3600.0)] == ["a"]


def test_a_receiver_that_stays_down_is_not_flooded_when_messages_reach_their_age():
    backlog = filled("a", "b")
    for n in range(200):
        backlog.put(message(f"m{n}"), float(n))
    attempts, now = [], 0.0
    while now < 300.0:
        backlog.take_expired(now, 20.0)
        entry, again_at = backlog.next_attempt(now)
        if entry is not None:
            attempts.append(now)
            backlog.record_failure(entry, now, "500", None, CHANCE)
        else:
            now = min(again_at, max(now + 0.1, backlog.expires_at(20.0)))
    assert len(attempts) <= 10


def test_what_follows_a_message_that_is_given_up_is_tried_before_it_is_given_up_itself():
    backlog = filled("first", message("later", thread="first"))
    fail(backlog, 0.0)
    assert [each.message.id for each in backlog.take_expired(60.0, 60.0)] == ["first"]
    assert accept(backlog, 60.0) == "later"


def test_a_broken_channel_is_tried_once_with_each_after_a_pause():
    backlog = filled("a", "b", "c")
    for ident, now in (("a", 0.0), ("b", 1.0), ("c", 1.0)):
        assert tried(backlog, now - 0.1) is None or now == 0.0
        entry, _ = backlog.next_attempt(now)
        assert entry.message.id == ident
        backlog.mark_broken("404", now, CHANCE)
        backlog.drop(entry)
    backlog.put(message("d"), 1.0)
    assert tried(backlog, 2.9) is None
    assert accept(backlog, 3.0) == "d"
    assert not backlog.broken


def test_too_many_give_up_the_oldest_that_is_not_on_the_wire():
    backlog = filled(*(f"m{n}" for n in range(QUEUE_LIMIT)))
    entry, _ = backlog.next_attempt(0.0)
    entry.on_wire = True
    assert [each.id for each in backlog.put(message("x"), 0.0)] == ["m1"]
    assert backlog.put(message("x"), 0.0) == []
    assert len(backlog) == QUEUE_LIMIT


@given(
    some.lists(some.tuples(some.sampled_from("abc"), some.booleans()), max_size=12),
    some.lists(some.booleans(), max_size=60),
)
def test_each_message_comes_out_once_and_those_about_one_service_in_order(put, answers):
    backlog = ChannelQueue()
    for n, (svc, threaded) in enumerate(put):
        backlog.put(replace(message(f"{svc}{n}", about=(svc,)), thread=svc if threaded else ""), 0.0)
    now, taken, wills = 0.0, [], iter(answers)
    while len(backlog):
        entry, again_at = backlog.next_attempt(now)
        if entry is None:
            assert now < again_at < NEVER, "somebody waits for ever"
            now = again_at
        elif next(wills, True):
            backlog.record_accepted(entry, now, CHANCE)
            taken.append(entry.message.id)
        else:
            backlog.record_failure(entry, now, "500", None, CHANCE)
    for svc in "abc":
        assert [each for each in taken if each[0] == svc] == [
            f"{each}{n}" for n, (each, _) in enumerate(put) if each == svc
        ]


def refuse(backlog, now):
    entry, _ = backlog.next_attempt(now)
    backlog.drop(entry)
    return backlog.record_rejection(entry, "400", now, CHANCE)


def test_a_channel_that_refuses_several_messages_in_a_row_as_bad_is_broken():
    backlog = filled("a", "b", "c", "d")
    assert [refuse(backlog, 0.0) for _ in range(REJECTIONS_UNTIL_BROKEN)] == [False, False, True]
    assert (backlog.broken, backlog.reason) == (True, "400")
    assert tried(backlog, 0.0) is None, "it pauses"
    accept(backlog, 10.0)
    assert not backlog.broken


def test_one_message_that_is_accepted_between_shows_that_the_channel_is_well():
    backlog = filled(*"abcdef")
    refuse(backlog, 0.0)
    refuse(backlog, 0.0)
    accept(backlog, 0.0)
    assert not refuse(backlog, 0.0)
    assert not refuse(backlog, 0.0)
    assert not backlog.broken


def test_refused_messages_about_one_thing_count_as_one():
    backlog = filled(*(message(f"m{n}", about=("alpha",)) for n in range(10)))
    assert not any(refuse(backlog, 0.0) for _ in range(10))
    assert not backlog.broken
