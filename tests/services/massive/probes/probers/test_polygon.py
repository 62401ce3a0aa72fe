"""Is the market data API there, and does it know us: a stand-in for it says."""

import asyncio
from dataclasses import replace

import pytest
from pydantic import SecretStr

from services.massive.probes.probers.context import ProbeContext, SystemLookUp
from services.massive.probes.probers.polygon import probe
from services.massive.settings import MassiveEnvironment
from services.massive.targets import Polygon
from support.fixtures import opened
from support.rig import free_port
from support.rig.market_api import KEY, SmallMarket, ending, mute
from support.waiting import PATIENT_SEC

TARGET = Polygon(name="api")

market = opened(SmallMarket)


@pytest.fixture
def context(market):
    look_up = SystemLookUp(1)
    yield ProbeContext(20.0, look_up, api_key=SecretStr(KEY), rest_url=market.rest, ws_url=market.ws)
    look_up.close()


async def test_one_that_answers_and_knows_us_is_well(market, context):
    found = await probe(TARGET, context)
    assert (found.stage, found.error, found.where) == ("done", None, market.rest.removeprefix("http://"))
    assert found.facts == {"market": "open", "by": "login"}
    assert set(found.ms) == {"rest", "ws", "total"}
    assert market.keys == [KEY]
    assert market.requests[0][0] == "/v1/marketstatus/now"
    assert KEY not in repr(found)


async def test_a_key_that_will_not_do_is_told_by_both(market, context):
    found = await probe(TARGET, replace(context, api_key=SecretStr("another")))
    assert (found.stage, found.error) == ("rest", "http_401")
    market.answers.append((200, {}, b'{"market":"closed"}'))
    found = await probe(TARGET, replace(context, api_key=SecretStr("another")))
    assert (found.stage, found.error, found.facts["market"]) == ("ws", "auth_failed", "closed")


@pytest.mark.parametrize(
    ("answer", "word", "timeout_sec"),
    [
        ((500, {}, b""), "http_500", 20),
        ((200, {}, b"<html>"), "malformed", 20),
        ((200, {"Content-Length": "9"}, b""), "timeout", 0.6),
    ],
)
async def test_a_rest_side_that_fails_is_a_word(market, context, answer, word, timeout_sec):
    market.answers.append(answer)
    async with asyncio.timeout(PATIENT_SEC):
        found = await probe(TARGET, replace(context, timeout_sec=timeout_sec))
    assert (found.stage, found.error) == ("rest", word)
    assert not market.met


async def test_what_it_says_of_the_market_is_theirs(market, context):
    market.answers.append((200, {}, b'{"market":["open"]}'))
    assert (await probe(TARGET, context)).facts["market"] == "unknown"


async def test_a_stream_that_is_mute_or_away_is_a_word(market, context):
    market.moods.append(mute)
    found = await probe(TARGET, replace(context, timeout_sec=2.0))  # REST is answered before it
    assert (found.stage, found.error) in {("ws", "timeout"), ("ws", "silent")}
    found = await probe(TARGET, replace(context, ws_url=f"ws://127.0.0.1:{free_port()}"))
    assert (found.stage, found.error) == ("ws", "refused")


async def test_while_we_stream_ourselves_nothing_is_opened_beside_it(market, context):
    """A second connection would throw out the first."""
    found = await probe(TARGET, replace(context, market_stream=lambda: "streaming"))
    assert (found.error, found.facts["by"]) == (None, "our own stream")
    found = await probe(TARGET, replace(context, market_stream=lambda: "max_connections"))
    assert (found.stage, found.error) == ("ws", "max_connections")
    assert (await probe(TARGET, replace(context, market_stream=lambda: "connecting"))).error is None
    assert not market.met


async def test_who_streams_elsewhere_leaves_the_websocket_out(market, context):
    found = await probe(Polygon(name="api", websocket=False), context)
    assert (found.error, "by" in found.facts, market.met) == (None, False, [])


async def test_one_that_lets_us_in_and_throws_us_out_has_let_us_in(market, context):
    market.moods.append(ending("max_connections"))
    assert (await probe(TARGET, context)).error is None


async def test_without_a_key_it_is_no_probe(context):
    assert (await probe(TARGET, replace(context, api_key=None))).error == "no_key"


def test_without_a_key_it_is_off_and_says_why(monkeypatch):
    monkeypatch.delenv("POLYGON_API_KEY", raising=False)
    assert MassiveEnvironment().why_off("polygon") == "POLYGON_API_KEY is not set"
    assert MassiveEnvironment(polygon_api_key=KEY).why_off("polygon") is None
    assert (
        MassiveEnvironment(polygon_api_key=KEY, net_polygon_enabled=False).why_off("polygon")
        == "NET_POLYGON_ENABLED"
    )
    assert MassiveEnvironment(net_polygon_timeout_sec=7).timeout_sec("polygon") == 7


@pytest.mark.parametrize("key", ["two words", "a\nb", "\u00fc", "  "])
def test_a_key_that_would_break_a_header_is_refused_without_being_shown(monkeypatch, key):
    monkeypatch.setenv("POLYGON_API_KEY", key)
    with pytest.raises(ValueError, match="polygon_api_key") as error:
        MassiveEnvironment()
    assert key.strip() not in str(error.value) or not key.strip()
