"""Turn recorded frames of massive's stream into a recording that sources plays. Pure.

A recording of frames is JSON lines: `at`, when the frame was received, in epoch milliseconds, and `frame`,
the text that the server sent. The frames go through the protocol as live ones do.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Final

import orjson
from pydantic import Field, ValidationError

from services.market.massive import ProtocolMachine
from services.market.records import AssetClass, Bar, RecordKind, VolumeKind
from services.sources.catalog.source import FilePart

NAME: Final = "massive_frames"
"""The name of each recording of frames."""


class _RecordedFrame(FilePart):
    at: Annotated[int, Field(strict=True, ge=0, lt=1 << 48)]
    frame: str


def convert_frames(raw: bytes) -> bytes:
    """Return the lines of a recording: a header, and each bar, known when its frame was received.

    A line that is not a frame is left as it is, so that it counts as a bad one. The result is empty if there
    is no bar.
    """
    machine, rows, bars = ProtocolMachine(None), list[bytes](), list[tuple[int, Bar]]()
    for line in raw.splitlines():
        try:
            recorded = _RecordedFrame.model_validate_json(line)
        except ValidationError:
            rows += [line] if line.strip() else []
            continue
        content = machine.receive(recorded.frame, recorded.at)
        bars += ((recorded.at, bar) for bar in content.bars)
    if not bars:
        return b""
    return b"\n".join((_make_header(bars), *map(orjson.dumps, _make_rows(bars)), *rows))


def _make_header(bars: list[tuple[int, Bar]]) -> bytes:
    """Return the header of a recording with one reel, which plays from its first frame to its last."""
    known = [at for at, _ in bars]
    reel = {
        "name": "stream",
        "from": _to_iso(min(bar.start_ms for _, bar in bars)),
        "play_from": _to_iso(min(known)),
        "to": _to_iso(max(known) + 1),
        "symbols": sorted({bar.symbol for _, bar in bars}),
    }
    origin = {"what": "frames of massive's stream", "repository": "", "licence": ""}
    header = {"format": "marketswarm-recording", "version": 1, "name": NAME, "zone": "UTC"}
    kinds = {
        AssetClass.STOCKS.value: VolumeKind.CONSOLIDATED
    }  # an aggregate counts the trades of all exchanges
    return orjson.dumps({**header, "origins": [origin], "volume_kinds": kinds, "reels": [reel]})


def _make_rows(bars: list[tuple[int, Bar]]) -> Iterator[dict[str, object]]:
    for at, bar in bars:
        row = {"kind": RecordKind.BARS, "sym": bar.symbol, "asset": AssetClass.STOCKS, "start": bar.start_ms}
        names = ("timeframe", "open", "high", "low", "close", "volume", "vwap")
        yield row | {name: getattr(bar, name) for name in names} | {"known": at}


def _to_iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()
