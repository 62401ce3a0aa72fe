"""What the medic makes of the fleet's state: facts about each target, and why nothing may be done at all."""

import dataclasses
import json
import time
from collections import Counter
from types import SimpleNamespace

import pytest

from marketswarm.beat import Beat
from marketswarm.detector import State
from marketswarm.fleet_control import FleetProcess, ProcessState
from marketswarm.monitor.roster_entry import RosterEntry
from marketswarm.operator.maintenance import find_windows
from marketswarm.operator.silences import Silence, create_silence
from marketswarm.status.fleet_state import FleetState, InstanceCount, Leader
from marketswarm.truth import parse_truth
from services.medic import observer as observer_module
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


@pytest.mark.parametrize(
    ("left_sec", "health"), [(35.0, Health.UP), (15.0, Health.DOWN), (None, Health.DOWN)]
)
def test_an_alert_of_somebody_else_about_a_service_that_beats_is_nothing_to_heal(observer, left_sec, health):
    roster = {"feed": RosterEntry(State.DOWN, NOW - 10, since=NOW - 30, boot="b0", via="alertmanager")}
    ttls = {} if left_sec is None else {"feed": left_sec}
    feed = facts(observer, observation(roster=roster, ttls_sec=ttls)).targets["feed"]
    assert feed.health is health
    assert (feed.down_since is None) is (health is Health.UP)


def test_the_age_of_an_outage_is_that_by_the_clock_with_which_the_healer_wrote_it(observer):
    found = facts(observer, observation(), now=NOW + 7200)
    assert (found.targets["feed"].down_since, found.targets["feed"].down_sec) == (NOW - 30, 30.0)


@pytest.mark.parametrize(("left_sec", "is_late"), [(60.0, False), (43.0, False), (41.0, True), (31.0, True)])
def test_a_service_that_is_up_is_late_after_most_of_its_timeout(observer, left_sec, is_late):
    found = facts(observer, observation(ttls_sec={"mesh": left_sec}))
    assert found.targets["mesh"].is_late is is_late
    assert found.down_counts == (1 + is_late, 2)
    assert not facts(observer, observation(ttls_sec={"feed": left_sec})).targets["feed"].is_late, "it is down"


@pytest.mark.parametrize("heartbeat", [{"interval_sec": 25}, {"schedule": "0 3 * * *", "grace_sec": 60}])
def test_a_service_whose_beats_are_that_far_apart_is_not_late(observer, heartbeat):
    document = {"services": {**TRUTH["services"], "mesh": {"heartbeat": heartbeat}}}
    parsed = parse_truth(json.dumps(document).encode()).truth
    left_sec = 2 * parsed.timeout_of("mesh") - parsed.interval_of("mesh")
    assert (
        not facts(observer, observation(document=parsed, ttls_sec={"mesh": left_sec})).targets["mesh"].is_late
    )


def see_in_turn(observer, *boots, instances=None):
    """Let beats of these processes be the last one, each for a second; return what is made of them then."""
    beats = [{"feed": beat("feed", boot=boot)} for boot in boots]
    looks = [observation(beats=each, instances=instances or {}) for each in beats]
    return [facts(observer, seen, NOW + at).targets["feed"].has_several for at, seen in enumerate(looks)][-1]


def test_processes_that_beat_in_turn_are_several_and_restarts_are_none(observer):
    assert not see_in_turn(observer, *"abcdefg"), "each one has replaced the one before"
    assert see_in_turn(observer, *"gghg")
    assert see_in_turn(observer, *"ghi" * 40)
    assert see_in_turn(observer, *"i" * 99), "for ten intervals, which are 100 s"
    observer.begin_term()
    assert not see_in_turn(observer, *"hi")
    assert see_in_turn(observer, *"hi")
    assert not see_in_turn(observer, *"i" * 120)


def test_many_processes_in_turn_are_bounded_and_forgotten_with_their_service(observer):
    see_in_turn(observer, *(str(each) for each in range(200)), *"aba")
    parts = list(vars(observer._in_turn).values())  # noqa: SLF001 - what it keeps
    assert max(len(each) for part in parts for each in part.values() if isinstance(each, dict)) <= 50
    other = parse_truth(b'{"services": {"other": {}}}').truth
    facts(observer, observation(document=other))
    assert parts == [{}, {}, {}]


def test_what_mesh_counts_holds_back_no_remedy(observer):
    lie = {"feed": InstanceCount(2, boots=("b1", "b9")), "mesh": InstanceCount(50)}
    found = facts(observer, observation(instances=lie))
    assert [found.targets[svc].has_several for svc in ("feed", "mesh")] == [False, False]
    assert not see_in_turn(observer, *"bbb", instances=lie)


def test_a_target_has_the_replicas_of_the_truth_and_may_have_said_goodbye(observer):
    document = {"services": {**TRUTH["services"], "mesh": {"replicas": 3}}}
    found = facts(observer, observation(document=parse_truth(json.dumps(document).encode()).truth))
    assert [found.targets[svc].replicas for svc in ("feed", "mesh")] == [1, 3]
    assert not found.targets["feed"].has_said_goodbye
    miss = {"id": "1" * 32, "type": "heartbeat_miss", "svc": "feed", "ts": NOW, "reason": "stopped"}
    roster = {"feed": RosterEntry(State.DOWN, NOW, event=json.dumps({**miss, "by": "healer"}).encode())}
    assert facts(observer, observation(roster=roster)).targets["feed"].has_said_goodbye


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


@pytest.fixture
def observe(monkeypatch):
    """What an observer of these owners finds at one look after the other."""

    async def read_state(*_args, with_runs):
        assert not with_runs, "the medic needs no runs, and reads each second"
        return state(), {}

    async def read_silences(_buses):
        return SimpleNamespace(silences={}, failed={})

    monkeypatch.setattr("services.medic.observer.read_fleet_state", read_state)
    monkeypatch.setattr("services.medic.observer.read_silences", read_silences)
    me = SimpleNamespace(settings=SimpleNamespace(default_timeout_sec=30.0), truth=truth(), bus=str)

    def begin(*owners):
        observer = FleetObserver(me, owners)

        async def look():
            return observer, await observer.observe(HealingSettings(), NOW)

        return look

    return begin


WHY = "the engine does not answer: refused"


async def test_all_owners_are_asked(observe):
    observer, found = await observe()()
    assert (found.blocked, observer.problem, observer.seen.processes) == (None, None, None)
    owned = (make_owned(RUNNING), CONTAINER)
    observer, found = await observe(*map(Owner, owned))()
    assert (found.blocked, observer.problem, observer.seen.processes) == (None, None, owned)


async def test_an_owner_that_does_not_answer_cuts_off_what_it_runs_and_nothing_else(observe):
    engine, fleet = Owner(CONTAINER), Owner(dataclasses.replace(make_owned(RUNNING), svc="mesh"))
    look = observe(engine, fleet)
    _, found = await look()
    assert not any(each.is_cut_off for each in found.targets.values())
    engine.found = ()
    observer, found = await look()
    assert (found.blocked, observer.problem) == (None, WHY), "and the beats say so"
    feed, mesh, healer = (found.targets[svc] for svc in ("feed", "mesh", "healer"))
    assert (feed.is_cut_off, feed.owner, feed.processes) == (True, RestartOwner.ENGINE, ())
    assert (mesh.is_cut_off, mesh.owner, len(mesh.processes)) == (False, RestartOwner.UP, 1)
    assert not healer.is_cut_off, "it runs elsewhere"
    engine.found = (CONTAINER,)
    observer, found = await look()
    assert (found.targets["feed"].is_cut_off, observer.problem) == (False, None)


async def test_an_owner_that_never_answered_may_run_all_that_no_other_one_shows(observe):
    owned = dataclasses.replace(make_owned(RUNNING), svc="mesh")
    _, found = await observe(Owner(), Owner(owned))()
    assert [svc for svc, each in found.targets.items() if not each.is_cut_off] == ["mesh"]
    observer, found = await observe(Owner())()
    assert all(each.is_cut_off for each in found.targets.values())
    assert observer.seen.processes is None


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


def test_what_people_want_is_looked_up_once_a_look_however_many_services_there_are(observer, monkeypatch):
    calls = Counter()

    def count(owner, name):
        real = getattr(owner, name)

        def counted(*args):
            calls[name] += 1
            return real(*args)

        monkeypatch.setattr(owner, name, counted)

    count(Silence, "is_active")
    count(Silence, "matches")
    count(observer_module, "is_window_open")
    over = create_silence(("svc*",), (), 60, author="ann", reason="disks", now=NOW - 3600)
    closed = {"at": f"0 {time.gmtime(NOW + 43_200).tm_hour} * * *", "for_sec": 60}
    counts = []
    for size in (3, 30):
        services = {f"svc{number}": {} for number in range(size)}
        document = {"services": {"notifier": {"settings": {"maintenance": [closed] * 2}}, **services}}
        parsed = parse_truth(json.dumps(document).encode()).truth
        found = facts(observer, observation(silences=(over,) * 5, document=parsed))
        assert {each.blocked for each in found.targets.values()} == {None}
        counts.append(dict(calls))
        calls.clear()
    assert counts == [{"is_active": 5, "is_window_open": 2}] * 2


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
