from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.rss_agg.scheduler import (
    JITTER,
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
