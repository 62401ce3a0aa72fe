"""Frames of massive's stream as a recording: what is known when, and lines that are no frames."""

from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from services.market.records import AssetClass, RecordKind
from services.sources.catalog.request import Question
from services.sources.replay.recording import RecordingError, SeriesKey, parse_line, read_recording, to_ms
from services.sources.replay.replay_source import ReplaySource

RECORDED = Path(__file__).parent / "frames.jsonl"
LINES = RECORDED.read_bytes().splitlines()
BARS = 118  # 40 minutes of three symbols; in two of them nobody traded NVDA
START_MS, END_MS = 0, 10**13


def minutes(symbol):
    return SeriesKey(RecordKind.BARS, symbol, AssetClass.STOCKS, "1m")


@pytest.fixture
def write(tmp_path):
    def write(*lines):
        path = tmp_path / "frames.jsonl"
        path.write_bytes(b"\n".join(lines))
        return path

    return write


def test_each_bar_of_the_frames_is_known_from_when_its_frame_came():
    recording = read_recording(RECORDED)
    assert (recording.rows, recording.bad_rows) == (BARS, 0)
    assert recording.list_series() == [minutes(symbol) for symbol in ("AAPL", "MSFT", "NVDA")]
    [reel] = recording.header.reels
    clock_ms = to_ms(reel.play_from)
    [first] = recording.find_lines(minutes("AAPL"), START_MS, END_MS, clock_ms)
    frame = next(each for each in map(orjson.loads, LINES) if '"AAPL"' in each["frame"])
    [event] = [each for each in orjson.loads(frame["frame"]) if each["sym"] == "AAPL"]
    bar = parse_line(first)
    assert (clock_ms, bar.start_ms, bar.close, bar.vwap) == (frame["at"], event["s"], event["c"], event["vw"])
    assert not recording.find_lines(minutes("AAPL"), START_MS, END_MS, clock_ms - 1)
    assert len(recording.find_lines(minutes("NVDA"), START_MS, END_MS, to_ms(reel.to))) == 38


async def test_they_are_played_by_a_source_like_any_other_recording(bus):
    recording = read_recording(RECORDED)
    [reel] = recording.header.reels
    half = datetime.fromtimestamp(to_ms(reel.play_from) / 1000 + 20 * 60, UTC)
    source = ReplaySource("replay", recording, bus, speed=1e-6, start=half.isoformat())
    answer = await source.ask(Question("MSFT", AssetClass.STOCKS, RecordKind.BARS, reel.start, reel.to, "1m"))
    assert 19 <= len(answer.records) <= 21
    assert answer.is_replay


def test_a_line_that_is_no_frame_is_counted(write):
    odd = (b"", b'{"at":true,"frame":"[]"}', b'{"at":-1,"frame":"a"}', b'{"at":6}', b"[]", b"\xff")
    recording = read_recording(write(*odd, *LINES, b'{"at":5,"frame":"' + b"x" * (5 << 20) + b'"}'))
    assert (recording.rows, recording.bad_rows) == (BARS, 5)


@pytest.mark.parametrize("lines", [(), LINES[:5], (b"{}",)], ids=["nothing", "no bar", "no frame"])
def test_a_file_without_a_bar_is_refused(write, lines):
    with pytest.raises(RecordingError, match="not the header"):
        read_recording(write(*lines))


def test_frames_after_a_refusal_of_the_key_have_no_bars(write):
    refused = LINES[1].replace(b"auth_success", b"auth_failed")
    with pytest.raises(RecordingError, match="not the header"):
        read_recording(write(LINES[0], refused, *LINES[2:]))
