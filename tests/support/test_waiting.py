"""Limits of waits on a machine that does not have all of its processors all of the time."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from support.processors import ProcessorGate, StolenShare
from support.waiting import Patience, Stopwatch

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


def test_a_stopwatch_tells_all_of_the_time_and_what_of_it_the_host_left(machine):
    watch = Stopwatch()
    machine.run(2)
    assert watch.own_sec == watch.sec == 2
    machine.share = 0.75
    machine.run(6)
    assert watch.sec == 8
    assert watch.own_sec == watch.own_sec == pytest.approx(8 - 4.5)


def test_the_share_is_that_since_the_last_look(machine):
    stolen = StolenShare()
    machine.share = 0.25
    machine.run(10)
    assert stolen.measure() == pytest.approx(0.25)
    machine.share = 0.0
    machine.run(10)
    assert stolen.measure() == 0.0
    assert stolen.measure() == 0.0  # no time at all has gone by


WORKERS = 6
HOLDER = """
import sys
from support.processors import ProcessorGate
gate = ProcessorGate(sys.argv[1], 1)
gate.enter()
print(gate.place, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def gate(machine, tmp_path):
    """The gate of one of six workers."""
    places = tmp_path / "places"
    places.touch()
    return ProcessorGate(str(places), WORKERS)


@pytest.mark.parametrize(
    ("share", "allowed"), [(0.0, 6), (0.05, 6), (0.2, 5), (0.35, 4), (0.5, 3), (0.7, 2), (0.99, 1), (1.0, 1)]
)
def test_as_many_tests_run_at_once_as_the_host_leaves_processors_for(gate, share, allowed):
    assert gate.count_allowed(share) == allowed


def test_none_begins_while_the_host_keeps_more_than_half_until_five_minutes_of_that_are_over(machine, gate):
    machine.share, machine.gives_back_at = 0.6, 1200
    machine.run(5)
    gate.enter()
    gate.leave()
    assert machine.now == pytest.approx(1200, abs=2)
    machine.share, machine.gives_back_at = 0.6, 9999
    machine.run(5)
    gate.enter()
    gate.leave()
    assert machine.now == pytest.approx(1310, abs=5), "195 s were had before"
    machine.run(5)
    begun = machine.now
    gate.enter()
    assert machine.now == begun, "nothing is left of them"


def test_a_run_without_workers_is_held_back_by_nothing(machine):
    machine.share = 1.0
    gate = ProcessorGate(None, 1)
    machine.run(10)
    gate.enter()
    gate.leave()
    assert machine.now == 1010


@pytest.mark.live  # a lock is one of a process: the others are processes, too
def test_a_test_begins_once_a_place_is_free_or_the_host_has_given_processors_back(machine, tmp_path):
    places = tmp_path / "places"
    places.touch()
    gate = ProcessorGate(str(places), 2)
    command = [sys.executable, "-c", HOLDER, str(places)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as other:
        assert other.stdout.readline() == "0\n"
        machine.share, machine.gives_back_at = 0.45, 1014
        machine.run(5)
        gate.enter()
        assert (gate.place, machine.now) == (1, pytest.approx(1014, abs=2 * gate.LOOK_SEC))
        gate.leave()
        machine.share, machine.gives_back_at = 0.45, 9999
        machine.run(5)
        other.kill()  # whoever has a place and ends has it no more
        other.wait()
        gate.enter()
        assert gate.place == 0
