"""Limits of waits on a machine that does not have all of its processors all of the time."""

from types import SimpleNamespace

import pytest

from support.processors import ProcessorGate, StolenShare
from support.waiting import Patience

LOOK_SEC = 0.125


class Machine:
    """A clock that is moved by hand, and counters of the processors, of which the host takes a share."""

    def __init__(self) -> None:
        self.now, self.stolen, self.every = 1000.0, 0.0, 0.0
        self.share = 0.0
        self.gives_back_at = 9999.0

    def run(self, sec: float) -> None:
        self.now += sec
        if self.now > self.gives_back_at:
            self.share = 0.0
        self.every += 200 * sec
        self.stolen += 200 * sec * self.share

    def looks_until_over(self, patience: Patience) -> float:
        """Look eight times a second; return for how many seconds it was not over."""
        begun = self.now
        while not patience.is_over():
            self.run(LOOK_SEC)
        return self.now - begun


@pytest.fixture
def machine(monkeypatch):
    machine = Machine()
    clock = SimpleNamespace(monotonic=lambda: machine.now, sleep=machine.run)
    monkeypatch.setattr("support.waiting.time", clock)
    monkeypatch.setattr("support.processors.time", clock)
    monkeypatch.setattr("support.processors._count_ticks", lambda: (int(machine.stolen), int(machine.every)))
    return machine


def test_a_limit_is_one_of_seconds_where_nothing_is_taken(machine):
    assert machine.looks_until_over(Patience(4)) == pytest.approx(4, abs=2 * LOOK_SEC)


def test_what_the_host_takes_is_no_part_of_a_limit(machine):
    patience = Patience(4)
    machine.share = 0.5
    assert machine.looks_until_over(patience) == pytest.approx(8, abs=1)


def test_a_look_that_comes_late_counts_as_a_quarter_of_a_second(machine):
    patience = Patience(1)
    for _ in range(3):
        machine.run(60)
        assert not patience.is_over()


def test_the_share_is_that_since_the_last_look(machine):
    stolen = StolenShare()
    machine.share = 0.25
    machine.run(10)
    assert stolen.measure() == pytest.approx(0.25)
    machine.share = 0.0
    machine.run(10)
    assert stolen.measure() == 0.0
    assert stolen.measure() == 0.0  # no time at all has gone by


def test_a_test_begins_when_the_host_has_given_the_processors_back_or_after_long_enough(machine):
    gate = ProcessorGate(budget_sec=10)
    machine.share = 0.2
    machine.run(5)
    gate.wait()
    assert machine.now == 1005, "a fifth is nothing unusual"
    machine.share = 0.6
    machine.run(5)
    machine.gives_back_at = 1014
    gate.wait()
    assert machine.now == pytest.approx(1015, abs=1.1)
    machine.share, machine.gives_back_at = 0.6, 9999
    machine.run(5)
    begun = machine.now
    gate.wait()
    assert machine.now - begun <= 6, "the rest of the ten"
    machine.run(5)
    begun = machine.now
    gate.wait()
    assert machine.now == begun, "nothing is left of them"
