"""The protocol of Binance's klines, without a connection."""

import hashlib
import math
from collections import Counter
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.market.records import DAY_MS, MINUTE_MS, Bar
from services.sources.websocket import MAX_STREAMS, Anomaly, KlineReader, StreamedBar

NOW = round(1000 * datetime(2026, 11, 20, 14, 30, 20, tzinfo=UTC).timestamp())
START = NOW - 20_000
KLINE = {
    "t": START,
    "T": START + MINUTE_MS - 1,
    "s": "BTCUSDT",
    "i": "1m",
    "f": 100,
    "L": 200,
    "o": "91000.10",
    "c": "91020.50",
    "h": "91050.00",
    "l": "90990.00",
    "v": "12.5",
    "n": 101,
    "x": False,
    "q": "1137756.25",
}
BAR = Bar("BTC/USDT", "1m", START, 91000.1, 91050.0, 90990.0, 91020.5, volume=12.5, trades=101)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("eksxtiohlcvn"), inner, max_size=8)
    ),
    max_leaves=12,
)


def make_reader():
    return KlineReader({"BTCUSDT": "BTC/USDT", "ETHUSDT": "ETH/USDT"}, Counter())


def event(**changes):
    return orjson.dumps({"e": "kline", "E": NOW, "s": "BTCUSDT", "k": KLINE | changes})


def test_a_kline_is_a_minute_that_is_final_when_the_server_says_so():
    reader = make_reader()
    assert reader.read_frame(event(), NOW) == StreamedBar(BAR, is_final=False)
    assert reader.read_frame(event(x=True), NOW) == StreamedBar(BAR, is_final=True)
    combined = orjson.dumps({"stream": "btcusdt@kline_1m", "data": orjson.loads(event())})
    assert reader.read_frame(combined, NOW) == StreamedBar(BAR, is_final=False)
    assert reader.read_frame(event(n=None), NOW).bar.trades is None
    digest = hashlib.sha256(event(x=True)).hexdigest()
    assert (
        reader.read_frame(event(x=True), NOW).digest
        == reader.read_frame(event(x=True).decode(), NOW).digest
        == digest
    )
    assert reader.anomalies == Counter()


@pytest.mark.parametrize(
    ("frame", "anomaly"),
    [
        *((each, Anomaly.MALFORMED) for each in (b"<html>busy</html>", b"\xff", b"[]", b"[" * 100_000)),
        (b'{"e":"kline","k":[]}', Anomaly.MALFORMED),
        (b'{"e":"trade","p":"1"}', Anomaly.UNEXPECTED),
        (b'{"payload":{}}', Anomaly.UNEXPECTED),
        (b'{"error":{"code":2,"msg":"Invalid request"},"id":1}', Anomaly.REFUSED),
        (b'{"code":2,"msg":"Invalid request"}', Anomaly.REFUSED),
        (event(s="DOGEUSDT"), Anomaly.STRANGER),
        (event(t=START + 3 * MINUTE_MS), Anomaly.IMPLAUSIBLE),
        (event(t=START - DAY_MS - MINUTE_MS), Anomaly.IMPLAUSIBLE),
        *((event(**{name: "x"}), Anomaly.MALFORMED) for name in "otichlvnx"),
        *((event(**{name: None}), Anomaly.MALFORMED) for name in "oticshlvx"),
        *((each, Anomaly.MALFORMED) for each in (event(t=START + 7_000), event(t=float(START)), event(x=1))),
        *((each, Anomaly.MALFORMED) for each in (event(i="5m"), event(c="nan"), event(c="inf"))),
        *((each, Anomaly.MALFORMED) for each in (event(c="91_000.1"), event(c=" 91000.1"), event(c="٣"))),
        *((each, Anomaly.MALFORMED) for each in (event(c="1e19"), event(c="1" * 5_000), event(c=91000.1))),
    ],
)
def test_a_frame_that_makes_no_sense_is_counted_by_what_is_wrong(frame, anomaly):
    reader = make_reader()
    assert reader.read_frame(frame, NOW) is None
    assert reader.anomalies == Counter({anomaly: 1})


def test_a_value_that_is_no_json_costs_nothing_but_itself():
    reader = make_reader()
    frame = event().replace(b'"1137756.25"', b"NaN")
    assert reader.read_frame(b"\xef\xbb\xbf" + frame, NOW) == StreamedBar(BAR, is_final=False)
    assert reader.read_frame(frame.replace(b'"12.5"', b"NaN"), NOW) is None
    assert reader.anomalies == Counter({Anomaly.MALFORMED: 1})


def test_a_confirmation_is_neither_a_bar_nor_an_anomaly():
    reader = make_reader()
    assert reader.read_frame(b'{"result":null,"id":1}', NOW) is None
    assert reader.anomalies == Counter()


@given(frame=st.binary(max_size=100) | DOCUMENTS.map(lambda each: orjson.dumps({"e": "kline", "k": each})))
def test_no_frame_makes_the_reader_raise(frame):
    reader = make_reader()
    assert reader.read_frame(frame, NOW) is None
    assert reader.anomalies.total() == 1 or orjson.loads(frame)["result"] is None


@given(
    changes=st.dictionaries(
        st.sampled_from("ohlcvn"),
        st.floats().map(str) | st.integers(-(10**30), 10**30).map(str) | st.integers(-(2**63), 2**63),
        max_size=6,
    )
)
def test_whatever_passes_has_finite_numbers(changes):
    found = make_reader().read_frame(event(**changes), NOW)
    if found is not None:
        numbers = (found.bar.open, found.bar.high, found.bar.low, found.bar.close, found.bar.volume)
        assert all(math.isfinite(number) and abs(number) < 1e18 for number in numbers)


def test_all_symbols_are_subscribed_to_in_requests_of_a_bounded_size():
    reader = KlineReader({f"A{number}USDT": f"A{number}/USDT" for number in range(450)}, Counter())
    requests = [orjson.loads(each) for each in reader.make_requests()]
    assert [each["method"] for each in requests] == ["SUBSCRIBE"] * 3
    assert [len(each["params"]) for each in requests] == [200, 200, 50]
    assert len({each["id"] for each in requests}) == 3
    assert sorted(stream for each in requests for stream in each["params"]) == sorted(
        f"a{number}usdt@kline_1m" for number in range(450)
    )
    with pytest.raises(ValueError, match="1025 symbols"):
        KlineReader({str(number): str(number) for number in range(MAX_STREAMS + 1)}, Counter())
