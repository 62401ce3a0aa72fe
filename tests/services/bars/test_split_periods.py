"""A week or month with a split in it is told as of its last date, whoever gave its days."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from services.bars.outputs import Arrival
from services.bars.splits import SplitView
from services.market.adjust import Adjuster, PriceBasis
from services.market.entries import encode_entry
from services.market.records import (
    ActionKind,
    Adjustment,
    AssetClass,
    Bar,
    CorporateAction,
    Provenance,
    RecordKind,
)
from services.market.sessions import get_session
from services.tables.adjusted_bars import adjust_rows, find_row_day
from services.tables.rows import BAR_CELLS, make_bar_row
from support.scenes.bars import MINUTE, SymbolScene, merge_plainly

NYSE = get_session("XNYS")
SPLIT_DAY, LATER_DAY = date(2022, 8, 25), date(2022, 9, 8)  # a Thursday, and one of another week and month
SPLIT = CorporateAction("TSLA", ActionKind.SPLIT, SPLIT_DAY, ratio=3.0)
LATER = CorporateAction("TSLA", ActionKind.SPLIT, LATER_DAY, ratio=2.0)
DAYS = [day for n in range(52) if NYSE.find_date(day := date(2022, 7, 25) + timedelta(n)) is not None]
WEEK, MONTH = date(2022, 8, 22), date(2022, 8, 1)
"""The periods that have the split in them."""


def share_of(day, asked):
    """By how much a price of a day has to be divided that is told as of another."""
    return (3 if day < SPLIT_DAY <= asked else 1) * (2 if day < LATER_DAY <= asked else 1)


def day_bar(day, asked=None):
    """A day as it was traded, or adjusted for the splits up to when it was asked for."""
    start_ms, number = NYSE.find_date(day).open_ms, DAYS.index(day)
    share = share_of(day, DAYS[-1]) / share_of(day, asked or day)
    close, volume = (150.0 + number % 7) * share, 6000.0 / share
    return Bar("TSLA", "1d", start_ms, close * 0.99, close * 1.01, close * 0.98, close, volume)


def write(record, seen_ms, source, adjustment=Adjustment.RAW, kind=RecordKind.BARS):
    origin = Provenance(source, seen_ms / 1000, adjustment=adjustment)
    fields = encode_entry(record, AssetClass.STOCKS, origin)
    raw = {name.encode(): value.encode() for name, value in fields.items()}
    return Arrival(kind, b"%d-1" % seen_ms, raw)


def evening_of(day):
    return NYSE.find_date(day).close_ms + 3_600_000


def give_yahoo(day, asked):
    return write(day_bar(day, asked), evening_of(asked), "yahoo", Adjustment.SPLITS)


def list_minutes(day):
    """Minutes whose day is the same: its open, high, low and close, with a quarter of the volume each."""
    bar, session_day = day_bar(day), NYSE.find_date(day)
    starts = [session_day.open_ms + n * 90 * MINUTE for n in range(3)] + [session_day.close_ms - MINUTE]
    for start, price in zip(starts, (bar.open, bar.high, bar.low, bar.close), strict=True):
        minute = Bar("TSLA", "1m", start, price, price, price, price, bar.volume / 4)
        yield write(minute, start + MINUTE + 1000, "ws")


def play_raw(scene, day, _number):
    scene.play([write(day_bar(day), evening_of(day), "tiingo")], evening_of(day))


def play_minutes(scene, day, _number):
    scene.play(list_minutes(day), evening_of(day))


def play_adjusted(scene, day, _number):
    """All days are asked for each evening, as of then."""
    scene.play([give_yahoo(each, day) for each in DAYS if each <= day], evening_of(day))


def play_adjusted_once(scene, day, _number):
    scene.play([give_yahoo(day, day)], evening_of(day))


def play_both(scene, day, number):
    play_minutes(scene, day, number)
    if number % 2:
        scene.play([give_yahoo(day, DAYS[min(number + 4, len(DAYS) - 1)])], evening_of(day))


WAYS = [play_raw, play_minutes, play_adjusted, play_adjusted_once, play_both]


def split_arrival(split, day):
    return write(split, evening_of(day), "massive", kind=RecordKind.ACTIONS)


def play_all(way, known=DAYS[0]):
    """Days up to the evening of the last one, with both splits known since an evening."""
    scene = SymbolScene(NYSE, symbols=("TSLA",), asset="stocks")
    for number, day in enumerate(DAYS):
        if day == known:
            scene.play([split_arrival(split, day) for split in (SPLIT, LATER)], evening_of(day))
        way(scene, day, number)
    scene.restart()
    return scene


def expect(label, timeframe):
    """The week or month of a date, with the prices and volumes of its last date."""
    first, last = (WEEK, date(2022, 8, 28)) if timeframe == "1w" else (MONTH, date(2022, 8, 31))
    assert first == label
    days = [day for day in DAYS if first <= day <= last]
    return merge_plainly([day_bar(day, last) for day in days], timeframe, NYSE.find_date(days[0]).open_ms)


def assert_near(bar, wanted, share=1.0):
    assert (bar.symbol, bar.timeframe, bar.start_ms) == (wanted.symbol, wanted.timeframe, wanted.start_ms)
    for name in ("open", "high", "low", "close"):
        assert getattr(bar, name) == pytest.approx(getattr(wanted, name) / share, rel=1e-9), name
    assert bar.volume == pytest.approx(wanted.volume * share, rel=1e-9)


def find_bar(bars, wanted):
    return next(bar for bar in bars if bar.start_ms == wanted.start_ms)


PERIODS = [("1w", WEEK), ("1mo", MONTH)]


@pytest.mark.parametrize("known", [DAYS[0], DAYS[-1]], ids=["known before", "known late"])
@pytest.mark.parametrize("way", WAYS)
def test_a_period_with_a_split_is_told_as_of_its_last_date(way, known):
    scene = play_all(way, known)
    for timeframe, label in PERIODS:
        wanted = expect(label, timeframe)
        assert_near(find_bar(scene.shown(timeframe), wanted), wanted)
        entry = scene.bars[timeframe, wanted.start_ms]
        assert (entry["day"], entry["final"], "adjustment" in entry) == (label.isoformat(), "1", False)


@pytest.mark.parametrize("way", WAYS)
def test_as_of_a_later_day_a_period_is_divided_by_later_splits_alone(way):
    scene = play_all(way)
    view = SplitView(scene.state, scene.grid)
    for timeframe, label in PERIODS:
        wanted = expect(label, timeframe)
        assert_near(find_bar(view.list_bars(scene.state.tables[timeframe]), wanted), wanted, 2)


@pytest.mark.parametrize("has_day", [True, False], ids=["named", "from before"])
@pytest.mark.parametrize(("timeframe", "label"), PERIODS)
def test_a_reader_of_the_archive_divides_it_by_later_splits_alone(timeframe, label, has_day):
    scene = play_all(play_minutes)
    wanted = expect(label, timeframe)
    entry = scene.bars[timeframe, wanted.start_ms]
    row, _ = make_bar_row(b"1-0", {name.encode(): value.encode() for name, value in entry.items()})
    assert row.day == label.isoformat()
    row = row if has_day else row._replace(day=None)
    adjuster, basis = Adjuster([SPLIT, LATER]), PriceBasis(Adjustment.SPLITS, DAYS[-1])
    (cells,) = adjust_rows([row.cells], BAR_CELLS, adjuster, basis, timeframe)
    found = dict(zip(BAR_CELLS, cells, strict=True))
    numbers = (found[name] for name in ("start", "open", "high", "low", "close", "volume"))
    assert_near(Bar("TSLA", timeframe, *numbers), wanted, 2)
    assert find_row_day(row.start, row.day, timeframe) == (
        date(2022, 8, 28) if timeframe == "1w" else date(2022, 8, 31)
    )


def test_a_split_that_is_withdrawn_takes_its_period_back():
    scene = play_all(play_raw)
    withdrawn = split_arrival(SPLIT, DAYS[-1])
    fields = {name: value for name, value in withdrawn.fields.items() if name != b"ratio"}
    scene.play([replace(withdrawn, fields=fields | {b"withdrawn": b"1"})], evening_of(DAYS[-1]))
    days = [day_bar(day) for day in DAYS if WEEK <= day <= date(2022, 8, 26)]
    wanted = merge_plainly(days, "1w", days[0].start_ms)
    assert_near(find_bar(scene.shown("1w"), wanted), wanted)


def test_a_period_of_days_that_are_adjusted_for_dividends_says_so():
    scene = SymbolScene(NYSE, symbols=("TSLA",), asset="stocks")
    scene.play([split_arrival(split, DAYS[0]) for split in (SPLIT, LATER)])
    for day in DAYS:
        asked = evening_of(day)
        scene.play([write(day_bar(day), asked, "stooq", Adjustment.ALL)], asked)
    scene.restart()
    view = SplitView(scene.state, scene.grid)
    for timeframe, label in PERIODS:
        wanted = expect(label, timeframe)
        assert_near(find_bar(scene.shown(timeframe), wanted), wanted)
        entry = scene.bars[timeframe, wanted.start_ms]
        last = "2022-08-26" if timeframe == "1w" else "2022-08-31"
        assert (entry["adjustment"], entry["adjusted_to"]) == ("all", last)
        assert_near(find_bar(view.list_bars(scene.state.tables[timeframe]), wanted), wanted, 2)
    # a day of it is given anew after the later split: from then on all of it is as of then
    monday = day_bar(WEEK, DAYS[-1])
    corrected = replace(monday, volume=monday.volume + 1)
    scene.play([write(corrected, evening_of(DAYS[-1]), "stooq", Adjustment.ALL)], evening_of(DAYS[-1]))
    wanted = expect(WEEK, "1w")
    wanted = replace(wanted, volume=wanted.volume + 0.5)
    entry = scene.bars["1w", wanted.start_ms]
    assert (entry["adjusted_to"], entry["known_at"]) == (DAYS[-1].isoformat(), str(evening_of(DAYS[-1])))
    assert_near(find_bar(scene.shown("1w"), wanted), wanted, 2)
    assert_near(find_bar(view.list_bars(scene.state.tables["1w"]), wanted), wanted, 2)
