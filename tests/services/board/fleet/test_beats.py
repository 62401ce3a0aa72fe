"""The times of the last beats, and their picture."""

from services.board.fleet.beats import KEPT, MAX_SERVICES, BeatInterval, BeatLog, BeatTimes
from services.board.fleet.words import describe_beats, draw_beats
from support.board_examples import AT, make_service


def note_beats(log: BeatLog, *times: float | None) -> None:
    """Note one look at a service for each time of its last beat."""
    for at in times:
        log.note([make_service("a", last_beat_at=at)])


def test_a_beat_that_is_seen_twice_is_one_and_each_new_one_gives_an_interval():
    log = BeatLog()
    note_beats(log, AT, AT, AT + 10, AT + 10, AT + 10, None, AT + 19.5)
    found = log.outline(make_service("a"), 10.0, 1.0)
    assert found.intervals == (BeatInterval(AT + 10, 10.0), BeatInterval(AT + 19.5, 9.5))
    assert found.why_not == ""
    assert describe_beats(found).startswith("2 intervals of 9.5 s to 10.0 s, 9.8 s on average")


def test_a_time_that_goes_back_is_no_beat():
    log = BeatLog()
    note_beats(log, AT, AT - 5, AT + 10)
    assert [one.sec for one in log.outline(make_service("a"), 10.0, 1.0).intervals] == [10.0]


def test_only_so_many_beats_are_kept_and_a_service_that_is_gone_is_forgotten():
    log = BeatLog()
    note_beats(log, *(AT + 10 * number for number in range(KEPT + 20)))
    assert len(log.outline(make_service("a"), 10.0, 1.0).intervals) == KEPT - 1
    log.note([make_service("b")])
    log.note([])
    assert log.outline(make_service("a"), 10.0, 1.0).why_not == (
        "The board has not seen two beats since its start."
    )


def test_beats_that_are_faster_than_the_looks_are_not_shown_as_if_all_were_seen():
    log = BeatLog()
    note_beats(log, AT, AT + 1, AT + 2)
    found = log.outline(make_service("a"), 1.0, 1.0)
    assert found.intervals == ()
    assert found.why_not == "It beats every 1 s. The board looks every 1 s, so it misses some."
    assert log.outline(make_service("a"), 2.0, 1.0).intervals


def test_nothing_is_kept_of_a_fleet_that_is_too_large():
    log = BeatLog()
    for at in (AT, AT + 10):
        log.note([make_service(f"s{number}", last_beat_at=at) for number in range(MAX_SERVICES + 1)])
    assert log.outline(make_service("s1"), 10.0, 1.0).intervals == ()


def test_the_picture_marks_what_is_late_and_the_interval_of_the_truth():
    some = (BeatInterval(AT, 10.0), BeatInterval(AT + 30, 30.0))
    drawn = draw_beats(BeatTimes(10.0, some))
    assert 'class="u" d="M585 60v-20"' in drawn
    assert 'class="w" d="M595 60v-60"' in drawn
    assert 'class="due" d="M0 40H600"' in drawn
    assert "2 intervals of 10.0 s to 30.0 s, 20.0 s on average; the truth says 10 s" in drawn
    assert describe_beats(BeatTimes(10.0, some[:1])).startswith("1 interval of 10.0 s")
