"""A container engine by its documented API, on a stand-in: what is asked, what is done, and what is not."""

import asyncio
import contextlib
import time

import pytest

from marketswarm.agent.lease import clock
from marketswarm.fleet_control import RestartAnswer
from services.medic.facts import RestartOwner
from services.medic.metric import Metric
from services.medic.owners import engine as engine_module
from services.medic.owners import owner as owner_module
from services.medic.owners.engine import ContainerEngine
from services.medic.owners.owner import ASKED_AT_ONCE, INSPECTED_AGAIN, NoOwnerError
from support.recording_log import RecordingLog
from support.rig.container_engine import ContainerEngineStandIn

pytestmark = pytest.mark.live

SERVICES = ("feed", "mesh")


@pytest.fixture
def stand_in(tmp_path):
    with contextlib.closing(ContainerEngineStandIn(tmp_path)) as engine:
        yield engine
        assert engine.strange == [], "five kinds of requests are all that a proxy has to let through"


@pytest.fixture
def log():
    return RecordingLog()


@pytest.fixture
async def owner(stand_in, log):
    owner = ContainerEngine(stand_in.path, "shop", log)
    yield owner
    await owner.end()


async def test_a_container_is_a_process_of_its_service_with_the_engine_as_its_owner(stand_in, owner):
    feed = stand_in.add("feed", restarts=3, is_oom_killed=True)
    other = stand_in.add("postgres")
    (found,) = await owner.read(SERVICES)
    assert (found.svc, found.owner, found.restarts, found.pid) == ("feed", RestartOwner.ENGINE, 3, None)
    assert found.facts.identity == f"{feed.id}@{feed.started_at}"
    assert found.facts.is_oom_killed
    assert found.facts.age_sec > 1000
    assert not stand_in.count(other.id), "a container that is not ours is not even inspected"
    assert owner.requests == {("list", "ok"): 1, ("inspect", "ok"): 1}


async def test_only_a_new_container_and_one_that_seems_to_be_another_is_inspected_at_once(
    stand_in, owner, monkeypatch
):
    for number in range(30):
        stand_in.add("feed", number)
    await owner.read(SERVICES)
    assert stand_in.count("/json?") == 1
    stand_in.asked.clear()
    changed = list(stand_in.containers.values())[10 : 11 + INSPECTED_AGAIN]
    for each in changed:
        each.state = "exited"
    again = list(stand_in.containers.values())[3]
    again.status = "Up 1 second"
    found = await owner.read(SERVICES)
    inspected = [path.split("/")[3] for _, path in stand_in.asked[1:]]
    assert sorted(inspected) == sorted(each.id for each in (*changed, again))
    assert sum(each.facts.is_stopped for each in found) == len(changed), "more than are inspected again"
    monkeypatch.setattr(owner_module, "SEEN_AGAIN_SEC", 0.0)
    stand_in.asked.clear()
    for _ in range(3):
        await owner.read(SERVICES)
    inspected = [path for _, path in stand_in.asked if "?" not in path]
    assert len(set(inspected)) == len(inspected) == 3 * INSPECTED_AGAIN == 30, "each one in its turn"


async def test_the_age_of_a_start_goes_on_though_the_clock_is_set(stand_in, owner, monkeypatch):
    monkeypatch.setattr(owner_module, "SEEN_AGAIN_SEC", 0.0)
    stand_in.add("feed")
    (before,) = await owner.read(SERVICES)
    real = time.time
    monkeypatch.setattr("services.medic.owners.engine.time.time", lambda: real() - 1e9)
    (after,) = await owner.read(SERVICES)
    assert 0 <= after.facts.age_sec - before.facts.age_sec < 60


async def test_a_list_that_is_as_it_was_is_not_parsed_again_but_for_another_truth_or_another_answer(
    stand_in, owner, monkeypatch
):
    parsed, parse = [], engine_module.parse_listing
    monkeypatch.setattr(engine_module, "parse_listing", lambda *each: parsed.append(each) or parse(*each))
    feed = stand_in.add("feed")
    for _ in range(3):
        assert len(await owner.read(SERVICES)) == 1
    assert len(parsed) == 1
    assert await owner.read(("mesh",)) == ()
    assert len(await owner.read(SERVICES)) == 1
    del stand_in.containers[feed.id]
    assert await owner.read(SERVICES) == ()
    assert len(parsed) == 4


async def test_a_container_that_goes_between_list_and_inspection_is_left_out(stand_in, owner):
    feed, mesh = stand_in.add("feed"), stand_in.add("mesh")
    stand_in.answer = lambda _method, path: (404, b"{}") if feed.id in path else None
    assert [each.svc for each in await owner.read(SERVICES)] == ["mesh"]
    assert mesh.id in stand_in.containers


async def test_a_service_with_a_container_that_can_not_be_used_is_left_out_counted_and_logged_once(
    stand_in, owner, log
):
    stand_in.add("feed", 1)
    bad = stand_in.add("feed", 2, said={"RestartCount": "many"})
    stand_in.add("mesh")
    for _ in range(3):
        assert [each.svc for each in await owner.read(SERVICES)] == ["mesh"], "one that is left seems alone"
    assert owner.requests["inspect", "unusable"] == 3
    assert [event for event, _ in log.lines] == ["medic.container_unusable"]
    bad.said.clear()
    assert len(await owner.read(SERVICES)) == 3


async def test_a_container_that_the_engine_can_not_show_cuts_the_medic_off_from_no_other(
    stand_in, owner, log
):
    broken = stand_in.add("feed")
    stand_in.add("mesh")
    stand_in.answer = lambda _method, path: (500, b"{}") if broken.id in path else None
    for _ in range(2):
        assert [each.svc for each in await owner.read(SERVICES)] == ["mesh"]
    assert [(event, fields["svc"]) for event, fields in log.lines] == [("medic.container_unusable", "feed")]
    stand_in.answer = lambda _method, path: (503, b"{}") if broken.id in path else None
    with pytest.raises(NoOwnerError):
        await owner.read(SERVICES)


@pytest.mark.parametrize(
    ("word", "answer", "reason"),
    [
        ("/json?", (200, b"junk"), "no JSON"),
        ("/json?", (403, b""), "it answers 403"),
        ("/json?", (200, b" " * 5_000_000), "too_long"),
        ("1/json", (403, b""), "it answers 403"),
        ("1/json", (200, b" " * 1_000_000), "too_long"),
    ],
)
async def test_an_engine_whose_answer_can_not_be_used_cuts_the_medic_off(
    stand_in, owner, word, answer, reason
):
    stand_in.add("feed")
    stand_in.answer = lambda _method, path: answer if word in path else None
    with pytest.raises(NoOwnerError, match=reason):
        await owner.read(SERVICES)
    assert owner.requests.total() >= 1


async def test_an_engine_that_hangs_or_is_not_there_cuts_the_medic_off_in_time(
    stand_in, owner, log, tmp_path, monkeypatch
):
    monkeypatch.setattr(engine_module, "LOOK_SEC", 0.3)
    stand_in.add("feed")
    stand_in.answer = lambda *_: time.sleep(2)
    began = time.monotonic()
    with pytest.raises(NoOwnerError, match="timeout"):
        await owner.read(SERVICES)
    assert time.monotonic() - began < 2
    missing = ContainerEngine(tmp_path / "none", None, log)
    with pytest.raises(NoOwnerError, match="the engine does not answer"):
        await missing.read(SERVICES)
    await missing.end()


MEMORY, CPU = Metric.PROCESS_MEMORY, Metric.PROCESS_CPU


@pytest.fixture
def no_pause(monkeypatch):
    monkeypatch.setattr(engine_module, "MEASURED_AGAIN_SEC", 0.0)


async def test_memory_and_processor_time_of_containers_are_measured_of_those_that_are_asked_for_alone(
    stand_in, owner, no_pause
):
    feed, mesh = stand_in.add("feed"), stand_in.add("mesh")
    assert await owner.measure(SERVICES) == {MEMORY: {}, CPU: {}}, "nothing was read yet"
    await owner.read(SERVICES)
    assert stand_in.count("/stats") == 0, "no rule has asked"
    assert await owner.measure(["feed"]) == {MEMORY: {"feed": 60.0}, CPU: {"feed": None}}
    assert not stand_in.count(f"{mesh.id}/stats")
    feed.memory_bytes, feed.cpu_ns = 75_000_000, feed.cpu_ns + 10**9
    await asyncio.sleep(0.1)
    found = await owner.measure(["feed"])
    assert found[MEMORY] == {"feed": 75.0}
    assert 0 < found[CPU]["feed"] <= 1000, "a second of a processor within more than a tenth of one"
    assert owner.requests["stats", "ok"] == 2


async def test_a_service_has_the_value_of_its_largest_container_and_none_unless_each_is_known(
    stand_in, owner, no_pause
):
    small, large = stand_in.add("feed", 1), stand_in.add("feed", 2, memory_bytes=90_000_000)
    await owner.read(SERVICES)
    assert (await owner.measure(SERVICES))[MEMORY] == {"feed": 90.0}
    small.used = {"memory_stats": {}}
    assert (await owner.measure(SERVICES))[MEMORY] == {"feed": None}
    large.state = "exited"
    small.used = {}
    await owner.read(SERVICES)
    assert (await owner.measure(SERVICES))[MEMORY] == {"feed": 60.0}, "what ended takes nothing"


async def test_a_container_is_not_measured_again_at_once_but_a_new_start_of_it_is(
    stand_in, owner, monkeypatch
):
    feed = stand_in.add("feed")
    (found,) = await owner.read(SERVICES)
    await owner.measure(SERVICES)
    feed.memory_bytes = 95_000_000
    assert (await owner.measure(SERVICES))[MEMORY] == {"feed": 60.0}
    assert stand_in.count("/stats") == 1
    await owner.restart("feed", found.facts.identity, None)
    assert (await owner.measure(SERVICES))[MEMORY] == {}, "what was measured before it says nothing"
    await owner.read(SERVICES)
    assert (await owner.measure(SERVICES))[MEMORY] == {"feed": 95.0}
    feed.start_again()
    feed.memory_bytes, feed.status = 10_000_000, "Up 1 second"
    await owner.read(SERVICES)
    found = await owner.measure(SERVICES)
    assert found == {MEMORY: {"feed": 10.0}, CPU: {"feed": None}}


async def test_a_processor_time_that_went_back_is_not_known(stand_in, owner, no_pause):
    feed = stand_in.add("feed")
    await owner.read(SERVICES)
    await owner.measure(SERVICES)
    feed.cpu_ns -= 1
    assert (await owner.measure(SERVICES))[CPU] == {"feed": None}


@pytest.mark.parametrize(
    ("answer", "result", "reason"),
    [
        ((403, b""), "403", "the engine's answer can't be used (stats): it answers 403"),
        ((200, b"junk"), "unusable", "no JSON"),
        ((200, b"{}"), "unusable", "no memory or processor time"),
        ((200, b" " * 500_000), "too_long", "the engine does not answer: too_long"),
        ((404, b"{}"), "404", None),
    ],
)
async def test_a_container_that_can_not_be_measured_is_not_known_counted_and_logged_once(
    stand_in, owner, log, no_pause, *, answer, result, reason
):
    feed, _ = stand_in.add("feed"), stand_in.add("mesh")
    await owner.read(SERVICES)
    stand_in.answer = lambda _method, path: answer if f"{feed.id}/stats" in path else None
    for _ in range(3):
        assert (await owner.measure(SERVICES))[MEMORY] == {"feed": None, "mesh": 60.0}
    assert owner.requests["stats", result] == 3
    told = {"svc": "feed", "reason": reason, "containers": 1}
    assert log.lines == ([] if reason is None else [("medic.container_not_measured", told)])
    stand_in.answer = lambda *_: None
    assert len(await owner.read(SERVICES)) == 2, "a medic that can't measure is not cut off"
    assert (await owner.measure(SERVICES))[MEMORY] == {"feed": 60.0, "mesh": 60.0}


async def test_a_measurement_ends_in_time_and_asks_few_at_once(stand_in, owner, log, monkeypatch):
    monkeypatch.setattr(engine_module, "MEASURE_SEC", 0.3)
    for number in range(20):
        stand_in.add("feed", number)
    await owner.read(SERVICES)
    stand_in.answer = lambda *_: time.sleep(2)
    began = time.monotonic()
    assert (await owner.measure(SERVICES))[MEMORY] == {"feed": None}
    assert time.monotonic() - began < 2
    assert stand_in.count("/stats") == ASKED_AT_ONCE
    assert len(log.lines) == 1


async def test_a_container_is_restarted_by_its_id_once(stand_in, owner):
    feed = stand_in.add("feed")
    (found,) = await owner.read(SERVICES)
    answer, said = await owner.restart("feed", found.facts.identity, clock() + 60)
    assert answer is RestartAnswer.DONE
    assert said.startswith(f"feed: container {feed.id[:12]} restarted in ")
    posts = [path for method, path in stand_in.asked if method == "POST"]
    assert posts == [f"/v1.44/containers/{feed.id}/restart"]
    assert (await owner.restart("feed", found.facts.identity, clock() + 60))[0] is RestartAnswer.CHANGED
    assert stand_in.count("/restart") == 1
    (after,) = await owner.read(SERVICES)
    assert after.facts.identity != found.facts.identity


def is_gone(engine, feed):
    del engine.containers[feed.id]


def is_another_one(engine, feed):
    del engine.containers[feed.id]
    engine.add("feed", 99)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda _engine, feed: feed.start_again(), RestartAnswer.CHANGED),
        (is_gone, RestartAnswer.CHANGED),
        (is_another_one, RestartAnswer.CHANGED),
        (lambda _engine, feed: setattr(feed, "state", "restarting"), RestartAnswer.REFUSED),
        (lambda _engine, feed: setattr(feed, "state", "exited"), RestartAnswer.REFUSED),
        (lambda _engine, feed: setattr(feed, "said", {"RestartCount": None}), RestartAnswer.REFUSED),
        (lambda engine, _feed: setattr(engine, "answer", lambda *_: (500, b"")), RestartAnswer.REFUSED),
    ],
    ids=["started anew", "gone", "another", "the engine is about to", "stopped", "unusable", "no answer"],
)
async def test_nothing_is_done_unless_the_very_start_that_is_meant_runs(stand_in, owner, change, expected):
    feed = stand_in.add("feed")
    (found,) = await owner.read(SERVICES)
    change(stand_in, feed)
    assert (await owner.restart("feed", found.facts.identity, None))[0] is expected
    assert not stand_in.count("/restart")


@pytest.mark.parametrize(
    ("svc", "label", "command", "may"),
    [
        ("postgres", "", "postgres", False),
        ("my-db", "false", "python -m services.mesh", False),
        ("healer-standby", "true", "python -m healer", False),
        ("mesh", "", "python -m services.mesh", True),
        ("mesh", "true", "own-program", True),
    ],
)
async def test_what_a_truth_calls_a_service_is_restarted_only_if_it_is_an_agent(
    stand_in, svc, label, command, may
):
    owner = ContainerEngine(stand_in.path, "shop", RecordingLog())
    container = stand_in.add(svc, listed={"Command": command})
    container.labels = {name: text for name, text in container.labels.items() if "agent" not in name}
    container.labels |= {"marketswarm.agent": label} if label else {}
    (found,) = await owner.read((svc,))
    assert found.facts.is_protected is not may
    answer, _ = await owner.restart(svc, found.facts.identity, None)
    assert answer is (RestartAnswer.DONE if may else RestartAnswer.REFUSED)
    assert stand_in.count("restart") == may
    await owner.end()


async def test_nothing_is_done_after_the_lease_has_ended(stand_in, owner):
    stand_in.add("feed")
    (found,) = await owner.read(SERVICES)
    answer, said = await owner.restart("feed", found.facts.identity, clock() - 0.1)
    assert (answer, said) == (RestartAnswer.REFUSED, "the request came too late")
    assert not stand_in.count("/restart")


@pytest.mark.parametrize("identity", ["", "17.5", "../../build@2026-01-01T00:00:00Z"])
async def test_an_identity_that_is_no_container_reaches_no_path(stand_in, owner, identity):
    assert (await owner.restart("feed", identity, None))[0] is RestartAnswer.REFUSED
    assert stand_in.asked == []


@pytest.mark.parametrize(
    ("status", "expected"),
    [(404, RestartAnswer.CHANGED), (403, RestartAnswer.REFUSED), (409, RestartAnswer.REFUSED), (500, None)],
)
async def test_what_an_engine_answers_to_a_restart_says_whether_it_may_have_been_done(
    stand_in, owner, status, expected
):
    stand_in.add("feed")
    (found,) = await owner.read(SERVICES)
    body = b'{"message": "no \\u001b[31m' + b"x" * 5000 + b'"}'
    stand_in.answer = lambda _method, path: (status, body) if path.endswith("/restart") else None
    if expected is None:
        with pytest.raises(NoOwnerError) as raised:
            await owner.restart("feed", found.facts.identity, None)
        said = str(raised.value)
    else:
        answer, said = await owner.restart("feed", found.facts.identity, None)
        assert answer is expected
    assert said.isprintable()
    assert len(said) < 200


async def test_a_restart_that_takes_too_long_may_have_been_done(stand_in, owner, monkeypatch):
    monkeypatch.setattr(engine_module, "RESTART_SEC", 0.3)
    stand_in.add("feed")
    (found,) = await owner.read(SERVICES)
    stand_in.on_restart = lambda _: time.sleep(2)
    with pytest.raises(NoOwnerError, match="timeout"):
        await owner.restart("feed", found.facts.identity, None)


async def test_it_goes_on_after_an_end_and_two_looks_at_once_are_two_looks(stand_in, owner):
    stand_in.add("feed")
    await owner.read(SERVICES)
    await owner.end()
    found = await asyncio.gather(owner.read(SERVICES), owner.read(SERVICES))
    assert [len(each) for each in found] == [1, 1]
