from datetime import UTC, timedelta, timezone

import pytest

from marketswarm.cli.local_time import format_moment

TS = 1762433458.3


@pytest.mark.parametrize(
    ("ts", "said"),
    [(TS + 3600, "13:50"), (TS + 12 * 3600, "Fri 07 Nov 2025 00:50"), (TS - 86_400, "Wed 05 Nov 2025 12:50")],
)
def test_a_moment_is_a_time_of_day_and_has_its_day_when_that_is_another(ts, said):
    assert format_moment(ts, TS, UTC) == said


@pytest.mark.parametrize("ts", [253_402_300_799.0, 1e15, -1e15])
def test_a_moment_that_no_clock_can_show_is_dashes(ts):
    assert format_moment(ts, TS, timezone(timedelta(hours=14))).endswith("--:--")
