"""A command of the medic's environment that takes long: apart from the rounds, and one attempt each time."""

import contextlib
import shlex
import signal
import sys

import orjson
import pytest
import redis

from marketswarm.operator.healing import TimelineEntry
from support.rig import Fleet
from support.rig.beats import Feed
from support.rig.process import alive
from support.waiting import until

BEATS = {"interval_sec": 0.3, "timeout_sec": 1.5}
SETTINGS = {
    "mode": "act",
    "every_sec": 0.2,
    "wait_sec": 0.2,
    "settle_sec": 20,
    "stable_sec": 1,
    "start_grace_sec": 1,
    "fuse": {"down_share": 1},
}
SCRIPT = """
import os, pathlib, sys, time
folder, svc = map(pathlib.Path, sys.argv[1:])
with (folder / "begun").open("a") as begun:
    print(svc, os.getpid(), file=begun)
if str(svc) == "feed":
    print("step 3 of 9, password=hunter2hunter2", flush=True)
    while not (folder / "go").exists():
        time.sleep(0.05)
"""


class Scene:
    """A medic, and two services that run elsewhere: the command takes as long for `feed` as the test says."""

    def __init__(self, folder, ends, timeout_sec):
        self.folder = folder
        (folder / "script.py").write_text(SCRIPT)
        targets = {
            "feed": {"ladder": ["command"], "timeout_sec": timeout_sec},
            "news": {"ladder": ["command"]},
        }
        medic = {"heartbeat": BEATS, "settings": {**SETTINGS, "targets": targets}}
        services = {name: {"heartbeat": BEATS} for name in ("healer", "feed", "news")}
        self.fleet = ends.enter_context(
            Fleet(folder, {"services": {**services, "medic": medic}}, ["healer"], tail=False)
        )
        self.feed = ends.enter_context(contextlib.closing(Feed(self.fleet.system)))
        self.news = ends.enter_context(contextlib.closing(Feed(self.fleet.system, "news")))
        self.medic = self.start_medic()
        until(lambda: self.medic.logs("lease.held"))
        url = self.fleet.system.url
        self.bus = ends.enter_context(redis.Redis.from_url(url, decode_responses=True))
        for svc in ("feed", "news"):
            until(lambda svc=svc: '"up"' in (self.bus.hget("healer:roster", svc) or ""))

    def start_medic(self):
        command = shlex.join([sys.executable, str(self.folder / "script.py"), str(self.folder)])
        return self.fleet.start("medic", MEDIC_COMMAND=command)

    def list_begun(self, svc):
        """Return the pids of the commands that were begun for a service."""
        path = self.folder / "begun"
        lines = path.read_text().splitlines() if path.exists() else []
        return [int(line.split()[1]) for line in lines if line.startswith(svc)]

    def timeline(self, svc):
        entries = [
            TimelineEntry.parse(fields["entry"].encode()) for _, fields in self.bus.xrange("medic:incidents")
        ]
        return [f"{each.what} {each.reason}".strip() for each in entries if each.svc == svc]

    def heal_news(self):
        """Have `news` fail, and be healed by its command."""
        before = self.timeline("news").count("resolved healed")
        begun = len(self.list_begun("news"))
        self.news.is_up = False
        until(lambda: len(self.list_begun("news")) > begun, what="the command of news")
        self.news.restart()
        until(lambda: self.timeline("news").count("resolved healed") > before, what="news to be healed")

    def begin(self):
        """Have `feed` fail; return the pid of its command."""
        self.feed.is_up = False
        until(lambda: self.list_begun("feed"), what="the command of feed")
        until(lambda: "running" in self.timeline("feed"))
        return self.list_begun("feed")[0]

    def read_repair(self):
        raw = self.bus.hget("medic:state", "repair:feed")
        return {} if raw is None else orjson.loads(raw)

    def kill_medic(self, pid):
        """Kill the medic once it has stored as what its command runs; return once that has ended with it."""
        until(lambda: self.read_repair().get("runs_as"), what="the identity of the command")
        self.medic.signal(signal.SIGKILL)
        self.medic.wait()
        until(lambda: not alive(pid), what="the end of the command")

    def move_to_another_host(self):
        """Have the record say that the command runs on another host."""
        repair = self.read_repair()
        _, *pids = repair["runs_as"].split(" ")
        moved = repair | {"runs_as": " ".join(["elsewhere/pid:[1]", *pids])}
        self.bus.hset("medic:state", "repair:feed", orjson.dumps(moved))


@pytest.fixture
def begin_scene(tmp_path):
    with contextlib.ExitStack() as ends:
        yield lambda timeout_sec: Scene(tmp_path, ends, timeout_sec)
        (tmp_path / "go").touch()


def test_a_command_runs_beside_the_rounds_ends_with_a_medic_that_is_killed_and_is_one_attempt(begin_scene):
    scene = begin_scene(600)
    pid = scene.begin()
    told = lambda: scene.bus.get("beat:medic") or ""  # noqa: E731 - asked again and again
    until(lambda: "runs: command of feed, " in told() and "step 3 of 9" in told(), what="its progress")
    assert "hunter2" not in told()
    scene.heal_news()
    assert scene.timeline("feed")[-1] == "running"
    scene.kill_medic(pid)
    scene.medic.start()
    until(
        lambda: "abandoned broken_off" in scene.timeline("feed"), what="the next medic to find that it ended"
    )
    scene.news.is_up = False  # its last command was moments ago: only that the rounds go on is of interest
    until(lambda: scene.timeline("news").count("opened silent") == 2, what="a round of the next medic")
    assert scene.list_begun("feed") == [pid]
    repair = scene.read_repair()
    tried = [each["verdict"] for each in repair["attempts"] if each["remedy"] == "command"]
    assert (tried, repair["runs_until"]) == (["abandoned"], None)
    assert scene.timeline("feed").count("abandoned broken_off") == 1


def test_a_command_of_another_host_is_awaited_though_its_medic_was_killed(begin_scene):
    scene = begin_scene(600)
    pid = scene.begin()
    scene.kill_medic(pid)
    scene.move_to_another_host()
    scene.medic.start()
    told = lambda: scene.bus.get("beat:medic") or ""  # noqa: E731 - asked again and again
    until(lambda: "intended: feed" in told() and "runs:" not in told(), what="the next medic to find it")
    scene.news.is_up = False
    until(lambda: scene.timeline("news").count("opened silent") == 1, what="a round of the next medic")
    assert scene.timeline("feed")[-1] == "running"
    scene.feed.restart()
    until(lambda: "verified" in scene.timeline("feed"), what="the command to be verified")
    assert scene.list_begun("feed") == [pid]
    told_last = [each for each in scene.timeline("feed") if each != "running"]
    assert told_last[-3:] == ["intended", "acted", "verified"], "it is open until the deadline"


def test_a_command_that_ends_while_its_bus_hangs_is_recorded_once_the_bus_is_back(begin_scene):
    scene = begin_scene(600)
    pid = scene.begin()
    scene.news.is_up = False  # a beat to a bus that hangs would fail the test
    scene.fleet.system.freeze()
    try:
        until(lambda: scene.medic.logs("lease.lost"), what="the end of the lease")
        assert alive(pid)
        (scene.folder / "go").touch()
        until(lambda: not alive(pid), what="the end of the command")
    finally:
        scene.fleet.system.thaw()
    until(lambda: "acted" in scene.timeline("feed"), what="its outcome")
    scene.feed.restart()
    until(lambda: "verified" in scene.timeline("feed"), what="the command to be verified")
    steps = scene.timeline("feed")
    assert [steps.count(each) for each in ("intended", "acted", "verified")] == [1, 1, 1]
    assert scene.list_begun("feed") == [pid]
    assert not scene.medic.logs("medic.command_ended"), "nothing killed it"


def test_a_medic_that_stops_ends_its_command_and_says_that_it_was_broken_off(begin_scene):
    scene = begin_scene(600)
    pid = scene.begin()
    scene.medic.stop()
    until(lambda: not alive(pid), what="the end of the command")
    assert scene.timeline("feed")[-1] == "abandoned broken_off"
    assert scene.medic.logs("medic.command_ended")


def test_a_medic_that_stood_still_ends_its_command_once_another_one_leads(begin_scene):
    scene = begin_scene(600)
    pid = scene.begin()
    other = scene.start_medic()
    until(lambda: other.logs("agent.joined"), what="another medic")
    scene.medic.freeze()
    until(lambda: other.logs("lease.held"), what="the other one to lead")
    assert alive(pid)
    scene.medic.thaw()
    until(lambda: not alive(pid), what="the end of the command")
    until(lambda: scene.medic.logs("medic.command_ended"), what="a line of the log")
    assert scene.timeline("feed")[-1] == "running", "the other one awaits it until its deadline"


def test_a_command_of_another_host_whose_medic_was_killed_is_given_up_at_its_deadline(begin_scene):
    scene = begin_scene(8)  # a busy machine takes a while to start it
    pid = scene.begin()
    scene.kill_medic(pid)
    scene.move_to_another_host()
    scene.medic.start()
    until(lambda: "abandoned unknown" in scene.timeline("feed"), what="the deadline")
    assert scene.list_begun("feed") == [pid]
