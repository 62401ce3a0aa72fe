"""Whole numbers stand for decimals, and rounding is never in our favour."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.signals.engine.units import (
    floor_to_lot,
    format_units,
    parse_units,
    round_down,
    round_half_up,
    round_up,
)


@given(st.integers(-(10**30), 10**30), st.integers(1, 20))
def test_a_decimal_is_read_back_as_it_was_written(units, digits):
    text = format_units(units, digits)
    assert Fraction(text) == Fraction(units, 10**digits)
    if abs(units) < 10 ** (15 + digits):
        assert parse_units(text, digits) == units


def test_money_has_two_decimals_at_the_least():
    assert format_units(5 * 10**19, 20, 2) == "0.50"
    assert format_units(-(10**20), 20, 2) == "-1.00"
    assert format_units(1, 20, 2) == "0.00000000000000000001"


@pytest.mark.parametrize(
    "text", ["", "1e5", "NaN", "inf", " 1", "1_000", "+1", ".5", "1.", "\u0661", "--1", "1,5", "1" * 16]
)
def test_what_is_no_plain_decimal_is_refused(text):
    with pytest.raises(ValueError, match="decimal"):
        parse_units(text, 12)


def test_more_decimals_than_there_are_units_are_refused_unless_they_are_zeros():
    assert parse_units("0.10", 1) == 1
    with pytest.raises(ValueError, match="more than 1 decimals"):
        parse_units("0.11", 1)


@pytest.mark.parametrize(
    ("amount", "expected"), [("0.4", 0), ("0.5", 1), ("1.5", 2), ("2.5", 3), ("-0.5", -1), ("-0.4", 0)]
)
def test_half_is_rounded_away_from_zero(amount, expected):
    assert round_half_up(Fraction(amount)) == expected
    assert round_half_up(Fraction(amount) * 100, 100) == 100 * expected


def test_steps_and_lots():
    assert (round_down(107, 10), round_up(101, 10), round_up(100, 10)) == (100, 110, 100)
    assert (floor_to_lot(Fraction(299, 2), 100), floor_to_lot(Fraction(-299, 2), 100)) == (100, -100)
