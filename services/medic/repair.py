"""Define a repair: what the medic does about one outage of one target, from its first sight to its end. Pure.

The states and the events between them are a table; docs/services/medic-decisions.md shows the same one.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from typing import Annotated, Concatenate, Final, ParamSpec

from pydantic import Field

from marketswarm.agent.outage_state import EpochSec
from marketswarm.bus.stored_values import MAX_COUNT, MAX_DURATION_SEC
from marketswarm.operator.approval_request import ApprovalRequest
from marketswarm.operator.fields import Ident
from marketswarm.operator.healing import MAX_ENTRY_TEXT, EntryKind, TimelineEntry
from services.medic.facts import Symptom
from services.medic.refusal import Refusal
from services.medic.remedies import REMEDIES, Remedy, RemedyOrder, build_ladder

P = ParamSpec("P")

MAX_NUMBER: Final = 1_000_000
"""The greatest number of restarts or refusals that is kept of one outage."""
Number = Annotated[int, Field(ge=0, le=MAX_NUMBER)]
MAX_ATTEMPTS: Final = 50
MAX_TEXT: Final = 200
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Identity = Annotated[str, Field(max_length=100)]
MAX_NOTED: Final = 20
"""The most outages of the notifier's of which it is kept what the timeline of one outage has."""


class RepairState(StrEnum):
    """The state of a repair."""

    OPEN = "open"  # the next remedy is chosen, or refused with a reason
    WAITING = "waiting"  # the remedy `wait`
    PROPOSED = "proposed"  # a person is asked
    INTENDED = "intended"  # the intent is on the bus; whether it was carried out is not known yet
    SETTLING = "settling"  # it was carried out, and is to be verified
    STABILIZING = "stabilizing"  # the target is up, and has to stay so
    ESCALATED = "escalated"  # a person is needed
    RESOLVED = "resolved"


class AttemptVerdict(StrEnum):
    """The outcome of one attempt at a remedy."""

    PENDING = "pending"
    VERIFIED = "verified"  # the target is well, and provably by the remedy
    RECOVERED = "recovered"  # the target is up, and nothing proves that the remedy did it
    FAILED = "failed"  # not verified within the settle time; missing data verifies nothing
    RELAPSED = "relapsed"  # the outage came back before the target was stable
    ABANDONED = "abandoned"  # whether it was done is not known, and it is not repeated
    UNDONE = "undone"  # its medic ended before, as the process shows that was meant; it is no attempt
    EXPIRED = "expired"  # no person approved it in time


class RepairEvent(Enum):
    """What moves a repair from one state to another.

    `entry` is what it says in the timeline, None where the step that follows says it. `verdict` is that on
    the last attempt, if the event is one: an attempt that has a verdict keeps it, but for a relapse.
    """

    WAIT = "wait", EntryKind.WAITING  # the remedy `wait` begins
    ELAPSE = "elapse", None, AttemptVerdict.FAILED  # the target did not recover meanwhile
    PROPOSE = "propose", EntryKind.PROPOSED  # a person is asked
    EXPIRE = "expire", EntryKind.EXPIRED  # no person approved in time
    WITHDRAW = "withdraw", None  # what is proposed must not be done any more, or is another remedy by now
    INTEND = "intend", EntryKind.INTENDED  # a remedy is ordered
    ACT = "act", EntryKind.ACTED  # it was carried out
    ABANDON = "abandon", EntryKind.ABANDONED, AttemptVerdict.ABANDONED  # refused, or nothing is known of it
    UNDO = "undo", EntryKind.ABANDONED, AttemptVerdict.UNDONE  # it was provably not carried out
    VERIFY = "verify", EntryKind.VERIFIED, AttemptVerdict.VERIFIED  # the target is well, by the remedy
    FAIL = "fail", EntryKind.FAILED, AttemptVerdict.FAILED  # it was not verified in time
    RECOVER = "recover", EntryKind.RECOVERED, AttemptVerdict.RECOVERED  # well, by what is not known
    RELAPSE = "relapse", EntryKind.RELAPSED, AttemptVerdict.RELAPSED  # not well again, before it was stable
    STABILIZE = "stabilize", EntryKind.RESOLVED  # it was well for long enough
    ESCALATE = "escalate", EntryKind.ESCALATED  # no remedy is left
    RETIRE = "retire", EntryKind.RESOLVED  # the truth no longer names the service

    def __init__(
        self, word: str, entry: EntryKind | None = None, verdict: AttemptVerdict | None = None
    ) -> None:
        self.word, self.entry, self.verdict = word, entry, verdict


TRANSITIONS: Final[Mapping[tuple[RepairState, RepairEvent], RepairState]] = {
    (RepairState.OPEN, RepairEvent.WAIT): RepairState.WAITING,
    (RepairState.OPEN, RepairEvent.PROPOSE): RepairState.PROPOSED,
    (RepairState.OPEN, RepairEvent.INTEND): RepairState.INTENDED,
    (RepairState.OPEN, RepairEvent.ESCALATE): RepairState.ESCALATED,
    (RepairState.OPEN, RepairEvent.RECOVER): RepairState.STABILIZING,
    (RepairState.WAITING, RepairEvent.ELAPSE): RepairState.OPEN,
    (RepairState.WAITING, RepairEvent.RECOVER): RepairState.STABILIZING,
    (RepairState.PROPOSED, RepairEvent.INTEND): RepairState.INTENDED,
    (RepairState.PROPOSED, RepairEvent.EXPIRE): RepairState.OPEN,
    (RepairState.PROPOSED, RepairEvent.WITHDRAW): RepairState.OPEN,
    (RepairState.PROPOSED, RepairEvent.RECOVER): RepairState.STABILIZING,
    (RepairState.INTENDED, RepairEvent.ACT): RepairState.SETTLING,
    (RepairState.INTENDED, RepairEvent.ABANDON): RepairState.OPEN,
    (RepairState.INTENDED, RepairEvent.UNDO): RepairState.OPEN,
    (RepairState.SETTLING, RepairEvent.VERIFY): RepairState.STABILIZING,
    (RepairState.SETTLING, RepairEvent.RECOVER): RepairState.STABILIZING,
    (RepairState.SETTLING, RepairEvent.FAIL): RepairState.OPEN,
    (RepairState.STABILIZING, RepairEvent.RELAPSE): RepairState.OPEN,
    (RepairState.STABILIZING, RepairEvent.STABILIZE): RepairState.RESOLVED,
    (RepairState.ESCALATED, RepairEvent.INTEND): RepairState.INTENDED,
    (RepairState.ESCALATED, RepairEvent.RECOVER): RepairState.STABILIZING,
    **{(state, RepairEvent.RETIRE): RepairState.RESOLVED for state in list(RepairState)[:-1]},
}
"""The state that follows from a state and an event; what is not here can't happen."""
_TRYING: Final = (RepairState.WAITING, RepairState.INTENDED, RepairState.SETTLING)
"""The states in which the last attempt, and no other one, has no verdict yet."""
_WELL: Final = (AttemptVerdict.VERIFIED, AttemptVerdict.RECOVERED)
_TIMED: Final = (RepairState.WAITING, RepairState.PROPOSED, RepairState.SETTLING, RepairState.STABILIZING)
"""The states that end at a time if nothing happens before."""


class Resolution(StrEnum):
    """How an outage ended."""

    HEALED = "healed"  # by a verified remedy
    RECOVERED = "recovered"  # by itself, or by what the medic did not see
    RESTARTED = "restarted"  # its owner, or a person, restarted it
    RETIRED = "retired"  # the truth no longer names the service


@dataclass(frozen=True, slots=True)
class RemedyAttempt:
    """One attempt at a remedy, begun at `at`.

    `boot` is that of the target before it, `identity` what the intent names (`RemedyType.find_identity`).
    """

    remedy: Remedy
    at: EpochSec
    boot: Identity | None = None
    identity: Identity = ""
    verdict: AttemptVerdict = AttemptVerdict.PENDING

    @property
    def is_undone(self) -> bool:
        return self.verdict is AttemptVerdict.UNDONE


@dataclass(frozen=True, slots=True)
class Advice:
    """The remedies that a diagnosis proposes, in order: the first one can be approved until `until`."""

    remedies: Annotated[tuple[Remedy, ...], Field(max_length=10)]
    until: EpochSec


@dataclass(frozen=True, slots=True)
class NotedMessages:
    """What the timeline has of one outage of the notifier's, which has this `key`.

    People were told at `told_at` first (epoch seconds), and `again` so often since. `is_in_digest` says that
    it is a line of the digest of what was healed.
    """

    key: str
    told_at: EpochSec | None = None
    again: Number = 0
    acked_by: Text = ""
    is_in_digest: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """One outage under repair. Times are epoch seconds.

    `since` is when the present state began, `until` when it ends unless something happens. `boot` is that of
    the process that went down, `identity` that of the process last seen (empty: the next one seen is taken).
    `owner_restarts` counts restarts that were not the medic's, `refusals` those in its timeline. `epoch` is
    that of the lease under which the last intent was written. `up_at` is when the target was last seen to
    recover. `proposed` is the remedy that a person is asked about, `proposed_for` the identity for which it
    may be approved; empty for one that may change. `proposed_needed` is how many services that are up need
    the target, if that remedy stops it. `asked_at` is when a diagnosis of it was asked for, `advice` what
    that proposes or proposed; None until there is an answer. `escalated_after` is how many attempts there
    were when it was left to people last; None if it never was. `noted` is what the entries about people say
    by now, `told` counts these entries. By what was learned, `passed_over` are remedies that are not tried in
    this outage, and `preferred` comes before cheaper ones. `runs_until` is when a remedy is over at the
    latest that was begun apart from the rounds, and whose end no medic saw, whatever became of the outage;
    `runs_sec` is how long it may run in all, in seconds, and `runs_as` the identity of its process group
    (`command_process.py`), empty where that is not known. Older releases did not store these two.
    """

    incident: Ident
    svc: str
    symptom: Symptom
    down_since: EpochSec
    opened_at: EpochSec
    since: EpochSec
    state: RepairState = RepairState.OPEN
    until: EpochSec | None = None
    attempts: Annotated[tuple[RemedyAttempt, ...], Field(max_length=MAX_ATTEMPTS)] = ()
    boot: Text | None = None
    identity: Text = ""
    owner_restarts: Number = 0
    epoch: Annotated[int, Field(ge=0, le=MAX_COUNT)] = 0
    refusal: Refusal | None = None
    refusals: Number = 0
    approved_by: Text = ""
    proposed: Remedy | None = None
    proposed_for: Text = ""
    proposed_needed: Number = 0
    up_at: EpochSec | None = None
    asked_at: EpochSec | None = None
    advice: Advice | None = None
    escalated_after: Number | None = None
    noted: Annotated[tuple[NotedMessages, ...], Field(max_length=MAX_NOTED)] = ()
    told: Number = 0
    passed_over: Annotated[tuple[Remedy, ...], Field(max_length=20)] = ()
    preferred: Remedy | None = None
    runs_until: EpochSec | None = None
    runs_sec: Annotated[float, Field(ge=0, le=MAX_DURATION_SEC)] | None = None
    runs_as: Text = ""

    @property
    def is_escalated(self) -> bool:
        """Whether a person is needed: also while it is up again and not stable, since it may come back."""
        return self.state is RepairState.ESCALATED or self.escalated_after is not None

    def move(self, event: RepairEvent, now: float, until: float | None = None) -> "Repair":
        """Return the repair in the state that follows, with the verdict of the event on its last attempt.

        Raises KeyError if the table has no such step.
        """
        state = TRANSITIONS[self.state, event]
        kept_up_at = self.up_at if state is RepairState.RESOLVED else None
        return replace(
            self,
            state=state,
            since=now,
            until=until,
            attempts=self._judge_last(event),
            up_at=now if state is RepairState.STABILIZING else kept_up_at,
            refusal=None,
            proposed=None,
            proposed_for="",
            proposed_needed=0,
        )

    def add_attempt(self, attempt: RemedyAttempt) -> "Repair":
        return replace(self, attempts=(*self.attempts, attempt))

    def _judge_last(self, event: RepairEvent) -> tuple[RemedyAttempt, ...]:
        """Return the attempts, the last one with the verdict of the event, if it may still have another."""
        changing = _WELL if event is RepairEvent.RELAPSE else (AttemptVerdict.PENDING,)
        if event.verdict is None or not self.attempts or self.attempts[-1].verdict not in changing:
            return self.attempts
        return (*self.attempts[:-1], replace(self.attempts[-1], verdict=event.verdict))

    def may_still_run(self, now: float) -> bool:
        """Return True if a remedy was begun apart from the rounds, and is not known to be over."""
        return self.runs_until is not None and now < self.runs_until

    def forget_run(self) -> "Repair":
        """Return the repair without the remedy that was begun apart from the rounds: it is over."""
        return replace(self, runs_until=None, runs_sec=None, runs_as="")

    def is_over(self, now: float) -> bool:
        """Return True if the time of the present state has passed."""
        return self.until is None or now >= self.until

    def find_contradiction(self) -> str | None:
        """Return in words what in it is at odds with its state; None if all of it agrees."""
        pending = [at for at, each in enumerate(self.attempts) if each.verdict is AttemptVerdict.PENDING]
        expected = [len(self.attempts) - 1] if self.state in _TRYING else []
        if pending != expected:
            return f"{self.state}, and {len(pending)} of {len(self.attempts)} attempts have no verdict"
        return f"{self.state} without an end" if self.state in _TIMED and self.until is None else None

    def count_attempts(self, remedy: Remedy) -> int:
        """Return how many attempts there were that may have been carried out."""
        return sum(each.remedy is remedy and not each.is_undone for each in self.attempts)

    def count_remedies(self) -> int:
        """Return how many attempts there were, as above, without `wait`."""
        return sum(each.remedy is not Remedy.WAIT and not each.is_undone for each in self.attempts)

    def find_next_remedy(self, offered: Collection[Remedy]) -> Remedy | None:
        """Return the cheapest remedy that has attempts left; None at the end of the ladder."""
        return next((each for each in build_ladder(offered) if self.has_attempts_left(each)), None)

    def has_attempts_left(self, remedy: Remedy) -> bool:
        return self.count_attempts(remedy) < REMEDIES[remedy].attempts

    def has_failed(self, remedy: Remedy) -> bool:
        """Return True if the last attempt at a remedy was carried out, and did not help for long."""
        last = next((each for each in reversed(self.attempts) if each.remedy is remedy), None)
        return last is not None and last.verdict in (AttemptVerdict.FAILED, AttemptVerdict.RELAPSED)

    def is_cooling_down(self, remedy: Remedy, now: float, resumed_at: float = 0.0) -> bool:
        """Return True within the cooldown of an attempt.

        How long ago an attempt of an earlier medic was is not known if the clock was set in between, so its
        cooldown restarts at `resumed_at`.
        """
        last = next((each.at for each in reversed(self.attempts) if each.remedy is remedy), None)
        return last is not None and now < max(last, resumed_at) + REMEDIES[remedy].cooldown_sec

    def find_replaced_identity(self) -> str | None:
        """Return the identity of the process that the last restart ended; None without one."""
        attempts = (each for each in reversed(self.attempts) if REMEDIES[each.remedy].replaces_process)
        return next((each.identity for each in attempts), None)


def make_proposal_id(repair: Repair, remedy: Remedy) -> str:
    """Return the id by which a person approves a remedy that is proposed now, and no later one."""
    text = f"{repair.incident} {remedy} {repair.count_attempts(remedy)} {repair.until} {repair.proposed_for}"
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def make_advice_id(repair: Repair) -> str | None:
    """Return the id by which a person approves the next remedy of a diagnosis; None without one."""
    advice = repair.advice
    if advice is None or not advice.remedies or repair.state is not RepairState.ESCALATED:
        return None
    text = f"{repair.incident} advice {' '.join(advice.remedies)} {advice.until}"
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def find_proposal(repair: Repair) -> ApprovalRequest | None:
    """Return what is proposed for an outage; None without a proposal.

    It is in words: `restart, while 4 that are up need it`, `pause_source (source kraken)`, or `restart, as
    the diagnosis advises`. A person may approve it until a time by the clock of the medic that leads.
    """
    if repair.state is RepairState.PROPOSED and repair.proposed is not None:
        ident = make_proposal_id(repair, repair.proposed)
        about = repair.proposed_for and f" ({REMEDIES[repair.proposed].describe(repair.proposed_for)})"
        needed = repair.proposed_needed and f", while {repair.proposed_needed} that are up need it"
        until = repair.since if repair.until is None else repair.until
        return ApprovalRequest(f"{repair.proposed}{about}{needed or ''}"[:100], ident, until)
    advised, advice = make_advice_id(repair), repair.advice
    if advised is None or advice is None:
        return None
    return ApprovalRequest(f"{advice.remedies[0]}, as the diagnosis advises", advised, advice.until)


@dataclass(frozen=True, slots=True)
class RepairStep:
    """What follows for one outage: its repair from now on, entries of its timeline, and perhaps an order.

    `dropped` is why another step, which this one replaces, can't be right; empty if there was none.
    """

    repair: Repair
    entries: tuple[TimelineEntry, ...] = ()
    order: RemedyOrder | None = None
    dropped: str = ""

    def find_contradiction(self) -> str | None:
        """Return in words why the repair, or its order, can't be right; None if they agree."""
        repair, order = self.repair, self.order
        tried = repair.attempts[-1:] if repair.state is RepairState.INTENDED else ()
        if order is not None and [(each.remedy, each.identity) for each in tried] != [
            (order.remedy, order.identity)
        ]:
            return f"{repair.state}, and {order.remedy} is ordered for {order.identity or 'nothing'}"
        return repair.find_contradiction()

    def note(self, what: EntryKind, now: float, sec: float | None = None, **said: str) -> "RepairStep":
        """Return the step with one more entry. `said` are other fields of that, which are cut."""
        words = {name: str(word)[:MAX_ENTRY_TEXT] for name, word in said.items()}
        took_sec = None if sec is None else min(max(0.0, round(sec, 3)), MAX_DURATION_SEC)
        of, svc = self.repair.incident, self.repair.svc
        entry = TimelineEntry(incident=of, ts=now, svc=svc, what=what, sec=took_sec, **words)
        return replace(self, entries=(*self.entries, entry))

    def then(
        self, decide: Callable[Concatenate[Repair, P], "RepairStep"], *args: P.args, **more: P.kwargs
    ) -> "RepairStep":
        """Return this step, and behind it what `decide` returns for its repair."""
        after = decide(self.repair, *args, **more)
        return RepairStep(after.repair, self.entries + after.entries, after.order or self.order)
