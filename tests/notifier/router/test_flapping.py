"""What flaps, by how often it changed lately."""

from notifier.router.flapping import HIGH, LOW, flaps, restlessness

WINDOW_SEC = 600.0


def changes(count: int, every_sec: float, until: float = 1000.0) -> list[float]:
    return [until - every_sec * n for n in reversed(range(count))]


def test_it_takes_six_changes_in_a_row_to_begin():
    assert not flaps(changes(5, 0), 1000.0, WINDOW_SEC, already=False)
    assert flaps(changes(6, 0), 1000.0, WINDOW_SEC, already=False)


def test_slow_changes_are_no_flapping():
    assert not flaps(changes(20, 300), 1000.0, WINDOW_SEC, already=False)


def test_what_flaps_ceases_later_than_it_would_begin():
    found = changes(20, 1)
    levels = [restlessness(found, 1000.0 + sec, WINDOW_SEC) for sec in range(0, 700, 10)]
    assert levels == sorted(levels, reverse=True)
    ceases = next(sec for sec, level in zip(range(0, 700, 10), levels, strict=True) if level < LOW)
    would_begin = next(sec for sec, level in zip(range(0, 700, 10), levels, strict=True) if level < HIGH)
    assert would_begin < ceases
    assert flaps(found, 1000.0 + ceases - 10, WINDOW_SEC, already=True)
    assert not flaps(found, 1000.0 + ceases, WINDOW_SEC, already=True)


def test_only_the_last_twenty_count_and_nothing_is_beyond_one():
    assert restlessness(changes(500, 0), 1000.0, WINDOW_SEC) == 1.0
    assert restlessness([2000.0], 1000.0, WINDOW_SEC) <= 1 / 20, "a change in the future is as one now"
    assert restlessness([], 1000.0, WINDOW_SEC) == 0.0
