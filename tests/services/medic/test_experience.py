"""What follows from the record: what is passed over, what comes first, and what has earned to act unasked."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from marketswarm.operator.healing import (
    LEARNING,
    RETIRED,
    EntryKind,
    HealingApproval,
    fold_incidents,
    read_forgotten_at,
    write_approval,
)
from marketswarm.operator.healing_stats import measure_approvals
from marketswarm.testing import MemoryBus
from services.medic.commands import find_present_mode
from services.medic.experience import RETRIED_AFTER, Experience
from services.medic.facts import RestartOwner
from services.medic.guards import Situation
from services.medic.learning import learn
from services.medic.planner import RepairPlan
from services.medic.refusal import Refusal
from services.medic.remedies import REMEDIES, Remedy
from services.medic.repair import RepairState, Resolution, find_proposal
from services.medic.settings import HealingSettings, MedicSettings, Mode
from services.medic.store import MedicStore
from support.examples import examples
from support.healing_record import list_attempt, make_outage, make_record
from support.simulation.patient import Patient

USELESS = {"waits": 20, "restart": (0, 25)}
"""A record by which waiting heals a third of the outages, and a restart none."""


def experience(record, since=0.0):
    found = Experience()
    found.load(record, since)
    return found


# --- what is passed over ---

OTHERS = {"svc": "other", "waits": 20, "restart": (0, 25)}
TABLE = [
    (USELESS, {}, True),
    ({**USELESS, "restart": (2, 25)}, {}, True),
    ({**USELESS, "restart": (0, 19)}, {}, False),  # few
    ({**USELESS, "waits": 60, "restart": (5, 25)}, {}, False),  # it helps now and then
    ({**USELESS, "waits": 0}, {}, False),  # nothing heals by itself
    ({}, OTHERS, False),  # it was never tried for this service
    ({"restart": (0, 1)}, OTHERS, True),
    ({"restart": (1, 1)}, OTHERS, False),
    ({"symptom": "degraded", "restart": (0, 5)}, OTHERS, False),
]


@pytest.mark.parametrize(("own", "others", "is_useless"), TABLE)
def test_a_remedy_is_passed_over_if_it_rarely_helps_and_no_more_often_than_waiting(own, others, is_useless):
    record = [*make_record(**{"begin": 50_000.0, **others}), *make_record(**own)]
    found = experience(record)
    assert bool(found.find_useless("feed", own.get("symptom", "silent"), Remedy.RESTART)) is is_useless
    assert found.find_useless("feed", "silent", Remedy.WAIT) is None
    assert found.find_useless("unknown", "silent", Remedy.RESTART) is None


def down(record=(), **more):
    patient = Patient(record=record, **more)
    patient.look(2)
    patient.die()
    return patient


LEARNS = {"mode": "act", "learning": True}


def find_entry(patient, what, reason=""):
    (found,) = [
        each for plan in patient.plans for each in plan.entries if (each.what, each.reason) == (what, reason)
    ]
    return found


def test_what_does_not_help_is_passed_over_with_a_reason_and_people_are_called_at_once():
    patient = down(make_record(**USELESS), settings=LEARNS)
    patient.look(20)
    assert patient.told() == ["opened silent", "waiting", "refused does_not_help", "escalated exhausted"]
    said = find_entry(patient, "refused", "does_not_help")
    assert (said.remedy, said.text) == ("restart", "helped in 0 of 25, to wait in 20 of 45")
    assert patient.orders == []
    assert patient.planner.repairs["feed"].state is RepairState.ESCALATED


def test_the_ladder_goes_on_after_what_is_passed_over():
    patient = down(
        make_record(**USELESS), settings={**LEARNS, "targets": {"feed": {"ladder": ["restart", "command"]}}}
    )
    patient.look(20)
    assert [order.remedy for _, order in patient.orders] == [Remedy.COMMAND]
    assert patient.told()[2:4] == ["refused does_not_help", "intended"]


@pytest.mark.parametrize(
    ("more", "last"),
    [
        ({"settings": {"mode": "act"}}, "verified"),
        ({"settings": {"mode": "observe", "learning": True}}, "refused observed"),
        ({"settings": LEARNS, "shown": {"blocked": Refusal.SILENCED}}, "refused silenced"),
        ({"settings": {**LEARNS, "paused": True}}, "refused paused"),
    ],
)
def test_nothing_is_passed_over_where_that_was_not_wished_or_nothing_would_be_done(more, last):
    patient = down(make_record(**USELESS), **more)
    patient.look(20)
    assert patient.told()[-1] == last
    assert "refused does_not_help" not in patient.told()


def test_learning_that_is_switched_off_meanwhile_gives_the_remedy_back():
    charts = {"symptom": "degraded", "waits": 20, "charts_cache": (0, 25)}
    ladder = {
        "targets": {"feed": {"ladder": ["charts_cache", "restart"], "remedies": {"restart": "propose"}}}
    }
    policy = {**LEARNS, "degraded_sec": 5, **ladder}
    patient = Patient(policy, record=make_record(**charts))
    patient.go_stale()
    patient.look(20)
    assert patient.told()[-2:] == ["refused does_not_help", "proposed"]
    patient.settings = {**policy, "learning": False}
    patient.look(2)
    assert [order.remedy for _, order in patient.orders] == [Remedy.CHARTS_CACHE]


def test_the_next_medic_passes_over_the_same_and_says_it_once():
    ladder = {"targets": {"feed": {"ladder": ["restart", "command"]}}}
    patient = down(make_record(**USELESS), settings={**LEARNS, **ladder}, restart_helps=False)
    for _ in range(4):
        patient.look(40)
        patient.crash_medic()
    assert patient.told().count("refused does_not_help") == 1
    assert {order.remedy for _, order in patient.orders} == {Remedy.COMMAND}


@pytest.mark.slow
def test_what_is_passed_over_has_one_attempt_in_each_tenth_outage_and_earns_its_way_back():
    patient = Patient({**LEARNS, "stable_sec": 10}, record=make_record(**USELESS), restart_helps=False)

    def run_outages(count):
        tried = []
        for _ in range(count):
            before = len(patient.orders)
            patient.look(2)
            patient.die()
            patient.look(120, 2)
            patient.rise()
            patient.look(30, 2)
            tried.append(len(patient.orders) - before)
        return tried

    assert run_outages(21) == [*[0] * RETRIED_AFTER, 1, *[0] * RETRIED_AFTER, 1, 0]
    patient.crash_medic()
    patient.restart_helps = True
    tried = run_outages(60)
    assert tried.count(0) < 60
    assert tried[-1] == 1, "it helps by now, so it is no longer passed over"


# --- what comes first ---

GOOD, BAD, FEW = (24, 25), (0, 25), (3, 3)
CACHES = ["quotes_cache", "charts_cache"]
LADDER = [*CACHES, "restart", "command"]
POLICY = {**LEARNS, "degraded_sec": 5, "targets": {"feed": {"ladder": LADDER}}}


def stale(policy, record, **more):
    patient = Patient(policy, record=record, clear_helps=False, **more)
    patient.go_stale()
    return patient


def past(waits=0, **tried):
    return make_record(symptom="degraded", waits=waits, **tried)


def orders(patient):
    return [order.remedy for _, order in patient.orders]


def test_what_clearly_helps_most_comes_before_cheaper_remedies_and_they_keep_their_turn():
    policy = {**POLICY, "fuse": {"remedies": 20}}
    patient = stale(policy, past(quotes_cache=(2, 25), charts_cache=(1, 25), restart=GOOD))
    patient.look(12)
    assert patient.told() == ["opened degraded", "waiting", "preferred", "intended", "acted"]
    said = find_entry(patient, "preferred")
    assert (said.remedy, said.text) == ("restart", "helped in 24 of 25, quotes_cache in 2 of 25")
    patient.look(600, 5)
    assert orders(patient)[:9] == ["restart", "quotes_cache", "charts_cache"] * 3


HISTORIES = st.sampled_from([None, FEW, BAD, GOOD])
MODES = st.sampled_from(["act", "act", "propose", "observe"])


def expect_first(ladder, tried, modes, *, waits, learns):
    """Return the remedy that comes first, and whether it is preferred, or None if all are passed over.

    Unlike the planner, this knows each history by its name. What is only observed counts where
    nothing else may be done or proposed.
    """
    ladder = [each for each in ladder if modes[each] != "observe"] or ladder
    for remedy in reversed(ladder[1:]):
        cheaper = ladder[: ladder.index(remedy)]
        may = (
            remedy != "command"
            and modes[remedy] != "observe"
            and not (modes[remedy] == "propose" and "act" in modes.values())
        )
        if learns and may and tried[remedy] == GOOD and all(tried[each] == BAD for each in cheaper):
            return remedy, True
    for remedy in ladder:
        is_useless = learns and waits and tried[remedy] == BAD
        if not is_useless or modes[remedy] == "observe":
            return remedy, False
    return None, False


@given(
    st.lists(st.sampled_from(LADDER), min_size=1, max_size=4, unique=True),
    st.lists(HISTORIES, min_size=4, max_size=4),
    st.lists(MODES, min_size=4, max_size=4),
    st.sampled_from([0, 200]),
    st.booleans(),
)
@settings(max_examples=examples(60), deadline=None)
def test_the_first_remedy_follows_from_the_record_and_the_modes_alone(names, histories, modes, waits, learns):
    ladder = [each for each in LADDER if each in names]
    tried, modes = dict(zip(LADDER, histories, strict=True)), dict(zip(ladder, modes, strict=False))
    record = past(waits, **{each: tried[each] for each in ladder if tried[each]})
    target = {"ladder": names, "remedies": modes}
    patient = stale({**POLICY, "learning": learns, "targets": {"feed": target}}, record)
    patient.look(12)
    told = patient.told()
    assert told[:2] == ["opened degraded", "waiting"], "never before `wait`"
    first, is_preferred = expect_first(ladder, tried, modes, waits=waits, learns=learns)
    if first is None:
        assert told[-1] == "escalated exhausted"
        assert patient.orders == []
        return
    assert ("preferred" in told) is is_preferred
    last = {"act": "acted", "propose": "proposed", "observe": "refused observed"}[modes[first]]
    assert told[-1] == last
    assert orders(patient) == ([first] if modes[first] == "act" else [])
    assert [each.remedy for plan in patient.plans for each in plan.entries][-1] == first


ALL_PROPOSE = {"remedies": dict.fromkeys(LADDER, "propose")}
ELSEWHERE = {"owner": RestartOwner.ELSEWHERE, "processes": ()}
PREFERS = {
    "it is clearly best": ({}, {}, {}, True),
    "all are asked about": ({}, ALL_PROPOSE, {}, True),
    "only it is asked about": ({}, {"remedies": {"restart": "propose"}}, {}, False),
    "it is only observed": ({}, {"remedies": {"restart": "observe"}}, {}, False),
    "it can't be applied now": ({}, {}, ELSEWHERE, False),
    "a cheaper one was never tried": ({"charts_cache": (0, 0)}, {}, {}, False),
    "a cheaper one was tried rarely": ({"charts_cache": (0, 19)}, {}, {}, False),
    "a cheaper one helps as often": ({"quotes_cache": GOOD}, {}, {}, False),
    "it was tried rarely": ({"restart": (19, 19)}, {}, {}, False),
    "waiting helps as often": ({"waits": 900}, {}, {}, False),
}


@pytest.mark.parametrize("case", PREFERS)
def test_a_remedy_is_preferred_only_if(case):
    changed, target, shown, is_preferred = PREFERS[case]
    record = past(**{"quotes_cache": BAD, "charts_cache": BAD, "restart": GOOD, **changed})
    policy = {**POLICY, "targets": {"feed": {"ladder": [*CACHES, "restart"], **target}}}
    patient = stale(policy, record, shown=shown)
    patient.look(12)
    assert ("preferred" in patient.told()) is is_preferred
    if not is_preferred and not changed:
        assert orders(patient) == ["quotes_cache"]


def test_nothing_is_preferred_where_the_truth_does_not_say_so():
    record = past(quotes_cache=BAD, charts_cache=BAD, restart=GOOD)
    patient = stale({**POLICY, "learning": False}, record)
    patient.look(12)
    assert (orders(patient), "preferred" in patient.told()) == (["quotes_cache"], False)


def test_a_preferred_remedy_that_is_refused_meanwhile_loses_its_place():
    policy = {**POLICY, "targets": {"feed": {"ladder": [*CACHES, "restart"]}}}
    patient = stale(policy, past(quotes_cache=BAD, charts_cache=BAD, restart=GOOD))
    patient.look(12)
    patient.shown = {"owner": RestartOwner.ELSEWHERE, "processes": ()}
    patient.look(60)
    assert orders(patient)[:2] == ["restart", "quotes_cache"]


def test_to_roll_back_the_truth_and_a_command_are_never_preferred():
    never = [name for name, kind in REMEDIES.items() if not kind.may_precede_cheaper]
    assert never == ["roll_back_truth", "command"]
    for remedy in never:
        found = experience(make_record(restart=BAD, **{remedy: GOOD}))
        assert found.find_preferred("feed", "silent", [Remedy.RESTART, Remedy(remedy)]) is None


# --- what was earned ---

EARNS = {"mode": "earned", "earn_after": 3, "stable_sec": 10, "proposal_sec": 60, "fuse": {"remedies": 100}}


def have_outage(patient, end):
    """Let the target go down once; return whether the medic acted without asking."""
    patient.restart_helps = end != "fails"
    before = len(patient.orders)
    patient.look(2)
    patient.die()
    patient.look(8)
    (repair,) = patient.planner.repairs.values()
    has_acted = len(patient.orders) > before
    proposal = find_proposal(repair)
    assert (proposal is None) is has_acted
    if proposal is not None and end in ("helps", "fails"):
        patient.approvals = {proposal.ident: "ann"}
    patient.look(32 if end == "fails" else 5)
    patient.rise()
    patient.look(30)
    assert patient.planner.repairs == {}
    return has_acted


@given(
    st.lists(st.sampled_from(["helps", "helps", "helps", "fails", "nobody"]), max_size=12), st.integers(0, 12)
)
@settings(max_examples=examples(25), deadline=None)
def test_a_remedy_acts_after_three_approvals_that_helped_in_a_row_until_it_fails(ends, takeover):
    patient, in_a_row = Patient(dict(EARNS)), 0
    for number, end in enumerate(ends):
        if number == takeover:
            patient.crash_medic()
        has_acted = have_outage(patient, end)
        assert has_acted is (in_a_row >= 3), (ends, number)
        if end == "fails":
            in_a_row = 0
        elif end == "helps" and not has_acted:
            in_a_row += 1
    assert patient.planner.experience.count_helped_in_a_row("feed", Remedy.RESTART) == in_a_row


def approved(*ends, svc="feed"):
    made = [
        make_outage(svc, 1000.0 * number, *list_attempt("restart", helps=helps, is_approved=by_person))
        for number, (helps, by_person) in enumerate(ends)
    ]
    return [entry for outage in made for entry in outage]


YES, NO, UNASKED, HARMED = (True, True), (False, True), (True, False), (False, False)
DIAGNOSED = [
    ("diagnosed", *each[1:]) if each[0] == "proposed" else each
    for each in list_attempt("restart", helps=True, is_approved=True)
]
LEFT = [*list_attempt("restart", helps=True, is_approved=True)[:-1], ("resolved", "", RETIRED)]


TWICE = [
    *list_attempt("restart", helps=False, is_approved=True)[:-3],
    *list_attempt("restart", helps=True)[1:],
]
"""An approval is for one attempt: the second one, which helped, was made unasked."""


@pytest.mark.parametrize(
    ("record", "helped", "failed", "in_a_row"),
    [
        (approved(YES, YES, YES), 3, 0, 3),
        (approved(YES, NO, YES), 2, 1, 1),
        (approved(YES, YES, HARMED), 2, 0, 0),
        (approved(YES, UNASKED, YES), 2, 0, 2),
        (make_outage("feed", 1.0, *DIAGNOSED), 0, 0, 0),
        (make_outage("feed", 1.0, *LEFT), 0, 0, 0),
        (approved(YES, YES, svc="other"), 0, 0, 0),
        (approved(YES, YES)[1:], 1, 0, 1),
        (make_outage("feed", 1.0, *TWICE), 0, 1, 0),
    ],
    ids=[
        "in a row",
        "failed",
        "harmed unasked",
        "unasked",
        "diagnosis",
        "left the truth",
        "other",
        "cut off",
        "once",
    ],
)
def test_what_people_approved_counts_if_the_record_proves_what_became_of_it(record, helped, failed, in_a_row):
    found = experience(record)
    assert found.count_helped_in_a_row("feed", Remedy.RESTART) == in_a_row
    measured = [each for each in found.list_approvals() if each.svc == "feed"]
    assert [(each.helped, each.failed, each.in_a_row) for each in measured] == (
        [(helped, failed, in_a_row)] if helped or failed else []
    )
    assert tuple(found.list_approvals()) == measure_approvals(fold_incidents(record)), "as the board shows it"
    assert RETIRED == Resolution.RETIRED


def test_the_mode_that_is_in_force_is_shown():
    found = experience([*approved(YES, YES, YES), *approved(YES, svc="mesh")])
    policy = HealingSettings.model_validate(
        {"mode": "earned", "earn_after": 3, "targets": {"x": {"mode": "act"}}}
    )
    modes = {each.svc: find_present_mode(policy, found, each) for each in found.list_approvals()}
    assert modes == {"feed": "earned: act", "mesh": "earned: propose, 1 of 3"}
    assert policy.uses_record
    assert not HealingSettings().uses_record
    assert HealingSettings(learning=True).uses_record


def test_to_roll_back_the_truth_is_never_earned_and_the_check_of_a_truth_says_so():
    target = {"ladder": ["roll_back_truth"], "remedies": {"roll_back_truth": "earned"}}
    for settings_ in ({"mode": "earned"}, {"targets": {"feed": target}}):
        policy = HealingSettings.model_validate(settings_)
        assert policy.mode_of("feed", Remedy.ROLL_BACK_TRUTH) is Mode.PROPOSE
    model = MedicSettings.model_validate({"settings": {"targets": {"feed": target}}})
    ((place, warning),) = model._find_useless_remedies("feed", None)  # noqa: SLF001 - the truth is not looked at
    assert place[-1] == "roll_back_truth"
    assert "propose" in warning


# --- the record alone ---

STEPS = [
    *("opened ", "waiting wait", "recovered ", "relapsed ", "resolved "),
    *(
        f"{what} restart"
        for what in ["intended", "acted", "verified", "failed", "proposed", "approved", "refused"]
    ),
]


@st.composite
def records(draw):
    """A record of a few incidents whose entries are mixed, long ones and cut ones among them."""
    drawn = draw(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(STEPS)), max_size=120))
    entries, over = [], set()
    for at, (number, step) in enumerate(drawn):
        what, _, remedy = step.partition(" ")
        if number in over:
            continue
        over |= {number} if what == "resolved" else set()
        (first, *_) = make_outage(f"svc{number % 3}", 1000.0 * number, symptom="silent")
        kind, reason = EntryKind(what), first.reason if what == "opened" else ""
        proposal = "1234abcd" if what == "proposed" else ""
        entries.append(
            type(first)(incident=first.incident, svc=first.svc, ts=float(number * 1000 + at), what=kind,
                        remedy=remedy, reason=reason, proposal=proposal)
        )  # fmt: skip
    return entries


@given(records(), st.integers(1, 40), st.integers(2, 8), st.sampled_from([0.0, 4000.0]), st.data())
@settings(max_examples=examples(100), deadline=None)
def test_a_medic_that_followed_the_record_knows_what_one_knows_that_reads_it(
    entries, kept, longest, since, data
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.medic.experience.ENTRIES_KEPT", kept)
        patch.setattr("services.medic.experience.MAX_TIMELINE", longest)
        patch.setattr("marketswarm.operator.healing.MAX_TIMELINE", longest)
        followed = experience([], since)
        for entry in entries:
            followed.note([entry])
            if data.draw(st.booleans()):
                followed.list_lessons()
        read = experience(entries[-kept:], since)
        assert followed.list_lessons() == read.list_lessons()
        assert followed.list_approvals() == read.list_approvals()
        counted = [each for each in fold_incidents(entries[-kept:]) if each.opened_at >= since]
        assert read.list_lessons() == learn(counted)


def test_nothing_that_is_over_is_kept_for_ever(monkeypatch):
    monkeypatch.setattr("services.medic.experience.ENTRIES_KEPT", 50)
    found = experience(make_record(waits=100, restart=(100, 200)))
    kept = [vars(found)[name] for name in ("_order", "_open", "_ended")]
    assert max(map(len, kept)) <= 50


def test_what_a_person_had_forgotten_decides_nothing_any_more():
    record = [*make_record(**USELESS), *approved(YES, YES)]
    found = experience(record)
    assert found.find_useless("feed", "silent", Remedy.RESTART)
    found.forget(99_999.0)
    assert found.find_useless("feed", "silent", Remedy.RESTART) is None
    assert (found.list_lessons(), found.count_helped_in_a_row("feed", Remedy.RESTART)) == ([], 0)


def test_what_was_not_loaded_decides_nothing():
    found = Experience()
    found.note(make_record(**USELESS))
    assert found.list_lessons() == []
    here = Situation(None, HealingSettings(mode=Mode.EARNED), 0.0)
    assert here.mode_of("feed", Remedy.RESTART) is Mode.PROPOSE


def test_decisions_are_listed_by_the_words_of_the_timelines_whatever_else_is_on_record():
    record = [
        *make_record(**USELESS),
        *make_record(svc="mesh", symptom="degraded", begin=90_000.0, quotes_cache=BAD, restart=GOOD),
        *make_outage("feed", 5.0, *list_attempt("rm -rf", helps=False), symptom="weird"),
    ]
    found = experience(record).list_decisions(lambda _: (Remedy.QUOTES_CACHE, Remedy.RESTART))
    assert {(each.svc, each.symptom, each.remedy): said for each, said in found.items()} == {
        ("feed", "silent", "restart"): "does_not_help",
        ("mesh", "degraded", "restart"): "preferred",
    }


async def test_the_medic_that_takes_over_reads_what_the_one_before_wrote_and_what_was_forgotten():
    store = MedicStore(MemoryBus())
    record = [*make_record(**USELESS), *approved(YES, YES)]
    await store.save(RepairPlan(entries=tuple(record)), 7)
    await store.bus.client.xadd("medic:incidents", {"entry": "junk"})
    await write_approval(store.bus, HealingApproval(id=LEARNING, by="ann", ts=17.5))
    read = experience(await store.load_record(), await read_forgotten_at(store.bus))
    assert read.list_lessons() == experience(record, 17.5).list_lessons()
    assert read.list_approvals() == experience(record, 17.5).list_approvals()
