from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketswarm.due_queue import NEVER
from services.rss_agg.scheduler import (
    JITTER,
    HostQueues,
    next_read_at,
    phase_of,
    slow_down,
)
from support.examples import examples

EVERY = st.floats(0.2, 86_400)
EPOCH = st.floats(1.7e9, 1.8e9)


@given(EPOCH, EVERY, st.floats(0, 0.999))
@settings(max_examples=examples(250))
def test_the_next_reading_is_half_to_one_and_a_half_periods_later(read_at, every_sec, chance):
    wait_sec = next_read_at("a", read_at, every_sec, chance) - read_at
    assert 0.499 * every_sec <= wait_sec <= (1.501 + JITTER) * every_sec


@given(EPOCH, st.floats(1, 86_400))
@settings(max_examples=examples(125))
def test_from_then_on_it_is_a_period_later(read_at, every_sec):
    at = next_read_at("a", read_at, every_sec, 0.0)
    assert next_read_at("a", at, every_sec, 0.0) - at == pytest.approx(every_sec, abs=1e-3)
    late = at + JITTER * every_sec
    assert next_read_at("a", late, every_sec, 0.0) == pytest.approx(at + every_sec, abs=1e-3)


def test_a_thousand_feeds_are_spread_over_their_period_also_when_all_were_read_at_once():
    feeds = [f"https://site.example/{n}.xml" for n in range(1000)]
    ats = sorted(next_read_at(feed, 1.76e9, 300.0, 0.0) for feed in feeds)
    assert max(Counter(int(at) for at in ats).values()) <= 15  # in one second
    assert max(after - before for before, after in pairwise(ats)) < 5
    assert len({phase_of(feed) for feed in feeds}) == 1000


def test_who_fails_again_and_again_is_read_less_often_and_not_seldom():
    assert [slow_down(60.0, fails) for fails in range(7)] == [60, 60, 120, 240, 480, 480, 480]
    assert slow_down(900.0, 99) == 3600.0
    assert slow_down(7200.0, 99) == 7200.0


def waiting(*pairs):
    hosts = HostQueues()
    for host, feed in pairs:
        hosts.enqueue(host, feed)
    return hosts


def taken(hosts, now, at_once=2, spacing_sec=0.0):
    found = []
    while (turn := hosts.take(now, at_once, spacing_sec)) is not None:
        assert turn[0] == turn[1][0]  # the host
        found.append(turn[1])
    return found


def test_of_one_host_so_many_at_once_and_no_more():
    hosts = waiting(*(("a", f"a{n}") for n in range(4)), ("b", "b0"))
    assert sorted(taken(hosts, 0.0)) == ["a0", "a1", "b0"]
    assert hosts.next_at(0.0, 2) == NEVER
    hosts.release("a", 1.0)
    assert taken(hosts, 1.0) == ["a2"]


def test_hosts_take_turns():
    hosts = waiting(("a", "a0"), ("a", "a1"), ("b", "b0"), ("b", "b1"))
    assert taken(hosts, 0.0) == ["a0", "b0", "a1", "b1"]


def test_between_two_readings_of_a_host_there_is_a_pause():
    hosts = waiting(("a", "a0"), ("a", "a1"), ("b", "b0"))
    assert taken(hosts, 10.0, spacing_sec=0.5) == ["a0", "b0"]
    assert hosts.next_at(10.1, 2) == 10.5
    assert taken(hosts, 10.49, spacing_sec=0.5) == []
    assert taken(hosts, 10.5, spacing_sec=0.5) == ["a1"]


def test_a_host_that_wants_to_be_left_alone_is():
    hosts = waiting(("a", "a0"), ("a", "a1"))
    assert hosts.take(0.0, 1, 0.0) == ("a", "a0")
    hosts.release("a", 1.0, 60.0)
    assert taken(hosts, 60.9) == []
    assert hosts.next_at(2.0, 1) == 61.0
    assert taken(hosts, 61.0) == ["a1"]


def test_who_is_forgotten_does_not_wait_and_a_pause_stays():
    hosts = waiting(("a", "a0"), ("a", "a1"))
    hosts.take(0.0, 2, 5.0)
    hosts.clear()
    assert taken(hosts, 10.0) == []
    hosts.enqueue("a", "a2")
    assert taken(hosts, 1.0) == []
    assert taken(hosts, 5.0) == ["a2"]


def test_hosts_that_nothing_is_left_to_say_of_are_forgotten():
    hosts = HostQueues()
    for n in range(5000):
        hosts.enqueue(f"h{n}", "x")
        hosts.take(float(n), 1, 0.0)
        hosts.release(f"h{n}", float(n))
    assert 0 < len(hosts) <= 2001
