"""Replay market data from a recording, at its own speed or another; no key is needed.

A recording is a file of lines, each a JSON object with `at`, in epoch milliseconds, and `frame`, the text
that the server sent. A line that is none is skipped and counted. A bar that was played before is known, so a
recording that is played again, after a restart for example, repeats nothing.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from marketswarm.agent import Agent
from services.massive.market.protocol import ProtocolMachine, State
from services.massive.market.publish import BarStore
from services.massive.market.settings import MarketSettings
from services.massive.market.status import MarketStatus

LINE_BYTES: Final = 2 << 20
PAUSE_AT_MOST_SEC: Final = 60.0
"""A night in a recording is no reason to be silent for one."""


@dataclass(frozen=True, slots=True)
class Played:
    """A frame and when it came, in epoch milliseconds; `frame` is None for a line that is none."""

    at: int
    frame: str | None


def recorded(path: Path) -> Iterator[Played]:
    """Yield the frames of a file, in its order; the file is read as they are taken. Raises OSError."""
    if not path.is_file():  # nor a pipe, at which one would wait for ever
        raise FileNotFoundError
    with path.open("rb") as file:
        at = 0
        while line := file.readline(LINE_BYTES):
            if not line.strip():
                continue
            played = _played(line)
            if played is None:
                yield Played(at, None)
            else:
                at = played.at
                yield played


def pause_sec(before: int, at: int, speed: float) -> float:
    """Return how long to wait between two frames of these times; 0 at speed 0 or where time goes back."""
    return min(PAUSE_AT_MOST_SEC, max(0, at - before) / 1000 / speed) if speed else 0.0


def _played(line: bytes) -> Played | None:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict):
        return None
    at, frame = found.get("at"), found.get("frame")
    if not isinstance(at, int) or isinstance(at, bool) or not 0 <= at < 1 << 48 or not isinstance(frame, str):
        return None
    return Played(at, frame)


class ReplaySource:
    """One replay of one file. Without symbols it plays all there are."""

    def __init__(self, me: Agent[Any], wishes: MarketSettings, standing: MarketStatus) -> None:
        self._me, self._wishes, self._standing = me, wishes, standing
        self._shelf = BarStore(me, standing)
        self._machine = ProtocolMachine(wishes.symbols or None, "replay", standing.odd)
        self._bars = self._new = 0

    def want(self, wishes: MarketSettings) -> None:
        """Play these symbols from now on."""
        self._wishes = wishes
        self._machine.want(wishes.symbols or None)

    async def run(self) -> None:
        """Play the file once."""
        path = Path(self._wishes.file or "")
        try:
            await self._play(path)
        except OSError as error:
            self._standing.unplayable = f"{path.name} can't be read ({error.strerror or 'no such file'})"
            self._me.log.warning("market.unplayable", file=path.name, why=error.strerror)
        else:
            ended = "" if self._machine.state is State.STREAMING else f"; it ends {self._machine.state}"
            self._tell(path, f"over, {self._bars} bars, {self._new} new{ended}")
            self._me.log.info("market.played", file=path.name, bars=self._bars, new=self._new)
        self._me.set_degraded(self._standing.trouble(), part="market")

    async def _play(self, path: Path) -> None:
        before = None
        for played in recorded(path):
            if played.frame is None:
                self._standing.odd["malformed"] += 1
                continue
            await asyncio.sleep(pause_sec(before or played.at, played.at, self._wishes.speed))
            before = played.at
            heard = self._machine.receive(played.frame, float(played.at))
            self._new += await self._shelf.put(heard.bars, [], self._wishes.keep)
            self._bars += len(heard.bars)
            self._tell(path, f"{self._bars} bars so far")

    def _tell(self, path: Path, how: str) -> None:
        self._standing.recording = f"{path.name}: {how}"
