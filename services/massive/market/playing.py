"""Market data out of a recording, at its own pace or another: the same machine, the same shelf, no key.

A bar that was played before is known, as one that was told twice is: whoever plays a recording again, after a
restart say, repeats nothing.
"""

import asyncio
from pathlib import Path
from typing import Any

from marketswarm.agent import Agent
from services.massive.market.protocol import Machine, State
from services.massive.market.publish import Shelf
from services.massive.market.replay import pause_sec, recorded
from services.massive.market.standing import Standing
from services.massive.market.wishes import MarketWishes


class Playing:
    """One playing of one file. Without symbols it plays whichever there are."""

    def __init__(self, me: Agent[Any], wishes: MarketWishes, standing: Standing) -> None:
        self._me, self._wishes, self._standing = me, wishes, standing
        self._shelf = Shelf(me, standing)
        self._machine = Machine(wishes.symbols or None, "replay", standing.odd)
        self._bars = self._new = 0

    def want(self, wishes: MarketWishes) -> None:
        """From now on these symbols."""
        self._wishes = wishes
        self._machine.want(wishes.symbols or None)

    async def run(self) -> None:
        """Play it once; then be silent."""
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
        self._me.ail("market", self._standing.trouble())

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
