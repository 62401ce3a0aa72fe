"""`marketswarm up` for real, with stand-ins for the agents that start fast and misbehave as asked."""

import asyncio
import contextlib
import os
import pty
import signal
import socket
import threading
from pathlib import Path

import orjson
import pytest
import redis

from marketswarm.access.certificate import Certificate
from marketswarm.fleet import data_folder
from marketswarm.fleet.agent_logs import MAX_BYTES
from marketswarm.fleet.listen import ListenAddress, ListenSetup
from marketswarm.fleet.plan import make_plan
from marketswarm.fleet.server import SERVER_LOG
from marketswarm.fleet.supervisor import FleetSpec, FleetSupervisor
from marketswarm.fleet_control import send_request
from marketswarm.truth import parse_truth
from support.rig import Proc, Server, free_port
from support.rig.process import alive, descendants
from support.waiting import until

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for children in /proc"),
]

BEATS = """
import json, os, socket, sys, time
port = int(os.environ["SYSTEM_REDIS_URL"].rpartition(":")[2])
name = __spec__.name.split(".")[1]
said = {"event": "stand_in.started", "agent": name, "level": "info"}
said["metrics"] = os.environ.get("METRICS_PORT")
said["mine"], said["has_secrets"] = os.environ.get("MY_KEY"), "hunter2" in str(os.environ)
print(json.dumps(said), file=sys.stderr, flush=True)
while True:
    beat = json.dumps({"svc": name, "i": 1, "ts": time.time(), "boot": f"boot {os.getpid()}"})
    with socket.create_connection(("127.0.0.1", port)) as bus:
        for words in (["SET", "beat:" + name, beat, "PX", "60000"], ["PUBLISH", name + ":heartbeat", beat]):
            text = f"*{len(words)}\\r\\n" + "".join(f"${len(w)}\\r\\n{w}\\r\\n" for w in words)
            bus.sendall(text.encode())
            bus.recv(100)
    time.sleep(0.1)
"""
HASTY = {"heartbeat": {"interval_sec": 0.3, "timeout_sec": 1}}
STAND_INS = {
    "steady": BEATS,
    "other": BEATS,
    "board": BEATS,
    "deaf": "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + BEATS,
    "wrong": "import sys; print('no JSON at all', file=sys.stderr); sys.exit(2)",
}


class Up(Proc):
    """`marketswarm up` in a folder of its own."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        services: str = "steady,other",
        port: int = 0,
        replicas: dict[str, int] | None = None,
        **env: str,
    ):
        self.port = port or free_port()
        self.folder = folder
        several = {name: {"replicas": count} for name, count in (replicas or {}).items()}
        self.write_services(*services.split(","), **several)
        env = {"PYTHONPATH": str(folder / "stand_ins"), **env}
        super().__init__("marketswarm", env, folder, "up", "--port", str(self.port), *options)

    def write_services(self, *names: str, **more: dict) -> None:
        """Write stand-ins, and a truth.json that names them and `elsewhere`."""
        for name in names:
            package = self.folder / "stand_ins/services" / name
            package.mkdir(parents=True, exist_ok=True)
            (self.folder / "stand_ins/services/__init__.py").touch()
            (package / "__init__.py").touch()
            (package / "__main__.py").write_text(STAND_INS[name])
        sections = {name: HASTY | more.get(name, {}) for name in (*names, "elsewhere")}
        (self.folder / "truth.json").write_bytes(orjson.dumps({"services": sections}))

    def up(self) -> dict:
        return self.wait_log("fleet.up", 30)

    def children(self) -> dict[int, str]:
        """Pid and command of every process that descends from it."""
        return dict(descendants(self.pid))

    def pid_of(self, what: str) -> int | None:
        return next((pid for pid, command in self.children().items() if what in command), None)

    def pids_of(self, what: str) -> set[int]:
        return {pid for pid, command in self.children().items() if what in command}

    def control(self, action: str, svc: str) -> str:
        fleet = data_folder.find_fleet(self.folder / ".marketswarm")
        assert fleet is not None
        return send_request(fleet.control, action, svc)[1]


def test_open_gives_the_board_to_a_browser_once_the_fleet_is_up_and_waits_for_none(up, tmp_path):
    browser, seen = tmp_path / "browser", tmp_path / "seen"
    browser.write_text(f'#!/bin/sh\necho "$1" > {seen}\nexec sleep 60\n')
    browser.chmod(0o755)
    port = free_port()
    fleet = up("--open", "--board-port", str(port), services="steady,board", BROWSER=str(browser))
    fleet.up()
    until(lambda: seen.exists() and seen.read_text(), what="the browser")
    assert seen.read_text() == f"http://127.0.0.1:{port}\n"
    children = fleet.children()
    assert fleet.stop() == 0
    until(lambda: none_left(pid for pid, command in children.items() if "sleep" not in command))
    for pid in (pid for pid, command in children.items() if "sleep" in command and alive(pid)):
        os.kill(pid, signal.SIGKILL)  # a browser stays open


def none_left(pids) -> bool:
    return not any(map(alive, pids))


@pytest.fixture
def up(tmp_path):
    with contextlib.ExitStack() as ends:
        yield lambda *options, **more: ends.enter_context(Up(tmp_path, *options, **more))


def test_all_comes_up_and_says_where_and_ctrl_c_leaves_nothing(up):
    secrets = dict.fromkeys(("SMTP_PASSWORD", "POLYGON_API_KEY", "WEBHOOK_URL"), "hunter2")
    fleet = up(MY_KEY="mine", **secrets)  # ways to reach people are nothing to a fleet without a notifier
    said = fleet.up()
    assert said["agents"] == ["steady", "other"]
    assert said["buses"]["market-redis"] == f"redis://127.0.0.1:{fleet.port + 1}"
    assert fleet.logs("fleet.elsewhere")[0]["services"] == ["elsewhere"]
    children = fleet.children()
    assert len(children) == 4
    address = data_folder.find_fleet(fleet.folder / ".marketswarm").control
    assert Path(address).stat().st_mode & 0o777 == 0o600
    no_child_has_the_secrets_of_another_in_its_environment(children, fleet)
    second = up(port=free_port())
    assert second.wait() == 2
    assert f"a fleet runs already in .marketswarm (pid {fleet.pid})" in second.text()
    assert fleet.running
    fleet.signal(signal.SIGINT)
    assert fleet.wait() == 0
    assert none_left(children)
    assert data_folder.find_fleet(fleet.folder / ".marketswarm") is None


def no_child_has_the_secrets_of_another_in_its_environment(children, fleet):
    for pid, command in children.items():
        assert b"hunter2" not in Path(f"/proc/{pid}/environ").read_bytes(), command
    until(lambda: len(fleet.logs("stand_in.started")) == 2)
    started = fleet.logs("stand_in.started")  # an agent that is a fork reads its environment later
    assert [(line["mine"], line["has_secrets"]) for line in started] == [("mine", False)] * 2


def test_a_service_has_as_many_processes_as_the_truth_says_and_each_is_handled_alone(up):
    fleet = up(replicas={"steady": 3}, METRICS_PORT=str(free_port()))
    said = fleet.up()
    assert said["agents"] == ["steady", "steady/2", "steady/3", "other"]
    assert len(set(said["metrics"].values())) == 4
    pids = fleet.pids_of("services.steady")
    assert len(pids) == 3
    started = {line.get("process", line["agent"]): line["metrics"] for line in fleet.logs("stand_in.started")}
    assert started == {name: str(port) for name, port in said["metrics"].items()}

    assert "steady/2 (pid " in fleet.control("kill", "steady/2")
    assert fleet.wait_log("agent.ended")["svc"] == "steady/2"
    assert len(fleet.pids_of("services.steady") & pids) == 2
    fleet.control("start", "steady/2")  # not after its pause
    until(lambda: len(fleet.pids_of("services.steady")) == 3, what="all again")
    pids = fleet.pids_of("services.steady")
    assert fleet.control("stop", "steady/2").startswith("steady/2 stopped in")
    until(lambda: len(fleet.pids_of("services.steady")) == 2, what="one less")
    assert fleet.control("stop", "steady/1").startswith("steady stopped in")  # of one name with its service
    assert len(fleet.pids_of("services.steady")) == 1
    assert fleet.pids_of("services.steady") < pids
    assert fleet.control("start", "steady").count("starts") == 2
    until(lambda: len(fleet.pids_of("services.steady")) == 3, what="all again")
    assert fleet.control("stop", "steady").count("stopped in") == 3
    assert fleet.pids_of("services.steady") == set()
    assert "runs no steady/4" in fleet.control("start", "steady/4")


def test_agents_are_stopped_before_servers(up):
    fleet = up(services="deaf")
    fleet.up()
    servers = [pid for pid, command in fleet.children().items() if "server" in command]
    agent = fleet.pid_of("services.deaf")
    fleet.wait_log("stand_in.started")  # before it, it is not deaf yet
    os.killpg(fleet.pid, signal.SIGINT)  # as a terminal does: to all of its group
    fleet.wait_log("fleet.stopping")
    with redis.Redis(port=fleet.port) as bus:  # the agent does not hear; its servers must still be there
        last = bus.get("beat:deaf")
        until(lambda: bus.get("beat:deaf") != last, what="another beat")
    assert alive(agent)
    assert all(map(alive, servers))
    fleet.signal(signal.SIGINT)
    assert fleet.wait(5) == 0  # though the agent has 6 s of grace
    assert none_left([agent, *servers])


def test_a_killed_agent_and_a_killed_server_come_back_and_their_ends_are_told(up):
    fleet = up()
    fleet.up()
    agent, server = fleet.pid_of("services.steady"), fleet.pid_of(f"server 127.0.0.1:{fleet.port}")
    os.kill(agent, signal.SIGKILL)
    told = fleet.wait_log("agent.ended")
    assert (told["svc"], told["code"], told["level"]) == ("steady", -9, "warning")
    assert told["again_in_sec"] == 3, "its timeout and two seconds: whoever killed it sees it missed"
    os.kill(server, signal.SIGKILL)
    until(lambda: len(fleet.logs("agent.ended")) > 1, what="the end of the server to be told")
    until(lambda: fleet.pid_of(f"server 127.0.0.1:{fleet.port}") not in (None, server))
    bus = Server(fleet.folder / "unused", fleet.port, start=False)
    until(bus.answers)
    assert bus.cmd("EXISTS", "truth:doc") == 1, "its data are there"
    until(lambda: fleet.pid_of("services.steady") not in (None, agent))
    until(lambda: [line["agent"] for line in fleet.logs("stand_in.started")].count("steady") >= 2)


def test_killing_the_fleet_itself_leaves_no_orphan_and_the_next_one_starts(up):
    fleet = up()
    fleet.up()
    children = fleet.children()
    fleet.kill()
    again = up(port=fleet.port)
    assert again.up()
    until(lambda: none_left(children))


def test_what_a_crashed_agent_wrote_is_kept_with_how_it_ended_and_outlives_the_fleet(up):
    fleet = up("--data", "data", services="steady,wrong")
    told = fleet.wait_log("agent.ended")
    assert "its configuration is wrong" in told["why"]
    assert told["again_in_sec"] == 30
    fleet.wait_log("stand_in.started")
    assert fleet.stop() == 0
    assert len(fleet.logs()) == len(fleet.text().splitlines()), "without a terminal every line is JSON"
    assert [line["agent"] for line in fleet.logs("program.output") if line["line"] == "no JSON at all"] == [
        "wrong"
    ]
    logs = {
        path.name: [orjson.loads(line) for line in path.read_bytes().splitlines()]
        for path in (fleet.folder / "data/logs").iterdir()
    }
    assert {"steady.log", "wrong.log", "fleet.log", "bootstrap.log"} <= logs.keys()
    output, ended = logs["wrong.log"]
    assert (output["event"], output["line"]) == ("program.output", "no JSON at all")
    assert (ended["event"], ended["code"]) == ("agent.ended", 2)
    assert "stand_in.started" in [line["event"] for line in logs["steady.log"]]
    assert logs["fleet.log"][-1]["event"] == "fleet.stopped"


def test_a_taken_port_is_named_with_its_owner_and_the_ways_on(up):
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        fleet = up(port=port)
        assert fleet.wait() == 2
    text = fleet.text()
    assert f"port {port}, for system-redis, is taken by " in text
    assert f"(pid {os.getpid()})" in text
    assert "--port 7379" in text
    assert f"SYSTEM_REDIS_URL=redis://127.0.0.1:{port}" in text
    assert "Traceback" not in text


def test_a_bus_that_the_environment_names_is_used_as_it_is(up, tmp_path):
    with Server(tmp_path / "theirs") as theirs:
        fleet = up(SYSTEM_REDIS_URL=theirs.url)
        fleet.up()
        assert sum("server" in command for command in fleet.children().values()) == 1
        assert theirs.cmd("EXISTS", "truth:doc") == 1
        assert fleet.stop() == 0
        assert theirs.cmd("PING")


def test_only_some_services_each_with_a_metrics_port_of_its_own_and_a_hangup_ends_them(up):
    port = free_port()
    fleet = up("--only", "other", METRICS_PORT=str(port))
    said = fleet.up()
    assert (said["agents"], said["metrics"]) == (["other"], {"other": port + 1})
    fleet.wait_log("stand_in.started")
    assert [line["metrics"] for line in fleet.logs("stand_in.started")] == [str(port + 1)]
    children = fleet.children()
    assert not [command for command in children.values() if "services.steady" in command]
    fleet.signal(signal.SIGHUP)
    assert fleet.wait() == 0
    assert none_left(children)


def test_a_taken_port_of_the_board_is_named_before_anything_is_started_and_no_board_needs_none(up):
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        fleet = up("--board-port", str(port), services="steady,board")
        assert fleet.wait() == 2
        assert f"port {port}, for board, is taken by " in fleet.text()
        assert "--board-port 8090" in fleet.text()
        assert "--no-board" in fleet.text()
        without = up("--board-port", str(port), "--no-board", services="steady,board")
        without.up()
        truth = orjson.loads((without.folder / ".marketswarm/truth-without-board.json").read_bytes())
        shown = orjson.loads((without.folder / "truth.json").read_bytes())
        assert "board" in shown["services"]
        assert truth["services"] == {svc: one for svc, one in shown["services"].items() if svc != "board"}
        assert "reported as missed" not in without.text()


def test_a_taken_metrics_port_is_named_before_anything_is_started(up):
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        fleet = up(METRICS_PORT=str(port))
        assert fleet.wait() == 2
    assert f"METRICS_PORT: port {port}, for steady, is taken by " in fleet.text()
    assert f"(pid {os.getpid()})" in fleet.text()
    assert not fleet.logs("fleet.starting")


def test_a_metrics_port_that_is_none_ends_it_and_names_the_variable(up):
    fleet = up(METRICS_PORT="65536")
    assert fleet.wait() == 2
    assert "METRICS_PORT: should be" in fleet.text()


def test_a_way_to_reach_people_that_is_none_ends_it_before_anything_is_started(tmp_path):
    truth = orjson.dumps({"services": {"notifier": HASTY}})
    (tmp_path / "truth.json").write_bytes(truth)
    with Proc("marketswarm", {"WEBHOOK_URL": "hunter2"}, tmp_path, "up", "--port", str(free_port())) as fleet:
        assert fleet.wait() == 2
        assert "WEBHOOK_URL: must be http://" in fleet.text()
        assert "hunter2" not in fleet.text()
        assert not list(tmp_path.rglob("server.log"))


def test_other_terminals_stop_start_and_kill_agents(up):
    fleet = up()
    fleet.up()
    pid = fleet.pid_of("services.steady")
    assert "steady stopped in" in fleet.control("stop", "steady")
    assert not alive(pid)
    assert "already" in fleet.control("stop", "steady")
    assert "steady starts" in fleet.control("start", "steady")
    again = until(lambda: fleet.pid_of("services.steady"))
    assert "killed" in fleet.control("kill", "steady")
    until(lambda: fleet.pid_of("services.steady") not in (None, again))
    assert "did you mean steady" in fleet.control("stop", "steadi")
    assert "stop, start, kill" in fleet.control("fry", "steady")


def test_a_service_that_was_seeded_later_is_started(up):
    fleet = up("--only", "steady", METRICS_PORT=str(port := free_port()))
    fleet.up()
    assert fleet.logs("fleet.left_out") == []  # without a healer nobody is missed
    assert "other starts" in fleet.control("start", "other")  # it is in the truth, and was left out
    until(lambda: fleet.pid_of("services.other"))
    fleet.write_services("steady", "other", "deaf", deaf={"replicas": 2})
    assert "names none" in fleet.control("start", "deaf")
    seeded = Proc("marketswarm", {}, fleet.folder, "seed")
    assert seeded.wait() == 0, seeded.text()
    assert fleet.control("start", "deaf").count("starts") == 2
    until(lambda: len(fleet.pids_of("services.deaf")) == 2)
    until(lambda: len(fleet.logs("stand_in.started")) == 4)
    ports = [int(line["metrics"]) for line in fleet.logs("stand_in.started")]
    assert len(set(ports)) == 4
    assert min(ports) == port
    assert "runs already" in fleet.control("start", "deaf")
    assert "elsewhere has no services/elsewhere/__main__.py here" in fleet.control("start", "elsewhere")
    assert "did you mean steady" in fleet.control("start", "steadi")
    children = fleet.children()
    fleet.signal(signal.SIGINT)
    fleet.wait_log("fleet.stopping")
    fleet.signal(signal.SIGINT)  # the deaf ones have a grace of 6 s
    assert fleet.wait() == 0
    assert none_left(children)


def test_a_data_folder_too_deep_for_a_socket_is_controlled_all_the_same_and_hints_name_it(up, tmp_path):
    data = tmp_path / ("x" * 100)
    fleet = up("--data", data.name)
    fleet.up()
    address = data_folder.find_fleet(data).control
    said = send_request(address, "kill", "steady")[1]
    assert said.endswith(f"or by `marketswarm start steady --data {data}`")
    assert fleet.stop() == 0
    assert not Path(address).parent.exists()


def test_ctrl_c_while_things_come_up_leaves_nothing(up):
    fleet = up()
    fleet.wait_log("fleet.starting")
    children = fleet.children()
    fleet.signal(signal.SIGINT)
    assert fleet.wait() == 0
    assert none_left(children)


def test_a_server_that_cannot_start_ends_it_with_the_servers_own_words(up, tmp_path):
    (tmp_path / "data/system-redis").mkdir(parents=True)
    (tmp_path / "data/system-redis/appendonlydir").write_text("no folder")
    log = tmp_path / "data/system-redis" / SERVER_LOG
    log.write_bytes(b"a stranger's line\n" * (MAX_BYTES // 10))
    fleet = up("--data", "data")
    assert fleet.wait() == 3
    assert "the server of system-redis did not start: " in fleet.text()
    assert "appendonlydir" in fleet.text(), "the last lines of the server"
    assert log.stat().st_size < MAX_BYTES < (log.parent / f"{SERVER_LOG}.1").stat().st_size, "it is rotated"


def test_a_strangers_server_that_took_the_port_meanwhile_is_not_taken_for_ours(up, tmp_path):
    program = tmp_path / "bin/valkey-server"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n[ "$1" = --version ] && echo v=8.0.0 || exec sleep 60\n')
    program.chmod(0o755)
    fleet = up(PATH=f"{program.parent}:{os.environ['PATH']}")
    fleet.wait_log("fleet.starting")
    with Server(tmp_path / "stranger", fleet.port) as stranger, Server(tmp_path / "other", fleet.port + 1):
        # it was seen, and asked who it is, again and again
        until(lambda: int(stranger.cmd("INFO", "stats")["total_commands_processed"]) > 20)
        assert fleet.logs("bus.ready") == []
        assert stranger.cmd("DBSIZE") == 0
        assert fleet.stop() == 0


@contextlib.contextmanager
def terminal():
    """Both ends of one: who writes to the second is shown on the first."""
    ours, theirs = pty.openpty()
    shown = bytearray()

    def read() -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while piece := os.read(ours, 65_536):
                shown.extend(piece)

    thread = threading.Thread(target=read)
    thread.start()
    yield theirs, shown
    os.close(theirs)
    thread.join(5)
    os.close(ours)


@pytest.mark.parametrize(
    "plain", [False, pytest.param(True, marks=pytest.mark.nightly("the same with colours"))]
)
def test_on_a_terminal_it_is_for_people(up, tmp_path, monkeypatch, plain):
    with terminal() as (theirs, shown):
        spawn = Proc.spawn
        monkeypatch.setattr(
            Proc, "spawn", lambda self, line, **how: spawn(self, line, **(how | {"stderr": theirs}))
        )
        fleet = up(services="steady,other,wrong", **({"NO_COLOR": "1"} if plain else {}))
        until(lambda: b"agent.ended" in shown)
        assert fleet.control("stop", "wrong")
        until(lambda: b"Ctrl-C here ends all of it." in shown)
        fleet.signal(signal.SIGINT)
        assert fleet.wait() == 0
        until(lambda: b"fleet.stopped" in shown)
    text = shown.decode()
    assert (b"\x1b[" in shown) != plain
    for said in ("bus.ready", "no JSON at all", "All 2 services are up", f"-p {fleet.port} SUBSCRIBE"):
        assert said in text
    assert '{"ts"' not in text


TRUTH = parse_truth(b'{"services":{"a":{"heartbeat":{}}}}').truth
SAYS_ITS_ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"


@pytest.mark.live
async def test_what_is_for_one_process_is_not_handed_on_to_all(tmp_path, monkeypatch):
    """They would write over each other's sign of life, and each would say for all that it is ready."""
    (tmp_path / "says.py").write_text(SAYS_ITS_ENVIRONMENT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name in ("MARKETSWARM_ALIVE_FILE", "NOTIFY_SOCKET", "LOG_LEVEL"):
        monkeypatch.setenv(name, "/theirs")
    said: list[bytes] = []
    plan = make_plan(TRUTH, known={}, modules={"a": "says"}, port=7000)
    orders = FleetSpec(plan=plan, truth=TRUTH, truth_path=tmp_path, data=tmp_path, binary=tmp_path)
    hurry = asyncio.Event()
    swarm = FleetSupervisor(orders, lambda *_, **__: None, lambda _, line: said.append(line), hurry)
    assert await swarm.agents["a"].run_once(hurry) == 0
    environ = orjson.loads(said[0])
    assert environ["SYSTEM_REDIS_URL"] == "redis://127.0.0.1:7000"
    assert environ["LOG_LEVEL"] == "/theirs"
    assert not environ["MARKETSWARM_ALIVE_FILE"]
    assert not environ["NOTIFY_SOCKET"]


@pytest.mark.live
@pytest.mark.parametrize("given", ["", "proxy.example.org"])
async def test_the_board_of_a_fleet_that_listens_answers_to_the_name_by_which_others_know_it(
    tmp_path, monkeypatch, given
):
    (tmp_path / "says.py").write_text(SAYS_ITS_ENVIRONMENT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOARD_ALLOWED_HOSTS", given)
    truth = parse_truth(b'{"services":{"board":{}}}').truth
    known = dict.fromkeys(("system-redis", "market-redis"), "redis://127.0.0.1:1")
    plan = make_plan(truth, known=known, modules={"board": "says"}, port=7000)
    pem = tmp_path / "self-made.pem"
    at = ListenSetup(ListenAddress("fleet.example", "192.0.2.10"), Certificate(pem, pem, ""))
    orders = FleetSpec(plan, truth, tmp_path, tmp_path, tmp_path, listening=at)
    said, hurry = list[bytes](), asyncio.Event()
    swarm = FleetSupervisor(orders, lambda *_, **__: None, lambda _, line: said.append(line), hurry)
    assert await swarm.agents["board"].run_once(hurry) == 0
    environ = orjson.loads(said[0])
    assert (environ["BOARD_TLS_HOST"], environ["BOARD_TLS_PEM"]) == ("192.0.2.10", str(pem))
    assert environ["BOARD_ALLOWED_HOSTS"] == (f"{given},fleet.example" if given else "fleet.example")
