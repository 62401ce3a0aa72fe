"""Evidence of an outage: what is kept of it, for which outages, and what is not believed of it later."""

import asyncio
import random
from dataclasses import replace
from itertools import pairwise

import orjson
import pytest

from marketswarm.operator.healing import EntryKind, OutageEvidence, TimelineEntry
from marketswarm.packed_log import LOG_LINES, MAX_PACKED, pack_log, unpack_log
from marketswarm.secret_rules import REMOVED
from services.medic.diagnosis.outage_evidence import MOST, EvidenceCollector
from services.medic.facts import FleetFacts, Health, Symptom, TargetFacts
from services.medic.owners.embedded_fleet import FleetLogs
from services.medic.owners.log_source import LogSource
from services.medic.planner import RepairPlan
from services.medic.remedies import Remedy
from services.medic.repair import AttemptVerdict, RemedyAttempt, Repair, RepairState

FACTS = FleetFacts({"feed": TargetFacts(svc="feed", health=Health.DOWN, down_sec=12.5, status="ok")})
DONE = [AttemptVerdict.FAILED, AttemptVerdict.RELAPSED, AttemptVerdict.ABANDONED, AttemptVerdict.VERIFIED]
NOT_DONE = [AttemptVerdict.UNDONE, AttemptVerdict.EXPIRED]


def plan(what=EntryKind.INTENDED, *attempts, names=("feed",)):
    entries, repairs = [], {}
    for svc in names:
        incident = f"{svc}.1"
        entries.append(TimelineEntry(incident=incident, ts=1.0, svc=svc, what=what, remedy="restart"))
        about = {"symptom": Symptom.SILENT, "down_since": 1.0, "opened_at": 1.0, "since": 1.0}
        repair = Repair(incident=incident, svc=svc, **about, state=RepairState.INTENDED)
        repairs[svc] = replace(repair, attempts=attempts)
    return RepairPlan(tuple(entries), repairs)


def attempt(verdict, remedy=Remedy.RESTART):
    return RemedyAttempt(remedy, 1.0, verdict=verdict)


def read_nothing(_svc):
    return {}


async def collect(sources, wanted, secrets=(), list_resources=read_nothing):
    return await EvidenceCollector(sources, secrets).collect(wanted, FACTS, list_resources)


async def test_the_end_of_the_log_the_state_and_the_measurements_are_kept_without_secrets(tmp_path):
    lines = [f'{{"event":"line {at}","level":"info"}}' for at in range(600)]
    lines[-1] = "the password=hunter2hunter2, and the word sesame-open"
    (tmp_path / "feed.log").write_text("\n".join(lines) + "\n")
    pending = attempt(AttemptVerdict.PENDING)
    (found,) = await collect(
        [FleetLogs(tmp_path)],
        plan(EntryKind.INTENDED, pending),
        ["sesame-open"],
        lambda svc: {"process_cpu": 99.0} if svc == "feed" else {},
    )
    assert (found.svc, found.incident, found.step) == ("feed", "feed.1", "intended restart")
    assert (found.facts["health"], found.facts["down_sec"], found.facts["status"]) == ("down", 12.5, "ok")
    assert found.readings == {"process_cpu": 99.0}
    kept = unpack_log(found.packed_log)
    assert kept[:-1] == lines[100:-1]
    assert len(kept) == LOG_LINES
    assert "hunter2" not in kept[-1]
    assert "sesame" not in kept[-1]
    assert kept[-1].count(REMOVED) == 2
    assert OutageEvidence.parse(found.encode()) == found


async def test_an_outage_that_was_treated_before_has_its_evidence_and_a_wait_is_no_treatment(tmp_path):
    waited = attempt(AttemptVerdict.FAILED, Remedy.WAIT)
    for verdict in NOT_DONE:
        assert len(await collect([], plan(EntryKind.INTENDED, waited, attempt(verdict)))) == 1
    for verdict in DONE:
        assert await collect([], plan(EntryKind.ESCALATED, waited, attempt(verdict))) == ()
    for what in (EntryKind.OPENED, EntryKind.WAITING, EntryKind.REFUSED, EntryKind.RESOLVED):
        assert await collect([], plan(what)) == ()
    observed = plan(EntryKind.REFUSED)
    observed = replace(observed, entries=(replace(observed.entries[0], reason="observed"),))
    for each in (observed, plan(EntryKind.PROPOSED), plan(EntryKind.ESCALATED)):
        (found,) = await collect([], each)
        assert unpack_log(found.packed_log) == []


async def test_many_outages_at_once_cost_a_bounded_time(tmp_path):
    asked = []

    class Hanging(LogSource):
        def list_logs(self, _services):
            return {}

        async def read_end(self, svc):
            asked.append(svc)
            await asyncio.sleep(3600)

    began = asyncio.get_running_loop().time()
    found = await collect([Hanging()], plan(names=[f"svc{at}" for at in range(50)]))
    assert asyncio.get_running_loop().time() - began < 20
    assert len(found) == len(asked) == MOST
    assert {each.packed_log for each in found} == {""}


@pytest.mark.slow
@pytest.mark.parametrize("piece", ["x-api-", " ", "x://y", "password: "])
async def test_no_line_of_a_log_stands_the_medic_still(tmp_path, piece):
    """The lease and the beats are kept on the event loop while evidence is taken."""
    hostile = f"the secret is {piece * (60_000 // len(piece))}\n"
    (tmp_path / "feed.log").write_text(f"first\n{hostile}next\nlast of them\n")
    loop = asyncio.get_running_loop()
    looks, taking = [loop.time()], asyncio.ensure_future(collect([FleetLogs(tmp_path)], plan()))
    while not taking.done():
        await asyncio.sleep(0.005)
        looks.append(loop.time())
    (found,) = await taking
    assert looks[-1] - looks[0] < 2.5
    assert max(later - earlier for earlier, later in pairwise(looks)) < 1.0
    assert unpack_log(found.packed_log)[-1] == "last of them"


def test_a_log_that_packs_badly_loses_its_first_lines():
    noise = random.Random(7)
    lines = ["".join(noise.choices("0123456789abcdefghijklmnopqrstuvwxyz", k=120)) for _ in range(400)]
    packed = pack_log("\n".join(lines))
    assert 0 < len(packed) <= MAX_PACKED
    kept = unpack_log(packed)
    assert 20 < len(kept) < 400
    assert lines[-len(kept) :] == kept


@pytest.mark.parametrize("packed", ["", "no base64!", "aGVsbG8=", pack_log("a\n" * 400)[:-8]])
def test_what_another_user_wrote_is_bounded_and_no_error(packed):
    known = {
        "svc": "a",
        "incident": "a.1",
        "ts": 1.0,
        "step": "intended restart",
        "facts": {},
        "readings": {},
    }
    found = OutageEvidence.parse(orjson.dumps({**known, "packed_log": packed}))
    assert len(unpack_log(found.packed_log)) <= LOG_LINES
    bomb = pack_log("x" * 10_000_000)
    found = OutageEvidence.parse(orjson.dumps({**known, "packed_log": bomb}))
    assert sum(map(len, unpack_log(found.packed_log))) < 200_000
    for more in (
        {"facts": {"a": "x" * 501}},
        {"facts": {str(at): 1 for at in range(31)}},
        {"readings": {"a": "1e400"}},
    ):
        assert OutageEvidence.parse(orjson.dumps({**known, **more})) is None
