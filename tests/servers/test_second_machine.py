"""Types what docs/second-machine.md shows on two machines: network namespaces with a wire between them."""

import os
import re
import signal
import sys
from collections.abc import Iterator

import orjson
import pytest
from redis import Redis

from marketswarm.fleet.deferred_port import SOCKET_NAME
from support.pages import ROOT, blocks, shown, table
from support.rig.machines import ADDRESSES, Machine, Machines, Typed, require_closed_bus
from support.waiting import until

PAGE = "docs/second-machine.md"
SHOWN = re.findall(r"--fingerprint ([0-9a-f]{64})", (ROOT / PAGE).read_text(encoding="utf-8"))[0]
FAST = {"heartbeat": {"interval_sec": 1, "timeout_sec": 30}}
TRUTH = {"services": {"healer": FAST, "board": FAST}}
STEPS = (
    "1. The fleet listens",
    "2. The fleet knows the services",
    "3. The other machine joins",
    "4. The other machine beats",
    "5. With curl alone",
)
pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(300),  # thirty programs, one after the other
    pytest.mark.needs("ip", "openssl", "curl", "script", "redis-server"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root makes network namespaces"),
]


class Scene:
    """Both machines of the page, and the fleet that its first step starts."""

    def __init__(self, fleet: Machine, other: Machine, up: Typed) -> None:
        self.fleet, self.other, self.up = fleet, other, up
        until(lambda: "Ctrl-C here ends" in up.text() or not up.running, what=up)
        assert up.running, up
        [self.fingerprint] = re.findall(r"--fingerprint ([0-9a-f]{64})", up.text())
        self.password = (fleet.folder / ".marketswarm/secrets/join").read_text(encoding="utf-8").strip()

    def lines(self, step: str) -> list[str]:
        """Return what the page shows to type in a step, with the fingerprint that this fleet has."""
        return shown(PAGE, step).replace(SHOWN, self.fingerprint).splitlines()

    def read(self, key: str) -> str:
        """Return what stands on system-redis: its Unix socket is reached from everywhere."""
        data = self.fleet.folder / ".marketswarm"
        password = (data / "secrets/operator").read_text(encoding="utf-8").strip()
        # the path of a socket has 107 bytes at most, and pytest's folders are deep
        folder = os.open(data / "system-redis", os.O_RDONLY | os.O_DIRECTORY)
        try:
            socket = f"/proc/self/fd/{folder}/{SOCKET_NAME}"
            with Redis(unix_socket_path=socket, username="operator", password=password) as bus:
                return (bus.get(key) or b"").decode()
        finally:
            os.close(folder)

    def wait_for(self, key: str, part: str) -> None:
        until(lambda: part in self.read(key), what=lambda: self.read(key))


def said(machine: Machine, line: str, **env: str) -> str:
    """Type a line that must succeed; return what it printed to stdout."""
    done = machine.run(line, **env)
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture
def scene(tmp_path) -> Iterator[Scene]:
    assert ADDRESSES[0] in shown(PAGE, STEPS[0])
    with Machines(tmp_path) as (fleet, other):
        (fleet.folder / "truth.json").write_bytes(orjson.dumps(TRUTH))
        with fleet.start(shown(PAGE, STEPS[0]).strip(), LOG_FORMAT="console") as up:
            yield Scene(fleet, other, up)
            up.signal(signal.SIGINT)
            assert up.wait() == 0


def test_each_step_of_the_page_does_what_it_says_and_each_mistake_is_told(scene):
    summary, next_steps, *_ = blocks(ROOT / PAGE, "text")
    for line in summary.replace(SHOWN, scene.fingerprint).splitlines()[1:]:
        assert line in scene.up.text()
    add, add_job, show = scene.lines(STEPS[1])
    said(scene.fleet, add.replace("--every 10s", "--every 1s"))
    pasted_lines_ping_from_the_other_machine(scene, said(scene.fleet, add_job).splitlines())
    assert said(scene.fleet, show).strip() == scene.password
    nobody_comes_in_without_a_password(scene)

    [join] = scene.lines(STEPS[2])
    printed = scene.other.answer(join, "Password of join: ", scene.password)
    for line in next_steps.splitlines():
        assert line.strip() in printed
    assert scene.password not in printed

    its_services_beat(scene)
    curl_pings_for_one(scene)
    each_mistake_is_told(scene, join)
    assert "joined" not in said(scene.other, "marketswarm join")  # what it had joined is as it was


def pasted_lines_ping_from_the_other_machine(scene: Scene, printed: list[str]) -> None:
    """The lines of `add` have the address at which the fleet listens, and its certificate."""
    assert "http://127.0.0.1" not in "\n".join(printed)
    certificate = scene.fleet.folder / ".marketswarm/tls/certificate.pem"
    assert str(certificate) in printed[-1]
    curl = printed[printed.index("curl:") + 1].strip()
    assert said(scene.other, curl) == "OK"
    program = printed[printed.index("Python:") + 1 : printed.index("PowerShell:")]
    (scene.other.folder / "ping.py").write_text("\n".join(line.strip() for line in program), encoding="utf-8")
    said(scene.other, f"{sys.executable} ping.py")


def nobody_comes_in_without_a_password(scene: Scene) -> None:
    """The ports speak TLS alone, and who is nobody may not even look."""
    address, certificate = ADDRESSES[0], scene.fleet.folder / ".marketswarm/tls/certificate.pem"
    for port in (6379, 6380):
        require_closed_bus(scene.other, address, port, certificate, scene.password)
    outside = scene.other.run(f"curl -sk -o page -w %{{http_code}} https://{address}:8080/")
    assert outside.stdout in ("401", "303", "302"), outside


def its_services_beat(scene: Scene) -> None:
    beat, run = scene.lines(STEPS[3])
    pid_file = scene.other.folder / "nginx.pid"
    pid_file.write_text(f"{os.getpid()}\n", encoding="utf-8")
    (scene.other.folder / "backup.sh").write_text("#!/bin/sh\necho 12 files\n", encoding="utf-8")
    (scene.other.folder / "backup.sh").chmod(0o755)
    assert "=/run/nginx.pid" in beat
    with scene.other.start(beat.replace("/run/nginx.pid", pid_file.name)) as nginx:
        scene.wait_for("health:nginx", "heartbeat_ok")
        assert "nginx beats every 1 s on system-redis at 192.0.2.10:6379; Ctrl-C ends it" in nginx.text()
        run = run.replace("/var/lib/beats", str(scene.other.folder)).replace("/usr/local/bin/", "")
        assert "12 files" in said(scene.other, f"cd / && {run}"), "cron starts elsewhere"
        assert '"ok":true' in scene.read("run:backup")
        shown_rows = said(scene.fleet, "marketswarm status")
        assert "nginx" in shown_rows
        assert "backup" in shown_rows
        pid_file.write_text("0\n", encoding="utf-8")
        until(lambda: "nginx does not beat: its process is gone" in nginx.text(), what=nginx)
        pid_file.write_text(f"{os.getpid()}\n", encoding="utf-8")
        until(lambda: "nginx beats again" in nginx.text(), what=nginx)
        nginx.signal(signal.SIGINT)
        assert nginx.wait() == 0, nginx
    scene.wait_for("beat:nginx", '"stopping"')


def curl_pings_for_one(scene: Scene) -> None:
    token, line = scene.lines(STEPS[4])
    uuid = said(scene.fleet, token).split()[0]
    curl = said(scene.other, line).strip()
    assert said(scene.other, curl, UUID=uuid) == "OK"
    copied = scene.fleet.folder / ".marketswarm/tls/certificate.pem"
    assert said(scene.other, f'curl -sS --cacert {copied} "https://{ADDRESSES[0]}:8080/ping/{uuid}"') == "OK"


def each_mistake_is_told(scene: Scene, join: str) -> None:
    """Type each mistake of the page's table; what is printed has the words that stand there."""
    env = {"MARKETSWARM_JOIN_PASSWORD": scene.password}
    mistakes = {
        "this machine does not know that name": (join.replace(ADDRESSES[0], "nowhere.invalid"), env),
        "refused: no server listens there": (join.replace(":6379", ":6399"), env),
        "shows another certificate": (join.replace(scene.fingerprint, "0" * 64), env),
        "wrong password": (join, {"MARKETSWARM_JOIN_PASSWORD": "not-the-password"}),
        "nobody watches": ("marketswarm join nobody", {}),
        "may not beat for": ("marketswarm join board", {}),
        "is a job with a schedule": ("marketswarm join backup", {}),
    }
    told = [words.strip("`") for words, _ in table(PAGE, "What is wrong")]
    assert set(told) <= set(mistakes)
    for words, (line, given) in mistakes.items():
        done = scene.other.run(line, **given)
        assert done.returncode != 0, line
        assert words in done.stderr, (line, done)
