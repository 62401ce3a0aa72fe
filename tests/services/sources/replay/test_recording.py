"""Reading a recording: what was known when, and files that are hostile or broken."""

import gzip
import random
import zlib
from datetime import date
from itertools import count

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.market.records import (
    ActionKind,
    AssetClass,
    Bar,
    CorporateAction,
    Observation,
    Quote,
    RecordKind,
)
from services.sources.replay import recording as module
from services.sources.replay.recording import (
    RecordingError,
    SeriesKey,
    parse_line,
    parse_line_as_quote,
    read_recording,
    to_ms,
)
from support.recordings import (
    MINUTE_MS,
    PLAY_FROM_MS,
    SHIPPED,
    TO_MS,
    bar,
    coin,
    header,
    iso,
    pack,
    read_shipped,
    write,
)

MINUTES = SeriesKey(RecordKind.BARS, "SPY", AssetClass.STOCKS, "1m")
ACTION = {
    "kind": "actions",
    "sym": "SPY",
    "asset": "stocks",
    "action": "split",
    "ex_day": "2020-03-02",
    "ratio": 4,
}
FOREVER = (-(10**13), 10**13, 10**13)


def closes(recording, *when):
    return [parse_line(line).close for line in recording.find_lines(MINUTES, *(when or FOREVER))]


def test_a_bar_is_known_at_its_end_and_not_a_millisecond_earlier(tmp_path):
    recording = read_recording(write(tmp_path, bar(PLAY_FROM_MS)))
    end = PLAY_FROM_MS + MINUTE_MS
    assert closes(recording, 0, 10**13, end - 1) == []
    assert closes(recording, 0, 10**13, end) == [10.0]


def test_a_correction_counts_from_when_it_was_known(tmp_path):
    known = PLAY_FROM_MS + 10 * MINUTE_MS
    recording = read_recording(write(tmp_path, bar(PLAY_FROM_MS, 9.5, known=known), bar(PLAY_FROM_MS, 10.5)))
    assert closes(recording, 0, 10**13, known - 1) == [10.5]
    assert closes(recording, 0, 10**13, known) == [9.5]


@given(st.randoms(use_true_random=False), st.data())
def test_an_answer_is_what_a_plain_search_of_the_rows_finds(tmp_path_factory, chance: random.Random, data):
    rows = [
        bar(
            start := PLAY_FROM_MS + chance.randrange(40) * MINUTE_MS,
            chance.randrange(9, 12),
            known=start + chance.randrange(60) * MINUTE_MS + number,
        )
        for number in range(chance.randrange(1, 60))
    ]
    recording = read_recording(write(tmp_path_factory.getbasetemp(), *rows))
    times = st.integers(-5, 105).map(lambda minute: PLAY_FROM_MS + minute * MINUTE_MS)
    start, end, clock = data.draw(times), data.draw(times), data.draw(times)
    known = [row for row in rows if row["known"] <= clock]
    expected = {
        row["start"]: row["close"]
        for row in sorted(known, key=lambda row: row["known"])
        if start <= row["start"] < end
    }
    found = [parse_line(line) for line in recording.find_lines(MINUTES, start, end, clock)]
    assert [(each.start_ms, each.close) for each in found] == sorted(expected.items())
    latest = max(known, key=lambda row: (row["start"] <= clock, row["start"], row["known"]), default=None)
    line = recording.find_last_line(MINUTES, clock)
    assert (line and orjson.loads(line)) == latest


def test_each_kind_of_row_becomes_its_record(tmp_path):
    observed = {"kind": "observations", "sym": "US.10Y", "asset": "economic"}
    quote = {"kind": "quotes", "sym": "SPY", "asset": "stocks", "at": PLAY_FROM_MS, "price": 10, "bid": 9.5}
    rows = [
        bar(PLAY_FROM_MS, vwap=10.25, trades=3, bid=9.75, ask=10.25),
        observed | {"start": PLAY_FROM_MS, "value": -0.5, "known": PLAY_FROM_MS},
        quote,
        ACTION,
        {name: value for name, value in ACTION.items() if name != "ratio"}
        | {"action": "dividend", "amount": 0.5},
    ]
    recording = read_recording(write(tmp_path, *rows))
    assert recording.list_series() == [
        SeriesKey(RecordKind.ACTIONS, "SPY", AssetClass.STOCKS, "dividend"),
        SeriesKey(RecordKind.ACTIONS, "SPY", AssetClass.STOCKS, "split"),
        MINUTES,
        SeriesKey(RecordKind.OBSERVATIONS, "US.10Y", AssetClass.ECONOMIC),
        SeriesKey(RecordKind.QUOTES, "SPY", AssetClass.STOCKS),
    ]
    lines = [orjson.dumps(row) for row in rows]
    assert [parse_line(line) for line in lines] == [
        Bar("SPY", "1m", PLAY_FROM_MS, 10, 11, 9, 10, 5, 10.25, 3),
        Observation("US.10Y", PLAY_FROM_MS, -0.5),
        Quote("SPY", PLAY_FROM_MS, 10, 9.5),
        CorporateAction("SPY", ActionKind.SPLIT, date(2020, 3, 2), ratio=4),
        CorporateAction("SPY", ActionKind.DIVIDEND, date(2020, 3, 2), amount=0.5),
    ]
    assert parse_line_as_quote(lines[0]) == Quote("SPY", PLAY_FROM_MS + MINUTE_MS, 10, 9.75, 10.25)
    assert parse_line_as_quote(lines[2]) == Quote("SPY", PLAY_FROM_MS, 10, 9.5)
    with pytest.raises(ValueError, match="no quote"):
        parse_line_as_quote(lines[1])


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b"", ""),
        (b"{", ""),
        (b"\xff\xfe", ""),
        (b"[" * 3000, ""),
        (b'{"kind": "bars", "sym": "' + b"A" * 5000 + b'"}', ""),
        ({"kind": "trades"}, ""),
        (ACTION | {"ex_day": "2026-13-01"}, "ex_day"),
        (ACTION | {"ratio": 1}, "ratio"),
        (ACTION | {"action": "dividend"}, "kind"),
        (ACTION | {"action": "redemption"}, "action"),
        (bar(PLAY_FROM_MS, volumn=3), "volumn"),
        (bar(PLAY_FROM_MS, close="high"), "close"),
        (bar(PLAY_FROM_MS, close=1e300), "close"),
        (orjson.dumps(bar(PLAY_FROM_MS)).replace(b'"close":10.0', b'"close":NaN'), "close"),
        (bar(10**18), "start"),
        (bar(PLAY_FROM_MS, sym="SPY; FLUSHALL"), "sym"),
        (bar(PLAY_FROM_MS, sym="QQQ"), "sym"),
        (bar(PLAY_FROM_MS, asset="horses"), "asset"),
        (bar(PLAY_FROM_MS, timeframe="7m"), "timeframe"),
        (bar(TO_MS), "known"),
        (bar(PLAY_FROM_MS, known=PLAY_FROM_MS - 1), "known"),
    ],
)
def test_a_line_that_is_no_record_is_counted_named_and_left_out(tmp_path, line, field):
    recording = read_recording(write(tmp_path, bar(PLAY_FROM_MS), line, bar(PLAY_FROM_MS + MINUTE_MS)))
    assert (recording.rows, recording.bad_rows) == (2, 1)
    assert [(misfit.row, misfit.field.rpartition(".")[2]) for misfit in recording.misfits] == [(3, field)]
    assert len(closes(recording)) == 2


def test_only_the_first_hundred_bad_lines_are_named(tmp_path):
    recording = read_recording(write(tmp_path, *[b"x"] * 300, bar(PLAY_FROM_MS)))
    assert (recording.bad_rows, len(recording.misfits)) == (300, 100)


REELS = header()["reels"]
BACKWARDS = {"play_from": iso(TO_MS), "to": iso(PLAY_FROM_MS)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "header"),
        (b"SPY,1,2,3\n", "no gzip file"),
        (gzip.compress(b""), "header"),
        (pack(bar(0), head={"format": "marketswarm-recording"}), "header"),
        (pack(bar(0), head=header(version=2)), "header of a recording: version"),
        (pack(bar(0), head=header(origins=[])), "header of a recording: origins"),
        (pack(bar(0), head=header(reels=[REELS[0], REELS[0]])), "two reels"),
        (pack(bar(0), head=header(reels=[REELS[0] | BACKWARDS])), "in this order"),
        (pack(bar(0), head=header(reels=[REELS[0] | {"to": "2020-03-02T15:00:00"}])), r"reels\.0\.to"),
        (pack(), "no line is a record"),
        (pack(b"x"), "no line is a record"),
        (pack(bar(PLAY_FROM_MS))[:-12], "cut off or damaged"),
        (pack(bar(PLAY_FROM_MS))[:20] + b"\xff" * 30, "cut off or damaged"),
    ],
    ids=count(),  # what is packed has the time in it, and is another name for each worker
)
def test_a_file_that_is_no_recording_is_refused_with_a_reason(tmp_path, content, message):
    path = tmp_path / "recording.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=message):
        read_recording(path)


def test_what_is_no_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "absent", "/dev/zero"):
        with pytest.raises(RecordingError, match="no such file"):
            read_recording(tmp_path / path)


@pytest.mark.parametrize(("filler", "limit"), [(b"\n", "MAX_ROWS"), (b"x", "MAX_BYTES")])
def test_a_small_file_that_becomes_huge_is_refused(tmp_path, monkeypatch, filler, limit):
    monkeypatch.setattr(module, limit, 10_000)
    packer = zlib.compressobj(9, wbits=31)
    content = packer.compress(orjson.dumps(header()) + b"\n") + packer.compress(filler * 2_000_000)
    path = tmp_path / "recording.jsonl.gz"
    path.write_bytes(content + packer.flush())
    assert path.stat().st_size < 100_000
    with pytest.raises(RecordingError, match="decompressed"):
        read_recording(path)


def test_a_file_that_is_too_large_is_not_even_read(tmp_path):
    path = tmp_path / "recording.jsonl.gz"
    with path.open("wb") as file:
        file.truncate(module.MAX_FILE_BYTES + 1)
    with pytest.raises(RecordingError, match="more than 64000000 bytes"):
        read_recording(path)


def test_a_symbol_plays_in_its_own_reel(tmp_path):
    recording = read_recording(write(tmp_path, bar(PLAY_FROM_MS), coin(1_600_000_020_000)))
    reels = {symbol: recording.find_reel(symbol) for symbol in ("SPY", "BTC/USD", "QQQ")}
    assert {symbol: reel and reel.name for symbol, reel in reels.items()} == {
        "SPY": "stocks",
        "BTC/USD": "coins",
        "QQQ": None,
    }


@pytest.mark.slow
def test_every_line_of_the_shipped_recording_is_a_record_that_could_be():
    shipped = read_shipped()
    assert (shipped.bad_rows, shipped.rows) == (0, 59_297)
    assert SHIPPED.stat().st_size < 1_500_000
    for key in shipped.list_series():
        if key.kind is RecordKind.BARS:
            for each in map(orjson.loads, shipped.find_lines(key, *FOREVER)):
                assert 0 < each["low"] <= min(each["open"], each["close"])
                assert max(each["open"], each["close"]) <= each["high"]


@pytest.mark.parametrize(
    ("symbol", "asset", "days"),
    [
        ("SPY", "stocks", 5),
        ("AAPL", "stocks", 3),
        ("BTC/USD", "crypto", 2),
        ("XAU/USD", "commodities", 5),
    ],
)
def test_the_days_of_the_shipped_recording_are_its_minutes_put_together(symbol, asset, days):
    """The origin has both, from two files: so times, zones and prices were read aright."""
    shipped = read_shipped()
    minutes = SeriesKey(RecordKind.BARS, symbol, AssetClass(asset), "1m")
    held = 0
    for line in shipped.find_lines(minutes._replace(timeframe="1d"), *FOREVER):
        day = parse_line(line)
        end = day.start_ms + (390 if asset == "stocks" else 1440) * MINUTE_MS
        within = [parse_line(each) for each in shipped.find_lines(minutes, day.start_ms, end, 10**13)]
        if len(within) < 350:
            continue
        # the origin rounds some of the extremes of its minutes to a cent less
        assert (day.open, day.close) == (within[0].open, within[-1].close)
        assert day.high == pytest.approx(max(each.high for each in within), abs=0.02)
        assert day.low == pytest.approx(min(each.low for each in within), abs=0.02)
        if day.volume:
            assert day.volume == pytest.approx(sum(each.volume for each in within), rel=0.01)
        held += 1
    assert held >= days


def test_nothing_of_the_shipped_recording_is_known_after_its_reel():
    shipped = read_shipped()
    for key in shipped.list_series():
        reel = shipped.find_reel(key.symbol)
        assert shipped.find_last_line(key, to_ms(reel.to)) == shipped.find_lines(key, *FOREVER)[-1]
