import pytest

from marketswarm.detector import Moment
from marketswarm.detector.clock import ListeningClock


def at(sec: float) -> Moment:
    return Moment(sec, 1e9 + sec)


@pytest.fixture
def clock():
    """A clock at 100 s whose first canary has just come back: `proven` is 0 and runs from here."""
    clock = ListeningClock(at(99))
    clock.note_session_opened()
    clock.note_canary_sent(1, 99.9)
    assert clock.note_canary_received(1, at(100))
    return clock


def come_back(clock: ListeningClock, number: int, sent: float, heard: float) -> bool:
    clock.note_canary_sent(number, sent)
    clock.note_canary_accepted(at(heard))
    return clock.note_canary_received(number, at(heard))


def test_a_new_clock_is_in_a_gap_and_stands_still():
    clock = ListeningClock(at(0))
    assert not clock.is_listening
    assert clock.read(50) == 0
    assert clock.reason == "refused"


def test_the_first_canary_of_a_session_ends_the_gap_and_proves_no_time():
    clock = ListeningClock(at(0))
    clock.note_session_opened()
    clock.note_canary_sent(1, 5)
    assert clock.note_canary_received(1, at(5.5)) is True
    assert clock.is_listening
    assert (clock.proven, clock.gap_end, clock.read(5.5)) == (0, 0, 0)


def test_a_canary_moves_the_clock_to_when_it_was_sent_and_running_adds_the_time_since(clock):
    assert come_back(clock, 2, 100.25, 100.3) is False
    assert clock.proven == pytest.approx(0.25)
    assert clock.read(100.3) == pytest.approx(0.3)
    come_back(clock, 3, 100.5, 100.5)
    assert clock.proven == pytest.approx(0.5)
    assert clock.round_trip_sec == 0


def test_what_was_sent_before_the_gap_ended_proves_nothing():
    clock = ListeningClock(at(0))
    clock.note_session_opened()
    clock.note_canary_sent(1, 1.0)
    clock.note_canary_sent(2, 1.1)
    clock.note_canary_received(1, at(1.5))
    clock.note_canary_received(2, at(1.5))
    assert clock.proven == 0


def test_a_canary_of_an_earlier_session_proves_nothing(clock):
    clock.note_canary_sent(2, 100.25)
    clock.note_session_lost("refused")
    clock.note_session_opened()
    assert clock.note_canary_received(2, at(100.5)) is False
    assert not clock.is_listening


def test_a_canary_heard_twice_or_never_sent_proves_nothing(clock):
    come_back(clock, 2, 100.25, 100.25)
    assert clock.note_canary_received(2, at(100.5)) is False
    assert clock.note_canary_received(7, at(100.5)) is False
    assert clock.proven == pytest.approx(0.25)


def test_a_canary_that_is_skipped_begins_a_gap(clock):
    clock.note_canary_sent(2, 100.25)
    clock.note_canary_sent(3, 100.5)
    assert clock.note_canary_received(3, at(100.5)) is True  # one that ended at once
    assert (clock.gaps, clock.proven) == (1, 0)


def test_no_session_is_a_gap_and_the_clock_goes_on_where_it_stood(clock):
    come_back(clock, 2, 101, 101)
    clock.note_session_lost("refused")
    assert not clock.is_listening
    assert clock.read(500) == pytest.approx(1)
    clock.note_session_opened()
    assert not clock.is_listening
    assert come_back(clock, 3, 500, 500.1) is True
    assert clock.gap_end == pytest.approx(1)
    assert clock.read(501.1) == pytest.approx(2)


def test_a_new_session_is_a_gap_even_if_nobody_said_that_the_old_one_ended(clock):
    # a listener that was replaced is cancelled, and says nothing
    clock.note_session_opened()
    assert not clock.is_listening
    assert come_back(clock, 1, 102, 102) is True
    assert clock.proven == 0
    assert clock.gaps == 1


@pytest.mark.parametrize(("round_trip", "gaps"), [(1.0, 0), (1.001, 1)])
def test_a_canary_away_for_more_than_a_second_is_a_gap(clock, round_trip, gaps):
    clock.note_canary_sent(2, 100.25)
    clock.check_canary(100.25 + round_trip)
    assert clock.gaps == gaps
    assert clock.is_listening is (not gaps)


def test_a_late_canary_that_nobody_looked_for_meanwhile_is_a_gap_all_the_same(clock):
    assert come_back(clock, 2, 100.25, 101.5) is True
    assert (clock.gaps, clock.proven, clock.read(101.5)) == (1, 0, 0)


@pytest.mark.parametrize(("worked_sec", "gaps"), [(2.5, 0), (1.6, 0), (1.4, 1)])
def test_the_time_in_which_messages_were_handled_before_a_canary_is_not_waiting(clock, worked_sec, gaps):
    clock.note_canary_sent(2, 100.25, 7.0)
    clock.note_canary_sent(3, 103.2, 7.0 + worked_sec)
    clock.check_canary(103.2)
    assert clock.gaps == gaps
    clock.note_canary_received(2, at(103.25), 7.0 + worked_sec)
    assert clock.gaps == gaps
    assert clock.proven == (0 if gaps else 0.25)
    assert clock.read_for_looks(103.25) == (0 if gaps else 1.5)


def test_however_long_canaries_are_on_their_way_they_are_known_when_they_come_back(clock):
    for number in range(1023):
        clock.note_canary_sent(2 + number, 100.25 + number / 4, number / 4)
        clock.check_canary(100.25 + number / 4)
    clock.note_canary_received(2, at(356), 255)
    assert (clock.gaps, clock.proven) == (0, 0.25)
    for number in range(1023, 1025):
        clock.note_canary_sent(2 + number, 100.25 + number / 4, number / 4)
    clock.check_canary(357)
    assert clock.gaps == 1, "messages come, and no canary ever does"


@pytest.mark.parametrize(("later", "listening"), [(2.25, True), (2.251, False)])
def test_no_canary_at_all_for_too_long_is_a_gap(clock, later, listening):
    clock.check_canary(100 + later)
    assert clock.is_listening is listening


def test_a_refused_canary_is_a_gap_until_one_is_taken_and_comes_back(clock):
    clock.note_canary_sent(2, 100.25)
    clock.note_canary_refused(2, "oom")
    assert not clock.is_listening
    assert clock.reason == "oom"
    assert clock.missing_canary_sec(200) == 0, "a bus that takes no canary is not deafness"
    assert come_back(clock, 3, 103, 103) is True
    assert clock.proven == 0


def test_a_stall_is_a_gap(clock):
    come_back(clock, 2, 100.25, 100.25)
    clock.note_stall(30)
    assert not clock.is_listening
    assert clock.read(130.25) == pytest.approx(0.25)
    come_back(clock, 3, 130.25, 130.25)
    assert clock.read(131.25) == pytest.approx(1.25)
    assert clock.gap_end == pytest.approx(0.25)


def test_a_canary_sent_before_a_stall_ends_the_gap_but_proves_none_of_it(clock):
    clock.note_canary_sent(2, 100.25)
    clock.note_stall(30)
    assert clock.note_canary_received(2, at(130.25)) is True
    come_back(clock, 3, 130.5, 130.5)
    assert clock.proven == pytest.approx(0.25)


def test_a_bus_is_unheard_since_its_last_canary_less_what_the_listener_overslept(clock):
    assert clock.unheard_sec(108) == 8
    clock.note_stall(5)
    assert clock.unheard_sec(113) == 8
    clock.note_stall(2)
    assert clock.unheard_sec(116) == 9
    come_back(clock, 2, 117, 117)
    assert clock.unheard_sec(118) == 1


def test_deafness_is_an_open_session_on_which_a_canary_is_missing(clock):
    assert clock.missing_canary_sec(200) == 0
    clock.note_canary_sent(2, 100.25)
    clock.note_canary_sent(3, 100.5)
    assert clock.missing_canary_sec(102.25) == 2
    clock.note_session_lost("refused")
    assert clock.missing_canary_sec(102.25) == 0
    clock.note_session_opened()
    assert clock.missing_canary_sec(102.25) == 0, "a new session owes none of the old one's canaries"


def test_the_reason_is_the_writes_then_the_sessions_then_deafness(clock):
    clock.note_session_lost("refused")
    assert clock.reason == "refused"
    clock.note_canary_sent(2, 101)
    clock.note_canary_refused(2, "timeout")
    assert clock.reason == "timeout"
    clock.note_canary_accepted(at(101))
    clock.note_session_opened()
    assert clock.reason == "deaf"


@pytest.mark.parametrize(("session", "said"), [("refused", "deaf"), ("error", "deaf"), ("auth", "auth")])
def test_a_session_that_is_cut_where_writes_are_taken_is_deafness(clock, session, said):
    come_back(clock, 2, 100.25, 100.25)
    clock.note_session_lost(session)
    assert clock.reason == said
    clock.note_canary_sent(3, 100.5)
    clock.note_canary_refused(3, "refused")
    assert clock.reason == (session if session != "error" else "error")


def test_the_clock_never_runs_back_for_long_and_proven_never():
    clock = ListeningClock(at(0))
    clock.note_session_opened()
    proven = 0.0
    for number, (sent, heard) in enumerate([(1, 1), (1.25, 1.3), (1.5, 3), (3.25, 3.25), (3.5, 3.9)]):
        clock.check_canary(sent)
        clock.note_canary_sent(number, sent)
        clock.note_canary_received(number, at(heard))
        assert clock.proven >= proven
        proven = clock.proven
    assert proven == pytest.approx(0.25 + 0.5)


@pytest.mark.parametrize(("canary", "session"), [("refused", "tls"), ("auth", "refused"), ("tls", "tls")])
def test_a_cut_connection_hides_no_reason_that_says_more(clock, canary, session):
    clock.note_session_lost(session)
    clock.note_canary_sent(2, 101)
    clock.note_canary_refused(2, canary)
    assert clock.reason == next(reason for reason in (canary, session) if reason != "refused")
