from services.vexy_ai.llm.breaker import Breaker


def test_after_three_failures_in_a_row_he_is_left_alone_for_a_minute():
    breaker = Breaker()
    for now in (0.0, 1.0):
        breaker.failed("timeout", now)
        assert breaker.open_sec(now) == 0
    breaker.failed("timeout", 2.0)
    assert breaker.open_sec(2.0) == 60
    assert breaker.open_sec(61.0) == 1
    assert breaker.open_sec(62.0) == 0
    assert breaker.reason == "timeout"


def test_one_that_works_in_between_clears_the_count():
    breaker = Breaker()
    for now in range(10):
        breaker.failed("500", float(now))
        breaker.failed("500", float(now))
        breaker.worked()
    assert breaker.open_sec(10.0) == 0
    assert breaker.reason is None


def test_he_is_tried_once_and_each_failure_then_doubles_the_pause():
    breaker, now, pauses = Breaker(), 0.0, []
    for _ in range(3):
        breaker.failed("500", now)
    for _ in range(8):
        pauses.append(breaker.open_sec(now))
        now += pauses[-1]
        assert breaker.open_sec(now) == 0
        breaker.failed("500", now)
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    breaker.worked()
    breaker.failed("500", now)
    assert breaker.open_sec(now + 3600) == 0


def test_what_lasts_needs_no_three_and_what_he_asks_for_is_given_up_to_an_hour():
    lasting, asked, greedy = Breaker(), Breaker(), Breaker()
    lasting.failed("401", 0.0, lasting=True)
    assert lasting.open_sec(0.0) == 60
    asked.failed("429", 0.0, after_sec=7.0)
    assert asked.open_sec(0.0) == 7
    greedy.failed("429", 0.0, after_sec=1e9)
    assert greedy.open_sec(0.0) == 3600
