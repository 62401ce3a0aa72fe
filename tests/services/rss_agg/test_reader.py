import pytest

from services.rss_agg.reader import should_read
from services.rss_agg.store import FeedState


@pytest.mark.parametrize(
    ("state", "now", "answer"),
    [
        (FeedState(), 1000.0, True),
        (FeedState(read_at=1000.0), 1100.0, False),  # by another instance, a moment ago
        (FeedState(read_at=1000.0), 1150.0, True),
        (FeedState(read_at=1000.0, failures=3, error="404"), 1150.0, False),
        (FeedState(read_at=1000.0, failures=3, error="404"), 1600.0, True),
        (FeedState(read_at=1000.0, not_before=5000.0), 4999.0, False),
        (FeedState(read_at=1000.0, not_before=5000.0), 5000.0, True),
        (FeedState(read_at=1000.0, gone_at=1000.0, error="410"), 9e9, False),
    ],
)
def test_a_feed_is_asked_once_a_period_whoever_asks_and_never_against_its_word(state, now, answer):
    assert should_read(state, 300.0, now) is answer
