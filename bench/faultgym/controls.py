"""The controls of the gym: nothing is wrong, or nothing may be done.

An action in one of them is a failure.
"""

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

import orjson
import redis

from bench.faultgym.case import Case, Expectation
from bench.faultgym.clock import find_missing as find_missing_clock
from bench.faultgym.injection import OLD_SEC, Injection
from bench.programs import Worker
from marketswarm.keys import ALERT_LOG, MEDIC_APPROVALS, MEDIC_INCIDENTS, NOTIFIER_SILENCES, last_beat_key
from marketswarm.operator.silences import create_silence
from marketswarm.truth import MARKET, SYSTEM

LOAD_SEC: Final = 4.0
"""For how long the machine is busy."""
STEP_ERROR_SEC: Final = 60.0
JUNK_SEC: Final = 2.0
"""For how long junk lies where the medic reads: two of its looks."""


def _freeze_shortly(fault: Injection) -> None:
    fault.freeze_for(fault.short_sec())


def _order_for(do: str, low: float, high: float, **how: Any) -> Callable[[Injection], None]:
    def inject(fault: Injection) -> None:
        sec = fault.pick(low, high)
        fault.order(do, sec=sec, **how)
        time.sleep(sec)

    return inject


def _log_noise(fault: Injection) -> None:
    fault.order("log_lines", count=2000)


def _overload(fault: Injection) -> None:
    """Give a service more requests than it can do; a process that is restarted begins with them anew."""
    sec, piece_sec = fault.pick(6, 9), fault.short_sec()
    fault.fleet.order_starts(fault.svc, None, do="overload", sec=sec, piece_sec=piece_sec)
    try:
        fault.order("overload", sec=sec, piece_sec=piece_sec)
        time.sleep(1.5 * sec)
    finally:
        fault.fleet.end_start_orders(fault.svc)


def _set_clock(fault: Injection) -> None:
    """Set the clock of the service an hour ahead or behind, and back."""
    sec = fault.random.choice((-3600, 3600))
    fault.order("set_clock", sec=sec)
    time.sleep(fault.fleet.timeout_sec)
    fault.fleet.order(fault.svc, "set_clock", sec=-sec)


def _step_machine_clock(fault: Injection) -> None:
    """Set the wall clock of all programs about an hour ahead, and back: no entry has a time before it."""
    clock, sec = fault.fleet.clock, fault.pick(1800, 3600)
    assert clock is not None, "the fleet has the machine's clock"
    fault.begin()
    for step in (sec, 0):
        clock.step(step)
        fault.fleet.wait(partial(_has_stepped, fault, step), lambda: f"a step: {_read_clocks(fault)}")
        time.sleep(3 * fault.fleet.timeout_sec)


def _has_stepped(fault: Injection, sec: float) -> bool:
    return all(abs(ahead - sec) < STEP_ERROR_SEC for ahead in _read_clocks(fault).values())


def _read_clocks(fault: Injection) -> dict[str, int]:
    """Return how far the wall clocks of both buses and of a service are ahead of ours, in seconds."""
    fleet = fault.fleet
    times = {name: fleet.bus(name).time()[0] for name in (SYSTEM, MARKET)}
    beat = orjson.loads(fleet.bus().get(last_beat_key(fault.svc)) or b'{"ts":0}')
    return {name: round(each - time.time()) for name, each in {**times, fault.svc: beat["ts"]}.items()}


def _load_machine(fault: Injection) -> None:
    """Keep all processors busy for a while."""
    fault.begin()
    with ExitStack() as ends:
        for _ in range(os.cpu_count() or 2):
            ends.enter_context(Worker("bench.faultgym.load"))
        time.sleep(LOAD_SEC)


def _restart_by_hand(fault: Injection, slow_sec: float = 0.0) -> None:
    fault.begin()
    fault.fleet.stop(fault.svc)
    if slow_sec:
        fault.fleet.order_starts(fault.svc, 1, do="sleep", sec=slow_sec)
    fault.fleet.start(fault.svc)


def _stop_for_long(fault: Injection) -> None:
    fault.begin()
    fault.fleet.stop(fault.svc)
    time.sleep(fault.long_sec())
    fault.fleet.start(fault.svc)


def _silence(fault: Injection) -> None:
    now = time.time()
    silence = create_silence((fault.svc,), (), 120, author="gym", reason="work", now=now)
    for bus in (SYSTEM, MARKET):
        fault.fleet.bus(bus).hset(NOTIFIER_SILENCES, silence.id, silence.encode())
    fault.freeze_for(fault.long_sec())
    fault.fleet.wait_until_settled({fault.svc})
    for bus in (SYSTEM, MARKET):
        fault.fleet.bus(bus).hdel(NOTIFIER_SILENCES, silence.id)


def _freeze_under(change: Callable[[dict[str, Any], str], None], fault: Injection) -> None:
    """Freeze a service for long while the truth says that nothing may be done."""
    with fault.fleet.changed_truth() as services:
        change(services, fault.svc)
        fault.fleet.seed()
        fault.fleet.wait_until_followed()
        fault.freeze_for(fault.long_sec())
        fault.fleet.wait_until_settled({fault.svc})


def _settings(services: dict[str, Any]) -> dict[str, Any]:
    return dict.setdefault(services.get("medic", {}), "settings", {})


def _open_maintenance(services: dict[str, Any], svc: str) -> None:
    window = {"services": [svc], "at": "* * * * *", "for_sec": 600}
    services["notifier"] = {"heartbeat": services[svc]["heartbeat"], "settings": {"maintenance": [window]}}


def _pause_medic(services: dict[str, Any], _svc: str) -> None:
    _settings(services)["paused"] = True


def _hold_emergency(services: dict[str, Any], svc: str) -> None:
    rule = {"metric": "process_memory", "above": 0, "severity": "emergency", "services": [svc]}
    _settings(services).setdefault("rules", {})["held"] = rule


def _blow_fuse(services: dict[str, Any], _svc: str) -> None:
    _settings(services)["fuse"] = {"remedies": 1, "within_sec": 86_400}


def _freeze_with_blown_fuse(fault: Injection) -> None:
    """Have one remedy first: it is all that the fuse of this truth allows."""
    fault.freeze()
    fault.fleet.wait(lambda: fault.fleet.read_actions(fault.injected_at), "one remedy")
    fault.fleet.wait_until_settled({fault.svc})
    fault.fleet.wait_until_old(fault.svc, 4)
    _freeze_under(_blow_fuse, fault)
    fault.fleet.approve("fuse")


def _seed_again(fault: Injection) -> None:
    fault.begin()
    with fault.fleet.changed_truth() as services:
        services[fault.svc]["description"] = f"seeded {fault.pick(0, 1)}"
        fault.fleet.seed()
        fault.fleet.wait_until_followed()


def _seed_new_service(fault: Injection) -> None:
    """Name a service that nothing starts."""
    fault.begin()
    with fault.fleet.changed_truth() as services:
        services["newcomer"] = {"heartbeat": fault.fleet.heartbeat()}
        fault.fleet.seed()
        time.sleep(2 * fault.fleet.timeout_sec)


def _has_new_server(name: str, pid: int, fault: Injection) -> bool:
    try:
        return fault.fleet.find_pid(name) != pid
    except redis.RedisError:
        return False


def _kill_part(name: str, fault: Injection) -> None:
    if name in (SYSTEM, MARKET):
        pid = fault.fleet.find_pid(name)
        fault.begin()
        os.kill(pid, signal.SIGKILL)
        # the fleet counts as settled until its agents find their bus gone, which they do before it is back
        fault.fleet.wait(partial(_has_new_server, name, pid, fault), f"another server of {name}")
        return
    fault.fleet.wait_until_old(name, OLD_SEC)
    fault.begin()
    fault.fleet.signal(name, signal.SIGKILL)


def _restart_part(name: str, fault: Injection) -> None:
    fault.begin()
    fault.fleet.stop(name)
    fault.fleet.start(name)


def _freeze_part(name: str, fault: Injection) -> None:
    fault.freeze_for(fault.long_sec(), name)


def _freeze_many(fault: Injection) -> None:
    """Freeze over 40 % of the fleet at once, as a machine or a network does that is away."""
    fault.freeze_for(fault.long_sec(), *fault.fleet.names[: round(0.65 * len(fault.fleet.names))])


def _freeze_all(fault: Injection) -> None:
    """Freeze each service and the healer, as a suspended machine does."""
    fault.freeze_for(fault.long_sec(), *fault.fleet.names, "healer", "mesh")


def _cut_connections(fault: Injection) -> None:
    fault.begin()
    for kind in ("normal", "pubsub"):
        fault.fleet.bus().execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


def _forge_miss(fault: Injection) -> None:
    """Add an event that says what is not so, and repeat an old one."""
    fault.begin()
    event = {"id": f"gym{fault.injected_at}", "type": "heartbeat_miss", "svc": fault.svc, "ts": time.time()}
    bus = fault.fleet.bus()
    bus.xadd(ALERT_LOG, {"event": orjson.dumps(event)})
    old = bus.xrange(ALERT_LOG, count=50)
    for _, fields in old:
        bus.xadd(ALERT_LOG, fields)


def _write_junk(fault: Injection) -> None:
    fault.begin()
    bus = fault.fleet.bus()
    bus.xadd(MEDIC_INCIDENTS, {"entry": "}{"})
    bus.hset(MEDIC_APPROVALS, "junk", "}{")
    bus.publish(f"{fault.svc}:heartbeat", b"\x00 not a beat")
    time.sleep(JUNK_SEC)
    bus.hdel(MEDIC_APPROVALS, "junk")


def _flood_bus(fault: Injection) -> None:
    fault.begin()
    pipe = fault.fleet.bus().pipeline(transaction=False)
    for number in range(20_000):
        pipe.publish("gym:flood", f"{number:0100}")
    pipe.execute()


def _degrade_needed(fault: Injection) -> None:
    """Degrade a service that nearly all others need: a restart would stop them."""
    with fault.fleet.changed_truth() as services:
        for svc in fault.fleet.names[:8]:
            services[svc]["depends_on"] = ["base"]
        fault.fleet.seed()
        fault.fleet.wait_until_followed()
        sec = 5.0
        fault.order("degrade", sec=sec)
        time.sleep(sec)
        fault.fleet.wait_until_settled({fault.svc})


def _freeze_dependency_of(fault: Injection) -> None:
    """Freeze a process that no supervisor restarts, and a service that needs it."""
    with fault.fleet.changed_truth() as services:
        services[fault.svc]["depends_on"] = ["remote"]
        fault.fleet.seed()
        time.sleep(2)
        fault.freeze_for(fault.long_sec(), "remote", fault.svc)
        fault.fleet.wait_until_settled({fault.svc, "remote"})


def _control(name: str, svc: str, inject: Callable[[Injection], None], **more: Any) -> Case:
    return Case(name=name, svc=svc, inject=inject, expect=Expectation.NOTHING, is_control=True, **more)


CONTROLS: Final = (
    _control("frozen_shorter_than_timeout", "alpha", _freeze_shortly),
    _control("loop_stalls_shorter_than_timeout", "beta", _order_for("hang", 0.3, 1.1)),
    _control("degraded_shortly", "gamma", _order_for("degrade", 0.2, 0.7)),
    _control("load_spike_in_service", "writer", _order_for("burn", 1, 2)),
    _control("load_spike_on_machine", "alpha", _load_machine, is_alone=True),
    _control("overload", "gamma", _overload),
    _control("noisy_log", "beta", _log_noise),
    _control("clock_step_in_service", "gamma", _set_clock),
    _control(
        "machine_clock_step",
        "gamma",
        _step_machine_clock,
        is_alone=True,
        steps_clock=True,
        is_for_medic=True,
        find_missing=find_missing_clock,
    ),
    _control("zombie_children", "beta", lambda fault: fault.order("leave_zombies", count=20)),
    _control("memory_spike_below_rule", "writer", lambda fault: fault.order("leak", mb=20)),
    _control("writer_pauses_shortly", "writer", _order_for("stall_writer", 0.5, 1.5)),
    _control("planned_restart", "alpha", _restart_by_hand),
    _control("slow_start_within_grace", "beta", partial(_restart_by_hand, slow_sec=2.0)),
    _control("stopped_by_operator", "gamma", _stop_for_long),
    _control("silenced", "gamma", _silence, is_for_medic=True),
    _control("mode_observe", "observed", lambda fault: fault.freeze_for(fault.long_sec()), is_for_medic=True),
    _control("mode_propose", "proposed", lambda fault: fault.freeze_for(fault.long_sec()), is_for_medic=True),
    _control("not_ours_frozen", "remote", lambda fault: fault.freeze_for(fault.long_sec())),
    _control(
        "maintenance", "alpha", partial(_freeze_under, _open_maintenance), is_alone=True, is_for_medic=True
    ),
    _control("paused", "beta", partial(_freeze_under, _pause_medic), is_alone=True, is_for_medic=True),
    _control(
        "emergency_rule", "gamma", partial(_freeze_under, _hold_emergency), is_alone=True, is_for_medic=True
    ),
    _control("fuse_too_many_remedies", "alpha", _freeze_with_blown_fuse, is_alone=True, is_for_medic=True),
    _control("fuse_fleet_down", "alpha", _freeze_many, is_alone=True),
    _control("fuse_all_frozen", "alpha", _freeze_all, is_alone=True),
    _control("fuse_market_bus_frozen", "alpha", partial(_freeze_part, MARKET), is_alone=True),
    _control("fuse_system_bus_frozen", "alpha", partial(_freeze_part, SYSTEM), is_alone=True),
    _control("fuse_healer_frozen", "alpha", partial(_freeze_part, "healer"), is_alone=True),
    _control("medic_stalls", "alpha", partial(_freeze_part, "medic"), is_alone=True, is_for_medic=True),
    _control("market_bus_killed", "alpha", partial(_kill_part, MARKET), is_alone=True, watch_sec=8),
    _control("system_bus_killed", "alpha", partial(_kill_part, SYSTEM), is_alone=True, watch_sec=8),
    _control("healer_killed", "alpha", partial(_kill_part, "healer"), is_alone=True, watch_sec=8),
    _control("healer_restarted", "alpha", partial(_restart_part, "healer"), is_alone=True, watch_sec=6),
    _control(
        "medic_killed", "alpha", partial(_kill_part, "medic"), is_alone=True, watch_sec=8, is_for_medic=True
    ),
    _control(
        "medic_restarted",
        "alpha",
        partial(_restart_part, "medic"),
        is_alone=True,
        watch_sec=6,
        is_for_medic=True,
    ),
    _control("connections_cut", "alpha", _cut_connections, is_alone=True),
    _control("seeded_again", "alpha", _seed_again, is_alone=True),
    _control("new_service_in_truth", "alpha", _seed_new_service, is_alone=True),
    _control("needed_by_many", "base", _degrade_needed, is_alone=True),
    _control("dependency_not_ours_down", "alpha", _freeze_dependency_of, is_alone=True, also=("remote",)),
    _control("forged_and_old_events", "alpha", _forge_miss, is_alone=True),
    _control("junk_on_the_bus", "beta", _write_junk, is_alone=True),
    _control("flood_on_the_bus", "gamma", _flood_bus, is_alone=True),
)
"""All controls."""
