"""Drift: a bus that holds another truth than the others. Pure: the documents and the time are arguments.

A bus that is away has not drifted, because the healer publishes that it is away. A bus that differs has
drifted once it has differed for two seconds without a change, because a seeding writes one bus after the
other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from marketswarm.detector import State, Subject, Verdict
from marketswarm.detector.verdict import make_alert

SETTLE_SEC: Final = 2.0
SETTLE_READS: Final = 3


class DriftReason(StrEnum):
    """The reason of a drift."""

    MISSING = "missing"
    INVALID = "invalid"
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True)
class HeldTruth:
    """What a bus that answered holds; `revision` is None if its `truth:meta` is of another document.

    `unusable` is why that is not a truth; None for a truth.
    """

    sha256: str = ""
    revision: int | None = None
    unusable: DriftReason | None = None


@dataclass(slots=True)
class _Suspicion:
    """A bus that seems to have drifted: why, since when (monotonic), and how often that was seen."""

    reason: DriftReason
    held: HeldTruth
    since: float
    reads: int = 1


class DriftDetector:
    """The published state of every bus's truth, and the suspected drifts."""

    def __init__(self) -> None:
        self._published: dict[str, Verdict] = {}
        self._suspicions: dict[str, _Suspicion] = {}

    @property
    def is_unsettled(self) -> bool:
        """Whether a drift is suspected and not published yet, so that the buses must be read again soon."""
        return bool(self._suspicions)

    @property
    def drifted(self) -> list[str]:
        return [bus for bus, verdict in self._published.items() if verdict.state is State.DOWN]

    def restore(self, bus: str, state: State, ts: float) -> None:
        """Apply a verdict that an earlier run published; of two rosters' entries, the later one counts."""
        known = self._published.get(bus)
        if known is None or known.ts < ts:
            self._published[bus] = make_alert(bus, state, Subject.TRUTH, ts)

    def evaluate(self, seen: Mapping[str, HeldTruth | None], now: float, wall: float) -> list[Verdict]:
        """Return the verdicts that follow from the documents of all buses.

        Args:
            seen: the document of each bus, best bus first; None for a bus that is away.
        """
        wrong = find_drifted(seen)
        are_all_read = None not in seen.values()
        self._suspicions = {bus: suspicion for bus, suspicion in self._suspicions.items() if bus in wrong}
        verdicts = []
        for bus in self._published.keys() | seen.keys():
            held, is_down = seen.get(bus), bus in self.drifted
            if bus not in seen:
                is_recovered = is_down  # the truth no longer names it
            elif held is not None and bus in wrong:
                if not is_down and self._is_settled(bus, wrong[bus], held, now):
                    verdicts.append(self._conclude(bus, State.DOWN, wall, wrong[bus]))
                continue
            else:
                is_recovered = is_down and are_all_read
            if is_recovered:
                verdicts.append(self._conclude(bus, State.UP, wall))
        return sorted(verdicts, key=lambda verdict: verdict.svc)

    def _is_settled(self, bus: str, reason: DriftReason, held: HeldTruth, now: float) -> bool:
        """Return True if the bus has differed in the same way for two seconds and three reads."""
        suspicion = self._suspicions.get(bus)
        if suspicion is None or (suspicion.reason, suspicion.held) != (reason, held):
            self._suspicions[bus] = _Suspicion(reason, held, now)
            return False
        suspicion.reads += 1
        return suspicion.reads >= SETTLE_READS and now - suspicion.since >= SETTLE_SEC

    def _conclude(self, bus: str, state: State, wall: float, reason: DriftReason | None = None) -> Verdict:
        self._suspicions.pop(bus, None)
        verdict = self._published[bus] = make_alert(bus, state, Subject.TRUTH, wall, reason=reason)
        return verdict


def find_drifted(seen: Mapping[str, HeldTruth | None]) -> dict[str, DriftReason]:
    """Return the buses whose document is missing, invalid or not the newest truth, and why.

    The document of the highest revision is the newest; with the same revision, the one of the first bus.
    """
    found: dict[str, DriftReason] = {}
    truths = [held for held in seen.values() if held is not None and held.unusable is None]
    newest = max(truths, key=lambda held: held.revision or 0, default=None)
    for bus, held in seen.items():
        if held is None:
            continue
        if held.unusable is not None:
            found[bus] = held.unusable
        elif newest is not None and (held.sha256, held.revision) != (newest.sha256, newest.revision):
            found[bus] = DriftReason.DIFFERS
    return found
