"""From what was measured to outcomes of the one mechanism of outages, and to what the planner is told."""

import asyncio
import contextlib
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from marketswarm.agent.outage_alerts import OutageAlerts
from marketswarm.agent.outage_state import MONITOR
from marketswarm.event import Event, Kind, parse_event
from marketswarm.operator.approval_request import MAX_WAIT_SEC, ApprovalRequest, find_request
from marketswarm.testing import MemoryBus
from marketswarm.truth import parse_truth
from services.medic.facts import FleetFacts, Health, TargetFacts
from services.medic.metric import Metric
from services.medic.refusal import Refusal
from services.medic.rule import SHIPPED
from services.medic.rules.evaluation import RuleFinding
from services.medic.rules.fleet import MedicWork, read_work
from services.medic.rules.monitor import RuleMonitor
from services.medic.settings import HealingSettings
from support.waiting import auntil

FEED = b'{"access_points": {"publish_to": [{"bus": "market-redis", "key": "work"}]}}'
TRUTH = parse_truth(b'{"services": {"feed": %s, "mesh": {}, "medic": {}}}' % FEED).truth
MEMORY = {"metric": "process_memory", "above": 80, "for_sec": 30, "clear_sec": 0, "severity": "critical"}
SEEN = SimpleNamespace(truth=TRUTH, processes=None, silent_owners=())


class Log:
    def __init__(self):
        self.lines = []
        self.info = lambda event, **fields: self.lines.append((event, fields["rule"]))


@pytest.fixture
def scene(monkeypatch):
    """Rules over readings that the test sets; `scene.look` is one measurement, ten seconds after the last."""
    scene = SimpleNamespace(readings={}, now=1000.0, rules={"memory": MEMORY}, bus=MemoryBus(), log=Log())
    scene.work = MedicWork()
    scene.targets = {}

    def settings():
        found = {"shipped_rules": False, "rules": scene.rules, "targets": scene.targets}
        return HealingSettings.model_validate(found)

    environment = SimpleNamespace(default_timeout_sec=30.0)
    scene.make_alerts = lambda boot: OutageAlerts(
        SimpleNamespace(
            name="medic",
            boot=boot,
            bus=lambda _name: scene.bus,
            truth=SimpleNamespace(services={"medic": None}, alert_target=lambda channel: ("bus", channel)),
            settings=SimpleNamespace(alert_channel=None),
        ),
        MONITOR,
    )
    alerts = scene.make_alerts("boot")
    scene.monitor = RuleMonitor(
        SimpleNamespace(log=scene.log, bus=None, settings=environment, truth=TRUTH),
        settings,
        alerts,
    )
    scene.monitor.follow(TRUTH)
    module = "services.medic.rules.monitor"

    async def read(*_args):
        return {}

    monkeypatch.setattr(f"{module}.read_fleet", lambda _seen: scene.readings)
    monkeypatch.setattr(f"{module}.read_work", lambda *_args: scene.readings)
    monkeypatch.setattr(f"{module}.list_pids", lambda _seen: {})
    for name in ("read_buses", "read_market", "HostObserver.read", "ProbeObserver.read", "LogObserver.read"):
        monkeypatch.setattr(f"{module}.{name}", read)

    async def evaluate(seen=SEEN, work=None):
        await scene.monitor.measure(seen, scene.now)
        scene.monitor.report_work(work or scene.work, seen.truth, scene.now)

    async def look(value, subject="feed", step_sec=10.0, metric=Metric.PROCESS_MEMORY):
        scene.now += step_sec
        scene.readings = {metric: {subject: value, "mesh": 1.0}}
        await evaluate()

    scene.look, scene.evaluate, scene.alerts = look, evaluate, alerts
    return scene


async def publish(scene):
    """Store what waits, as the side task does; return the events of the stream."""
    task = asyncio.create_task(scene.alerts.run())
    await auntil(lambda: scene.alerts.is_idle)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    entries = await scene.bus.client.xrange("medic:alerts")
    return [parse_event(fields[b"event"]) for _, fields in entries]


async def test_a_rule_that_holds_is_one_miss_and_its_end_one_ok(scene):
    assert await publish(scene) == []
    for _ in range(3):
        await scene.look(90.0)
    assert await publish(scene) == []
    for _ in range(4):
        await scene.look(93.456)
    (miss,) = await publish(scene)
    assert isinstance(miss, Event)
    assert (miss.type, miss.svc, miss.by) == (Kind.MONITOR_MISS, "medic/memory/feed", "medic")
    assert (miss.reason, miss.severity) == ("process_memory 93.46, above 80 for 30 s", "critical")
    assert miss.late_sec == pytest.approx(30, abs=1), "since the first value over the limit"
    assert abs(miss.ts - time.time()) < 60
    await scene.look(None)
    assert len(await publish(scene)) == 1, "missing data ends nothing"
    await scene.look(50.0)
    assert [each.type for each in await publish(scene)] == ["monitor_miss", "monitor_ok"]
    assert scene.log.lines == [("medic.rule_holds", "memory/feed"), ("medic.rule_ended", "memory/feed")]


class Owner:
    """An owner that measures what it is asked for, as the engine of containers does."""

    def __init__(self):
        self.value, self.asked = 50.0, []

    async def measure(self, services):
        self.asked.append(set(services))
        return {Metric.PROCESS_MEMORY: dict.fromkeys({"feed"} & services, self.value)}


async def test_a_rule_about_memory_holds_for_a_container_too_and_its_owner_is_asked_for_no_other(scene):
    owner = Owner()
    before = scene.monitor
    scene.monitor = RuleMonitor(before._me, before._get_settings, scene.alerts, [owner])  # noqa: SLF001 - the same scene
    seen = SimpleNamespace(truth=TRUTH, processes=(), silent_owners=())

    async def look():
        scene.now += 10
        scene.readings = {Metric.PROCESS_MEMORY: {"mesh": 10.0}}
        await scene.evaluate(seen)

    scene.rules = {"memory": {**MEMORY, "services": ["fe*"]}}
    owner.value = 85.0
    for _ in range(4):
        await look()
    assert owner.asked == [{"feed"}] * 4
    assert [name for name, found in scene.monitor.findings.items() if found.holds] == ["memory/feed"]
    seen.silent_owners = (owner,)
    await look()
    assert len(owner.asked) == 4, "it does not answer"
    seen.silent_owners, scene.rules = (), {"fuse": {"metric": "fuse", "above": 0}}
    await look()
    assert len(owner.asked) == 4, "no rule needs it"
    scene.rules = {
        "many": {**MEMORY, "share_above": 0.4, "services": ["feed", "mesh"], "severity": "warning"}
    }
    await look()
    assert owner.asked[-1] == {"feed", "mesh"}
    assert scene.monitor.findings["many/all"].is_met is True
    assert scene.monitor.findings["many/all"].value == 0.5, "what this machine's pids say stays beside it"


async def test_what_was_always_well_is_never_written(scene):
    for _ in range(5):
        await scene.look(50.0)
    assert await publish(scene) == []
    assert await scene.bus.client.hgetall("medic:alerts:outages") == {}


async def test_the_next_medic_goes_on_with_the_outage_and_reports_it_once(scene):
    for _ in range(4):
        await scene.look(90.0)
    await publish(scene)
    before, scene.alerts = scene.monitor, scene.make_alerts("boot 2")
    scene.monitor = RuleMonitor(before._me, before._get_settings, scene.alerts)  # noqa: SLF001 - the same scene
    scene.monitor.follow(TRUTH)
    await publish(scene)
    await scene.look(90.0)
    assert len(await publish(scene)) == 1, "that it was met for so long is not known, so nothing ends"
    for _ in range(4):
        await scene.look(90.0)
    assert len(await publish(scene)) == 1
    await scene.look(50.0)
    assert [each.type for each in await publish(scene)] == ["monitor_miss", "monitor_ok"]


async def test_the_reason_names_the_sources_and_the_line_of_the_log(scene, monkeypatch):
    shared = {"metric": "source_limited", "above": 0, "share_above": 0}
    new = {"metric": "log_new", "above": 0, "within_sec": 60}
    scene.rules = {"limits": shared, "new": new}
    scene.monitor.follow(TRUTH)
    note = lambda *asked: "a.b n=<n>" if asked == ("feed", Metric.LOG_NEW, "") else ""  # noqa: E731 - of one line
    monkeypatch.setattr(scene.monitor._logs, "find_note", note)  # noqa: SLF001 - there is no log here
    await scene.look(0.0, metric=Metric.LOG_NEW)
    await scene.look(1.0, metric=Metric.LOG_NEW)
    await scene.look(1.0, "ya\x1bhoo", metric=Metric.SOURCE_LIMITED)
    told = {each.svc: each.reason for each in await publish(scene)}
    assert told == {
        "medic/new/feed": "log_new 1, above 0 within 60 s: a.b n=<n>",
        "medic/limits/all": r"source_limited 1, above 0: mesh, ya\x1bhoo",
    }


async def test_the_event_of_a_proposal_has_the_command_that_approves_it_and_the_next_one_is_another_event(
    scene, monkeypatch
):
    monkeypatch.setattr("services.medic.rules.monitor.read_work", read_work)
    scene.rules = {"proposed": SHIPPED["proposed"].model_dump(mode="json")}
    scene.monitor.follow(TRUTH)
    proposal = ApprovalRequest("restart", "a1b2c3d4", scene.now + 900)

    async def list_told(step_sec=0.2):
        await scene.look(None, step_sec=step_sec)
        return [each for each in await publish(scene) if each.svc == "medic/proposed/feed"]

    assert await list_told(10.0) == []
    scene.work = MedicWork(proposals={"feed": proposal})
    (miss,) = await list_told()
    assert (miss.type, miss.severity) == (Kind.MONITOR_MISS, "warning"), "at once, and not ten seconds later"
    assert miss.reason.startswith("restart; to approve it until ")
    assert miss.reason.endswith(f" UTC: marketswarm medic approve {proposal.ident}")
    link = find_request(miss)
    assert link.until == pytest.approx(time.time() + proposal.until - scene.now, abs=10)
    again = replace(proposal, ident="e5f6a7b8", until=scene.now + 10 * MAX_WAIT_SEC)
    scene.work = MedicWork(proposals={"feed": again})
    assert [each.type for each in await list_told()] == ["monitor_miss", "monitor_ok"], "the first expired"
    for _ in range(2):
        told = await list_told()
        assert [each.type for each in told] == ["monitor_miss", "monitor_ok", "monitor_miss"]
    until = told[-1].ts + MAX_WAIT_SEC
    assert find_request(told[-1]) == ApprovalRequest("restart", again.ident, until)
    scene.work = MedicWork()
    assert [each.type for each in await list_told()][3:] == ["monitor_ok"]


async def test_logs_that_quote_alerts_are_not_read_and_each_other_one_is(scene, monkeypatch):
    asked = []

    async def read(_self, orders, _now):
        asked.extend(orders)
        return {}

    monkeypatch.setattr("services.medic.rules.monitor.LogObserver.read", read)
    scene.rules = {"new": {"metric": "log_new", "above": 0, "within_sec": 60}}
    await scene.look(0.0)
    assert asked == ["feed", "mesh"]


async def test_a_rule_that_leaves_the_truth_closes_its_miss(scene):
    for _ in range(4):
        await scene.look(90.0)
    await publish(scene)
    scene.rules = {}
    scene.monitor.follow(TRUTH)
    assert [each.type for each in await publish(scene)] == ["monitor_miss", "monitor_unwatched"]


async def test_a_rule_for_the_log_is_no_event(scene):
    scene.rules = {"memory": {**MEMORY, "severity": "info"}}
    scene.monitor.follow(TRUTH)
    for _ in range(5):
        await scene.look(90.0)
    assert await publish(scene) == []
    assert scene.log.lines == [("medic.rule_holds", "memory/feed")]


async def test_nothing_is_measured_before_it_is_time(scene):
    await scene.look(90.0)
    found = scene.monitor.findings
    await scene.look(10.0, step_sec=9.0)
    assert scene.monitor.findings is found


async def test_a_term_by_a_clock_that_was_set_back_measures_at_once(scene):
    for _ in range(4):
        await scene.look(90.0)
    assert scene.monitor.findings["memory/feed"].holds
    await scene.look(10.0, step_sec=-3600.0)
    assert scene.monitor.findings["memory/feed"].value == 10.0
    scene.now -= 3600.0
    target = scene.monitor.add_facts(facts(), scene.now).targets["feed"]
    assert target.is_alerted is None, "the last look is not of this clock"


def facts():
    return FleetFacts({svc: TargetFacts(svc=svc) for svc in ("feed", "mesh")})


async def test_the_planner_is_told_of_a_critical_rule_and_how_old_that_is(scene):
    told = lambda: scene.monitor.add_facts(facts(), scene.now + 2, 10.0).targets["feed"]  # noqa: E731
    assert told().is_alerted is None, "nothing was measured yet"
    for _ in range(3):
        await scene.look(90.0)
        assert told().is_alerted is None, "over the limit, and not for long"
    await scene.look(90.0)
    assert (told().is_alerted, told().alert_age_sec) == (True, 2.0)
    assert scene.monitor.add_facts(facts(), scene.now).targets["mesh"].is_alerted is False
    assert scene.monitor.list_alerts(["feed", "mesh"]) == {"feed": ["memory/feed"], "mesh": []}
    await scene.look(50.0)
    assert told().is_alerted is False
    assert scene.monitor.list_alerts(["feed"]) == {"feed": []}
    await scene.look(None)
    assert told().is_alerted is None
    scene.now += 1000
    assert told().is_alerted is None, "what is old says nothing"


STOPPED = {
    "by the healer": FleetFacts(blocked=Refusal.HEALER_ABSENT),
    "by the fleet": FleetFacts({svc: TargetFacts(svc=svc, health=Health.DOWN) for svc in ("feed", "mesh")}),
}
AGE = {"metric": "write_age", "key": "work", "above": 20, "severity": "critical"}


@pytest.fixture
def ages(scene, monkeypatch):
    """Rules about the age of a stream; `show` measures it, and returns whether it is a symptom."""
    scene.rules = {"stalled": AGE}
    found = {}

    async def read_ages(*_args):
        return {Metric.WRITE_AGE: {"feed work": found["age"]}}

    monkeypatch.setattr("services.medic.rules.monitor.read_ages", read_ages)

    async def show(age_sec, stop=None, step_sec=10.0, times=1):
        for _ in range(times):
            found["age"] = age_sec
            await scene.look(0.0, step_sec=step_sec)
            targets = stop.targets if stop is not None and stop.targets else facts().targets
            seen = FleetFacts(targets, None if stop is None else stop.blocked)
            told = scene.monitor.add_facts(seen, scene.now + 0.2, step_sec).targets["feed"]
            age_sec += step_sec
        return told.is_alerted

    return show


@pytest.mark.parametrize("by", STOPPED)
async def test_an_age_that_grew_in_a_stop_of_the_whole_fleet_is_no_symptom(scene, ages, by):
    assert await ages(1.0) is False
    assert await ages(25.0, STOPPED[by]) is None
    assert scene.monitor.findings["stalled/feed"].holds, "people are told all the same"
    assert await ages(35.0) is None, "measured before the stop was seen to be over"
    assert await ages(45.0) is None, "it may not have had the time to write"
    assert await ages(1.0) is None, "it wrote, and the rule only waits until it is clear"
    assert await ages(11.0, times=4) is None, "what stands still shows after 30 s"
    assert await ages(51.0) is True, "it does not write, and all of that was seen"


async def test_an_age_that_is_greater_than_its_limit_and_a_stop_is_a_symptom_once_it_was_measured(
    scene, ages
):
    assert await ages(1.0, times=8) is True
    assert await ages(81.0, STOPPED["by the healer"], times=3) is None
    assert await ages(111.0) is None, "measured before the stop was seen to be over"
    assert await ages(121.0) is True, "40 s of 70 s before the stop, as it shows after 30 s"


async def test_a_medic_that_takes_over_goes_on_with_what_others_observed_of_an_age(scene, ages):
    assert await ages(1.0, times=20) is True
    observed = scene.monitor.take_observed(scene.now).spans
    assert scene.monitor.take_observed(scene.now + 1) is None, "it is not stored in each round"
    scene.now += 15
    scene.monitor.begin_term(observed)
    assert await ages(216.0) is None, "measured before its first look at the fleet"
    assert await ages(226.0) is True
    scene.monitor.begin_term(())
    assert await ages(236.0) is None
    assert await ages(246.0) is None, "no one looked before this term"
    assert await ages(256.0, times=4) is None
    assert await ages(296.0) is True


async def test_what_is_of_its_moment_is_a_symptom_if_it_was_measured_in_this_term_for_long_enough(scene):
    async def show(value):
        await scene.look(value)
        return scene.monitor.add_facts(facts(), scene.now + 0.2, 10.0).targets["feed"].is_alerted

    assert [await show(90.0) for _ in range(5)] == [None, None, None, None, True]
    scene.monitor.begin_term([(0.0, scene.now)])
    assert [await show(90.0) for _ in range(5)] == [None, None, None, None, True]


async def test_a_service_for_which_an_emergency_holds_is_left_to_people(scene):
    scene.rules = {"memory": {**MEMORY, "severity": "emergency"}}
    scene.monitor.follow(TRUTH)
    assert scene.monitor.add_facts(facts(), scene.now).targets["feed"].blocked is Refusal.EMERGENCY, (
        "while it is not known what other medics found"
    )
    await publish(scene)
    assert scene.monitor.add_facts(facts(), scene.now).targets["feed"].blocked is None
    for _ in range(4):
        await scene.look(90.0)
    found = scene.monitor.add_facts(facts(), scene.now).targets
    assert (found["feed"].blocked, found["feed"].is_alerted) == (Refusal.EMERGENCY, False)
    assert found["mesh"].blocked is None
    await scene.look(None)
    found = scene.monitor.add_facts(facts(), scene.now).targets
    assert found["feed"].blocked is Refusal.EMERGENCY, "missing data ends it not"
    await scene.look(10.0)
    assert scene.monitor.add_facts(facts(), scene.now).targets["feed"].blocked is None
    scene.rules = {"escalated": {"metric": "escalated", "above": 0, "severity": "emergency"}}
    await scene.look(1.0, metric=Metric.ESCALATED)
    assert scene.monitor.findings["escalated/feed"].holds
    assert scene.monitor.add_facts(facts(), scene.now).targets["feed"].blocked is None


async def test_a_medic_that_takes_over_leaves_a_service_to_people_until_the_emergency_is_provably_over(scene):
    scene.rules = {"memory": {**MEMORY, "severity": "emergency"}}
    scene.monitor.follow(TRUTH)
    for _ in range(4):
        await scene.look(90.0)
    assert [each.type for each in await publish(scene)] == ["monitor_miss"]
    blocked = lambda: scene.monitor.add_facts(facts(), scene.now).targets["feed"].blocked  # noqa: E731
    scene.monitor.findings["memory/feed"] = RuleFinding("feed", None, holds=False)  # of an earlier term
    scene.monitor.begin_term([])
    assert blocked() is Refusal.EMERGENCY, "until it has read what the others found"
    await publish(scene)
    assert blocked() is Refusal.EMERGENCY
    scene.now += 3600
    assert blocked() is Refusal.EMERGENCY, "also when the last measurement is too old"


async def test_connections_that_are_used_up_are_a_symptom_of_archive_if_it_may_be_told_to_connect_anew(scene):
    truth = parse_truth(b'{"services": {"archive": {}, "medic": {}}}').truth
    scene.rules = {
        "full": {"metric": "database_connections", "above": 80, "severity": "critical", "clear_sec": 0},
        "size": {"metric": "database_size", "above": 1, "severity": "critical", "clear_sec": 0},
    }
    up = FleetFacts({"archive": TargetFacts(svc="archive", health=Health.UP)})

    async def show(value, *ladder):
        scene.targets = {"archive": {"ladder": list(ladder)}}
        scene.monitor.follow(truth)
        scene.now += 10.0
        both = (Metric.DATABASE_CONNECTIONS, Metric.DATABASE_SIZE)
        scene.readings = {metric: {"database": value} for metric in both}
        seen = SimpleNamespace(truth=truth)
        await scene.evaluate(seen)
        return scene.monitor.add_facts(up, scene.now + 0.2, 10.0).targets["archive"].is_alerted

    await show(90.0, "reconnect")
    assert await show(90.0, "reconnect") is True
    assert await show(90.0, "restart") is False, "which frees none"
    assert scene.monitor.list_alerts(["archive"]) == {"archive": ["full/database"]}, "of what it can free"
    assert await show(None, "reconnect") is None, "what is not known does not prove that it is over"
    assert await show(50.0, "reconnect") is False


def test_so_much_of_an_observed_time_is_taken_off_as_the_longest_timeout_of_the_truth_in_force_is(scene):
    me = SimpleNamespace(truth=TRUTH, settings=SimpleNamespace(default_timeout_sec=30.0))
    monitor, ends = RuleMonitor(me, HealingSettings, scene.alerts), []
    slow = parse_truth(b'{"services": {"feed": {"heartbeat": {"timeout_sec": 500}}, "medic": {}}}').truth
    for me.truth in (TRUTH, slow, TRUTH):
        monitor.begin_term([(0.0, 1000.0)])
        ((_, end),) = monitor.take_observed(2000.0).spans
        ends.append(1000.0 - end)
    assert ends[1] == 500
    assert ends[0] == ends[2] < 500


async def test_what_stops_the_medic_is_told_with_the_reason(scene):
    scene.rules = {"stopped": {"metric": "stopped", "above": 0, "for_sec": 10, "severity": "emergency"}}
    scene.monitor.follow(TRUTH)
    for refusal in (Refusal.FLEET_DOWN, Refusal.CUT_OFF):
        scene.now += 10
        scene.readings = {Metric.STOPPED: {"fleet": 1.0}}
        await scene.evaluate(work=MedicWork(stopped=refusal))
    (miss,) = await publish(scene)
    assert (miss.svc, miss.severity) == ("medic/stopped/fleet", "critical")
    assert miss.reason == "stopped 1, above 0 for 10 s: cut_off"


async def test_that_no_medic_leads_is_told_once_and_ended_by_the_next_one_that_does(scene):
    scene.rules = {"stopped": {"metric": "stopped", "above": 0, "for_sec": 10, "severity": "emergency"}}
    scene.monitor.follow(TRUTH)
    for _ in range(5):
        scene.monitor.report_leaderless("no process leads (healing) for 61 s")
        await publish(scene)
    (miss,) = await publish(scene)
    assert (miss.type, miss.svc, miss.severity) == (Kind.MONITOR_MISS, "medic/stopped/fleet", "critical")
    assert miss.reason == "no process leads (healing) for 61 s"
    scene.now += 10
    scene.readings = {Metric.STOPPED: {"fleet": 0.0}}
    await scene.evaluate()
    assert [each.type for each in await publish(scene)] == ["monitor_miss", "monitor_ok"]
    scene.rules = {}
    scene.monitor.follow(TRUTH)
    scene.monitor.report_leaderless("a truth may leave this rule out")
    assert len(await publish(scene)) == 2


async def test_a_target_has_how_long_ago_the_probes_of_it_began(scene, monkeypatch):
    truth = parse_truth(
        b'{"services": {"feed": {}, "massive": {"settings": {"targets": ['
        b'{"name": "shop", "depends_on": ["feed"]}, {"name": "net"}]}}}}'
    ).truth
    scene.monitor._me.truth = truth  # noqa: SLF001 - of the test's own stand-in
    begun = {"shop": (time.time() - 5, time.time() - 2), "net": (1.0,)}
    monkeypatch.setattr("services.medic.rules.monitor.ProbeObserver.list_begun", lambda _, name: begun[name])
    await scene.look(1.0)
    facts = FleetFacts({svc: TargetFacts(svc=svc) for svc in ("feed", "mesh")})
    found = scene.monitor.add_facts(facts, scene.now).targets
    assert found["feed"].probe_ages == pytest.approx((5, 2), abs=1)
    assert found["mesh"].probe_ages == ()
    assert (found["feed"].count_probes(4), found["feed"].count_probes(60)) == (1, 2)


async def test_unknown_errors_and_damaged_data_ask_for_a_diagnosis_of_the_services_that_they_are_about(scene):
    scene.rules = {
        "new": {"metric": "log_new_errors", "above": 0, "within_sec": 600},
        "bad": {"metric": "quarantined", "above": 5, "within_sec": 600},
    }
    scene.monitor.follow(TRUTH)
    services = ("feed", "mesh", "bars", "sources")
    for count in (0.0, 0.0):
        scene.now += 10
        scene.readings = {Metric.LOG_NEW_ERRORS: {"feed": count}, Metric.QUARANTINED: {"fleet": count}}
        await scene.evaluate()
    assert scene.monitor.find_suspect(services) == {}
    scene.now += 10
    scene.readings = {Metric.LOG_NEW_ERRORS: {"feed": 1.0}, Metric.QUARANTINED: {"fleet": 9.0}}
    await scene.evaluate()
    assert scene.monitor.find_suspect(services) == {
        "feed": "unknown_errors", "bars": "corruption", "sources": "corruption",
    }  # fmt: skip
    assert scene.monitor.find_suspect(["mesh"]) == {}
