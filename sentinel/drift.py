"""Whether every bus holds the same truth. Pure: what was seen of each, and the time, are arguments.

A bus that is away has not drifted; the healer tells that. One that differs has drifted once it stood so for
a while and did not change meanwhile: a seeding writes one bus after the other. Not here: looking.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from marketswarm.detector import Publication, State, Subject, Verdict

SETTLE_SEC: Final = 2.0
SETTLE_LOOKS: Final = 3


class TruthStatus(StrEnum):
    """What a bus holds."""

    TRUTH = "truth"
    NOTHING = "missing"
    NONSENSE = "invalid"


class DriftReason(StrEnum):
    """How a bus drifted."""

    MISSING = "missing"
    INVALID = "invalid"
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True)
class HeldTruth:
    """What one bus that answered holds; no `revision` when its `truth:meta` is of another document."""

    holds: TruthStatus
    sha256: str = ""
    revision: int | None = None


@dataclass(slots=True)
class _Doubt:
    """A bus that seems to have drifted: how, since when (monotonic), and how often that was seen."""

    why: DriftReason
    glimpse: HeldTruth
    since: float
    looks: int = 1


@dataclass(frozen=True, slots=True)
class _Stored:
    state: State
    ts: float


class Drift:
    """The state of every bus, as it was told."""

    def __init__(self) -> None:
        self._told: dict[str, _Stored] = {}
        self._doubts: dict[str, _Doubt] = {}

    @property
    def unsettled(self) -> bool:
        """Whether something is wrong that is not told yet, so that it must be looked at again soon."""
        return bool(self._doubts)

    @property
    def drifted(self) -> list[str]:
        """The buses that were told as drifted."""
        return [bus for bus, stored in self._told.items() if stored.state is State.DOWN]

    def recall(self, bus: str, state: State, ts: float) -> None:
        """Takes up what an earlier run told; of two memories the later one counts."""
        known = self._told.get(bus)
        if known is None or known.ts < ts:
            self._told[bus] = _Stored(state, ts)

    def judge(self, seen: Mapping[str, HeldTruth | None], now: float, wall: float) -> list[Verdict]:
        """What follows from one look at all buses, in the order of their rank; None is one that is away."""
        wrong = find_drifted(seen)
        all_seen = None not in seen.values()
        self._doubts = {bus: doubt for bus, doubt in self._doubts.items() if bus in wrong}
        verdicts = []
        for bus in self._told.keys() | seen.keys():
            glimpse, down = seen.get(bus), bus in self.drifted
            if bus not in seen:
                right = down  # the truth names it no more
            elif glimpse is not None and bus in wrong:
                if not down and self._settled(bus, wrong[bus], glimpse, now):
                    verdicts.append(self._conclude(bus, State.DOWN, wall, wrong[bus]))
                continue
            else:
                right = down and all_seen
            if right:
                verdicts.append(self._conclude(bus, State.UP, wall))
        return sorted(verdicts, key=lambda verdict: verdict.svc)

    def _settled(self, bus: str, why: DriftReason, glimpse: HeldTruth, now: float) -> bool:
        doubt = self._doubts.get(bus)
        if doubt is None or (doubt.why, doubt.glimpse) != (why, glimpse):
            self._doubts[bus] = _Doubt(why, glimpse, now)
            return False
        doubt.looks += 1
        return doubt.looks >= SETTLE_LOOKS and now - doubt.since >= SETTLE_SEC

    def _conclude(self, bus: str, state: State, wall: float, why: DriftReason | None = None) -> Verdict:
        self._doubts.pop(bus, None)
        self._told[bus] = _Stored(state, wall)
        return Verdict(bus, state, Publication.ALERT, wall, subject=Subject.TRUTH, reason=why)


def find_drifted(seen: Mapping[str, HeldTruth | None]) -> dict[str, DriftReason]:
    """The buses that are not as they should be, and why.

    The measure is the highest revision; of two with the same, the bus that comes first.
    """
    found: dict[str, DriftReason] = {}
    holders: Sequence[tuple[str, HeldTruth]] = [
        (bus, one) for bus, one in seen.items() if one is not None and one.holds is TruthStatus.TRUTH
    ]
    measure = max((one for _, one in holders), key=lambda one: one.revision or 0, default=None)
    for bus, one in seen.items():
        if one is None:
            continue
        if one.holds is not TruthStatus.TRUTH:
            found[bus] = DriftReason(one.holds.value)
        elif measure is not None and (one.sha256, one.revision) != (measure.sha256, measure.revision):
            found[bus] = DriftReason.DIFFERS
    return found
