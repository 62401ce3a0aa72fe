"""A symbol's bars: whatever the order and the batches in which minutes come, the end is that of one pass."""

import random
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.bars.outputs import Arrival
from services.market.entries import encode_entry
from services.market.records import (
    DAY_MS,
    PERIODS,
    SOURCE_TIMEFRAMES,
    AssetClass,
    Bar,
    Provenance,
    Quote,
    RecordKind,
)
from services.market.sessions import get_session
from support.examples import examples
from support.scenes.bars import (
    CRYPTO,
    MIDNIGHT,
    MINUTE,
    SymbolScene,
    aggregate_all,
    arrival,
    assert_same_as_batch,
    assert_same_bars,
    batch,
    minutes,
    values_of,
    walk,
)


@settings(max_examples=examples(30))
@given(st.integers(0, 2**32), st.integers(30, 150), st.floats(0, 0.3), st.integers(1, 60))
def test_streaming_equals_batch_for_any_order_batches_corrections_and_restarts(seed, count, lost, most):
    chance = random.Random(seed)
    # from the evening, across midnight
    wanted = [
        bar for bar in minutes(count, MIDNIGHT + DAY_MS - 75 * MINUTE, seed=seed) if chance.random() >= lost
    ]
    arrivals = [arrival(bar, number, seen_ms=bar.start_ms + 2 * DAY_MS) for number, bar in enumerate(wanted)]
    for number in chance.sample(range(len(wanted)), len(wanted) // 10):
        # what came first was wrong, and is corrected later, by a later answer
        bar = wanted[number]
        wrong = Bar(bar.symbol, "1m", bar.start_ms, bar.open, bar.high, bar.low, bar.open, bar.volume)
        arrivals.append(arrival(wrong, seen_ms=bar.start_ms + DAY_MS))
    order = sorted(arrivals, key=lambda each: (each.fields[b"asked_at"], chance.random()))
    late = chance.sample(range(len(order)), len(order) // 10)
    for at in late:  # and some are late
        other = min(len(order) - 1, at + chance.randint(0, 50))
        if order[at].fields[b"start"] != order[other].fields[b"start"]:
            order[at], order[other] = order[other], order[at]
    scene = SymbolScene(CRYPTO, checks={"jump_share": 10})
    held = {}
    while order:
        size = chance.randint(1, most)
        batch, order = order[:size], order[size:]
        for each in batch:
            start, asked = int(each.fields[b"start"]), float(each.fields[b"asked_at"])
            held[start] = max(held.get(start, 0), asked)
        scene.play(batch)
        if chance.random() < 0.1:  # another instance takes over
            scene.restart()
    assert all(each["check"] in ("monotone_time", "duplicate") for each in scene.quarantine), scene.quarantine
    assert_same_as_batch(scene.bars, scene.indicators, wanted, CRYPTO)
    assert_final_is_what_is_over_and_was_seen_from_its_open(scene, wanted)


def assert_final_is_what_is_over_and_was_seen_from_its_open(scene, bars):
    first_ms, newest_ms = bars[0].start_ms, bars[-1].start_ms
    for (timeframe, start_ms), entry in scene.bars.items():
        is_over = scene.grid.find(start_ms, timeframe).close_ms <= newest_ms
        assert (entry["final"] == "1") == (is_over and start_ms >= first_ms), (timeframe, start_ms)


def test_a_bar_of_which_only_a_part_was_seen_is_not_final_until_its_beginning_comes():
    session = get_session("XNYS")
    day, following = list(session.iter_days(MIDNIGHT, MIDNIGHT + 2 * DAY_MS))
    bars = walk([*range(day.open_ms, day.close_ms, MINUTE), following.open_ms])
    scene = SymbolScene(session)
    scene.play((arrival(bar) for bar in bars[200:]), clock_ms=day.close_ms + 2 * DAY_MS)

    def starts_of_open():
        open_ones = {key for key, entry in scene.bars.items() if entry["final"] == "0"}
        return {(frame, start) for frame, start in open_ones if frame not in PERIODS}

    hour_ms = 60 * MINUTE
    assert starts_of_open() == {
        ("1d", day.open_ms),
        ("4h", day.open_ms),
        ("1h", day.open_ms + 3 * hour_ms),
        ("30m", day.open_ms + 180 * MINUTE),
        ("15m", day.open_ms + 195 * MINUTE),
    }
    assert not scene.builder.find_due(day.close_ms + 3 * DAY_MS)
    scene.restart()
    scene.play((arrival(bar) for bar in bars[100:200]), clock_ms=day.close_ms + 2 * DAY_MS)
    assert starts_of_open() == {
        ("1d", day.open_ms),
        ("4h", day.open_ms),
        ("1h", day.open_ms + hour_ms),
        ("30m", day.open_ms + 90 * MINUTE),
        ("15m", day.open_ms + 90 * MINUTE),
    }
    scene.play((arrival(bar) for bar in bars[:100]), clock_ms=day.close_ms + 2 * DAY_MS)
    assert starts_of_open() == set()
    assert_same_as_batch(scene.bars, scene.indicators, bars, session)


def test_the_end_of_a_bar_is_that_of_its_interval():
    session = get_session("XNYS")
    day = session.find_date(date(2026, 11, 27))  # an early close
    scene = SymbolScene(session)
    scene.play(arrival(bar) for bar in walk(range(day.open_ms, day.close_ms, MINUTE)))
    ends = {(frame, start): int(entry["end"]) for (frame, start), entry in scene.bars.items()}
    hour_ms = 60 * MINUTE
    assert ends["1d", day.open_ms] == ends["4h", day.open_ms] == day.close_ms
    assert ends["1h", day.open_ms] == day.open_ms + hour_ms
    assert ends["1h", day.open_ms + 3 * hour_ms] == day.close_ms
    assert ends["1m", day.open_ms] == day.open_ms + MINUTE


def test_a_late_minute_ripples_up_by_one_revision_in_each_timeframe():
    all_of_them = minutes(300)
    late = all_of_them[17]
    scene = SymbolScene(CRYPTO)
    scene.play(arrival(bar, at) for at, bar in enumerate(all_of_them) if bar is not late)
    before = dict(scene.bars)
    outputs = scene.play([arrival(late, 999)])
    starts = {entry["timeframe"]: int(entry["start"]) for entry in outputs.bars}
    assert starts == {
        "1m": late.start_ms,
        "5m": MIDNIGHT + 15 * MINUTE,
        "15m": MIDNIGHT + 15 * MINUTE,
        "30m": MIDNIGHT,
        "1h": MIDNIGHT,
        "4h": MIDNIGHT,
        "1d": MIDNIGHT,
    }
    for entry in outputs.bars[1:]:
        key = (entry["timeframe"], int(entry["start"]))
        assert int(entry["rev"]) == int(before[key]["rev"]) + 1
        assert entry["final"] == before[key]["final"]
    assert outputs.bars[0]["rev"] == "0"
    for frame in SOURCE_TIMEFRAMES:
        assert_same_bars(scene.shown(frame), aggregate_all(all_of_them, CRYPTO)[frame])


def test_a_bar_is_final_when_the_next_minute_is_seen():
    scene = SymbolScene(CRYPTO)
    bars = minutes(6)
    scene.play([arrival(bar) for bar in bars[:5]])
    assert scene.bars["5m", MIDNIGHT]["final"] == "0"
    assert [scene.bars["1m", bar.start_ms]["final"] for bar in bars[:5]] == ["1", "1", "1", "1", "0"]
    before = scene.bars["5m", MIDNIGHT]
    scene.play([arrival(bars[5])])
    assert scene.bars["5m", MIDNIGHT] == before | {"final": "1"}
    assert scene.indicators["5m", MIDNIGHT]["final"] == "1"
    assert scene.bars["15m", MIDNIGHT]["final"] == "0"


def test_a_bar_is_final_when_its_end_is_over_for_long_enough():
    scene = SymbolScene(CRYPTO)
    end = MIDNIGHT + 5 * MINUTE
    scene.play([arrival(bar) for bar in minutes(5)], clock_ms=end + 9_999)
    assert scene.bars["5m", MIDNIGHT]["final"] == "0"
    assert not scene.builder.find_due(end + 9_999)
    assert scene.builder.find_due(end + 10_000)
    outputs = scene.play([], clock_ms=end + 10_000)
    assert {(entry["timeframe"], entry["final"]) for entry in outputs.bars} == {("1m", "1"), ("5m", "1")}
    assert not scene.builder.find_due(end + 10_000)


def test_what_was_final_stays_final_when_it_is_corrected_or_the_clock_goes_back():
    scene = SymbolScene(CRYPTO)
    bars = minutes(5)
    scene.play([arrival(bar) for bar in bars], clock_ms=MIDNIGHT + DAY_MS)
    changed = Bar("BTC/USD", "1m", bars[2].start_ms, 100.0, 101.0, 99.0, 100.5)
    scene.play([arrival(changed, seen_ms=MIDNIGHT + DAY_MS)], clock_ms=0)
    assert (scene.bars["5m", MIDNIGHT]["rev"], scene.bars["5m", MIDNIGHT]["final"]) == ("5", "1")


def test_a_day_that_its_source_gave_after_its_end_stands_above_its_minutes():
    scene = SymbolScene(CRYPTO)
    given = Bar("BTC/USD", "1d", MIDNIGHT, 100, 120, 90, 110, 5_000)
    early = arrival(given, 1, seen_ms=MIDNIGHT + DAY_MS // 2)
    scene.play([early])
    assert scene.bars["1d", MIDNIGHT]["close"] == "110"
    assert scene.bars["1d", MIDNIGHT]["final"] == "0"
    bars = minutes(3)
    scene.play([arrival(bar) for bar in bars])
    assert scene.shown("1d")[0].close == bars[-1].close  # the minutes are better than half a day
    scene.play([arrival(given, 2, seen_ms=MIDNIGHT + DAY_MS)])
    whole = scene.bars["1d", MIDNIGHT]
    assert (whole["close"], whole["final"], whole["rev"]) == ("110", "1", "4")
    outputs = scene.play([arrival(minutes(4)[3])])
    assert "1d" not in {entry["timeframe"] for entry in outputs.bars}
    assert scene.bars["1h", MIDNIGHT]["rev"] == "3"


def test_a_day_that_is_named_by_midnight_is_the_session_of_that_date():
    scene = SymbolScene(get_session("XNYS"), symbols=["SPY"], asset="stocks")
    holiday, friday = 1_795_651_200_000, 1_795_737_600_000  # Thanksgiving 2026, and the day after
    for start in (holiday, friday):
        scene.play([arrival(Bar("SPY", "1d", start, 100, 120, 90, 110, 5_000), seen_ms=start + DAY_MS)])
    assert [bar.start_ms for bar in scene.shown("1d")] == [friday + 14 * 3_600_000 + 30 * MINUTE]
    assert [each["check"] for each in scene.quarantine] == ["wrong_session"]


@pytest.mark.parametrize(
    ("code", "minutes_before", "is_restarted"),
    [
        ("24x7", 33, False),
        ("24x7", 601, True),
        ("XNYS", 100, False),
        *(
            pytest.param(*case, marks=pytest.mark.nightly("24x7-33, 24x7-601 and XNYS-100 of the same test"))
            for case in [("24x7", 1, False), ("24x7", 1, True), ("24x7", 33, True), ("XNYS", 100, True)]
        ),
    ],
)
def test_a_correction_is_in_every_longer_bar_or_too_late_for_all(code, minutes_before, is_restarted):
    session = get_session(code)
    days = session.iter_days(MIDNIGHT - 6 * DAY_MS, MIDNIGHT - 4 * DAY_MS)
    starts = [start for day in days for start in range(day.open_ms, day.close_ms, MINUTE)][:-minutes_before]
    bars = walk(starts, whole=True)
    scene = SymbolScene(session, checks={"jump_share": 10}, options={"revise_days": 1}, indicators=[])
    for at in range(0, len(bars), 500):
        scene.play(arrival(bar, at) for bar in bars[at : at + 500])
    if is_restarted:
        scene.restart()
    border = bars[-1].start_ms - DAY_MS
    edges = (border, (session.find_day(border) or session.next_day(border)).open_ms)
    near = [n for n, bar in enumerate(bars) if any(-20 <= (bar.start_ms - at) // MINUTE < 20 for at in edges)]
    for number in near:
        corrected = replace(bars[number], volume=(bars[number].volume or 0) + 1)
        scene.play([arrival(corrected, 9, seen_ms=bars[-1].start_ms + MINUTE)])
        if scene.quarantine:
            assert scene.quarantine.pop()["check"] == "too_late"
        else:
            bars[number] = corrected
    for timeframe, expected in aggregate_all(bars, session).items():
        assert_same_bars(scene.shown(timeframe), expected)


@pytest.mark.parametrize("is_given_first", [True, False])
def test_a_day_of_utc_gives_way_to_the_day_of_the_session_that_is_built_of_all_minutes(is_given_first):
    session = get_session("24x5")
    day = session.find_date(date(2023, 11, 15))
    bars = walk(range(day.open_ms, day.close_ms, MINUTE), symbol="EUR/USD")
    close = bars[-1].close
    given = Bar("EUR/USD", "1d", MIDNIGHT, close, close * 1.2, close * 0.8, close)
    parts = [
        [arrival(given, seen_ms=MIDNIGHT + DAY_MS, other_hours="1")],
        [arrival(bar, seen_ms=day.close_ms) for bar in bars],
    ]
    scene = SymbolScene(session, symbols=["EUR/USD"], indicators=())
    for part in parts if is_given_first else parts[::-1]:
        scene.play(part, clock_ms=day.close_ms + DAY_MS)
        scene.restart()
    assert scene.quarantine == []
    (shown,) = scene.shown("1d")
    assert (shown.start_ms, shown.high) == (day.open_ms, max(bar.high for bar in bars))
    assert scene.bars["1d", day.open_ms]["final"] == "1"
    alone = SymbolScene(session, symbols=["EUR/USD"], indicators=())
    alone.play(parts[0])
    assert [bar.high for bar in alone.shown("1d")] == [given.high]
    assert alone.bars["1d", day.open_ms]["final"] == "1"


@pytest.mark.parametrize("is_given_first", [True, False])
@pytest.mark.parametrize(
    ("share", "is_quoted", "is_built"),
    [(0.01, False, False), (0.89, False, False), (0.91, False, True), (0.1, True, False)],
)
def test_a_day_of_utc_gives_way_to_minutes_only_if_nearly_all_of_the_day_came(
    share, is_built, is_given_first, is_quoted
):
    session = get_session("24x5")
    before, day = session.find_date(date(2023, 11, 14)), session.find_date(date(2023, 11, 15))
    starts = range(day.open_ms, day.close_ms, MINUTE)
    bars = walk([before.close_ms - MINUTE, *starts[: round(share * len(starts))]], symbol="EUR/USD")
    given = Bar("EUR/USD", "1d", MIDNIGHT, 100, 120, 80, 110)
    if is_quoted:
        parts = [[tick(bar.start_ms, bar.close, "EUR/USD") for bar in bars]]
    else:
        parts = [[arrival(bar) for bar in bars]]
    parts.insert(0 if is_given_first else 1, [arrival(given, seen_ms=MIDNIGHT + DAY_MS, other_hours="1")])
    scene = SymbolScene(
        session,
        symbols=["EUR/USD"],
        asset="forex",
        quotes=is_quoted,
        checks={"disagree_share": 10, "jump_share": 10},
    )
    for part in parts:
        scene.play(part, clock_ms=day.close_ms + DAY_MS)
        scene.restart()
    assert scene.quarantine == []
    entry = scene.bars["1d", day.open_ms]
    assert (entry["high"] != "120", "minutes" in entry, entry["final"]) == (is_built, is_built, "1")
    if not is_built:
        (shown,) = (bar for bar in scene.shown("1d") if bar.start_ms == day.open_ms)
        assert (shown.open, shown.high, shown.low, shown.close) == (100, 120, 80, 110)
    assert (scene.shown("1w")[0].high == 120) == (not is_built)


def tick(at_ms, price, symbol="BTC/USD"):
    fields = encode_entry(Quote(symbol, at_ms, price), AssetClass.CRYPTO, Provenance("one", at_ms / 1000))
    raw = {name.encode(): value.encode() for name, value in fields.items()}
    return Arrival(RecordKind.QUOTES, b"%d-0" % at_ms, raw)


@settings(max_examples=examples(50))
@given(
    st.lists(
        st.tuples(st.integers(0, 179_999), st.floats(99, 101)),
        min_size=1,
        max_size=40,
        unique_by=lambda at: at[0],
    ),
    st.randoms(use_true_random=False),
)
def test_ticks_make_the_minutes_that_all_of_them_together_make(ticks, chance):
    in_order = sorted(ticks)
    mixed = list(ticks)
    chance.shuffle(mixed)
    # within one minute in any order, and the minutes in theirs
    mixed.sort(key=lambda at: at[0] // MINUTE)
    scene = SymbolScene(CRYPTO, quotes=True)
    for at_ms, price in mixed:
        scene.play([tick(MIDNIGHT + at_ms, price)])
    expected = []
    for number in sorted({at_ms // MINUTE for at_ms, _ in ticks}):
        prices = [price for at_ms, price in in_order if at_ms // MINUTE == number]
        start = MIDNIGHT + number * MINUTE
        expected.append(Bar("BTC/USD", "1m", start, prices[0], max(prices), min(prices), prices[-1]))
    assert_same_bars(scene.shown("1m"), expected)
    assert scene.quarantine == []


def test_a_tick_of_a_minute_that_is_over_is_too_late():
    scene = SymbolScene(CRYPTO, quotes=True)
    now = MIDNIGHT + 5 * MINUTE
    scene.play([tick(now, 100), asked_tick(MIDNIGHT, 100, now, now)])
    assert [each["check"] for each in scene.quarantine] == ["too_late"]


def asked_tick(at_ms, price, asked_ms, written_ms, **more):
    """The entry of a quote that was asked for, and written, at these times."""
    asked = Provenance("one", asked_ms / 1000)
    fields = encode_entry(Quote("BTC/USD", at_ms, price), AssetClass.CRYPTO, asked)
    raw = {name.encode(): value.encode() for name, value in (fields | more).items()}
    return Arrival(RecordKind.QUOTES, b"%d-0" % written_ms, raw)


@pytest.mark.parametrize("ahead", [1, 10], ids=["one", "many"])
def test_minutes_of_quotes_go_on_after_a_clock_that_was_ahead_is_set_back(ahead):
    """The ids of the stream stay ahead, as it takes no lower ones; the sources ask by the right clock."""
    scene, step = SymbolScene(CRYPTO, quotes=True), 60 * MINUTE
    last = MIDNIGHT + step + ahead * MINUTE
    for at in range(MIDNIGHT + step, last, MINUTE):
        scene.play([asked_tick(at, 90.0, at, at)])
    scene.restart()
    for number in range(20):
        at = MIDNIGHT + number * MINUTE
        scene.play([asked_tick(at, 100.0, at, last), asked_tick(at + 30_000, 101.0, at + 30_000, last)])
    assert scene.quarantine == []
    found = [bar for bar in scene.shown("1m") if bar.start_ms < MIDNIGHT + step]
    assert [(bar.open, bar.high, bar.low, bar.close) for bar in found] == [(100.0, 101.0, 100.0, 101.0)] * 20


def test_minutes_that_were_built_by_a_clock_that_was_ahead_are_built_anew():
    scene = SymbolScene(CRYPTO, quotes=True)
    for number in range(20):
        at = MIDNIGHT + number * MINUTE
        scene.play([asked_tick(at, 90.0, at, at)])
    for number in range(5, 10):  # set back by a quarter of an hour
        at = MIDNIGHT + number * MINUTE
        scene.play([asked_tick(at, 90.1, at, MIDNIGHT + 20 * MINUTE)])
        scene.play([asked_tick(at + 30_000, 90.2, at + 30_000, MIDNIGHT + 20 * MINUTE)])
    found = scene.shown("1m")[5:10]
    assert [(bar.open, bar.close) for bar in found] == [(90.1, 90.2)] * 5


@pytest.mark.parametrize("more", [{"released": "1"}, {"replay": "1", "played_at": str(MIDNIGHT // 1000)}])
def test_what_is_released_or_played_of_an_earlier_time_says_nothing_of_the_clock(more):
    scene, now = SymbolScene(CRYPTO, quotes=True), MIDNIGHT + 10 * MINUTE
    scene.play([asked_tick(now, 100.0, now, now)])
    scene.play([asked_tick(MIDNIGHT, 90.0, MIDNIGHT, now, **more), asked_tick(now + 1, 101.0, now, now)])
    assert [each["check"] for each in scene.quarantine] == ["too_late"]
    assert [(bar.open, bar.close) for bar in scene.shown("1m")] == [(100.0, 101.0)]


def test_volumes_whose_sum_no_entry_can_hold_end_no_instance_that_takes_the_symbol_over():
    scene = SymbolScene(CRYPTO)
    huge = [Bar("BTC/USD", "1m", MIDNIGHT + number * MINUTE, 1, 1, 1, 1, 9e17) for number in range(3)]
    scene.play([arrival(huge[0])])
    scene.play([arrival(huge[1])])
    scene.restart()
    scene.play([arrival(huge[2])])
    assert [bar.volume for bar in scene.shown("1m")] == [9e17] * 3
    assert [bar.volume for bar in scene.shown("5m")] == [None]
    assert values_of(scene.indicators, "5m") == batch(scene.shown("5m"), CRYPTO)


def test_a_built_bar_says_of_how_many_minutes_it_is_and_how_many_are_missing():
    tokyo = get_session("XTKS")
    day = tokyo.find_date(date(2026, 1, 6))
    scene = SymbolScene(tokyo, symbols=("7203.T",), asset="stocks")
    scene.play(arrival(bar) for bar in walk(range(day.open_ms, day.open_ms + 60 * MINUTE, MINUTE)[::2]))
    built = scene.bars["1d", day.open_ms]
    trading = (day.close_ms - day.open_ms - (day.break_ms[1] - day.break_ms[0])) // MINUTE
    assert (built["minutes"], built["missing"]) == ("30", str(trading - 30)), "the lunch break is not missing"
    hour = scene.bars["1h", day.open_ms]
    assert (hour["minutes"], hour["missing"]) == ("30", "30")
    assert "minutes" not in scene.bars["1m", day.open_ms]
    scene.restart()
    scene.play([arrival(bar) for bar in walk([day.open_ms + MINUTE])])
    assert scene.bars["1d", day.open_ms]["minutes"] == "31", "it is stored with the bar"


def test_a_day_that_a_source_gave_is_built_of_no_minutes():
    scene = SymbolScene(CRYPTO)
    scene.play([arrival(bar) for bar in minutes(60)])
    given = replace(minutes(1)[0], timeframe="1d")
    scene.play([arrival(given, seen_ms=MIDNIGHT + DAY_MS + 1000)])
    assert scene.bars["1d", MIDNIGHT]["final"] == "1"
    assert not {"minutes", "missing"} & scene.bars["1d", MIDNIGHT].keys()


NEW_YORK = get_session("XNYS")
DAY = NEW_YORK.find_date(date(2026, 11, 24))


def session_minutes(count=390, close=100.0):
    """Minutes of a stock from the open on, with a thousand shares each."""
    starts = range(DAY.open_ms, DAY.open_ms + count * MINUTE, MINUTE)
    return [Bar("SPY", "1m", start, close, close + 1, close - 1, close, 1000.0) for start in starts]


def official_day(close, source="yahoo", rank=0, minutes_late=20):
    bar = Bar("SPY", "1d", DAY.open_ms, 100.0, max(close, 101.0), 99.0, close, 450_000.0)
    return arrival(bar, seen_ms=DAY.close_ms + minutes_late * MINUTE, source=source, rank=str(rank))


def test_the_days_close_and_volume_are_the_official_ones_once_they_come():
    scene = SymbolScene(NEW_YORK, symbols=("SPY",), asset="stocks")
    auction = Bar("SPY", "1m", DAY.close_ms, 100.75, 100.8, 100.2, 100.3, 60_000.0)
    scene.play([arrival(bar) for bar in [*session_minutes(), auction]], DAY.close_ms + MINUTE)
    built = scene.bars["1d", DAY.open_ms]
    assert (built["close"], built["volume"], built["final"]) == ("100", "390000", "1")
    assert max(start for frame, start in scene.bars if frame == "1m") < DAY.close_ms
    scene.play([official_day(100.5, "tiingo", rank=1)])
    scene.play([official_day(100.75, rank=0, minutes_late=30)])
    scene.play([official_day(100.25, "tiingo", rank=1, minutes_late=300)])
    scene.play([arrival(replace(session_minutes()[-1], close=100.9), seen_ms=DAY.close_ms + 400 * MINUTE)])
    found = scene.bars["1d", DAY.open_ms]
    assert (found["close"], found["volume"], found["final"]) == ("100.75", "450000", "1")
    assert (found["source"], "minutes" in found) == ("yahoo", False)
    assert int(found["rev"]) > int(built["rev"])


@pytest.mark.parametrize(
    ("count", "close", "is_taken"), [(60, 108.0, True), (390, 108.0, False), (390, 102.5, True)]
)
def test_few_minutes_do_not_hold_up_the_official_day_nor_does_an_auction_near_the_prices_of_all(
    count, close, is_taken
):
    scene = SymbolScene(NEW_YORK, symbols=("SPY",), asset="stocks")
    scene.play([arrival(bar) for bar in session_minutes(count)], DAY.close_ms + MINUTE)
    scene.play([official_day(close)])
    assert scene.bars["1d", DAY.open_ms]["close"] == (f"{close:g}" if is_taken else "100")
    assert [each["check"] for each in scene.quarantine] == ([] if is_taken else ["source_disagreement"])
