"""Looks at the truth on every bus, and has told where it drifted (`drift.py` judges).

It looks when a seeding says so, and glances every two seconds, which costs little: length and revision. The
whole documents are read when a glance shows something new, while something is unsettled, and now and then.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from marketswarm.agent.truth_source import Seen, glance, look_at_all
from marketswarm.bus import Bus, BusError
from marketswarm.bus.subscriber import subscribe
from marketswarm.detector import Verdict
from marketswarm.keys import TRUTH_CHANGED
from marketswarm.monitor.encoder import TRUTH_FIELD
from marketswarm.monitor.store import StateStore
from marketswarm.truth import Loaded
from sentinel.drift import Drift, HeldTruth, TruthStatus

GLANCE_SEC: Final = 2.0
UNSETTLED_SEC: Final = 0.5
WHOLE_EVERY: Final = 15  # glances until the whole documents are read again, changed or not
WITHIN_SEC: Final = 1.0


class TruthComparison:
    """Compares until cancelled.

    Args:
        me: whose roster remembers what was told.
        key: of the document.
        conclude: called with each verdict.
    """

    def __init__(self, me: str, key: str, conclude: Callable[[Verdict], None]) -> None:
        self._me, self._key, self._conclude = me, key, conclude
        self.drift = Drift()
        self._buses: list[Bus] = []
        self._recalled: set[str] = set()
        self._loaded: Loaded | None = None
        self._glances: list[Any] = []
        self._count = 0
        self._look, self._changed = asyncio.Event(), asyncio.Event()

    def set_buses(self, buses: Sequence[Bus]) -> None:
        """Puts these buses in force, in the order of their rank."""
        self._buses = list(buses)
        self._look.set()
        self._changed.set()

    async def run(self) -> None:
        """Looks and listens."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(), name="truth:changed")
            while True:
                pause_sec = UNSETTLED_SEC if self.drift.unsettled else GLANCE_SEC
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_sec):
                        await self._look.wait()
                if await self._is_called_for():
                    await self.compare()

    async def compare(self) -> None:
        """One look at everything, and what follows from it."""
        buses = list(self._buses)
        seen = await look_at_all(buses, self._key, self._loaded, WITHIN_SEC)
        glimpses: dict[str, HeldTruth | None] = {}
        for bus, one in zip(buses, seen, strict=True):
            glimpses[bus.name] = glimpse(one) if await self._recall(bus, one) else None
            if one.found is not None:
                self._loaded = one.found.loaded
        for verdict in self.drift.judge(glimpses, time.monotonic(), time.time()):
            self._conclude(verdict)

    async def _is_called_for(self) -> bool:
        asked = self._look.is_set()
        self._look.clear()
        looks = (glance(bus, self._key, WITHIN_SEC) for bus in self._buses)
        before, self._glances = self._glances, await asyncio.gather(*looks)
        self._count += 1
        whole = self._count % WHOLE_EVERY == 0
        return asked or whole or self.drift.unsettled or before != self._glances

    async def _recall(self, bus: Bus, seen: Seen) -> bool:
        """Takes up, once, what an earlier run told on this bus; False while that can't be read."""
        if not seen.answered:
            return False
        if bus.name not in self._recalled:
            try:
                roster = await StateStore(bus, self._me).load_roster(f"{TRUTH_FIELD}*")
            except BusError:
                return False
            self._recalled.add(bus.name)
            for field, entry in roster.items():
                self.drift.recall(field.removeprefix(TRUTH_FIELD), entry.verdict, entry.ts)
        return True

    async def _listen(self) -> None:
        """Hears of seedings on every bus, on others when the truth names others."""
        while True:
            self._changed.clear()
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._listen_on(bus), name=bus.name) for bus in self._buses]
                await self._changed.wait()
                for task in tasks:
                    task.cancel()

    async def _listen_on(self, bus: Bus) -> None:
        await subscribe(
            bus,
            channels=(TRUTH_CHANGED,),
            on_message=lambda _channel, _payload: self._look.set(),
            on_subscribed=self._look.set,
            on_lost=lambda _error: None,
        )


def glimpse(seen: Seen) -> HeldTruth | None:
    """What `drift` needs of a look; None for a bus that did not answer."""
    if seen.found is not None:
        return HeldTruth(TruthStatus.TRUTH, seen.found.loaded.sha256, seen.found.revision)
    if not seen.answered:
        return None
    return HeldTruth(TruthStatus.NOTHING if seen.why == "has none" else TruthStatus.NONSENSE)
