from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.board.market.gaps import Gap, find_gaps

MINUTE, DAY = 60_000, 86_400_000


def at(text):
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@given(st.sets(st.integers(0, 300), min_size=2, max_size=60))
def test_of_crypto_every_missing_minute_is_in_a_gap(minutes):
    starts = [MINUTE * each for each in sorted(minutes)]
    gaps = find_gaps(starts, "1m", "crypto")
    blank = {start for gap in gaps for start in range(gap.from_ms, gap.to_ms, MINUTE)}
    assert blank | set(starts) == set(range(starts[0], starts[-1] + 1, MINUTE))
    assert not blank & set(starts)
    assert sum(gap.missing for gap in gaps) == len(blank)


@pytest.mark.parametrize(
    ("asset", "before", "after", "is_gap"),
    [
        ("stocks", "2026-01-05T20:59", "2026-01-06T14:30", False),  # a night
        ("stocks", "2026-01-05T16:00", "2026-01-05T16:05", True),
        ("stocks", "2026-01-05T20:59", "2026-01-12T14:30", True),  # a week
        ("forex", "2026-01-09T21:59", "2026-01-11T22:00", False),  # a weekend in winter
        ("forex", "2026-07-10T20:59", "2026-07-12T21:00", False),  # one in summer
        ("forex", "2026-01-06T21:59", "2026-01-08T22:00", True),  # from Tuesday to Thursday
        ("forex", "2026-01-09T12:00", "2026-01-11T22:00", True),  # from Friday noon on
    ],
)
def test_a_closed_market_leaves_no_gap(asset, before, after, is_gap):
    assert bool(find_gaps([at(before), at(after)], "1m", asset)) is is_gap


def test_of_days_a_weekend_with_a_holiday_is_no_gap_and_a_week_is_one():
    assert find_gaps([at("2026-04-02"), at("2026-04-06")], "1d", "stocks") == []  # Easter
    assert find_gaps([0, 8 * DAY], "1d", "stocks") == [Gap(DAY, 8 * DAY, 7)]
    assert find_gaps([0, 2 * DAY], "1d", "crypto") == [Gap(DAY, 2 * DAY, 1)]
