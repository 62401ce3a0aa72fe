"""The fleet into which faults are injected: real servers and agents of `marketswarm up`, with short times."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import orjson
import psutil

from bench.faultgym.case import HealerAction
from bench.faultgym.clock import FleetClock
from bench.faultgym.healers import MANAGERS, Healer
from bench.faultgym.manager import INIT, Needs, ProcessManager
from bench.faultgym.restart_only import RestartOnly
from bench.faultgym.target import CACHED_KEYS, FOLDER, SOURCE
from bench.faultgym.tls_server import HOST, TlsServer
from bench.programs import ROOT
from marketswarm.beat import Beat, parse_beat
from marketswarm.bus import get_url_variable
from marketswarm.fleet.data_folder import RunningFleet, find_fleet
from marketswarm.fleet_control import FleetProcess, read_processes
from marketswarm.keys import (
    ALERT_LOG,
    MARKET_SOURCES,
    MEDIC_APPROVALS,
    MEDIC_INCIDENTS,
    MEDIC_STATE,
    TRUTH_META,
    last_beat_key,
    source_breaker_key,
)
from marketswarm.operator.healing import ENTRY_FIELD, EntryKind, TimelineEntry
from marketswarm.testing import Fleet, FleetError
from marketswarm.truth import MARKET, SYSTEM

TIMEOUT_SEC: Final = 3.0
"""The timeout of each service, unless a slower pace is asked for."""
BEATS_PER_TIMEOUT: Final = 6
LEAK_MB: Final = 400
LEAK_SHARE: Final = 0.6
"""The share of it from which a service takes too much memory."""
SETTLED_WITHIN_SEC: Final = 90.0
START_ATTEMPTS: Final = 5
SEED_ATTEMPTS: Final = 3
GRACE: Final = 2.5
"""The time that a start may take, in timeouts."""
ROLLBACK: Final = 5.0
"""The time in which a truth shows whether services go down with it, in timeouts."""
FRESH_LIFE: Final = 1.4
"""What is left of the life of a fresh beat, which is two timeouts, in timeouts."""
POLL_SEC: Final = 0.05
WORK: Final = "gym:work"
ROSTER: Final = "healer:roster"

SECTIONS: Final[Mapping[str, dict[str, Any]]] = {
    "alpha": {},
    "beta": {},
    "gamma": {},
    "delta": {},
    "mine": {},
    "writer": {
        "settings": {"writes": WORK},
        "access_points": {"publish_to": [{"bus": MARKET, "key": WORK}]},
    },
    "quotes": {
        "settings": {"reads": "quotes"},
        "access_points": {"subscribe_to": [{"bus": MARKET, "key": "quotes"}]},
    },
    "charts": {
        "settings": {"reads": "charts"},
        "access_points": {"subscribe_to": [{"bus": MARKET, "key": "chart"}]},
    },
    "base": {},
    "user": {"depends_on": ["base"]},
    "observed": {},
    "proposed": {},
    "north": {"settings": {"batch": 100}},
    "south": {"settings": {"batch": 100}},
    "spool": {},
    "massive": {},
    "archive": {"settings": {"database_timeout_sec": 1}},
}
"""The services that run in the fleet, and have faults."""
OUTSIDE: Final[Mapping[str, dict[str, Any]]] = {
    "remote": {},
    "sources": {},
    "board": {},
    "hired": {},
}
"""The services that run beside the fleet, so that another program restarts them, or none."""
REAL: Final = frozenset({"massive", "archive"})
"""Those of them that run as they are in the product. `marketswarm up` runs a PostgreSQL for archive."""
KEPT: Final = frozenset({"hired"})
"""Those outside that something starts again whenever they end; a medic has that done by a command."""
ON_DEMAND: Final = frozenset({"north", "south", "spool"}) | REAL | KEPT
"""The services that run only where a case is about them."""
_UNTIL_A_BAD_TRUTH: Final = {"ladder": ["restart", "roll_back_truth"], "remedies": {"roll_back_truth": "act"}}
TARGETS: Final[Mapping[str, Any]] = {
    "mine": {"owner": "medic"},
    "quotes": {"ladder": ["quotes_cache", "restart"]},
    "charts": {"ladder": ["charts_cache", "restart"]},
    "sources": {"ladder": ["resume_sources"]},
    "board": {"ladder": ["reconnect"]},
    "archive": {"ladder": ["reconnect"]},
    "hired": {"ladder": ["command"]},
    "observed": {"mode": "observe"},
    "proposed": {"mode": "propose"},
    "north": _UNTIL_A_BAD_TRUTH,
    "south": _UNTIL_A_BAD_TRUTH,
}
KEEP: Final = 'while :; do "$@" & echo $! > "$0"; wait $!; sleep 0.5; done'
"""Runs a command again and again, and writes the pid of its process into a file."""
END_BY_PID: Final = 'kill -KILL "$(cat "$0/$1.pid")"'


def build_rules(timeout_sec: float) -> dict[str, Any]:
    leak = 100.0 * LEAK_SHARE * LEAK_MB * (1 << 20) / psutil.virtual_memory().total
    quick = {"for_sec": 1, "clear_sec": 1}
    healing = {"severity": "critical", "services": ["writer"], "clear_sec": 1}
    return {
        "leak": {"metric": "process_memory", "above": leak, "for_sec": 1, **healing},
        "busy": {"metric": "process_cpu", "above": 12, "for_sec": 4, **healing},
        "stalled": {"metric": "write_age", "key": WORK, "above": timeout_sec, **healing},
        "noise": {"metric": "log_matches", "pattern": "^noise", "above": 20, "within_sec": 5},
        "bus_memory": {"metric": "bus_memory", "above": 80, **quick},
        "bus_connections": {"metric": "bus_connections", "above": 80, **quick},
        "unwell": {"metric": "degraded", "above": 0, "for_sec": 2, "clear_sec": 1},
        "disk": {
            "metric": "process_disk_free",
            "below": 10,
            "severity": "emergency",
            "services": ["spool"],
            **quick,
        },
        "fuse": {"metric": "fuse", "above": 0, "severity": "emergency", "clear_sec": 1},
    }


def build_settings(timeout_sec: float) -> dict[str, Any]:
    """Return the settings of a medic that may act, with times by which a case takes seconds."""
    return {
        "mode": "act",
        "every_sec": 0.2,
        "wait_sec": 0.4,
        "settle_sec": 4 * timeout_sec,
        "stable_sec": 1.25 * timeout_sec,
        "start_grace_sec": GRACE * timeout_sec,
        "degraded_sec": timeout_sec / 3,
        "proposal_sec": 30,
        "rules_every_sec": 1,
        "shipped_rules": False,
        "rules": build_rules(timeout_sec),
        "fuse": {"remedies": 1000},
        "rollback": {"services": 2, "within_sec": ROLLBACK * timeout_sec},
        # those outside are added with their sections
        "targets": {svc: each for svc, each in TARGETS.items() if svc not in OUTSIDE},
    }


def build_truth(timeout_sec: float, *, has_medic: bool) -> dict[str, Any]:
    # mesh beats `degraded` from a bus outage until its next look at the flow: within degraded_sec
    mesh = {"settings": {"flow_sec": timeout_sec / 12}}
    services = {"healer": {}, "mesh": mesh, **SECTIONS}
    if has_medic:
        services["medic"] = {"settings": build_settings(timeout_sec)}
    return {"services": deepcopy(services)}


def build_probe(server: TlsServer) -> dict[str, Any]:
    """Return the settings of a massive that looks at the certificate of a server."""
    target = {"name": "gym", "kind": "tls", "host": HOST, "port": server.port, "ca_file": str(server.ca)}
    return {"probe_sec": 0.5, "targets": [target]}


class GymFleet:
    """A running fleet of the gym in `folder`, with the medic, or with another healer for comparison.

    monit and supervisord run the services themselves; `marketswarm up` then runs the other parts.
    """

    def __init__(
        self,
        folder: Path,
        services: Collection[str],
        timeout_sec: float,
        healer: Healer,
        clock: FleetClock | None = None,
    ) -> None:
        self.folder, self.healer, self.timeout_sec, self.clock = folder, healer, timeout_sec, clock
        self.has_medic = has_medic = healer is Healer.MEDIC
        self.names = tuple(svc for svc in SECTIONS if svc in services)
        self._outside_names = [svc for svc in OUTSIDE if svc in services]
        if "archive" in self.names:
            folder.chmod(0o711)  # PostgreSQL has a user of its own where we are root
        self.orders = folder / "orders"
        self.orders.mkdir(parents=True)
        project = folder / "project"
        for svc in (each for each in self.names if each not in REAL):
            package = project / "services" / svc
            package.mkdir(parents=True)
            code = f'from bench.faultgym.target import run_target\n\nrun_target("{svc}")\n'
            (package / "__main__.py").write_text(code)
        self._managed = self.names if healer in MANAGERS else ()
        own = () if self._managed else self.names
        started = ["mesh", *own, *(["medic"] if has_medic else [])]
        # archive writes to the PostgreSQL of this fleet, and never to one that our environment names
        no_database = {"DATABASE_URL": "", "DATABASE_URL_FILE": ""}
        clock_env = {"PYTHONPATH": str(ROOT)} if clock is None else clock.fleet_env(ROOT)
        command = shlex.join(["sh", "-c", END_BY_PID, str(self.orders)])  # the medic adds the service
        self._env = {FOLDER: str(self.orders), "MEDIC_COMMAND": command, **no_database, **clock_env}
        self.tls_server = TlsServer(folder / "tls") if "massive" in self.names else None
        truth = build_truth(timeout_sec, has_medic=has_medic)
        if self.tls_server is not None:
            truth["services"]["massive"]["settings"] = build_probe(self.tls_server)
        self._fleet = Fleet(
            folder / "run", *started, project=project, truth=truth,
            interval_sec=timeout_sec / BEATS_PER_TIMEOUT, timeout_sec=timeout_sec, env=self._env,
        )  # fmt: skip
        self.truth = self._fleet.truth
        self._ends = contextlib.ExitStack()
        self._outside: dict[str, subprocess.Popen[bytes]] = {}
        self._policy: RestartOnly | None = None
        self.manager: ProcessManager | None = None
        """What runs the services in place of `marketswarm up`."""

    def __enter__(self) -> Self:
        for _ in range(START_ATTEMPTS - 1):
            with contextlib.suppress(FleetError):  # a busy machine may take longer than a fleet waits
                self._fleet.__enter__()
                break
        else:
            self._fleet.__enter__()
        self._ends.callback(self._fleet.close)
        if self.tls_server is not None:
            self._ends.enter_context(self.tls_server)
        with contextlib.ExitStack() as unless_up:
            unless_up.enter_context(self._ends)
            self._add_outside()
            if self._managed:
                manager = MANAGERS[self.healer](self.folder / "manager", self._managed, self._list_needs())
                self.manager = self._ends.enter_context(manager)
            elif not self.has_medic:
                policy = RestartOnly(self.running.control, self.read_down, GRACE * self.timeout_sec)
                self._policy = self._ends.enter_context(policy)
            self.wait_until_settled(set(self.services()))
            unless_up.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._ends.close()

    @property
    def running(self) -> RunningFleet:
        fleet = find_fleet(self._fleet.folder / "fleet")
        assert fleet is not None, "the fleet ended"
        return fleet

    def services(self) -> tuple[str, ...]:
        return (*self.names, *self._outside_names)

    def heartbeat(self) -> dict[str, float]:
        return {"interval_sec": self.timeout_sec / BEATS_PER_TIMEOUT, "timeout_sec": self.timeout_sec}

    def bus(self, name: str = SYSTEM) -> Any:
        return self._fleet.bus(name)

    # --- orders ---

    def order(self, svc: str, do: str, **how: Any) -> None:
        """Have a service do something to itself, now."""
        self._write(self.orders / f"{svc}.do", {"do": do, **how})

    def order_starts(self, svc: str, times: int | None, **how: Any) -> None:
        """Have something go wrong at the next starts of a service; at each one if `times` is None."""
        self._write(self.orders / f"{svc}.start", {"times": times, **how})

    def end_start_orders(self, svc: str) -> None:
        (self.orders / f"{svc}.start").unlink(missing_ok=True)

    def _write(self, path: Path, order: Mapping[str, Any]) -> None:
        new = path.with_suffix(".new")
        new.write_text(json.dumps(order))
        new.replace(path)

    # --- processes ---

    def read_process(self, svc: str) -> FleetProcess:
        if self.manager is not None and svc in self._managed:
            return self.manager.read_process(svc)
        return next(each for each in read_processes(self.running.control) if each.name == svc)

    def find_pid(self, svc: str) -> int:
        """Return the pid of a service, or of the server of a bus."""
        if svc in KEPT:
            return int((self.orders / f"{svc}.pid").read_text())
        if svc in self._outside:
            return self._outside[svc].pid
        if svc in (SYSTEM, MARKET):
            return int(self.bus(svc).info("server")["process_id"])

        return int(self.wait(lambda: self.read_process(svc).pid, f"{svc} to run"))

    def find_database(self) -> list[int]:
        """Return the pids of the PostgreSQL that `marketswarm up` runs, its first process first."""
        children = psutil.Process(self._fleet.pid).children(recursive=True)
        return [each.pid for each in children if each.name() == "postgres"]

    def signal(self, svc: str, number: signal.Signals) -> None:
        os.kill(self.find_pid(svc), number)

    def stop(self, svc: str) -> None:
        self._find_owner(svc).stop(svc)

    def start(self, svc: str) -> None:
        self._find_owner(svc).start(svc)

    def _find_owner(self, svc: str) -> Fleet | ProcessManager:
        return self.manager if self.manager is not None and svc in self._managed else self._fleet

    def start_outside(self, svc: str) -> None:
        line = [sys.executable, "-m", "bench.faultgym.target", svc]
        if svc in KEPT:
            script = ["sh", "-c", KEEP, str(self.orders / f"{svc}.pid"), *line]
            line = [sys.executable, str(INIT), str(os.getpid()), *script]
        process = subprocess.Popen(
            line,
            env={**os.environ, **self._build_env()}, cwd=ROOT,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._outside[svc] = process
        self._ends.callback(end_process, process)

    def _build_env(self) -> dict[str, str]:
        """Return the variables of a service that `marketswarm up` does not run."""
        urls = {get_url_variable(name): url for name, url in self.running.buses.items()}
        return {**self._env, **urls, "LOG_FORMAT": "json"}

    def _list_needs(self) -> Needs:
        return Needs(
            env=self._build_env(),
            url=self.running.buses[SYSTEM],
            timeout_sec=self.timeout_sec,
            grace_sec=GRACE * self.timeout_sec,
            memory_mb={"writer": LEAK_SHARE * LEAK_MB},
        )

    def has_restarted(self, svc: str, since: float) -> bool:
        """Return True if a service of the fleet runs in a process that was started after `since`."""
        if svc not in self.names:
            return False
        process = self.read_process(svc)
        return process.pid is not None and time.time() - process.age_sec > since

    def wait_until_old(self, svc: str, sec: float) -> None:
        """Wait until a process is older than `sec`, so that its next restart has the shortest pause."""
        self.wait(lambda: self.read_process(svc).age_sec > sec, f"{svc} to be older than {sec:g} s")

    def clear_caches(self, services: set[str]) -> None:
        """Do by hand for some services what the remedies other than a restart do."""
        keys = {**CACHED_KEYS, "sources": source_breaker_key(SOURCE)}
        for svc in services & keys.keys():
            self.bus(MARKET).delete(keys[svc])
        if "board" in services:
            self.order("board", "connect")

    # --- the truth ---

    def _add_outside(self) -> None:
        self.bus(MARKET).hset(MARKET_SOURCES, SOURCE, "{}")
        with self.change_truth() as services:
            for svc in (*self._managed, *self._outside_names):
                section = deepcopy({**SECTIONS, **OUTSIDE}[svc])
                needs = [each for each in section.get("depends_on", []) if each in self._managed]
                services[svc] = {**section, "depends_on": needs, "heartbeat": self.heartbeat()}
            if self.has_medic:
                targets = services["medic"]["settings"]["targets"]
                targets |= {svc: TARGETS[svc] for svc in self._outside_names if svc in TARGETS}
        for svc in self._outside_names:
            self.start_outside(svc)

    @contextlib.contextmanager
    def change_truth(self) -> Iterator[dict[str, Any]]:
        """Yield the services of the truth, to be changed; then seed it."""
        yield self.truth["services"]
        self.seed()

    @contextlib.contextmanager
    def changed_truth(self) -> Iterator[dict[str, Any]]:
        """Yield the services of the truth, to be changed and seeded by `seed`; then seed it as it was."""
        before = deepcopy(self.truth["services"])
        try:
            yield self.truth["services"]
        finally:
            self.truth["services"] = before
            self.seed()

    def seed(self, truth: Mapping[str, Any] | None = None) -> None:
        """Seed the truth of the fleet, or another one, which the fleet does not take for its own."""
        path = self.folder / "truth.json"
        path.write_bytes(orjson.dumps(truth or self.truth))
        command = [sys.executable, "-m", "marketswarm", "seed", str(path), "--data"]
        for _ in range(SEED_ATTEMPTS):  # a bus of a busy machine may not answer in time
            done = subprocess.run(
                [*command, str(self._fleet.folder / "fleet")],
                cwd=ROOT,
                check=False,
                capture_output=True,
                text=True,
            )
            if done.returncode == 0:
                return
        raise AssertionError(f"not seeded: {done.stderr.strip() or done.stdout.strip()}")

    def wait_until_proven(self) -> None:
        """Wait until the truth has been in force for so long that it can be put back."""
        since, sec = float(self.bus().hget(TRUTH_META, "seeded_at")), ROLLBACK * self.timeout_sec
        self.wait(lambda: time.time() - since > sec, f"the truth to be in force for {sec:g} s")

    def wait_until_followed(self) -> None:
        """Wait until the medic, or mesh where there is none, beats with the newest revision of the truth."""
        revision = int(self.bus().hget(TRUTH_META, "revision"))
        svc = "medic" if self.has_medic else "mesh"

        def is_followed() -> bool:
            beat = parse_beat((self.bus().get(last_beat_key(svc)) or "").encode(), svc)
            return isinstance(beat, Beat) and (beat.rev or 0) >= revision

        self.wait(is_followed, f"{svc} to follow revision {revision}")

    # --- what happened ---

    def read_entries(self, since: float) -> list[TimelineEntry]:
        found: Any = self.bus().xrange(MEDIC_INCIDENTS)
        parsed = (TimelineEntry.parse(fields.get(ENTRY_FIELD, "").encode()) for _, fields in found)
        return [each for each in parsed if each is not None and each.ts >= since]

    def read_actions(self, since: float) -> list[HealerAction]:
        if self._policy is not None:
            return [each for each in self._policy.actions if each.ts >= since]
        if self.manager is not None:
            return [each for each in self.manager.read_actions() if each.ts >= since]
        acted = (each for each in self.read_entries(since) if each.what is EntryKind.ACTED)
        return [HealerAction(each.ts, each.svc, each.remedy) for each in acted]

    def read_given_up(self, since: float) -> list[tuple[float, str]]:
        """Return when a healer other than the medic gave up a service, and which."""
        found = [] if self.manager is None else self.manager.read_given_up()
        return [(ts, svc) for ts, svc in found if ts >= since]

    def read_alerts(self, since: float) -> list[tuple[float, str]]:
        """Return when people got an event about something that is wrong, and about what."""
        found: Any = self.bus().xrange(ALERT_LOG)
        events = (orjson.loads(fields["event"]) for _, fields in found)
        return [
            (each["ts"], each["svc"])
            for each in events
            if each["type"].endswith("_miss") and each["ts"] >= since
        ]

    def read_down(self) -> set[str]:
        roster = self.bus().hgetall(ROSTER)
        return {svc for svc, raw in roster.items() if orjson.loads(raw).get("verdict") == "down"}

    def read_open(self) -> set[str]:
        """Return the services that the medic works on."""
        return {
            name.partition(":")[2] for name in self.bus().hkeys(MEDIC_STATE) if name.startswith("repair:")
        }

    def is_well(self, svc: str) -> bool:
        """Return True if a service beats `ok`, was heard within its timeout, and the healer has it as up."""
        bus = self.bus()
        key = last_beat_key(svc)
        raw, left_ms, entry = bus.get(key), int(bus.pttl(key)), bus.hget(ROSTER, svc)
        if not raw or not entry or left_ms < FRESH_LIFE * 1000 * self.timeout_sec:
            return False
        is_up = orjson.loads(entry).get("verdict") == "up"
        beat = orjson.loads(raw)
        return bool(is_up and beat.get("status", "ok") == "ok" and self._is_of_process(svc, beat["ts"]))

    def _is_of_process(self, svc: str, beat_at: float) -> bool:
        """Return False for a beat of an earlier process: monit and supervisord start the next one at once."""
        if self.manager is None or svc not in self._managed:
            return True
        return time.time() - self.manager.read_process(svc).age_sec < beat_at

    def wait_until_settled(self, services: set[str]) -> None:
        """Wait until services are well, and nothing is done about them any more."""

        def is_settled() -> bool:
            return all(map(self.is_well, services)) and not services & self.read_open()

        def describe() -> str:
            unwell = sorted(each for each in services if not self.is_well(each))
            return (
                f"{', '.join(unwell)} to be well, {', '.join(sorted(services & self.read_open()))} to be over"
            )

        self.wait(is_settled, describe, SETTLED_WITHIN_SEC)

    def approve(self, ident: str) -> None:
        approval = {"id": ident, "by": "gym", "ts": time.time()}
        self.bus().hset(MEDIC_APPROVALS, ident, orjson.dumps(approval))

    def wait(self, look: Callable[[], Any], what: str | Callable[[], str], within_sec: float = 30.0) -> Any:
        """Return the first true value of `look`. Raises AssertionError if there is none in time."""
        until = time.monotonic() + within_sec
        while not (found := look()):
            if time.monotonic() > until:
                raise AssertionError(
                    f"not within {within_sec:g} s: {what if isinstance(what, str) else what()}"
                )
            time.sleep(POLL_SEC)
        return found


def end_process(process: subprocess.Popen[bytes]) -> None:
    process.terminate()  # what keeps another one ends that first
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(2)
    process.kill()
    process.wait(10)
