"""Logs of containers, from an engine on a Unix socket to what rules count."""

import contextlib
import time
from types import SimpleNamespace

import pytest

from marketswarm.packed_log import LOG_LINES
from services.medic.diagnosis.second_tier import LOG_BYTES
from services.medic.metric import Metric
from services.medic.owners import log_source
from services.medic.owners.container import parse_log
from services.medic.owners.engine import ContainerEngine
from services.medic.owners.log_source import read_log_end
from services.medic.owners.owner import UnusableAnswerError
from services.medic.rules import logs
from services.medic.rules.logs import WARM_UP_SEC, LogObserver, LogOrder
from support.rig.container_engine import ContainerEngineStandIn

SERVICES = ("feed", "mesh")
REFUSED = LogOrder(("refused",))
STAMP = b"2026-01-02T03:04:05.123456789Z "


def frame(text, stream=1):
    return bytes([stream, 0, 0, 0]) + len(text).to_bytes(4, "big") + text


def test_frames_of_both_streams_are_lines_and_a_terminal_has_lines_alone():
    both = [STAMP + b"one", STAMP + b"two", STAMP + b"begin of a long ", STAMP + b"line"]
    body = frame(both[0] + b"\n") + frame(both[1] + b"\n", 2) + frame(both[2]) + frame(both[3] + b"\n")
    assert [each.key for each in parse_log(body, has_terminal=False)] == both
    assert [each.text for each in parse_log(body, has_terminal=False)][:2] == [b"one", b"two"]
    shown = STAMP + b"one\r\n" + b"2026-01-02T03:04:05+01:00 \xff\n"
    assert [each.text for each in parse_log(shown, has_terminal=True)] == [b"one\r", b"\xff"]
    assert parse_log(b"", has_terminal=False) == []


@pytest.mark.parametrize(
    "body",
    [
        STAMP + b"no frames\n",
        b"\1\0\0",
        frame(STAMP + b"cut off\n")[:-3],
        frame(STAMP + b"an error of the engine\n", 3),
        b"\1\0\0\1\0\0\0\0",
        b"\1\0\0\0\xff\xff\xff\xff" + STAMP,
        frame(b"no time\n"),
        frame(b"2026-99-02T03:04:05Z x\n"),
    ],
)
def test_what_is_no_log_can_not_be_used(body):
    with pytest.raises(UnusableAnswerError):
        parse_log(body, has_terminal=False)


@pytest.fixture
async def scene(tmp_path, monkeypatch):
    """An engine and the counts of a rule; `scene.look` is one measurement, as the medic does it."""
    scene = SimpleNamespace(now=1000.0, events=[])
    log = SimpleNamespace(warning=lambda event, **fields: scene.events.append((event, fields)))
    monkeypatch.setattr(logs, "log", log)
    monkeypatch.setattr(log_source, "FETCH_SEC", 60.0)
    with contextlib.closing(ContainerEngineStandIn(tmp_path)) as engine:
        scene.engine, scene.owner = engine, ContainerEngine(engine.path, "shop", log)
        scene.observer = LogObserver([scene.owner.logs])

        async def look(metric=Metric.LOG_MATCHES, order=REFUSED, *, reads=True, step_sec=10.0):
            scene.now += step_sec
            if reads:
                await scene.owner.read(SERVICES)
            found = (await scene.observer.read({"feed": order}, scene.now))[metric]
            return next(iter(found.values()), "unknown")

        scene.look = look
        yield scene
        await scene.owner.end()
        assert engine.strange == []


@pytest.mark.live
@pytest.mark.parametrize("has_terminal", [False, True])
async def test_lines_of_a_container_are_counted_once_from_the_first_look_on(scene, has_terminal):
    feed = scene.engine.add("feed", has_terminal=has_terminal)
    other = scene.engine.add("mesh")
    feed.write("refused before the first look")
    assert await scene.look() == 0
    feed.write("refused", "all is well")
    feed.write("refused", stream=2)
    assert [await scene.look() for _ in range(3)] == [2, 2, 2]
    feed.start_again()
    feed.write("refused")
    assert await scene.look() == 3, "the engine goes on with the log"
    feed.state = "exited"
    feed.write("refused")
    assert await scene.look() == 4, "the last words of a container are in it"
    del scene.engine.containers[feed.id]
    scene.engine.add("feed", 2, has_terminal=has_terminal).write("refused", "refused")
    assert await scene.look() == 6, "a new container has a log of its own"
    assert not scene.engine.count(f"{other.id}/logs"), "no rule has asked"
    assert scene.owner.requests["logs", "ok"] == scene.engine.count("/logs?")


@pytest.mark.live
async def test_a_new_kind_of_error_is_found_and_shown_without_control_characters(scene):
    feed, order = scene.engine.add("feed"), LogOrder(has_new=True)
    feed.write("begin")
    await scene.look(Metric.LOG_NEW_ERRORS, order)
    assert await scene.look(Metric.LOG_NEW_ERRORS, order, step_sec=WARM_UP_SEC) == 0
    feed.write(b"ERROR with \x1b[31m \xff 5")
    assert await scene.look(Metric.LOG_NEW_ERRORS, order) == 1
    assert scene.observer.find_note("feed", Metric.LOG_NEW_ERRORS, "") == "ERROR with \\x1b[<n>m � <n>"


@pytest.mark.live
async def test_of_a_log_that_grows_fast_the_end_is_read_and_the_rest_is_not_known(scene):
    feed = scene.engine.add("feed")
    feed.write("begin")
    await scene.look()
    feed.write("refused", *["x"] * LOG_LINES)
    assert await scene.look() is None
    assert await scene.look() == 0
    feed.write(*["x" * 10_000] * LOG_LINES, "refused")
    before = len(scene.engine.asked)
    assert await scene.look() == 1
    tails = [path.rpartition("=")[2] for _, path in scene.engine.asked[before:] if "/logs?" in path]
    assert tails == ["500", "50", "5"], "the answers with more lines were too long"
    assert [event for event, _ in scene.events] == ["medic.log_skipped"] * 2
    assert await scene.look() == 1


@pytest.mark.live
async def test_a_clock_that_is_set_back_hides_no_later_lines(scene, monkeypatch):
    feed, real = scene.engine.add("feed"), time.time
    feed.write("begin", at=real() + 5000)
    await scene.look()
    feed.write("refused")
    assert await scene.look() == 1
    assert await scene.look() == 1
    monkeypatch.setattr(log_source.time, "time", lambda: real() - 5000)
    feed.write("x", at=real() - 5000)
    await scene.look()
    feed.write("refused", at=real() - 4990)
    assert await scene.look() == 2


@pytest.mark.live
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((403, b""), "the engine's answer can't be used (logs): it answers 403"),
        ((501, b'{"message":"no reading"}'), "the engine's answer can't be used (logs): it answers 501"),
        ((200, b"no frames at all"), "a log that is not in frames"),
        ((200, b" " * 500_000), "the lines are too long"),
    ],
)
async def test_a_log_that_can_not_be_read_is_not_known_logged_once_and_learned_later(scene, answer, reason):
    feed = scene.engine.add("feed")
    feed.write("refused")
    scene.engine.answer = lambda _method, path: answer if "/logs?" in path else None
    assert [await scene.look() for _ in range(3)] == ["unknown"] * 3
    assert scene.events == [("medic.log_unreadable", {"svc": "feed", "reason": reason, "logs": 1})]
    assert await read_log_end([scene.owner.logs], "feed", LOG_BYTES, 5.0) == ""
    assert len(await scene.owner.read(SERVICES)) == 1, "a medic that can't read logs is not cut off"
    scene.engine.answer = lambda *_: None
    assert await scene.look() == 0, "this is the first look at it"
    feed.write("refused")
    assert await scene.look() == 1


@pytest.mark.live
async def test_what_a_container_had_logged_is_not_counted_again_after_it_could_not_be_used_for_a_while(scene):
    feed = scene.engine.add("feed")
    await scene.look()
    feed.write("refused", at=time.time() - 100)
    assert await scene.look() == 1
    feed.said, feed.status = {"RestartCount": "many"}, "Up 1 second"
    assert await scene.look() == "unknown"
    feed.said = {}
    assert await scene.look() == 1
    feed.write("refused")
    assert await scene.look() == 2


@pytest.mark.live
async def test_nothing_is_counted_of_what_was_logged_before_the_engine_was_seen(scene):
    scene.engine.add("feed").write("refused")
    assert [await scene.look(reads=False) for _ in range(2)] == ["unknown"] * 2
    assert await scene.look() == 0


@pytest.mark.live
async def test_an_engine_that_hangs_ends_a_look_in_time(scene, monkeypatch):
    monkeypatch.setattr(log_source, "FETCH_SEC", 0.3)
    scene.engine.add("feed")
    scene.engine.answer = lambda _method, path: time.sleep(2) if "/logs?" in path else None
    began = time.monotonic()
    assert await scene.look() == "unknown"
    assert time.monotonic() - began < 2


@pytest.mark.live
async def test_when_much_was_read_the_other_logs_come_first_in_the_next_look(scene, monkeypatch):
    monkeypatch.setattr(log_source, "LOOK_BYTES", 100)
    monkeypatch.setattr(type(scene.owner.logs), "at_once", 1)
    feeds, asked = [scene.engine.add("feed", number) for number in range(3)], set()
    for _ in range(3):
        for feed in feeds:
            feed.write("x" * 100)  # anew, since a look asks for what is newer than the one before it
        scene.engine.asked.clear()
        assert await scene.look() == "unknown", "a count that lacks a container says nothing"
        asked |= {path.split("/")[3] for _, path in scene.engine.asked if "/logs?" in path}
    assert len(asked) == 3


@pytest.mark.live
async def test_the_last_lines_of_each_container_of_a_service_are_evidence(scene):
    for number in range(2):
        feed = scene.engine.add("feed", number)
        feed.write("too old", *(f"{number} is line {at}" for at in range(LOG_LINES)))
    scene.engine.add("mesh").write("of another service")
    await scene.owner.read(SERVICES)
    text = await read_log_end([scene.owner.logs], "feed", LOG_BYTES, 5.0)
    first, second = text.split("\n")[:LOG_LINES], text.split("\n")[LOG_LINES:]
    wanted = [[f"{number} is line {at}" for at in range(LOG_LINES)] for number in range(2)]
    assert sorted([first, second]) == wanted
    feed.write("\x1b[31m", "x" * LOG_BYTES, "the end")
    text = await read_log_end([scene.owner.logs], "feed", LOG_BYTES, 5.0)
    assert sorted(text.split("\n")) == sorted([*wanted[0], "the end"]), "each has its share"
