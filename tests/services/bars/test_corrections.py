"""A history that is given anew for a split or a dividend corrects nothing, and a mended bar in it does."""

import struct
from dataclasses import replace
from datetime import date, timedelta

import pytest

from services.bars.outputs import Arrival
from services.market.decimals import settle_single
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
from support.scenes.bars import MINUTE, SymbolScene

NYSE = get_session("XNYS")
SPLIT_DAY = date(2024, 6, 10)
"""A Monday."""
DAYS = [day for n in range(43) if NYSE.find_date(day := date(2024, 5, 6) + timedelta(n)) is not None]
OLD = [day for day in DAYS if day < SPLIT_DAY]
FLAT = OLD[7]
"""A day without a trade: one price, and no volume."""


def evening_of(day):
    return NYSE.find_date(day).close_ms + 3_600_000


def exactly(number):
    return number


def in_single(number):
    return settle_single(struct.unpack("f", struct.pack("f", number))[0])


def to_cents(number):
    return round(number, 2)


def write(record, seen_ms, source="yahoo", adjustment=Adjustment.SPLITS, kind=RecordKind.BARS):
    origin = Provenance(source, seen_ms / 1000, adjustment=adjustment)
    fields = encode_entry(record, AssetClass.STOCKS, origin)
    raw = {name.encode(): value.encode() for name, value in fields.items()}
    return Arrival(kind, b"%d-1" % seen_ms, raw)


def announce(ratio, seen):
    action = CorporateAction("NVDA", ActionKind.SPLIT, SPLIT_DAY, ratio=ratio)
    return write(action, evening_of(seen), "massive", Adjustment.RAW, RecordKind.ACTIONS)


def traded(day):
    """A day as it was traded before the split."""
    number, start_ms = DAYS.index(day), NYSE.find_date(day).open_ms
    if day == FLAT:
        return Bar("NVDA", "1d", start_ms, *[943.59] * 4, 0.0)
    close = round(943.59 + 7.13 * (number % 5), 2)
    prices = round(close * 0.993, 2), round(close * 1.012, 2), round(close * 0.981, 2), close
    return Bar("NVDA", "1d", start_ms, *prices, 1000.0 + number)


def divide(bar, ratio, by_source=exactly, volume_ratio=None):
    """A bar as its source gives it, with its prices divided, and its volume multiplied."""
    prices = (bar.open, bar.high, bar.low, bar.close)
    volume = round(bar.volume * (ratio if volume_ratio is None else volume_ratio))
    vwap = None if bar.vwap is None else by_source(bar.vwap / ratio)
    named = zip(("open", "high", "low", "close"), prices, strict=True)
    return replace(
        bar, **{name: by_source(price / ratio) for name, price in named}, volume=float(volume), vwap=vwap
    )


def list_known(scene):
    """Since when each final bar is known, and each bar's indicators."""
    bars = {key: int(each.get("known_at", each["end"])) for key, each in scene.bars.items()}
    values = {key: int(each["known_at"]) for key, each in scene.indicators.items()}
    return [
        {key: known for key, known in each.items() if scene.bars[key]["final"] == "1"}
        for each in (bars, values)
    ]


def list_ends(scene):
    ends = {key: int(each["end"]) for key, each in scene.bars.items() if each["final"] == "1"}
    return [ends, ends]


def play_old(adjustment=Adjustment.SPLITS, **group):
    """A scene with the days before the split, each asked for in its evening."""
    group = {"timeframes": ("1d", "1w"), "indicators": ("obv",)} | group
    scene = SymbolScene(NYSE, symbols=("NVDA",), asset="stocks", **group)
    for day in OLD:
        scene.play([write(traded(day), evening_of(day), adjustment=adjustment)])
    scene.restart()
    return scene


def play_anew(scene, bars, size=1000, adjustment=Adjustment.SPLITS):
    """Give bars again on the evening of the split, so many at a time, each time by another instance."""
    for at in range(0, len(bars), size):
        scene.play(write(bar, evening_of(SPLIT_DAY), adjustment=adjustment) for bar in bars[at : at + size])
        scene.restart()


@pytest.mark.parametrize("size", [1000, 3, 1])
@pytest.mark.parametrize(
    ("ratio", "by_source"),
    [
        (10, exactly),
        (10, in_single),
        (10, to_cents),
        (4, in_single),
        (3, in_single),
        (3, to_cents),
        (0.1, in_single),
    ],
)
@pytest.mark.parametrize("announced", [OLD[0], SPLIT_DAY, None])
def test_a_history_that_is_divided_for_a_split_stays_known_since_when_it_was(
    announced, ratio, by_source, size
):
    scene = play_old()
    if announced is not None:
        scene.play([announce(ratio, announced)])
    before, ends = list_known(scene), list_ends(scene)
    assert before == ends
    assert len(before[0]) >= len(OLD) + 3
    closes = {bar.start_ms: bar.close for bar in scene.shown("1d")}
    play_anew(scene, [divide(traded(day), ratio, by_source) for day in OLD], size)
    if announced is None:  # otherwise those that are the same to the last bit are duplicates
        after = {bar.start_ms: bar.close for bar in scene.shown("1d")}
        assert {round(after[start] / closes[start] * ratio, 2) for start in closes} == {1.0}
    scene.play([write(divide(traded(DAYS[-1]), ratio, by_source), evening_of(DAYS[-1]))])
    known = list_known(scene)
    assert [{key: known[n][key] for key in before[n]} for n in (0, 1)] == before


def test_a_source_that_divides_its_history_hours_after_the_ex_day_began_corrects_nothing():
    scene = play_old()
    scene.play([announce(10, OLD[0])])
    before, morning_ms = list_known(scene), NYSE.find_date(SPLIT_DAY).open_ms
    scene.play(write(traded(day), morning_ms) for day in OLD[-3:])
    play_anew(scene, [divide(traded(day), 10, in_single) for day in OLD])
    assert {bar.close < 100 for bar in scene.shown("1d")[-3:]} == {True}
    assert list_known(scene) == before


CORRECTED = {
    "a price": (OLD[9], lambda bar: replace(bar, close=bar.close + 0.3)),
    "all prices of a flat day": (FLAT, lambda bar: replace(bar, **dict.fromkeys(PRICES, bar.close + 0.3))),
    "the volume": (OLD[9], lambda bar: replace(bar, volume=bar.volume + 1)),
    "a vwap that was unknown": (FLAT, lambda bar: replace(bar, vwap=bar.close)),
}
PRICES = ("open", "high", "low", "close")


@pytest.mark.parametrize("size", [1000, 1])
@pytest.mark.parametrize("announced", [OLD[0], None])
@pytest.mark.parametrize("what", CORRECTED)
def test_a_correction_that_comes_with_the_split_is_known_since_then_and_what_follows_from_it(
    what, announced, size
):
    scene = play_old()
    if announced is not None:
        scene.play([announce(10, announced)])
    before, seen_ms = list_known(scene), evening_of(SPLIT_DAY)
    corrected, correct = CORRECTED[what]
    bars = {day: correct(traded(day)) if day == corrected else traded(day) for day in OLD}
    play_anew(scene, [divide(bar, 10, in_single) for bar in bars.values()], size)
    start_ms = traded(corrected).start_ms
    week_ms = NYSE.find_date(corrected - timedelta(corrected.weekday())).open_ms
    since = {"1d": start_ms, "1w": week_ms}
    bars, values = before
    own = {("1d", start_ms), ("1w", week_ms)}
    expected = [
        {key: seen_ms if key in own else known for key, known in bars.items()},
        {key: seen_ms if key[1] >= since[key[0]] else known for key, known in values.items()},
    ]
    frames = {"1d"} if corrected == FLAT else {"1d", "1w"}  # the numbers of its week stay as they are
    for found, wanted in zip(list_known(scene), expected, strict=True):
        assert [found[key] for key in found if key[0] in frames] == [
            wanted[key] for key in found if key[0] in frames
        ]


def test_a_bar_that_was_corrected_stays_known_since_then_when_it_is_given_anew_and_others_since_their_end():
    scene = play_old()
    asked_ms = evening_of(OLD[-1]) + 1000
    corrected = replace(traded(OLD[2]), volume=7.0)
    scene.play([write(corrected, asked_ms)])
    before = list_known(scene)
    assert before[0]["1d", corrected.start_ms] == asked_ms
    assert before[0]["1d", traded(OLD[5]).start_ms] < before[1]["1d", traded(OLD[5]).start_ms] == asked_ms
    bars = [corrected if day == OLD[2] else traded(day) for day in OLD]
    play_anew(scene, [divide(bar, 10) for bar in bars])
    assert list_known(scene) == before
    # and a second time
    scene.play(write(divide(bar, 20), evening_of(DAYS[-1])) for bar in bars)
    assert list_known(scene) == before


@pytest.mark.parametrize("size", [1000, 5])
def test_a_history_that_is_lowered_for_a_dividend_stays_known_since_when_it_was(size):
    scene = play_old(Adjustment.ALL)
    before = list_known(scene)
    bars = [divide(traded(day), 1.0042, in_single, volume_ratio=1) for day in OLD]
    play_anew(scene, bars, size, Adjustment.ALL)
    assert {bar.close for bar in scene.shown("1d")} == {bar.close for bar in bars}
    assert list_known(scene) == before


@pytest.mark.parametrize("size", [1000, 5])
@pytest.mark.parametrize("by_source", [in_single, to_cents])
@pytest.mark.parametrize("announced", [OLD[0], SPLIT_DAY])
def test_a_history_that_is_divided_and_lowered_for_a_dividend_at_once_stays_known_since_when_it_was(
    announced, by_source, size
):
    scene = play_old(Adjustment.ALL)
    scene.play([announce(10, announced)])
    before = list_known(scene)
    bars = [divide(traded(day), 10.3, by_source, volume_ratio=10) for day in OLD]
    play_anew(scene, bars, size, Adjustment.ALL)
    assert [bar.close for bar in scene.shown("1d")] == [bar.close for bar in bars]
    assert list_known(scene) == before


def test_one_bar_alone_that_is_lowered_beside_a_split_is_corrected():
    scene = play_old(Adjustment.ALL)
    scene.play([announce(10, OLD[0])])
    bars, _ = list_known(scene)
    lowered = divide(traded(OLD[1]), 10.3, in_single, volume_ratio=10)
    others = [divide(traded(day), 10, in_single) for day in OLD[6:]]
    play_anew(scene, [lowered, *others], adjustment=Adjustment.ALL)
    own = [("1d", lowered.start_ms), ("1w", traded(OLD[0]).start_ms)]
    assert list_known(scene)[0] == bars | dict.fromkeys(own, evening_of(SPLIT_DAY))


def test_prices_that_changed_by_more_than_dividends_do_beside_a_split_are_corrected():
    scene = play_old(Adjustment.ALL)
    scene.play([announce(10, OLD[0])])
    in_pounds = [divide(traded(day), 1000, volume_ratio=10) for day in OLD[3:5]]
    play_anew(scene, in_pounds, adjustment=Adjustment.ALL)
    assert scene.quarantine == []
    found, _ = list_known(scene)
    assert {found["1d", bar.start_ms] for bar in in_pounds} == {evening_of(SPLIT_DAY)}


def test_of_a_history_that_is_divided_and_lowered_a_bar_with_another_volume_is_corrected():
    scene = play_old(Adjustment.ALL)
    scene.play([announce(10, OLD[0])])
    bars = {day: divide(traded(day), 10.3, in_single, volume_ratio=10) for day in OLD}
    mended = bars[OLD[1]] = replace(bars[OLD[1]], volume=bars[OLD[1]].volume + 20)
    before, _ = list_known(scene)
    play_anew(scene, list(bars.values()), adjustment=Adjustment.ALL)
    found, _ = list_known(scene)
    assert {key for key in found if found[key] != before[key]} == {
        ("1d", mended.start_ms),
        ("1w", traded(OLD[0]).start_ms),
    }


@pytest.mark.parametrize("indicators", [["obv"], []])
@pytest.mark.parametrize(
    ("day", "change", "source"),
    [
        (FLAT, lambda bar: replace(bar, **dict.fromkeys(PRICES, 94.36)), "yahoo"),
        (OLD[3], lambda bar: divide(bar, 100, volume_ratio=1), "yahoo"),  # pounds for pence
        (OLD[4], lambda bar: replace(bar, close=bar.close + 0.01), "yahoo"),
        (OLD[3], lambda bar: divide(bar, 1.001), "other"),
    ],
)
def test_one_bar_alone_whose_prices_change_by_one_ratio_is_corrected(day, change, source, indicators):
    scene = play_old(indicators=indicators)
    bars, _ = list_known(scene)
    scene.play([write(change(traded(day)), evening_of(SPLIT_DAY), source)])
    assert scene.quarantine == []
    start_ms = traded(day).start_ms
    week_ms = NYSE.find_date(day - timedelta(day.weekday())).open_ms
    own = [("1d", start_ms), ("1w", week_ms)]
    assert list_known(scene)[0] == bars | dict.fromkeys(own, evening_of(SPLIT_DAY))


@pytest.mark.parametrize("price", [3e-10, 1e-300, 4.0, 1e14])
def test_prices_beyond_what_has_decimals_cost_no_state(price):
    scene, start_ms = play_old(), traded(OLD[5]).start_ms
    bar = Bar("NVDA", "1d", start_ms, price, price, price, price, 0.0 if price == 4.0 else 1e14)
    for number, given in enumerate(
        (bar, divide(bar, 10), divide(bar, 1e10, volume_ratio=2), divide(bar, 1e-6))
    ):
        scene.play([write(given, evening_of(SPLIT_DAY) + number)])
        scene.restart()
        assert scene.state.tables["1d"].find(start_ms) is not None
        assert len(scene.shown("1d")) == len(OLD)


BORDER_DAYS = [day for n in range(60) if NYSE.find_date(day := date(2022, 2, 14) + timedelta(n)) is not None]
"""Days at the end of the 800 that are kept: by the split some are forgotten, of a week and of a month."""
FORGOTTEN = BORDER_DAYS[15]


def traded_long_ago(day):
    return replace(traded(OLD[BORDER_DAYS.index(day) % 5]), start_ms=NYSE.find_date(day).open_ms)


def play_long(announced, corrected=None):
    """A scene with old days that were loaded as one history, and the days before the split.

    `corrected` is another close of FORGOTTEN, which comes while it is kept.
    """
    group = {"timeframes": ("1d", "1w", "1mo"), "indicators": ("obv",)}
    scene = SymbolScene(NYSE, symbols=("NVDA",), asset="stocks", **group)
    scene.play([write(traded_long_ago(day), evening_of(OLD[0])) for day in BORDER_DAYS])
    for day in OLD:
        scene.play([write(traded(day), evening_of(day))])
        if corrected is not None and day == OLD[3]:
            scene.play([write(replace(traded_long_ago(FORGOTTEN), close=corrected), evening_of(day))])
    if announced is not None:
        scene.play([announce(10, announced)])
    scene.restart()
    return scene


def play_long_anew(scene, size=1000, **changes):
    """Give all days again as divided; those that are not kept are published with revision 0 again."""
    scene.seen.clear()
    scene.values.clear()
    days = [*map(traded_long_ago, BORDER_DAYS), *map(traded, OLD)]
    days[BORDER_DAYS.index(FORGOTTEN)] = replace(traded_long_ago(FORGOTTEN), **changes)
    play_anew(scene, [divide(bar, 10, in_single) for bar in days], size)


@pytest.mark.parametrize("size", [1000, 7])
@pytest.mark.parametrize("announced", [OLD[0], None])
def test_the_week_and_month_of_which_some_days_are_kept_no_more_stay_known_since_when_they_were(
    announced, size
):
    scene = play_long(announced)
    before = list_known(scene)
    assert before == list_ends(scene)
    play_long_anew(scene, size)
    assert list_known(scene) == before


@pytest.mark.parametrize("announced", [OLD[0], None])
def test_a_bar_that_was_corrected_while_it_was_kept_stays_known_since_then_when_it_is_no_more(announced):
    scene, corrected_ms = play_long(announced, corrected=950.11), evening_of(OLD[3])
    before, key = list_known(scene), ("1d", traded_long_ago(FORGOTTEN).start_ms)
    assert before[0][key] == corrected_ms
    assert before[1]["1d", traded_long_ago(BORDER_DAYS[17]).start_ms] == corrected_ms
    assert scene.state.tables["1d"].find(key[1]) is None  # it is forgotten
    play_long_anew(scene, close=950.11)
    found = scene.bars[key]
    assert (found["close"], found["rev"], found["restated"]) == ("95.011", "0", "1")
    assert list_known(scene) == before
    assert {"restated" in scene.bars["1d", traded(day).start_ms] for day in OLD} == {False}


@pytest.mark.parametrize(("announced", "ratio"), [(OLD[0], 1), (None, 10)])
def test_the_week_and_month_of_which_some_days_are_kept_no_more_have_each_day_once(announced, ratio):
    scene = play_long(announced)
    before = {frame: scene.shown(frame) for frame in ("1w", "1mo")}
    play_long_anew(scene)
    for frame, day in (("1w", date(2022, 3, 28)), ("1mo", date(2022, 3, 1))):
        start_ms = NYSE.find_date(day).open_ms
        old, new = (
            next(bar for bar in bars if bar.start_ms == start_ms)
            for bars in (before[frame], scene.shown(frame))
        )
        expected = divide(old, ratio)
        assert new.volume == expected.volume
        for name in PRICES:
            assert getattr(new, name) == pytest.approx(getattr(expected, name), rel=1e-6), name


def minutes_of(day, count=60):
    for number in range(count):
        start_ms, price = NYSE.find_date(day).open_ms + number * MINUTE, 1200.0 + 0.07 * (number % 13)
        prices = price, price + 0.11, price - 0.13, price + 0.05
        yield Bar("NVDA", "1m", start_ms, *prices, 300.0 + number, price + 0.01)


@pytest.mark.parametrize("size", [1000, 7])
@pytest.mark.parametrize("announced", [OLD[0], SPLIT_DAY, None])
def test_minutes_that_are_divided_leave_all_longer_bars_known_and_a_corrected_one_changes_its_own(
    announced, size
):
    scene = SymbolScene(NYSE, symbols=("NVDA",), asset="stocks", indicators=("obv",))
    day, seen_ms = OLD[-1], evening_of(SPLIT_DAY)
    if announced is not None:
        scene.play([announce(4, announced)])
    minutes = list(minutes_of(day))
    scene.play((write(bar, evening_of(day)) for bar in minutes), evening_of(day))
    scene.restart()
    before = list_known(scene)
    assert {frame for frame, _ in before[0]} == {"1m", "5m", "15m", "30m", "1h", "4h", "1d"}
    assert before == list_ends(scene)
    play_anew(scene, [divide(bar, 4, in_single) for bar in minutes], size)
    assert list_known(scene) == before
    corrected = replace(divide(minutes[33], 4, in_single), volume=9.0)
    scene.play([write(corrected, seen_ms + 1000)])
    bars, _ = list_known(scene)
    changed = {key for key in bars if bars[key] != before[0][key]}
    assert {bars[key] for key in changed} == {seen_ms + 1000}
    assert len(changed) == 7
    assert ("5m", minutes[30].start_ms) in changed


def test_the_official_day_that_replaced_one_of_minutes_stays_known_since_then_when_it_is_divided():
    scene = SymbolScene(NYSE, symbols=("NVDA",), asset="stocks", timeframes=("1d",), indicators=())
    day, asked_ms = OLD[-1], evening_of(OLD[-1]) + 4 * 3_600_000
    minutes = list(minutes_of(day))
    scene.play((write(bar, evening_of(day), "ws", Adjustment.RAW) for bar in minutes), evening_of(day))
    official = Bar("NVDA", "1d", minutes[0].start_ms, 1200.0, 1202.5, 1197.4, 1201.3, 1000.0)
    scene.play([write(official, asked_ms)])
    assert scene.bars["1d", official.start_ms]["known_at"] == str(asked_ms)
    play_anew(scene, [divide(official, 10)])
    found = scene.bars["1d", official.start_ms]
    assert (found["close"], found["known_at"]) == ("120.13", str(asked_ms))
