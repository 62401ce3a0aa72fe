"""Loads of corporate actions from stand-ins of sources, over a bus in memory."""

from dataclasses import replace
from datetime import date

import orjson
import pytest

from marketswarm.keys import MARKET_ACTIONS
from services.market.entries import parse_action
from services.market.records import ActionKind, AssetClass, CorporateAction, RecordKind
from services.sources.cascade.series import Series
from services.sources.cascade.state import SeriesStatus, SourceVerdict
from services.sources.catalog.request import ApiKey
from support.catalog_samples import SAMPLES
from support.rig.receiver import Answer
from support.scenes.sources import SourcesMarket

APPLE = Series(
    "AAPL", RecordKind.ACTIONS, "", AssetClass.STOCKS, "XNYS", ("yahoo", "tiingo"), 172_800.0, 7305.0
)
HALF_A_DAY_SEC = 43_200.0
SAMPLE = (SAMPLES / "yahoo.actions.json").read_bytes()
NO_EVENTS = orjson.dumps({"chart": {"result": [{"meta": {}, "timestamp": [1, 2]}], "error": None}})


def dividend(day, amount=None):
    return CorporateAction("AAPL", ActionKind.DIVIDEND, date.fromisoformat(day), amount=amount)


def split(day, ratio):
    return CorporateAction("AAPL", ActionKind.SPLIT, date.fromisoformat(day), ratio=ratio)


ALL = [
    dividend("2012-08-09", 2.650004),
    split("2014-06-09", 7.0),
    dividend("2020-08-07", 0.82),
    split("2020-08-31", 4.0),
    dividend("2020-11-06", 0.205),
]


@pytest.fixture
async def market():
    answers = dict.fromkeys(("yahoo", "tiingo"), lambda _request: Answer(200, {}, SAMPLE))
    async with SourcesMarket(answers) as market:
        market.keys = {"tiingo": (ApiKey("a-key"),)}
        yield market


async def read_actions(market):
    return [parse_action(fields) for _, fields in await market.bus.client.xrange(MARKET_ACTIONS)]


async def test_actions_are_published_once_with_what_was_paid(market):
    result = await market.load(APPLE)
    assert (result.state.status, result.state.serving, result.new) == (SeriesStatus.FRESH, "yahoo", 5)
    assert await read_actions(market) == ALL
    assert (await market.load(APPLE)).findings == (), "the answer counts for hours"
    market.ahead_sec = HALF_A_DAY_SEC
    assert (await market.load(APPLE)).new == 0
    assert len(market["yahoo"].seen) == 2, "nothing older is asked for besides"


async def test_an_action_that_a_source_does_not_name_any_more_is_withdrawn(market):
    await market.load(APPLE)
    document = orjson.loads(SAMPLE)
    del document["chart"]["result"][0]["events"]["dividends"]["1604673000"]
    market["yahoo"].choose = lambda _request: Answer(200, {}, orjson.dumps(document))
    market.ahead_sec = HALF_A_DAY_SEC
    assert (await market.load(APPLE)).new == 1
    assert (await read_actions(market))[5:] == [dividend("2020-11-06")]
    market["yahoo"].choose = lambda _request: Answer(200, {}, NO_EVENTS)
    market.ahead_sec += HALF_A_DAY_SEC
    assert (await market.load(APPLE)).new == 0, "an answer without any is most likely wrong"


async def test_a_share_without_actions_is_fresh_and_no_other_source_is_asked(market):
    market["yahoo"].choose = lambda _request: Answer(200, {}, NO_EVENTS)
    result = await market.load(APPLE)
    assert (result.state.status, result.state.serving, result.new) == (SeriesStatus.FRESH, "yahoo", 0)
    assert result.state.newest_ms is not None
    assert market["tiingo"].seen == []


@pytest.mark.parametrize("numerator", ["four", None, 0])
async def test_a_row_that_can_not_be_is_not_guessed_around(market, numerator):
    """Of an adjusted list a split that can't be read leaves all amounts before it unknown."""
    document = orjson.loads(SAMPLE)
    document["chart"]["result"][0]["events"]["splits"]["1598880600"]["numerator"] = numerator
    market["yahoo"].choose = lambda _request: Answer(200, {}, orjson.dumps(document))
    rows = [{"date": "2020-08-07T00:00:00.000Z", "divCash": 0.82, "splitFactor": 1.0}]
    market["tiingo"].choose = lambda _request: Answer(200, {}, orjson.dumps(rows))
    result = await market.load(APPLE)
    assert [each.verdict for each in result.findings] == [SourceVerdict.WRONG, SourceVerdict.FRESH]
    assert await read_actions(market) == [dividend("2020-08-07", 0.82)]


async def test_a_source_that_lacks_most_amounts_does_not_serve(market):
    """The splits alone would be a return without dividends."""
    events = orjson.loads(SAMPLE)
    for each in events["chart"]["result"][0]["events"]["dividends"].values():
        each["amount"] = None
    market["yahoo"].choose = lambda _request: Answer(200, {}, orjson.dumps(events))
    result = await market.load(replace(APPLE, sources=("yahoo",)))
    assert [each.verdict for each in result.findings] == [SourceVerdict.WRONG]
    assert await read_actions(market) == []
