"""Fleets on a container engine: this checkout's compose.yaml under a name, ports and a network of their own.

A `Project` is one such fleet. All that belongs to it bears its name, and goes with it: containers, volumes,
the network, its tags of the image. Nothing here stands in for a part: the image is built from this checkout,
the containers are the engine's, and the commands that the pages show are run as they are shown.

What is done to containers is done by the engine's command, a process each time. Their state is read from the
engine's socket: a test that waits asks for it four times a second, and two processes cost ten times as much.
"""

import contextlib
import functools
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import httpx
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from marketswarm.operator.healing import TimelineEntry
from support.leftovers import PROJECT, PROJECTS, TAG, begun_project, end_project
from support.pages import shown
from support.rig.alert_tail import AlertTail
from support.rig.closes import Closes
from support.rig.process import HOST, Process, free_port
from support.waiting import Patience

ROOT = Path(__file__).parents[3]
PAGE = "docs/containers.md"
RUNBOOKS = "tests/compose/operator_runbooks.md"
BUSES = ("system-redis", "market-redis")
WATCHED = ("rss_agg", "massive", "mesh", "vexy_ai")
AGENTS = (*WATCHED, "healer", "sentinel", "notifier", "board", "medic")
IMAGE = "marketswarm"
HASTY_SEC = 4
"""The timeout of everyone, where a test does not wait for the shipped one."""
# of the caller's environment nothing may reach a container, and no .env: what a fleet of his is told is his
_INHERITED = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", TAG, "PYTEST_CURRENT_TEST")
_NO_ENV_FILE = {"COMPOSE_ENV_FILES": os.devnull, "BUILDKIT_PROGRESS": "plain"}
_HAPROXY = """
FROM debian:bookworm-slim
RUN apt-get update && apt-get install --yes --no-install-recommends haproxy
STOPSIGNAL SIGUSR1
CMD ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
"""
"""What stands in for haproxy:3.0 where no registry answers."""
_PASSWORDS = """
import json, pathlib
files = pathlib.Path("/access/secrets").iterdir()
print(json.dumps({file.name: file.read_text().strip() for file in files}))
"""


def why_no_engine() -> str:
    """Why nothing here can run; empty when an engine answers."""
    if shutil.which("docker") is None:
        return "no docker on PATH"
    for asked in (["docker", "compose", "version"], ["docker", "version", "-f", "{{.Server.Version}}"]):
        try:
            done = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)
        except subprocess.TimeoutExpired:
            return f"{' '.join(asked)} does not answer"
        if done.returncode:
            return next(iter(done.stderr.strip().splitlines()[-1:]), f"{' '.join(asked)} failed")
    return ""


@functools.cache
def find_engine_socket() -> Path:
    """Return the socket of the engine that the command talks to, which is on this machine."""
    line = ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]
    host = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    assert host.startswith("unix://"), f"the engine at {host} is none of this machine"
    return Path(host.removeprefix("unix://"))


@functools.cache
def ask_engine() -> httpx.Client:
    """Return a client of that engine."""
    socket = httpx.HTTPTransport(uds=str(find_engine_socket()))
    # a connection for each question: none is left open at the end
    return httpx.Client(
        transport=socket, base_url="http://engine", timeout=60, headers={"Connection": "close"}
    )


def patiently(predicate: Callable[[], Any], within: float, what: str = "") -> Any:
    """Call `predicate` four times a second until its result is true; return that, or raise AssertionError."""
    patience = Patience(within)
    while not (found := predicate()):
        assert not patience.is_over(), f"not within {within:g} s: {what or predicate}"
        time.sleep(0.25)
    return found


def begins_anew(heard: AlertTail, since: float) -> None:
    """Waits for the first beat of a process that began since then, on the monotonic clock."""
    patiently(lambda: any(at > since and beat["i"] == 1 for at, beat in list(heard.seen)), 60, "a first beat")


def find_gateway() -> str:
    """Return the address of this machine on the engine's own network, which every container reaches."""
    line = ["docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


class Subscriber(Process):
    """A command of a page that goes on until it is ended."""

    def __init__(self, line: str, output: Path) -> None:
        super().__init__()
        self.output = output
        with output.open("wb") as sink:
            self.spawn(["bash", "-c", f"exec {line}"], stdout=sink, stderr=subprocess.STDOUT)

    def text(self) -> str:
        """Return what it printed so far."""
        return self.output.read_text(encoding="utf-8")

    def outages(self, svc: str) -> list[dict[str, Any]]:
        """Return the events that it printed about one service, but for gaps of a test before."""
        lines = (line for line in self.text().splitlines() if line.startswith("{"))
        events = [event for event in map(json.loads, lines) if event["svc"] == svc]
        return [event for event in events if event["type"] != "heartbeat_gap"]


class Container:
    """The state of one container, as the engine reports it."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        labels = said["Config"]["Labels"]
        self.said = said
        self.id: str = said["Id"]
        self.service: str = labels["com.docker.compose.service"]
        self.apart = labels.get("com.docker.compose.oneoff") == "True"  # of `docker compose run`
        self.pid: int = said["State"]["Pid"]
        self.status: str = said["State"]["Status"]
        self.exit_code: int = said["State"]["ExitCode"]
        self.restarts: int = said["RestartCount"]
        self.health: str = said["State"].get("Health", {}).get("Status", "none")

    def __str__(self) -> str:
        return f"{self.service}: {self.status} ({self.exit_code}), {self.health}, {self.restarts} restarts"

    def kill(self) -> None:
        """Kill -9 of its main process; the engine takes that for a crash, and not for somebody's wish."""
        assert self.pid, f"{self} runs no process"
        os.kill(self.pid, signal.SIGKILL)

    def freeze_agent(self) -> None:
        """Stop the one process below the container's init, by SIGSTOP."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii")
        (agent,) = map(int, children.split())
        os.kill(agent, signal.SIGSTOP)


class Project(Closes):
    """A fleet of its own: `with Project(tmp_path) as fleet: fleet.script(…)`; nothing runs before that.

    `truth` is the file that its bootstrap seeds, a copy of the shipped one; `env` what the commands are told.
    """

    def __init__(self, folder: Path) -> None:
        self.name = f"{PROJECTS}-{os.environ[TAG]}-{secrets.token_hex(3)}"
        self.network = f"{self.name}-bus"
        self.truth = folder / "truth.json"
        self.ports = {bus: free_port() for bus in BUSES}
        self.board_port = free_port()
        shutil.copyfile(ROOT / "truth.json", self.truth)
        self.own = {
            "COMPOSE_PROJECT_NAME": self.name,
            "MARKETSWARM_NETWORK": self.network,
            "MARKETSWARM_TAG": self.name,
            "SYSTEM_REDIS_PORT": str(self.ports["system-redis"]),
            "MARKET_REDIS_PORT": str(self.ports["market-redis"]),
            "BOARD_PORT": str(self.board_port),
            "TRUTH_FILE": str(self.truth),
            "MARKETSWARM_DATA": str(folder / "data"),  # a fleet of `make run` in the checkout is not this one
        }
        self.begun_with: list[dict[str, Any]] = []
        self.env = (
            {name: os.environ[name] for name in _INHERITED if name in os.environ} | _NO_ENV_FILE | self.own
        )

    def __enter__(self) -> Self:
        begun_project(self.name)
        return self

    def close(self) -> None:
        """Ends it and removes all that bears its name; may be called twice."""
        end_project(self.name)

    @property
    def image(self) -> str:
        return f"{IMAGE}:{self.env['MARKETSWARM_TAG']}"

    # -- commands

    def run(
        self, *line: str, within: float = 90.0, check: bool = True, feed: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """A command at the root of the checkout, in this fleet's environment; it must end with 0."""
        done = subprocess.run(
            line,
            cwd=ROOT,
            env=self.env,
            input=feed,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )
        assert not (check and done.returncode), (
            f"{line} ended with {done.returncode}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
        return done

    def compose(self, *words: str, within: float = 90.0, feed: str = "") -> str:
        return self.run("docker", "compose", *words, within=within, feed=feed).stdout

    def script(self, text: str, within: float = 240.0) -> str:
        """Run commands of a page in bash, with this fleet's ports and network; return their output."""
        return self.run("bash", "-euo", "pipefail", "-c", self.here(text), within=within).stdout

    def here(self, text: str) -> str:
        """A page's commands for this fleet: the ports and the network have to be others than the page's."""
        for port, bus in (("6379", "system-redis"), ("6380", "market-redis")):
            text = re.sub(rf"-p {port}\b", f"-p {self.ports[bus]}", text)
        text = re.sub(
            r"^redis-cli (?!-)", f"redis-cli -p {self.ports['system-redis']} ", text, flags=re.MULTILINE
        )
        return re.sub(r"\bmarketswarm-bus\b", self.network, text)

    def seed(self, text: str) -> None:
        """The runbook that forces a reseed, with this truth."""
        self.truth.write_text(text, encoding="utf-8")
        self.script(shown(PAGE, "Force reseed"))

    def make(self, *words: str, within: float = 90.0) -> str:
        """Run a target of the Makefile; return its output."""
        return self.run("make", *words, within=within).stdout

    def inside(self, service: str, code: str, *arguments: str, feed: str = "") -> str:
        """Run a Python program in an agent's container, as its user; return its output."""
        return self.compose("exec", "-T", service, "python", "-c", code, *arguments, feed=feed)

    # -- what the engine says

    def containers(self) -> dict[str, Container]:
        """Those of its services, by service."""
        mine = {"all": "true", "filters": json.dumps({"label": [f"{PROJECT}={self.name}"]})}
        found = ask_engine().get("/containers/json", params=mine).raise_for_status().json()
        answers = [ask_engine().get(f"/containers/{one['Id']}/json") for one in found]
        # one that went meanwhile is not found
        said = [
            each.raise_for_status().json() for each in answers if each.status_code != httpx.codes.NOT_FOUND
        ]
        return {one.service: one for one in map(Container, said) if not one.apart}

    def __getitem__(self, service: str) -> Container:
        return self.containers()[service]

    def left(self) -> dict[str, list[str]]:
        """The names of all that it has on the engine, by kind; its image apart."""
        lists = {
            "containers": ("ps", "--all", "--format", "{{.Names}}"),
            "volumes": ("volume", "ls", "--format", "{{.Name}}"),
            "networks": ("network", "ls", "--format", "{{.Name}}"),
        }
        named = ("--filter", f"name={self.name}")
        return {kind: self.run("docker", *line, *named).stdout.split() for kind, line in lists.items()}

    def unhealthy(self, services: Iterable[str] = (*BUSES, *AGENTS)) -> list[str]:
        """Those that are not there, not running or not healthy, and what the engine says of them."""
        found = self.containers()
        return [
            str(found.get(one, one)) for one in services if one not in found or found[one].health != "healthy"
        ]

    def healthy(self, within: float = 90.0) -> None:
        """Waits until all of it runs and is well."""
        try:
            patiently(lambda: not self.unhealthy(), within)
        except AssertionError:
            logs = self.run("docker", "compose", "logs", "--tail=20", check=False).stdout
            raise AssertionError(f"not well within {within:g} s: {self.unhealthy()}\n{logs}") from None

    # -- what the buses say

    def url(self, bus: str = "system-redis", user: str = "") -> str:
        """Return the URL of a bus from the host: of a user with his password, or of nobody."""
        who = f"{user}:{self.passwords[user]}@" if user else ""
        return f"redis://{who}{HOST}:{self.ports[bus]}"

    @functools.cached_property
    def passwords(self) -> dict[str, str]:
        """The password of each user of the buses, as the owner of the engine may see them: in the volume."""
        line = ("run", "--rm", "--user", "0", "--volume", f"{self.name}_access:/access:ro", self.image)
        return dict(json.loads(self.run("docker", *line, "python", "-c", _PASSWORDS).stdout))

    def passwords_anew(self) -> None:
        """They are read again when the next is asked for."""
        self.__dict__.pop("passwords", None)

    def ask(self, *words: Any, bus: str = "system-redis", user: str = "") -> Any:
        """Send a command to a bus; return the reply, as text."""
        with redis.Redis.from_url(
            self.url(bus, user), decode_responses=True, socket_timeout=5, retry=Retry(NoBackoff(), 0)
        ) as client:
            return client.execute_command(*words)

    def answers(self, bus: str) -> bool:
        """Return True if a bus answers, and has loaded what it keeps."""
        try:
            return bool(self.ask("PING", bus=bus, user="operator"))
        except redis.RedisError:
            return False

    def revision(self, bus: str = "system-redis") -> int:
        """Of the truth."""
        return int(self.ask("HGET", "truth:meta", "revision", bus=bus, user="operator"))

    def told(self, bus: str = "system-redis") -> list[dict[str, Any]]:
        """All events on a bus's log; none while the bus is away."""
        try:
            entries = self.ask("XRANGE", "healer:alerts:log", "-", "+", bus=bus, user="operator")
        except redis.ConnectionError:
            return []
        return [json.loads(fields["event"]) for _, fields in entries]

    def wait_until_heard(self) -> None:
        """Wait until the healer has heard each agent; keep the events of the start in `begun_with`."""

        def is_heard() -> bool:
            return {event["svc"] for event in self.told() if event["type"].endswith("_ok")} >= set(AGENTS)

        patiently(is_heard, 60, "an ok for each")
        self.begun_with = self.told()

    def beats(self, service: str) -> AlertTail:
        """Its beats as they come."""
        return AlertTail(self.url(), f"{service}:heartbeat")


@contextlib.contextmanager
def run_healing(project: Project, files: str) -> Iterator[None]:
    """Have medic restart containers of a project that runs by `files`, by compose.healing.yaml over them.

    In the end the proxy is removed, and medic is made again without it; the test makes medic before that.
    """
    image, before = "haproxy:3.0", project.env.get("COMPOSE_FILE")
    has_image = project.run("docker", "image", "inspect", image, check=False).returncode == 0
    if not has_image:
        image = f"{project.name}-haproxy:test"
        project.run("docker", "build", "--quiet", "--tag", image, "-", feed=_HAPROXY, within=300)
    project.env |= {"COMPOSE_FILE": f"{files}:compose.healing.yaml", "HAPROXY_IMAGE": image}
    project.env["ENGINE_SOCKET"] = str(find_engine_socket())
    try:
        yield
    finally:
        project.compose("rm", "--stop", "--force", "engine-proxy")
        for name in ("COMPOSE_FILE", "HAPROXY_IMAGE", "ENGINE_SOCKET"):
            del project.env[name]
        if before is not None:
            project.env["COMPOSE_FILE"] = before
        project.compose("up", "--detach", "medic")
        if not has_image:
            project.run("docker", "image", "rm", image)


def read_steps(project: Project, svc: str) -> list[str]:
    """Return what the entries of a service's outages say, oldest first."""
    found = project.ask("XREVRANGE", "medic:incidents", "+", "-", user="operator")
    parsed = [TimelineEntry.parse(fields["entry"].encode()) for _, fields in reversed(found)]
    return [str(each.what) for each in parsed if each is not None and each.svc == svc]
