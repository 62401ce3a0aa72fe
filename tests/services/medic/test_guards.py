"""When the medic does nothing to a target that is not well, and the reason that it says."""

from dataclasses import replace

import pytest

from services.medic.decision import MAX_RESTARTS
from services.medic.facts import FleetFacts, Health, ProcessFacts, RestartOwner, Symptom, TargetFacts
from services.medic.guards import Fuse, Situation, find_refusal
from services.medic.planner import Planner
from services.medic.refusal import Refusal
from services.medic.remedies import Remedy
from services.medic.repair import Repair, RepairState, find_proposal
from services.medic.settings import FuseSettings, HealingSettings, Mode
from support.simulation.patient import DOWN, OLD, Patient, down, others

REFUSALS = {
    Refusal.PAUSED: {"settings": {"mode": "act", "paused": True}},
    Refusal.CUT_OFF: {"shown": {"is_cut_off": True, "processes": ()}},
    Refusal.BUS_LOST: {"blocked": Refusal.BUS_LOST},
    Refusal.HEALER_ABSENT: {"blocked": Refusal.HEALER_ABSENT},
    Refusal.HEALER_DEAF: {"blocked": Refusal.HEALER_DEAF},
    Refusal.FLEET_DOWN: {"others": others(Health.DOWN, Health.UP, Health.UP)},
    Refusal.SILENCED: {"shown": {"blocked": Refusal.SILENCED}},
    Refusal.MAINTENANCE: {"shown": {"blocked": Refusal.MAINTENANCE}},
    Refusal.STOPPED: {"shown": {"processes": (ProcessFacts("start 1", is_stopped=True),)}},
    Refusal.EMERGENCY: {"shown": {"blocked": Refusal.EMERGENCY}},
    Refusal.TOO_OLD: {"shown": {"down_sec": 4000.0}},
    Refusal.DEPENDENCY_DOWN: {
        "shown": {"depends_on": ("other1",)},
        "others": {
            **others(Health.DOWN, Health.UP, Health.UP, Health.UP),
            "other1": TargetFacts(svc="other1", health=Health.UP, depends_on=("other0",)),
        },
    },
    Refusal.NOT_OURS: {"shown": {"owner": RestartOwner.ELSEWHERE}},
    Refusal.SEVERAL_PROCESSES: {"shown": {"processes": (OLD, ProcessFacts("start 2", age_sec=1000.0))}},
    Refusal.OWNER_RESTARTS: {"shown": {"processes": (ProcessFacts("start 1", is_waiting=True),)}},
    Refusal.START_GRACE: {"shown": {"processes": (ProcessFacts("start 1", age_sec=29.0),)}},
    Refusal.DRY_RUN: {"is_dry_run": True},
    Refusal.OBSERVED: {"settings": {}},
}


@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
def test_nothing_is_done_and_the_reason_is_said(refusal):
    patient = Patient(**REFUSALS[refusal])
    patient.die()
    patient.shown = {"health": Health.DOWN, **patient.shown}
    patient.look(100)
    assert patient.orders == []
    assert patient.told() == ["opened silent", "waiting", f"refused {refusal}"], "once"


def test_every_other_reason_has_a_test_of_its_own():
    own = {
        Refusal.PROTECTED,
        Refusal.TOO_MANY_REMEDIES,
        Refusal.SHARE_USED,
        Refusal.BLAST_RADIUS,
        Refusal.ONE_AT_A_TIME,
        Refusal.COOLDOWN,
        Refusal.TARGET_DOWN,
        Refusal.UNKNOWN,
        Refusal.UNDER_WAY,
        Refusal.DOES_NOT_HELP,
    }
    assert set(Refusal) == set(REFUSALS) | own


@pytest.mark.parametrize("svc", ["healer", "sentinel", "notifier", "medic"])
def test_what_watches_the_fleet_is_never_touched(svc):
    patient = Patient({"mode": "act", "targets": {svc: {"mode": "act"}}})
    patient.others = {svc: TargetFacts(svc=svc, health=Health.DOWN, owner=RestartOwner.UP, processes=(OLD,))}
    patient.look(100)
    assert patient.orders == []
    assert patient.told(svc)[-1] == "refused protected"


def test_one_target_is_acted_on_at_a_time():
    patient = down(others=others(Health.UP, Health.UP, Health.UP, Health.UP))
    other = TargetFacts(svc="aaa", owner=RestartOwner.UP, processes=(OLD,), **DOWN)
    patient.others = {**patient.others, "aaa": other}
    patient.look(5)
    assert [order.svc for _, order in patient.orders] == []
    patient.look(1, obey=False)
    assert [order.svc for _, order in patient.orders] == ["aaa"]
    patient.look(1, obey=False)
    assert [order.svc for _, order in patient.orders] == ["aaa", "feed"]


@pytest.mark.parametrize("settings", [{"mode": "act"}, {"mode": "propose"}], ids=lambda each: each["mode"])
def test_a_target_that_was_down_and_of_which_nothing_is_known_since_is_left_alone(settings):
    patient = down(settings=settings)
    patient.look(2)
    patient.shown = {"health": Health.UNKNOWN}
    patient.look(100)
    assert patient.orders == []
    assert patient.told() == ["opened silent", "waiting", "refused unknown"]
    patient.shown = {}
    patient.look(2)
    assert patient.told()[3] == {"act": "intended", "propose": "proposed"}[settings["mode"]]


def test_a_target_that_was_degraded_and_has_no_known_status_since_is_left_alone():
    patient = Patient({"mode": "act", "degraded_sec": 100})
    patient.shown = {"status": "degraded", "degraded_sec": 101.0}
    patient.look(2)
    patient.shown = {"status": None}
    patient.look(100)
    assert patient.orders == []
    assert patient.told()[-1] == "refused unknown"


def test_a_target_of_which_several_instances_beat_somewhere_is_left_alone():
    patient = Patient({"mode": "act", "degraded_sec": 100})
    patient.shown = {"status": "degraded", "degraded_sec": 101.0, "beats_in_turn": True}
    patient.look(100)
    assert patient.orders == []
    assert patient.told()[-1] == "refused several_processes"
    patient.shown = {**patient.shown, "beats_in_turn": False}
    patient.look(1)
    assert len(patient.orders) == 1


def make_other(svc, **more):
    """Return another target that went down, and whose process hangs."""
    return {svc: TargetFacts(svc=svc, owner=RestartOwner.UP, processes=(OLD,), **DOWN, **more)}


def list_healed(patient):
    return [order.svc for _, order in patient.orders]


@pytest.mark.slow
def test_too_many_remedies_blow_the_fuse_until_a_person_approves():
    up = others(Health.UP, Health.UP, Health.UP, Health.UP)
    patient = down(settings={"mode": "act", "fuse": {"remedies": 2, "within_sec": 600}}, restart_helps=False)
    patient.approvals = {"fuse": "eve"}  # nothing is approved beforehand
    patient.others = {**up, **make_other("aaa")}
    patient.look(3000)
    assert sorted(list_healed(patient)) == ["aaa", "feed"]
    assert patient.told()[-1] == "refused too_many_remedies", "also when the time has passed"
    patient.approvals = {"fuse": "ann"}
    patient.look(10)
    assert len(patient.orders) == 4
    assert [plan.used for plan in patient.plans if plan.used] == [("fuse",), ("fuse",)]


def test_a_service_that_flaps_uses_half_of_the_remedies_and_the_others_are_healed_all_the_same():
    quick = {"stable_sec": 1, "wait_sec": 1, "start_grace_sec": 1, "fuse": {"remedies": 5, "within_sec": 600}}
    patient = Patient({"mode": "act", **quick})
    for _ in range(100):
        patient.look(3)
        patient.die()
    assert list_healed(patient) == ["feed"] * 2, "a half of five, at most"
    assert patient.told()[-1] == "refused share_used"
    patient.others = {**others(Health.UP, Health.UP, Health.UP), **make_other("aaa")}
    patient.look(5)
    assert list_healed(patient) == ["feed", "feed", "aaa"]
    assert patient.planner.fuse.blown_at is None
    patient.look(600)
    assert list_healed(patient).count("feed") == 3, "it passes by itself"


def test_the_share_of_a_service_outlives_the_medic_and_does_not_limit_what_a_person_approves():
    quick = {"stable_sec": 1, "wait_sec": 1, "start_grace_sec": 1, "fuse": {"remedies": 2, "within_sec": 600}}
    patient = down(settings={"mode": "act", **quick})
    patient.look(5)
    assert list_healed(patient) == ["feed"]
    patient.crash_medic()
    patient.look(5)
    patient.die()
    patient.look(100)
    assert (list_healed(patient), patient.told()[-1]) == (["feed"], "refused share_used")
    patient.settings = {"mode": "propose", **quick}
    patient.look(2)
    proposal = find_proposal(patient.planner.repairs["feed"])
    patient.approvals = {proposal.ident: "ann"}
    patient.look(2)
    assert list_healed(patient) == ["feed"] * 2


def test_a_fuse_that_an_older_medic_stored_knows_no_services_and_still_counts():
    settings = FuseSettings(remedies=4, within_sec=100.0)
    fuse = Fuse((1.0, 2.0)).add(settings, 3.0, "feed")
    assert (fuse.acted, fuse.services) == ((1.0, 2.0, 3.0), ("", "", "feed"))
    assert not fuse.is_share_used("feed", settings, 4.0)
    assert fuse.add(settings, 4.0, "feed").is_share_used("feed", settings, 5.0)
    assert fuse.add(settings, 4.0, "feed").is_due(settings, 5.0)
    shifted = Fuse((1.0, 2.0, 3.0), None, ("feed",)).shift_to(9.0)
    assert (shifted.acted, shifted.services) == ((7.0, 8.0, 9.0), ("", "", "feed"))


@pytest.mark.parametrize("process", [ProcessFacts("start 1", age_sec=99.0, is_protected=True), OLD])
def test_a_container_that_is_of_no_agent_is_never_restarted_whatever_the_truth_calls_it(process):
    patient = Patient(shown={"processes": (process,)})
    patient.die()
    patient.look(100)
    last = "refused protected" if process.is_protected else "intended"
    assert last in patient.told()
    assert bool(patient.orders) is not process.is_protected


def test_what_the_owner_of_a_service_has_said_last_holds_while_it_does_not_answer():
    """Else a ladder would go on without its restart, and end in a call for a person."""
    ladder = {"targets": {"feed": {"ladder": ["restart", "command"]}}}
    patient = down(settings={"mode": "act", **ladder})
    patient.shown = {"is_cut_off": True, "processes": ()}
    patient.look(3000, step_sec=10)
    assert (patient.orders, patient.told()[-1]) == ([], "refused cut_off")
    patient.shown = {}
    patient.look(2)
    assert [order.remedy for _, order in patient.orders] == [Remedy.RESTART]


def test_what_runs_elsewhere_and_said_goodbye_was_stopped_by_people_and_is_not_started():
    ladder = {"feed": {"ladder": ["command"]}}
    for has_said_goodbye, last in ((True, "refused stopped"), (False, "verified")):
        patient = down(settings={"mode": "act", "targets": ladder})
        patient.shown = {"owner": RestartOwner.ELSEWHERE, "processes": ()}
        patient.shown["has_said_goodbye"] = has_said_goodbye
        patient.look(10)
        assert patient.told()[-1] == last
    patient = down(settings={"mode": "act", "targets": ladder}, restart_helps=False)
    patient.shown = {"owner": RestartOwner.ELSEWHERE, "processes": (), "has_said_goodbye": False}
    while not patient.orders:
        patient.look(1)
    patient.shown["has_said_goodbye"] = True  # the command ended it, and the next one does not start
    patient.look(2000)
    assert patient.told()[-1] == "escalated exhausted"


def test_what_said_goodbye_elsewhere_may_still_have_an_earlier_truth_proposed():
    target = TargetFacts(svc="feed", health=Health.DOWN, boot="b", has_said_goodbye=True)
    times = {"down_since": 1.0, "opened_at": 1.0, "since": 1.0}
    repair = Repair(incident="feed.1", svc="feed", symptom=Symptom.SILENT, boot="b", **times)
    here = Situation(FleetFacts({"feed": target}), HealingSettings(mode=Mode.ACT), now=2.0)
    found = [find_refusal(repair, target, each, here) for each in (Remedy.COMMAND, Remedy.ROLL_BACK_TRUTH)]
    assert found == [Refusal.STOPPED, Refusal.UNKNOWN]


@pytest.mark.parametrize("unseen", ["blocked", "unknown"])
def test_a_time_in_which_nothing_can_be_seen_fails_no_remedy_and_calls_no_one(unseen):
    patient = down(restart_helps=False)
    patient.look(2000)
    assert patient.told()[-2:] == ["failed", "escalated exhausted"]
    tried = len(patient.orders)
    patient = down(restart_helps=False)
    while len(patient.orders) < tried:
        patient.look(1)
    patient.rise()  # it helped, and no one saw it
    if unseen == "blocked":
        patient.blocked = Refusal.CUT_OFF
    else:
        patient.shown = {"health": Health.UNKNOWN}
    patient.look(600)
    assert patient.told()[-1] == "acted"
    patient.blocked, patient.shown = None, {}
    patient.look(2)
    assert patient.told()[-1] == "verified"


def test_the_time_to_verify_begins_anew_after_a_time_in_which_nothing_was_seen():
    patient = down(restart_helps=False)
    while not patient.orders:
        patient.look(1)
    patient.blocked = Refusal.CUT_OFF
    patient.look(58)
    patient.blocked = None
    patient.look(20)  # the healer needs a moment
    assert patient.told()[-1] == "acted"
    patient.rise()
    patient.look(1)
    assert patient.told()[-1] == "verified"


def test_what_is_observed_is_said_of_a_target_that_is_down_though_another_remedy_may_act():
    ladder = {"ladder": ["quotes_cache", "restart"], "remedies": {"restart": "observe"}}
    patient = down(settings={"mode": "act", "targets": {"feed": ladder}})
    patient.look(100)
    assert patient.told()[-1] == "refused observed"


def needed(*health, symptom="degraded", mode="act"):
    """A target of ten services, which some of them need; its beats say `degraded`, or are missing."""
    users = [TargetFacts(svc=f"user{i}", health=each, depends_on=("feed",)) for i, each in enumerate(health)]
    idle = others(*[Health.UP] * (9 - len(users)))
    patient = Patient({"mode": mode, "degraded_sec": 100}, others={**idle, **{u.svc: u for u in users}})
    patient.shown = {"status": "degraded", "degraded_sec": 101.0} if symptom == "degraded" else DOWN
    patient.look(10)
    return patient


def test_a_target_that_still_works_is_not_restarted_if_too_many_need_it():
    assert needed(*[Health.UP] * 5).told()[-1] == "refused blast_radius"
    assert needed(*[Health.UP] * 4).told()[-1] == "acted"
    assert needed(*[Health.UP] * 5, symptom="silent").told()[-1] == "acted", "they have lost it already"
    patient = needed(*[Health.UP] * 5)
    patient.shown = DOWN
    patient.look(10)
    assert patient.told()[-1] == "acted", "and so they have if it hangs later on"


def test_a_proposal_says_how_many_need_the_target_in_the_timeline_and_in_the_message():
    patient = needed(Health.UP, Health.UP, Health.DOWN, mode="propose")
    (entry,) = [each for plan in patient.plans for each in plan.entries if each.what == "proposed"]
    assert entry.text == f"marketswarm medic approve {entry.proposal}; 2 that are up need it"
    repair = patient.planner.repairs["feed"]
    assert find_proposal(repair).remedy == "restart, while 2 that are up need it"
    patient.approvals = {entry.proposal: "ann"}
    patient.look(2)
    assert [order.remedy for _, order in patient.orders] == [Remedy.RESTART]
    repair = patient.planner.repairs["feed"]
    assert repair.proposed_needed == 0


def test_the_intent_says_how_many_need_the_target_themselves_or_through_others():
    (text,) = [
        e.text for p in needed(Health.UP, Health.DOWN).plans for e in p.entries if e.what == "intended"
    ]
    assert text == "process start 1; 1 that are up need it"
    chain = {
        "a": TargetFacts(svc="a", health=Health.UP, depends_on=("b", "c")),
        "b": TargetFacts(svc="b", health=Health.DOWN, depends_on=("a", "c")),
        "c": TargetFacts(svc="c", health=Health.UP),
    }
    assert [FleetFacts(chain).find_dependants(svc) for svc in "abc"] == [(), ("a",), ("a",)]


def test_nothing_is_done_while_others_are_late_since_services_that_stop_together_are_missed_apart():
    patient = down()
    patient.others = {each.svc: replace(each, is_late=True) for each in others(*[Health.UP] * 4).values()}
    patient.look(60)
    assert (patient.orders, patient.told()[-1]) == ([], "refused fleet_down")


def test_a_timeline_has_the_first_restarts_by_others_and_all_are_counted():
    patient = down()
    for _ in range(100):
        patient.restart(helps=False)
        patient.look(1)
    assert patient.told().count("restarted up") == MAX_RESTARTS
    assert patient.planner.repairs["feed"].owner_restarts >= 99
    assert patient.told().count("escalated crash_loop") == 1


def test_what_is_still_down_after_too_many_were_is_left_alone_for_as_long_as_a_wait():
    """They come back one after the other, as after a suspended machine goes on."""
    patient = down(settings={"mode": "act", "wait_sec": 5}, others=others(Health.DOWN, Health.UP, Health.UP))
    patient.look(20)
    assert patient.told()[-1] == "refused fleet_down"
    patient.others = others(Health.UP, Health.UP, Health.UP)
    patient.look(3)
    patient.crash_medic()
    patient.look(4)
    assert patient.orders == []
    patient.look(3)
    assert [order.remedy for _, order in patient.orders] == [Remedy.RESTART]


class CountedTargets(dict):
    """The targets of a fleet, which count how often someone goes through all of them."""

    passes = 0

    def values(self):
        self.passes += 1
        return super().values()


NEEDED = {"health": Health.UP, "status": "degraded", "degraded_sec": 1000.0, "depends_on": ("s0", "s1")}


@pytest.mark.parametrize(
    ("shown", "settings"),
    [
        (DOWN, {}),
        (DOWN, {"fuse": {"down_share": 1}}),
        (NEEDED, {"mode": "propose"}),
        (NEEDED, {"fuse": {"down_share": 0.05}}),
    ],
    ids=["fleet down", "all may be restarted", "all need two", "too many need two"],
)
def test_a_round_goes_through_the_fleet_as_often_however_many_are_not_well(shown, settings):
    passes = []
    for size in (10, 40):
        planner = Planner(lambda: HealingSettings.model_validate({"mode": "act", **settings}))
        targets = CountedTargets({f"s{i}": TargetFacts(svc=f"s{i}", **shown) for i in range(size)})
        for now in range(1000, 1030, 3):
            planner.tick(FleetFacts(targets), {}, 7, float(now))
        assert len(planner.repairs) == size
        assert not any(each.state is RepairState.WAITING for each in planner.repairs.values())
        passes.append(targets.passes)
    assert passes[0] == passes[1]
