import pytest

from services.mesh.listener import MAX_NAMES, MAX_SHOWN, REPORT_AGAIN_SEC, UnknownServices, clean_name


def test_a_stranger_is_news_once_an_hour():
    unknown = UnknownServices()
    assert unknown.is_new("x", 0)
    assert not any(unknown.is_new("x", now) for now in (0, 1, REPORT_AGAIN_SEC - 1))
    assert unknown.is_new("x", REPORT_AGAIN_SEC)
    assert not unknown.is_new("x", REPORT_AGAIN_SEC + 1)


def test_a_flood_of_names_is_told_up_to_a_bound_and_counted_beyond():
    unknown = UnknownServices()
    told = sum(unknown.is_new(f"s{n}", n / 100) for n in range(5 * MAX_NAMES))
    assert told == MAX_NAMES
    assert unknown.dropped == 4 * MAX_NAMES
    assert unknown.is_new("late", REPORT_AGAIN_SEC + 1)
    assert 0 < len(unknown) <= MAX_NAMES


def test_who_was_told_of_within_the_hour_is_shown_up_to_a_bound():
    unknown = UnknownServices()
    for n in range(2 * MAX_SHOWN):
        unknown.is_new(f"s{n}", float(n))
    assert unknown.recent_names(200.0) == [f"s{n}" for n in range(MAX_SHOWN, 2 * MAX_SHOWN)]
    assert unknown.recent_names(REPORT_AGAIN_SEC + MAX_SHOWN * 2) == []


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
    assert clean_name(name) == shown
