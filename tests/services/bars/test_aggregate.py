"""Longer bars: held against another engine's buckets."""

from datetime import UTC, datetime
from functools import reduce
from operator import add

import duckdb
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.bars.builder import merge_bars
from services.market.entries import encode_entry, parse_bar
from services.market.fields import MAX_NUMBER
from services.market.records import DAY_MS, AssetClass, Bar, Provenance
from services.market.sessions import get_session
from support.examples import select_cases
from support.scenes.bars import (
    MIDNIGHT,
    MINUTE,
    SymbolScene,
    aggregate_all,
    arrival,
    assert_same_bars,
    merge_plainly,
    walk,
)

CRYPTO = get_session("24x7")
BUCKETS = {"5m": "5 minutes", "15m": "15 minutes", "1h": "1 hour", "4h": "4 hours", "1d": "1 day"}
QUERY = """
select epoch_ms(time_bucket(interval '{width}', ts, timestamp '1970-01-01')) as start,
    arg_min(open, ts), max(high), min(low), arg_max(close, ts), sum(volume),
    sum(vwap * volume) / sum(volume), sum(trades)
from minutes group by start order by start
"""


@pytest.mark.parametrize("seed", select_cases([1, 2]))
def test_every_timeframe_equals_the_buckets_of_duckdb(seed):
    starts = [
        start for start in range(MIDNIGHT, MIDNIGHT + 2 * DAY_MS, MINUTE) if start // MINUTE % (7 + seed)
    ]
    minutes = walk(starts, seed, whole=True)
    scene = SymbolScene(CRYPTO, indicators=())
    scene.play(arrival(bar, at) for at, bar in enumerate(minutes))
    with duckdb.connect() as database:
        database.execute(
            "create table minutes (ts timestamp, open double, high double, low double, close double, "
            "volume double, vwap double, trades bigint)"
        )
        rows = [
            (
                datetime.fromtimestamp(bar.start_ms / 1000, UTC).replace(tzinfo=None),
                *(bar.open, bar.high, bar.low, bar.close, bar.volume, bar.vwap, bar.trades),
            )
            for bar in minutes
        ]
        columns = [list(column) for column in zip(*rows, strict=True)]
        database.execute(f"insert into minutes select {', '.join(['unnest(?)'] * len(columns))}", columns)
        for timeframe, width in BUCKETS.items():
            found = database.execute(QUERY.format(width=width)).fetchall()
            expected = [Bar("BTC/USD", timeframe, *row[:7], int(row[7])) for row in found]
            assert_same_bars(scene.shown(timeframe), expected)


def test_timeframes_of_new_york_follow_its_session_through_an_early_close_and_both_changes_of_clocks():
    york = get_session("XNYS")
    scene = SymbolScene(york, symbols=["SPY"], asset="stocks", checks={"jump_share": 10}, indicators=())
    minutes = []
    for opens, closes in (
        ("2026-03-06T14:30", "2026-03-06T21:00"),  # the last Friday of winter
        ("2026-03-09T13:30", "2026-03-09T20:00"),  # the first Monday of summer
        ("2026-10-30T13:30", "2026-10-30T20:00"),
        ("2026-11-02T14:30", "2026-11-02T21:00"),
        ("2026-11-27T14:30", "2026-11-27T18:00"),  # after Thanksgiving: an early close
    ):
        first, last = (
            round(1000 * datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp()) for at in (opens, closes)
        )
        day = walk(range(first, last, MINUTE), 3, "SPY", whole=True)
        minutes += day
        outside = [*walk([first - MINUTE], 3, "SPY"), *walk([last], 3, "SPY")]
        scene.play(arrival(bar, at) for at, bar in enumerate([outside[0], *day, outside[1]]))
        # counted, but no room in the quarantine is taken: most sources send hundreds a day
        assert scene.quarantine == []
        assert scene.builder.counts.pop(("one", "wrong_session")) == 2
        (last_day,) = [bar for bar in scene.shown("1d") if bar.start_ms == first]
        assert last_day.trades == sum(bar.trades for bar in day)
        hours = [bar.start_ms for bar in scene.shown("1h") if first <= bar.start_ms < last]
        assert hours == list(range(first, last, 60 * MINUTE))
    assert len(scene.shown("4h")) == 4 * 2 + 1
    expected = aggregate_all(minutes, york)
    for timeframe in BUCKETS:
        kept = scene.shown(timeframe)
        assert_same_bars(kept, expected[timeframe])


@given(
    st.lists(
        st.tuples(st.none() | st.integers(0, 5), st.none() | st.floats(1, 2), st.none() | st.integers(0, 5)),
        min_size=1,
        max_size=8,
    )
)
def test_what_one_minute_does_not_know_the_longer_bar_does_not_know(parts):
    bars = [
        Bar("X", "1m", MIDNIGHT + at * MINUTE, 1.5, 2, 1, 1.5, volume, vwap, trades)
        for at, (volume, vwap, trades) in enumerate(parts)
    ]
    merged = merge_bars(bars, "15m", MIDNIGHT)
    plain = merge_plainly(bars, "15m", MIDNIGHT)
    assert_same_bars([merged], [plain])
    assert (merged.volume is None) == any(volume is None for volume, _, _ in parts)
    assert merged.vwap is None or merged.low <= merged.vwap <= merged.high


def encode(bar):
    fields = encode_entry(bar, AssetClass.CRYPTO, Provenance("one"))
    return {name.encode(): value.encode() for name, value in fields.items()}


@given(st.lists(st.floats(0, MAX_NUMBER), min_size=1, max_size=5), st.integers(0, 10**18))
@example([1.0], 2**53 + 1)
def test_a_sum_that_no_entry_can_hold_is_not_known(volumes, trades):
    bars = [
        Bar("X", "1m", MIDNIGHT + at * MINUTE, 1, 1, 1, 1, volume, 1, trades)
        for at, volume in enumerate(volumes)
    ]
    merged = merge_bars(bars, "5m", MIDNIGHT)
    total = reduce(add, volumes)  # sum() rounds less since Python 3.12
    assert merged.volume == (total if total <= MAX_NUMBER else None)
    assert (merged.vwap is None) == (not merged.volume)
    assert merged.trades == (trades * len(bars) if trades * len(bars) <= MAX_NUMBER else None)
    assert parse_bar(encode(merged)) == merged
