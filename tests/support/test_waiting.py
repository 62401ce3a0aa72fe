"""Limits of waits on a machine that does not have all of its processors all of the time."""

from types import SimpleNamespace

import pytest

from support.processors import ProcessorGate
from support.waiting import Patience, Stopwatch


class Machine:
    """A clock that is moved by hand, and counters of the processors, of which the host takes a share."""

    def __init__(self) -> None:
        self.now, self.stolen, self.every = 1000.0, 0.0, 0.0
        self.share, self.gives_back_at = 0.0, 9999.0

    def run(self, sec: float) -> None:
        self.now += sec
        if self.now > self.gives_back_at:
            self.share = 0.0
        self.every += 200 * sec
        self.stolen += 200 * sec * self.share

    def look_until_over(self, patience: Patience) -> float:
        """Look eight times a second; return for how many seconds it was not over."""
        begun = self.now
        while not patience.is_over():
            self.run(0.125)
        return self.now - begun


@pytest.fixture
def machine(monkeypatch):
    machine = Machine()
    clock = SimpleNamespace(monotonic=lambda: machine.now, sleep=machine.run)
    monkeypatch.setattr("support.waiting.time", clock)
    monkeypatch.setattr("support.processors.time", clock)
    monkeypatch.setattr("support.processors._count_ticks", lambda: (int(machine.stolen), int(machine.every)))
    return machine


def test_a_limit_ends_and_what_the_host_takes_is_no_part_of_it(machine):
    assert machine.look_until_over(Patience(4)) == pytest.approx(4, abs=0.3)
    patience, watch = Patience(4), Stopwatch()
    machine.share = 0.5
    assert machine.look_until_over(patience) == pytest.approx(8, abs=1)
    assert watch.own_sec == pytest.approx(watch.sec / 2)


def test_the_gate_lets_as_many_tests_run_as_the_host_leaves_processors_for(machine, tmp_path):
    places = tmp_path / "places"
    places.touch()
    gate = ProcessorGate(str(places), 6)
    assert [gate.count_allowed(share) for share in (0.0, 0.2, 0.5, 1.0)] == [6, 5, 3, 1]
    machine.share, machine.gives_back_at = 0.6, 1200
    machine.run(5)
    gate.enter()
    assert (gate.place, machine.now) == (0, pytest.approx(1200, abs=2)), "the host kept more than half"
    gate.leave()
    assert gate.place is None
