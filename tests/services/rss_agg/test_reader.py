import pytest

from services.rss_agg.reader import wanted
from services.rss_agg.store import Standing


@pytest.mark.parametrize(
    ("standing", "now", "answer"),
    [
        (Standing(), 1000.0, True),
        (Standing(read_at=1000.0), 1100.0, False),  # by another instance, a moment ago
        (Standing(read_at=1000.0), 1150.0, True),
        (Standing(read_at=1000.0, fails=3, why="404"), 1150.0, False),
        (Standing(read_at=1000.0, fails=3, why="404"), 1600.0, True),
        (Standing(read_at=1000.0, not_before=5000.0), 4999.0, False),
        (Standing(read_at=1000.0, not_before=5000.0), 5000.0, True),
        (Standing(read_at=1000.0, gone_at=1000.0, why="410"), 9e9, False),
    ],
)
def test_a_feed_is_asked_once_a_period_whoever_asks_and_never_against_its_word(standing, now, answer):
    assert wanted(standing, 300.0, now) is answer
