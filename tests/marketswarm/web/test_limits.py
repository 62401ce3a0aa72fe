"""Token buckets, on a clock that is moved by hand."""

import pytest

from marketswarm.web.limits import RateLimiter, RequestLimiter


def test_a_burst_is_allowed_at_once_and_then_one_at_a_time():
    limiter = RateLimiter(3, 0.5)
    assert [limiter.take("a", 100.0) for _ in range(4)] == [0.0, 0.0, 0.0, 2.0]
    assert limiter.take("a", 101.0) == 1.0
    assert limiter.take("a", 102.0) == 0.0
    assert limiter.take("a", 102.0) == 2.0


def test_a_key_has_its_burst_again_after_a_pause_and_not_more():
    limiter = RateLimiter(2, 1.0)
    for _ in range(2):
        limiter.take("a", 0.0)
    assert [limiter.take("a", 1000.0) for _ in range(3)] == [0.0, 0.0, 1.0]


def test_a_use_may_count_for_several_and_one_beyond_the_burst_waits_for_all_of_it():
    limiter = RateLimiter(10, 2.0)
    assert [limiter.take("a", 0.0, count) for count in (7, 4, 3)] == [0.0, 0.5, 0.0]
    assert limiter.take("a", 0.0, 100) == 5.0
    assert limiter.take("a", 5.0, 100) == 0.0
    assert limiter.take("a", 5.0) == 0.5


def test_keys_do_not_share():
    limiter = RateLimiter(1, 1.0)
    assert [limiter.take(key, 0.0) for key in ("a", "b", "a")] == [0.0, 0.0, 1.0]


def test_the_key_that_was_used_longest_ago_is_forgotten():
    limiter = RateLimiter(1, 1.0, max_keys=2)
    for key in ("a", "b", "c"):
        limiter.take(key, 0.0)
    assert [limiter.take(key, 0.0) for key in ("b", "c", "a")] == [1.0, 1.0, 0.0]


def test_an_address_has_as_many_requests_a_minute_as_the_truth_says():
    per_min = 3
    limiter = RequestLimiter(lambda: per_min)
    found = [limiter.take("10.0.0.2", 100.0) for _ in range(4)]
    assert [(one.remaining, one.wait_sec > 0) for one in found] == [
        (2, False),
        (1, False),
        (0, False),
        (0, True),
    ]
    assert found[0].headers["RateLimit-Limit"] == "3"
    assert found[0].headers["RateLimit-Policy"] == "3;w=60"
    assert found[3].wait_sec == pytest.approx(20.0)
    assert limiter.take("10.0.0.3", 100.0).remaining == 2, "another address has its own"
    assert limiter.take("10.0.0.2", 120.0).wait_sec == 0
    per_min = 0
    assert limiter.take("10.0.0.2", 120.0) is None
