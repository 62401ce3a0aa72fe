"""Limits of waits on a machine that does not have all of its processors all of the time."""

from types import SimpleNamespace

import pytest

from support.waiting import Patience, StolenShare

LOOK_SEC = 0.125


class Machine:
    """A clock that is moved by hand, and counters of the processors, of which the host takes a share."""

    def __init__(self) -> None:
        self.now, self.stolen, self.every = 1000.0, 0.0, 0.0
        self.share = 0.0

    def run(self, sec: float) -> None:
        self.now += sec
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
    monkeypatch.setattr("support.waiting.time", SimpleNamespace(monotonic=lambda: machine.now))
    monkeypatch.setattr("support.waiting._count_ticks", lambda: (int(machine.stolen), int(machine.every)))
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
