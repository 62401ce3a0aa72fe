"""The comparison of the truth on all buses: reads the documents; `drift.py` decides which buses differ.

It compares when a seeding is announced, and every two seconds it reads the length and revision of each
document, which costs little. The whole documents are read if these have changed, while a drift is suspected,
and at every fifteenth time.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from marketswarm.agent.truth_source import TruthReading, read_all_truths, read_fingerprints
from marketswarm.bus import Bus, BusError
from marketswarm.bus.subscriber import subscribe
from marketswarm.detector import Verdict
from marketswarm.keys import TRUTH_CHANGED
from marketswarm.monitor.encoder import TRUTH_FIELD
from marketswarm.monitor.store import StateStore
from marketswarm.tasks import run_until_first
from marketswarm.time_slice import wait_until_due
from marketswarm.truth import ParsedTruth
from sentinel.drift import DriftDetector, DriftReason, HeldTruth

POLL_SEC: Final = 2.0
POLL_UNSETTLED_SEC: Final = 0.5
FULL_READ_EVERY: Final = 15  # reads of the lengths and revisions until the whole documents are read again
WITHIN_SEC: Final = 1.0


class TruthComparison:
    """Compares the truth on all buses, and publishes which have drifted."""

    def __init__(self, listener: str, key: str, publish: Callable[[Verdict], None]) -> None:
        self._listener, self._key, self._publish = listener, key, publish
        self.drift = DriftDetector()
        self._buses: list[Bus] = []
        self._restored: set[str] = set()
        self._loaded: ParsedTruth | None = None
        self._fingerprints: list[Any] = []
        self._count = 0
        self._compare_requested, self._buses_changed = asyncio.Event(), asyncio.Event()

    def set_buses(self, buses: Sequence[Bus]) -> None:
        """Set the buses to compare, the best first, and compare them at once."""
        self._buses = list(buses)
        self._compare_requested.set()
        self._buses_changed.set()

    async def run(self) -> None:
        """Compare until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_seedings(), name="truth:changed")
            while True:
                pause_sec = POLL_UNSETTLED_SEC if self.drift.is_unsettled else POLL_SEC
                is_requested = await wait_until_due(self._compare_requested, pause_sec)
                if await self._is_due(is_requested=is_requested):
                    await self.compare()

    async def compare(self) -> None:
        buses = list(self._buses)
        seen = await read_all_truths(buses, self._key, self._loaded, WITHIN_SEC)
        held: dict[str, HeldTruth | None] = {}
        for bus, one in zip(buses, seen, strict=True):
            held[bus.name] = classify_truth(one) if await self._restore_verdicts(bus, one) else None
            if one.found is not None:
                self._loaded = one.found.loaded
        for verdict in self.drift.evaluate(held, time.monotonic(), time.time()):
            self._publish(verdict)

    async def _is_due(self, *, is_requested: bool) -> bool:
        """Read the length and revision of each document; return True if the documents must be compared.

        That is so after a change or an announced seeding, while a drift is suspected, and every 15th time.
        """
        before = self._fingerprints
        self._fingerprints = await read_fingerprints(self._buses, self._key, WITHIN_SEC)
        self._count += 1
        is_full_read = self._count % FULL_READ_EVERY == 0
        return is_requested or is_full_read or self.drift.is_unsettled or before != self._fingerprints

    async def _restore_verdicts(self, bus: Bus, seen: TruthReading) -> bool:
        """Restore, once, the verdicts that a bus holds of an earlier run.

        Return False if it can't be read.
        """
        if not seen.has_answered:
            return False
        if bus.name not in self._restored:
            try:
                roster = await StateStore(bus, self._listener).load_roster(f"{TRUTH_FIELD}*")
            except BusError:
                return False
            self._restored.add(bus.name)
            for field, entry in roster.items():
                self.drift.restore(field.removeprefix(TRUTH_FIELD), entry.verdict, entry.ts)
        return True

    async def _follow_seedings(self) -> None:
        while True:
            self._buses_changed.clear()
            await run_until_first(
                self._buses_changed.wait(), *(self._subscribe_to_seedings(bus) for bus in self._buses)
            )

    async def _subscribe_to_seedings(self, bus: Bus) -> None:
        """Subscribe to announced seedings on one bus, until cancelled; have the truth compared after each."""
        await subscribe(
            bus,
            channels=(TRUTH_CHANGED,),
            on_message=lambda _channel, _payload: self._compare_requested.set(),
            on_subscribed=self._compare_requested.set,
        )


def classify_truth(seen: TruthReading) -> HeldTruth | None:
    """Return what a bus holds, from the result of reading it; None for a bus that did not answer."""
    if seen.found is not None:
        return HeldTruth(seen.found.loaded.sha256, seen.found.revision)
    if not seen.has_answered:
        return None
    return HeldTruth(unusable=DriftReason.MISSING if seen.reason == "has none" else DriftReason.INVALID)
