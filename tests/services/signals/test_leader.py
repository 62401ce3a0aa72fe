"""How ticks that were not decided are counted, which time a tick says, and what a voter outside is asked."""

import numpy as np
import pytest

from services.signals.cycle.decide import TickDecision
from services.signals.leader import count_missed, date_tick, describe_slow
from services.signals.log.entries import join_places
from services.signals.outside import find_volatility
from services.signals.publisher import parse_position
from services.signals.view import BarWindow
from support.signal_log import make_row, make_signal


@pytest.mark.parametrize(
    ("passed_ms", "missed"),
    [(0, 0), (5000, 0), (9999, 0), (10_000, 1), (15_000, 2), (3_600_000, 719), (-5000, 0), (-(10**13), 0)],
)
def test_missed_ticks_are_those_between_the_last_one_and_now(passed_ms, missed):
    assert count_missed(passed_ms, 5000) == missed


def test_a_tick_says_no_time_before_that_of_the_entry_before_it():
    row = make_row(3, 0, 9000, make_signal(3, "S00"))
    made = TickDecision(3, 9000, join_places({}), (row,), {}, (), {}, 0, 0, {})
    for newest_at_ms in (0, 8999, 9000):
        assert date_tick(made, newest_at_ms) is made
    later = date_tick(made, 9001)
    assert (later.at_ms, later.rows) == (9001, (row._replace(at=9001),))
    assert (later.tick, later.places) == (made.tick, made.places)


def test_a_tick_that_takes_longer_than_a_cycle_is_said():
    assert describe_slow(5.0, 5.0) is None
    assert describe_slow(6.24, 5.0) == "a tick took 6.2 s, and ticks are due every 5 s"


@pytest.mark.parametrize(
    ("raw", "position"),
    [
        (b"12 3", (12, 3)),
        (b"0 2147483648", (0, 2**31)),
        (b"", None),
        (b"12", None),
        (b"12 x", None),
        (b"-1 3", None),
        (b"1 2 3", None),
        (b"9" * 40, None),
    ],
)
def test_a_position_that_another_client_wrote_is_none(raw, position):
    assert parse_position(raw) == position


def window(*closes):
    column = np.array(closes, dtype=float)
    return BarWindow(np.arange(len(closes)), column, column, column, column, column)


def test_volatility_is_the_mean_share_by_which_the_price_moves():
    assert find_volatility(window(100.0, 101.0, 99.99)) == pytest.approx(0.01)
    assert find_volatility(window(100.0)) == find_volatility(window()) == 0
    assert find_volatility(window(0.0, 1.0, np.nan, 2.0)) == 0
