"""To roll the truth back: when a truth is taken for the cause, and what the medic decides by that."""

import hashlib
import time

import orjson
import pytest

from marketswarm.keys import TRUTH_HISTORY
from marketswarm.testing import MemoryBuses
from marketswarm.truth import parse_truth
from services.medic.decision import CRASH_LOOP
from services.medic.facts import FleetFacts, Health, ProcessFacts, RemedyEvidence, TargetFacts
from services.medic.remedies import REMEDIES, OrderResult, Remedy, RemedyContext, RemedyOrder
from services.medic.remedies.evidence import add_evidence
from services.medic.remedies.rollback import AUTHOR, MAX_AGE_SEC, find_rollback
from services.medic.repair import find_proposal
from services.medic.settings import HealingSettings, MedicSettings
from support.simulation.patient import Patient

ROLL_BACK = REMEDIES[Remedy.ROLL_BACK_TRUTH]
BUSES = ("market-redis", "system-redis")


def document(**services):
    return orjson.dumps({"services": {"healer": {}, "medic": {}, "a": {}, "b": {}, "c": {}, **services}})


def tagged(*names, **services):
    """Return a document in which these services have another section."""
    return document(**{name: {"tags": ["new"]} for name in names}, **services)


GOOD, BAD = document(), tagged("a", "b")


@pytest.fixture
def buses():
    opened = MemoryBuses()
    return {name: opened(name) for name in BUSES}


@pytest.fixture
def context(buses):
    truth = parse_truth(GOOD).truth

    def make(until=None, outages=None, **rollback):
        settings = HealingSettings.model_validate({"rollback": rollback})
        return RemedyContext(truth, buses.__getitem__, settings=settings, outages=outages or {}, until=until)

    return make


async def seed(buses, *documents, apart_sec=1000.0):
    """Leave these revisions on both buses as seeding does, the last one as of now."""
    client, other = buses["system-redis"].client, buses["market-redis"].client
    for number, each in enumerate(documents, 1):
        seeded_at = time.time() - apart_sec * (len(documents) - number)
        meta = {
            "revision": str(number),
            "sha256": hashlib.sha256(each).hexdigest(),
            "seeded_at": str(seeded_at),
            "seeded_by": "ann@host",
        }
        await client.set("truth:doc", each)
        await client.hset("truth:meta", mapping=meta)
        await other.hset("truth:meta", mapping=meta)
        await client.xadd(TRUTH_HISTORY, {**meta, "doc": each})


def fleet(*down, since=None, **more):
    """Return facts in which these services went down a moment ago."""
    began = time.time() if since is None else since
    states = {svc: Health.DOWN if svc in down else Health.UP for svc in "abc"}
    return FleetFacts(
        {svc: TargetFacts(svc=svc, health=each, down_since=began, **more) for svc, each in states.items()}
    )


async def look(context, facts, svc="a", now=None):
    return (await ROLL_BACK.read_evidence([svc], facts, context, time.time() if now is None else now))[svc]


@pytest.mark.parametrize(
    ("facts", "svc"),
    [
        (fleet("a"), "a"),  # one is not several
        (fleet("a", "b"), "c"),  # this one is up
        (fleet("a", "c"), "a"),  # of c, nothing was changed
        (fleet("a", "b", since=time.time() - 1000), "a"),  # they were down before
        (fleet("a", "b", since=time.time() + 1000), "a"),  # they went down much later
        (FleetFacts({svc: TargetFacts(svc=svc, health=Health.DOWN) for svc in "ab"}), "a"),
        (FleetFacts(), "a"),
    ],
)
async def test_other_outages_are_not_taken_for_the_truths(buses, context, facts, svc):
    await seed(buses, GOOD, BAD)
    assert (await look(context(), facts, svc)).identity == ""


async def test_how_many_services_in_what_time_is_a_setting(buses, context):
    await seed(buses, GOOD, BAD)
    late = fleet("a", "b", since=time.time() + 200)
    assert (await look(context(), late)).identity == "2>1"
    assert (await look(context(within_sec=100.0), late)).identity == ""
    assert (await look(context(services=3), fleet("a", "b"))).identity == ""


@pytest.mark.parametrize(
    "documents",
    [
        (BAD,),  # nothing was before it
        (document(d={}), BAD),  # it dropped a service, whose user may be gone
        (orjson.dumps({"services": {"a": {}, "b": {}, "medic": {}}}), BAD),  # without a healer
        (orjson.dumps({"services": {"a": {}, "b": {}, "healer": {}}}), BAD),  # without a medic
        (document(healer={"tags": ["old"]}), BAD),  # it would have the healer changed
        (GOOD, tagged("a", "b", sentinel={})),  # it would end the sentinel
        (orjson.dumps({"fleet": "x", "services": orjson.loads(GOOD)["services"]}), BAD),  # another fleet
        (orjson.dumps({"buses": {"x": {}}, "services": orjson.loads(GOOD)["services"]}), BAD),  # other buses
        (GOOD, document(d={}, e={})),  # new services were never up
        (BAD, GOOD, BAD),  # it was in force before
    ],
)
async def test_a_step_that_is_not_safe_is_not_made(buses, context, documents):
    await seed(buses, *documents)
    assert (await look(context(), fleet("a", "b"))).identity == ""
    order = RemedyOrder("a", Remedy.ROLL_BACK_TRUTH, f"{len(documents)}>{len(documents) - 1}")
    result, said = await ROLL_BACK.carry_out(order, context())
    assert result is OrderResult.CHANGED, said
    assert await buses["system-redis"].client.get("truth:doc") == documents[-1]


async def test_an_old_truth_is_not_rolled_back(buses, context):
    await seed(buses, GOOD, BAD)
    later = time.time() + MAX_AGE_SEC + 1
    assert (await look(context(), fleet("a", "b"), now=later)).identity == ""


async def test_a_truth_that_was_in_force_for_a_moment_has_not_proved_itself(buses, context):
    await seed(buses, GOOD, BAD, apart_sec=200)
    assert (await look(context(), fleet("a", "b"))).identity == ""
    assert (await look(context(within_sec=100.0), fleet("a", "b"))).identity == "2>1"


async def test_a_truth_that_was_seeded_against_an_outage_is_not_taken_for_its_cause(buses, context):
    """Its services come up and go down again, also with the new truth."""
    await seed(buses, GOOD, BAD)
    outages = {"a": time.time() - 100, "b": time.time() - 100}
    assert (await look(context(outages=outages), fleet("a", "b"))).identity == ""
    outages = {"a": time.time() + 1, "b": time.time() + 1}
    assert (await look(context(outages=outages), fleet("a", "b"))).identity == "2>1"


async def test_only_the_revision_directly_before_is_put_back(buses, context):
    await seed(buses, GOOD, document(c={"tags": ["mid"]}), BAD)
    client = buses["system-redis"].client
    (_, (ident, _), _) = await client.xrange(TRUTH_HISTORY)
    assert (await look(context(), fleet("a", "b"))).identity == "3>2"
    await client.xdel(TRUTH_HISTORY, ident)
    assert (await look(context(), fleet("a", "b"))).identity == ""


@pytest.mark.parametrize("number", [0, 1])
async def test_a_revision_that_is_damaged_or_is_none_is_not_used(buses, context, number):
    await seed(buses, GOOD, BAD)
    client = buses["system-redis"].client
    entries = await client.xrange(TRUTH_HISTORY)
    await client.delete(TRUTH_HISTORY)
    for place, (_, fields) in enumerate(entries):
        junk = {b"doc": b'{"services": {}}'} if place == number else {}
        await client.xadd(TRUTH_HISTORY, {**fields, **junk})
    assert (await look(context(), fleet("a", "b"))).identity == ""


async def test_what_the_medic_put_back_stays_even_if_the_first_revision_is_forgotten(buses, context):
    await seed(buses, BAD, GOOD)
    client = buses["system-redis"].client
    (_, (ident, good)) = await client.xrange(TRUTH_HISTORY)
    await client.xdel(TRUTH_HISTORY, ident)
    await client.xadd(TRUTH_HISTORY, {**good, b"seeded_by": AUTHOR})
    found = await look(context(), fleet("a", "b"))
    assert (found.identity, found.results) == ("", {})


@pytest.mark.parametrize("junk", [None, {"revision": "3"}, {"sha256": "0" * 64}, {"revision": b"\xff"}])
async def test_a_step_is_provably_not_made_while_each_bus_has_the_truth_that_it_ends(buses, context, junk):
    await seed(buses, GOOD, BAD)
    assert (await look(context(), fleet())).undone == {"2>1"}
    client = buses["market-redis"].client
    await (client.hset("truth:meta", mapping=junk) if junk else client.set("truth:meta", "no hash"))
    assert (await look(context(), fleet("a", "b"))) == RemedyEvidence(identity="2>1")
    buses["market-redis"].connected = False
    assert (await look(context(), fleet())).undone == frozenset()


async def test_a_step_is_provably_made_once_each_bus_has_the_earlier_truth(buses, context):
    """A medic that ends in between leaves it on the first bus alone."""
    await seed(buses, GOOD, BAD)
    client = buses["system-redis"].client
    (_, good), (_, _) = await client.xrange(TRUTH_HISTORY)
    meta = {b"revision": b"3", b"sha256": good[b"sha256"], b"seeded_by": AUTHOR.encode()}
    await client.xadd(TRUTH_HISTORY, {**good, **meta})
    await client.hset("truth:meta", mapping=meta)
    assert await look(context(), fleet("a", "b")) == RemedyEvidence()
    await buses["market-redis"].client.hset("truth:meta", mapping=meta)
    assert (await look(context(), fleet("a", "b"))).results == {"2>1": True}


async def test_what_was_rolled_back_or_replaced_is_not_taken_for_a_step_that_was_not_made(buses, context):
    await seed(buses, GOOD, BAD, tagged("a"))
    assert (await look(context(), fleet())).undone == {"3>2"}
    await seed(buses, GOOD)
    assert (await look(context(), fleet())).undone.isdisjoint({"3>2", "2>1"})


async def test_the_revisions_are_read_once_a_round_however_many_services_are_down(
    buses, context, monkeypatch
):
    client, read = buses["system-redis"].client, []
    xrevrange = client.xrevrange
    monkeypatch.setattr(
        client, "xrevrange", lambda *words, **more: read.append(1) or xrevrange(*words, **more)
    )
    await seed(buses, GOOD, BAD)
    settings = HealingSettings.model_validate({"targets": dict.fromkeys("abc", LADDER)})
    found = await add_evidence(fleet("a", "b", "c"), settings, context(), time.time())
    known = {svc: target.evidence[Remedy.ROLL_BACK_TRUTH].identity for svc, target in found.targets.items()}
    assert known == {"a": "2>1", "b": "2>1", "c": ""}
    assert len(read) == 1
    await add_evidence(fleet(status="ok"), settings, context(), time.time())
    assert len(read) == 1, "with all services well, there is nothing to roll back"


def test_without_two_revisions_there_is_no_step_back():
    assert find_rollback([], 0.0) is None


# --- what the medic decides by it ---

LADDER = {"ladder": ["restart", "roll_back_truth"]}
STEP = {"evidence": {"roll_back_truth": RemedyEvidence(identity="2>1")}}
DONE = {"evidence": {"roll_back_truth": RemedyEvidence(results={"2>1": True})}}
UNDONE = {"evidence": {"roll_back_truth": RemedyEvidence(identity="2>1", undone=frozenset({"2>1"}))}}
HALF_DONE = {"evidence": {"roll_back_truth": RemedyEvidence(identity="2>1")}}


def broken(mode="act", others=(), **more):
    """Return a patient that went down with a new truth, so that `up` starts it again and again."""
    patient = Patient({"mode": mode, "targets": {"feed": {**LADDER, **more}}})
    patient.others = {name: TargetFacts(svc=name, health=each) for name, each in others}
    patient.look(2)
    patient.die()
    return patient


def propose(patient):
    patient.shown = STEP
    patient.look(20)
    return find_proposal(patient.planner.repairs["feed"])


def remedies(patient):
    return [order.remedy for _, order in patient.orders]


def test_it_is_proposed_before_a_restart_even_where_all_remedies_may_act():
    patient = broken()
    proposal = propose(patient)
    assert proposal.remedy == "roll_back_truth (revision 2 back to revision 1)"
    patient.look(600)
    assert remedies(patient) == []
    patient.approvals = {proposal.ident: "ann"}
    patient.look(1, obey=False)
    assert remedies(patient) == ["roll_back_truth"]


def test_it_is_carried_out_without_asking_where_the_truth_says_so_of_this_very_remedy():
    patient = broken(mode="observe", remedies={"roll_back_truth": "act"})
    patient.shown = STEP
    while not patient.orders:
        patient.look(1, obey=False)
    assert remedies(patient) == ["roll_back_truth"]


def test_the_modes_of_the_truth():
    def mode(**settings):
        return HealingSettings.model_validate(settings).mode_of("a", Remedy.ROLL_BACK_TRUTH)

    own = {"remedies": {"roll_back_truth": "act"}}
    assert mode(mode="act") == "propose"
    assert mode(mode="act", targets={"a": {"mode": "act"}}) == "propose"
    assert mode(mode="act", targets={"a": {"mode": "observe"}}) == "observe"
    assert mode(mode="observe") == "observe"
    assert mode(targets={"a": own}) == "act"


def test_it_is_verified_by_the_earlier_truth_in_force_and_the_service_up_again():
    patient = broken(remedies={"roll_back_truth": "act"})
    patient.shown = STEP
    while not patient.orders:
        patient.look(1, obey=False)
    patient.obey(patient.orders[0][1], OrderResult.DONE)
    patient.shown = DONE
    patient.look(10)
    assert patient.told()[-1] == "acted"
    patient.restart()
    patient.look(400)
    assert patient.told()[-3:] == ["restarted up", "verified", "resolved healed"]
    assert remedies(patient) == ["roll_back_truth"]


def test_a_service_that_stays_down_after_it_goes_on_with_the_ladder():
    patient = broken(remedies={"roll_back_truth": "act"})
    patient.shown = STEP
    while not patient.orders:
        patient.look(1, obey=False)
    patient.obey(patient.orders[0][1], OrderResult.DONE)
    patient.shown = DONE
    patient.look(120)
    assert patient.told().count("failed") == 1
    assert remedies(patient)[:2] == ["roll_back_truth", "restart"]


def order(patient, number):
    """Let the medic look until it has given so many orders."""
    while len(patient.orders) < number:
        patient.look(1, obey=False)


def leave_intent(shown):
    """Return a patient whose medic ended after the intent of a step back, and what the next one is shown."""
    patient = broken(remedies={"roll_back_truth": "act"})
    patient.shown = STEP
    order(patient, 1)
    patient.crash_medic()
    patient.shown = shown
    patient.look(9, obey=False)
    return patient


def test_a_step_that_a_dead_medic_provably_did_not_make_is_made_by_the_next_one():
    patient = leave_intent(UNDONE)
    assert patient.told()[-1] == "intended", "the request of a medic that was stopped may come yet"
    patient.look(3, obey=False)
    assert patient.told()[-1] == "abandoned undone"
    order(patient, 2)
    patient.crash_medic()
    order(patient, 3)
    assert remedies(patient) == ["roll_back_truth"] * 2 + ["restart"], "it may be what ends the medics"
    (first, _), (second, _), _ = patient.orders
    assert 60 <= second - first <= 62


@pytest.mark.parametrize("shown", [HALF_DONE, DONE])
def test_a_step_that_may_have_been_made_in_part_is_not_made_again(shown):
    patient = leave_intent(shown)
    assert patient.told()[3 if shown is DONE else -2] == ("acted" if shown is DONE else "abandoned unknown")
    patient.look(600, obey=False)
    assert remedies(patient).count("roll_back_truth") == 1


def test_a_proposal_for_one_step_is_not_carried_out_for_another_one():
    patient = broken()
    first = propose(patient)
    patient.shown = {"evidence": {"roll_back_truth": RemedyEvidence(identity="3>2")}}
    patient.approvals = {first.ident: "ann"}
    patient.look(3)
    assert (remedies(patient), find_proposal(patient.planner.repairs["feed"]).remedy) == (
        [],
        "roll_back_truth (revision 3 back to revision 2)",
    )


@pytest.mark.parametrize("is_cause", [True, False])
def test_a_crash_loop_is_no_escalation_while_the_truth_may_be_its_cause(is_cause):
    patient = broken()
    for number in range(CRASH_LOOP + 1):
        process = ProcessFacts(f"start {number}", is_waiting=True)
        is_last = number == CRASH_LOOP  # the second service is missed a little later
        patient.shown = {**(STEP if is_cause and is_last else {}), "processes": (process,)}
        patient.look(1 if is_last else 5)
    assert ("escalated crash_loop" in patient.told()) is not is_cause
    assert (patient.planner.repairs["feed"].proposed is Remedy.ROLL_BACK_TRUTH) is is_cause


def test_a_fleet_that_is_down_keeps_a_person_from_nothing_and_the_medic_from_acting():
    down = [("x", Health.DOWN), ("y", Health.DOWN)]
    patient = broken(others=down)
    proposal = propose(patient)
    assert proposal is not None
    patient.approvals = {proposal.ident: "ann"}
    patient.look(1, obey=False)
    assert remedies(patient) == ["roll_back_truth"]
    acting = broken(others=down, remedies={"roll_back_truth": "act"})
    acting.shown = STEP
    acting.look(60)
    assert (remedies(acting), acting.told()[-1]) == ([], "refused fleet_down")
    restarting = broken(others=down)
    restarting.shown = DONE
    restarting.look(60)
    assert (remedies(restarting), restarting.told()[-1]) == ([], "refused fleet_down")


def test_a_diagnosis_can_not_have_it_proposed():
    patient = broken()
    patient.shown = DONE
    patient.restart_helps = False
    patient.look(1000)
    assert patient.told()[-1] == "escalated exhausted"
    repair = patient.planner.repairs["feed"]
    plan = patient.planner.record_diagnosis(
        "feed", repair.incident, [Remedy.ROLL_BACK_TRUTH], "the truth is wrong", patient.now
    )
    assert [each.proposal for each in plan.entries] == [""]


def test_a_truth_must_have_broken_at_least_two_services():
    with pytest.raises(ValueError, match=r"settings\.rollback\.services"):
        MedicSettings.model_validate({"settings": {"rollback": {"services": 1}}})
