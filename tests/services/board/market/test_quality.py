"""How good the minutes of a trading day are."""

from datetime import UTC, datetime

import orjson
import pytest

from marketswarm.bus.stream import StreamEntry
from marketswarm.keys import MARKET_QUARANTINE
from marketswarm.testing import MemoryBus
from services.board.market.archive_reader import BuiltDay, MinuteCount
from services.board.market.quality import (
    DayQuality,
    JudgedDay,
    Rejections,
    judge_days,
    list_days,
    parse_rejected,
    read_rejections,
    spread_days,
)
from services.market.sessions import get_session


def to_ms(text):
    return round(1000 * datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def test_the_last_trading_days_skip_weekends_and_the_running_one_counts_up_to_now():
    now = to_ms("2026-01-05T15:30")  # a Monday, an hour after the open
    days = list_days("SPY", get_session("XNYS"), now, 3)
    assert [(one.day, one.expected) for one in days] == [
        ("2026-01-05", 60),
        ("2026-01-02", 390),
        ("2025-12-31", 390),
    ]
    assert (days[0].open_ms, days[0].until_ms) == (to_ms("2026-01-05T14:30"), now)
    assert spread_days(days)[0] == ["SPY"] * 3


def test_an_early_close_and_a_lunch_break_are_not_missing():
    half = list_days("SPY", get_session("XNYS"), to_ms("2026-11-28T00:00"), 1)
    assert [(one.day, one.expected) for one in half] == [("2026-11-27", 210)]
    (tokyo,) = list_days("7203.T", get_session("XTKS"), to_ms("2026-01-07T00:00") - 1, 1)
    assert tokyo.expected == 330, "from 9:00 to 15:30 without an hour"
    assert list_days("X", get_session("XNYS"), to_ms("1850-01-01T00:00"), 2) == []


def test_what_sources_served_is_added_up_and_what_lacks_is_missing():
    day = JudgedDay("SPY", "2026-01-05", 1000, 2000, 390)
    other = JudgedDay("SPY", "2026-01-02", 0, 10, 390)
    counts = [
        MinuteCount("SPY", 1000, "yahoo", 80, 5, False),
        MinuteCount("SPY", 1000, "massive", 300, 1, False),
        MinuteCount("QQQ", 1000, "yahoo", 9, 0, False),
    ]
    rejections = Rejections()
    rejections.rejected["SPY", "2026-01-05"] = 4
    rejections.disagreements["SPY", "2026-01-05"] = 3
    first, second = judge_days([day, other], counts, rejections)
    sources = (("massive", 300), ("yahoo", 80))
    assert first == DayQuality("SPY", "2026-01-05", 390, 380, 6, 3, 4, sources)
    assert (first.missing, second.missing, second.sources) == (10, 390, ())


def make_rejected(symbol=b"SPY", **record):
    return StreamEntry(b"1-1", 0, {b"sym": symbol, b"check": b"jump", b"fields": orjson.dumps(record)})


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        (make_rejected(start=str(to_ms("2026-01-05T15:00"))), ("SPY", "2026-01-05")),
        (make_rejected(at=str(to_ms("2026-01-05T22:00"))), ("SPY", "2026-01-06")),  # an evening of forex
        (make_rejected(start="soon"), None),
        (make_rejected(start=str(10**15)), None),
        (make_rejected(b"<b>", start="5"), None),
        (StreamEntry(b"1-1", 0, {b"sym": b"SPY", b"fields": b"[]"}), None),
        (StreamEntry(b"1-1", 0, {b"sym": b"SPY", b"fields": b"{"}), None),
        (StreamEntry(b"1-1", 0, None), None),
    ],
)
def test_a_rejected_record_counts_on_the_day_of_its_own_time(entry, key):
    assert parse_rejected(entry) == key


def test_a_day_that_was_built_has_the_minutes_that_its_bar_says_and_not_those_of_the_archive():
    day = JudgedDay("SPY", "2026-01-05", 1000, 2000, 390)
    other = JudgedDay("SPY", "2026-01-02", 0, 10, 390)
    counts = [
        MinuteCount("SPY", 1000, "massive", 300, 0, False),
        MinuteCount("SPY", 0, "massive", 7, 0, False),
    ]
    built = [BuiltDay("SPY", 1000, 380, 9)]  # by the calendar of bars
    first, second = judge_days([day, other], counts, Rejections(), built)
    assert (first.minutes, first.missing, first.sources) == (380, 9, (("massive", 300),))
    assert (second.minutes, second.missing) == (7, 383), "its bar says nothing"


async def test_rejected_records_are_counted_and_those_since_sources_disagree_among_them():
    bus = MemoryBus("market-redis")
    start = str(to_ms("2026-01-05T15:00"))
    for symbol, check in (
        *(("SPY", "jump"), ("SPY", "source_disagreement"), ("QQQ", "schema")),
        ("<b>", "source_disagreement"),
    ):
        fields = orjson.dumps({"start": start, "close": "1"})
        await bus.client.xadd(MARKET_QUARANTINE, {"check": check, "sym": symbol, "fields": fields})
    found = await read_rejections(bus)
    assert found.rejected == {("SPY", "2026-01-05"): 2, ("QQQ", "2026-01-05"): 1}
    assert +found.disagreements == {("SPY", "2026-01-05"): 1}
    await bus.aclose()
