"""Prices and changes have the decimals in which their symbol is quoted."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.market.decimals import (
    count_decimals,
    find_percent,
    find_precision,
    round_price,
    settle_single,
    subtract_prices,
)

CENTS = st.integers(-(10**9), 10**9)


@given(CENTS, CENTS)
def test_the_difference_of_two_prices_has_no_digits_that_neither_has(one, other):
    prices = one / 100, other / 100
    found = subtract_prices(*prices, find_precision(prices))
    assert found == (one - other) / 100
    assert count_decimals(found) <= 2


@pytest.mark.parametrize(
    ("prices", "decimals"),
    [
        ([581.2, 581.11], 2),
        ([149.613, 150.0], 3),
        ([1.08735, 1.0873], 5),
        ([0.00001234], 8),
        ([1e-05], 5),
        ([96_412.0], 0),
        ([577.969970703125, 578.5], 2),  # single precision
        ([581.2345678901234], 2),  # computed
        ([1.2345678901234567], 4),
        ([0.012345678901234567], 7),
        ([], 2),
    ],
)
def test_a_symbol_is_quoted_in_the_decimals_of_its_prices(prices, decimals):
    assert find_precision(prices) == decimals


@given(st.integers(1, 9_999_999), st.integers(0, 6))
def test_a_decimal_that_was_kept_in_single_precision_is_found_again(digits, decimals):
    given = float(f"{digits}e-{decimals}")
    (widened,) = struct.unpack("<f", struct.pack("<f", given))
    assert settle_single(widened) == pytest.approx(given, rel=1e-6)
    assert count_decimals(settle_single(widened)) <= 9
    assert settle_single(given) == given or len(repr(given)) > 10


@pytest.mark.parametrize(
    ("number", "settled"),
    [(577.969970703125, 577.97), (1.0872999429702759, 1.0873), (0.1, 0.1), (1e300, 1e300),
     (123_456_789_128.0, 123_456_789_128.0), (581.2345678901234, 581.2345678901234)],
)  # fmt: skip
def test_only_what_single_precision_added_is_taken_away(number, settled):
    assert settle_single(number) == settled


def test_a_percentage_has_four_decimals_and_none_of_nothing():
    assert find_percent(0.09, 581.11) == 0.0155
    assert find_percent(1.0, 0.0) is None
    assert find_percent(0.5, -2.0) == 25.0
    assert round_price(577.969970703125, 2) == 577.97
