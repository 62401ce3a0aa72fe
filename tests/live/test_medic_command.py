"""A command of the medic's environment that takes long: apart from the rounds, and one attempt each time."""

import contextlib
import shlex
import signal
import sys

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
        command = shlex.join([sys.executable, str(folder / "script.py"), str(folder)])
        self.medic = self.fleet.start("medic", MEDIC_COMMAND=command)
        until(lambda: self.medic.logs("lease.held"))
        url = self.fleet.system.url
        self.bus = ends.enter_context(redis.Redis.from_url(url, decode_responses=True))
        for svc in ("feed", "news"):
            until(lambda svc=svc: '"up"' in (self.bus.hget("healer:roster", svc) or ""))

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


@pytest.fixture
def begin_scene(tmp_path):
    with contextlib.ExitStack() as ends:
        yield lambda timeout_sec: Scene(tmp_path, ends, timeout_sec)
        (tmp_path / "go").touch()


def test_a_command_runs_beside_the_rounds_and_is_one_attempt_though_its_medic_is_killed(begin_scene):
    scene = begin_scene(600)
    pid = scene.begin()
    told = lambda: scene.bus.get("beat:medic") or ""  # noqa: E731 - asked again and again
    until(lambda: "runs: command of feed, " in told() and "step 3 of 9" in told(), what="its progress")
    assert "hunter2" not in told()
    scene.heal_news()
    assert scene.timeline("feed")[-1] == "running"
    scene.medic.signal(signal.SIGKILL)
    scene.medic.wait()
    assert alive(pid), "it goes on"
    scene.medic.start()
    until(lambda: "intended: feed" in told() and "runs:" not in told(), what="the next medic to find it")
    scene.news.is_up = False  # its last command was moments ago: only that the rounds go on is of interest
    until(lambda: scene.timeline("news").count("opened silent") == 2, what="a round of the next medic")
    assert scene.list_begun("feed") == [pid]
    (scene.folder / "go").touch()
    scene.feed.restart()
    until(lambda: "verified" in scene.timeline("feed"), what="the command to be verified")
    assert scene.list_begun("feed") == [pid]
    told_last = [each for each in scene.timeline("feed") if each != "running"]
    assert told_last[-3:] == ["intended", "acted", "verified"], "it is open until the deadline"


def test_a_medic_that_stops_ends_its_command_and_says_that_it_was_broken_off(begin_scene):
    scene = begin_scene(600)
    pid = scene.begin()
    scene.medic.stop()
    until(lambda: not alive(pid), what="the end of the command")
    assert scene.timeline("feed")[-1] == "abandoned broken_off"
    assert scene.medic.logs("medic.command_ended")


def test_a_command_whose_medic_was_killed_is_ended_by_the_host_and_given_up_at_its_deadline(begin_scene):
    scene = begin_scene(1)
    pid = scene.begin()
    scene.medic.signal(signal.SIGKILL)
    scene.medic.wait()
    until(lambda: not alive(pid), what="the host to end it")
    scene.medic.start()
    until(lambda: "abandoned unknown" in scene.timeline("feed"), what="the deadline")
    assert scene.list_begun("feed") == [pid]
