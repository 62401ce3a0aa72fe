"""Which time was listened to: only what the healer's own beats prove."""

from marketswarm.beat import Beat
from marketswarm.history.listening import MAX_BOOTS, Listening, find_unheard, hear

T0 = 1_790_000_000
TIMEOUT = 30.0


def beat(i, boot="one", every=10.0):
    return Beat("healer", i, 0.0, boot=boot, every=every)


def heard(known, i, at, boot="one", started=None):
    return hear(known, beat(i, boot), T0 + at, TIMEOUT, started)


def test_a_process_that_beat_all_the_time_has_listened_all_the_time():
    known, unheard = heard(Listening(T0), 1, 10)
    assert unheard is None
    known, unheard = heard(known, 2, 20)
    assert (known.until, unheard) == (T0 + 20, None)


def test_a_board_that_was_away_for_a_day_finds_that_the_healer_was_there():
    known, _ = heard(Listening(T0), 1, 10)
    _, unheard = heard(known, 8641, 86_410)
    assert unheard is None


def test_a_process_that_beat_too_seldom_was_away_at_some_time():
    known, _ = heard(Listening(T0), 1, 10)
    _, unheard = heard(known, 4000, 86_410)
    assert unheard == (T0 + 10, T0 + 86_410)


def test_a_new_process_listens_since_it_began():
    known, _ = heard(Listening(T0), 1, 10)
    _, unheard = heard(known, 3, 100, boot="two")
    assert unheard == (T0 + 10, T0 + 70)
    _, unheard = heard(known, 30, 100, boot="two", started=T0 + 95.0)
    assert unheard == (T0 + 10, T0 + 95)


def test_a_standby_that_was_there_before_covers_for_a_leader_that_is_replaced():
    known, _ = heard(Listening(T0), 1, 10)
    known, _ = heard(known, 500, 12, boot="standby")
    known, _ = heard(known, 2, 20)
    known, unheard = heard(known, 510, 112, boot="standby")
    assert unheard is None
    _, unheard = heard(known, 1, 115, boot="three")
    assert unheard is None


def test_a_time_of_start_in_the_future_proves_nothing():
    known, _ = heard(Listening(T0), 1, 10)
    _, unheard = heard(known, 3, 100, boot="two", started=T0 + 1e6)
    assert unheard == (T0 + 10, T0 + 100)


def test_time_never_goes_back():
    known, _ = heard(Listening(T0), 1, 50)
    known, unheard = heard(known, 2, 40)
    assert (known.until, unheard) == (T0 + 50, None)


def test_a_beat_without_a_boot_proves_nothing():
    assert hear(Listening(T0), Beat("healer", 5, 0.0), T0 + 5, TIMEOUT) == (Listening(T0), None)


def test_only_the_last_processes_are_remembered():
    known = Listening(T0)
    for n in range(100):
        known, _ = heard(known, 1, n, boot=f"boot{n}")
    assert [one.boot for one in known.heard] == [f"boot{n}" for n in range(100 - MAX_BOOTS, 100)]


def test_a_healer_whose_last_beat_is_recent_is_there():
    assert find_unheard(Listening(T0), T0 + 30, TIMEOUT) is None
    assert find_unheard(Listening(T0), T0 + 31, TIMEOUT) == (T0, T0 + 31)
