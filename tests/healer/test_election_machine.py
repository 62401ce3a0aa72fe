"""Several healers, buses, services and clocks, whatever happens to them, against what really happened."""

import functools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition

from support.examples import examples
from support.simulation.leaders import Fleet, simulated
from support.simulation.machines import SERVICES, buses, modern, services, steps

places = st.sampled_from("ABC")
ends = st.sampled_from(["kill", "terminate", "stall", "cut", "cut_home"])
step = steps(0.1, 1.0, 3.0, 8.0, 0.0, 20.0)


def of_healer(**what):
    """A rule on a healer that runs, after which some time passes."""

    def wrap(do):
        @functools.wraps(do)
        def on_who_runs(self, place: str, **drawn) -> None:
            running = sorted(self.fleet.healers)
            do(self, running["ABC".index(place) % len(running)], **drawn)

        return precondition(lambda self: self.fleet.healers)(step(place=places, **what)(on_who_runs))

    return wrap


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.simulated = simulated()
        self.simulated.__enter__()

    @initialize(lease=st.sampled_from([1.0, 2.5]), healers=st.sampled_from(["AB", "ABC"]))
    def begin(self, lease: float, healers: str) -> None:
        self.fleet = Fleet(*SERVICES, lease_sec=lease, healers=healers)
        self.fleet.run(1.0)

    def teardown(self) -> None:
        try:
            if hasattr(self, "fleet"):
                try:
                    self.fleet.settle()
                finally:
                    self.fleet.close()
        finally:
            self.simulated.__exit__(None, None, None)

    # -- services

    @step(svc=services)
    def die(self, svc: str) -> None:
        for instance in self.fleet.instances[svc]:
            instance.running = False

    @step(svc=services)
    def start(self, svc: str) -> None:
        self.fleet.instances[svc][0].start(self.fleet.t)

    @step(svc=services, sec=st.sampled_from([3.0, 8.0, 15.0]))
    def go_and_come_back(self, svc: str, sec: float) -> None:
        self.die_and_run(svc, sec)
        self.fleet.instances[svc][0].start(self.fleet.t)

    def die_and_run(self, svc: str, sec: float) -> None:
        for instance in self.fleet.instances[svc]:
            instance.running = False
        self.fleet.run(sec)

    @step(svc=services, sec=st.sampled_from([0.5, 1.9, 4.0]))
    def hang(self, svc: str, sec: float) -> None:
        for instance in self.fleet.instances[svc]:
            instance.next_at += sec

    @step(svc=modern)
    def say_goodbye(self, svc: str) -> None:
        instance = self.fleet.instances[svc][0]
        if instance.running:
            instance.beat(self.fleet.buses[instance.watch.bus], self.fleet.t, "stopping")
            instance.running = False

    @step(svc=services, runs=st.booleans())
    def second_instance(self, svc: str, runs: bool) -> None:
        twin = self.fleet.instances[svc][1]
        if runs and not twin.running:
            twin.start(self.fleet.t)
        twin.running = runs

    @step(svc=modern, back=st.integers(0, 5))
    def replay(self, svc: str, back: int) -> None:
        self.fleet.replay(svc, back)

    @step(svc=services, sec=st.sampled_from([3600.0, -3600.0, 7.0]))
    def step_wall_of_service(self, svc: str, sec: float) -> None:
        self.fleet.instances[svc][0].wall += sec

    # -- buses

    @step(name=buses)
    def freeze(self, name: str) -> None:
        self.fleet.freeze(name)

    @step(name=buses)
    def stop_bus(self, name: str) -> None:
        self.fleet.stop_bus(name)

    @step(name=buses, reason=st.sampled_from(["readonly", "oom"]))
    def refuse(self, name: str, reason: str) -> None:
        self.fleet.refuse(name, reason)

    @step(name=buses)
    def mend_bus(self, name: str) -> None:
        self.fleet.mend_bus(name)

    @step(name=buses)
    def lose_lease(self, name: str) -> None:
        self.fleet.lose_lease(name)

    # -- healers

    @precondition(lambda self: len(self.fleet.healers) < len(self.fleet.runs))
    @step(place=places)
    def start_healer(self, place: str) -> None:
        away = sorted(self.fleet.runs.keys() - self.fleet.healers)
        self.fleet.start_healer(away["ABC".index(place) % len(away)])

    @of_healer()
    def kill(self, name: str) -> None:
        self.fleet.kill(name)

    @of_healer()
    def terminate(self, name: str) -> None:
        self.fleet.terminate(name)

    @of_healer(away=st.sampled_from([0.0, 0.5, 4.0]))
    def restart(self, name: str, away: float) -> None:
        self.fleet.kill(name)
        self.fleet.run(away)
        self.fleet.start_healer(name)

    @of_healer(sec=st.sampled_from([0.3, 0.9, 1.3, 5.0, 15.0]), input_first=st.booleans())
    def stall(self, name: str, sec: float, input_first: bool) -> None:
        self.fleet.stall(name, sec, input_first=input_first)

    @of_healer(bus=buses, how=st.sampled_from(["refuse", "swallow"]))
    def cut(self, name: str, bus: str, how: str) -> None:
        self.fleet.cut(name, bus, how)

    @of_healer(how=st.sampled_from(["refuse", "swallow"]))
    def cut_off(self, name: str, how: str) -> None:
        for bus in "xy":
            self.fleet.cut(name, bus, how)

    @of_healer(bus=buses, sec=st.sampled_from([0.002, 0.2, 0.8, 1.2]))
    def delay(self, name: str, bus: str, sec: float) -> None:
        self.fleet.delay(name, bus, sec)

    @of_healer()
    def heal(self, name: str) -> None:
        self.fleet.heal(name)

    @of_healer(bus=buses)
    def end_session(self, name: str, bus: str) -> None:
        self.fleet.end_session(name, bus)

    @of_healer(bus=buses)
    def lose_a_canary(self, name: str, bus: str) -> None:
        self.fleet.lose_canary(name, bus)

    @precondition(lambda self: self.fleet.healers)
    @step(
        svc=services,
        early=st.sampled_from([0.05, 0.5, 2.0, 6.0]),
        how=ends,
        late=st.sampled_from([0.0, 0.3, 1.5, 6.0]),
        comes_back=st.booleans(),
    )
    def lose_the_leader_in_an_outage(
        self, svc: str, early: float, how: str, late: float, comes_back: bool
    ) -> None:
        """All is well, then a service goes, and the leader, at any moment of the outage."""
        fleet = self.fleet
        fleet.mend()
        fleet.instances[svc][0].start(fleet.t)
        fleet.run(6.0)
        leaders = [name for name, each in fleet.healers.items() if each.leads("x")]
        self.die_and_run(svc, early)
        for name in leaders:
            fleet.end(name, how)
        fleet.run(late)
        if comes_back:
            fleet.instances[svc][0].start(fleet.t)

    @precondition(lambda self: self.fleet.healers)
    @step(
        svc=services,
        how=ends,
        late=st.sampled_from([0.05, 0.5, 1.5]),
        comes_back=st.booleans(),
        of=st.sampled_from(["others", "leader"]),
    )
    def judge_apart(self, svc: str, how: str, late: float, comes_back: bool, of: str) -> None:
        """One has a gap shortly before a service is due, and the other has not; then the leader goes."""
        fleet, watch = self.fleet, self.fleet.watches[svc]
        fleet.mend()
        fleet.instances[svc][0].start(fleet.t)
        fleet.run(6.0)
        leaders = [name for name, each in fleet.healers.items() if each.leads("x")]
        self.die_and_run(svc, 0.7 * watch.timeout_sec)
        for name in fleet.healers:
            if (name in leaders) is (of == "leader"):
                fleet.end_session(name, watch.bus)
        fleet.run(0.4 * watch.timeout_sec)
        for name in leaders:
            fleet.end(name, how)
        fleet.run(late)
        if comes_back:
            fleet.instances[svc][0].start(fleet.t)

    @step()
    def mend_all(self) -> None:
        self.fleet.mend()

    @of_healer(sec=st.sampled_from([3600.0, -3600.0, 7.0]))
    def step_wall(self, name: str, sec: float) -> None:
        self.fleet.step_wall(name, sec)


TestMachine = pytest.mark.timeout(900)(Machine.TestCase)  # a busy machine may take ten times as long
TestMachine.settings = settings(stateful_step_count=20, max_examples=examples(15))
