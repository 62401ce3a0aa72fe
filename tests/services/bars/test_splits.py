"""A split is no fall: bars of any basis are compared, and indicators and features computed, as of one day."""

from dataclasses import replace
from datetime import date
from itertools import pairwise
from math import log

import orjson
import pytest

from services.bars.bar_table import LATEST_MS
from services.bars.feature_writer import compute_new
from services.bars.outputs import Arrival
from services.bars.settings import CheckSettings
from services.bars.splits import SplitView
from services.market.entries import encode_entry, parse_bar
from services.market.records import (
    DAY_MS,
    ActionKind,
    Adjustment,
    AssetClass,
    Bar,
    CorporateAction,
    Provenance,
    RecordKind,
)
from services.market.sessions import get_session
from support.scenes.bars import MINUTE, SymbolScene, batch, values_of

NYSE = get_session("XNYS")
SPLIT_DAY = date(2024, 6, 10)
SPLIT = CorporateAction("NVDA", ActionKind.SPLIT, SPLIT_DAY, ratio=10.0)
# closes of NVIDIA as they were traded
CLOSES = {
    date(2024, 5, 16): 943.59, date(2024, 5, 17): 924.79, date(2024, 5, 20): 947.80,
    date(2024, 5, 21): 953.86, date(2024, 5, 22): 949.50, date(2024, 5, 23): 1037.99,
    date(2024, 5, 24): 1064.69, date(2024, 5, 28): 1139.01, date(2024, 5, 29): 1148.25,
    date(2024, 5, 30): 1105.00, date(2024, 5, 31): 1096.33, date(2024, 6, 3): 1150.00,
    date(2024, 6, 4): 1164.37, date(2024, 6, 5): 1224.40, date(2024, 6, 6): 1209.98,
    date(2024, 6, 7): 1208.88, date(2024, 6, 10): 121.79, date(2024, 6, 11): 120.91,
    date(2024, 6, 12): 125.20, date(2024, 6, 13): 129.61, date(2024, 6, 14): 131.88,
    date(2024, 6, 17): 130.98, date(2024, 6, 18): 135.58,
}  # fmt: skip
DAYS = list(CLOSES)
REAL = [CLOSES[day] / (10 if day < SPLIT_DAY else 1) for day in DAYS]
RETURNS = [log(after / before) for before, after in pairwise(REAL)]


def day_bar(day, close, volume=1000.0):
    start_ms = NYSE.find_date(day).open_ms
    return Bar("NVDA", "1d", start_ms, close * 0.99, close * 1.01, close * 0.98, close, volume)


class Stream:
    """Makes arrivals in the order in which they are asked for."""

    def __init__(self):
        self.number = 0

    def write(self, record, seen_ms, source, adjustment=Adjustment.RAW, *, kind=RecordKind.BARS):
        self.number += 1
        origin = Provenance(source, seen_ms / 1000, adjustment=adjustment)
        fields = encode_entry(record, AssetClass.STOCKS, origin)
        raw = {name.encode(): value.encode() for name, value in fields.items()}
        return Arrival(kind, b"%d-%d" % (seen_ms, self.number), raw)

    def split(self, action=SPLIT, seen=date(2024, 6, 5)):
        return self.write(action, evening_of(seen), "massive", kind=RecordKind.ACTIONS)

    def yahoo(self, day, asked):
        """What Yahoo says of a day on another: it has divided by then."""
        ratio = 10 if day < SPLIT_DAY <= asked else 1
        bar = day_bar(day, CLOSES[day] / ratio, 1000.0 * ratio)
        return self.write(bar, evening_of(asked), "yahoo", Adjustment.SPLITS)

    def massive(self, day):
        """The minutes of a day: the last of them has its close."""
        session_day = NYSE.find_date(day)
        close = CLOSES[day]
        for start_ms in range(session_day.open_ms, session_day.close_ms, 130 * MINUTE):
            at = close if start_ms + 130 * MINUTE >= session_day.close_ms else close * 0.995
            bar = Bar("NVDA", "1m", start_ms, at, at, at, at, 10.0, at, 2)
            yield self.write(bar, start_ms + MINUTE + 1000, "ws")


def evening_of(day):
    return NYSE.find_date(day).close_ms + 3_600_000


def make_scene(**group):
    return SymbolScene(NYSE, symbols=("NVDA",), asset="stocks", **group)


def read_returns(scene):
    """The feature `ret_1` of each final day, as bars would publish it."""
    # the minutes of a day here are a few of its 390
    groups = {"NVDA": scene.group.model_copy(update={"checks": CheckSettings(day_share=0)})}
    new, _ = compute_new({"NVDA": scene.stored}, {"NVDA": NYSE}, groups, "SPY", evening_of(DAYS[-1]))
    (features,) = new
    found = {date.fromisoformat(each["day"]): each for each in features.entries}
    return [eval_ret(found[day]) for day in DAYS if day in found]


def eval_ret(entry):
    return orjson.loads(entry["values"])["ret_1"]


def assert_returns_are_real(scene):
    found = read_returns(scene)
    assert found[0] is None
    assert found[1:] == pytest.approx(RETURNS, abs=1e-9)
    # a source that is asked again may give the same
    assert {each["check"] for each in scene.quarantine} <= {"duplicate"}


def test_the_return_around_a_split_is_right_from_a_source_that_adjusts_its_whole_past():
    scene, stream = make_scene(), Stream()
    # the days before the split come as a history and are asked for again after it, as each hour
    for day in DAYS:
        scene.play([stream.yahoo(each, day) for each in DAYS if each <= day])
    assert_returns_are_real(scene)
    bars = scene.shown("1d")
    assert [bar.close for bar in bars] == pytest.approx(REAL)


def test_the_same_with_the_split_known_and_each_day_asked_for_once():
    scene, stream = make_scene(), Stream()
    scene.play([stream.split()])
    for day in DAYS:
        scene.play([stream.yahoo(day, day)])
        scene.restart()
    assert_returns_are_real(scene)
    before = scene.bars["1d", NYSE.find_date(date(2024, 6, 7)).open_ms]
    assert (before["adjustment"], before["adjusted_to"]) == ("splits", "2024-06-07")
    assert before["close"] == "1208.88"


def test_the_return_around_a_split_is_right_from_a_source_with_raw_prices():
    scene, stream = make_scene(), Stream()
    scene.play([stream.split()])
    for day in DAYS:
        scene.play(stream.massive(day), evening_of(day))
    assert_returns_are_real(scene)
    assert [bar.close for bar in scene.shown("1d")] == list(CLOSES.values())
    assert all("adjustment" not in entry for entry in scene.bars.values())


def test_the_return_around_a_split_is_right_from_both():
    scene, stream = make_scene(), Stream()
    scene.play([stream.split()])
    for number, day in enumerate(DAYS):
        scene.play(stream.massive(day), evening_of(day))
        if number % 2:  # other days are those of minutes
            asked = DAYS[min(number + 3, len(DAYS) - 1)]
            scene.play([stream.yahoo(day, asked)], evening_of(day))
    assert_returns_are_real(scene)


def test_a_split_that_is_known_late_makes_the_features_anew():
    scene, stream = make_scene(), Stream()
    for day in DAYS:
        scene.play(stream.massive(day), evening_of(day))
    del scene.stored[b"daily"]
    assert read_returns(scene)[DAYS.index(SPLIT_DAY)] == pytest.approx(log(121.79 / 1208.88))
    scene.play([stream.split(seen=DAYS[-1])])
    assert b"daily" in scene.stored  # so the instance that computes features looks again
    found = read_returns(scene)
    assert found[1:] == pytest.approx(RETURNS, abs=1e-9)


def test_a_fall_of_nine_tenths_waits_unless_a_split_is_announced_for_that_very_day():
    for action, waits in (
        (None, True),
        (SPLIT, False),
        (replace(SPLIT, ex_day=date(2024, 6, 11)), True),
        (replace(SPLIT, ratio=2.0), True),
    ):
        scene, stream = make_scene(checks={"jump_atr": 5}), Stream()
        if action is not None:
            scene.play([stream.split(action)])
        for day in DAYS[: DAYS.index(SPLIT_DAY) + 1]:
            scene.play([stream.write(day_bar(day, CLOSES[day]), evening_of(day), "tiingo")])
        assert [each["check"] for each in scene.quarantine] == ["jump"] * waits, action


def test_a_split_that_its_source_withdraws_counts_no_more():
    scene, stream = make_scene(), Stream()
    scene.play([stream.split()])
    withdrawn = stream.split()
    fields = {name: value for name, value in withdrawn.fields.items() if name != b"ratio"}
    scene.play([replace(withdrawn, fields=fields | {b"withdrawn": b"1"})])
    assert scene.state.splits == ()
    assert scene.builder.counts == {}


def test_an_action_that_is_none_is_counted_and_costs_itself_alone():
    scene, stream = make_scene(), Stream()
    good = stream.split()
    scene.play([replace(good, fields=good.fields | {b"ratio": b"-10"}), good])
    assert scene.builder.counts == {("massive", "schema"): 1}
    assert scene.state.splits == ((SPLIT_DAY, 10.0),)


@pytest.mark.parametrize(
    ("changes", "entry", "check"),
    [
        ({b"played_at": b"-1e18"}, b"1717621200000-9", "schema"),
        ({b"asked_at": b"1e18"}, b"1717621200000-9", "schema"),
        ({b"asked_at": b"0"}, b"18446744073709551615-9", None),  # an id is its writer's choice
    ],
)
def test_a_day_of_no_time_at_all_costs_itself_alone(changes, entry, check):
    """Its date is asked for before any check, since its source had adjusted it by then."""
    scene, stream = make_scene(), Stream()
    scene.play([stream.split()])
    day = stream.write(day_bar(DAYS[0], CLOSES[DAYS[0]] / 10), evening_of(DAYS[0]), "one", Adjustment.SPLITS)
    following = stream.write(day_bar(DAYS[1], CLOSES[DAYS[1]]), evening_of(DAYS[1]), "one")
    scene.play([replace(day, id=entry, fields=day.fields | changes), following])
    assert [each["check"] for each in scene.quarantine] == ([] if check is None else [check])
    assert ("1d", NYSE.find_date(DAYS[1]).open_ms) in scene.bars
    scene.restart()


def test_indicators_are_computed_anew_as_of_the_day_of_the_split():
    scene, stream = make_scene(), Stream()
    scene.play([stream.split()])
    for day in DAYS:
        scene.play([stream.write(day_bar(day, CLOSES[day]), evening_of(day), "tiingo")])
        scene.restart()
        shown = [parse_bar(raw(entry)) for (frame, _), entry in sorted(scene.bars.items()) if frame == "1d"]
        if day >= SPLIT_DAY:
            split_ms = NYSE.find_date(SPLIT_DAY).open_ms
            shown = [divide(bar) if bar.start_ms < split_ms else bar for bar in shown]
        found, expected = values_of(scene.indicators, "1d"), batch(shown, NYSE)
        for one, other in zip(found, expected, strict=True):
            known = {name: value for name, value in other.items() if value is not None}
            assert one.keys() == other.keys()
            assert {name: one[name] for name in known} == pytest.approx(known, rel=1e-9)


def list_known(scene):
    """Since when the indicators of each bar are known, by timeframe and start."""
    return {key: int(entry["known_at"]) for key, entry in scene.indicators.items()}


@pytest.mark.parametrize("is_announced", [True, False])
def test_a_split_changes_indicators_and_not_since_when_they_are_known(is_announced):
    scene, stream = make_scene(timeframes=("1d", "1w"), indicators=("obv",)), Stream()
    scene.play([stream.split()] if is_announced else [])
    split_at = DAYS.index(SPLIT_DAY)
    at_close = {}
    for number, day in enumerate(DAYS[:split_at]):
        scene.play([stream.write(day_bar(day, CLOSES[day]), evening_of(day), "tiingo")])
        at_close["1d", NYSE.find_date(day).open_ms] = NYSE.find_date(day).close_ms
        if number in (3, 8):  # the day before is corrected in the evening, also what follows from it
            earlier = DAYS[number - 1]
            asked_ms = NYSE.find_date(day).close_ms + 5 * 3_600_000
            scene.play([stream.write(day_bar(earlier, CLOSES[earlier], 500.0), asked_ms, "tiingo")])
            at_close["1d", NYSE.find_date(earlier).open_ms] = asked_ms
            at_close["1d", NYSE.find_date(day).open_ms] = asked_ms
        if number == 5:
            scene.restart()
    before, values = list_known(scene), {key: each["values"] for key, each in scene.indicators.items()}
    assert {key: known for key, known in before.items() if key[0] == "1d"} == at_close
    scene.restart()
    if not is_announced:
        scene.play([stream.split()])
    following = [
        stream.write(day_bar(day, CLOSES[day]), evening_of(day), "tiingo") for day in DAYS[split_at:]
    ]
    scene.play(following[:1])
    assert any(scene.indicators[key]["values"] != values[key] for key in at_close), "computed anew"
    after = list_known(scene)
    assert {key: after[key] for key in at_close} == at_close
    final = [key for key in before if key[0] == "1w" and scene.indicators[key]["final"] == "1"]
    assert len(final) >= 2
    assert {key: after[key] for key in final} == {key: before[key] for key in final}
    # and once more, as they are computed when the split is withdrawn
    scene.restart()
    scene.play([stream.split(replace(SPLIT, ratio=None), seen=DAYS[-1])])
    assert {key: list_known(scene)[key] for key in at_close} == at_close


def test_indicators_of_weeks_are_computed_anew_with_the_split_and_not_with_the_next_day():
    scene, stream = make_scene(timeframes=("1d", "1w"), indicators=("vwap",)), Stream()
    for day in DAYS:
        scene.play([stream.write(day_bar(day, CLOSES[day]), evening_of(day), "tiingo")])
    before = values_of(scene.indicators, "1w")
    assert before[0]["vwap"] > 900
    scene.play([stream.split(seen=DAYS[-1])])
    after = values_of(scene.indicators, "1w")
    assert after[0]["vwap"] == pytest.approx(before[0]["vwap"] / 10)


def raw(entry):
    return {name.encode(): value.encode() for name, value in entry.items()}


def divide(bar):
    prices = {name: getattr(bar, name) / 10 for name in ("open", "high", "low", "close")}
    return replace(bar, **prices, volume=bar.volume * 10)


def test_a_correction_from_after_the_split_is_no_other_price_and_a_bar_of_minutes_is_raw_then():
    scene, stream = make_scene(), Stream()
    scene.play([stream.split()])
    day = NYSE.find_date(date(2024, 6, 7))
    starts = [day.open_ms + n * MINUTE for n in range(10)]

    def minute(start_ms, close, asked):
        volume = 100.0 if asked < SPLIT_DAY else 1000.0
        bar = Bar("NVDA", "1m", start_ms, close, close, close, close, volume)
        return stream.write(bar, evening_of(asked), "yahoo", Adjustment.SPLITS)

    scene.play([minute(start, 1200.0 + n, day.date) for n, start in enumerate(starts)])
    scene.play([minute(starts[-1], 120.9, date(2024, 6, 11)), minute(starts[-2], 120.95, date(2024, 6, 11))])
    assert [each["check"] for each in scene.quarantine] == ["duplicate"]
    (five,) = [bar for bar in scene.shown("5m") if bar.start_ms == starts[5]]
    assert (five.open, five.high, five.close) == (1205.0, 1209.5, 1209.0)
    assert "adjustment" not in scene.bars["5m", starts[5]]


def test_the_state_keeps_how_each_bar_is_adjusted_and_old_states_are_read():
    scene, stream = make_scene(), Stream()
    scene.play([stream.split(), stream.yahoo(DAYS[0], DAYS[0]), *stream.massive(DAYS[1])])
    scene.restart()
    held = scene.state.tables["1d"].list_shown(0, LATEST_MS)
    assert [each.adjustment for each in held] == [Adjustment.SPLITS, Adjustment.RAW]
    assert scene.state.splits == ((SPLIT_DAY, 10.0),)
    scene.stored[b"position"] = b" ".join(scene.stored[b"position"].split(b" ")[:2])
    scene.restart()
    assert scene.state.positions[2] == b"0-0"
    assert scene.grid.find_day(held[0].bar.start_ms + DAY_MS) is not None


def test_a_history_that_its_source_has_adjusted_anew_is_taken_also_where_it_is_not_kept_any_more():
    scene, stream = make_scene(), Stream()
    old, asked = date(2021, 6, 10), date(2024, 6, 7)

    def give(close, asked, adjustment=Adjustment.SPLITS):
        start_ms = NYSE.find_date(old).open_ms
        bar = Bar("NVDA", "1d", start_ms, close, close, close, close, 1.0)
        return stream.write(bar, evening_of(asked), "yahoo", adjustment)

    scene.play([give(696.5, asked), stream.yahoo(asked, asked)])
    published = scene.bars["1d", NYSE.find_date(old).open_ms]
    assert (published["close"], published["adjusted_to"]) == ("696.5", "2024-06-07")
    scene.play([give(69.65, SPLIT_DAY, Adjustment.RAW)])
    assert [each["check"] for each in scene.quarantine] == ["too_late"]
    scene.builder.take(give(69.65, SPLIT_DAY))
    (again,) = scene.builder.flush(0).bars
    assert (again["close"], again["adjusted_to"], again["final"]) == ("69.65", "2024-06-10", "1")
    assert int(again["epoch"]) > int(published["epoch"])


def test_a_split_from_before_the_kept_days_starts_nothing_anew_and_costs_no_bar_its_identity():
    scene, stream = make_scene(timeframes=["1d"]), Stream()
    for day in DAYS[:3]:
        scene.play([stream.yahoo(day, day)])
    assert "1d" in {frame for frame, _ in scene.indicators}
    scene.play([stream.split(replace(SPLIT, ex_day=date(2021, 7, 20), ratio=4.0), DAYS[2])])
    outputs = scene.play([stream.yahoo(DAYS[3], DAYS[3])])
    assert len(outputs.indicators) == 1
    assert scene.state.applied == ()
    view, table = SplitView(scene.state, scene.grid), scene.state.tables["1d"]
    helds = table.list_shown(0, LATEST_MS)
    assert all(one is held.bar for one, held in zip(view.list_bars(table), helds, strict=True))


def test_indicators_start_anew_once_for_a_split_and_again_if_it_is_withdrawn():
    scene, stream = make_scene(timeframes=["1d"]), Stream()
    scene.play([stream.split()])
    for day in DAYS:
        outputs = scene.play([stream.write(day_bar(day, CLOSES[day]), evening_of(day), "tiingo")])
        published = {int(each["start"]) for each in outputs.indicators}
        assert len(published) == (DAYS.index(day) + 1 if day == SPLIT_DAY else 1), day
        scene.restart()
    withdrawn = stream.split(seen=DAYS[-1])
    fields = {name: value for name, value in withdrawn.fields.items() if name != b"ratio"}
    outputs = scene.play([replace(withdrawn, fields=fields | {b"withdrawn": b"1"})])
    assert len(outputs.indicators) == len(DAYS)
    assert scene.state.applied == ()
