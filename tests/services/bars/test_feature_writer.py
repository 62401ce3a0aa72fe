"""Which features are published: new ones, and those whose values changed, with the next revision."""

from dataclasses import replace

import orjson
import pytest

from marketswarm.market.records import DAY_MS
from marketswarm.market.sessions import get_session
from services.bars.feature_writer import compute_new, find_new
from services.bars.features import compute_features
from support.scenes.bars import MIDNIGHT, SymbolScene, arrival, walk

SYMBOLS = ("BTC/USD", "ETH/USD")

ROWS = [(1000, {"return_1d": None}), (2000, {"return_1d": 0.5})]


def test_all_are_new_at_first_and_none_the_second_time():
    first = find_new("SPY", ROWS, b"")
    assert [entry["start"] for entry in first.entries] == ["1000", "2000"]
    assert {entry["rev"] for entry in first.entries} == {"0"}
    assert first.entries[0]["values"] == '{"return_1d":null}'
    assert find_new("SPY", ROWS, first.after) is None


def test_what_changed_is_published_with_the_next_revision():
    record = find_new("SPY", ROWS, b"").after
    changed = [ROWS[0], (2000, {"return_1d": 0.25}), (3000, {"return_1d": 1.0})]
    new = find_new("SPY", changed, record)
    assert [(entry["start"], entry["rev"]) for entry in new.entries] == [("2000", "1"), ("3000", "0")]
    assert new.before == record
    assert find_new("SPY", changed, new.after) is None


def test_days_that_are_forgotten_leave_the_record():
    record = find_new("SPY", ROWS, b"").after
    assert b"1000" not in find_new("SPY", [(3000, {})], record).after


@pytest.mark.parametrize("record", [b"{", b"[1]", b'{"1000": 5}', b'{"1000": ["x", "y"]}', b"\xff"])
def test_a_record_that_can_not_be_read_is_none(record):
    assert len(find_new("SPY", ROWS, record).entries) == 2


class Station:
    """The days of some symbols, and what was published of their features: by start, the newest values."""

    def __init__(self, count):
        self.scenes = {symbol: SymbolScene(get_session("24x7"), symbols=[symbol]) for symbol in SYMBOLS}
        self.published = {symbol: {} for symbol in SYMBOLS}
        self.marks = None
        self.history = {
            symbol: [
                replace(bar, timeframe="1d")
                for bar in walk(range(MIDNIGHT, MIDNIGHT + count * DAY_MS, DAY_MS), number, symbol)
            ]
            for number, symbol in enumerate(SYMBOLS)
        }
        for bars in self.history.values():
            for bar in bars[:-1]:
                self.close_day(bar)

    def close_day(self, bar, seen_ms=0):
        self.scenes[bar.symbol].play([arrival(bar, seen_ms=seen_ms or bar.start_ms + DAY_MS)])

    def publish(self):
        """Publish what is new; return which days that were, by symbol."""
        stored = {symbol: scene.stored for symbol, scene in self.scenes.items()}
        computed = compute_new(stored, "BTC/USD", self.marks)
        for new in computed.new:
            stored[new.symbol][b"features"] = new.after
            for entry in new.entries:
                self.published[new.symbol][int(entry["start"])] = orjson.loads(entry["values"])
        self.marks = computed.marks
        return {new.symbol: [int(entry["start"]) for entry in new.entries] for new in computed.new}

    def assert_all_is_published(self, **days):
        for symbol, rows in compute_features(days, "BTC/USD").items():
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


def test_days_that_are_forgotten_publish_no_other_day_anew():
    station = Station(120)
    station.publish()
    for scene in station.scenes.values():  # the averages of all later days begin with another bar now
        del scene.stored[min(name for name in scene.stored if name.startswith(b"1d:"))]
    newest = [bars[-1] for bars in station.history.values()]
    for bar in newest:
        station.close_day(bar)
    assert station.publish() == {bar.symbol: [bar.start_ms] for bar in newest}
    assert len(orjson.loads(station.scenes["BTC/USD"].stored[b"features"])) < 120
