"""To clear a cache: which keys are deleted, on which bus, and when nothing is."""

import time

import orjson
import pytest

from marketswarm.agent.lease import LeaseLost, clock
from marketswarm.bus import matching_keys
from marketswarm.keys import last_beat_key
from marketswarm.testing import MemoryBuses
from marketswarm.truth import parse_truth
from services.medic.remedies import REMEDIES, OrderResult, Remedy, RemedyContext, RemedyOrder, beside
from services.medic.remedies.leased_write import LeasedWriter, TooLateError

POINTS = [{"bus": "market-redis", "key": "quotes"}]
TRUTH = {"services": {"board": {"access_points": {"publish_to": POINTS}}, "feed": {}}}
ORDER = RemedyOrder("board", Remedy.QUOTES_CACHE, "b1")


@pytest.fixture
def buses():
    opened = MemoryBuses()
    return {name: opened(name) for name in ("system-redis", "market-redis")}


@pytest.fixture
def carry_out(buses):
    truth = parse_truth(orjson.dumps(TRUTH)).truth

    def carry_out(order=ORDER, until=None):
        return REMEDIES[order.remedy].carry_out(order, RemedyContext(truth, buses.__getitem__, until=until))

    return carry_out


async def beat(buses, boot, svc="board"):
    text = orjson.dumps({"svc": svc, "i": 1, "ts": time.time(), "boot": boot, "status": "degraded"})
    await buses["system-redis"].client.set(last_beat_key(svc), text)


async def fill(buses, count=30):
    client = buses["market-redis"].client
    await client.mset({f"quotes:S{i}": "x" for i in range(count)})
    await client.mset({"chart:SPY:1m": "x", "truth:doc": "x", "my:quotes:SPY": "x"})
    await client.xadd("market:quotes", {"a": "b"})
    await client.xadd("quotes:stream", {"a": "b"})
    await buses["system-redis"].client.set("quotes:SPY", "of another bus")


async def names(bus):
    return sorted(name.decode() for name in await bus.client.keys("*"))


async def test_the_keys_of_the_pattern_are_deleted_on_the_one_bus_and_nothing_else(buses, carry_out):
    await beat(buses, "b1")
    await fill(buses)
    answer = await carry_out()
    assert answer == (OrderResult.DONE, "30 keys of quotes:* on market-redis deleted")
    left = ["chart:SPY:1m", "market:quotes", "my:quotes:SPY", "quotes:stream", "truth:doc"]
    assert await names(buses["market-redis"]) == left
    assert "quotes:SPY" in await names(buses["system-redis"])


@pytest.mark.parametrize("boot", ["b2", None])
async def test_nothing_is_deleted_if_another_process_beats_by_then(buses, carry_out, boot):
    await fill(buses)
    if boot is not None:
        await beat(buses, boot)
    assert await carry_out() == (OrderResult.CHANGED, "another process beats now")
    assert await buses["market-redis"].client.exists("quotes:S1")


async def test_a_cache_that_the_service_does_not_name_is_not_cleared(buses, carry_out):
    await beat(buses, "b1")
    await beat(buses, "b1", "feed")
    await fill(buses)
    for svc, remedy in (("board", Remedy.CHARTS_CACHE), ("feed", Remedy.QUOTES_CACHE)):
        result, said = await carry_out(RemedyOrder(svc, remedy, "b1"))
        assert (result, said.startswith("no access point of")) == (OrderResult.REFUSED, True)
    assert await buses["market-redis"].client.exists("quotes:S1", "chart:SPY:1m") == 2


async def test_an_attempt_deletes_a_bounded_number_of_keys_and_says_that_more_are_left(
    buses, carry_out, monkeypatch
):
    monkeypatch.setattr(beside, "MAX_DELETED", 20)
    await beat(buses, "b1")
    await fill(buses)
    assert (await carry_out())[1] == "20 keys of quotes:* on market-redis deleted, and more are left"
    assert (await carry_out())[1] == "10 keys of quotes:* on market-redis deleted"


async def test_a_bus_that_does_not_answer_leaves_open_what_was_done(buses, carry_out):
    await beat(buses, "b1")
    buses["market-redis"].connected = False
    result, said = await carry_out()
    assert result is OrderResult.UNKNOWN
    assert "market-redis" in said


TOO_LATE = (OrderResult.REFUSED, "the request came too late")


async def test_a_bus_refuses_what_a_medic_sends_that_stood_still_until_its_lease_had_ended(
    buses, carry_out, monkeypatch
):
    await beat(buses, "b1")
    await fill(buses)
    with pytest.raises(LeaseLost):
        await carry_out(until=clock() - 0.1)
    with monkeypatch.context() as patch:  # it stands still after its look at the lease
        patch.setattr("services.medic.remedies.leased_write.clock", lambda: clock() + 60)
        assert await carry_out(until=clock() + 50) == TOO_LATE
    assert await buses["market-redis"].client.exists("quotes:S1")
    assert (await carry_out(until=clock() + 50))[0] is OrderResult.DONE


async def test_what_was_deleted_before_the_lease_ended_is_on_record(buses, carry_out, monkeypatch):
    monkeypatch.setattr(matching_keys, "PAGE", 10)
    await beat(buses, "b1")
    await fill(buses)
    write, written = LeasedWriter.write, []

    async def write_once(self, command, keys, *args):
        if written:
            raise TooLateError
        written.extend(keys)
        return await write(self, command, keys, *args)

    monkeypatch.setattr(LeasedWriter, "write", write_once)
    result, said = await carry_out()
    assert (result, said.partition(" ")[0]) == (OrderResult.DONE, str(len(written)))
    assert said.endswith("and more are left")
