import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.web.updates import PENDING_UPDATES, DropReason, FollowersFull, UpdateHub
from support.waiting import PATIENT_SEC


async def take(follower):
    async with asyncio.timeout(PATIENT_SEC):
        return await follower.take()


async def test_a_follower_gets_its_topics_in_order_and_no_others():
    hub = UpdateHub("b")
    follower = hub.join()
    hub.subscribe(follower, ["bars:SPY:1m", "quotes:SPY"])
    for topic in ("bars:SPY:1m", "bars:QQQ:1m", "quotes:SPY"):
        hub.publish(topic, b"1")
    last, updates = await take(follower)
    assert (last, [(one.number, one.topic) for one in updates]) == (
        3,
        [(1, "bars:SPY:1m"), (3, "quotes:SPY")],
    )
    hub.unsubscribe(follower, ["quotes:SPY"])
    hub.publish("quotes:SPY", b"2")
    hub.publish("bars:SPY:1m", b"3")
    assert [one.number for one in (await take(follower))[1]] == [5]


async def test_what_waits_is_replaced_by_the_latest_about_the_same():
    hub = UpdateHub("b")
    follower = hub.join()
    hub.subscribe(follower, ["bars:SPY:1m"])
    for rev in range(5):
        hub.publish("bars:SPY:1m", b"%d" % rev, subject="bars:SPY:1m:60000")
    hub.publish("bars:SPY:1m", b"9", subject="bars:SPY:1m:120000")
    last, updates = await take(follower)
    assert (last, [one.data for one in updates]) == (6, [b"4", b"9"])


async def test_who_wants_all_quotes_gets_each_once():
    hub = UpdateHub("b")
    follower = hub.join()
    hub.subscribe(follower, ["quotes", "quotes:SPY"])
    hub.publish("quotes:SPY", b"1", wider="quotes")
    hub.publish("quotes:QQQ", b"2", wider="quotes")
    assert [one.data for one in (await take(follower))[1]] == [b"1", b"2"]


@given(st.lists(st.sampled_from(["bars:A:1m", "bars:B:1m", "quotes:A"]), max_size=30), st.integers(0, 30))
def test_who_comes_back_gets_exactly_what_was_missed(topics, seen):
    hub = UpdateHub("b")
    wanted = ["bars:A:1m", "quotes:A"]
    for number, topic in enumerate(topics):
        hub.publish(topic, b"%d" % number, subject=f"{topic} {number}")
    follower = hub.join()
    is_known = hub.resume(follower, f"b-{seen}", wanted)
    assert is_known is (seen <= len(topics))
    missed = [n + 1 for n, topic in enumerate(topics) if n + 1 > seen and topic in wanted]
    if is_known and missed:
        _, updates = asyncio.run(take(follower))
        assert [one.number for one in updates] == missed


async def test_a_position_that_is_not_ours_or_too_old_is_not_resumed(monkeypatch):
    monkeypatch.setattr("marketswarm.web.updates.RING_UPDATES", 3)
    hub = UpdateHub("b")
    for _ in range(10):
        hub.publish("series", b"1")
    follower = hub.join()
    for wrong in ("b-6", "c-9", "b-11", "b-", "9", "b--1", "b-" + "9" * 20):
        assert not hub.resume(follower, wrong, ["series"]), wrong
    assert hub.resume(follower, "b-7", ["series"])


async def test_a_follower_that_takes_nothing_is_dropped_with_the_reason_and_delays_nobody():
    hub = UpdateHub("b")
    slow, quick = hub.join(), hub.join()
    for one in (slow, quick):
        hub.subscribe(one, ["bars:SPY:1m"])
    for number in range(PENDING_UPDATES + 1):
        hub.publish("bars:SPY:1m", b"1", subject=str(number))
        await take(quick)
    assert await take(slow) == (PENDING_UPDATES + 1, [])
    assert slow.dropped is DropReason.TOO_SLOW
    assert (quick.dropped, len(hub), hub.dropped) == (None, 1, 1)


async def test_there_are_as_many_followers_as_are_allowed():
    hub = UpdateHub("b", lambda: 1)
    first = hub.join()
    with pytest.raises(FollowersFull):
        hub.join()
    hub.leave(first)
    second = hub.join()
    hub.close()
    assert second.dropped is DropReason.CLOSED
    with pytest.raises(FollowersFull):
        hub.join()


async def test_what_was_missed_and_does_not_fit_is_not_resumed_and_leaves_the_follower_as_it_was():
    hub = UpdateHub("b")
    topics = [f"bars:S{number}:1m" for number in range(PENDING_UPDATES + 1)]
    for topic in topics:
        hub.publish(topic, b"1")
    follower = hub.join()
    assert not hub.resume(follower, "b-0", topics)
    assert (follower.dropped, len(hub), hub.dropped) == (None, 1, 0)
    hub.subscribe(follower, topics)
    hub.publish(topics[0], b"2")
    _, updates = await take(follower)
    assert [one.data for one in updates] == [b"2"]
    hub.publish(topics[1], b"3")
    assert hub.resume(follower, f"b-{PENDING_UPDATES}", topics), "what fits is resumed"
    assert [one.number for one in (await take(follower))[1]] == [PENDING_UPDATES + n for n in (1, 2, 3)]


async def test_who_wants_all_bars_of_a_timeframe_gets_those_and_resumes_with_them():
    hub = UpdateHub("b")
    follower = hub.join()
    hub.subscribe(follower, ["bars:1m"])
    for topic in ("bars:SPY:1m", "bars:SPY:5m", "bars:QQQ:1m"):
        hub.publish(topic, b"1", wider=f"bars:{topic[-2:]}")
    assert [one.topic for one in (await take(follower))[1]] == ["bars:SPY:1m", "bars:QQQ:1m"]
    again = hub.join()
    assert hub.resume(again, "b-1", ["bars:1m"])
    assert [one.topic for one in (await take(again))[1]] == ["bars:QQQ:1m"]


async def test_one_address_has_a_part_of_the_places_and_gets_them_back():
    hub = UpdateHub("b", lambda: 3, lambda: 2)
    first, _ = hub.join("10.0.0.1"), hub.join("10.0.0.1")
    with pytest.raises(FollowersFull, match="address"):
        hub.join("10.0.0.1")
    hub.join("10.0.0.2")
    with pytest.raises(FollowersFull, match=r"too many clients$"):
        hub.join("10.0.0.3")
    hub.leave(first)
    hub.leave(first)
    hub.join("10.0.0.1")


async def test_after_a_loss_nobody_goes_on_where_it_was():
    hub = UpdateHub("b")
    follower = hub.join()
    hub.subscribe(follower, ["quotes:SPY"])
    hub.publish("quotes:SPY", b"1")
    before = hub.position
    hub.note_loss()
    assert (follower.dropped, len(hub)) == (DropReason.LOST, 0)
    back = hub.join()
    assert not hub.resume(back, before, ["quotes:SPY"]), "it gets a snapshot"
    position = hub.position
    hub.publish("quotes:SPY", b"2")
    assert hub.resume(back, position, ["quotes:SPY"])
