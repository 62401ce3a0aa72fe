"""A stand-in for a container engine: five requests of the documented Docker Engine API, on a Unix socket.

It is no engine: it runs nothing, and its containers are what a test says.
"""

import json
import socketserver
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class StandInContainer:
    """One container.

    `said` replaces parts of what an inspection answers, `listed` of its entry in a list, `used` of its usage.
    """

    id: str
    labels: dict[str, Any]
    state: str = "running"
    started_at: str = "2020-01-02T03:04:05.678901234Z"
    restarts: int = 0
    exit_code: int = 0
    is_oom_killed: bool = False
    status: str = "Up 3 hours"
    said: dict[str, Any] = field(default_factory=dict)
    listed: dict[str, Any] = field(default_factory=dict)
    used: dict[str, Any] = field(default_factory=dict)
    memory_bytes: int = 60_000_000
    cpu_ns: int = 5_000_000_000
    starts: int = 0
    has_terminal: bool = False
    logged: list[tuple[int, float, bytes]] = field(default_factory=list)

    def write(self, *lines: str | bytes, stream: int = 1, at: float | None = None) -> None:
        """Add lines to the log, of stdout (1) or stderr (2), at a time in epoch seconds."""
        for line in lines:
            text = line.encode() if isinstance(line, str) else line
            self.logged.append((stream, time.time() if at is None else at, text + b"\n"))

    def read_log(self, since: float, tail: int) -> bytes:
        """Return what an engine answers: each line after its time, in a frame unless there is a terminal."""
        frames = []
        for stream, at, text in self.logged[-tail:]:
            if at >= since:
                moment = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z ").encode()
                head = b"" if self.has_terminal else struct.pack(">BxxxL", stream, len(moment + text))
                frames.append(head + moment + text)
        return b"".join(frames)

    def show(self) -> dict[str, Any]:
        labels = {"Labels": self.labels, "Names": ["/x"], "Image": "x", "Created": 1}
        return {"Id": self.id, "State": self.state, "Status": self.status, **labels, **self.listed}

    def inspect(self) -> dict[str, Any]:
        state = {
            "Status": self.state,
            "Running": self.state in ("running", "restarting", "paused"),
            "OOMKilled": self.is_oom_killed,
            "ExitCode": self.exit_code,
            "StartedAt": self.started_at,
            **self.said.get("State", {}),
        }
        rest = {name: value for name, value in self.said.items() if name != "State"}
        config = {"Labels": self.labels, "Env": ["DATABASE_PASSWORD=hunter2"], "Tty": self.has_terminal}
        return {"Id": self.id, "RestartCount": self.restarts, "State": state, "Config": config, **rest}

    def measure(self) -> dict[str, Any]:
        """Return the usage: 20 MB of files besides its memory, of a limit of 100 MB."""
        details = {"inactive_file": 20_000_000, "anon": self.memory_bytes, "pgfault": 1}
        memory = {"usage": self.memory_bytes + 20_000_000, "stats": details, "limit": 100_000_000}
        cpu = {"cpu_usage": {"total_usage": self.cpu_ns}, "system_cpu_usage": 2**60, "online_cpus": 2}
        return {"name": "/x", "id": self.id, "memory_stats": memory, "cpu_stats": cpu, **self.used}

    def start_again(self) -> None:
        self.started_at = f"{2021 + self.starts}-01-01T00:00:00Z"
        self.starts += 1
        self.state = "running"


class ContainerEngineStandIn:
    """`with closing(ContainerEngineStandIn(folder)) as engine:` is an engine without containers.

    `asked` has each request, method and path,
    `strange` those that are none of the five.

    `answer` may return a status and a body in place of the answer to a request, or None. `on_restart` does
    what a restart does to a container.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "engine.sock"
        self.containers: dict[str, StandInContainer] = {}
        self.asked: list[tuple[str, str]] = []
        self.strange: list[tuple[str, str]] = []
        self.answer: Callable[[str, str], tuple[int, bytes] | None] = lambda _method, _path: None
        self.on_restart: Callable[[StandInContainer], None] = StandInContainer.start_again
        self._server = _Server(str(self.path), _make_handler(self))
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def add(self, svc: str, number: int = 1, project: str | None = "shop", **more: Any) -> StandInContainer:
        """Add a container of an agent as Compose labels it; without a project, by our own label."""
        compose = {"com.docker.compose.project": project, "com.docker.compose.service": svc}
        compose["marketswarm.agent"] = "true"
        labels = {"marketswarm.service": svc} if project is None else {**compose, **more.pop("labels", {})}
        container = StandInContainer(f"{len(self.containers):02d}{number:062x}", labels, **more)
        self.containers[container.id] = container
        return container

    def count(self, word: str) -> int:
        """Return how many requests have this word in their path."""
        return sum(word in path for _, path in self.asked)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def make_answer(self, method: str, target: str) -> tuple[int, bytes]:
        self.asked.append((method, target))
        given = self.answer(method, target)
        if given is not None:
            return given
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        match method, path.removeprefix("/v1.44").split("/"):
            case "GET", ["", "containers", "json"]:
                wanted = json.loads(query.get("filters", ["{}"])[0]).get("label", [])
                found = [each for each in self.containers.values() if _has_labels(each, wanted)]
                return 200, json.dumps([each.show() for each in found]).encode()
            case "GET", ["", "containers", name, "json"] if name in self.containers:
                return 200, json.dumps(self.containers[name].inspect()).encode()
            case "GET", ["", "containers", name, "stats"] if name in self.containers:
                assert query == {"stream": ["false"], "one-shot": ["true"]}, "an engine would go on for ever"
                return 200, json.dumps(self.containers[name].measure()).encode()
            case "GET", ["", "containers", name, "logs"] if name in self.containers:
                since, tail = float(query.pop("since")[0]), int(query.pop("tail")[0])
                assert query == {"stdout": ["true"], "stderr": ["true"], "timestamps": ["true"]}
                return 200, self.containers[name].read_log(since, tail)
            case "POST", ["", "containers", name, "restart"] if name in self.containers:
                self.on_restart(self.containers[name])
                return 204, b""
            case _, ["", "containers", _, "json" | "stats" | "logs" | "restart"]:
                return 404, b'{"message": "No such container"}'
        self.strange.append((method, target))
        return 501, b""


def _has_labels(container: StandInContainer, wanted: list[str]) -> bool:
    pairs = (each.partition("=") for each in wanted)
    return all(
        name in container.labels and (not equals or container.labels[name] == value)
        for name, equals, value in pairs
    )


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64  # as many as a proxy takes; five are fewer than are asked at once

    def handle_error(self, *_args: Any) -> None:
        """Say nothing of a client that hangs up."""


def _make_handler(engine: ContainerEngineStandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 20

        def do_GET(self) -> None:
            status, body = engine.make_answer(self.command, self.path)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the library's name

        def log_message(self, *_args: Any) -> None:
            pass

        def address_string(self) -> str:
            return "client"

    return Handler
