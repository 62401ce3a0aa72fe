"""Logs of units, from a stand-in of journalctl to what rules count."""

import asyncio
import json
import sys
import time
from collections import Counter
from types import SimpleNamespace

import pytest

from marketswarm.packed_log import LOG_LINES
from services.medic.metric import Metric
from services.medic.owners import log_source
from services.medic.owners.journal import JournalLogs, parse_journal
from services.medic.owners.log_source import (
    MAX_LOG_BYTES,
    LogError,
    LogTooLongError,
    read_log_end,
)
from services.medic.rules import logs
from services.medic.rules.logs import LogObserver, LogOrder

UNIT = "marketswarm@feed.service"
FIXED = ["--quiet", "--no-pager", "--output=json", "--output-fields=MESSAGE", "--reverse"]
STAND_IN = """#!{python} -SE
import json, sys
at = __file__.rpartition("/")[0]
with open(at + "/asked", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
said = dict(each[2:].partition("=")[::2] for each in sys.argv[1:])
since, most = float(said.get("since", "@0")[1:]), int(said["lines"])
found = [json.loads(line) for line in open(at + "/entries")]
found = [each for each in found if each.pop("unit") == said.get("unit", said.get("user-unit"))][::-1]
for each in found[:most]:
    if int(each["__REALTIME_TIMESTAMP"]) / 1e6 >= since:
        print(json.dumps(each))
"""


class Scene:
    """The journal of a machine, and the counts of a rule; `look` is one measurement, as the medic does it."""

    def __init__(self, folder, **options):
        self.now, self.events, self.written, self.folder = 1000.0, [], 0, folder
        self.systemd = SimpleNamespace(known={"feed", "mesh"}, has_read=True, requests=Counter())
        self.program, self.entries = folder / "journalctl", folder / "entries"
        self.log = SimpleNamespace(warning=lambda event, **fields: self.events.append((event, fields)))
        self.source = JournalLogs(self.systemd, "marketswarm@%s.service", self.log, **options)
        self.observer = LogObserver([self.source])
        self.install(STAND_IN.format(python=sys.executable))
        self.entries.touch()

    def install(self, script):
        self.program.write_text(script, encoding="utf-8")
        self.program.chmod(0o700)

    def write(self, *messages, unit=UNIT):
        with self.entries.open("a", encoding="utf-8") as file:
            for message in messages:
                self.written += 1
                entry = {"unit": unit, "__CURSOR": f"s=a;i={self.written}", "MESSAGE": message}
                entry["__REALTIME_TIMESTAMP"] = str(int(time.time() * 1e6))
                file.write(json.dumps(entry) + "\n")

    async def look(self, *services):
        self.now += 10
        orders = dict.fromkeys(services or ["feed"], LogOrder(("refused",)))
        found = (await self.observer.read(orders, self.now))[Metric.LOG_MATCHES]
        return found.get("feed refused", "unknown")

    def read_asked(self):
        return [json.loads(line) for line in (self.folder / "asked").read_text().splitlines()]


@pytest.fixture
def scene(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    scene = Scene(tmp_path, is_user=False)
    monkeypatch.setattr(logs, "log", scene.log)
    monkeypatch.setattr(log_source, "FETCH_SEC", 60.0)
    return scene


@pytest.mark.live
async def test_lines_of_a_unit_are_counted_once_from_the_first_look_on(scene):
    scene.write("refused before the first look")
    assert await scene.look() == 0
    scene.write("refused", "all is well", "refused\nand refused in the same entry", list(b"\x1b[31m refused"))
    scene.write("refused", unit="marketswarm@mesh.service")
    assert [await scene.look() for _ in range(2)] == [4, 4]
    first, second, _ = scene.read_asked()
    assert first == [*FIXED, f"--lines={LOG_LINES}", f"--unit={UNIT}"]
    assert second[:-1] == first
    assert second[-1].startswith("--since=@")
    assert scene.systemd.requests == {("journal", "ok"): 3}
    assert scene.events == []


@pytest.mark.live
async def test_a_unit_that_was_not_started_here_is_not_asked_for_and_nothing_is_before_systemd_was_seen(
    scene,
):
    scene.systemd.has_read = False
    scene.write("refused")
    assert await scene.look() == "unknown"
    scene.systemd.has_read, scene.systemd.known = True, {"feed"}
    assert await scene.look("feed", "mesh") == 0, "the first look at it"
    assert [command[-1] for command in scene.read_asked()] == [f"--unit={UNIT}"]


@pytest.mark.live
async def test_of_a_journal_that_grows_fast_the_end_is_read_and_the_rest_is_not_known(scene):
    scene.write("begin")
    await scene.look()
    scene.write("refused", *["x"] * LOG_LINES)
    assert await scene.look() is None
    assert await scene.look() == 0
    scene.write(*["x" * 4000] * 100, "refused")
    assert await scene.look() == 1
    assert [command[5] for command in scene.read_asked()][-2:] == ["--lines=500", "--lines=50"]
    scene.write(None)
    assert await scene.look() is None, "journalctl leaves a long entry out"
    assert [event for event, _ in scene.events] == ["medic.log_skipped"] * 2


@pytest.mark.live
@pytest.mark.parametrize(
    ("script", "result", "reason"),
    [
        (None, "not_runnable", "journalctl can't be run: no such file or directory"),
        ("#!/bin/sh\nexit 1\n", "unusable", "journalctl ends with 1"),
        ("#!/bin/sh\necho no\n", "unusable", "journalctl writes no JSON"),
        ("#!/bin/sh\nkill -STOP $$\n", "timeout", "journalctl does not end: timeout"),
    ],
)
async def test_a_journal_that_can_not_be_read_is_not_known_counted_and_logged_once(
    scene, monkeypatch, *, script, result, reason
):
    if script is None:
        scene.program.unlink()
    else:
        scene.install(script)
    if result == "timeout":
        monkeypatch.setattr(log_source, "FETCH_SEC", 0.2)
    assert [await scene.look() for _ in range(2)] == ["unknown"] * 2
    assert scene.systemd.requests == {("journal", result): 2}
    assert scene.events == [("medic.log_unreadable", {"svc": "feed", "reason": reason, "logs": 1})]
    assert await read_log_end([scene.source], "feed", MAX_LOG_BYTES, 5.0) == ""


@pytest.mark.live
async def test_few_units_are_asked_for_in_a_look_and_each_one_in_its_turn(scene, monkeypatch):
    monkeypatch.setattr(JournalLogs, "per_look", 2)
    services = [f"s{number}" for number in range(5)]
    scene.systemd.known = set(services)
    for _ in range(3):
        await scene.look(*services)
    asked = [each for command in scene.read_asked() for each in command if each.startswith("--unit=")]
    assert len(asked) == 6
    assert set(asked) == {f"--unit=marketswarm@{svc}.service" for svc in services}
    found = (await scene.observer.read(dict.fromkeys(services, LogOrder(("refused",))), 1.0))[
        Metric.LOG_MATCHES
    ]
    assert set(found.values()) == {0.0}, "what waits for its turn has the count of the last one"
    assert len(found) == 5


@pytest.mark.live
async def test_a_unit_whose_journal_can_not_be_read_is_logged_once_though_it_is_not_its_turn_in_each_look(
    scene, monkeypatch
):
    monkeypatch.setattr(JournalLogs, "per_look", 1)
    await scene.look("feed", "mesh")
    await scene.look("feed", "mesh")
    scene.install(
        STAND_IN.format(python=sys.executable).replace(
            "said =", "'feed' in ' '.join(sys.argv) and sys.exit(1)\nsaid ="
        )
    )
    assert [await scene.look("feed", "mesh") for _ in range(6)] == ["unknown"] * 6
    assert [event for event, _ in scene.events] == ["medic.log_unreadable"]


@pytest.mark.live
async def test_the_last_lines_of_a_unit_are_evidence_and_a_user_has_units_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(log_source, "FETCH_SEC", 60.0)
    scene = Scene(tmp_path, is_user=True)
    scene.write("too old", *(f"line {at}" for at in range(LOG_LINES)))
    lines = (await read_log_end([scene.source], "feed", MAX_LOG_BYTES, 5.0)).split("\n")
    assert lines == [f"line {at}" for at in range(LOG_LINES)]
    (command,) = scene.read_asked()
    assert command[-1] == f"--user-unit={UNIT}"


@pytest.mark.parametrize("svc", ["*", "a b", "x[1]", "--file=", "é", "x\n"])
def test_a_name_that_journalctl_might_read_as_something_else_is_not_asked_for(svc):
    systemd = SimpleNamespace(known={svc}, has_read=True)
    source = JournalLogs(systemd, "%s.service", None, is_user=False)
    (name,) = source.find_logs(svc)
    with pytest.raises(LogError, match="can't be asked for"):
        asyncio.run(source.ask(name, None, 5, 1.0))


GOOD = {"__CURSOR": "s=1", "__REALTIME_TIMESTAMP": "1795738118637996", "MESSAGE": "x"}


@pytest.mark.parametrize("message", [None, 5, {}, [256], ["x"], [1.5], [[1]]])
def test_a_message_that_is_none_is_left_out(message):
    (entry,) = parse_journal(json.dumps({**GOOD, "MESSAGE": message}).encode())
    assert (entry.key, entry.ts, entry.text) == (b"s=1", 1795738118.637996, None)


@pytest.mark.parametrize(
    "change",
    [
        {"__CURSOR": 5}, {"__CURSOR": ""}, {"__CURSOR": "x" * 1000}, {"__CURSOR": None},
        {"__REALTIME_TIMESTAMP": 5}, {"__REALTIME_TIMESTAMP": "-1"}, {"__REALTIME_TIMESTAMP": "1" * 30},
    ],
)  # fmt: skip
def test_an_entry_without_a_cursor_or_a_time_can_not_be_used(change):
    with pytest.raises(LogError, match="without a cursor or a time"):
        parse_journal(json.dumps({**GOOD, **change}).encode())


@pytest.mark.parametrize("output", [b"no", b"[1", b"[]", b"5", b'{"__CURSOR":"\xff"}', b"{}\n{}"])
def test_output_that_is_no_entries_can_not_be_used(output):
    with pytest.raises(LogError):
        parse_journal(output)


def test_output_that_is_too_long_is_asked_for_anew_with_fewer_lines():
    with pytest.raises(LogTooLongError):
        parse_journal(b" " * (MAX_LOG_BYTES + 1))
