import csv
import math
import tracemalloc
import zlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import numpy as np
import orjson
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from services.bars.bar_columns import CheckpointError
from services.bars.indicator_catalog import INDICATORS
from services.bars.indicators import SEAMS, IndicatorSeries, TooOldError
from services.market.records import DAY_MS, MINUTE_MS, Bar
from services.market.sessions import get_session
from support.examples import examples
from support.scenes.bars import batch

DOCS = Path(__file__).parents[3] / "docs" / "services" / "features.md"
PUBLISHED = Path(__file__).parent / "published"
DAY = get_session("24x7")
BLOCK = 40
BEGIN_MS = 1_795_392_000_000  # a midnight of UTC
OUTPUTS = [name for indicator in INDICATORS.values() for name in indicator.outputs]


def make_bars(random: Random, count: int, timeframe: str = "1m", volumes: float = 1.0) -> list[Bar]:
    """Return random bars in order, with gaps between; of these, a share `volumes` has a volume."""
    bars, price, start_ms = [], 100.0, BEGIN_MS
    step_ms = MINUTE_MS if timeframe == "1m" else DAY_MS
    for _ in range(count):
        opened = price
        price = max(1.0, round(price * math.exp(random.gauss(0, 0.01)), random.choice([2, 4, 12])))
        high, low = max(opened, price) * (1 + random.random() / 100), min(opened, price) * 0.999
        volume = float(random.choice([0, 1, random.randrange(10**7), random.random() * 100]))
        bars.append(
            Bar(
                "X", timeframe, start_ms, opened, high, low, price,
                volume=volume if random.random() < volumes else None,
                vwap=(high + low) / 2 if random.random() < 0.5 else None,
            )
        )  # fmt: skip
        start_ms += step_ms * (1 if random.random() < 0.9 else random.randrange(2, 200))
    return bars


def make_series(bars: list[Bar]) -> IndicatorSeries:
    series = IndicatorSeries("1m", DAY, INDICATORS, block=BLOCK)
    for bar in bars:
        series.append(bar)
    return series


def change_bar(random: Random, bar: Bar) -> Bar:
    close = bar.close * (1 + random.random() / 50)
    return replace(bar, close=close, high=max(bar.high, close), volume=bar.volume and bar.volume + 1)


def read_columns(bars: list[Bar]) -> dict[str, np.ndarray]:
    names = ("high", "low", "close", "volume")
    return {name: np.array([getattr(bar, name) for bar in bars], dtype=float) for name in names}


def run_talib(bars: list[Bar]) -> dict[str, np.ndarray]:
    """Return what TA-Lib says of all these bars, by calls of this test's own."""
    high, low, close, volume = read_columns(bars).values()
    macd = talib.MACD(close, 12, 26, 9)
    bands = talib.BBANDS(close, 20, 2.0, 2.0)
    stochastic = talib.STOCH(high, low, close, fastk_period=14, slowk_period=3, slowd_period=3)
    return {
        "sma_20": talib.SMA(close, 20),
        "ema_20": talib.EMA(close, 20),
        "rsi_14": talib.RSI(close, 14),
        **dict(zip(("macd", "macd_signal", "macd_hist"), macd, strict=True)),
        **dict(zip(("bb_upper", "bb_middle", "bb_lower"), bands, strict=True)),
        "atr_14": talib.ATR(high, low, close, 14),
        **dict(zip(("stoch_k", "stoch_d"), stochastic, strict=True)),
        "adx_14": talib.ADX(high, low, close, 14),
        "cci_20": talib.CCI(high, low, close, 20),
        "obv": talib.OBV(close, volume),
        "mfi_14": talib.MFI(high, low, close, volume, 14),
        "willr_14": talib.WILLR(high, low, close, 14),
    }


def none_for_nan(number: float) -> float | None:
    return None if math.isnan(number) else float(number)


class Feed:
    """Send a history as a market does: bars that form, come late, are corrected; and restarts in between.

    Three of ten that are late or corrected may be older than what the series itself can compute again.
    """

    def __init__(self, random: Random, bars: list[Bar]) -> None:
        self.random = random
        self.bars = bars
        self.series = self.make_series()
        self.published: dict[int, dict[str, float | None]] = {}
        self.sent: dict[int, Bar] = {}

    def make_series(self) -> IndicatorSeries:
        return IndicatorSeries(self.bars[0].timeframe, DAY, INDICATORS, block=BLOCK)

    def put(self, bar: Bar) -> None:
        self.sent[bar.start_ms] = bar
        try:
            self.published.update(self.series.put(bar))
        except TooOldError:
            self.published.update(self.series.recompute(bar.start_ms, self.list_since))

    def list_since(self, start_ms: int) -> list[Bar]:
        return [bar for start, bar in sorted(self.sent.items()) if start >= start_ms]

    def choose_age(self) -> int:
        return self.random.randrange(BLOCK // 2 if self.random.random() < 0.7 else 10 * BLOCK)

    def restart(self) -> None:
        packed = self.series.checkpoint()
        self.series = self.make_series()
        self.series.restore(packed)

    def play(self) -> None:
        late: dict[int, int] = {}  # when it comes, by its number
        for number in range(len(self.bars)):
            if number and self.random.random() < 0.05:
                late[number] = number + self.choose_age()
            else:
                self.send_newest(number, self.bars[number])
            if self.random.random() < 0.05:
                self.correct(max(0, number - self.choose_age()), late)
            last = number == len(self.bars) - 1
            for arrived in [n for n, due in late.items() if last or due <= number]:
                del late[arrived]
                self.put(self.bars[arrived])

    def correct(self, number: int, late: dict[int, int]) -> None:
        self.bars[number] = change_bar(self.random, self.bars[number])
        if number not in late:
            self.put(self.bars[number])

    def send_newest(self, number: int, bar: Bar) -> None:
        for _ in range(self.random.choice([0, 0, 1, 3])):
            self.put(change_bar(self.random, bar))
        if self.random.random() < 0.1:
            self.restart()
        self.put(self.bars[number])
        if self.random.random() < 0.1:
            self.put(self.bars[number])


@settings(max_examples=examples(40))
@given(st.integers(0, 2**32), st.sampled_from(["1m", "1d"]), st.sampled_from([1.0, 0.98, 0.0]))
def test_bar_by_bar_equals_all_at_once_bit_for_bit(seed, timeframe, volumes):
    random = Random(seed)
    feed = Feed(random, make_bars(random, random.randrange(1, 10 * BLOCK), timeframe, volumes))
    feed.play()
    expected = batch(feed.bars, DAY, block=BLOCK)
    starts = [bar.start_ms for bar in feed.bars]
    assert sorted(feed.published) == starts
    for start_ms, values in zip(starts, expected, strict=True):
        assert feed.published[start_ms] == values


@given(st.integers(0, 2**32))
def test_the_first_two_blocks_are_talib_over_the_whole_history_bit_for_bit(seed):
    bars = make_bars(Random(seed), 2 * BLOCK)
    series = IndicatorSeries("1m", DAY, INDICATORS, block=BLOCK)
    appended = [series.append(bar) for bar in bars]
    for name, column in run_talib(bars).items():
        assert [values[name] for values in appended] == [none_for_nan(number) for number in column]


def test_a_later_value_is_talib_from_the_beginning_of_the_previous_block():
    bars = make_bars(Random(5), 5 * BLOCK)
    values = batch(bars, DAY, block=BLOCK)
    for number in (2 * BLOCK, 3 * BLOCK - 1, 3 * BLOCK, 4 * BLOCK + 17):
        begin = (number // BLOCK - 1) * BLOCK
        for name, column in run_talib(bars[begin : number + 1]).items():
            if name != "obv":
                assert values[number][name] == float(column[-1]), name
    assert [value["obv"] for value in values] == talib.OBV(*list(read_columns(bars).values())[2:]).tolist()


def test_where_a_block_begins_cannot_be_seen_in_the_values():
    bars = make_bars(Random(7), 1300)
    values = batch(bars, DAY)
    for name, column in run_talib(bars).items():
        found = np.array([math.nan if value[name] is None else value[name] for value in values])
        assert np.allclose(found, column, rtol=1e-9, atol=1e-9, equal_nan=True), name


def test_every_value_is_none_until_it_is_warm_and_not_longer():
    bars = make_bars(Random(1), 2 * BLOCK)
    bars[0] = replace(bars[0], volume=5.0)  # nothing was traded is no price
    values = batch(bars, DAY, block=BLOCK)
    for indicator in INDICATORS.values():
        for name in indicator.outputs:
            cold = indicator.warm_bars - 1
            assert [value[name] is None for value in values] == [True] * cold + [False] * (len(bars) - cold)


def test_there_are_thirteen_indicators_and_a_choice_of_them_is_computed_alone():
    assert len(INDICATORS) == 13
    assert len(set(OUTPUTS)) == len(OUTPUTS) == 18
    bars = make_bars(Random(2), 3 * BLOCK)
    series = IndicatorSeries("1m", DAY, ["rsi", "obv"], block=BLOCK)
    assert [series.append(bar) for bar in bars] == batch(bars, DAY, ["obv", "rsi"], block=BLOCK)
    assert list(series.revise(bars[-1])[0][1]) == ["rsi_14", "obv"]
    for names in (["rsi", "magic"], []):
        with pytest.raises(ValueError, match="there are sma, ema"):
            IndicatorSeries("1m", DAY, names)


def test_the_page_has_the_indicators_and_their_values_in_order_and_when_they_are_warm():
    head = "| indicator | values | bars | what it is |\n| --- | --- | ---: | --- |\n"
    table = DOCS.read_text(encoding="utf-8").partition(head)[2].partition("\n\n")[0]
    rows = [row.removeprefix("| ").removesuffix(" |").split(" | ") for row in table.splitlines()]
    assert [row[:3] for row in rows] == [
        [f"`{each.name}`", ", ".join(f"`{name}`" for name in each.outputs), str(each.warm_bars)]
        for each in INDICATORS.values()
    ]
    assert all(meaning.endswith(".") for _, _, _, meaning in rows)


def read_ms(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)


def read_published(timeframe: str) -> tuple[list[dict[str, str]], list[Bar]]:
    """Return the 502 bars and what Stock.Indicators publishes of them; as minutes, they are of one day."""
    with (PUBLISHED / "stock_indicators.csv").open() as file:
        rows = list(csv.DictReader(file))
    bars = []
    for number, row in enumerate(rows):
        start_ms = read_ms(row["date"]) if timeframe == "1d" else BEGIN_MS + number * MINUTE_MS
        prices = (float(row[name]) for name in ("open", "high", "low", "close", "volume"))
        bars.append(Bar("SPY", timeframe, start_ms, *prices))
    return rows, bars


# from which bar on they agree: where seeds differ, as soon as these are forgotten
@pytest.mark.parametrize(
    ("name", "since"),
    [
        ("sma_20", 19), ("ema_20", 19), ("rsi_14", 14),
        ("macd", 250), ("macd_signal", 250), ("macd_hist", 250),
        ("atr_14", 14), ("stoch_k", 17), ("stoch_d", 17), ("adx_14", 260), ("cci_20", 19), ("mfi_14", 14),
        ("willr_14", 13),
    ],
)  # fmt: skip
def test_values_are_those_that_others_published_of_502_bars(name, since):
    rows, bars = read_published("1d")
    series = IndicatorSeries("1d", DAY, INDICATORS)
    values = [series.append(bar) for bar in bars]
    assert len(rows) == 502
    for row, value in list(zip(rows, values, strict=True))[since:]:
        assert value[name] == pytest.approx(float(row[name]), abs=7e-7)


def test_bollinger_bands_are_those_that_others_published():
    _, bars = read_published("1d")
    values = batch(bars, DAY)
    published = {249: (259.5642, 255.5500, 251.5358), 501: (273.7004, 251.8600, 230.0196)}
    for number, expected in published.items():
        found = [values[number][name] for name in ("bb_upper", "bb_middle", "bb_lower")]
        assert found == pytest.approx(expected, abs=5e-5)


def test_obv_is_the_published_one_after_another_beginning():
    rows, bars = read_published("1d")
    # theirs begins with 0, TA-Lib's with the first volume
    for row, value in zip(rows, batch(bars, DAY), strict=True):
        assert value["obv"] - bars[0].volume == float(row["obv"])


def test_vwap_of_one_session_is_the_published_one():
    rows, bars = read_published("1m")
    series = IndicatorSeries("1m", DAY, INDICATORS)
    for row, bar in zip(rows, bars, strict=True):
        assert series.append(bar)["vwap"] == pytest.approx(float(row["vwap"]), abs=6e-7)


def minute(at_ms: int, price: float, volume: float | None, vwap: float | None = None) -> Bar:
    return Bar("X", "1m", at_ms, price, price, price, price, volume=volume, vwap=vwap)


def test_where_talib_would_divide_by_nothing_a_price_that_stands_still_has_zeros():
    bars = [Bar("X", "1m", number * 60_000, 1, 1, 1, 1, 5.0) for number in range(60)]
    values = batch(bars, get_session("24x7"))[-1]
    names = ("rsi_14", "stoch_k", "stoch_d", "adx_14", "cci_20", "mfi_14", "willr_14", "macd", "atr_14")
    assert {name: values[name] for name in names} == dict.fromkeys(names, 0)


def test_vwap_begins_again_with_each_session_and_is_none_outside():
    session = get_session("XNYS")
    day = session.find_day(read_ms("2026-11-27") + 15 * 3_600_000)
    series = IndicatorSeries("1m", session, INDICATORS)
    assert series.append(minute(day.open_ms - MINUTE_MS, 50.0, 100.0))["vwap"] is None
    assert series.append(minute(day.open_ms, 10.0, 1.0))["vwap"] == 10.0
    assert series.append(minute(day.open_ms + MINUTE_MS, 20.0, 3.0))["vwap"] == 17.5
    assert series.append(minute(day.close_ms, 99.0, 3.0))["vwap"] is None
    monday = session.next_day(day.close_ms)
    assert series.append(minute(monday.open_ms + 5 * MINUTE_MS, 30.0, 2.0))["vwap"] == 30.0
    assert series.append(minute(4_000_000_000_000, 30.0, 2.0))["vwap"] is None  # beyond the calendar


def test_vwap_of_a_session_that_began_before_the_series_is_unknown():
    series = IndicatorSeries("1m", DAY, INDICATORS)
    assert series.append(minute(BEGIN_MS + MINUTE_MS, 10.0, 1.0))["vwap"] is None
    assert series.append(minute(BEGIN_MS + 2 * MINUTE_MS, 10.0, 1.0))["vwap"] is None
    assert series.append(minute(BEGIN_MS + DAY_MS + MINUTE_MS, 10.0, 1.0))["vwap"] == 10.0


def test_vwap_prefers_the_bars_own_and_needs_every_volume():
    series = IndicatorSeries("1m", DAY, INDICATORS)
    assert series.append(minute(BEGIN_MS, 10.0, 0.0))["vwap"] is None  # nothing was traded
    assert series.append(minute(BEGIN_MS + MINUTE_MS, 10.0, 1.0, vwap=12.0))["vwap"] == 12.0
    assert series.append(minute(BEGIN_MS + 2 * MINUTE_MS, 10.0, None))["vwap"] is None
    assert series.append(minute(BEGIN_MS + 3 * MINUTE_MS, 10.0, 1.0))["vwap"] is None
    assert series.append(minute(BEGIN_MS + DAY_MS, 10.0, 1.0))["vwap"] == 10.0


def test_vwap_of_a_daily_bar_is_that_of_the_bar():
    series = IndicatorSeries("1d", get_session("XNYS"), INDICATORS)
    bar = Bar("X", "1d", BEGIN_MS, 10.0, 12.0, 9.0, 12.0, volume=7.0)
    assert series.append(bar)["vwap"] == pytest.approx(11.0, rel=1e-15)


def test_a_bar_without_a_volume_ends_what_needs_one_and_nothing_else():
    bars = [replace(bar, vwap=None, volume=bar.volume + 1) for bar in make_bars(Random(3), 60, "1d")]
    bars[30] = replace(bars[30], volume=None)
    values = batch(bars, DAY, block=BLOCK)
    assert [number for number, value in enumerate(values) if value["obv"] is None] == [30]
    assert values[31]["obv"] == bars[31].volume
    assert [n for n, value in enumerate(values) if value["mfi_14"] is None] == [*range(14), *range(30, 45)]
    assert all(values[number]["rsi_14"] is not None for number in range(14, 60))


def test_a_series_without_any_volume_has_all_that_needs_none():
    series = IndicatorSeries("1d", DAY, INDICATORS)
    for bar in make_bars(Random(3), 60, "1d", volumes=0):
        values = series.append(bar)
    assert {name for name, value in values.items() if value is None} == {"obv", "mfi_14", "vwap"}


def test_a_correction_returns_its_bar_and_all_later_ones():
    bars = make_bars(Random(4), 3 * BLOCK)
    series = make_series(bars)
    bars[-25] = replace(bars[-25], close=bars[-25].close * 1.5, high=bars[-25].high * 2)
    changes = series.revise(bars[-25])
    assert (
        changes == list(zip([bar.start_ms for bar in bars], batch(bars, DAY, block=BLOCK), strict=True))[-25:]
    )
    assert series.put(bars[-25]) == []  # said again, it changes nothing


def test_a_missing_bar_is_inserted_where_it_belongs():
    bars = make_bars(Random(6), 3 * BLOCK)
    series = IndicatorSeries("1m", DAY, INDICATORS, block=BLOCK)
    for bar in bars[:-20] + bars[-19:]:
        series.put(bar)
    changes = series.put(bars[-20])
    assert [start_ms for start_ms, _ in changes] == [bar.start_ms for bar in bars[-20:]]
    assert [values for _, values in changes] == batch(bars, DAY, block=BLOCK)[-20:]
    newer = replace(bars[-1], start_ms=bars[-1].start_ms + DAY_MS)
    assert series.append(newer) == batch([*bars, newer], DAY, block=BLOCK)[-1]


def test_a_correction_that_is_too_old_is_refused_and_changes_nothing():
    bars = make_bars(Random(4), 4 * BLOCK)
    series = make_series(bars)
    before = series.checkpoint()
    for old in (bars[2 * BLOCK - 1], bars[BLOCK], bars[0], minute(0, 1.0, 1.0)):
        with pytest.raises(TooOldError, match="last 40 bars"):
            series.revise(replace(old, close=1.0))
    assert series.checkpoint() == before
    assert len(series.put(replace(bars[2 * BLOCK], close=1.0))) == 2 * BLOCK


def test_an_old_correction_is_taken_in_as_long_as_the_bars_of_two_blocks_before_it_are_kept():
    bars = make_bars(Random(4), 9 * BLOCK)
    series = make_series(bars)
    number = 3 * BLOCK + 5
    bars[number] = replace(bars[number], close=bars[number].close * 1.5, high=bars[number].high * 2)
    before = series.checkpoint()
    with pytest.raises(TooOldError, match="not kept any more"):
        series.recompute(bars[number].start_ms, lambda _: bars[2 * BLOCK + 1 :])
    assert series.checkpoint() == before
    since = []
    changes = series.recompute(
        bars[number].start_ms, lambda start_ms: since.append(start_ms) or bars[2 * BLOCK :]
    )
    assert since == [bars[2 * BLOCK].start_ms]
    assert [start_ms for start_ms, _ in changes] == [bar.start_ms for bar in bars[number:]]
    assert [values for _, values in changes] == batch(bars, DAY, block=BLOCK)[number:]
    assert len(series) <= 3 * BLOCK


def test_a_bar_before_the_first_one_is_taken_in_however_late_it_comes():
    bars = make_bars(Random(4), 9 * BLOCK)
    series = make_series(bars[1:])
    for number in (0, 2):  # the second is a correction of a series that begins with the first
        bars[number] = replace(bars[number], close=bars[number].low)
        changes = series.recompute(
            bars[number].start_ms, lambda since_ms: [bar for bar in bars if bar.start_ms >= since_ms]
        )
        assert [values for _, values in changes] == batch(bars, DAY, block=BLOCK)[number:]


def test_a_correction_older_than_the_seams_is_refused_and_changes_nothing():
    bars = make_bars(Random(4), (SEAMS + 4) * BLOCK)
    series = make_series(bars)
    before = series.checkpoint()
    with pytest.raises(TooOldError, match="is unknown"):
        series.recompute(bars[3 * BLOCK - 1].start_ms, lambda _: bars)
    assert series.checkpoint() == before
    changes = series.recompute(bars[5 * BLOCK].start_ms, lambda _: bars[4 * BLOCK :])
    assert [values for _, values in changes] == batch(bars, DAY, block=BLOCK)[5 * BLOCK :]


def test_a_series_holds_at_most_three_blocks_and_loads_the_past_without_computing_it():
    bars = make_bars(Random(8), 500)
    grown, loaded = (IndicatorSeries("1m", DAY, INDICATORS, block=BLOCK) for _ in range(2))
    for bar in bars:
        newest = grown.append(bar)
        assert len(grown) <= 3 * BLOCK
    loaded.extend(bars[:300])
    loaded.extend(bars[300:499])
    assert loaded.append(bars[499]) == newest
    assert loaded.checkpoint() == grown.checkpoint()
    with pytest.raises(ValueError, match="not in order"):
        loaded.extend([bars[3]])


@pytest.mark.parametrize(
    "change",
    [
        {"close": math.nan},
        {"high": math.inf},
        {"low": -1e19},
        {"volume": math.nan},
        {"vwap": math.inf},
        {"timeframe": "5m"},
        {"start_ms": 10**15},
    ],
)
def test_a_bar_that_is_none_is_refused_and_changes_nothing(change):
    bars = make_bars(Random(9), 50)
    series = IndicatorSeries("1m", DAY, INDICATORS)
    series.extend(bars[:49])
    before = series.checkpoint()
    for put in (series.append, series.put, series.revise):
        with pytest.raises(ValueError, match=r"1m|5m"):
            put(replace(bars[49], **change))
    assert series.checkpoint() == before
    assert series.append(bars[49]) == batch(bars, DAY)[-1]


def test_the_largest_numbers_make_no_value_that_json_cannot_hold():
    series = IndicatorSeries("1d", DAY, INDICATORS)
    for number in range(60):
        price = 1e18 if number % 2 else -1e18
        values = series.append(Bar("X", "1d", BEGIN_MS + number * DAY_MS, price, 1e18, -1e18, price, 1e18))
        assert all(value is None or math.isfinite(value) for value in values.values())


def test_a_checkpoint_of_another_series_is_refused():
    packed = make_series(make_bars(Random(11), 50)).checkpoint()
    for series in (
        IndicatorSeries("5m", DAY, INDICATORS, block=BLOCK),
        IndicatorSeries("1m", DAY, INDICATORS),
    ):
        with pytest.raises(CheckpointError, match="another series"):
            series.restore(packed)
    empty = IndicatorSeries("1m", DAY, INDICATORS, block=BLOCK)
    empty.restore(IndicatorSeries("1m", DAY, INDICATORS, block=BLOCK).checkpoint())
    assert (len(empty), empty.last_ms) == (0, None)


@given(st.data())
def test_a_damaged_checkpoint_is_refused_and_changes_nothing(data):
    series = make_series(make_bars(Random(11), 50))
    packed = series.checkpoint()
    cut = data.draw(st.integers(0, len(packed) - 1))
    damaged = data.draw(st.sampled_from([packed[:cut], packed[:cut] + b"\0" + packed[cut + 1 :], b""]))
    try:
        series.restore(damaged)
    except CheckpointError:
        assert series.checkpoint() == packed
    else:
        assert damaged == packed  # the byte was 0 before


@given(st.binary(max_size=200), st.sampled_from([-1, 0, 1, 2, 30_000, None]), st.integers(0, 3))
def test_a_forged_checkpoint_is_an_error_of_one_kind(body, count, size):
    header = {"format": 1, "timeframe": "1m", "block": BLOCK, "count": count, "seams": []}
    series = make_series(make_bars(Random(11), 5))
    before = series.checkpoint()
    for packed in (body, zlib.compress(body), zlib.compress(bytes(size * 72))):
        try:
            series.restore(orjson.dumps(header) + b"\n" + packed)
        except CheckpointError:
            assert series.checkpoint() == before
        else:  # bars of zeros, in order and as many as it says
            assert len(series) == count < 2
            series.restore(before)


@pytest.mark.parametrize("seams", [None, 5, [5], [[1, [2, [3]]]]])
def test_a_checkpoint_without_readable_seams_is_refused(seams):
    series = make_series(make_bars(Random(11), 50))
    line, _, columns = series.checkpoint().partition(b"\n")
    header = orjson.loads(line)
    for damaged in ({**header, "seams": seams}, {name: header[name] for name in header if name != "seams"}):
        with pytest.raises(CheckpointError, match="unreadable seam"):
            series.restore(orjson.dumps(damaged) + b"\n" + columns)


@pytest.mark.slow
def test_a_checkpoint_that_unpacks_to_more_than_it_says_is_refused():
    header = {"format": 1, "timeframe": "1m", "block": BLOCK, "count": 2, "seams": []}
    bomb = orjson.dumps(header) + b"\n" + zlib.compress(bytes(50_000_000))
    series = make_series(make_bars(Random(11), 50))
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="not as long"):
            series.restore(bomb)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
