"""To have sources load its series now: who may be asked, and that one request is for one process."""

from types import SimpleNamespace

import orjson

from marketswarm.agent.lease import clock
from marketswarm.agent.requests import RequestDesk, RequestOutcome
from marketswarm.keys import SOURCES_RELOAD_REQUEST, last_beat_key
from marketswarm.operator.service_reports import ServiceRequest
from marketswarm.testing import MemoryBuses
from marketswarm.truth import parse_truth
from services.medic.facts import FleetFacts, RemedyEvidence, TargetFacts
from services.medic.remedies import REMEDIES, OrderResult, Remedy, RemedyContext, RemedyOrder
from services.medic.settings import MedicSettings
from support.recording_log import RecordingLog

RELOAD = REMEDIES[Remedy.RELOAD_SERIES]
TRUTH = parse_truth(orjson.dumps({"services": {"sources": {}, "archive": {}}})).truth


async def test_sources_is_asked_once_and_what_it_reports_is_the_verdict():
    bus = MemoryBuses()("system-redis")
    context = RemedyContext(TRUTH, lambda _name: bus, until=clock() + 5)
    facts = FleetFacts({svc: TargetFacts(svc=svc, boot="b1") for svc in TRUTH.services})
    outcomes = [RequestOutcome(loaded=2), RequestOutcome(why="not fresh: SPY:bars:1m (yahoo down)")]

    async def reload():
        return outcomes.pop(0)

    beat = {"svc": "sources", "i": 1, "ts": 1, "boot": "b1"}
    await bus.client.set(last_beat_key("sources"), orjson.dumps(beat))
    for has_helped in (True, False):
        me = SimpleNamespace(name="sources", boot="b1", bus=lambda _name: bus, log=RecordingLog())
        desk = RequestDesk(Remedy.RELOAD_SERIES, me, reload)
        known = await RELOAD.read_evidence(["sources", "archive"], facts, context, 0.0)
        assert known["archive"] == RemedyEvidence(), "it loads no series"
        identity = known["sources"].identity
        assert identity.startswith("reload_series.")
        order = RemedyOrder("sources", Remedy.RELOAD_SERIES, identity)
        assert (await RELOAD.carry_out(order, context))[0] is OrderResult.DONE
        request = ServiceRequest.parse(await bus.client.get(SOURCES_RELOAD_REQUEST))
        assert (request.id, request.boot) == (identity, "b1")
        await desk.look()
        after = await RELOAD.read_evidence(["sources"], facts, context, 0.0)
        assert after["sources"].results == {identity: has_helped}
    elsewhere = RemedyOrder("archive", Remedy.RELOAD_SERIES, "reload_series.0")
    assert (await RELOAD.carry_out(elsewhere, context))[0] is OrderResult.REFUSED


def test_a_ladder_of_a_service_that_loads_nothing_is_warned_of():
    for svc, count in (("sources", 0), ("archive", 1)):
        settings = {"settings": {"targets": {svc: {"ladder": ["reload_series"]}}}}
        assert len(list(MedicSettings.model_validate(settings).find_truth_warnings(TRUTH))) == count
