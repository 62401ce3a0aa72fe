from marketswarm.fleet.pauses import Pauses


def test_pauses_double_up_to_half_a_minute():
    pauses = Pauses()
    assert [pauses.after(0.1, 1) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_run_of_ten_seconds_begins_them_anew():
    pauses = Pauses()
    pauses.after(1, 1)
    pauses.after(9.9, -9)
    assert pauses.after(10, -9) == 0.5
    assert pauses.after(1, -9) == 1


def test_a_wrong_configuration_waits_longest_at_once_and_counts_for_nothing():
    pauses = Pauses()
    assert pauses.after(0.1, 2) == 30
    assert pauses.after(0.1, 1) == 0.5


def test_what_was_killed_stays_down_until_it_is_missed():
    pauses = Pauses(killed_sec=32)
    assert pauses.after(60, -9) == 32
    assert pauses.after(60, -11) == 0.5, "a crash is another matter"
    assert pauses.after(60, 5) == 0.5
