"""A property of any story of a target, a fleet and its medics: what the medic may never do."""

from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from marketswarm.operator.healing import EntryKind
from services.medic.facts import Health, ProcessFacts, Symptom
from services.medic.refusal import Refusal
from services.medic.remedies import REMEDIES, OrderResult, Remedy, build_ladder
from services.medic.repair import AttemptVerdict, RepairState, make_proposal_id
from support.examples import examples
from support.healing_record import make_record
from support.simulation.patient import Patient

LADDER = (Remedy.RESTART, Remedy.CHARTS_CACHE, Remedy.QUOTES_CACHE)
POLICY = {
    "fuse": {"remedies": 8, "within_sec": 600},
    "stable_sec": 120,
    "proposal_sec": 90,
    "degraded_sec": 5,
    "targets": {"feed": {"ladder": LADDER}},
}
RECORDS = {
    "none": [],
    "restart never helps": make_record(waits=60, restart=(0, 25)),
    "restart is best": make_record(
        symptom="degraded", waits=60, quotes_cache=(1, 30), charts_cache=(4, 30), restart=(29, 30)
    ),
}
"""What a medic that learns may find on record."""
HOUR_SEC = 3600 + 1 / 128
"""Not a whole one: once the clock was set back, no moment of a story has the time of an earlier one."""
BLOCKS = [Refusal.SILENCED, Refusal.MAINTENANCE]
STOPS = [
    Refusal.CUT_OFF,
    Refusal.BUS_LOST,
    Refusal.HEALER_ABSENT,
    Refusal.HEALER_DEAF,
    Refusal.TOO_MANY_REMEDIES,
]

SHOWN = st.fixed_dictionaries(
    {},
    optional={
        "blocked": st.sampled_from(BLOCKS),
        "boot": st.none(),
        "silence_sec": st.none(),
        "health": st.just(Health.UNKNOWN),
        "is_stopped": st.just(True),
        "is_waiting": st.just(True),
    },
)


class MedicMachine(RuleBasedStateMachine):
    """One target that dies, hangs, is restarted by others, and is hidden; medics that come and go."""

    def __init__(self):
        super().__init__()
        self.patient = Patient({"mode": "act", **POLICY})
        self.approvals_used = []
        self.unwell_at = self.patient.now
        self.ordered_at = {}
        self.learning = False
        self.opened = set()
        self.escalated = set()
        self.passed_over = set()
        self.done = Counter()

    @initialize(record=st.sampled_from(sorted(RECORDS)), learning=st.booleans())
    def begin(self, record, learning):
        self.learning = learning
        self.patient.record = RECORDS[record]
        self.patient.settings["learning"] = learning
        self.patient.planner.experience.load(self.patient.record, 0.0)

    def look(self, result=OrderResult.DONE, *, lies=False):
        """Let the medic look once, and hold what it does against what holds at this moment."""
        patient = self.patient
        repair = patient.planner.repairs.get("feed")
        plan = patient.tick()
        self.approvals_used += plan.used
        assert not plan.contradictions
        symptom = Symptom.SILENT if repair is None else repair.symptom
        is_well = patient.blocked is None and patient.facts().is_well(symptom)
        self.unwell_at = self.unwell_at if is_well else patient.now
        for entry in plan.entries:
            self.check_said_once(entry)
            if entry.what is EntryKind.VERIFIED:
                assert is_well
                assert patient.is_up, "never healed while the fault is there"
                assert symptom is not Symptom.DEGRADED or patient.stale_at is None
                is_same_boot = patient.facts().boot == repair.attempts[-1].boot
                assert patient.facts().boot is not None
                assert is_same_boot is not REMEDIES[entry.remedy].replaces_process
            if entry.what is EntryKind.RESOLVED:
                assert is_well
                assert patient.now - self.unwell_at >= POLICY["stable_sec"] - 1e-6
            if entry.reason == Refusal.DOES_NOT_HELP:
                assert self.learning
                assert patient.settings["mode"] != "observe"
        if plan.order is not None:
            self.check_order(plan.order, repair)
            if result is OrderResult.DONE and not lies:
                self.done[repair.incident, plan.order.remedy] += 1
            if lies:  # it is said to be done, and it is not
                patient.planner.record_result(plan.order, OrderResult.DONE, "", patient.now)
            elif result is not None:
                patient.obey(plan.order, result)

    def check_said_once(self, entry):
        if entry.what is EntryKind.OPENED:
            assert entry.incident not in self.opened, "each outage has an id of its own"
            self.opened.add(entry.incident)
        if entry.what is EntryKind.ESCALATED:
            assert entry.incident not in self.escalated, "people are called once an outage"
            self.escalated.add(entry.incident)
        if entry.reason == Refusal.DOES_NOT_HELP:
            assert (entry.incident, entry.remedy) not in self.passed_over, "it is said once an outage"
            self.passed_over.add((entry.incident, entry.remedy))

    def check_order(self, order, repair):
        patient, facts = self.patient, self.patient.facts()
        kind = REMEDIES[order.remedy]
        assert order.identity == (patient.identity if kind.replaces_process else patient.boot)
        assert not patient.settings.get("paused")
        assert patient.settings["mode"] != "observe"
        assert patient.blocked is None
        assert facts.blocked is None
        assert not any(each.is_stopped for each in facts.processes)
        assert not (kind.replaces_process and facts.processes[0].is_waiting)
        assert facts.processes[0].age_sec >= 30
        assert not facts.is_well(repair.symptom)
        assert facts.health is Health.UP or Symptom.SILENT in kind.symptoms
        assert repair.symptom in kind.symptoms
        self.check_ladder(order.remedy, repair, facts)
        last = self.ordered_at.get((repair.incident, order.remedy))
        assert last is None or patient.now - last >= kind.cooldown_sec
        self.ordered_at[repair.incident, order.remedy] = patient.now
        if patient.settings["mode"] == "propose":
            assert make_proposal_id(repair, order.remedy) in self.approvals_used

    def check_ladder(self, remedy, repair, facts):
        """Hold that each cheaper remedy that is of use was tried more often, or as often as it may be.

        More often only if this one asks no person. A medic that learns may pass over some, and begin with
        another one, after it has waited.
        """
        ladder, now = build_ladder(LADDER), self.patient.planner.repairs["feed"]
        learned = set(now.passed_over) if self.learning else set()
        is_acting = self.patient.settings["mode"] == "act"
        assert remedy not in learned
        if self.learning:  # what is tried in place of one that did not help is none of these, either
            find_useless = self.patient.planner.experience.find_useless
            learned |= {each for each in ladder if find_useless("feed", repair.symptom, each) is not None}
        if self.learning and now.preferred is remedy:
            learned |= set(LADDER)
        for cheaper in ladder[: ladder.index(remedy)]:
            if cheaper in learned:
                continue
            kind = REMEDIES[cheaper]
            is_of_use = cheaper is Remedy.WAIT or (
                repair.symptom in kind.symptoms and facts.health is not Health.DOWN
            )
            tried = repair.count_attempts(cheaper)
            has_its_turn = is_acting and tried > repair.count_attempts(remedy)
            assert not is_of_use or tried == kind.attempts or has_its_turn

    @rule(sec=st.sampled_from([0.5, 61, 130, 700]))
    def pass_time(self, sec):
        self.patient.now += sec
        self.look()

    @rule(count=st.integers(5, 40), result=st.sampled_from([*OrderResult, None]), lies=st.booleans())
    def watch(self, count, result, lies):
        for _ in range(count):
            self.patient.now += 3
            self.look(result, lies=lies)

    @rule(count=st.integers(1, 30), helps=st.booleans())
    def die(self, count, helps):
        self.patient.restart_helps = helps
        self.patient.die()
        for _ in range(count):
            self.patient.now += 3
            self.look()

    @rule(count=st.integers(1, 60), helps=st.booleans())
    def go_stale(self, count, helps):
        self.patient.clear_helps = helps
        self.patient.go_stale()
        for _ in range(count):
            self.patient.now += 3
            self.look()

    @rule()
    def rise(self):
        self.patient.rise()

    @rule(helps=st.booleans())
    def restart_by_others(self, helps):
        self.patient.restart(helps)

    @rule(mode=st.sampled_from(["act", "act", "propose", "observe"]), pause=st.integers(0, 3))
    def reseed(self, mode, pause):
        self.patient.settings = {**POLICY, "mode": mode, "paused": pause == 3, "learning": self.learning}

    @rule(
        blocked=st.sampled_from([None, *STOPS]),
        shown=SHOWN,
        count=st.integers(1, 15),
    )
    def disturb(self, blocked, shown, count):
        """Hide some of what is so, or forbid something, for a while."""
        shown = dict(shown)
        flags = {name: shown.pop(name) for name in ("is_stopped", "is_waiting") if name in shown}
        for _ in range(count):
            self.patient.now += 3
            if flags:
                shown["processes"] = (ProcessFacts(self.patient.identity, age_sec=99.0, **flags),)
            self.patient.shown, self.patient.blocked = shown, blocked
            self.look()
        self.patient.shown, self.patient.blocked = {}, None

    @rule(fuse=st.booleans())
    def approve(self, fuse):
        repairs = self.patient.planner.repairs.values()
        idents = (make_proposal_id(each, remedy) for each in repairs for remedy in Remedy)
        self.patient.approvals = dict.fromkeys(idents, "ann")
        if fuse:
            self.patient.approvals["fuse"] = "ann"

    @rule(step_sec=st.sampled_from([0.0, 0.0, HOUR_SEC, -HOUR_SEC]))
    def replace_medic(self, step_sec):
        """Set the clock, and let another medic take over; what the test keeps moves along."""
        patient = self.patient
        patient.set_clock(step_sec)
        self.unwell_at += step_sec
        self.ordered_at = {each: at + step_sec for each, at in self.ordered_at.items()}
        patient.crash_medic()

    @invariant()
    def attempts_are_bounded(self):
        for repair in self.patient.planner.repairs.values():
            for remedy, limits in REMEDIES.items():
                assert repair.count_attempts(remedy) <= limits.attempts

    @invariant()
    def no_remedy_is_carried_out_more_often_than_it_may_be(self):
        assert all(count <= REMEDIES[remedy].attempts for (_, remedy), count in self.done.items())

    @invariant()
    def no_more_remedies_than_the_share_of_one_service_in_the_fuse(self):
        times = [at for at, _ in self.patient.orders]
        windows = [sum(0 <= at - begin < 600 for at in times) for begin in times]
        share = POLICY["fuse"]["remedies"] // 2
        fuses = self.approvals_used.count("fuse")
        approved = len(self.approvals_used) - fuses  # counted, too, and a person's to limit
        assert max(windows, default=0) <= share * (1 + fuses) + approved

    @invariant()
    def what_goes_on_is_consistent(self):
        for repair in self.patient.planner.repairs.values():
            assert repair.state is not RepairState.RESOLVED
            assert repair.find_contradiction() is None
            pending = [each for each in repair.attempts if each.verdict is AttemptVerdict.PENDING]
            busy = repair.state in (RepairState.WAITING, RepairState.INTENDED, RepairState.SETTLING)
            assert len(pending) == busy, repair
            if busy:
                assert pending == [repair.attempts[-1]]


TestMedic = MedicMachine.TestCase
TestMedic.settings = settings(max_examples=examples(60), stateful_step_count=50)


@pytest.fixture
def silent_and_stale():
    """A machine whose process went silent at the moment at which what it reads became stale."""
    machine = MedicMachine()
    machine.begin(record="none", learning=False)
    machine.restart_by_others(helps=False)
    machine.go_stale(count=1, helps=False)
    assert machine.patient.told()[:2] == ["opened silent", "waiting"]
    return machine


def test_a_process_that_is_stale_after_a_silence_has_attempts_of_its_own(silent_and_stale):
    machine = silent_and_stale
    machine.go_stale(count=10, helps=False)
    machine.restart_by_others(helps=False)
    machine.pass_time(sec=700)
    machine.go_stale(count=42, helps=True)
    machine.restart_by_others(helps=False)
    machine.go_stale(count=10, helps=False)
    machine.replace_medic(step_sec=0.0)
    machine.restart_by_others(helps=False)
    machine.pass_time(sec=130)
    machine.no_remedy_is_carried_out_more_often_than_it_may_be()
    assert sum(machine.done.values()) == 4, "of two outages"
    assert len(machine.opened) == 2


def test_a_process_that_is_stale_after_a_silence_calls_people_for_itself(silent_and_stale):
    machine = silent_and_stale
    for _ in range(6):
        machine.restart_by_others(helps=False)
        machine.pass_time(sec=0.5)
    machine.go_stale(count=3, helps=False)
    machine.rise()
    machine.go_stale(count=100, helps=False)
    for _ in range(9):
        machine.restart_by_others(helps=False)
        machine.pass_time(sec=0.5)
    assert machine.patient.told().count("escalated crash_loop") == 2
    assert len(machine.opened) == 2
