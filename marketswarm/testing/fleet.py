"""Start a real fleet for a test: two servers on free ports, the healer, and the services to be tested.

The fleet is `marketswarm up` with the test's own folder and short timeouts, so the test runs the same code as
`make run`. All processes end with the `with` block, and at the latest with the test's process.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import orjson
import redis

from marketswarm.agent.parent_death_guard import die_with_parent
from marketswarm.bus import get_url_variable
from marketswarm.fleet import data_folder
from marketswarm.fleet_control import send_request
from marketswarm.keys import ALERT_LOG, last_beat_key
from marketswarm.testing.ports import find_free_ports
from marketswarm.truth import HEALER, MARKET, SYSTEM

UP_WITHIN_SEC: Final = 60.0  # enough for the first start on a busy machine
WITHIN_SEC: Final = 30.0
_END_WITHIN_SEC: Final = 15.0
_POLL_EVERY_SEC: Final = 0.02
"""The pause between two checks of a condition."""
# variables that would lead a test's fleet out of its folder, or make it notify people
_NOT_INHERITED: Final = (
    *("TRUTH_", "MARKETSWARM_", "METRICS_", "BOARD_", "REDIS_URL", "LOG_", "PYTHONSAFEPATH"),
)

T = TypeVar("T")


class FleetError(AssertionError):
    """The fleet did not do what the test asked for, or not in time; the message has the end of its log."""


class Fleet:
    """A running fleet: inside `with Fleet(tmp_path, "prices") as fleet:` the healer and prices are up.

    Args:
        folder: the folder for data, logs and the truth; no other test may use it.
        project: the folder with `services/`; by default the current folder.
        truth: the document or its path; by default `truth.json` of the project.
        interval_sec: the time between two beats of a service.
        timeout_sec: the silence after which a service is missed.
        env: more environment variables for all processes. Those of this process that name buses, truths or
            ports are not passed on.
    """

    def __init__(
        self,
        folder: Path,
        *services: str,
        project: Path | None = None,
        truth: Path | Mapping[str, Any] | None = None,
        interval_sec: float = 0.3,
        timeout_sec: float = 1.5,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.services = folder.absolute(), services
        self.project = (project or Path.cwd()).absolute()
        self.timeout_sec = timeout_sec
        self._env = dict(env or {})
        self._waited: set[str] = set()
        self._clients: dict[str, redis.Redis] = {}
        self._process: subprocess.Popen[bytes] | None = None
        if not isinstance(truth, Mapping):
            truth = dict(orjson.loads((truth or self.project / "truth.json").read_bytes()))
        self.truth = build_test_truth(truth, services, interval_sec, timeout_sec)

    def __enter__(self) -> Self:
        try:
            self._start()
            self.until(lambda: b'"event":"fleet.up"' in self._log.read_bytes(), UP_WITHIN_SEC, "all to be up")
            # so that `wait` skips the first `ok` of each service
            self._waited = {event["id"] for event in self.alerts()}
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The pid of `marketswarm up`, the parent of servers and agents; None after `close`."""
        return self._process.pid if self._process else None

    def stop(self, svc: str) -> None:
        """Stop a service by SIGTERM, and by SIGKILL after its grace time; it stays stopped until `start`."""
        self._send_control_request("stop", svc)

    def start(self, svc: str) -> None:
        self._send_control_request("start", svc)

    def kill(self, svc: str) -> None:
        """End a service by SIGKILL. The fleet starts it again once the healer misses it, or at `start`."""
        self._send_control_request("kill", svc)

    def wait(self, kind: str, svc: str, within_sec: float = WITHIN_SEC) -> dict[str, Any]:
        """Return the oldest new alert `kind` about `svc`. Raises FleetError if it does not come in time."""

        def find_alert() -> dict[str, Any] | None:
            new = (event for event in self.alerts() if event["id"] not in self._waited)
            return next((event for event in new if (event["type"], event["svc"]) == (kind, svc)), None)

        event = self.until(find_alert, within_sec, f"{kind} of {svc}")
        self._waited.add(event["id"])
        return event

    def alerts(self) -> list[dict[str, Any]]:
        entries: Any = self.bus(SYSTEM).xrange(ALERT_LOG)
        return [orjson.loads(fields["event"]) for _, fields in entries]

    def beat(self, svc: str) -> dict[str, Any]:
        """Return the last beat of a service; an empty dict if there is none."""
        host = urlsplit(self.truth["services"][svc]["heartbeat"].get("redis_url", "")).hostname
        bus = next((name for name in self.truth["buses"] if name.lower() == host), SYSTEM)
        found: Any = self.bus(bus).get(last_beat_key(svc))
        return dict(orjson.loads(found)) if found else {}

    def bus(self, name: str) -> redis.Redis:
        """Return a Redis client of the bus `name`, to read and to write; the fleet closes it."""
        if name not in self._clients:
            self._clients[name] = redis.Redis.from_url(self.url(name), decode_responses=True)
        return self._clients[name]

    def url(self, name: str) -> str:
        return self._find_running_fleet().buses[name]

    def until(self, look: Callable[[], T | None], within_sec: float = WITHIN_SEC, what: str = "it") -> T:
        """Call `look` until its result is true, and return that result.

        Raises FleetError, which names the condition `what`, if it was not true in time, or the fleet ended.
        """
        deadline = time.monotonic() + within_sec
        while not (found := look()):
            if self._process is None or self._process.poll() is not None:
                raise FleetError(f"the fleet ended while waiting for {what}: {self._log_tail()}")
            if time.monotonic() > deadline:
                raise FleetError(f"not within {within_sec:g} s: {what}. {self._log_tail()}")
            time.sleep(_POLL_EVERY_SEC)
        return found

    def close(self) -> None:
        """End all processes of the fleet; a second call does nothing."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        if self._process is None:
            return
        process, self._process = self._process, None
        process.terminate()
        try:
            process.wait(_END_WITHIN_SEC)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its children die with it
            process.wait()

    def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        truth, data = self.folder / "truth.json", self.folder / "fleet"
        truth.write_bytes(orjson.dumps(self.truth, option=orjson.OPT_INDENT_2))
        buses = len(self.truth["buses"])
        port = find_free_ports(buses + 1)
        line = [sys.executable, "-m", "marketswarm", "up", "--port", str(port)]
        line += ["--board-port", str(port + buses)]
        line += ["--truth", str(truth), "--data", str(data), "--only", ",".join((*self.services, HEALER))]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - this program, by this interpreter
                die_with_parent(line),
                env=self._environ(),
                cwd=self.project,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _environ(self) -> dict[str, str]:
        """Return the environment of this process without the variables that name buses, truths or ports."""
        places = tuple(get_url_variable(name) for name in self.truth["buses"])
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith((*_NOT_INHERITED, *places)) or name == "MARKETSWARM_TEST_RUN"
        }
        return {**kept, **self._env, "LOG_FORMAT": "json"}

    @property
    def _log(self) -> Path:
        return self.folder / "fleet.log"

    def _log_tail(self) -> str:
        """Return the last 1500 characters of the log, with its path."""
        text = self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""
        return f"The end of {self._log}:\n{text[-1500:]}"

    def _find_running_fleet(self) -> data_folder.RunningFleet:
        fleet = data_folder.find_fleet(self.folder / "fleet")
        if fleet is None:
            raise FleetError(f"no fleet runs in {self.folder}: {self._log_tail()}")
        return fleet

    def _send_control_request(self, action: str, svc: str) -> None:
        done, said = send_request(self._find_running_fleet().control, action, svc)
        if not done:
            raise FleetError(said)


def build_test_truth(
    truth: Mapping[str, Any], services: Collection[str], interval_sec: float, timeout_sec: float
) -> dict[str, Any]:
    """Return a truth with only these services and a healer, each beating every `interval_sec` seconds.

    Buses keep only their names, so that the embedded fleet serves them. The document is not checked here.
    Raises KeyError if the truth has no service of that name.
    """
    sections = truth.get("services") or {}
    buses = dict.fromkeys([SYSTEM, MARKET, *(truth.get("buses") or {})])
    beats = {"interval_sec": interval_sec, "timeout_sec": timeout_sec}
    made = {svc: _shorten_section(sections[svc], beats, buses, services) for svc in services}
    healer = _shorten_section(sections.get(HEALER) or {}, beats, buses, services)
    points = healer.get("access_points") or {}
    # the sections name all channels; a channel of any other service would only be missed
    healer["access_points"] = {"publish_to": points.get("publish_to") or []}
    healer["threshold"] = {"heartbeat_cadence": timeout_sec}
    return {
        "buses": {name: {"url": f"redis://{name}:6379"} for name in buses},
        "services": {**made, HEALER: healer},
    }


def _shorten_section(
    section: Mapping[str, Any], beats: Mapping[str, float], buses: Collection[str], kept: Collection[str]
) -> dict[str, Any]:
    """Return a service's section with the short times `beats`, for a fleet with these buses and services.

    URLs of other servers are removed, and so are dependencies on services that are not in `kept`.
    """
    heartbeat = {**(section.get("heartbeat") or {}), **beats}
    host = urlsplit(str(heartbeat.get("redis_url", ""))).hostname
    if host not in {name.lower() for name in buses}:  # a test must not use a server outside its fleet
        heartbeat.pop("redis_url", None)
    made = {**section, "heartbeat": heartbeat}
    if "depends_on" in made:
        made["depends_on"] = [svc for svc in made["depends_on"] if svc in kept]
    return made
