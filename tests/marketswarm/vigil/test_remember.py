import pytest

from marketswarm.liveness import Remembered, State
from marketswarm.vigil.remember import Silence, remembered

BUS = {"a": "system-redis"}
CLOCKS = {"system-redis": (100.0, 5000.0), "market-redis": (900.0, 5000.0)}


def recalled(entry=None, silence=None, clocks=None, bus_of=None) -> Remembered:
    roster = {} if entry is None else {"a": entry}
    silences = {} if silence is None else {"a": silence}
    return remembered(roster, silences, CLOCKS if clocks is None else clocks, bus_of or BUS)["a"]


def test_who_was_up_with_no_silence_saved_was_beating_when_the_clock_was_last_written():
    entry = {"verdict": "up", "since": 4000.0, "boot": "b", "i": 7}
    assert recalled(entry) == Remembered(State.UP, 5000.0, None, True, "b", 7)


def test_a_silence_is_what_the_clock_has_moved_since_its_beginning():
    found = recalled({"verdict": "up"}, Silence(80.0, 4980.0, True, "system-redis"))
    assert found == Remembered(State.UP, 4980.0, 20.0, True)


def test_a_silence_that_reaches_back_before_the_clocks_beginning_is_as_long():
    assert recalled({"verdict": "up"}, Silence(-15.0, 4885.0, True, "system-redis")).silent_for == 115


def test_a_beat_heard_ahead_of_what_was_proven_is_no_negative_silence():
    assert recalled({"verdict": "up"}, Silence(100.8, 5000.0, True, "system-redis")).silent_for == 0


def test_who_was_watched_in_vain_was_not_seen_and_has_no_since():
    found = recalled(None, Silence(70.0, 0.0, False, "system-redis"))
    assert found == Remembered(State.UNKNOWN, None, 30.0, False)


def test_who_is_told_up_was_seen_whatever_silence_a_killed_run_left():
    entry = {"verdict": "up", "ts": 5003.0}
    found = recalled(entry, Silence(70.0, 0.0, False, "system-redis"))
    assert found == Remembered(State.UP, 5003.0, None, True)


def test_who_is_down_was_silent_since_its_last_beat():
    found = recalled({"verdict": "down", "since": 4000.0, "boot": "b", "i": 3})
    assert (found.state, found.since, found.seen, found.i) == (State.DOWN, 4000.0, True, 3)


def test_who_is_down_and_never_was_seen_has_no_since():
    found = recalled({"verdict": "down"})
    assert (found.state, found.since, found.seen) == (State.DOWN, None, False)


@pytest.mark.parametrize("bus", ["market-redis", "gone"])
def test_a_silence_on_another_buses_clock_is_as_one_that_nobody_saved(bus):
    found = recalled({"verdict": "up"}, Silence(80.0, 4980.0, True, "system-redis"), bus_of={"a": bus})
    assert (found.silent_for, found.since, found.seen) == (None, 4980.0, True)


def test_a_silence_without_its_clock_is_as_one_that_nobody_saved():
    assert recalled({"verdict": "up"}, Silence(80.0, 4980.0, True, "system-redis"), {}).silent_for is None


def test_fields_of_buses_are_no_services():
    assert remembered({"bus:market-redis": {"verdict": "down"}}, {}, CLOCKS, BUS) == {}


@pytest.mark.parametrize("entry", [{"verdict": "up", "boot": 5, "i": "7"}, {"verdict": "down", "since": "x"}])
def test_what_is_of_a_wrong_type_in_the_roster_is_passed_over(entry):
    found = recalled(entry)
    assert (found.boot, found.i) == (None, 0)
    assert found.since in (None, 5000.0)
