import pytest

from services.mesh.listener import AGAIN_SEC, NAMES, SHOWN, Strangers, fit


def test_a_stranger_is_news_once_an_hour():
    strangers = Strangers()
    assert strangers.heard("x", 0)
    assert not any(strangers.heard("x", now) for now in (0, 1, AGAIN_SEC - 1))
    assert strangers.heard("x", AGAIN_SEC)
    assert not strangers.heard("x", AGAIN_SEC + 1)


def test_a_flood_of_names_is_told_up_to_a_bound_and_counted_beyond():
    strangers = Strangers()
    told = sum(strangers.heard(f"s{n}", n / 100) for n in range(5 * NAMES))
    assert told == NAMES
    assert strangers.untold == 4 * NAMES
    assert strangers.heard("late", AGAIN_SEC + 1)
    assert len(strangers._told_at) <= NAMES


def test_who_was_told_of_within_the_hour_is_shown_up_to_a_bound():
    strangers = Strangers()
    for n in range(2 * SHOWN):
        strangers.heard(f"s{n}", float(n))
    assert strangers.names(200.0) == [f"s{n}" for n in range(SHOWN, 2 * SHOWN)]
    assert strangers.names(AGAIN_SEC + SHOWN * 2) == []


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"backup", "backup"),
        (b"\x1b[2Jx\n", r"\x1b[2Jx\n"),
        ("\u202eabc".encode(), r"\u202eabc"),
        (b"\xff", "\ufffd"),
        (b"x" * 63, "x" * 63),
        (b"x" * 64, None),
        (b"", None),
    ],
)
def test_a_name_is_bare_of_what_would_steer_a_terminal_and_not_too_long(name, shown):
    assert fit(name) == shown
