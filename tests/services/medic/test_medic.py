"""A round of the medic: what is stored before it acts, and when it does not act."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from marketswarm.agent import LeaseLost
from marketswarm.agent.lease import clock
from marketswarm.bus.stream import StreamEntry
from marketswarm.event import Event, Kind, encode_event
from marketswarm.operator.healing import LEARNING, DiagnosisRecord, HealingApproval, write_approval
from marketswarm.testing import MemoryBus
from services.medic.alert_follower import AlertFollower
from services.medic.facts import FleetFacts, Health, ProcessFacts, RestartOwner, Symptom, TargetFacts
from services.medic.guards import Fuse
from services.medic.medic import Medic
from services.medic.owners.embedded_fleet import EmbeddedFleet
from services.medic.planner import RepairPlan
from services.medic.refusal import Refusal
from services.medic.remedies import OrderResult, Remedy, RemedyOrder
from services.medic.repair import Advice, Repair, RepairState, RepairStep
from services.medic.settings import HealingSettings, Mode
from services.medic.store import SUPERSEDED
from support.healing_record import make_record
from support.recording_log import RecordingLog

PROCESS = ProcessFacts("start 1", age_sec=1000.0)


class Store:
    """Keeps what was saved, with what had been ordered by then; refuses when a newer medic has written."""

    def __init__(self):
        self.saved, self.is_stale, self.approvals = [], False, {}
        self.record, self.reads = [], 0
        self.bus, self.changed = MemoryBus(), None

    async def find_changed(self, _epoch):
        return self.changed

    async def save(self, plan, epoch):
        self.saved.append((plan, epoch))
        return not self.is_stale

    async def read_approvals(self, _repairs, now, _valid_sec):
        self.read_at = now
        return self.approvals

    async def load_record(self):
        self.reads += 1
        return self.record


class Rules:
    """Stands in for the rules: notes when they are asked, and makes a service one that is alerted."""

    def __init__(self, scene):
        self._scene, self.is_alerted = scene, False

    def begin_term(self, _observed):
        self._scene.looks.clear()

    def list_resources(self, _svc):
        return {"host_cpu": 12.5}

    def take_observed(self, _now):
        return None

    async def measure(self, seen, now):
        self._scene.looks.append((seen, now))
        self._scene.clock += self._scene.measuring_sec

    def report_work(self, work, _truth, _now):
        self._scene.work = work

    def find_suspect(self, services):
        return dict.fromkeys(services, "unknown_errors")

    def list_alerts(self, services):
        return {svc: [] for svc in services}

    def add_facts(self, facts, *_):
        targets = {svc: replace(each, is_alerted=self.is_alerted) for svc, each in facts.targets.items()}
        return replace(facts, targets=targets)


@pytest.fixture
def scene(monkeypatch):
    scene = SimpleNamespace(log=RecordingLog(), store=Store(), asked=[], health=Health.UP, every_sec=1.0)
    me = SimpleNamespace(
        log=scene.log,
        settings=SimpleNamespace(
            medic_command=None, medic_command_sec=30.0, medic_dry_run=False, truth_redis_key="truth:doc"
        ),
        truth=None,
        bus=None,
    )
    settings = HealingSettings.model_validate({"mode": "act", "wait_sec": 0.1})
    scene.looks, scene.more, scene.measuring_sec, scene.observed = [], {}, 0.0, []

    def get_settings():
        return settings.model_copy(update={"every_sec": scene.every_sec, **scene.more})

    scene.medic = Medic(me, get_settings, Rules(scene), owners=[EmbeddedFleet(Path("/s"))])
    scene.lease = SimpleNamespace(epoch=7, expires_at=clock() + 3600)

    async def observe(_settings, now, _rest_sec):
        scene.observed.append(now)
        owned = {"owner": RestartOwner.UP, "processes": (PROCESS,), "boot": "b1"}
        return FleetFacts({"feed": TargetFacts(svc="feed", health=scene.health, **owned)})

    def request(_socket, svc, identity, until):
        assert until == scene.lease.expires_at, "what comes later is refused"
        states = [each.state for plan, _ in scene.store.saved for each in plan.repairs.values()]
        scene.asked.append((svc, identity, states[-1]))
        return "done", "said"

    scene.medic.observer.observe, scene.medic.observer.seen = observe, "seen"
    monkeypatch.setattr("services.medic.owners.embedded_fleet.request_restart", request)
    scene.clock = time.time()

    async def rounds(count, step_sec=1.0):
        for _ in range(count):
            scene.clock += step_sec
            await scene.medic.do_round(scene.store, scene.lease, lambda: scene.clock)

    scene.rounds, scene.me = rounds, me
    return scene


async def test_the_intent_is_stored_before_the_order_and_its_result_after_it(scene):
    scene.health = Health.DOWN
    await scene.rounds(3)
    assert scene.asked == [("feed", "start 1", RepairState.INTENDED)]
    assert [epoch for _, epoch in scene.store.saved] == [7, 7, 7]
    assert scene.medic.orders[Remedy.RESTART, OrderResult.DONE] == 1
    told = [fields["what"] for event, fields in scene.log.lines if event == "medic.entry"]
    assert told == ["opened", "waiting", "intended", "acted"]
    taken = [(plan.order.remedy, each) for plan, _ in scene.store.saved for each in plan.evidence]
    ((remedy, evidence),) = taken
    assert (remedy, evidence.step, evidence.readings) == ("restart", "intended restart", {"host_cpu": 12.5})
    assert evidence.facts["process_age_sec"] == 1000.0


async def test_an_error_of_the_evidence_keeps_no_remedy_back(scene):
    scene.health, scene.medic.rules.list_resources = Health.DOWN, lambda _svc: {"host_cpu": "much"}
    await scene.rounds(3)
    assert [svc for svc, *_ in scene.asked] == ["feed"]
    assert ("medic.evidence_failed", {"error": "ValidationError"}) in scene.log.lines


async def test_the_record_is_read_once_and_only_where_something_follows_from_it(scene):
    scene.health, scene.store.record = Health.DOWN, make_record(waits=20, restart=(0, 25))
    await scene.rounds(1)
    assert scene.store.reads == 0
    scene.more = {"learning": True}
    await scene.rounds(3)
    assert scene.store.reads == 1
    assert scene.asked == []
    told = [
        (fields["what"], fields.get("reason")) for event, fields in scene.log.lines if event == "medic.entry"
    ]
    assert told[2:] == [("refused", "does_not_help"), ("escalated", "exhausted")]


async def test_what_a_person_had_forgotten_while_the_outage_is_open_decides_nothing(scene):
    scene.health, scene.more = Health.DOWN, {"learning": True}
    scene.store.record = make_record(waits=20, restart=(0, 25))
    await scene.rounds(1)
    await write_approval(scene.store.bus, HealingApproval(id=LEARNING, by="ann", ts=50_000.0))
    await scene.rounds(2)
    assert len(scene.asked) == 1


async def test_each_term_begins_with_the_record_as_it_is_by_then(scene, monkeypatch):
    scene.store.repair_keys = lambda: asyncio.sleep(0)
    scene.store.load = lambda *_args: asyncio.sleep(0, ([], Fuse()))
    scene.store.load_observed = lambda _get_now: asyncio.sleep(0, ())
    monkeypatch.setattr("services.medic.medic.MedicStore", lambda _bus, **_how: scene.store)
    medic, scene.more = scene.medic, {"mode": Mode.EARNED}
    medic._me.truth, medic._me.bus = SimpleNamespace(services=()), lambda _name: None  # noqa: SLF001 - its stub
    known = []

    async def observe(*_args):
        known.append(len(medic.planner.experience.list_lessons()))
        raise LeaseLost

    medic.observer.observe = observe
    for record in ([], make_record(restart=(1, 1))):
        scene.store.record = record
        with pytest.raises(LeaseLost):
            await medic.lead(scene.lease)
    assert known == [0, 4], "restart and wait, of the service and of all"


async def test_remedies_know_since_when_each_open_outage_lasts(scene, monkeypatch):
    known = []

    async def add_evidence(facts, _settings, context, _wall):
        known.append(context.outages)
        return facts

    monkeypatch.setattr("services.medic.medic.add_evidence", add_evidence)
    scene.health = Health.DOWN
    await scene.rounds(2)
    assert known == [{}, {"feed": scene.medic.planner.repairs["feed"].down_since}]


async def test_a_medic_that_is_superseded_does_not_act(scene):
    scene.health, scene.store.is_stale = Health.DOWN, True
    with pytest.raises(LeaseLost):
        await scene.rounds(3)
    assert scene.asked == []
    assert scene.log.lines == [("medic.superseded", {"epoch": 7})]


async def test_a_medic_whose_lease_has_ended_leaves_the_intent_and_does_not_act(scene):
    scene.health, scene.lease.expires_at = Health.DOWN, clock() - 0.1
    with pytest.raises(LeaseLost):
        await scene.rounds(3)
    assert scene.asked == []
    assert scene.store.saved[-1][0].repairs["feed"].state is RepairState.INTENDED


async def test_a_medic_whose_rounds_take_long_acts_though_it_rests_long(scene):
    scene.health, scene.medic.round_sec = Health.DOWN, 2.0
    await scene.rounds(3, 22.0)
    assert len(scene.asked) == 1


async def test_a_slow_remedy_lengthens_no_rest(scene, monkeypatch):
    def request(*_):
        time.sleep(0.5)  # in its own thread, as the fleet's answer would take
        return "done", "said"

    monkeypatch.setattr("services.medic.owners.embedded_fleet.request_restart", request)
    scene.health = Health.DOWN
    await scene.rounds(1)
    await scene.medic.time_round(scene.store, scene.lease, lambda: scene.clock + 1)
    assert scene.medic.orders[Remedy.RESTART, OrderResult.DONE] == 1
    assert scene.medic.round_sec < 0.4


@pytest.mark.parametrize("problem", [None, "market-redis timeout"])
async def test_a_bus_that_stands_still_for_a_while_lengthens_no_rest(scene, monkeypatch, problem):
    observe = scene.medic.observer.observe

    async def observe_slowly(settings, now, rest_sec):
        await asyncio.sleep(0.5)
        scene.medic.observer.problem = problem
        return await observe(settings, now, rest_sec)

    monkeypatch.setattr(scene.medic.observer, "observe", observe_slowly)
    await scene.medic.time_round(scene.store, scene.lease, lambda: scene.clock)
    assert scene.medic.round_sec < 0.4


async def test_a_rest_grows_with_the_work_of_a_round(scene, monkeypatch):
    observe = scene.medic.observer.observe

    async def observe_at_length(settings, now, rest_sec):
        until = time.process_time() + 0.2
        while time.process_time() < until:
            pass
        return await observe(settings, now, rest_sec)

    monkeypatch.setattr(scene.medic.observer, "observe", observe_at_length)
    await scene.medic.time_round(scene.store, scene.lease, lambda: scene.clock)
    assert scene.medic.round_sec >= 0.2


async def test_how_long_a_service_was_degraded_counts_from_the_begin_of_each_term(scene, monkeypatch):
    """In between nothing was observed, and the clock may have been set."""
    scene.store.repair_keys = lambda: asyncio.sleep(0)
    scene.store.load = lambda *_args: asyncio.sleep(0, ([], Fuse()))
    scene.store.load_observed = lambda _get_now: asyncio.sleep(0, ())
    monkeypatch.setattr("services.medic.medic.MedicStore", lambda _bus, **_how: scene.store)
    medic, seen, scene.every_sec = scene.medic, [], 0.1
    medic._me.truth, medic._me.bus = SimpleNamespace(services=()), lambda _name: None  # noqa: SLF001 - its stub

    async def observe(_settings, now, _rest_sec):
        measure = medic.observer._degraded.measure  # noqa: SLF001 - the rest needs a whole fleet
        seen.append(measure("feed", "b1", "degraded", now + 1000 * len(seen)))
        if len(seen) % 2 == 0:
            raise LeaseLost
        return FleetFacts()

    medic.observer.observe = observe
    for _ in range(2):
        with pytest.raises(LeaseLost):
            await medic.lead(scene.lease)
    assert [round(each, -2) for each in seen] == [0, 1000, 0, 1000]


async def test_a_medic_that_was_held_up_begins_each_wait_anew(scene):
    scene.health, scene.medic.round_sec = Health.DOWN, 2.0
    await scene.rounds(3, 100.0)
    assert scene.asked == []


async def test_the_age_of_an_approval_is_that_by_the_present_clock(scene):
    scene.clock -= 86_400  # the clock was set after this medic began to lead
    await scene.rounds(1)
    assert scene.store.read_at == pytest.approx(time.time(), abs=60)


@pytest.mark.parametrize(("round_sec", "least_sec"), [(0.0, 0.2), (0.03, 0.3)])
async def test_alerts_shorten_a_rest_and_do_not_end_it_at_once(scene, round_sec, least_sec):
    scene.every_sec, scene.medic.round_sec = 60.0, round_sec
    scene.medic.wake()
    began = time.monotonic()
    await asyncio.wait_for(scene.medic.rest(), 30)
    assert time.monotonic() - began >= least_sec - 0.01


async def test_a_rest_is_never_longer_than_planned(scene, monkeypatch):
    monkeypatch.setattr("services.medic.medic.LEAST_REST_SEC", 3600.0)
    scene.every_sec = 0.1
    await asyncio.wait_for(scene.medic.rest(), 60)


async def test_the_rules_measure_what_was_seen_and_what_they_find_is_acted_on_in_the_same_round(scene):
    await scene.rounds(1)
    assert scene.looks == [("seen", scene.clock)]
    scene.medic.rules.is_alerted = True
    await scene.rounds(3)
    assert [svc for svc, _, _ in scene.asked] == ["feed"]
    scene.medic.report_work(6.0)
    assert (scene.work.escalated, scene.work.proposals) == (frozenset(), {})


async def test_a_rule_that_begins_to_hold_opens_a_repair_in_the_same_round(scene):
    rules = scene.medic.rules

    async def measure(_seen, _now):
        rules.is_alerted = True

    rules.measure = measure
    await scene.rounds(1)
    assert scene.medic.planner.repairs["feed"].symptom == "alert"


async def test_after_a_slow_measurement_the_fleet_is_observed_again_before_anything_is_decided(scene):
    await scene.rounds(1)
    assert len(scene.observed) == 1
    scene.measuring_sec = 1.5
    await scene.rounds(1)
    assert len(scene.observed) == 3
    assert scene.observed[-1] == scene.clock, "it counts as of then"


@pytest.mark.parametrize(
    ("mode", "blocked", "told"),
    [
        ("act", Refusal.CUT_OFF, Refusal.CUT_OFF),
        ("propose", Refusal.HEALER_DEAF, Refusal.HEALER_DEAF),
        ("act", Refusal.HEALER_ABSENT, None),  # the sentinel says so, and no healer copies the medic's word
        ("observe", Refusal.CUT_OFF, None),
        ("act", None, None),
    ],
)
async def test_the_rules_are_told_what_stops_a_medic_that_may_do_something(scene, mode, blocked, told):
    scene.more = {"mode": Mode(mode)}
    scene.medic.facts = FleetFacts(blocked=blocked)
    scene.medic.report_work(5.0)
    assert scene.work.stopped is told


async def test_a_record_that_others_changed_is_written_again_logged_and_in_the_beats(scene):
    scene.medic.is_leading = True
    await scene.rounds(1)
    assert scene.medic.find_problem() is None
    mended = RepairPlan(repairs={"feed": make_repair(RepairState.OPEN)})
    scene.store.changed = mended
    await scene.rounds(1)
    assert scene.store.saved[-1] == (mended, 7)
    assert scene.log.lines[-1] == ("medic.record_changed", {"services": ["feed"], "fuse": False})
    assert scene.medic.find_problem() == "the record of feed was changed by others"
    scene.store.is_stale = True
    with pytest.raises(LeaseLost):
        await scene.rounds(1)


async def test_a_decision_that_contradicts_itself_is_dropped_logged_once_and_in_the_beats(scene, monkeypatch):
    def order_twice(repair, *_):
        return RepairStep(repair, order=RemedyOrder("feed", Remedy.RESTART, "start 1"))

    scene.medic.is_leading = True
    scene.health = Health.DOWN
    monkeypatch.setattr("services.medic.planner.decide", order_twice)
    await scene.rounds(3)
    assert scene.asked == []
    assert scene.medic.planner.repairs["feed"].state is RepairState.OPEN
    dropped = [fields for event, fields in scene.log.lines if event == "medic.decision_dropped"]
    assert dropped == [{"svc": "feed", "reason": "open, and restart is ordered for start 1"}]
    assert scene.medic.find_problem() == (
        "nothing is done about feed: open, and restart is ordered for start 1"
    )


async def test_the_rules_are_told_of_escalations_and_of_proposals(scene):
    open_one = make_repair(RepairState.OPEN)
    cases = {
        "open": open_one,
        "given_up": replace(open_one, state=RepairState.ESCALATED),
        "up_again": replace(open_one, state=RepairState.STABILIZING, escalated_after=3),
        "proposed": replace(open_one, state=RepairState.PROPOSED, proposed=Remedy.RESTART),
        "advised": replace(open_one, state=RepairState.ESCALATED, advice=Advice((Remedy.RESTART,), 9.0)),
    }
    scene.medic.planner.repairs, scene.medic.planner.fuse = cases, Fuse(blown_at=1.0)
    scene.medic.report_work(5.0)
    assert scene.work.escalated == {"given_up", "up_again", "advised"}, "until it is stable"
    assert set(scene.work.proposals) == {"proposed", "advised"}
    assert scene.work.is_fuse_blown


def make_repair(state):
    return Repair(
        incident="a",
        svc="feed",
        symptom=Symptom.SILENT,
        down_since=1.0,
        opened_at=1.0,
        since=1.0,
        state=state,
    )


class Tier:
    """Stands in for the second tier: asks for one diagnosis, and answers in the next round."""

    def __init__(self, scene):
        self.scene, self.record, self.asked, self.questions = scene, None, [], Fuse((1.0,))
        self.note = lambda _entries: None

    def take(self):
        return self.record

    def choose(self, repairs, suspect, _now):
        return next(((each, suspect[each.svc]) for each in repairs if each.asked_at is None), None)

    def begin(self, repair, reason, _facts, known):
        assert (reason, known.readings) == ("unknown_errors", {"host_cpu": 12.5})
        stored = self.scene.store.saved[-1][0]
        self.asked.append((repair.svc, stored.repairs["feed"].asked_at is not None, stored.questions))


async def test_a_question_is_stored_before_it_is_asked_and_its_answer_with_the_fence(scene):
    tier = scene.medic.second_tier = Tier(scene)
    scene.health, scene.medic.rules.list_holding = Health.DOWN, lambda _svc: []
    scene.medic.observer.seen = None
    await scene.rounds(1)
    assert tier.asked == [("feed", True, Fuse((1.0,)))]
    incident = scene.medic.planner.repairs["feed"].incident
    told = {"ts": 1.0, "reason": "escalated", "text": "Full.", "remedies": ("restart",)}
    tier.record = DiagnosisRecord(svc="feed", incident=incident, **told)
    await scene.rounds(1)
    assert [plan.diagnosis for plan, epoch in scene.store.saved if plan.diagnosis and epoch == 7] == [
        tier.record
    ]
    tier.record = DiagnosisRecord(svc="other", incident="other.1", **told)
    await scene.rounds(1)
    assert len([plan for plan, _ in scene.store.saved if plan.diagnosis]) == 1, "of no outage that is open"


async def test_a_superseded_medic_asks_nothing(scene):
    tier = scene.medic.second_tier = Tier(scene)
    scene.health, scene.store.is_stale = Health.DOWN, True
    with pytest.raises(LeaseLost):
        await scene.rounds(1)
    assert tier.asked == []


async def test_a_medic_that_is_paused_asks_nothing_of_an_outage_from_before_the_pause(scene):
    tier = scene.medic.second_tier = Tier(scene)
    scene.health, scene.medic.rules.list_holding = Health.DOWN, lambda _svc: []
    scene.medic.observer.seen = None
    scene.more = {"paused": True}
    await scene.rounds(3)
    assert scene.medic.planner.repairs["feed"].asked_at is None
    assert tier.asked == []
    scene.more = {}
    await scene.rounds(1)
    assert [svc for svc, *_ in tier.asked] == ["feed"]


async def test_a_term_that_the_store_refuses_never_begins_and_is_logged_once(scene, monkeypatch):
    async def load(*_args):
        raise LeaseLost(SUPERSEDED)

    scene.store.repair_keys, scene.store.load = lambda: asyncio.sleep(0), load
    monkeypatch.setattr("services.medic.medic.MedicStore", lambda _bus, **_how: scene.store)
    medic = scene.medic
    medic._me.truth, medic._me.bus = SimpleNamespace(services=()), lambda _name: None  # noqa: SLF001 - its stub
    for _ in range(3):
        with pytest.raises(LeaseLost):
            await medic.lead(scene.lease)
        assert not medic.is_leading
    assert scene.log.lines == [("medic.superseded", {"epoch": 7})]


async def test_rounds_without_news_store_nothing(scene):
    await scene.rounds(5)
    assert scene.store.saved == []


def test_only_a_new_alert_wakes_the_medic():
    woken = []
    alerts = AlertFollower(None, HealingSettings, lambda: woken.append(1))

    def entry(ts):
        event = Event(Kind.HEARTBEAT_MISS, "feed", ts, "id", "healer")
        return StreamEntry(b"1-1", 1, {b"event": encode_event(event)})

    alerts.count(
        [entry(1000.0), StreamEntry(b"1-2", 1, {b"event": b"junk"}), StreamEntry(b"1-3", 1, None)], 5000.0
    )
    assert (alerts.seen, woken) == ({"new": 0, "old": 1, "malformed": 2}, [])
    alerts.count([entry(4999.0), entry(4998.0)], 5000.0)
    assert (alerts.seen["new"], woken) == (2, [1])


def test_a_medic_in_a_dry_run_says_so_also_while_another_one_leads(scene):
    assert scene.medic.summarize() == "waits for its lease"
    scene.me.settings.medic_dry_run = True
    assert scene.medic.summarize() == "dry run; waits for its lease"
    scene.medic.is_leading = True
    assert scene.medic.summarize() == "dry run"


def test_a_medic_says_that_a_dry_run_goes_on_beside_it(scene):
    scene.medic.is_leading = scene.medic.has_dry_run = True
    assert scene.medic.summarize() == "a dry run is running beside it"


async def test_a_round_is_of_the_moment_before_it_looked_so_that_no_older_beat_verifies_an_action(scene):
    observe = scene.medic.observer.observe

    async def observe_slowly(*args):
        scene.clock += 5.0
        return await observe(*args)

    scene.medic.observer.observe, scene.health = observe_slowly, Health.DOWN
    began = scene.clock
    await scene.rounds(1)
    (plan, _), *_ = scene.store.saved
    (opened,) = [each for each in plan.entries if each.what == "opened"]
    assert opened.ts == pytest.approx(began + 1.0, abs=0.01)
