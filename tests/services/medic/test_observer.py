"""What the medic makes of the fleet's state: facts about each target, and why nothing may be done at all."""

import dataclasses
import json
import time
from types import SimpleNamespace

import pytest

from marketswarm.beat import Beat
from marketswarm.detector import State
from marketswarm.fleet_control import FleetProcess, ProcessState
from marketswarm.monitor.store import RosterEntry
from marketswarm.operator.maintenance import find_windows
from marketswarm.operator.silences import create_silence
from marketswarm.status.fleet_state import FleetState, InstanceCount, Leader
from marketswarm.truth import parse_truth
from services.medic.facts import Health, ProcessFacts, RestartOwner
from services.medic.observer import FleetObservation, FleetObserver
from services.medic.owners.embedded_fleet import make_owned
from services.medic.owners.owner import NoOwnerError, OwnedProcess
from services.medic.refusal import Refusal
from services.medic.settings import HealingSettings

NOW = float(round(time.time()))
TRUTH = {
    "services": {
        "feed": {"heartbeat": {"timeout_sec": 20}, "depends_on": ["mesh"], "tags": ["ingest"]},
        "mesh": {},
        "healer": {},
        "notifier": {},
    }
}
RUNNING = FleetProcess("feed", ProcessState.RUNNING, True, "17.5", 99.0, 0)


def truth(**notifier):
    document = {"services": {**TRUTH["services"], "notifier": {"settings": notifier}}}
    return parse_truth(json.dumps(document).encode()).truth


def beat(svc, status="ok", boot="b1"):
    return Beat(svc, 1, NOW, boot=boot, status=status)


def state(**more):
    found = FleetState(
        roster={
            "feed": RosterEntry(State.DOWN, NOW - 10, since=NOW - 30, boot="b0"),
            "mesh": RosterEntry(State.UP, NOW),
        },
        beats={"feed": beat("feed"), "mesh": beat("mesh"), "healer": beat("healer")},
        ttls_sec={"feed": 35.0, "mesh": 55.0, "healer": 55.0},
        leader=Leader("h1", 1, 0.0),
    )
    return dataclasses.replace(found, **more)


def observation(processes=(RUNNING,), silences=(), document=None, **more):
    document = document or truth()
    owned = tuple(map(make_owned, processes))
    return FleetObservation(document, state(**more), silences, find_windows(document), owned, NOW)


@pytest.fixture
def observer():
    return FleetObserver(SimpleNamespace(settings=SimpleNamespace(default_timeout_sec=30.0)))


def facts(observer, seen, now=NOW, **settings):
    return observer.make_facts(seen, HealingSettings.model_validate(settings), now)


def test_a_target_is_what_the_healer_its_last_beat_and_its_owner_say(observer):
    found = facts(observer, observation())
    assert found.blocked is None
    feed, mesh = found.targets["feed"], found.targets["mesh"]
    assert (feed.health, feed.down_since, feed.boot, feed.silence_sec) == (Health.DOWN, NOW - 30, "b1", 5.0)
    assert feed.down_sec == 30.0
    assert (feed.owner, feed.processes) == (RestartOwner.UP, (ProcessFacts("17.5", age_sec=99.0),))
    assert (feed.depends_on, feed.severity, feed.blocked) == (("mesh",), "warning", None)
    assert (mesh.health, mesh.owner, mesh.processes) == (Health.UP, RestartOwner.ELSEWHERE, ())
    assert mesh.down_since is mesh.down_sec is None, "it is up"
    assert found.targets["healer"].health is Health.UNKNOWN


def test_the_age_of_an_outage_is_that_by_the_clock_with_which_the_healer_wrote_it(observer):
    found = facts(observer, observation(), now=NOW + 7200)
    assert (found.targets["feed"].down_since, found.targets["feed"].down_sec) == (NOW - 30, 30.0)


@pytest.mark.parametrize(("left_sec", "is_late"), [(60.0, False), (43.0, False), (41.0, True), (31.0, True)])
def test_a_service_that_is_up_is_late_after_most_of_its_timeout(observer, left_sec, is_late):
    found = facts(observer, observation(ttls_sec={"mesh": left_sec}))
    assert found.targets["mesh"].is_late is is_late
    assert found.count_down() == (1 + is_late, 2)
    assert not facts(observer, observation(ttls_sec={"feed": left_sec})).targets["feed"].is_late, "it is down"


@pytest.mark.parametrize("heartbeat", [{"interval_sec": 25}, {"schedule": "0 3 * * *", "grace_sec": 60}])
def test_a_service_whose_beats_are_that_far_apart_is_not_late(observer, heartbeat):
    document = {"services": {**TRUTH["services"], "mesh": {"heartbeat": heartbeat}}}
    parsed = parse_truth(json.dumps(document).encode()).truth
    left_sec = 2 * parsed.timeout_of("mesh", 30.0) - parsed.interval_of("mesh")
    assert (
        not facts(observer, observation(document=parsed, ttls_sec={"mesh": left_sec})).targets["mesh"].is_late
    )


def test_a_target_has_as_many_instances_as_mesh_counts(observer):
    found = facts(observer, observation(instances={"feed": InstanceCount(2)}))
    assert [found.targets[svc].instances for svc in ("feed", "mesh")] == [2, 0]


def test_a_target_has_the_replicas_of_the_truth_and_may_have_said_goodbye(observer):
    document = {"services": {**TRUTH["services"], "mesh": {"replicas": 3}}}
    found = facts(observer, observation(document=parse_truth(json.dumps(document).encode()).truth))
    assert [found.targets[svc].replicas for svc in ("feed", "mesh")] == [1, 3]
    assert not found.targets["feed"].has_said_goodbye
    miss = {"id": "1" * 32, "type": "heartbeat_miss", "svc": "feed", "ts": NOW, "reason": "stopped"}
    roster = {"feed": RosterEntry(State.DOWN, NOW, event=json.dumps({**miss, "by": "healer"}).encode())}
    assert facts(observer, observation(roster=roster)).targets["feed"].has_said_goodbye


@pytest.mark.parametrize(("state", "counted"), [(State.UP, 2), (State.DOWN, 0)])
def test_what_a_silent_mesh_last_counted_of_itself_says_nothing(observer, state, counted):
    roster = {"mesh": RosterEntry(state)}
    found = facts(observer, observation(instances={"mesh": InstanceCount(2)}, roster=roster))
    assert found.targets["mesh"].instances == counted


def test_the_truth_may_make_the_medic_the_owner_of_a_process_of_the_fleet_alone(observer):
    targets = {"feed": {"owner": "medic"}, "mesh": {"owner": "medic"}}
    found = facts(observer, observation(), targets=targets)
    assert found.targets["feed"].owner is RestartOwner.MEDIC
    assert found.targets["mesh"].owner is RestartOwner.ELSEWHERE


CONTAINER = OwnedProcess("feed", RestartOwner.ENGINE, ProcessFacts("c1@t1", age_sec=99.0), 2)


def test_a_container_is_the_engines_whatever_the_truth_says_of_its_owner(observer):
    seen = dataclasses.replace(observation(()), processes=(CONTAINER,))
    found = facts(observer, seen, targets={"feed": {"owner": "medic"}}).targets["feed"]
    assert (found.owner, found.processes) == (RestartOwner.ENGINE, (CONTAINER.facts,))


def test_what_two_owners_run_is_two_processes(observer):
    seen = dataclasses.replace(observation(()), processes=(CONTAINER, make_owned(RUNNING)))
    found = facts(observer, seen).targets["feed"]
    assert (found.process, len(found.processes)) == (None, 2)


class Owner:
    def __init__(self, *found):
        self.found = found

    async def read(self, services):
        assert "feed" in services
        if not self.found:
            raise NoOwnerError("the engine does not answer: refused")
        return self.found


async def test_all_owners_are_asked_and_one_that_does_not_answer_cuts_the_medic_off(monkeypatch):
    async def read_state(*_args, with_runs):
        assert not with_runs, "the medic needs no runs, and reads each second"
        return state(), {}

    async def read_silences(_buses):
        return SimpleNamespace(silences={}, failed={})

    monkeypatch.setattr("services.medic.observer.read_fleet_state", read_state)
    monkeypatch.setattr("services.medic.observer.read_silences", read_silences)
    me = SimpleNamespace(settings=SimpleNamespace(default_timeout_sec=30.0), truth=truth(), bus=str)

    async def observe(*owners):
        observer = FleetObserver(me, owners)
        found = await observer.observe(HealingSettings(), NOW)
        return found.blocked, observer.problem, observer.seen.processes

    assert await observe() == (None, None, None)
    owned = (make_owned(RUNNING), CONTAINER)
    assert await observe(Owner(owned[0]), Owner(owned[1])) == (None, None, owned)
    why = "the engine does not answer: refused"
    assert await observe(Owner(owned[0]), Owner()) == (Refusal.CUT_OFF, why, None)


@pytest.mark.parametrize(
    ("changed", "waits", "is_stopped"),
    [
        ({"state": ProcessState.WAITING}, True, False),
        ({"state": ProcessState.STOPPED}, True, False),
        ({"state": ProcessState.STOPPED, "is_wanted": False}, False, True),
        ({"is_wanted": False}, False, True),
    ],
)
def test_a_process_is_waiting_or_was_stopped_by_an_operator(observer, changed, waits, is_stopped):
    process = dataclasses.replace(RUNNING, **changed)
    (found,) = facts(observer, observation((process,))).targets["feed"].processes
    assert (found.is_waiting, found.is_stopped) == (waits, is_stopped)


def test_what_people_want_left_alone_is_blocked(observer):
    silence = create_silence(("fe*",), (), 60, author="ann", reason="disks", now=NOW)
    assert facts(observer, observation(silences=(silence,))).targets["feed"].blocked is Refusal.SILENCED
    over = silence.end_at(NOW)
    assert facts(observer, observation(silences=(over,))).targets["feed"].blocked is None
    windows = [{"at": "* * * * *", "for_sec": 600, "tags": ["ingest"]}, {"at": "junk", "for_sec": 1}]
    found = facts(observer, observation(document=truth(maintenance=windows)))
    assert found.targets["feed"].blocked is Refusal.MAINTENANCE
    assert found.targets["mesh"].blocked is None


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"roster": {"bus:market-redis": RosterEntry(State.DOWN)}}, Refusal.BUS_LOST),
        ({"leader": None}, Refusal.HEALER_ABSENT),
        ({"leader": Leader("h1", 1, 0.5)}, Refusal.HEALER_ABSENT),
        ({"ttls_sec": {"healer": 25.0}}, Refusal.HEALER_ABSENT),
        ({"ttls_sec": {}}, Refusal.HEALER_ABSENT),
        ({"beats": {"healer": beat("healer", "degraded")}}, Refusal.HEALER_DEAF),
        ({"beats": {}}, Refusal.HEALER_DEAF),  # its last beat can't be used
    ],
)
def test_what_the_healer_can_not_see_blocks_everything(observer, changed, refusal):
    assert facts(observer, observation(**changed)).blocked is refusal


def test_a_part_that_can_not_be_read_blocks_everything(observer):
    assert facts(observer, dataclasses.replace(observation(), cut_off=True)).blocked is Refusal.CUT_OFF


def test_the_time_of_degraded_beats_is_that_of_one_process(observer):
    def degraded(now, status="degraded", boot="b1"):
        beats = {"feed": beat("feed", status, boot), "healer": beat("healer")}
        return facts(observer, observation(beats=beats), now).targets["feed"].degraded_sec

    assert [degraded(NOW), degraded(NOW + 5)] == [0.0, 5.0]
    assert degraded(NOW + 6, boot="b2") == 0.0
    assert degraded(NOW + 7, boot="b2") == 1.0
    assert [degraded(NOW + 8, status="ok"), degraded(NOW + 9)] == [0.0, 0.0]


def test_the_time_of_degraded_beats_is_observed_time_alone(observer):
    def degraded(now, rest_sec=0.0, **more):
        beats = {"feed": beat("feed", "degraded"), "healer": beat("healer")}
        seen = observation(**{"beats": beats, **more})
        found = observer.make_facts(seen, HealingSettings(), now, rest_sec)
        return found.targets["feed"].degraded_sec

    assert [degraded(NOW), degraded(NOW + 10)] == [0.0, 10.0]
    assert [degraded(NOW + 600), degraded(NOW + 605)] == [0.0, 5.0], "this process stood still"
    assert degraded(NOW + 705, rest_sec=50.0) == 105.0, "so long a rest was planned"
    assert [degraded(NOW + 706, beats={}), degraded(NOW + 707)] == [0.0, 0.0], "a bus did not answer"
    assert [degraded(NOW - 3600), degraded(NOW - 3599)] == [0.0, 1.0]


def test_a_service_that_another_truth_gives_more_time_is_late_later(observer):
    late = {"ttls_sec": {"mesh": 2.0}}
    slow = json.dumps({"services": {**TRUTH["services"], "mesh": {"heartbeat": {"timeout_sec": 600}}}})
    found = []
    for document in (truth(), parse_truth(slow.encode()).truth, truth()):
        seen = observation(document=document, **late)
        found.append(observer.make_facts(seen, HealingSettings(), NOW).targets["mesh"].silence_sec)
    assert found[0] == found[2] != found[1]
