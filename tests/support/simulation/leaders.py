"""Healers in a small world: the real monitor and the real lease, in simulated time, over simulated servers.

Whatever the machine of `test_election_machine.py` does to them, these claims hold against the truth:

- who tells leads on that bus at that moment, epochs grow, and misses and oks are told in turn;
- no service is missed that was not silent for its timeout (a warm-up, where hearing had a gap lately);
- who is silent is told down, and who is back is told up, in the time that a change of leaders may take, while
  there is a healer that nothing disturbs;
- no bus is missed that such a healer hears;
- no time in which a healer reached no bus is told again on that bus, under another id;
- when all is mended, the roster is the truth, one healer leads everywhere, and nothing waits to be told.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

import marketswarm.bus.listener
from healer.election import LeaderElection
from marketswarm.beat import Beat, encode_beat, parse_beat
from marketswarm.detector import Moment, State, Subject, Verdict
from marketswarm.detector.rule import compute_warm_up_sec
from marketswarm.monitor import Monitor, VerdictEncoder
from marketswarm.monitor.encoder import roster_field
from marketswarm.truth import Watch
from support.simulation.event_loop import Loop, Time, World
from support.simulation.server import LEASE, ROSTER, Link, Server, SmallSession
from support.simulation.world import WALL, Key, Service

FLEET_LEASE = "marketswarm.bus.fleet_lease"
HOME = "x"
BUS_TIMEOUT_SEC = 4.0
SLACK_SEC = 4.0
"""For what comes before a healer is whole again: pauses, a new session, its canaries, a witness, a retry."""
CHECK_EVERY_SEC = 0.5


class Quiet:
    """A log that nobody reads."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_args, **_kwargs: None


@contextlib.contextmanager
def simulated() -> Iterator[None]:
    """Time and sessions of the modules under test are those of a small world."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith(("marketswarm.monitor", "marketswarm.bus.listener", FLEET_LEASE, "healer.")):
                if getattr(module, "time", None) is time:
                    patch.setattr(module, "time", Time)
                if hasattr(module, "log"):
                    patch.setattr(module, "log", Quiet())
        patch.setattr(marketswarm.bus.listener, "SubscriberConnection", SmallSession)
        yield


@dataclass
class Concluded:
    """A verdict of one healer: when, and what would make it false."""

    at: float
    lie: str | None


class Watcher(Monitor):
    """A monitor that shows what it concludes."""

    def __init__(self, process: "Process", *args: Any, **kwargs: Any) -> None:
        self._process = process
        super().__init__(*args, **kwargs)

    def publish(self, verdict: Verdict) -> None:
        self._process.concludes(verdict)
        super().publish(verdict)


class Process:
    """One healer; `name` is its place, `boot` its run."""

    def __init__(self, fleet: "Fleet", name: str, run: int, wall: float) -> None:
        self.fleet, self.place, self.boot = fleet, name, f"{name}{run}"
        self.name = "healer"
        self.loop = Loop(fleet.world, WALL + wall)
        self.links = {bus: Link(fleet.world, self.loop, server) for bus, server in fleet.buses.items()}
        self.started_at = fleet.t
        self.gaps_at: dict[str, list[float]] = {bus: [] for bus in fleet.buses}
        self.heard_at: dict[str, float] = {}
        self.concluded: dict[tuple[str, str, float], Concluded] = {}
        self.election: LeaderElection
        self.monitor: Watcher
        self.ending = False
        self.slow_until = 0.0  # by when whatever came over a slow link has come
        self.main = self.loop.create_task(self._main())
        self.loop.step()

    async def _main(self) -> None:
        fleet = self.fleet
        notices = VerdictEncoder(family="heartbeat", by="healer", channel="healer:alerts")
        agent = SimpleNamespace(
            boot=self.boot,
            settings=SimpleNamespace(healer_lease_sec=fleet.lease_sec),
            set_detail=lambda _: None,
            set_degraded=lambda _, **_part: None,
        )
        self.election = LeaderElection(cast("Any", agent), HOME)
        self.monitor = Watcher(self, self, notices, home=HOME, leadership=self.election)
        self._eavesdrop()
        self.election.monitor = self.monitor
        buses = dict.fromkeys(fleet.buses, BUS_TIMEOUT_SEC)
        self.monitor.set_roster(list(fleet.watches.values()), listen_to=buses, publish_to=fleet.buses)
        self.election.set_buses(self.links)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.election.run())
                await self.monitor.run()
        finally:
            await self.election.release()

    def _eavesdrop(self) -> None:
        feed, detector = self.monitor.feed, self.monitor.detector
        heard, canary_heard = feed.on_messages, feed.on_canary_received

        def hears(bus: str, messages: Any, now: Moment) -> Any:
            messages = list(messages)
            for _, channel, payload in messages:
                svc = channel.decode().removesuffix(":heartbeat")
                if svc in detector.services and self.fleet.is_new(svc, payload):
                    self.heard_at[svc] = self.fleet.t
            return heard(bus, messages, now)

        def hears_canary(bus: str, number: int, now: Moment, worked_sec: float) -> None:
            clock = detector.buses[bus].clock
            before = clock.is_listening
            canary_heard(bus, number, now, worked_sec)
            if clock.is_listening and not before:
                self.gaps_at[bus].append(self.fleet.t)

        feed.on_messages, feed.on_canary_received = hears, hears_canary

    # -- the owner of its monitor

    def bus(self, name: str) -> Link:
        return self.links[name]

    def progress(self) -> None:
        pass

    def set_degraded(self, _detail: str | None) -> None:
        pass

    # -- what it does

    def concludes(self, verdict: Verdict) -> None:
        lie = self.fleet.lie_of(self, verdict)
        self.concluded[roster_field(verdict), str(verdict.state), round(verdict.ts, 3)] = Concluded(
            self.fleet.t, lie
        )

    def step(self) -> None:
        self.loop.step()
        if self.main.done() and not self.ending:
            self.main.result()
            raise AssertionError("a healer that ends by itself")

    @property
    def well(self) -> bool:
        """Whether nothing keeps it from hearing and reaching all, in itself or on its ways."""
        awake = self.loop.asleep_until <= self.fleet.t
        return (
            not self.ending
            and awake
            and all(link.cut is None and link.latency < 0.3 for link in self.links.values())
        )

    def leads(self, bus: str) -> bool:
        lease = self.fleet.buses[bus].hash(LEASE)
        fence = self.election.fence(bus)
        return fence is not None and (lease.get("boot"), lease.get("epoch")) == (
            fence.boot.encode(),
            b"%d" % fence.epoch,
        )

    def terminate(self) -> None:
        """SIGTERM: it gives back what it holds."""
        self.ending = True
        self.main.cancel()

    def kill(self) -> None:
        """SIGKILL: whatever it does in its end reaches nobody."""
        self.ending = True
        for link in self.links.values():
            link.hang_up()
        self.loop.asleep_until = 0.0
        self.main.cancel()
        self.loop.step()
        assert self.main.done(), "it lives on"
        self.close()

    def close(self) -> None:
        if not self.main.cancelled():
            self.main.exception()
        self.loop.close()


@dataclass
class Instance(Service):
    """A service's process with a wall clock of its own."""

    wall: float = 0.0
    arrived: list[float] = field(default_factory=list)

    def beat(self, bus: Server, now: float, status: str = "ok") -> None:
        self.i += 1
        boot = f"boot-{self.boot}" if self.modern else None
        payload = encode_beat(Beat(self.svc, self.i, WALL + self.wall + now, boot=boot, status=status))
        bus.take(partial(self._arrive, bus, payload, status), now)
        self.next_at = now + self.watch.interval_sec

    def _arrive(self, bus: Server, payload: bytes, status: str, at: float) -> None:
        if status == "ok":
            self.sent.append(payload)
            self.lived_at = at
            self.arrived.append(at)
        bus.publish(self.watch.channel, payload, at)
        if self.modern and status == "ok":
            bus.keys[self.svc] = Key(payload, at, 2 * self.watch.timeout_sec)
        elif self.modern and (key := bus.keys.get(self.svc)) is not None and bus.refusing is None:
            key.payload = payload


@dataclass
class Ledger:
    """What was told on one bus."""

    events: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    gaps: list[dict[str, Any]] = field(default_factory=list)

    def kinds(self, name: str) -> list[str]:
        return [event["type"].partition("_")[2] for _, each, event in self.events if each == name]


class Fleet:
    """Moved by `run`; everything else breaks or mends something."""

    def __init__(self, *services: tuple[Watch, bool], lease_sec: float = 1.0, healers: str = "AB") -> None:
        self.world = World()
        self.lease_sec = lease_sec
        self.ledgers = {name: Ledger() for name in "xy"}
        self.buses = {name: Server(name, self.is_told) for name in "xy"}
        self.watches = {watch.svc: watch for watch, _ in services}
        self.modern = {watch.svc: modern for watch, modern in services}
        self.instances = {
            watch.svc: [Instance(watch, modern, boot=1000 * n + 1) for n in range(2)]
            for watch, modern in services
        }
        self.runs = dict.fromkeys(healers, 0)
        self.wall = dict.fromkeys(healers, 0.0)
        self.healers: dict[str, Process] = {}
        self.ended: list[Process] = []
        self.by_boot: dict[str, Process] = {}
        self.unreached: dict[str, tuple[float, float]] = {}  # the times of each `reach_gap`, by its id
        self.calm_since = 0.0
        self.refused_at = dict.fromkeys(self.buses, float("-inf"))
        self.back_at = dict.fromkeys(self.watches, 0.0)
        self.heard_last = dict.fromkeys(self.watches, 0.0)
        for twin in [each[1] for each in self.instances.values()]:
            twin.running = False
        for name in healers[:2]:
            self.start_healer(name)
        self.world.at(CHECK_EVERY_SEC, self.check)

    @property
    def t(self) -> float:
        return self.world.t

    # -- time

    def run(self, sec: float) -> None:
        until = self.t + sec
        world = self.world
        services = [each for some in self.instances.values() for each in some]
        while True:
            at, do = world.next_at(), world.do_next
            for each in services:
                if each.running and each.next_at < at:
                    at, do = each.next_at, partial(self._beat, each)
            for each in (*self.healers.values(), *self.ended):
                if (its := each.loop.next_at()) < at:
                    at, do = its, each.step
            if at > until:
                break
            world.t = max(world.t, at)
            do()
            for each in [each for each in self.ended if each.main.done()]:
                self.ended.remove(each)
                each.close()
        world.t = until

    def _beat(self, instance: Instance) -> None:
        instance.beat(self.buses[instance.watch.bus], self.t)

    def close(self) -> None:
        for each in (*self.healers.values(), *self.ended):
            each.kill()

    # -- the truth

    def lived_at(self, svc: str) -> float:
        return max(each.lived_at for each in self.instances[svc])

    def back_after(self, svc: str) -> float:
        """How long it had been silent before its last beat, if that is a short while ago; else nothing."""
        beats = sorted(at for each in self.instances[svc] for at in each.arrived[-2:])[-2:]
        return beats[1] - beats[0] if len(beats) == 2 and self.t - beats[1] < 1.5 else 0.0

    def is_new(self, svc: str, payload: bytes) -> bool:
        return any(payload in each.sent for each in self.instances[svc])

    def lie_of(self, process: Process, verdict: Verdict) -> str | None:
        """What is false of a miss, as it is concluded; None if it is true."""
        if verdict.subject is not Subject.SERVICE or verdict.state is not State.DOWN:
            return None
        watch, svc = self.watches[verdict.svc], verdict.svc
        timeout, warm = watch.timeout_sec, compute_warm_up_sec(watch.interval_sec, watch.timeout_sec)
        lately = self.t - 2 * timeout - warm
        gaps = sum(at > lately for at in process.gaps_at[watch.bus])
        lived_at, need = self.lived_at(svc), timeout if not gaps else warm
        if self.modern[svc] and self.refused_at[watch.bus] < lately:
            need = timeout if process.started_at < lately and not gaps else warm
        elif gaps > 1:
            # beats that always fall into gaps are known to nobody
            lived_at = process.heard_at.get(svc, float("-inf"))
        if self.t - lived_at >= need - 1e-6:
            return None
        if self.t < process.slow_until and self.back_after(svc) >= need - 1e-6:
            return None  # what it learned was true when it was asked
        return f"{svc} beat {self.t - lived_at} s before {process.boot} concluded it missed at {self.t}"

    def undisturbed(self) -> list[Process]:
        return [each for each in self.healers.values() if each.well]

    def is_told(self, server: Server, fence: tuple[str, int], name: str, raw: bytes, channel: str) -> None:
        """What was just told: by whom, in what order, and whether it is true."""
        ledger, lease = self.ledgers[server.name], server.hash(LEASE)
        boot, epoch = fence
        assert (lease.get("boot"), lease.get("epoch")) == (boot.encode(), b"%d" % epoch), "two voices"
        assert not ledger.epochs or epoch >= ledger.epochs[-1], f"epochs fall: {ledger.epochs[-1]}, {epoch}"
        ledger.epochs.append(epoch)
        if not channel:
            return
        event = orjson.loads(raw)
        kind = event["type"].partition("_")[2]
        if kind == "gap":
            assert event["id"] not in {each["id"] for each in ledger.gaps}, f"told twice: {event}"
            if name.startswith("reach:"):
                self.is_told_once(ledger, self.by_boot[boot], name, event)
            ledger.gaps.append(event)
            return
        for duration in ("down_sec", "late_sec", "age_sec"):
            assert event.get(duration, 0.0) >= -0.01, f"before its beginning: {event}"
        told = ledger.kinds(name)
        assert (told[-1:] == ["miss"]) is (kind != "miss"), f"out of turn: {told}, {event}"
        process = self.by_boot[boot]
        concluded = process.concluded[name, "down" if kind == "miss" else "up", event["ts"]]
        ledger.events.append((self.t, name, event))
        assert concluded.lie is None, concluded.lie
        if name.startswith("bus:") and kind == "miss":
            self.is_lost(name.removeprefix("bus:"), concluded.at)

    def is_told_once(self, ledger: Ledger, process: Process, name: str, event: dict[str, Any]) -> None:
        """Of a time without any bus: no other id on this bus stands for a part of it."""
        if event["id"] not in self.unreached:
            until = process.concluded[name, "up", event["ts"]].at
            self.unreached[event["id"]] = (until - event["gap_sec"], until)
        begun, until = self.unreached[event["id"]]
        for known in (self.unreached[each["id"]] for each in ledger.gaps if each["type"] == event["type"]):
            # a healer whose clock was set can't know
            is_apart = until <= known[0] + 0.5 or known[1] <= begun + 0.5
            assert is_apart or any(self.wall.values()), f"{known} is told again as {begun, until}: {event}"

    def is_lost(self, bus: str, at: float) -> None:
        """No healer is undisturbed that hears it."""
        calm = at - self.calm_since >= max(BUS_TIMEOUT_SEC, self.lease_sec + 1) - 1e-3
        hears = [each.boot for each in self.undisturbed()] if self.buses[bus].well else []
        assert not (calm and hears), f"{bus} is missed, and {hears} hear it"

    # -- what must come in time

    def check(self) -> None:
        self.world.at(self.t + CHECK_EVERY_SEC, self.check)
        for svc, watch in self.watches.items():
            lived_at = self.lived_at(svc)
            if lived_at - self.heard_last[svc] > 1.5 * watch.interval_sec:
                self.back_at[svc] = lived_at
            self.heard_last[svc] = max(self.heard_last[svc], lived_at)
        self.deafness_is_told()
        if not self.undisturbed() or not self.buses[HOME].well:
            return
        for watch in self.watches.values():
            if self.buses[watch.bus].well:
                self.is_told_in_time(watch)
        for teller in self.buses.values():
            for bus in self.buses.values():
                if bus is not teller and teller.well:
                    self.bus_is_told_in_time(bus, self.roster(teller.name).get(f"bus:{bus.name}", "up"))

    def deafness_is_told(self) -> None:
        """A bus that no healer can reach is lost to all, however well it is."""
        awake = [each for each in self.healers.values() if each.loop.asleep_until <= self.t]
        calm = self.t - self.calm_since > self.late_sec + BUS_TIMEOUT_SEC
        if calm and len(awake) == len(self.healers) > 0 and all(bus.well for bus in self.buses.values()):
            for lost, teller in (("x", "y"), ("y", "x")):
                if all(each.links[lost].cut and each.links[teller].well for each in awake):
                    state = self.roster(teller).get(f"bus:{lost}")
                    assert state == "down", f"nobody hears {lost}, and it is told {state}"

    @property
    def late_sec(self) -> float:
        """What finding a leader may cost."""
        return self.lease_sec + 1 + SLACK_SEC

    def is_told_in_time(self, watch: Watch) -> None:
        calm, svc = self.t - self.calm_since, watch.svc
        most = watch.timeout_sec + compute_warm_up_sec(watch.interval_sec, watch.timeout_sec) + self.late_sec
        silent, back = self.t - self.lived_at(svc), self.t - self.back_at[svc]
        state = self.roster(HOME).get(svc)
        if min(calm, silent) > most:
            assert state == "down", f"{svc} is silent for {silent} s, and {state}"
        if silent <= watch.interval_sec + 0.1 and min(calm, back) > watch.interval_sec + self.late_sec:
            assert state == "up", f"{svc} beats again for {back} s, and is {state}"

    def bus_is_told_in_time(self, bus: Server, state: str) -> None:
        if self.t - self.calm_since > self.late_sec + (0 if bus.well else BUS_TIMEOUT_SEC):
            assert state == ("up" if bus.well else "down"), f"{bus.name} is told {state}"

    def roster(self, bus: str) -> dict[str, str]:
        return {name: orjson.loads(value)["verdict"] for name, value in self.buses[bus].hash(ROSTER).items()}

    def mend(self) -> None:
        """All buses and ways are whole again, who slept is awake, and there are two healers."""
        for name in self.buses:
            self.mend_bus(name)
        for each in self.healers.values():
            self.heal(each.place)
            each.loop.asleep_until = min(each.loop.asleep_until, self.t)
        for name in "AB":
            if len(self.healers) < 2 and name not in self.healers:
                self.start_healer(name)

    def settle(self) -> None:
        """Mends all, and lets it be until nothing can be left to tell."""
        self.mend()
        longest = max(2 * watch.timeout_sec for watch in self.watches.values())
        self.run(longest + self.lease_sec + 1 + SLACK_SEC + 1)
        self.is_settled()

    def is_settled(self) -> None:
        roster = self.roster(HOME)
        for svc, watch in self.watches.items():
            beats = any(each.running for each in self.instances[svc])
            if beats == (self.t - self.lived_at(svc) <= watch.interval_sec + 0.1):
                assert roster.get(svc) == ("up" if beats else "down"), f"{svc}: {roster.get(svc)}, {beats=}"
        leaders = {
            bus: [each.boot for each in self.healers.values() if each.leads(bus)] for bus in self.buses
        }
        assert leaders["x"] == leaders["y"], f"leaders: {leaders}"
        assert len(leaders["x"]) == 1, f"leaders: {leaders}"
        for each in self.healers.values():
            for bus, link in each.monitor.links.items():
                assert len(link.publisher) == 0, f"{each.boot} has {len(link.publisher)} untold on {bus}"
            detector = each.monitor.detector
            states = {svc: str(record.state) for svc, record in detector.services.items()}
            assert states == {svc: roster[svc] for svc in states}, f"{each.boot} believes {states}: {roster}"
            assert all(bus.state is State.UP for bus in detector.buses.values())

    # -- what is done to it

    def disturbed(self) -> None:
        self.calm_since = self.t

    def start_healer(self, name: str) -> None:
        self.disturbed()
        self.runs[name] += 1
        process = Process(self, name, self.runs[name], self.wall[name])
        self.healers[name] = self.by_boot[process.boot] = process

    def kill(self, name: str) -> None:
        self.disturbed()
        self.healers.pop(name).kill()

    def terminate(self, name: str) -> None:
        self.disturbed()
        process = self.healers.pop(name)
        process.terminate()
        self.ended.append(process)

    def end(self, name: str, how: str) -> None:
        """Takes its lead from a healer, in one way or another."""
        if how == "stall":
            self.stall(name, 6.0)
        elif how == "cut":
            for bus in self.buses:
                self.cut(name, bus, "swallow")
        elif how == "cut_home":
            self.cut(name, HOME, "refuse")
        else:
            getattr(self, how)(name)

    def stall(self, name: str, sec: float, *, input_first: bool = True) -> None:
        self.disturbed()
        loop = self.healers[name].loop
        loop.asleep_until, loop.input_first = max(loop.asleep_until, self.t + sec), input_first
        self.world.at(loop.asleep_until, self.disturbed)

    def cut(self, name: str, bus: str, how: str) -> None:
        self.disturbed()
        self.healers[name].links[bus].do_cut(how)

    def delay(self, name: str, bus: str, sec: float) -> None:
        self.disturbed()
        self.healers[name].links[bus].latency = sec
        self.healers[name].slow_until = float("inf")

    def heal(self, name: str) -> None:
        self.disturbed()
        self.healers[name].slow_until = min(self.healers[name].slow_until, self.t + 3.0)
        for link in self.healers[name].links.values():
            link.cut, link.latency = None, 0.002

    def end_session(self, name: str, bus: str) -> None:
        self.disturbed()
        session = self.healers[name].links[bus].session
        if session is not None:
            session.end("refused")

    def lose_canary(self, name: str, bus: str) -> None:
        self.disturbed()
        session = self.healers[name].links[bus].session
        if session is not None:
            session.loses = True

    def step_wall(self, name: str, sec: float) -> None:
        self.wall[name] += sec
        if name in self.healers:
            self.healers[name].loop.wall += sec

    def stop_bus(self, name: str) -> None:
        self.disturbed()
        self.buses[name].stop()

    def freeze(self, name: str) -> None:
        self.disturbed()
        self.buses[name].frozen = self.buses[name].up

    def refuse(self, name: str, reason: str) -> None:
        self.disturbed()
        self.buses[name].refusing = reason

    def mend_bus(self, name: str) -> None:
        self.disturbed()
        bus = self.buses[name]
        if bus.refusing is not None:
            self.refused_at[name] = self.t
        bus.up, bus.refusing = True, None
        bus.thaw(self.t)

    def lose_lease(self, name: str) -> None:
        self.disturbed()
        self.buses[name].hash(LEASE).clear()
        self.ledgers[name].epochs.clear()

    def replay(self, svc: str, back: int) -> None:
        """An old payload once more, if every healer can know it for one."""
        sent = self.instances[svc][0].sent
        if not sent or not self.modern[svc]:
            return
        payload = sent[-1 - back % len(sent)]
        beat = parse_beat(payload, svc)
        for each in self.healers.values():
            record = each.monitor.detector.services[svc]
            if each.monitor.detector.is_restoring or record.instances.to_dict().get(beat.boot, -1) < beat.i:
                return
        bus = self.buses[self.watches[svc].bus]
        bus.take(lambda at: bus.publish(self.watches[svc].channel, payload, at), self.t)
