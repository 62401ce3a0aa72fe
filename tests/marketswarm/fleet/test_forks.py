"""Programs that are started by fork, for real: what they are, and what happens without a fork server."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import orjson
import pytest

from marketswarm.fleet.child import Child, Program
from marketswarm.fleet.forks import ForkServer
from support.rig.process import alive, descendants
from support.waiting import PATIENT_SEC, auntil

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="a fork server needs Linux"),
]

TELLS = """
import json, os, sys, time
from pathlib import Path
told = {
    "argv": sys.argv, "environ": dict(os.environ), "folder": os.getcwd(), "parent": os.getppid(),
    "session": os.getsid(0) == os.getpid(), "files": sorted(map(int, os.listdir("/proc/self/fd")))[:-1],
    "line": Path("/proc/self/cmdline").read_text().rstrip("\\0").split("\\0"),
    "is_fork": "marketswarm.agent.lifecycle" in sys.modules, "name": __spec__.name,
    "shared": [name for name in ("structlog", "marketswarm.settings.programs") if name in sys.modules],
}
print(json.dumps(told), flush=True)
print("on stderr", file=sys.stderr)
time.sleep(60)
"""
FAILS = "raise SystemExit(7)"
LOOKS_FOR_SECRETS = """
import os
secret = bytes(reversed(b"2retnuh"))
found = 0
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb") as memory:
    for line in maps:
        span, rights = line.split()[:2]
        if "r" in rights and "[v" not in line:
            begin, end = (int(each, 16) for each in span.split("-"))
            memory.seek(begin)
            found += memory.read(end - begin).count(secret + b"-of-another")
print("found" if found else "clean", flush=True)
"""


class Scene:
    """A fork server, and children that it may start."""

    def __init__(self) -> None:
        self.told: list[dict] = []
        self.server_lines: list[bytes] = []
        self.forks = ForkServer(self.tell, self.server_lines.append)
        self.children: list[tuple[Child, asyncio.Task]] = []

    def tell(self, event, level="info", **facts):
        self.told.append({"event": event, "level": level, **facts})

    def start(self, module: str, **environ: str) -> tuple[Child, list[bytes]]:
        lines: list[bytes] = []
        environ = {"PYTHONUNBUFFERED": "1", "PATH": os.environ["PATH"], **environ}
        program = Program(module, [sys.executable, "-m", module], environ)
        child = Child(program, self.tell, lines.append, start_first=self.forks.spawn)
        child.start()
        self.children.append((child, asyncio.create_task(child.supervise())))
        return child, lines

    async def hear(self, lines: list[bytes], count: int = 1) -> dict:
        await auntil(lambda: len(lines) >= count, what="a line of output")
        return orjson.loads(lines[count - 1])

    def pid_of_server(self) -> int | None:
        lines = ((pid, line) for pid, line in descendants(os.getpid()) if "fleet.fork_server" in line)
        return next((pid for pid, _line in lines), None)


@pytest.fixture
async def scene(tmp_path, monkeypatch):
    for name, program in (("tells", TELLS), ("fails", FAILS), ("looks", LOOKS_FOR_SECRETS)):
        (tmp_path / f"{name}.py").write_text(program)
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("OTEL_", "COVERAGE_"))]:
        monkeypatch.delenv(name)
    scene = Scene()
    yield scene
    hurry = asyncio.Event()
    hurry.set()
    for child, task in scene.children:
        await child.end(hurry)
        await asyncio.wait_for(task, PATIENT_SEC)


async def test_a_fork_is_what_the_interpreter_would_have_started(scene, tmp_path):
    async with scene.forks.serve():
        child, lines = scene.start("tells", MINE="yes")
        told = await scene.hear(lines)
    assert told["is_fork"]
    assert told["shared"] == ["structlog", "marketswarm.settings.programs"], "or each agent has its own"
    assert told["environ"] == {"PYTHONUNBUFFERED": "1", "PATH": os.environ["PATH"], "MINE": "yes"}
    assert told["line"] == [sys.executable, "-m", "tells"]
    assert (told["argv"], told["name"]) == ([str(tmp_path / "tells.py")], "tells")
    assert (told["folder"], told["parent"], told["session"]) == (str(tmp_path), os.getpid(), True)
    assert told["files"] == [0, 1, 2]
    await auntil(lambda: lines[1:] == [b"on stderr"])
    assert "stopped in" in await child.stop()
    assert scene.told == scene.server_lines == []


async def test_the_server_ends_and_what_it_started_goes_on_until_it_is_killed_and_comes_back(scene):
    async with scene.forks.serve():
        child, lines = scene.start("tells")
        await scene.hear(lines)
        assert scene.pid_of_server()
    assert scene.pid_of_server() is None
    pid = child.pid
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)
    again = await scene.hear(lines, 3)
    assert not again["is_fork"], "it runs the code that is on disk"
    assert [(told["event"], told["code"]) for told in scene.told] == [("agent.ended", -9)]


async def test_an_exit_code_is_known(scene):
    async with scene.forks.serve():
        child, _lines = scene.start("fails")
        await child.started.wait()
        await auntil(lambda: scene.told)
    assert (scene.told[0]["event"], scene.told[0]["code"]) == ("agent.ended", 7)


async def test_without_a_server_the_interpreter_starts_it(scene):
    _child, lines = scene.start("tells")
    assert not (await scene.hear(lines))["is_fork"]


async def test_a_server_that_is_killed_is_missed_once_and_what_it_started_goes_on(scene):
    async with scene.forks.serve():
        first, lines = scene.start("tells")
        await scene.hear(lines)
        os.kill(scene.pid_of_server(), signal.SIGKILL)
        for _ in range(2):
            _child, later = scene.start("tells")
            assert not (await scene.hear(later))["is_fork"]
        assert alive(first.pid)
    assert [told["event"] for told in scene.told] == ["fork_server.failed"]


async def test_variables_that_an_interpreter_must_see_at_its_start_prevent_forks(scene, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    async with scene.forks.serve():
        assert scene.pid_of_server() is None
        _child, lines = scene.start("tells")
        assert not (await scene.hear(lines))["is_fork"]


async def test_no_program_has_the_secrets_of_another_in_its_memory(scene, monkeypatch):
    monkeypatch.setenv("THEIR_SECRET", "hunter2-of-another")
    async with scene.forks.serve():
        _other, lines = scene.start("tells", MINE="hunter2-of-another")
        await scene.hear(lines)
        _child, found = scene.start("looks")
        await auntil(lambda: found, what="it to look")
        assert found == [b"clean"]


async def test_a_module_that_the_server_can_not_import_leaves_all_to_the_interpreter(scene, tmp_path):
    broken = tmp_path / "marketswarm"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('half written')")
    async with scene.forks.serve():
        _child, lines = scene.start("tells")
        assert not (await scene.hear(lines))["is_fork"]
    assert [told["event"] for told in scene.told] == ["fork_server.failed"]
    assert any(b"half written" in line for line in scene.server_lines)


def test_only_a_command_that_runs_a_module_has_one():
    assert Program("it", [sys.executable, "-m", "healer"], {}).module == "healer"
    assert Program("it", [sys.executable, "-c", "pass"], {}).module is None
    assert Program("it", ["/bin/sh", "-m", "healer"], {}).module is None
    assert Program("it", [sys.executable, "-m", "healer", "--more"], {}).module is None
    assert Path(sys.executable).is_absolute()
