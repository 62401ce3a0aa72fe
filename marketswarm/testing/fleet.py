"""A real fleet for a test: two servers on free ports, the healer, and the services to be tested.

It is `marketswarm up`, in a folder of the test's own and with short timeouts, so what is proven here holds
for `make run`. All of it ends by pid, with the block, and with the test's process at the latest.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import orjson
import redis

from marketswarm.bus import variable_of
from marketswarm.fleet import data_folder
from marketswarm.fleet.control import ask
from marketswarm.fleet.parent_death_guard import die_with_parent
from marketswarm.fleet.preflight import is_port_free
from marketswarm.testing.hurried import HEALER, SYSTEM, hurried

UP_WITHIN_SEC: Final = 60.0  # a busy machine, and a first start of everything
WITHIN_SEC: Final = 30.0
_END_WITHIN_SEC: Final = 15.0
_LOOK_EVERY_SEC: Final = 0.02
_PORTS: Final = range(30_000, 32_000)  # below those that the kernel takes for outgoing connections
# what would lead a test's fleet out of its folder, or make people hear of it
_NOT_INHERITED: Final = ("TRUTH_", "MARKETSWARM_", "METRICS_", "REDIS_URL", "LOG_", "PYTHONSAFEPATH")

T = TypeVar("T")


class FleetError(AssertionError):
    """The fleet did not do what it was asked, or not in time; the message has its last words."""


class Fleet:
    """`with Fleet(tmp_path, "prices") as fleet:` - the servers, the healer and prices are up.

    Args:
        folder: for data, logs and the truth; a test's own.
        services: what is started beside the healer, as the truth names it.
        project: the folder that `services/` is in; by default the current one.
        truth: the document, or where it is; by default `truth.json` of the project.
        interval_sec: between two beats of each.
        timeout_sec: after which silence each is missed.
        env: what is set for all of them besides. Buses, truths and ports that the environment names are not.
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
        document = truth if isinstance(truth, Mapping) else _read(truth or self.project / "truth.json")
        self.truth = hurried(document, services, interval_sec, timeout_sec)

    def __enter__(self) -> Self:
        try:
            self._start()
            self.until(lambda: self._said("fleet.up"), UP_WITHIN_SEC, "all to be up")
            self._waited = {event["id"] for event in self.alerts()}  # that they came up for the first time
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def stop(self, svc: str) -> None:
        """Tell a service to stop; it says goodbye, and stays stopped until `start`."""
        self._do("stop", svc)

    def start(self, svc: str) -> None:
        """Start one that was stopped or killed."""
        self._do("start", svc)

    def kill(self, svc: str) -> None:
        """End it by SIGKILL. It is started again when it was missed, or by `start`."""
        self._do("kill", svc)

    def wait(self, kind: str, svc: str, within_sec: float = WITHIN_SEC) -> dict[str, Any]:
        """The next alert of that type on that service since the fleet was up, each given out once.

        Raises FleetError when there is none in time.
        """
        event = self.until(lambda: self._next(kind, svc), within_sec, f"{kind} of {svc}")
        self._waited.add(event["id"])
        return event

    def alerts(self) -> list[dict[str, Any]]:
        """All that the healer has told so far, oldest first."""
        entries: Any = self.bus(SYSTEM).xrange("healer:alerts:log")
        return [orjson.loads(fields["event"]) for _, fields in entries]

    def beat(self, svc: str) -> dict[str, Any]:
        """Its last beat, with `status` and `detail` as far as it says them; empty while there is none."""
        host = urlsplit(self.truth["services"][svc]["heartbeat"].get("redis_url", "")).hostname
        bus = next((name for name in self.truth["buses"] if name.lower() == host), SYSTEM)
        found: Any = self.bus(bus).get(f"beat:{svc}")
        return dict(orjson.loads(found)) if found else {}

    def bus(self, name: str) -> redis.Redis:
        """A client of a bus, for looking and for feeding; it is closed with the fleet."""
        if name not in self._clients:
            self._clients[name] = redis.Redis.from_url(self.url(name), decode_responses=True)
        return self._clients[name]

    def url(self, name: str) -> str:
        """Where a bus is."""
        fleet = self._running()
        return fleet.buses[name]

    def until(self, look: Callable[[], T | None], within_sec: float = WITHIN_SEC, what: str = "it") -> T:
        """What `look` gives, once that is true.

        Raises FleetError after that time, or when the fleet ended.
        """
        deadline = time.monotonic() + within_sec
        while not (found := look()):
            if self._process is None or self._process.poll() is not None:
                raise FleetError(f"the fleet ended while waiting for {what}: {self._last_words()}")
            if time.monotonic() > deadline:
                raise FleetError(f"not within {within_sec:g} s: {what}. {self._last_words()}")
            time.sleep(_LOOK_EVERY_SEC)
        return found

    def close(self) -> None:
        """Ends all of it; may be called twice."""
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
        line = [sys.executable, "-m", "marketswarm", "up", "--port", str(_free(len(self.truth["buses"])))]
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
        places = tuple(variable_of(name) for name in self.truth["buses"])
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith((*_NOT_INHERITED, *places)) or name == "MARKETSWARM_TEST_RUN"
        }
        return {**kept, **self._env, "LOG_FORMAT": "json"}

    @property
    def _log(self) -> Path:
        return self.folder / "fleet.log"

    def _said(self, event: str) -> bool:
        return f'"event":"{event}"'.encode() in self._log.read_bytes()

    def _last_words(self) -> str:
        text = self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""
        return f"Its last words, of {self._log}:\n{text[-1500:]}"

    def _running(self) -> data_folder.RunningFleet:
        fleet = data_folder.find_fleet(self.folder / "fleet")
        if fleet is None:
            raise FleetError(f"no fleet runs in {self.folder}: {self._last_words()}")
        return fleet

    def _do(self, action: str, svc: str) -> None:
        done, said = ask(self._running().control, action, svc)
        if not done:
            raise FleetError(said)

    def _next(self, kind: str, svc: str) -> dict[str, Any] | None:
        for event in self.alerts():
            if (event["type"], event["svc"]) == (kind, svc) and event["id"] not in self._waited:
                return event
        return None


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _free(count: int) -> int:
    """The first of so many free ports that follow one another."""
    while True:
        first = random.choice(_PORTS)
        if all(is_port_free(first + step) for step in range(count)):
            return first
