"""Where a split begins in the window of a symbol: by the market's own days, and in the week that has it."""

from datetime import UTC, date, datetime, timedelta

import pytest

from services.market.entries import encode_entry
from services.market.records import ActionKind, AssetClass, Bar, CorporateAction, Provenance
from services.market.separate import join_source
from services.market.universe import LoadedSymbol
from services.signals.cycle.market import WINDOW, BarOutcome, MarketBars
from services.signals.sessions import SessionBook

SPLIT_DAY = date(2020, 8, 31)
NOW = datetime(2020, 9, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def to_ms(at):
    return round(1000 * at.timestamp())


def take_bars(market, begins, close=100.0, *, length=MINUTE, source="one", is_separate=False):
    take = market.take_separate if is_separate else market.take
    for begin in begins:
        bar = Bar("AAPL", market.timeframe, to_ms(begin), close, close, close, close, volume=1.0)
        fields = encode_entry(bar, AssetClass.STOCKS, Provenance(source))
        fields |= {"final": "1", "end": str(to_ms(begin + length))}
        if is_separate:
            fields["sym"] = join_source("AAPL", source)
        taken = {name.encode(): value.encode() for name, value in fields.items()}
        assert take(taken, to_ms(NOW)) is BarOutcome.TAKEN


def take_action(market, kind=ActionKind.SPLIT, day=SPLIT_DAY, **more):
    values = {"amount": 0.82} if kind is ActionKind.DIVIDEND else {"ratio": 4.0}
    fields = encode_entry(CorporateAction("AAPL", kind, day, **values), AssetClass.STOCKS, Provenance("one"))
    fields |= more
    return market.take_action({name.encode(): value.encode() for name, value in fields.items()})


async def begin_at_splits(market, session="XNYS"):
    book = SessionBook()
    await book.prepare({session})
    book.begin_at_splits(market, {"AAPL": LoadedSymbol(AssetClass.STOCKS, session)})
    return [datetime.fromtimestamp(each / 1000, UTC) for each in market.see("AAPL").start_ms.tolist()]


async def test_a_window_begins_with_the_split_and_what_was_before_it_is_seen_by_no_voter():
    market = MarketBars("1m", ["AAPL"], ["one"])
    before = [datetime(2020, 8, 28, 19, 30, tzinfo=UTC) + n * MINUTE for n in range(30)]
    after = [datetime(2020, 8, 31, 13, 30, tzinfo=UTC) + n * MINUTE for n in range(5)]
    take_bars(market, before, 400.0)
    take_bars(market, after, 100.0)
    assert take_action(market) is BarOutcome.TAKEN
    assert await begin_at_splits(market) == after
    assert market.see("AAPL", "one").close.tolist() == [100.0] * 5
    take_bars(market, before[-1:], 400.0)  # corrected late
    assert await begin_at_splits(market) == after
    later = [after[-1] + n * MINUTE for n in range(1, 80)]
    take_bars(market, later, 101.0)
    assert await begin_at_splits(market) == [*after, *later][-WINDOW:]
    assert market.see("AAPL").close.tolist() == [101.0] * WINDOW


@pytest.mark.parametrize("is_separate", [True, False])
async def test_bars_of_a_source_that_reach_back_over_the_split_begin_with_it(is_separate):
    """As after a restart: the bars of all sources in the window are all from after the split."""
    market = MarketBars("1m", ["AAPL"], ["two"], [("AAPL", "two")] if is_separate else [])
    opened = datetime(2020, 8, 31, 13, 30, tzinfo=UTC)
    before = [datetime(2020, 8, 28, 19, 20, tzinfo=UTC) + n * MINUTE for n in range(40)]
    after = [opened + n * 10 * MINUTE for n in range(10)]
    take_bars(market, before, 400.0, source="two", is_separate=is_separate)
    take_action(market)
    take_bars(market, after[:5], source="two", is_separate=is_separate)
    take_bars(market, [opened + (n + 1) * MINUTE for n in range(90) if (n + 1) % 10])
    take_bars(market, after[5:], source="two", is_separate=is_separate)
    begins = market.see("AAPL").start_ms.tolist()
    assert begins[0] > to_ms(opened)
    await begin_at_splits(market)
    assert market.see("AAPL").start_ms.tolist() == begins
    assert market.see("AAPL", "two").start_ms.tolist() == [to_ms(each) for each in after]
    assert set(market.see("AAPL", "two").close.tolist()) == {100.0}


async def test_a_source_without_a_bar_since_the_split_of_its_symbol_has_none():
    market = MarketBars("1m", ["AAPL"], ["two"], [("AAPL", "two")])
    before = [datetime(2020, 8, 28, 19, 20, tzinfo=UTC) + n * MINUTE for n in range(40)]
    take_bars(market, before, 400.0, source="two", is_separate=True)
    take_action(market)
    await begin_at_splits(market)
    assert len(market.see("AAPL", "two").close) == 40, "nothing says that the split was reached"
    take_bars(market, [datetime(2020, 8, 31, 13, 30, tzinfo=UTC)])
    await begin_at_splits(market)
    assert market.see("AAPL", "two").close.tolist() == []
    assert market.see("AAPL").close.tolist() == [100.0]


async def test_minutes_after_the_close_are_of_their_own_day_though_midnight_of_utc_is_past():
    market = MarketBars("1m", ["AAPL"])
    begins = [datetime(2020, 8, 30, 23, 58, tzinfo=UTC) + n * MINUTE for n in range(4)]
    take_bars(market, begins)
    take_action(market)
    assert await begin_at_splits(market) == begins  # it is still Sunday in New York


async def test_a_split_that_is_to_come_was_long_ago_or_is_withdrawn_changes_nothing():
    market = MarketBars("1m", ["AAPL"])
    begins = [datetime(2020, 8, 28, 19, 58, tzinfo=UTC), datetime(2020, 8, 31, 13, 30, tzinfo=UTC)]
    take_bars(market, begins)
    for day in (date(2014, 6, 9), date(2020, 9, 2), date(2030, 1, 2)):
        take_action(market, day=day)
    take_action(market, ActionKind.DIVIDEND)
    take_action(market)
    take_action(market, withdrawn="1")
    assert await begin_at_splits(market) == begins
    assert market.splits["AAPL"] == {date(2014, 6, 9), date(2020, 9, 2), date(2030, 1, 2)}


async def test_a_week_has_the_scale_of_its_last_day():
    market = MarketBars("1w", ["AAPL"])
    new_york = timedelta(hours=4)
    weeks = [datetime(2020, 8, day, tzinfo=UTC) + new_york for day in (10, 17, 24)]
    take_bars(market, weeks, length=timedelta(days=5))
    take_action(market, day=date(2020, 8, 26))  # a Wednesday
    assert await begin_at_splits(market) == weeks[2:]


async def test_without_a_known_calendar_days_are_those_of_utc():
    market = MarketBars("1m", ["AAPL"])
    begins = [datetime(2020, 8, 30, 23, 58, tzinfo=UTC) + n * MINUTE for n in range(4)]
    take_bars(market, begins)
    take_action(market)
    assert await begin_at_splits(market, "NONE") == begins[2:]


@pytest.mark.parametrize(
    ("name", "value"), [("ratio", "nan"), ("ratio", "1"), ("ratio", "0"), ("ex_day", "soon"), ("kind", "x")]
)
def test_an_action_that_is_none_is_counted_and_splits_stay(name, value):
    market = MarketBars("1m", ["AAPL"])
    take_action(market)
    action = CorporateAction("AAPL", ActionKind.SPLIT, date(2020, 9, 1), ratio=2.0)
    fields = encode_entry(action, AssetClass.STOCKS, Provenance("one")) | {name: value}
    taken = market.take_action({key.encode(): text.encode() for key, text in fields.items()})
    assert taken is BarOutcome.REFUSED
    assert market.refusals.total() == 1
    assert market.splits["AAPL"] == {SPLIT_DAY}
    others = fields | {"sym": "MSFT"}
    assert market.take_action({k.encode(): v.encode() for k, v in others.items()}) is BarOutcome.SKIPPED


async def test_a_stored_bar_ends_with_its_interval_of_the_session():
    book = SessionBook()
    await book.prepare({"XNYS"})

    def find_end(code, start, timeframe):
        return datetime.fromtimestamp(book.find_end(code, to_ms(start), timeframe) / 1000, UTC)

    opened = datetime(2020, 11, 27, 14, 30, tzinfo=UTC)  # a Friday that is over at 13:00 in New York
    assert find_end("XNYS", opened, "1d") == datetime(2020, 11, 27, 18, 0, tzinfo=UTC)
    assert find_end("XNYS", opened, "1m") == opened + MINUTE
    # the day of another session, and of none
    for hours in (6.5, 9.5):  # that of London's open, and midnight in New York
        assert book.find_end("XNYS", to_ms(opened - timedelta(hours=hours)), "1d") is None
    assert book.find_end("XNYS", to_ms(opened + timedelta(hours=9)), "1h") is None
    assert find_end(None, opened, "1d") == opened + timedelta(days=1)
