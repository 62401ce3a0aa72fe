"""A property of any story of a target, a fleet and its medics: what the medic may never do."""

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from marketswarm.operator.healing import EntryKind
from services.medic.facts import Health, ProcessFacts
from services.medic.planner import OrderResult, make_proposal_id
from services.medic.refusal import FUSE, Refusal
from services.medic.remedies import RULES, Remedy
from services.medic.repair import AttemptVerdict, RepairState
from support.examples import examples
from support.simulation.patient import Patient

POLICY = {"fuse": {"remedies": 4, "within_sec": 600}, "stable_sec": 120, "proposal_sec": 90}
BLOCKS = [Refusal.SILENCED, Refusal.MAINTENANCE]

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

    def look(self, result=OrderResult.DONE, *, lies=False):
        """Let the medic look once, and hold what it does against what holds at this moment."""
        patient = self.patient
        repair = patient.planner.repairs.get("feed")
        plan = patient.tick()
        self.approvals_used += plan.used
        is_well = patient.blocked is None and patient.facts().health is Health.UP
        self.unwell_at = self.unwell_at if is_well else patient.now
        for entry in plan.entries:
            if entry.what is EntryKind.VERIFIED:
                assert is_well
                assert patient.is_up, "never healed while the fault is there"
                assert patient.facts().boot not in (None, repair.attempts[-1].boot)
            if entry.what is EntryKind.RESOLVED:
                assert is_well
                assert patient.now - self.unwell_at >= POLICY["stable_sec"] - 1e-6
        if plan.order is not None:
            self.check_order(plan.order, repair)
            if lies:  # it is said to be done, and it is not
                patient.planner.record_result(plan.order, OrderResult.DONE, "", patient.now)
            elif result is not None:
                patient.obey(plan.order, result)

    def check_order(self, order, repair):
        patient, facts = self.patient, self.patient.facts()
        assert order.identity == patient.identity
        assert not patient.settings.get("paused")
        assert patient.settings["mode"] != "observe"
        assert patient.blocked is None
        assert facts.blocked is None
        assert not any(each.is_stopped or each.is_waiting for each in facts.processes)
        assert facts.processes[0].age_sec >= 30
        assert facts.health is Health.DOWN
        last = self.ordered_at.get(repair.incident)
        assert last is None or patient.now - last >= RULES[order.remedy].cooldown_sec
        self.ordered_at[repair.incident] = patient.now
        if patient.settings["mode"] == "propose":
            assert make_proposal_id(repair, Remedy.RESTART) in self.approvals_used

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

    @rule()
    def rise(self):
        self.patient.rise()

    @rule(helps=st.booleans())
    def restart_by_others(self, helps):
        self.patient.restart(helps)

    @rule(mode=st.sampled_from(["act", "act", "propose", "observe"]), pause=st.integers(0, 3))
    def reseed(self, mode, pause):
        self.patient.settings = {**POLICY, "mode": mode, "paused": pause == 3}

    @rule(
        blocked=st.sampled_from([None, *sorted(FUSE - {Refusal.FLEET_DOWN})]),
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
        self.patient.approvals = {make_proposal_id(each, Remedy.RESTART): "ann" for each in repairs}
        if fuse:
            self.patient.approvals["fuse"] = "ann"

    @rule(step_sec=st.sampled_from([0.0, 0.0, 3600.0, -3600.0]))
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
            for remedy, limits in RULES.items():
                assert repair.count_attempts(remedy) <= limits.attempts

    @invariant()
    def no_more_remedies_than_the_fuse_lets_through(self):
        times = [at for at, _ in self.patient.orders]
        windows = [sum(0 <= at - begin < 600 for at in times) for begin in times]
        allowed = POLICY["fuse"]["remedies"] * (1 + self.approvals_used.count("fuse"))
        assert max(windows, default=0) <= allowed

    @invariant()
    def what_goes_on_is_consistent(self):
        for repair in self.patient.planner.repairs.values():
            assert repair.state is not RepairState.RESOLVED
            pending = [each for each in repair.attempts if each.verdict is AttemptVerdict.PENDING]
            busy = repair.state in (RepairState.WAITING, RepairState.INTENDED, RepairState.SETTLING)
            assert len(pending) == busy, repair
            if busy:
                assert pending == [repair.attempts[-1]]


TestMedic = MedicMachine.TestCase
TestMedic.settings = settings(max_examples=examples(60), stateful_step_count=50)
