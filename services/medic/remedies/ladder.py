"""List the remedies, and build the ladder of a target: what is tried, in the order of the cost. Pure."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from marketswarm.operator.remedies import Remedy
from services.medic.facts import TargetFacts
from services.medic.refusal import Refusal
from services.medic.remedies.beside import ClearCache, ResumeSources
from services.medic.remedies.pause import PauseSource
from services.medic.remedies.remedy import OrderResult, RemedyContext, RemedyOrder, RemedyType
from services.medic.remedies.request import RepeatBackup, RequestRemedy
from services.medic.remedies.restart import Restart, RunCommand
from services.medic.remedies.rollback import RollBackTruth


@dataclass(frozen=True, kw_only=True)
class Wait(RemedyType):
    """Do nothing, by which the others are measured. The planner carries it out, so no order names it."""

    def find_identity(self, target: TargetFacts) -> str:
        return target.boot or ""

    def describe(self, identity: str) -> str:
        return identity

    def list_refusals(self, _target: TargetFacts, _start_grace_sec: float) -> Iterator[Refusal]:
        yield from ()

    async def apply(self, _order: RemedyOrder, _context: RemedyContext) -> tuple[OrderResult, str]:
        return OrderResult.REFUSED, "to wait needs no order"


_TYPES: Final[tuple[RemedyType, ...]] = (
    Wait(name=Remedy.WAIT, cost=0, cooldown_sec=0.0, attempts=1),
    ResumeSources(name=Remedy.RESUME_SOURCES, cost=10, cooldown_sec=60.0),
    RequestRemedy(name=Remedy.RELOAD_SERIES, cost=12, cooldown_sec=60.0, settle_sec=90.0),
    PauseSource(name=Remedy.PAUSE_SOURCE, cost=15, cooldown_sec=60.0, settle_sec=600.0),
    ClearCache(name=Remedy.QUOTES_CACHE, cost=20, cooldown_sec=30.0),
    ClearCache(name=Remedy.CHARTS_CACHE, cost=21, cooldown_sec=30.0),
    RequestRemedy(name=Remedy.RECONNECT, cost=23, cooldown_sec=15.0, settle_sec=60.0),
    RepeatBackup(name=Remedy.REPEAT_BACKUP, cost=25, cooldown_sec=300.0, settle_sec=3600.0),
    Restart(name=Remedy.RESTART, cost=30, cooldown_sec=60.0),
    RollBackTruth(
        name=Remedy.ROLL_BACK_TRUTH,
        cost=35,
        cooldown_sec=60.0,
        attempts=1,
        settle_sec=60.0,
        may_precede_cheaper=False,
    ),
    RunCommand(name=Remedy.COMMAND, cost=40, cooldown_sec=300.0, may_precede_cheaper=False, runs_apart=True),
)
REMEDIES: Final[Mapping[Remedy, RemedyType]] = {each.name: each for each in _TYPES}
"""The type of each remedy."""


def build_ladder(offered: Collection[Remedy]) -> tuple[Remedy, ...]:
    """Return the remedies of a target in the order in which they are tried; `wait` is always the first."""
    return tuple(sorted({Remedy.WAIT, *offered}, key=lambda remedy: REMEDIES[remedy].cost))
