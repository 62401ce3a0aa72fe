"""How long to wait before the next attempt."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

from marketswarm.net.retry import Backoff, parse_retry_after, resolve_pause_sec

NOON = datetime(2025, 11, 6, 12, tzinfo=UTC)
NOW = NOON.timestamp()


def test_pauses_double_up_to_the_longest():
    backoff = Backoff(0.1, 1.0)
    assert [backoff.pause_sec(n) for n in range(1, 7)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert backoff.pause_sec(0) == 0.1
    assert backoff.pause_sec(1_000_000) == 1.0
    many = [Backoff(1.0, 300.0).pause_sec(n, 0.9) for n in range(1, 50)]
    assert all(a <= b for a, b in pairwise(many))


def test_chance_makes_a_pause_a_quarter_shorter_or_longer():
    backoff = Backoff(1.0, 300.0)
    assert (backoff.pause_sec(1, 0.0), backoff.pause_sec(1, 0.5), backoff.pause_sec(1, 1.0)) == (
        0.75,
        1.0,
        1.25,
    )


def test_retry_after_is_a_number_of_seconds_or_a_date():
    assert parse_retry_after("120", NOW) == 120
    assert parse_retry_after(" 0 ", NOW) == 0
    assert parse_retry_after(format_datetime(NOON + timedelta(seconds=90), usegmt=True), NOW) == 90
    assert parse_retry_after(format_datetime(NOON - timedelta(days=1), usegmt=True), NOW) == 0
    assert parse_retry_after("Thu, 06 Nov 2025 12:02:00", NOW) == 120
    assert parse_retry_after("Thu, 06 Nov 2025 13:02:00 +0100", NOW) == 120


def test_a_retry_after_that_is_an_epoch_time_is_a_date():
    assert parse_retry_after(str(int(NOW) + 90), NOW) == 90
    assert parse_retry_after(str(int(NOW) * 1000 + 90_000), NOW) == 90
    assert parse_retry_after(str(int(NOW) - 90), NOW) == 0
    assert parse_retry_after("999999999", NOW) == 999_999_999
    assert resolve_pause_sec(NOW + 2.5, NOW) == 2.5


def test_a_retry_after_that_nobody_can_read_is_none():
    for value in (None, "", "soon", "-5", "1e9", "²", "Thu, 99 Nov 2025 12:02:00 GMT", "9" * 4000 + "x"):
        assert parse_retry_after(value, NOW) is None, value
