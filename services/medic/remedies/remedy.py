"""Define what a remedy is: its cost, when it may be tried, how it is carried out, and what verifies it.

The planner and the medic know remedies by this alone. To add one: a name in `Remedy`
(marketswarm/operator/remedies.py), a module with its type, an entry in `ladder.py`, and the rights of the
medic's user in marketswarm/access/rights.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from marketswarm.agent.lease import LeaseLost, is_in_time
from marketswarm.beat import Beat, parse_beat
from marketswarm.bus import Bus, BusError, NoBusError
from marketswarm.bus.stored_values import read_strings
from marketswarm.keys import TRUTH_DOC, last_beat_key
from marketswarm.operator.remedies import Remedy
from marketswarm.truth import Truth
from services.medic.facts import FleetFacts, Health, RemedyEvidence, RestartOwner, Symptom, TargetFacts
from services.medic.owners.owner import ProcessOwner
from services.medic.refusal import Refusal
from services.medic.remedies.command_output import CommandOutput
from services.medic.remedies.leased_write import TooLateError
from services.medic.settings import HealingSettings

TOO_LATE: Final = "the request came too late"


class OrderResult(StrEnum):
    """The outcome of an order."""

    DONE = "done"
    CHANGED = "changed"  # the process is another one than the intent says: nothing was done
    REFUSED = "refused"
    UNKNOWN = "unknown"  # no answer: it may have been done
    BROKEN_OFF = "broken_off"  # it ended with its medic: a part of it may have been done


@dataclass(frozen=True, slots=True)
class RemedyOrder:
    """A remedy to carry out for a service while `identity` is its start, and for no other start.

    What an identity is depends on the remedy: that of the process as its owner knows it, or the `boot` of the
    last beat. `owner` is what runs the target.
    """

    svc: str
    remedy: Remedy
    identity: str
    owner: RestartOwner = RestartOwner.ELSEWHERE


@dataclass(frozen=True, slots=True)
class RemedyContext:
    """What a remedy may use.

    Attributes:
        truth: the truth in force.
        get_bus: returns a bus by its name; raises NoBusError.
        owners: what runs processes here.
        settings: what the truth allows.
        command: the command of the environment, and its arguments; empty without one.
        command_sec: how long it may take, in seconds.
        output: what shows the command's output while it runs; None if nothing does.
        truth_key: the key of the truth on each bus.
        outages: since when each open outage lasts, in epoch seconds, by service.
        until: when the lease ends under which this is done, by `marketswarm.agent.lease.clock`.
        on_start: is called with the number of the process group of a command that was started.
    """

    truth: Truth
    get_bus: Callable[[str], Bus]
    owners: Sequence[ProcessOwner] = ()
    settings: HealingSettings = field(default_factory=HealingSettings)
    command: tuple[str, ...] = ()
    command_sec: float = 30.0
    truth_key: str = TRUTH_DOC
    outages: Mapping[str, float] = field(default_factory=dict)
    until: float | None = None
    output: CommandOutput | None = None
    on_start: Callable[[int], None] | None = None


@dataclass(frozen=True, kw_only=True)
class RemedyType(ABC):
    """One remedy.

    Attributes:
        cost: a remedy of a lower cost is tried first.
        cooldown_sec: the time from one attempt to the next.
        attempts: the most attempts in one outage.
        symptoms: what it may be tried against.
        replaces_process: whether the process of the target ends by it, so that services that need the target
            are stopped, and a start takes its time.
        settle_sec: the least time that it may take until it is verified.
        binds_proposal: whether a proposal is for one identity, and ends when an order would name another one.
        is_for_fleet: whether it may be proposed while a large part of the fleet is down.
        may_precede_cheaper: whether it may be tried before cheaper remedies have had all their attempts:
            since they did not help, or do so less often by the record.
        runs_apart: whether it is carried out beside the rounds of the medic, until a deadline.
    """

    name: Remedy
    cost: int
    cooldown_sec: float
    attempts: int = 3
    symptoms: frozenset[Symptom] = frozenset(Symptom)
    replaces_process: bool = False
    settle_sec: float = 0.0
    binds_proposal: bool = False
    is_for_fleet: bool = False
    may_precede_cheaper: bool = True
    runs_apart: bool = False

    def is_useful(self, _target: TargetFacts) -> bool:
        """Return False if there is provably nothing to apply it to: the ladder continues without it."""
        return True

    def precedes(self, _target: TargetFacts) -> bool:
        """Return True if what is known says that it ends the outage: it is tried before cheaper ones."""
        return False

    @abstractmethod
    def find_identity(self, target: TargetFacts) -> str:
        """Return the start of the target that an order would name; empty if it is not known."""

    @abstractmethod
    def describe(self, identity: str) -> str:
        """Return in a few words, for the intent, to what the remedy will be applied."""

    @abstractmethod
    def list_refusals(self, target: TargetFacts, start_grace_sec: float) -> Iterator[Refusal]:
        """Yield the reasons of this remedy's own why it must not be applied to a target now."""

    def can_tell(self, _target: TargetFacts) -> bool:
        """Return True if what is known now says whether an intent was carried out."""
        return True

    def is_done(self, _identity: str, _target: TargetFacts) -> bool:
        """Return True if an intent that another medic left was provably carried out.

        `identity` is that of the intent.
        """
        return False

    def is_undone(self, _identity: str, _target: TargetFacts) -> bool:
        """Return True if an intent that another medic left was provably not carried out, and no longer is.

        The lease under which it was written has ended. `identity` is that of the intent.
        """
        return False

    def has_helped(self, _boot: str | None, _identity: str, _target: TargetFacts) -> bool | None:
        """Return whether an order for `identity` did what it is for; None as long as that is not known.

        It helped a target that is well besides, by observations newer than the action. `boot` is that of the
        target before the action.
        """
        return None

    async def carry_out(self, order: RemedyOrder, context: RemedyContext) -> tuple[OrderResult, str]:
        """Carry out an order; return its outcome, and a sentence for people.

        Raises LeaseLost if the lease has ended: then nothing was begun. What carries it out elsewhere (the
        fleet, a bus) is given that end, and refuses a request that comes later: this process may stand still
        on the way.
        """
        if not is_in_time(context.until):
            raise LeaseLost("the lease ended before the remedy was carried out")
        try:
            return await self.apply(order, context)
        except TooLateError:
            return OrderResult.REFUSED, TOO_LATE
        except (BusError, NoBusError) as error:
            return OrderResult.UNKNOWN, str(error)[:100]

    @abstractmethod
    async def apply(self, order: RemedyOrder, context: RemedyContext) -> tuple[OrderResult, str]:
        """Carry out an order, as above.

        Raises TooLateError if a bus has refused all of it, BusError or NoBusError if it may be done in part.
        """


async def read_boot(svc: str, context: RemedyContext) -> str | None:
    """Return the `boot` of the last beat of a service; None without one. Raises BusError and NoBusError."""
    if svc not in context.truth.services:
        return None
    (raw,) = await read_strings(context.get_bus(context.truth.bus_of(svc)), [last_beat_key(svc)])
    beat = None if raw is None else parse_beat(raw, svc)
    return beat.boot if isinstance(beat, Beat) else None


@dataclass(frozen=True, kw_only=True)
class TracedRemedy(RemedyType):
    """A remedy whose trace says to what it can be applied, and whether an order was carried out and helped.

    A healthy beat proves nothing of it: only the trace that names the order does.
    """

    symptoms: frozenset[Symptom] = frozenset({Symptom.DEGRADED, Symptom.ALERT})
    binds_proposal: bool = True

    @abstractmethod
    async def read_evidence(
        self, services: Collection[str], facts: FleetFacts, context: RemedyContext, now: float
    ) -> Mapping[str, RemedyEvidence]:
        """Return what is known of this remedy at `now` (epoch seconds) for each of these services.

        One of which nothing is known is left out. A trace that all of them have in common is read once.
        Raises BusError and NoBusError.
        """

    def is_useful(self, target: TargetFacts) -> bool:
        found = target.evidence.get(self.name)
        return found is None or bool(found.identity) or found.is_under_way

    def find_identity(self, target: TargetFacts) -> str:
        return target.evidence.get(self.name, RemedyEvidence()).identity

    def list_refusals(self, target: TargetFacts, start_grace_sec: float) -> Iterator[Refusal]:
        if target.health is not Health.UP:
            yield Refusal.TARGET_DOWN
        found = target.evidence.get(self.name)
        if found is not None and found.is_under_way:
            yield Refusal.UNDER_WAY
        elif found is None or not found.identity:
            yield Refusal.UNKNOWN
        if target.process is not None and target.process.age_sec < start_grace_sec:
            yield Refusal.START_GRACE

    def can_tell(self, target: TargetFacts) -> bool:
        return self.name in target.evidence

    def is_done(self, identity: str, target: TargetFacts) -> bool:
        return bool(identity) and identity in target.evidence.get(self.name, RemedyEvidence()).results

    def is_undone(self, identity: str, target: TargetFacts) -> bool:
        return bool(identity) and identity in target.evidence.get(self.name, RemedyEvidence()).undone

    def has_helped(self, _boot: str | None, identity: str, target: TargetFacts) -> bool | None:
        return target.evidence.get(self.name, RemedyEvidence()).results.get(identity)
