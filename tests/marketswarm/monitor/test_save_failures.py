"""What a monitor logs of saves that its bus refuses: each fact once, not each attempt."""

import pytest

from marketswarm.bus import BusError
from marketswarm.monitor import state
from marketswarm.monitor.state import LOG_EVERY_SEC, SaveFailures

REFUSED, CUT, ELSEWHERE = (
    BusError("system-redis", "refused"),
    BusError("system-redis", "error"),
    BusError("market-redis", "refused"),
)


@pytest.fixture
def lines(monkeypatch):
    """What is logged from here on: event, what, bus and reason."""
    said = []

    def write(event, **fields):
        said.append((event, fields["what"], fields.get("bus"), fields.get("reason")))

    monkeypatch.setattr(state.log, "warning", write)
    monkeypatch.setattr(state.log, "info", write)
    return said


@pytest.fixture
def clock(monkeypatch):
    """The monotonic seconds, to be set."""
    times = {"now": 1000.0}
    monkeypatch.setattr(state.time, "monotonic", lambda: times["now"])
    return times


def test_reasons_that_take_turns_are_logged_once_each_for_all_that_is_not_saved(lines, clock):
    failures = SaveFailures()
    for n in range(30):
        clock["now"] += 0.5
        for what in ("silences", "notes", "health"):
            failures.record_failure(what, REFUSED if n % 2 else CUT)
    assert lines == [
        ("vigil.not_saved", "silences", "system-redis", "error"),
        ("vigil.not_saved", "health, notes, silences", "system-redis", "refused"),
    ]
    assert failures.counts == {"silences": 30, "notes": 30, "health": 30}


def test_another_bus_is_another_fact_and_a_lasting_one_is_logged_again(lines, clock):
    failures = SaveFailures()
    failures.record_failure("silences", REFUSED)
    failures.record_failure("health", ELSEWHERE)
    clock["now"] += LOG_EVERY_SEC
    failures.record_failure("silences", REFUSED)
    assert lines == [
        ("vigil.not_saved", "silences", "system-redis", "refused"),
        ("vigil.not_saved", "health, silences", "market-redis", "refused"),
        ("vigil.not_saved", "health, silences", "system-redis", "refused"),
    ]


def test_the_end_is_logged_once_all_is_saved_and_a_new_failure_at_once(lines, clock):
    failures = SaveFailures()
    failures.record_success("silences")
    failures.record_failure("silences", REFUSED)
    failures.record_failure("health", REFUSED)
    failures.record_success("silences")
    assert "health not saved on system-redis" in str(failures.describe())
    failures.record_success("health")
    assert failures.describe() is None
    clock["now"] += 0.1
    failures.record_failure("notes", REFUSED)
    assert lines == [
        ("vigil.not_saved", "silences", "system-redis", "refused"),
        ("vigil.saved_again", "health, silences", None, None),
        ("vigil.not_saved", "notes", "system-redis", "refused"),
    ]
