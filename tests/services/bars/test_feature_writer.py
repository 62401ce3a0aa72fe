"""Which features are published: new ones, and those whose values changed, with the next revision."""

import struct
from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest

from services.bars.bar_table import LATEST_MS
from services.bars.feature_writer import MARKS, compute_new, find_new
from services.bars.features import LONGEST_WINDOW, DailyBar, compute_features
from services.bars.outputs import Arrival
from services.bars.settings import CheckSettings, SymbolGroup
from services.market.decimals import settle_single
from services.market.entries import encode_entry
from services.market.records import DAY_MS, ActionKind, AssetClass, CorporateAction, Provenance, RecordKind
from services.market.sessions import get_session
from services.tables.rows import make_feature_row
from support.scenes.bars import MIDNIGHT, MINUTE, SymbolScene, arrival, walk

SYMBOLS = ("BTC/USD", "ETH/USD")
COINS = dict.fromkeys(SYMBOLS, SymbolGroup(symbols=SYMBOLS, asset="crypto"))
CLASSES = dict.fromkeys(SYMBOLS, AssetClass.CRYPTO)
CRYPTO = get_session("24x7")
NOW_MS = 2_000_000_000_000
STARTS = [MIDNIGHT, MIDNIGHT + DAY_MS]
ROWS = [(STARTS[0], {"return_1d": None}), (STARTS[1], {"return_1d": 0.5})]


def dated(bars):
    return [
        DailyBar(datetime.fromtimestamp(bar.start_ms / 1000, UTC).date(), bar.start_ms + DAY_MS, bar)
        for bar in bars
    ]


def days(count, symbol="BTC/USD", seed=0):
    starts = range(MIDNIGHT, MIDNIGHT + count * DAY_MS, DAY_MS)
    return [replace(bar, timeframe="1d") for bar in walk(starts, seed, symbol)]


def test_all_are_new_at_first_and_none_the_second_time():
    first = find_new("SPY", dated(days(2)), ROWS, b"")
    assert [int(entry["start"]) for entry in first.entries] == STARTS
    assert [entry["day"] for entry in first.entries] == ["2023-11-15", "2023-11-16"]
    assert {entry["rev"] for entry in first.entries} == {"0"}
    assert first.entries[0]["values"] == '{"return_1d":null}'
    assert find_new("SPY", dated(days(2)), ROWS, first.after) is None


def test_what_changed_is_published_with_the_next_revision():
    record = find_new("SPY", dated(days(2)), ROWS, b"").after
    third = MIDNIGHT + 2 * DAY_MS
    changed = [ROWS[0], (STARTS[1], {"return_1d": 0.25}), (third, {"return_1d": 1.0})]
    new = find_new("SPY", dated(days(3)), changed, record)
    assert [(int(entry["start"]), entry["rev"]) for entry in new.entries] == [(STARTS[1], "1"), (third, "0")]
    assert new.before == record
    assert find_new("SPY", dated(days(3)), changed, new.after) is None


def test_days_that_are_forgotten_leave_the_record():
    record = find_new("SPY", dated(days(2)), ROWS, b"").after
    later = dated(days(3)[2:])
    assert (
        str(MIDNIGHT).encode()
        not in find_new("SPY", later, [(later[0].bar.start_ms, {"return_1d": 1.0})], record).after
    )


def test_what_is_of_a_recording_by_now_is_published_again_though_its_values_are_the_same():
    record = find_new("SPY", dated(days(2)), ROWS, b"").after
    second = dated(days(2))[1].day
    new = find_new("SPY", dated(days(2)), ROWS, record, {second})
    assert [(entry["day"], entry["rev"], entry["replay"]) for entry in new.entries] == [
        ("2023-11-16", "1", "1")
    ]
    assert find_new("SPY", dated(days(2)), ROWS, new.after, {second}) is None
    again = find_new("SPY", dated(days(2)), ROWS, new.after)
    assert [(entry["day"], entry["rev"]) for entry in again.entries] == [("2023-11-16", "2")]
    assert "replay" not in again.entries[0]


@pytest.mark.parametrize("record", [b"{", b"[1]", b'{"1000": 5}', b'{"1000": ["x", "y", 1]}', b"\xff"])
def test_a_record_that_can_not_be_read_is_none(record):
    assert len(find_new("SPY", dated(days(2)), ROWS, record).entries) == 2


def test_a_record_that_can_not_be_written_again_is_none():
    daily = dated(days(2))
    record = b'{"%d": [1, "y", -1%b]}' % (daily[0].bar.start_ms, b"0" * 30)
    assert [each["rev"] for each in find_new("SPY", daily, ROWS, record).entries] == ["0", "0"]


def archived(entry):
    """The row that the archive makes of an entry."""
    fields = {name.encode(): value.encode() for name, value in (entry | {"epoch": "1"}).items()}
    return make_feature_row(b"1-1", fields)[0]


class Station:
    """The days of some symbols, and what was published of their features: by start, the newest values."""

    def __init__(self, count, **group):
        self.scenes = {
            symbol: SymbolScene(CRYPTO, symbols=[symbol], indicators=[], **group) for symbol in SYMBOLS
        }
        self.published = {symbol: {} for symbol in SYMBOLS}
        self.history = {symbol: days(count, symbol, number) for number, symbol in enumerate(SYMBOLS)}
        for bars in self.history.values():
            for bar in bars[:-1]:
                self.close_day(bar)

    def close_day(self, bar, seen_ms=0, **more):
        self.scenes[bar.symbol].play([arrival(bar, seen_ms=seen_ms or bar.start_ms + DAY_MS, **more)])

    def compute(self, benchmark="BTC/USD"):
        stored = {symbol: scene.stored for symbol, scene in self.scenes.items()}
        return compute_new(stored, dict.fromkeys(SYMBOLS, CRYPTO), COINS, benchmark, NOW_MS)

    def commit(self, new):
        self.scenes[new.symbol].stored[b"features"] = new.after
        for entry in new.entries:
            self.published[new.symbol][int(entry["start"])] = orjson.loads(entry["values"])

    def publish(self, benchmark="BTC/USD"):
        """Publish what is new; return which days that were, by symbol."""
        return {
            symbol: [int(entry["start"]) for entry in entries]
            for symbol, entries in self.publish_entries(benchmark).items()
        }

    def archive_new(self, benchmark="BTC/USD"):
        """Publish what is new; return the archive's rows of it, by symbol."""
        return {
            symbol: [archived(entry) for entry in entries]
            for symbol, entries in self.publish_entries(benchmark).items()
        }

    def publish_entries(self, benchmark):
        """Publish what is new; return its entries, by symbol."""
        computed, marks_of = self.compute(benchmark)
        for new in computed:
            self.commit(new)
        for symbol, marks in marks_of.items():
            self.scenes[symbol].stored[MARKS.encode()] = marks
        return {new.symbol: new.entries for new in computed}

    def forget_chunks(self, count):
        for scene in self.scenes.values():
            for _ in range(count):
                chunks = (name for name in scene.stored if name.startswith(b"1d:"))
                del scene.stored[min(chunks, key=lambda name: int(name[3:]))]

    def assert_all_is_published(self, **days):
        for symbol, rows in compute_features(
            {name: dated(bars) for name, bars in days.items()}, CLASSES, "BTC/USD"
        ).items():
            assert self.published[symbol] == dict(rows)


def test_only_days_from_the_first_change_are_computed_and_the_end_is_that_of_computing_all():
    station = Station(150)
    assert {len(days) for days in station.publish().values()} == {149}
    assert station.publish() == {}
    btc, eth = station.history.values()
    station.close_day(btc[-1])
    # of a universe of one the other symbol's last day changes nothing
    assert station.publish() == {"BTC/USD": [btc[-1].start_ms]}
    btc[70] = replace(btc[70], close=btc[70].high)
    station.close_day(btc[70], seen_ms=btc[-1].start_ms + 2 * DAY_MS)
    station.close_day(eth[-1])
    again = station.publish()
    assert min(again["BTC/USD"]) == btc[70].start_ms
    assert max(again["ETH/USD"]) == eth[-1].start_ms
    station.assert_all_is_published(**station.history)
    assert set(orjson.loads(station.scenes["BTC/USD"].stored[b"features"])) == {
        str(bar.start_ms) for bar in btc
    }


@pytest.mark.parametrize("timeframes", [("1d",), ("1w",)])  # those that bars publishes
def test_features_are_known_at_the_close_and_since_a_correction_where_it_changed_them(timeframes):
    station = Station(40, timeframes=timeframes)
    btc, eth = station.history.values()
    first = station.publish_entries("BTC/USD")
    for entry in (*first["BTC/USD"], *first["ETH/USD"]):
        assert int(entry["known_at"]) == int(entry["start"]) + DAY_MS
    older = [replace(bar, start_ms=bar.start_ms - 40 * DAY_MS) for bar in btc]
    for bar in (*older, btc[-1]):  # a history that is loaded later could have been known at the time
        station.close_day(bar)
    for entry in station.publish_entries("BTC/USD")["BTC/USD"]:
        assert int(entry["known_at"]) == int(entry["start"]) + DAY_MS
    corrected = replace(btc[20], close=btc[20].high)
    station.close_day(corrected, seen_ms=btc[-1].start_ms + 3 * DAY_MS)
    again = station.publish_entries("BTC/USD")["BTC/USD"]
    assert {entry["known_at"] for entry in again} == {str(NOW_MS)}
    assert min(int(entry["start"]) for entry in again) == corrected.start_ms
    eth_entries = station.publish_entries("ETH/USD").get("ETH/USD", [])  # another benchmark corrects nothing
    assert eth_entries
    assert eth[0].start_ms <= min(int(entry["start"]) for entry in eth_entries)


def test_days_that_are_forgotten_publish_no_other_day_anew():
    station = Station(120)
    station.publish()
    station.forget_chunks(1)  # the averages of all later days begin with another bar now
    newest = [bars[-1] for bars in station.history.values()]
    for bar in newest:
        station.close_day(bar)
    assert station.publish() == {bar.symbol: [bar.start_ms] for bar in newest}
    assert len(orjson.loads(station.scenes["BTC/USD"].stored[b"features"])) < 120


def test_another_truth_publishes_no_day_anew_whose_windows_reach_beyond_the_days_that_are_left():
    station = Station(330)
    station.publish()
    before = {symbol: dict(published) for symbol, published in station.published.items()}
    station.forget_chunks(4)
    again = station.publish("ETH/USD")
    for symbol, bars in station.history.items():
        kept = [bar.start_ms for bar in bars[:-1] if bar.start_ms >= bars[0].start_ms + 25 * DAY_MS]
        assert kept[-1] in again[symbol]
        assert min(again[symbol]) >= kept[0] + (LONGEST_WINDOW - 1 - 8) * DAY_MS
        for start_ms, values in station.published[symbol].items():
            lost = {name for name, value in values.items() if value is None} - {
                name for name, value in before[symbol][start_ms].items() if value is None
            }
            assert lost == set(), start_ms


def test_what_was_not_committed_of_all_symbols_is_computed_by_whoever_is_next():
    station = Station(100)
    station.publish()
    btc = station.history["BTC/USD"]
    station.close_day(replace(btc[70], close=btc[70].high), seen_ms=btc[-1].start_ms + 2 * DAY_MS)
    first, second = station.compute()[0]
    station.commit(first)  # and no more
    assert {new.symbol for new in station.compute()[0]} == {second.symbol}
    station.publish()
    assert station.publish() == {}
    btc[70] = replace(btc[70], close=btc[70].high)
    station.assert_all_is_published(**{symbol: bars[:-1] for symbol, bars in station.history.items()})


@pytest.mark.parametrize("marks", [b"", b"{", b"[1]", b'{"truth": "x", "days": 3}', b"\xff"])
def test_marks_that_can_not_be_read_cost_a_computation_and_publish_nothing_twice(marks):
    station = Station(60)
    station.publish()
    station.scenes["ETH/USD"].stored[MARKS.encode()] = marks
    assert station.publish() == {}


def test_days_of_another_session_are_left_out():
    station = Station(60)
    stored = {symbol: scene.stored for symbol, scene in station.scenes.items()}
    sessions = dict.fromkeys(SYMBOLS, get_session("XNYS"))
    assert compute_new(stored, sessions, COINS, "BTC/USD", NOW_MS) == ([], {})


def test_features_of_a_recording_are_marked_and_so_are_those_of_the_days_after_it():
    station = Station(6)
    btc, eth = station.history.values()
    assert {row.replay for rows in station.archive_new("SPY").values() for row in rows} == {False}
    seen_ms = btc[-1].start_ms + DAY_MS
    corrected = replace(btc[2], close=btc[2].high)
    station.close_day(corrected, seen_ms, replay="1", played_at=str(seen_ms / 1000))
    station.close_day(btc[-1])
    station.close_day(eth[-1])
    again = station.archive_new("SPY")
    assert [(row.replay, row.rev) for row in again["BTC/USD"]] == [(True, 1)] * 3 + [(True, 0)]
    assert {row.replay for row in again["ETH/USD"]} == {False}
    # what is asked of a real source afterwards replaces it
    station.close_day(replace(corrected, close=corrected.low), seen_ms + DAY_MS)
    assert [(row.replay, row.rev) for row in station.archive_new("SPY")["BTC/USD"]] == [
        *[(False, 2)] * 3,
        (False, 1),
    ]


def test_features_are_marked_where_the_benchmark_is_of_a_recording():
    station = Station(4)
    for bar in station.history["BTC/USD"]:
        seen_ms = bar.start_ms + 9 * DAY_MS
        changed = replace(bar, volume=bar.volume + 1)
        station.close_day(changed, seen_ms, replay="1", played_at=str(seen_ms / 1000))
    rows = station.archive_new("BTC/USD")
    assert [len(rows[symbol]) for symbol in SYMBOLS] == [4, 3]
    assert {row.replay for each in rows.values() for row in each} == {True}


def test_a_day_that_is_built_of_minutes_of_a_recording_is_of_one_also_after_a_restart():
    scene = SymbolScene(CRYPTO, indicators=[])
    minutes = walk([MIDNIGHT, MIDNIGHT + MINUTE, MIDNIGHT + DAY_MS])
    scene.play([arrival(minutes[0], replay="1", played_at=str(minutes[0].start_ms / 1000 + 60))])
    scene.restart()
    scene.play([arrival(bar) for bar in minutes[1:]])
    groups = {"BTC/USD": scene.group.model_copy(update={"checks": CheckSettings(day_share=0)})}
    ((new,), _) = compute_new({"BTC/USD": scene.stored}, {"BTC/USD": CRYPTO}, groups, "SPY", NOW_MS)
    assert [archived(entry).replay for entry in new.entries] == [True]


@pytest.mark.parametrize(
    ("group", "is_read"),
    [
        ({}, False),
        ({"checks": {"day_share": 0.2}}, True),
        ({"checks": {"day_share": 0}}, True),
        ({"quotes": True}, True),  # how many quotes there are is a matter of who asks
    ],
)
def test_a_day_that_is_built_of_too_few_of_its_minutes_has_no_features(group, is_read):
    scene = SymbolScene(CRYPTO, indicators=[])
    quarter = walk(MIDNIGHT + MINUTE * number for number in range(359))
    scene.play(arrival(bar, number) for number, bar in enumerate(quarter))
    whole = replace(days(2)[1], symbol="BTC/USD")  # a day that comes whole says of no minute
    scene.play([arrival(whole, seen_ms=whole.start_ms + DAY_MS)], MIDNIGHT + 3 * DAY_MS)
    assert scene.bars["1d", MIDNIGHT]["final"] == "1"
    groups = {"BTC/USD": SymbolGroup(symbols=["BTC/USD"], asset="crypto", **group)}
    ((new,), _) = compute_new({"BTC/USD": scene.stored}, {"BTC/USD": CRYPTO}, groups, "SPY", NOW_MS)
    found = [int(entry["start"]) for entry in new.entries]
    assert found == [MIDNIGHT, whole.start_ms][0 if is_read else 1 :]


def test_a_day_that_had_too_few_minutes_is_read_once_they_came():
    scene = SymbolScene(CRYPTO, indicators=[])
    starts = [MIDNIGHT + MINUTE * number for number in range(360)]
    scene.play([arrival(bar) for bar in walk(starts[:359])], MIDNIGHT + 2 * DAY_MS)
    stored, session = {"BTC/USD": scene.stored}, {"BTC/USD": CRYPTO}
    assert compute_new(stored, session, COINS, "SPY", NOW_MS)[0] == []
    scene.play([arrival(bar) for bar in walk(starts[359:])], MIDNIGHT + 2 * DAY_MS)
    ((new,), _) = compute_new(stored, session, COINS, "SPY", NOW_MS)
    assert [int(entry["start"]) for entry in new.entries] == [MIDNIGHT]


def test_of_options_no_day_has_too_few_minutes():
    assert SymbolGroup(symbols=["SPY261218C00600000"], asset="options").day_share == 0
    assert SymbolGroup(symbols=["SPY"]).day_share == 0.25


def split_of(ex_day, ratio):
    """The entry of a split of the coin; without a ratio it is withdrawn."""
    action = CorporateAction("BTC/USD", ActionKind.SPLIT, ex_day, ratio=ratio)
    fields = encode_entry(action, AssetClass.CRYPTO, Provenance("one", 1.0))
    fields |= {} if ratio else {"withdrawn": "1"}
    raw = {name.encode(): value.encode() for name, value in fields.items()}
    return Arrival(RecordKind.ACTIONS, b"%d-1" % MIDNIGHT, raw)


def divided(bar, ratio):
    """A bar in numbers of single precision, after a split."""
    names = ("open", "high", "low", "close", "vwap")
    prices = struct.unpack("5f", struct.pack("5f", *(getattr(bar, name) / ratio for name in names)))
    volume = float(round(1000 * bar.volume) * ratio) / 1000
    return replace(bar, **dict(zip(names, map(settle_single, prices), strict=True)), volume=volume)


def assert_known_at_close(entries, *, but_since_ms=LATEST_MS):
    for entry in entries:
        close_ms = int(entry["start"]) + DAY_MS
        known_ms = NOW_MS if close_ms > but_since_ms else close_ms
        assert int(entry["known_at"]) == known_ms, entry["day"]


@pytest.mark.parametrize("ratio", [3.0, 10.0])
def test_a_split_changes_features_of_all_symbols_and_not_since_when_they_are_known(ratio):
    station = Station(40)
    btc, eth = station.history.values()
    scene = station.scenes["BTC/USD"]
    scene.play([split_of(dated(btc)[-1].day, ratio)])
    for entries in station.publish_entries("BTC/USD").values():
        assert_known_at_close(entries)
    station.close_day(divided(btc[-1], ratio))
    station.close_day(eth[-1])
    for _ in range(2):
        again = station.publish_entries("BTC/USD")
        assert len(again["BTC/USD"]) > 20, "computed anew"
        assert len(again["ETH/USD"]) > 5
        for entries in again.values():
            assert_known_at_close(entries)
        assert station.publish_entries("BTC/USD") == {}
        scene.play([split_of(dated(btc)[-1].day, None)])


@pytest.mark.parametrize("is_announced", [True, False])
def test_a_history_that_its_source_divides_leaves_features_known_and_a_correction_with_it_does_not(
    is_announced,
):
    station = Station(40)
    station.scenes["BTC/USD"] = SymbolScene(CRYPTO, symbols=["BTC/USD"], indicators=[])
    btc = [replace(bar, volume=round(bar.volume, 3)) for bar in station.history["BTC/USD"]]
    if is_announced:
        station.scenes["BTC/USD"].play([split_of(dated(btc)[-1].day, 3.0)])
    for bar in btc[:-1]:
        station.close_day(bar, adjustment="splits")
    station.publish()
    corrected = btc[20]
    seen_ms = btc[-1].start_ms + DAY_MS + 1000
    for is_corrected in (False, True):
        for bar in btc:
            given = divided(bar, 1.0 if bar is btc[-1] else 3.0)
            if is_corrected and bar.start_ms == corrected.start_ms:
                given = replace(given, close=given.low)
            station.close_day(given, seen_ms=seen_ms + 1000 * is_corrected, adjustment="splits")
        again = station.publish_entries("BTC/USD")
        assert len(again["BTC/USD"]) > (10 if is_corrected else 20)
        for entries in again.values():
            assert_known_at_close(entries, but_since_ms=corrected.start_ms if is_corrected else LATEST_MS)


def test_a_correction_that_is_seen_with_a_split_is_known_since_then():
    station = Station(40)
    btc, eth = station.history.values()
    station.publish()
    assert btc[20].start_ms % (8 * DAY_MS) == 0, "the days before it are of other chunks"
    station.scenes["BTC/USD"].play([split_of(dated(btc)[-1].day, 3.0)])
    station.close_day(divided(btc[-1], 3.0))
    station.close_day(eth[-1])
    station.close_day(replace(btc[20], close=btc[20].low), seen_ms=btc[-1].start_ms + 2 * DAY_MS)
    again = station.publish_entries("BTC/USD")
    assert min(int(entry["start"]) for entry in again["BTC/USD"]) < btc[20].start_ms
    for entries in again.values():
        newest = [entry for entry in entries if int(entry["start"]) == btc[-1].start_ms]
        assert_known_at_close(newest)
        assert_known_at_close(
            [entry for entry in entries if entry not in newest], but_since_ms=btc[20].start_ms
        )
