"""Recordings made here, for tests of what reads and plays them."""

import gzip
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import orjson

from services.sources.replay.recording import Recording, read_recording

MINUTE_MS = 60_000
PLAY_FROM = datetime(2020, 3, 2, 15, 0, tzinfo=UTC)
PLAY_FROM_MS = round(PLAY_FROM.timestamp() * 1000)
TO_MS = PLAY_FROM_MS + 120 * MINUTE_MS
COIN_FROM_MS = 1_600_000_020_000
SHIPPED = Path(__file__).parents[2] / "examples" / "recorded" / "three_weeks.jsonl.gz"


@cache
def read_shipped() -> Recording:
    """The recording that comes with the program, read once."""
    return read_recording(SHIPPED)


def iso(at_ms):
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()


def header(**changes):
    """Two reels of two hours each, of which the second is of another year."""
    return {
        "format": "marketswarm-recording",
        "version": 1,
        "name": "two_hours",
        "origins": [{"what": "bars", "repository": "https://example.org/bars", "licence": "CC0-1.0"}],
        "zone": "UTC",
        "reels": [
            {
                "name": "stocks",
                "from": iso(PLAY_FROM_MS - 600 * MINUTE_MS),
                "play_from": iso(PLAY_FROM_MS),
                "to": iso(TO_MS),
                "symbols": ["SPY", "US.10Y"],
            },
            {
                "name": "coins",
                "from": iso(COIN_FROM_MS - 600 * MINUTE_MS),
                "play_from": iso(COIN_FROM_MS),
                "to": iso(COIN_FROM_MS + 60 * MINUTE_MS),
                "symbols": ["BTC/USD"],
            },
        ],
    } | changes


def bar(start_ms, close=10.0, **changes):
    """A minute of SPY."""
    row = {"kind": "bars", "sym": "SPY", "asset": "stocks", "timeframe": "1m", "start": start_ms}
    return row | {"open": 10.0, "high": 11.0, "low": 9.0, "close": close, "volume": 5} | changes


def coin(start_ms, close=10.0, **changes):
    """A minute of BTC/USD."""
    return bar(start_ms, close, sym="BTC/USD", asset="crypto") | changes


def pack(*lines, head=None):
    """The bytes of a recording; a line that is bytes stands there as it is."""
    texts = [line if isinstance(line, bytes) else orjson.dumps(line) for line in (head or header(), *lines)]
    return gzip.compress(b"".join(text + b"\n" for text in texts), 1)


def write(folder, *lines, head=None):
    """The path of a recording in a folder."""
    path = folder / "recording.jsonl.gz"
    path.write_bytes(pack(*lines, head=head))
    return path
