"""A container engine by its documented API, on a stand-in: what is asked, what is done, and what is not."""

import asyncio
import contextlib
import time

import pytest

from marketswarm.agent.lease import clock
from marketswarm.fleet_control import RestartAnswer
from services.medic.facts import RestartOwner
from services.medic.owners import engine as engine_module
from services.medic.owners.engine import INSPECTED_AGAIN, ContainerEngine
from services.medic.owners.owner import NoOwnerError
from support.rig.container_engine import ContainerEngineStandIn

pytestmark = pytest.mark.live

SERVICES = ("feed", "mesh")


class Log:
    def __init__(self):
        self.lines = []

    def warning(self, event, **fields):
        self.lines.append((event, fields))


@pytest.fixture
def stand_in(tmp_path):
    with contextlib.closing(ContainerEngineStandIn(tmp_path)) as engine:
        yield engine
        assert engine.strange == [], "three kinds of requests are all that a proxy has to let through"


@pytest.fixture
def log():
    return Log()


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
    monkeypatch.setattr(engine_module, "SEEN_AGAIN_SEC", 0.0)
    stand_in.asked.clear()
    for _ in range(3):
        await owner.read(SERVICES)
    inspected = [path for _, path in stand_in.asked if "?" not in path]
    assert len(set(inspected)) == len(inspected) == 3 * INSPECTED_AGAIN == 30, "each one in its turn"


async def test_the_age_of_a_start_goes_on_though_the_clock_is_set(stand_in, owner, monkeypatch):
    monkeypatch.setattr(engine_module, "SEEN_AGAIN_SEC", 0.0)
    stand_in.add("feed")
    (before,) = await owner.read(SERVICES)
    real = time.time
    monkeypatch.setattr("services.medic.owners.engine.time.time", lambda: real() - 1e9)
    (after,) = await owner.read(SERVICES)
    assert 0 <= after.facts.age_sec - before.facts.age_sec < 60


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
