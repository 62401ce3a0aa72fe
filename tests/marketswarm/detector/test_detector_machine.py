"""Detector against the oracle and the ground truth, whatever happens to buses, services and the healer."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from marketswarm.detector import State
from support.examples import examples
from support.simulation.fleet import Fleet
from support.simulation.machines import SERVICES, buses, modern, services, steps
from support.simulation.world import WALL

orders = st.permutations(["deliver", "canary", "look", "rest"])
step = steps(0.1, 1.0, 3.0, 8.0, 0.0)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.fleet = Fleet(*SERVICES)

    @rule(sec=st.sampled_from([1.0, 20.0, 5.0]))
    def run(self, sec: float) -> None:
        self.fleet.run(sec)

    # -- services

    @step(svc=services)
    def die(self, svc: str) -> None:
        self.fleet.services[svc].running = False

    @step(svc=services)
    def start(self, svc: str) -> None:
        self.fleet.services[svc].start(self.fleet.t)

    @step(svc=services, sec=st.sampled_from([0.5, 1.9, 4.0]))
    def hang(self, svc: str, sec: float) -> None:
        self.fleet.services[svc].next_at += sec

    @step(svc=modern, fresh=st.booleans())
    def say_goodbye(self, svc: str, *, fresh: bool) -> None:
        service = self.fleet.services[svc]
        if service.running:
            service.beat(self.fleet.buses[service.watch.bus], self.fleet.t, "stopping", fresh=fresh)
            service.running = False

    @step(svc=modern, back=st.integers(0, 5))
    def replay(self, svc: str, back: int) -> None:
        self.fleet.replay(svc, back)

    @step(svc=services, payload=st.sampled_from([b"", b"\xff", b'{"svc":"z","i":1,"ts":1}', b"x" * 5000]))
    def talk_nonsense(self, svc: str, payload: bytes) -> None:
        self.fleet.junk(svc, payload)

    # -- buses

    @step(name=buses)
    def freeze(self, name: str) -> None:
        self.fleet.buses[name].frozen = self.fleet.buses[name].up

    @step(name=buses)
    def stop_bus(self, name: str) -> None:
        self.fleet.stop_bus(name)

    @step(name=buses)
    def mend_bus(self, name: str) -> None:
        bus = self.fleet.buses[name]
        bus.up = True
        bus.thaw(self.fleet.t)

    @step(name=buses, sec=st.sampled_from([0.002, 0.3, 0.8, 1.2]))
    def delay(self, name: str, sec: float) -> None:
        self.fleet.buses[name].latency = sec

    @step(name=buses)
    def cut_session(self, name: str) -> None:
        self.fleet.cut(name)

    @step(name=buses, times=st.integers(3, 12), every=st.sampled_from([0.6, 1.5, 2.5]))
    def cut_again_and_again(self, name: str, times: int, every: float) -> None:
        for _ in range(times):
            self.fleet.cut(name)
            self.fleet.run(every)

    @step(name=buses)
    def replace_the_listener(self, name: str) -> None:
        self.fleet.replace_listener(name)

    @step(name=buses)
    def swallow(self, name: str) -> None:
        session = self.fleet.buses[name].session
        if session is not None:
            session.muted = True

    @step(svc=modern)
    def lose_a_subscription(self, svc: str) -> None:
        watch = self.fleet.services[svc].watch
        session = self.fleet.buses[watch.bus].session
        if session is not None:
            session.lost_channels.add(watch.channel)

    @step(name=buses)
    def lose_a_canary(self, name: str) -> None:
        self.fleet.lose_canary(name)

    # -- the healer

    @precondition(lambda self: self.fleet.healer is not None)
    @step(sec=st.sampled_from([0.9, 1.3, 5.0, 15.0]), order=orders)
    def stall(self, sec: float, order: list[str]) -> None:
        self.fleet.stall(sec, order)

    @precondition(lambda self: self.fleet.healer is not None)
    @step(sec=st.sampled_from([0.002, 0.4]))
    def ask_slowly(self, sec: float) -> None:
        self.fleet.healer.ask_sec = sec

    @precondition(lambda self: self.fleet.healer is not None)
    @step(away=st.sampled_from([0.0, 0.5, 4.0, 30.0]))
    def restart(self, away: float) -> None:
        self.fleet.restart_healer(away)

    @precondition(lambda self: self.fleet.healer is not None)
    @step(times=st.integers(2, 8), sec=st.sampled_from([1.2, 2.0]))
    def restart_again_and_again(self, times: int, sec: float) -> None:
        for _ in range(times):
            self.fleet.restart_healer(0.2)
            self.fleet.run(sec)

    # -- the truth

    @step(svc=services, interval=st.sampled_from([0.5, 1.0, 1.8]), timeout=st.sampled_from([2.0, 3.0, 7.0]))
    def change(self, svc: str, interval: float, timeout: float) -> None:
        self.fleet.change(svc, interval_sec=interval, timeout_sec=timeout)

    @step(svc=services, sec=st.sampled_from([1.0, 2.5]), timeout=st.sampled_from([2.0, 3.0]))
    def change_while_it_hangs(self, svc: str, sec: float, timeout: float) -> None:
        self.fleet.services[svc].next_at += 2 * timeout + sec
        self.fleet.run(sec)
        self.fleet.change(svc, interval_sec=0.7, timeout_sec=timeout)

    @precondition(lambda self: self.fleet.healer is not None)
    @step(svc=services, timeout=st.sampled_from([2.0, 3.0, 7.0]), away=st.sampled_from([0.2, 2.0]))
    def deploy(self, svc: str, timeout: float, away: float) -> None:
        """A healer and another timeout come together."""
        self.fleet.kill_healer()
        self.fleet.run(away)
        self.fleet.change(svc, interval_sec=0.7, timeout_sec=timeout)
        self.fleet.start_healer()

    @precondition(lambda self: self.fleet.healer is not None)
    @step(svc=services, sec=st.sampled_from([1.0, 4.0]), back=st.sampled_from([0.5, 2.5]))
    def restart_it_right_after_a_gap(self, svc: str, sec: float, back: float) -> None:
        """Its bus takes its beats, which nobody hears; then it says goodbye, and begins anew."""
        service = self.fleet.services[svc]
        name = service.watch.bus
        self.fleet.cut(name)
        self.fleet.healer.open_at[name] = self.fleet.t + sec
        self.fleet.run(sec + 0.4)
        service.beat(self.fleet.buses[name], self.fleet.t, "stopping")
        service.running = False
        self.fleet.run(back)
        service.start(self.fleet.t)

    @step(svc=services, bus=buses)
    def move(self, svc: str, bus: str) -> None:
        self.fleet.change(svc, bus=bus)

    @step(svc=services)
    def drop(self, svc: str) -> None:
        self.fleet.drop(svc)

    @step(svc=services)
    def add(self, svc: str) -> None:
        self.fleet.add(svc)


TestMachine = pytest.mark.timeout(900)(Machine.TestCase)  # a busy machine may take ten times as long
TestMachine.settings = settings(max_examples=examples(40), stateful_step_count=30)


def test_who_says_goodbye_while_the_healer_restarts_is_missed_after_a_warm_up_of_the_next_run():
    fleet = Fleet(*SERVICES)
    fleet.run(7.3)
    fleet.cut("x")
    service = fleet.services["a"]
    service.beat(fleet.buses["x"], fleet.t, "stopping")
    service.running = False
    fleet.restart_healer(0.0)
    fleet.run(8.0)
    ((_, miss),) = [told for told in fleet.ledger if told[1].svc == "a"]
    assert (miss.state, miss.reason) == (State.DOWN, "stopped")
    assert 2.25 <= miss.ts - WALL - service.lived_at < service.watch.timeout_sec
