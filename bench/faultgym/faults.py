"""The faults of the gym. To add one: a function that injects it, and a line in `FAULTS`."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from importlib.util import find_spec
from typing import Any, Final

import redis

from bench.faultgym.case import Case, Expectation
from bench.faultgym.disk import fill_disk, mounted_disk
from bench.faultgym.disk import find_missing as find_missing_mount
from bench.faultgym.fleet import LEAK_MB
from bench.faultgym.injection import Injection
from bench.faultgym.target import CACHED_KEYS, CORRUPT, SOURCE, STALE
from bench.faultgym.tls_server import find_missing as find_missing_openssl
from marketswarm.fleet.postgres import find_programs
from marketswarm.fleet.server import NoServerError
from marketswarm.keys import MARKET_QUOTES, source_breaker_key
from marketswarm.truth import MARKET
from services.market.entries import encode_entry
from services.market.records import AssetClass, Provenance, Quote

_RESTART: Final = {"restart": 1}


def _order(do: str, **how: Any) -> Callable[[Injection], None]:
    return lambda fault: fault.order(do, **how)


def _kill_twice(fault: Injection) -> None:
    fault.kill()
    killed = fault.fleet.read_process(fault.svc).identity
    fault.fleet.wait(lambda: _is_another(fault, killed), "its next start")
    fault.fleet.signal(fault.svc, signal.SIGKILL)


def _is_another(fault: Injection, identity: str) -> bool:
    process = fault.fleet.read_process(fault.svc)
    return process.identity != identity and process.pid is not None


def _freeze_twice(fault: Injection) -> None:
    """Freeze it anew before its outage is over."""
    old = fault.fleet.read_process(fault.svc).identity
    fault.freeze()
    fault.fleet.wait(lambda: _is_another(fault, old) and fault.fleet.is_well(fault.svc), "its restart", 60)
    fault.fleet.signal(fault.svc, signal.SIGSTOP)


def _freeze_with_zombies(fault: Injection) -> None:
    fault.fleet.order(fault.svc, "leave_zombies", count=20)
    time.sleep(0.5)
    fault.freeze()


def _begin_with(
    first: Callable[[Injection], None], times: int | None, do: str, **how: Any
) -> Callable[[Injection], None]:
    """End or freeze a service, after which `times` starts go wrong; None means each one."""

    def inject(fault: Injection) -> None:
        fault.fleet.order_starts(fault.svc, times, do=do, **how)
        first(fault)

    return inject


def _mend_starts(fault: Injection) -> None:
    fault.fleet.end_start_orders(fault.svc)
    fault.fleet.start(fault.svc)  # now, and not after its pause


def _take_port(fault: Injection) -> None:
    fault.kept.append(fault.take_port())
    fault.kill()


def _free_port(fault: Injection) -> None:
    fault.free_port()
    fault.fleet.start(fault.svc)


def _cache(value: bytes) -> Callable[[Injection], None]:
    """Have the cache of a service hold a value that is wrong."""

    def inject(fault: Injection) -> None:
        fault.begin()
        fault.fleet.bus(MARKET).set(CACHED_KEYS[fault.svc], value)

    return inject


def _keep_stale(fault: Injection) -> None:
    """Make the cache wrong by a key of a type that the remedy leaves alone, until a restart."""
    _cache(STALE)(fault)
    fault.fleet.order(fault.svc, "degrade")


def _open_breaker(fault: Injection) -> None:
    fault.begin()
    fault.fleet.bus(MARKET).hset(
        source_breaker_key(SOURCE), mapping={"open_ms": int(time.time() * 1000) + 600_000}
    )


def _seed_bad_truth(fault: Injection) -> None:
    """Seed a truth with which two services end, now and at each start. It is a new one at each trial."""
    fault.fleet.wait_until_proven()
    bad = deepcopy(fault.fleet.truth)
    for svc in ("north", "south"):
        bad["services"][svc] |= {"settings": {"batch": 0}, "description": f"of {time.time()}"}
    fault.begin()
    fault.fleet.seed(bad)
    # until it is missed it looks well, since it beats once at each start
    fault.fleet.wait(lambda: fault.svc in fault.fleet.read_open(), "its outage")


def _freeze_both(fault: Injection) -> None:
    """Freeze a service, and another one on which it depends."""
    fault.begin()
    fault.fleet.order("user", "degrade", sec=8)
    fault.fleet.signal("base", signal.SIGSTOP)


def _freeze_beside(other: str, how: str, fault: Injection) -> None:
    """Freeze a service while the healer or the medic is away as well."""
    if how == "kill":
        fault.fleet.wait_until_old(other, 10.5)
        fault.freeze()
        fault.fleet.signal(other, signal.SIGKILL)
        return
    fault.freeze()
    began = fault.injected_at
    fault.freeze_for(fault.long_sec(), other)
    fault.injected_at = began


def _freeze_beside_bus(fault: Injection) -> None:
    fault.freeze()
    began = fault.injected_at
    fault.freeze_for(fault.long_sec(), MARKET)
    fault.injected_at = began


def _fill_connections(fault: Injection) -> None:
    market = fault.fleet.bus(MARKET)
    used, before = (
        int(market.info("clients")["connected_clients"]),
        market.config_get("maxclients")["maxclients"],
    )
    market.config_set("maxclients", used + 40)
    fault.begin()
    url = fault.fleet.running.buses[MARKET]
    with contextlib.ExitStack() as ends:
        ends.callback(market.config_set, "maxclients", before)
        for _ in range(36):
            client = ends.enter_context(contextlib.closing(redis.Redis.from_url(url)))
            client.ping()
        fault.wait_for_report("medic/bus_connections")


def _fill_memory(fault: Injection) -> None:
    market = fault.fleet.bus(MARKET)
    before, used = market.config_get("maxmemory")["maxmemory"], int(market.info("memory")["used_memory"])
    fault.begin()
    try:
        market.config_set("maxmemory", int(used / 0.9))
        fault.wait_for_report("medic/bus_memory")
    finally:
        market.config_set("maxmemory", before)


def _fill_memory_fully(fault: Injection) -> None:
    """Leave the bus no memory at all: what writes there fails, and a restart helps nothing."""
    market = fault.fleet.bus(MARKET)
    before = market.config_get("maxmemory")["maxmemory"]
    fault.begin()
    try:
        market.config_set("maxmemory", 1 << 20)
        fault.wait_for_report("medic/bus_memory")
        time.sleep(2 * fault.fleet.timeout_sec)
    finally:
        market.config_set("maxmemory", before)


def _fill_disk(fault: Injection) -> None:
    """Fill the disk of a service, nearly at first: then its rule holds, and a restart would free nothing."""
    with mounted_disk(fault.fleet.folder / "disk") as disk:
        try:
            fault.order("spool_in", folder=str(disk))
            time.sleep(1)
            fault.begin()
            fill_disk(disk, 95)
            fault.wait_for_report("medic/disk/spool")
            fill_disk(disk)
            time.sleep(3 * fault.fleet.timeout_sec)
        finally:
            fault.fleet.order(fault.svc, "stop_spooling")


def _expire_certificate(fault: Injection) -> None:
    server = fault.fleet.tls_server
    assert server is not None, "massive has nothing to probe"
    fault.begin()
    try:
        server.use("expired")
        fault.wait_for_report("massive/gym")
    finally:
        server.use("valid")


def _find_missing_database() -> str:
    if find_spec("asyncpg") is None:
        return "asyncpg not installed: pip install 'marketswarm[archive]'"
    try:
        find_programs()
    except NoServerError as error:
        return str(error)
    return ""


def _freeze_database(fault: Injection) -> None:
    """Freeze PostgreSQL just before a quote is to be written."""
    fault.kept += fault.fleet.find_database()
    fault.begin()
    for pid in fault.kept:
        os.kill(pid, signal.SIGSTOP)
    quote = Quote("SPY", int(time.time() * 1000), 500.0)
    fields = encode_entry(quote, AssetClass.STOCKS, Provenance("gym", time.time()))
    fault.fleet.bus(MARKET).xadd(MARKET_QUOTES, fields)


def _thaw_database(fault: Injection) -> None:
    for pid in fault.kept:
        os.kill(pid, signal.SIGCONT)


def _restart_hung(fault: Injection) -> None:
    fault.fleet.end_start_orders(fault.svc)
    fault.fleet.signal(fault.svc, signal.SIGKILL)
    fault.fleet.start(fault.svc)


def _kill_remote(fault: Injection) -> None:
    fault.begin()
    fault.fleet.signal("remote", signal.SIGKILL)
    time.sleep(5)
    fault.fleet.start_outside("remote")


def _heal(name: str, svc: str, inject: Callable[[Injection], None], **more: Any) -> Case:
    return Case(name=name, svc=svc, inject=inject, expect=Expectation.HEAL, **{"most": _RESTART, **more})


def _fault(
    name: str, svc: str, inject: Callable[[Injection], None], expect: Expectation, **more: Any
) -> Case:
    return Case(name=name, svc=svc, inject=inject, expect=expect, **more)


FAULTS: Final = (
    # a restart helps
    _heal("frozen", "alpha", Injection.freeze),
    _heal("hung", "beta", _order("hang")),
    _heal("hung_in_c", "gamma", _order("hang_in_c")),
    _heal("spinning_loop", "alpha", _order("spin")),
    _heal("no_progress", "alpha", _order("wait_for_ever")),
    _heal("hung_without_sigterm", "beta", _order("hang_stubbornly")),
    _heal("degraded_until_restart", "gamma", _order("degrade")),
    _heal("out_of_files", "beta", _order("use_files")),
    _heal("stalls_again_and_again", "alpha", _order("flap", silent_sec=7, beats_sec=3)),
    _heal("leaking", "writer", _order("leak", mb=LEAK_MB)),
    _heal("busy_while_beating", "writer", _order("burn", sec=1e6)),
    _heal("writes_nothing", "writer", _order("stall_writer")),
    _heal("frozen_with_zombies", "beta", _freeze_with_zombies),
    _heal("killed_owner_medic", "mine", Injection.kill),
    _heal("killed_twice_owner_medic", "mine", _kill_twice, most={"restart": 2}),
    _heal("frozen_dies_while_restarting", "gamma", _begin_with(Injection.freeze, 1, "exit", code=1)),
    _heal("frozen_starts_slowly", "gamma", _begin_with(Injection.freeze, 1, "sleep", sec=4)),
    _heal("frozen_twice", "delta", _freeze_twice, most={"restart": 2}, within_sec=180),
    _heal(
        "first_restart_hangs",
        "delta",
        _begin_with(Injection.freeze, 1, "sleep", sec=1e6),
        most={"restart": 2},
        within_sec=180,
    ),
    # another remedy helps
    _heal("stale_quotes", "quotes", _cache(STALE), most={"quotes_cache": 1}),
    _heal("stale_charts", "charts", _cache(STALE), most={"charts_cache": 1}),
    _heal("corrupt_key", "quotes", _cache(CORRUPT), most={"quotes_cache": 1}),
    _heal("open_breaker", "sources", _open_breaker, most={"resume_sources": 1}),
    _heal("connections_do_not_answer", "board", _order("cut_off"), most={"reconnect": 1}),
    _heal("cache_is_not_the_cause", "quotes", _keep_stale, most={"quotes_cache": 1, "restart": 1}),
    _heal(
        "bad_truth",
        "north",
        _seed_bad_truth,
        also=("south",),
        most={"roll_back_truth": 1},
        mend=lambda fault: fault.fleet.seed(),  # changes nothing if the medic put it back
        is_alone=True,
        is_for_medic=True,
    ),
    _heal("frozen_elsewhere", "hired", Injection.freeze, most={"command": 1}, is_for_medic=True),
    # a service on which another depends
    _heal("dependency_down", "base", _freeze_both),
    # while parts of the fleet that heals are away
    _heal(
        "frozen_medic_killed",
        "alpha",
        partial(_freeze_beside, "medic", "kill"),
        is_alone=True,
        is_for_medic=True,
    ),
    _heal(
        "frozen_medic_frozen",
        "beta",
        partial(_freeze_beside, "medic", "freeze"),
        is_alone=True,
        is_for_medic=True,
    ),
    _heal("frozen_healer_killed", "gamma", partial(_freeze_beside, "healer", "kill"), is_alone=True),
    _heal("frozen_healer_frozen", "alpha", partial(_freeze_beside, "healer", "freeze"), is_alone=True),
    _heal(
        "frozen_mesh_frozen",
        "alpha",
        partial(_freeze_beside, "mesh", "freeze"),
        is_alone=True,
        also=("mesh",),
        most={"restart": 2},
    ),
    _heal("frozen_bus_frozen", "beta", _freeze_beside_bus, is_alone=True),
    # its owner, or the service itself, is enough
    _fault("killed", "alpha", Injection.kill, Expectation.RECOVER),
    _fault("killed_twice", "beta", _kill_twice, Expectation.RECOVER, within_sec=180),
    _fault("exits", "gamma", _order("exit", code=1), Expectation.RECOVER),
    _fault("exits_and_leaves_a_child", "beta", _order("leave_child"), Expectation.RECOVER),
    _fault(
        "killed_first_start_fails",
        "gamma",
        _begin_with(Injection.kill, 1, "exit", code=1),
        Expectation.RECOVER,
    ),
    _fault(
        "killed_starts_slowly", "gamma", _begin_with(Injection.kill, 1, "sleep", sec=2.5), Expectation.RECOVER
    ),
    # no remedy helps
    _fault(
        "crash_loop",
        "delta",
        _begin_with(Injection.kill, None, "exit", code=1),
        Expectation.ESCALATE,
        mend=_mend_starts,
        within_sec=180,
    ),
    _fault(
        "crash_loop_owner_medic",
        "mine",
        _begin_with(Injection.kill, None, "exit", code=1),
        Expectation.ESCALATE,
        most={"restart": 1},
        mend=_mend_starts,
        within_sec=180,
    ),
    _fault("port_taken", "beta", _take_port, Expectation.ESCALATE, mend=_free_port, within_sec=180),
    _fault(
        "hangs_at_each_start",
        "delta",
        _begin_with(Injection.freeze, None, "sleep", sec=1e6),
        Expectation.ESCALATE,
        most={"restart": 3},
        mend=_restart_hung,
        within_sec=320,
    ),
    _fault(
        "postgres_frozen",
        "archive",
        _freeze_database,
        Expectation.ESCALATE,
        most={"reconnect": 3},
        mend=_thaw_database,
        within_sec=180,
        is_for_medic=True,
        find_missing=_find_missing_database,
    ),
    # no remedy is there
    _fault(
        "bus_connections_used_up",
        "writer",
        _fill_connections,
        Expectation.REPORT,
        reports="medic/bus_connections",
        is_alone=True,
    ),
    _fault(
        "bus_memory_nearly_full",
        "writer",
        _fill_memory,
        Expectation.REPORT,
        reports="medic/bus_memory",
        is_alone=True,
    ),
    _fault(
        "bus_memory_full",
        "writer",
        _fill_memory_fully,
        Expectation.REPORT,
        reports="medic/bus_memory",
        is_alone=True,
    ),
    _fault(
        "expired_certificate",
        "massive",
        _expire_certificate,
        Expectation.REPORT,
        reports="massive/gym",
        is_for_medic=True,
        find_missing=find_missing_openssl,
    ),
    _fault(
        "disk_full",
        "spool",
        _fill_disk,
        Expectation.REPORT,
        reports="medic/disk/spool",
        is_for_medic=True,
        find_missing=find_missing_mount,
    ),
    _fault("killed_where_none_restarts", "remote", _kill_remote, Expectation.REPORT, reports="remote"),
)
