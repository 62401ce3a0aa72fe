"""Which symbols are looked at because the clock moved: exactly those that a look at all would find."""

import random

from services.bars.bar_table import LATEST_MS
from services.bars.worker import DueSymbols, find_checkpoint_sec


def test_a_symbol_is_found_once_its_time_has_come_and_once_only():
    due, followed = DueSymbols(), {"A", "B"}
    due.schedule("A", 1000)
    due.schedule("B", 2000)
    assert due.take(followed, 999) == []
    assert due.take(followed, 1000) == ["A"]
    assert due.take(followed, 1500) == [], "it is scheduled again when it is committed"
    due.schedule("A", 1000)
    assert due.take(followed, 2000) == ["A", "B"], "the same time again"


def test_only_the_last_time_of_a_symbol_counts_and_one_that_is_gone_is_left_out():
    due, followed = DueSymbols(), {"A", "B"}
    due.schedule("A", 1000)
    due.schedule("A", 3000)
    due.schedule("B", 1000)
    followed.remove("B")
    assert due.take(followed, 2999) == []
    assert due.take(followed, 3000) == ["A"]
    due.schedule("A", 4000)
    due.schedule("A", LATEST_MS)
    assert due.take(followed, LATEST_MS - 1) == []


def test_a_symbol_that_was_played_is_looked_at_once_whatever_the_clock():
    due, followed = DueSymbols(), {"A", "B"}
    due.add_played("A")
    due.add_played("A")
    assert due.take(followed, 0) == ["A"]
    assert due.take(followed, 0) == []


def test_a_random_schedule_finds_what_a_look_at_every_symbol_finds():
    chance, due, followed = random.Random(4), DueSymbols(), set("ABCDEFGH")
    times = dict.fromkeys(sorted(followed), LATEST_MS)
    for now_ms in range(0, 20_000, 7):
        for symbol in chance.sample(sorted(followed), 2):
            times[symbol] = chance.choice([now_ms - 3, now_ms, now_ms + chance.randint(1, 900), LATEST_MS])
            due.schedule(symbol, times[symbol])
        expected = sorted(symbol for symbol, at_ms in times.items() if at_ms <= now_ms)
        assert sorted(due.take(followed, now_ms)) == expected
        times |= dict.fromkeys(expected, LATEST_MS)


def test_positions_of_many_symbols_are_committed_less_often_but_those_of_few_within_ten_seconds():
    assert find_checkpoint_sec(1) == find_checkpoint_sec(50) == 10
    assert find_checkpoint_sec(200) == 40, "five a second"
    assert find_checkpoint_sec(500) == find_checkpoint_sec(10_000) == 90, "longer than a minute"
