"""The scene of most faults: two buses, services that only beat, real agents, and an oracle.

The oracle looks through the whole durable log of both buses at the end of every scene: each miss must be of a
service that was truly silent for its timeout, misses and oks must alternate, and no event may have two ids
nor be told twice on one bus. A test adds what *must* be told.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import orjson

from support.rig import AlertTail, Fleet, Proc, Server
from support.rig.beater import Beater
from support.waiting import PATIENT_SEC, fault_lasts, until

INTERVAL_SEC = 0.25
TIMEOUT_SEC = 1.5
WARM_UP_SEC = 1.125  # min(T, max(2 I, 0.75 T))
BUS_TIMEOUT_SEC = 2.0
SLACK = 3
"""So many times what is promised may pass on two busy cores. The bench measures the figures themselves."""

BUSES = ("system-redis", "market-redis")
OPENS = ("miss", "drift")


def service(bus: str = "system-redis", **heartbeat: Any) -> dict[str, Any]:
    """A section of the truth."""
    beats = {"interval_sec": INTERVAL_SEC, "redis_url": f"redis://{bus}:6379", **heartbeat}
    return {"heartbeat": beats}


def truth_of(
    services: Mapping[str, Mapping[str, Any]],
    *,
    timeout_sec: float = TIMEOUT_SEC,
    bus_timeout_sec: float = BUS_TIMEOUT_SEC,
) -> dict[str, Any]:
    """Return a truth with these sections, a healer and a sentinel."""
    watchers = {
        "healer": {
            "heartbeat": {"interval_sec": 0.5, "timeout_sec": 5},
            "access_points": {"publish_to": [{"bus": "system-redis", "key": "healer:alerts"}]},
            "threshold": {"heartbeat_cadence": timeout_sec, "bus_timeout_sec": bus_timeout_sec},
        },
    }
    return {"services": {**services, **watchers}}


class Scene(Fleet):
    """`with Scene(tmp_path, {"alpha": service()}) as scene:` - all services beat, and are seen up.

    `idle` names services of the truth that do not beat of themselves, `bare` those that leave no `beat:<svc>`
    behind, as a shell script would.
    """

    def __init__(
        self,
        folder: Path,
        services: Mapping[str, Mapping[str, Any]],
        agents: Iterable[str] = ("healer",),
        *,
        timeout_sec: float = TIMEOUT_SEC,
        bus_timeout_sec: float = BUS_TIMEOUT_SEC,
        idle: Iterable[str] = (),
        bare: Iterable[str] = (),
        env: Mapping[str, str] | None = None,
        server_clock: Mapping[str, str] | None = None,
        server_config: Mapping[str, str] | None = None,
    ) -> None:
        truth = truth_of(services, timeout_sec=timeout_sec, bus_timeout_sec=bus_timeout_sec)
        # short, so that a healer that comes after a killed one need not wait for it
        env = {"HEALER_LEASE_SEC": "0.5", **(env or {})}
        super().__init__(folder, truth, env=env, server_clock=server_clock, server_config=server_config)
        self.first = list(agents)
        self.idle, self.bare, self.timeout_sec = set(idle), set(bare), timeout_sec
        self.beaters: dict[str, Beater] = {}
        self.watched_anew: set[str] = set()  # dropped from the truth and taken in again

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.market_alerts = self.resources.enter_context(AlertTail(self.market.url))
            for svc, section in self.truth["services"].items():
                if svc not in (*self.idle, *self.first, "healer", "sentinel"):
                    self.beat(svc, section["heartbeat"])
            self._start_all()
            if "healer" in self.first:
                self.all_up()
        except BaseException:
            self.resources.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if error[0] is None:
                self.judge()
        finally:
            super().__exit__(*error)

    def program(self, module: str, name: str | None = None, **env: str) -> Proc:
        """Start one of tests/faults/programs, in place of the agent `name`."""
        path = str(Path(__file__).parents[2] / "faults" / "programs")
        program = Proc(module, {**self.env, "PYTHONPATH": path, **env}, self.folder)
        self.agents[name or module] = self.resources.enter_context(program)
        return program

    def _start_all(self) -> None:
        """Start the agents, the healer last: a service that is not up by then would be missed."""
        watched = [name for name in self.first if name not in ("healer", "sentinel")]
        for name in watched:
            self.start(name)
        if "healer" in self.first:
            for name in watched:
                until(lambda name=name: self.beats_now(name), what=f"a beat of {name}")
        for name in self.first:
            if name not in watched:
                self.start(name)

    # -- those who beat

    def beats_now(self, svc: str) -> bool:
        """Whether some bus holds its last beat."""
        return any(self.server(bus).cmd("EXISTS", f"beat:{svc}") for bus in BUSES)

    def last_beat(self, svc: str) -> dict[str, Any]:
        """Return what `beat:<svc>` says on the bus that has it; {} if none has."""
        found = (self.server(bus).cmd("GET", f"beat:{svc}") for bus in BUSES)
        return orjson.loads(next((raw for raw in found if raw), "{}"))

    def wait_beats(self, svc: str, count: int) -> None:
        """Wait until an agent, or the next run of it, has beaten so many times more."""
        begun = self.last_beat(svc)

        def are_there() -> bool:
            last = self.last_beat(svc)
            before = begun["i"] if last.get("boot") == begun.get("boot", "") else 0
            return last.get("i", 0) >= before + count

        until(are_there, what=f"{count} more beats of {svc}")

    def beat(self, svc: str, heartbeat: Mapping[str, Any]) -> Beater:
        """Has a service beat from now on, as its section says."""
        bus = heartbeat.get("redis_url", "//system-redis").split("/")[2].partition(":")[0]
        how = {
            "url": self.server(bus).url,
            "interval_sec": heartbeat.get("interval_sec", INTERVAL_SEC),
            "timeout_sec": heartbeat.get("timeout_sec", self.timeout_sec),
            "witness": svc not in self.bare,
        }
        beater = next((each for each in self.beaters.values() if each.how == how), None)
        if beater is None:
            beater = self.resources.enter_context(Beater(how=how))
        beater.restart(svc)
        self.beaters[svc] = beater
        return beater

    def stop_beating(self, *names: str) -> float:
        """Silences services; when the bus took the last beat of the last of them (epoch seconds)."""
        for name in names:
            self.beaters[name].stop(name)
        return max(self.beaters[name].last(name) for name in names)

    def beat_again(self, *names: str, boot: str = "same") -> float:
        """Lets them beat again; when the bus took the first new beat of the last of them."""
        counts = {name: len(self.beaters[name].beats[name]) for name in names}
        for name in names:
            (self.beaters[name].resume if boot == "same" else self.beaters[name].restart)(name)
        for name, count in counts.items():
            until(lambda name=name, n=count: len(self.beaters[name].beats[name]) > n, what=f"{name} to beat")
        return max(self.beaters[name].beats[name][count] for name, count in counts.items())

    # -- what is told

    def server(self, bus: str) -> Server:
        return self.system if bus == "system-redis" else self.market

    def tail(self, bus: str) -> AlertTail:
        return self.alerts if bus == "system-redis" else self.market_alerts

    def log(self, kind: str | None = None, svc: str | None = None, bus: str = "system-redis") -> list[dict]:
        """The events on a bus's `healer:alerts:log`, oldest first."""
        entries = self.server(bus).cmd("XRANGE", "healer:alerts:log", "-", "+")
        events = [
            orjson.loads(fields["event"] if isinstance(fields, dict) else fields[1]) for _, fields in entries
        ]
        return [e for e in events if kind in (None, e["type"]) and svc in (None, e["svc"])]

    def misses(self, bus: str = "system-redis") -> list[str]:
        """Who was missed, in order, but for those whose beater stood still (`is_of_a_stall`)."""
        missed = self.log("heartbeat_miss", bus=bus)
        return [event["svc"] for event in missed if not self.is_of_a_stall(event)]

    def wait_logged(
        self, kind: str, svc: str, *, bus: str = "system-redis", count: int = 1, within: float = PATIENT_SEC
    ) -> dict[str, Any]:
        """The `count`th such event of the durable log, waiting for it."""
        until(
            lambda: len(self.log(kind, svc, bus)) >= count,
            within,
            f"{kind} of {svc} (no. {count}) on {bus}; there are {self.log(bus=bus)[-5:]}",
        )
        return self.log(kind, svc, bus)[count - 1]

    def roster(self) -> dict[str, dict[str, Any]]:
        """What the healer holds of each service (and `bus:<name>`)."""
        found = self.system.cmd("HGETALL", "healer:roster")
        return {field: orjson.loads(value) for field, value in found.items()}

    def all_up(self, within: float = PATIENT_SEC) -> None:
        """Waits until the healer has seen all that beat, and its listening clocks run."""
        beating = set(self.beaters) | ({*self.first} - {"healer"})
        until(
            lambda: beating <= {svc for svc, entry in self.roster().items() if entry["verdict"] == "up"},
            within,
            f"{beating} to be up; the roster is {self.roster()}",
        )
        for bus in BUSES:
            until(lambda bus=bus: self.proven(bus) > 0, within, f"the clock of {bus} to run")

    def alarms(self, **of: str) -> list[dict[str, Any]]:
        """What was published, in order, but for what is the beater's own (`is_of_a_stall`)."""
        return [event for event in self.alerts.of(**of) if not self.is_of_a_stall(event)]

    def is_of_a_stall(self, event: Mapping[str, Any]) -> bool:
        """Return True for a gap or a miss of a service whose beater stood still for as long, at that time.

        A machine may be that busy, and the healer is right to tell it.
        """
        beater = self.beaters.get(event["svc"])
        if beater is None:
            return False
        if event["type"] == "heartbeat_gap" and not event["restarted"]:
            silent_sec = event["gap_sec"]
        elif event["type"] == "heartbeat_miss" and not beater.is_stopped(event["svc"]):
            silent_sec = beater.how["timeout_sec"]
        else:
            return False
        least = silent_sec - beater.how["interval_sec"] - 0.3
        return any(
            ended - begun >= least and begun <= event["ts"] and ended >= event.get("since", 0.0) - 0.5
            for begun, ended in beater.stalls
        )

    # -- how far the healer is

    def heard_again(self, count: int, bus: str = "system-redis", within: float = PATIENT_SEC) -> float:
        """When (epoch seconds) the healer's `count`th session on a bus began, waiting for it."""

        def sessions() -> list[dict[str, Any]]:
            return [line for line in self["healer"].logs("monitor.listening") if line["bus"] == bus]

        until(lambda: len(sessions()) >= count, within, lambda: f"session {count} on {bus}: {self['healer']}")
        return stamp(sessions()[count - 1])

    def sessions(self, bus: str = "system-redis") -> int:
        """How many sessions the healer has had on a bus, over all its runs."""
        return sum(line["bus"] == bus for line in self["healer"].logs("monitor.listening"))

    def proven(self, bus: str = "system-redis") -> float:
        """The healer's listening clock, as it last saved it."""
        return float((self.system.cmd("HGET", "healer:silence", f"@{bus}") or "0 0").split()[0])

    def listen_for(self, sec: float, *buses: str) -> None:
        """Waits until the healer has provably listened so long: what it had to say by then, it said."""
        begun = {bus: self.proven(bus) for bus in buses or ("system-redis",)}
        for bus, at in begun.items():
            until(
                lambda bus=bus, at=at: self.proven(bus) >= at + sec,
                3 * sec + PATIENT_SEC,
                f"{sec:g} s of listening on {bus}",
            )

    # -- the oracle

    def judge(self) -> None:
        """What holds in every scene, whatever was broken in it."""
        for bus in BUSES:
            if self.server(bus).running:
                heard = {e["id"] for e in self.tail(bus).of()}  # before the log: more may come meanwhile
                events = self.log(bus=bus)
                assert len({e["id"] for e in events}) == len(events), f"told twice on {bus}: {events}"
                self._judge_order(events)
                for event in events:
                    self._judge_miss(event)
                    self._judge_gap(event)
                assert heard <= {e["id"] for e in events}, f"published on {bus} but not logged"

    def _judge_order(self, events: list[dict[str, Any]]) -> None:
        down: dict[tuple[str, str], bool] = {}
        for event in events:
            of, _, what = event["type"].rpartition("_")
            if what == "gap":  # a word on a service that is up, and moves nothing
                assert not down.get((of, event["svc"])), f"a gap of who is down: {event}"
                continue
            key = of, event["svc"]
            was = down.get(key)
            if what == "ok":  # the first of all is for the log alone
                fits = was or (was is None and "down_sec" not in event) or event["svc"] in self.watched_anew
            else:
                fits = was is (what == "unwatched") or (was is None and what in OPENS)
            assert fits, f"out of order: {[e for e in events if e['svc'] == event['svc']]}"
            down[key] = what in OPENS

    def _judge_gap(self, event: dict[str, Any]) -> None:
        """A gap's silence was as long as it says."""
        svc = event["svc"]
        if event["type"] != "heartbeat_gap" or svc not in self.beaters:
            return
        beater = self.beaters[svc]
        beats = sorted(
            at
            for name, times in beater.beats.items()
            if name.partition("#")[0] == svc
            for at in times
            if event["since"] - 0.5 <= at <= event["ts"]
        )
        longest = max((later - at for at, later in pairwise(beats)), default=0.0)
        assert event["gap_sec"] <= longest + 0.3, f"its longest silence was {longest:.3f} s: {event}"

    def _judge_miss(self, event: dict[str, Any]) -> None:
        svc = event["svc"]
        if event["type"] != "heartbeat_miss" or svc not in self.beaters:
            return
        beats = [
            at
            for beater in set(self.beaters.values())
            for name, times in beater.beats.items()
            if name.partition("#")[0] == svc
            for at in times
            if at <= event["ts"] - 0.1
        ]
        if beats:
            silent = event["ts"] - max(beats)
            least = event["timeout_sec"] - 0.2
            assert silent >= least, f"missed after a silence of {silent:.3f} s: {event}"


def stamp(line: Mapping[str, Any]) -> float:
    """When a log line was written, in epoch seconds."""
    return datetime.fromisoformat(line["ts"]).timestamp()


def fits_beat(at: float, sent_at: float) -> bool:
    """Return True if a beat that was sent at `sent_at` may have been heard `at`.

    The beat before it was earlier than that, and the end of a timeout is later.
    """
    return sent_at - 0.1 <= at <= sent_at + 1.0


def fits_outage(down_sec: float, sec: float) -> bool:
    """Return True if an outage that took `sec`, from last beat to first, may be told as one of `down_sec`.

    The last beat before it is heard, and the healer may hear the first one after it late.
    """
    return sec - 1.0 <= down_sec <= sec + SLACK


def only(found: list[Any]) -> Any:
    """The one there is."""
    assert len(found) == 1, f"not one but {len(found)}: {found}"
    return found[0]


def instance(svc: str, scene: Scene, boots: int = 2) -> str:
    """Starts another instance of a service that beats; its name for the beater."""
    name = f"{svc}#{boots}"
    scene.beaters[svc].restart(name)
    return name


__all__ = [
    "BUSES",
    "BUS_TIMEOUT_SEC",
    "INTERVAL_SEC",
    "SLACK",
    "TIMEOUT_SEC",
    "WARM_UP_SEC",
    "Beater",
    "Proc",
    "Scene",
    "fault_lasts",
    "fits_beat",
    "fits_outage",
    "instance",
    "only",
    "service",
    "stamp",
    "truth_of",
]
