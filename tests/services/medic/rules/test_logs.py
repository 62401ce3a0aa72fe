"""Lines of logs are counted once, across rotations and truncations; what was not read is not known."""

import os
from itertools import count
from types import SimpleNamespace

import pytest

from marketswarm.fleet.agent_logs import LogFiles, find_logs
from marketswarm.log_follower import find_log_files
from services.medic.metric import Metric
from services.medic.owners import embedded_fleet
from services.medic.owners.embedded_fleet import MAX_BYTES, FleetLogs
from services.medic.rule import MonitorRule
from services.medic.rules import logs
from services.medic.rules.logs import LOOK_SEC, WARM_UP_SEC, LogObserver, LogOrder, make_orders

MATCHES, NEW, ERRORS = Metric.LOG_MATCHES, Metric.LOG_NEW, Metric.LOG_NEW_ERRORS
REFUSED = LogOrder(("refused",))


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """The logs of a fleet; `scene.write` adds lines, `scene.look` is one measurement."""
    files = LogFiles(tmp_path, pytest.fail, max_bytes=300_000)
    scene = SimpleNamespace(folder=tmp_path / "logs", now=1000.0, events=[], data=tmp_path)
    log = SimpleNamespace(warning=lambda event, **fields: scene.events.append((event, fields)))
    monkeypatch.setattr(logs, "log", log)
    monkeypatch.setattr(embedded_fleet, "log", log)
    scene.source = FleetLogs(scene.folder)
    scene.observer = LogObserver([scene.source])

    def write(*lines, name="feed"):
        for line in lines:
            files.append(name, line.encode() if isinstance(line, str) else line)

    def look(metric=MATCHES, order=REFUSED, step_sec=10.0, **more):
        scene.now += step_sec
        found = scene.observer.measure({"feed": order}, scene.now, **more)[metric]
        return next(iter(found.values()), "unknown")

    scene.write, scene.look = write, look
    yield scene
    files.close()


def test_lines_that_match_are_counted_from_the_first_look_on(scene):
    assert scene.look() == "unknown", "there is no file yet"
    scene.write("refused", "all is well", "refused again")
    assert scene.look() == 2
    assert scene.look() == 2
    scene.write("refused", name="feed/2")
    assert scene.look() == 3, "each process has its file"
    scene.write("refused", name="other")
    assert scene.look() == 3


def test_what_was_there_before_the_first_look_is_not_counted(scene):
    scene.write("refused")
    assert scene.look() == 0
    scene.write("refused")
    assert scene.look() == 1


def test_no_line_is_lost_or_counted_twice_when_files_are_rotated_or_emptied(scene):
    scene.write("begin")
    scene.look()
    for number in range(1, 31):
        scene.write("refused " + "x" * 20_000)  # 15 lines a file
        assert scene.look() == number
    assert {path.name for path in scene.folder.iterdir()} == {"feed.log", "feed.log.1", "feed.log.2"}
    os.truncate(scene.folder / "feed.log", 0)
    scene.look()
    scene.write("refused")
    assert scene.look() == 31


def test_of_a_long_log_the_end_is_read_and_a_count_that_did_not_grow_is_not_known(scene):
    scene.write("begin")
    scene.look()
    scene.write("refused", *["x" * 1000] * 100)
    assert scene.look() is None, "the line was in the part that was left out"
    assert scene.look() == 0
    scene.write(*["x" * 1000] * 100, "refused")
    assert scene.look() == 1
    assert [event for event, _ in scene.events] == ["medic.log_skipped"] * 2


def test_a_line_without_an_end_does_not_fill_the_memory(scene):
    scene.write("begin")
    scene.look()
    with (scene.folder / "feed.log").open("ab") as file:
        for _ in range(5):
            file.write(b"x" * MAX_BYTES)
            file.flush()
            scene.look()
        file.write(b" refused\nrefused\n")
    assert scene.look() == 1


def test_every_kind_of_line_is_learned_before_one_is_new(scene):
    order = LogOrder(has_new=True)
    look = lambda metric, step_sec=10.0: scene.look(metric, order, step_sec)  # noqa: E731 - of this order
    scene.write('{"event":"a.old","level":"error"}')
    assert look(ERRORS) is None
    scene.write('{"event":"a.b","n":1}', "ERROR in 5")
    assert look(ERRORS) is None
    assert look(ERRORS, WARM_UP_SEC) == 0
    scene.write('{"event":"a.b","n":2}', "ERROR in 7", '{"event":"a.old","level":"error"}')
    assert (look(NEW), look(ERRORS)) == (0, 0)
    scene.write('{"event":"c.d"}', "ERROR with \x1b[31m 5", "ERROR with \x1b[32m 6")
    assert (look(NEW), look(ERRORS)) == (2, 1)
    assert scene.observer.find_note("feed", ERRORS, "") == r"ERROR with \x1b[<n>m <n>"
    assert scene.observer.find_note("other", ERRORS, "") == ""


def test_a_rule_about_new_lines_that_comes_later_learns_them_first(scene):
    scene.write("begin")
    scene.look()
    scene.look(step_sec=2 * WARM_UP_SEC)
    scene.write("all is new to it")
    assert scene.look(NEW, LogOrder(has_new=True)) is None
    scene.write("and so is this")
    assert scene.look(NEW, LogOrder(has_new=True)) is None
    assert scene.look(NEW, LogOrder(has_new=True), WARM_UP_SEC) == 0


def test_a_log_with_too_many_kinds_of_lines_is_learned_anew(scene):
    order = LogOrder(has_new=True)
    scene.look(NEW, order)
    scene.write("begin")
    scene.look(NEW, order, WARM_UP_SEC)
    letters = "abcdefghij"
    scene.write(*(f"{a}{b}{c} line" for a in letters for b in letters for c in letters))
    assert scene.look(NEW, order) is None
    assert ("medic.log_too_varied", {"svc": "feed"}) in scene.events
    assert scene.look(NEW, order) is None
    assert scene.look(NEW, order, WARM_UP_SEC) > 0, "what was counted stays"


def test_a_look_that_takes_too_long_ends_and_the_next_one_begins_with_what_was_left_out(scene):
    orders = dict.fromkeys(("feed", "other"), REFUSED)

    def look(slow=0.0):
        ticks = count(0.0, slow)
        scene.now += 10
        return scene.observer.measure(orders, scene.now, lambda: next(ticks))[MATCHES]

    for svc in orders:
        scene.write("begin", name=svc)
    look()
    for svc in orders:
        scene.write("refused", "refused", "refused", name=svc)
    assert look(LOOK_SEC / 3) == {"feed refused": 1.0}, "the others of its lines are left out"
    assert list(look().items()) == [("other refused", 3.0), ("feed refused", 1.0)]
    assert [event for event, _ in scene.events] == ["medic.log_skipped"]


def test_a_file_that_can_not_be_read_and_a_folder_that_is_not_there_are_not_known(scene, tmp_path):
    (scene.folder / "feed.log").mkdir()
    assert scene.look() == "unknown"
    assert LogObserver([FleetLogs(tmp_path / "none")]).measure({"feed": REFUSED}, 1.0)[MATCHES] == {}
    (tmp_path / "file").touch()
    assert LogObserver([FleetLogs(tmp_path / "file")]).measure({"feed": REFUSED}, 1.0) == {}


async def test_without_a_folder_in_the_environment_nothing_is_read(scene):
    assert await LogObserver([]).read({"feed": REFUSED}, 1.0) == {}
    scene.write("begin")
    assert (await scene.observer.read({"feed": REFUSED}, 1.0))[MATCHES] == {"feed refused": 0.0}


def test_what_rules_want_to_know_of_a_service_is_read_once():
    match = {"metric": "log_matches", "above": 1, "within_sec": 60}
    rules = [{**match, "pattern": "a"}, {**match, "pattern": "b"}, {**match, "pattern": "a"}]
    pairs = [("feed", MonitorRule.model_validate(rule)) for rule in rules]
    new = MonitorRule.model_validate({"metric": "log_new", "above": 0, "within_sec": 60})
    memory = MonitorRule.model_validate({"metric": "process_memory", "above": 0})
    assert make_orders([*pairs, ("mesh", new), ("other", memory)]) == {
        "feed": LogOrder(("a", "b")),
        "mesh": LogOrder(has_new=True),
    }


def test_the_folder_that_is_read_is_that_which_the_fleet_writes(scene):
    scene.write("x")
    assert find_log_files(scene.folder) == find_logs(scene.data)


def test_a_pipe_in_place_of_a_log_is_named_once_and_all_other_logs_are_read(scene):
    scene.write("first")
    scene.write("first", name="other")
    pipe = scene.folder / "feed@2.log"
    os.mkfifo(pipe)
    orders = {"feed": REFUSED, "other": REFUSED}

    def measure():
        scene.now += 10.0
        return scene.observer.measure(orders, scene.now)[MATCHES]

    measure()
    scene.write("refused")
    scene.write("refused", name="other")
    assert list(measure().values()) == [1, 1], "the log of its first process is read"
    assert list(measure().values()) == [None, 1], "what the second one logs is not known"
    said = [fields for event, fields in scene.events if event == "medic.log_unreadable"]
    assert said == [{"svc": "feed", "reason": "it is not a regular file", "file": "feed@2.log", "logs": 1}]
    assert scene.source.find_problem() == "log not read: feed@2.log: it is not a regular file"
    pipe.unlink()
    assert list(measure().values()) == [1, 1]
    assert scene.source.find_problem() is None


async def test_the_end_of_a_file_that_a_link_in_place_of_a_log_names_is_not_read(scene):
    (scene.data / "key").write_text("a secret\n")
    scene.write("the log")
    (scene.folder / "feed@2.log").symlink_to(scene.data / "key")
    os.mkfifo(scene.folder / "feed@3.log")
    for _ in range(20):  # no thread is left waiting
        assert list(await scene.source.read_end("feed")) == [[b"the log"], [], []]
