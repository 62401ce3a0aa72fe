"""Replay market data from a recording, at its own speed or another; no key is needed.

A recording is a file of lines, each a JSON object with `at`, in epoch milliseconds, and `frame`, the text
that the server sent. An invalid line is skipped and counted. A bar that is on the stream already is not
published again, so a recording that is played twice, as after a restart, repeats nothing.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from marketswarm.agent import Agent
from services.massive.market.protocol import ConnectionState, ProtocolMachine
from services.massive.market.publish import BarStore
from services.massive.market.settings import MarketSettings
from services.massive.market.status import MarketStatus

LINE_BYTES: Final = 2 << 20
MAX_PAUSE_SEC: Final = 60.0
"""A longer pause in the recording, such as a night, is cut to this."""


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """Hold a frame and when it was received, in epoch milliseconds.

    `frame` is None for an invalid line.
    """

    at: int
    frame: str | None


def read_recording(path: Path) -> Iterator[RecordedFrame]:
    """Yield the frames of a file in order, reading it as they are consumed. Raises OSError."""
    if not path.is_file():  # such as a pipe, which could block for ever
        raise FileNotFoundError
    with path.open("rb") as file:
        at = 0
        while line := file.readline(LINE_BYTES):
            if not line.strip():
                continue
            recorded = _parse_line(line)
            if recorded is None:
                yield RecordedFrame(at, None)
            else:
                at = recorded.at
                yield recorded


def frame_pause_sec(before: int, at: int, speed: float) -> float:
    """Return the seconds to wait between frames that were received at `before` and `at` (milliseconds).

    The result is 0 at speed 0, and if the recording's time goes back.
    """
    return min(MAX_PAUSE_SEC, max(0, at - before) / 1000 / speed) if speed else 0.0


def _parse_line(line: bytes) -> RecordedFrame | None:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict):
        return None
    at, frame = found.get("at"), found.get("frame")
    if not isinstance(at, int) or isinstance(at, bool) or not 0 <= at < 1 << 48 or not isinstance(frame, str):
        return None
    return RecordedFrame(at, frame)


class RecordingPlayer:
    """Play one recording once, to the bus. If the settings name no symbols, all in the recording are played.

    `store` is where the bars are published; by default the stream that the truth names.
    """

    def __init__(
        self, me: Agent[Any], settings: MarketSettings, status: MarketStatus, store: BarStore | None = None
    ) -> None:
        self._me, self._settings, self._status = me, settings, status
        self._store = BarStore(me, status) if store is None else store
        self._machine = ProtocolMachine(settings.symbols or None, "replay", status.anomalies)
        self._bars = self._new = 0

    def update_settings(self, settings: MarketSettings) -> None:
        self._settings = settings
        self._machine.set_symbols(settings.symbols or None)

    async def run(self) -> None:
        """Play the file once, from its beginning to its end; an unreadable file is recorded in the status."""
        path = Path(self._settings.file or "")
        try:
            await self._play(path)
        except OSError as error:
            self._status.replay_error = f"{path.name} can't be read ({error.strerror or 'no such file'})"
            self._me.log.warning("market.unplayable", file=path.name, why=error.strerror)
        else:
            ended = (
                "" if self._machine.state is ConnectionState.STREAMING else f"; it ends {self._machine.state}"
            )
            self._report_progress(path, f"over, {self._bars} bars, {self._new} new{ended}")
            self._me.log.info("market.played", file=path.name, bars=self._bars, new=self._new)
        self._me.set_degraded(self._status.problem(), part="market")

    async def _play(self, path: Path) -> None:
        """Publish the bars of each frame in the recording, with its pauses. Raises OSError."""
        before = None
        for recorded in read_recording(path):
            if recorded.frame is None:
                self._status.anomalies["malformed"] += 1
                continue
            await asyncio.sleep(frame_pause_sec(before or recorded.at, recorded.at, self._settings.speed))
            before = recorded.at
            content = self._machine.receive(recorded.frame, float(recorded.at))
            self._new += await self._store.publish(content.bars, [], self._settings.keep)
            self._bars += len(content.bars)
            self._report_progress(path, f"{self._bars} bars so far")

    def _report_progress(self, path: Path, progress: str) -> None:
        self._status.replay_progress = f"{path.name}: {progress}"
