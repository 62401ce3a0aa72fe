"""To pause a source: which one, that its pause ends by itself, and that the next source verifies it."""

import time
from dataclasses import replace

import orjson
import pytest

from marketswarm.agent.lease import clock
from marketswarm.bus.circuit_breaker import BreakerState, CircuitBreaker
from marketswarm.keys import MARKET_QUARANTINE, MARKET_SERIES, MARKET_SOURCES, source_breaker_key
from marketswarm.testing import MemoryBuses
from marketswarm.truth import parse_truth
from services.medic import source_rejects
from services.medic.facts import FleetFacts, RemedyEvidence
from services.medic.remedies import REMEDIES, OrderResult, Remedy, RemedyContext, RemedyOrder
from services.medic.remedies.leased_write import LeasedWriter
from services.medic.remedies.pause import MAX_SERIES, choose_source, find_result, parse_series
from services.medic.repair import find_proposal
from services.medic.settings import HealingSettings
from services.medic.source_rejects import SourcePause, SourceReadings, read_rejects
from support.rig.receiver import Answer
from support.scenes import sources as scene
from support.scenes.sources import SourcesMarket, last_minutes
from support.simulation.patient import Patient

PAUSE = REMEDIES[Remedy.PAUSE_SOURCE]
TRUTH = parse_truth(b'{"services": {"sources": {}, "bars": {}, "feed": {}}}').truth
LIMIT = 10
COIN = replace(scene.COIN, history_days=0.1)


@pytest.fixture
async def bus():
    bus = MemoryBuses()("market-redis")
    await tell(bus, kraken=11, yahoo=0)
    await write_series(bus, "BTC:bars:1m", serving="kraken")
    return bus


@pytest.fixture
def context(bus):
    return lambda until=None, limit=LIMIT: RemedyContext(
        TRUTH, lambda _name: bus, settings=make_settings(limit), until=until
    )


def make_settings(limit):
    bad_source = None if limit is None else {"metric": "source_rejects", "above": limit}
    return HealingSettings.model_validate({"pause_sec": 600.0, "rules": {"bad_source": bad_source}})


async def tell(bus, **rejects):
    """Have the states of sources say how many answers in a row were of no use."""
    states = {name: orjson.dumps({"state": "up", "rejects": each}) for name, each in rejects.items()}
    await bus.client.hset(MARKET_SOURCES, mapping=states)


async def write_series(bus, name, *, serving, status="fresh", sources=("kraken", "yahoo"), paused_at=None):
    attempts = {} if paused_at is None else {"kraken": {"verdict": "paused", "at": paused_at}}
    state = {"from": sources, "serving": serving, "status": status, "attempts": attempts}
    await bus.client.hset(MARKET_SERIES, name, orjson.dumps(state))


async def look(context):
    return (await PAUSE.read_evidence(["sources"], FleetFacts(), context, 0.0)).get("sources")


async def carry_out(context, name="kraken"):
    return await PAUSE.carry_out(RemedyOrder("sources", Remedy.PAUSE_SOURCE, name), context)


async def test_the_worst_source_is_paused_for_a_while_and_serves_again_after_it(bus, context):
    assert await look(context()) == RemedyEvidence(identity="kraken")
    assert await carry_out(context(clock() + 5)) == (OrderResult.DONE, "kraken paused for 10 min")
    breaker = CircuitBreaker(bus, source_breaker_key("kraken"))
    reading = await breaker.read()
    assert (reading.state, 590 < reading.wait_sec <= 600) == (BreakerState.PAUSED, True)
    assert await bus.client.pttl(source_breaker_key("kraken")) > 80_000_000
    await bus.client.hset(source_breaker_key("kraken"), "paused", 1000 * int(time.time()) - 1)
    assert (await breaker.ask()).state is BreakerState.CLOSED
    assert await bus.client.hgetall(source_breaker_key("kraken")) == {}


async def test_a_load_that_passed_the_source_over_and_is_served_by_another_verifies_it(bus, context):
    await carry_out(context())
    seen = await look(context())
    assert seen == RemedyEvidence(results={"kraken": None}), "no series was loaded since"
    for serving, status, at, is_proof in (
        ("yahoo", "fresh", time.time() - 100, None),  # by a load before
        ("yahoo", "late", time.time() + 1, None),
        ("kraken", "fresh", time.time() + 1, None),
        ("yahoo", "fresh", time.time() + 1, True),
    ):
        await write_series(bus, "BTC:bars:1m", serving=serving, status=status, paused_at=at)
        seen = await look(context())
        assert seen.results == {"kraken": is_proof}, (serving, status)


@pytest.mark.parametrize("sec", [None, 100.0])
async def test_a_pause_of_an_operators_is_left_as_it_is(bus, context, sec):
    breaker = CircuitBreaker(bus, source_breaker_key("kraken"))
    await breaker.pause(sec)
    before = await bus.client.hgetall(source_breaker_key("kraken"))
    assert await look(context()) == RemedyEvidence()
    assert (await carry_out(context()))[0] is OrderResult.CHANGED
    assert await bus.client.hgetall(source_breaker_key("kraken")) == before
    await bus.client.delete(source_breaker_key("kraken"))
    await carry_out(context())
    await breaker.pause(sec)  # from now on it is the operator's
    assert (await look(context())).results == {}


async def test_a_pause_is_no_longer_than_it_was_to_be_if_the_clock_of_the_bus_was_ahead(bus, context):
    await carry_out(context(clock() + 5))
    key = source_breaker_key("kraken")
    ends_ms, length = (await bus.client.hget(key, "pause_length")).decode().split(":")
    assert (await bus.client.hget(key, "paused"), length) == (ends_ms.encode(), "600000")
    ahead_ms = int(ends_ms) + 3_600_000
    await bus.client.hset(key, mapping={"paused": ahead_ms, "pause_length": f"{ahead_ms}:{length}"})
    assert 0 < (await CircuitBreaker(bus, key).read()).wait_sec <= 600


async def test_an_operator_who_pauses_it_at_that_very_moment_is_not_overruled(bus, context, monkeypatch):
    begin = LeasedWriter.begin

    async def begin_after_a_pause(bus, until):
        await CircuitBreaker(bus, source_breaker_key("kraken")).pause(None)
        return await begin(bus, until)

    monkeypatch.setattr(LeasedWriter, "begin", begin_after_a_pause)
    assert await carry_out(context()) == (OrderResult.CHANGED, "kraken is paused already")
    assert (await CircuitBreaker(bus, source_breaker_key("kraken")).read()).wait_sec is None


async def test_nothing_is_paused_after_the_lease_ended_or_for_another_source(bus, context, monkeypatch):
    with monkeypatch.context() as patch:  # it stands still after its look at the lease
        patch.setattr("services.medic.remedies.leased_write.clock", lambda: clock() + 60)
        result = await carry_out(context(clock() + 50))
    assert result == (OrderResult.REFUSED, "the request came too late")
    assert (await carry_out(context(), "yahoo"))[0] is OrderResult.CHANGED
    assert (await carry_out(context(limit=None)))[0] is OrderResult.CHANGED
    assert await bus.client.keys("sources:breaker:*") == []


def readings(down=(), paused=(), **rejects):
    pauses = {name: SourcePause() for name in paused}
    return SourceReadings(rejects, frozenset(down), pauses)


def series(*sources):
    return parse_series({"from": list(sources)})


@pytest.mark.parametrize(
    ("seen", "found"),
    [
        (readings(a=11, b=0), "a"),
        (readings(a=10, b=0), None),  # not beyond the rule
        (readings(a=11, b=30, c=0), "b"),
        (readings(a=11, b=11, c=0), "a"),
        (readings(a=11, b=0, paused="a"), None),
        (readings(a=11, b=0, c=0, down=("b", "c")), None),  # no other one could serve
        (readings(a=11, b=0, c=0, paused=("b", "c")), None),
        (readings(a=11, b=12, c=13), None),
        (readings(x=99, a=0), None),  # no series names it
    ],
)
def test_a_source_is_paused_only_if_another_one_can_serve_each_of_its_series(seen, found):
    assert choose_source(seen, [series("a", "b", "c")], LIMIT) == found


def test_a_source_that_is_the_only_one_of_a_series_is_never_paused():
    assert choose_source(readings(a=11, b=0), [series("a", "b"), series("a")], LIMIT) is None
    assert choose_source(readings(a=11, b=0), [], LIMIT) is None


def test_a_result_counts_the_series_that_were_loaded_since_and_no_others():
    def loaded(at, serving="b", status="fresh"):
        attempts = {"a": {"verdict": "paused", "at": at}}
        return parse_series({"from": ["a", "b"], "serving": serving, "status": status, "attempts": attempts})

    pause = SourcePause(is_medics=True, begun_at=1000.0)
    assert find_result("a", pause, [loaded(1000), loaded(999, status="late"), series("a", "b")]) is True
    assert find_result("a", pause, [loaded(1000), loaded(1001, status="failed")]) is None
    assert find_result("a", pause, [loaded(1000, status="closed")]) is True
    assert find_result("a", pause, [loaded(1000, serving="")]) is None
    assert find_result("a", pause, [loaded(999)]) is None


async def quarantine(bus, source, check, count, at=None):
    for _ in range(count):
        ident = "*" if at is None else f"{round(1000 * at)}-*"
        await bus.client.xadd(MARKET_QUARANTINE, {"check": check, "source": source}, id=ident)


async def test_bad_records_in_quarantine_count_for_their_source_and_late_ones_do_not(bus):
    await quarantine(bus, "yahoo", "jump", 50, time.time() - source_rejects.WITHIN_SEC - 60)
    await quarantine(bus, "yahoo", "jump", 7)
    await quarantine(bus, "yahoo", "price_order", 7)
    for check in ("duplicate", "too_late", "monotone_time", "", "JUNK"):
        await quarantine(bus, "yahoo", check, 3)
    await quarantine(bus, "../x", "jump", 40)
    found = await read_rejects(TRUTH, lambda _name: bus)
    assert found.rejects == {"kraken": 11, "yahoo": 14}
    assert (found.list_bad(10), found.find_most_rejects()) == (["yahoo", "kraken"], 14)


@pytest.mark.parametrize(
    "junk", ["", "[]", "{}", '{"rejects": "99"}', '{"rejects": -5}', '{"rejects": 1e99}', '{"rejects": true}']
)
async def test_a_state_that_can_not_be_used_pauses_nothing(bus, context, junk):
    await bus.client.hset(MARKET_SOURCES, mapping={"kraken": junk, "a b": '{"rejects": 99}'})
    assert await look(context()) == RemedyEvidence()


@pytest.mark.parametrize(
    "junk",
    [
        {"from": "kraken"},
        {"from": [1, None, ["kraken"]]},
        {"from": ["kraken"], "attempts": []},
        {"from": ["kraken", "yahoo"], "attempts": {"kraken": {"verdict": "paused", "at": "x"}}, "status": []},
    ],
)
async def test_a_series_that_can_not_be_used_proves_nothing(bus, context, junk):
    await carry_out(context())
    await bus.client.hset(MARKET_SERIES, "BTC:bars:1m", orjson.dumps(junk))
    assert (await look(context())).results == {"kraken": None}


async def test_with_too_many_series_nothing_is_known(bus, context):
    await bus.client.hset(MARKET_SERIES, mapping={f"s{n}": "{}" for n in range(MAX_SERIES)})
    assert await look(context()) is None


def test_a_pause_that_helps_heals_the_outage_and_the_source_is_paused_once():
    ladder = {"ladder": ["pause_source", "restart"]}
    patient = Patient({"mode": "act", "degraded_sec": 5, "targets": {"feed": ladder}}, clear_helps=False)
    patient.shown = {"evidence": {"pause_source": RemedyEvidence(identity="kraken")}}
    patient.go_stale()
    while not patient.orders:
        patient.look(1, obey=False)
    patient.obey(patient.orders[0][1], OrderResult.DONE)
    patient.shown = {"evidence": {"pause_source": RemedyEvidence(results={"kraken": None})}}
    patient.stale_at = None
    patient.look(120)
    assert patient.told()[-1] == "acted", "the next source does not serve yet"
    patient.shown = {"evidence": {"pause_source": RemedyEvidence(results={"kraken": True})}}
    patient.look(310)
    assert patient.told()[-3:] == ["acted", "verified", "resolved healed"]
    assert [(each.remedy, each.identity) for _, each in patient.orders] == [("pause_source", "kraken")]


def test_a_proposal_to_pause_one_source_is_not_carried_out_for_another_one():
    targets = {"feed": {"ladder": ["pause_source"]}}
    patient = Patient({"mode": "propose", "degraded_sec": 5, "targets": targets}, clear_helps=False)
    patient.shown = {"evidence": {"pause_source": RemedyEvidence(identity="kraken")}}
    patient.go_stale()
    patient.look(15)
    first = find_proposal(patient.planner.repairs["feed"])
    assert first.remedy == "pause_source (source kraken)"
    patient.shown = {}
    patient.look(2)
    assert find_proposal(patient.planner.repairs["feed"]) == first, "it waits while nothing is known"
    patient.shown = {"evidence": {"pause_source": RemedyEvidence(identity="yahoo")}}
    patient.approvals = {first.ident: "ann"}
    patient.look(3)
    second = find_proposal(patient.planner.repairs["feed"])
    assert (second.remedy, patient.orders) == ("pause_source (source yahoo)", [])
    patient.approvals = {second.ident: "ann"}
    patient.look(3)
    assert [each.identity for _, each in patient.orders] == ["yahoo"]


def answer_corruptly(_request):
    """Answer as Coinbase does, with lows above the highs."""
    return Answer(200, {}, orjson.dumps([[at, 9, 3, 2, 2, 5] for at in last_minutes()]))


async def test_a_real_load_after_the_pause_is_served_by_the_next_source_and_verifies_it():
    async with SourcesMarket() as market:
        market["coinbase"].choose = answer_corruptly
        context = RemedyContext(TRUTH, lambda _name: market.bus, settings=make_settings(2))
        for _ in range(3):
            assert (await market.load(COIN)).state.serving == "kraken"
            assert await look(context) != RemedyEvidence(identity="kraken")
            await market.bus.client.hdel(MARKET_SERIES, COIN.id)  # or the source would be left out
        await market.load(COIN)
        assert await look(context) == RemedyEvidence(identity="coinbase")
        assert (await carry_out(context, "coinbase"))[0] is OrderResult.DONE
        assert (await look(context)).results == {"coinbase": None}
        await market.bus.client.hdel(MARKET_SERIES, COIN.id)
        loaded = await market.load(COIN)
        assert [(each.source, each.verdict) for each in loaded.findings] == [
            ("coinbase", "paused"),
            ("kraken", "fresh"),
        ]
        assert (await look(context)).results == {"coinbase": True}
