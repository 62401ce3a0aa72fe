"""The numbers about outages that the board and the medic show alike."""

import pytest

from marketswarm.operator.healing_stats import find_quantile


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, None), ([3.0], 0.95, 3.0), ([3.0, 1.0], 0.5, 1.0), ([*map(float, range(1, 101))], 0.95, 95.0)],
)
def test_a_quantile_is_a_value_that_was_seen(values, share, expected):
    assert find_quantile(values, share) == expected
