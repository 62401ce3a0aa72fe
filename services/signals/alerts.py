"""Decide which checks of the signals fail, and publish that as the alerts of a service.

    alerts = SignalAlerts.start(me)
    alerts.follow(has_witness=True)                        # at the start, and after each reseed
    health = read_health(signer.status, quorum, now)
    alerts.report(evaluate_checks(health, now), now)       # each cycle of the leader

There are three checks (`SignalCheck`). Every process follows the same ones, so that a process that waits for
the lease closes nothing; the one that leads alone reports. Deciding (`evaluate_checks`) is pure; what is
stored on the bus of the alerts, and which events follow, `marketswarm.agent.outage_alerts` decides.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

from marketswarm.agent import Agent
from marketswarm.agent.outage_alerts import OutageAlerts
from marketswarm.agent.outage_state import SIGNALS, Thresholds
from marketswarm.event import Severity
from marketswarm.text import extract_line, format_duration
from services.signals.proofs.signer import SignerStatus
from services.signals.proofs.witness_client import REFUSALS, WitnessReason
from services.tables.signal_witness import UNSIGNED_SEC, find_unsigned_sec

NO_QUORUM_SEC: Final = 3600.0
"""For how long no symbol that is asked about may have a quorum."""
MAX_WORDS_CHARS: Final = 120
"""How much of foreign words goes into a reason, of which the healer takes 200 characters."""
_DOWN_AFTER: Final = 2
"""The first outcome of an outage says since when the check fails, the second that it does."""


class SignalCheck(StrEnum):
    """What is checked; the last part of the name that an alert is about: `signals/witness`."""

    COSIGNATURE = "cosignature"
    WITNESS = "witness"
    QUORUM = "quorum"


_SEVERITY: Final[Mapping[SignalCheck, Severity]] = {
    SignalCheck.COSIGNATURE: Severity.WARNING,
    # it has seen another log than this one, or one of the two keys is wrong
    SignalCheck.WITNESS: Severity.CRITICAL,
    SignalCheck.QUORUM: Severity.WARNING,
}


@dataclass(frozen=True, slots=True)
class WitnessRefusal:
    """What the witness said when it refused a checkpoint, and since when it does (epoch seconds).

    `reason` is a few words of ours; `text` is the witness's own, foreign text.
    """

    since: float
    reason: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class LogHealth:
    """What the leader knows of its log; times are epoch seconds.

    Attributes:
        awaiting_since: since when there may be something that is not cosigned; None if all is, or no witness
            is named.
        last_attempt: why the witness was not reached the last time, in a few words; empty if it was.
        refusal: the refusal of the last checkpoint; None if the witness took it, or was not reached.
        no_quorum_since: the time of the first tick since which no symbol that was asked about had a quorum;
            None while one has it, or none is asked about because its market is closed.
        unknown: the checks of which this leader has learned nothing yet, since its term began.
        unwitnessed_sec: for how long there may be no cosignature.
    """

    awaiting_since: float | None = None
    last_attempt: str = ""
    refusal: WitnessRefusal | None = None
    no_quorum_since: float | None = None
    unknown: frozenset[SignalCheck] = frozenset()
    unwitnessed_sec: float = UNSIGNED_SEC


@dataclass(frozen=True, slots=True)
class CheckFailure:
    """Say since when a check fails (epoch seconds), why, and what else people are to read."""

    since: float
    reason: str
    detail: str | None = None


Findings = Mapping[SignalCheck, CheckFailure | None]
"""The checks that fail, and with None those that provably hold."""


def evaluate_checks(health: LogHealth, now: float) -> dict[SignalCheck, CheckFailure | None]:
    """Return the checks that fail at `now` (epoch seconds), and with None those that provably hold. Pure.

    What is neither is left out: what is not known yet, and what is missing for less than its limit. So a
    leader that begins does not end the alert of the one before.
    """
    found: dict[SignalCheck, CheckFailure | None] = {}
    refusal = health.refusal
    found[SignalCheck.WITNESS] = None if refusal is None else _describe_refusal(refusal)
    if health.awaiting_since is None:
        found[SignalCheck.COSIGNATURE] = None
    elif (sec := _age_of(health.awaiting_since, now)) >= health.unwitnessed_sec:
        said = extract_line(health.last_attempt)
        why = f": {said[:MAX_WORDS_CHARS]}" if said else ""
        reason = f"no cosignature for {format_duration(sec)}{why}"
        found[SignalCheck.COSIGNATURE] = CheckFailure(health.awaiting_since, reason)
    if health.no_quorum_since is None:
        found[SignalCheck.QUORUM] = None
    elif (sec := _age_of(health.no_quorum_since, now)) >= NO_QUORUM_SEC:
        reason = f"no symbol had a quorum for {format_duration(sec)}"
        found[SignalCheck.QUORUM] = CheckFailure(health.no_quorum_since, reason)
    return {check: failure for check, failure in found.items() if check not in health.unknown}


def _describe_refusal(refusal: WitnessRefusal) -> CheckFailure:
    said, why = extract_line(refusal.text), extract_line(refusal.reason) or "without a reason"
    detail = f"the witness said: {said}" if said else None
    return CheckFailure(refusal.since, f"the witness refuses: {why[:MAX_WORDS_CHARS]}", detail)


def read_health(
    status: SignerStatus | None, quorum: "QuorumClock", now: float, checkpoint_sec: float
) -> LogHealth:
    """Return what the checks go by. `status` is None without a witness; `now` is in epoch seconds.

    While checkpoints are not signed nothing can be cosigned, so that counts as a missing cosignature, too.
    """
    unknown = set[SignalCheck]() if quorum.is_known else {SignalCheck.QUORUM}
    if status is None:
        unknown |= {SignalCheck.COSIGNATURE, SignalCheck.WITNESS}
        return LogHealth(no_quorum_since=quorum.missing_since, unknown=frozenset(unknown))
    since = find_cosigned_until(status)
    is_cosigned, limit_sec = status.reason is WitnessReason.COSIGNED, find_unsigned_sec(checkpoint_sec)
    is_fresh = is_cosigned and _age_of(since, now) < limit_sec
    is_refused = status.reason in REFUSALS
    if not is_cosigned and not is_refused:
        unknown.add(SignalCheck.WITNESS)  # it was not reached, so it may refuse still
    why = status.problem or status.reason
    words = "" if why in (None, WitnessReason.COSIGNED) else f"{why}: {status.words}".removesuffix(": ")
    return LogHealth(
        awaiting_since=None if is_fresh else since,
        unwitnessed_sec=limit_sec,
        last_attempt=words,
        refusal=WitnessRefusal(since, str(status.reason), status.words) if is_refused else None,
        no_quorum_since=quorum.missing_since,
        unknown=frozenset(unknown),
    )


def find_cosigned_until(status: SignerStatus) -> float:
    """Return until when nothing waited for a cosignature, in epoch seconds; the start if there was none."""
    # while no entry comes there is nothing to cosign, however old the last cosignature is
    return max(status.cosigned_at or status.begun_at, status.whole_at)


def _age_of(since: float | None, now: float) -> float:
    """Return how long something lasts; 0 if the clock was set back."""
    return 0.0 if since is None else max(0.0, now - since)


class QuorumClock:
    """Know since when no symbol had a quorum.

    Attributes:
        missing_since: the time of the first such tick (epoch seconds); None while a symbol has a quorum.
        is_known: whether a symbol was weighed, or all were closed, since this clock was made.
    """

    def __init__(self) -> None:
        self.missing_since: float | None = None
        self.is_known = False

    def note_tick(self, at: float, with_quorum: int, without: int) -> None:
        """Note a tick: how many symbols were weighed with a quorum, and how many had none.

        A tick in which no symbol was weighed (all are closed or unchanged) changes nothing: the last opinion
        stands.
        """
        self.is_known = self.is_known or bool(with_quorum or without)
        if with_quorum:
            self.missing_since = None
        elif without and self.missing_since is None:
            self.missing_since = at

    def end(self) -> None:
        """Forget that a quorum was missing, since no symbol is asked about: their markets are closed."""
        self.is_known = True
        self.missing_since = None

    def missing_sec(self, now: float) -> float:
        """Return for how many seconds it has been missing; 0 if it is not."""
        return _age_of(self.missing_since, now)


class SignalAlerts:
    """Publish the alerts of the checks, each once an outage."""

    def __init__(self, alerts: OutageAlerts) -> None:
        self.outages = alerts

    @classmethod
    def start(cls, me: Agent[Any], degrade: Callable[[str | None], None] = lambda _problem: None) -> Self:
        """Run them as a side task of the agent, which stores states and events on the bus of the alerts."""
        return cls(OutageAlerts.start(me, SIGNALS, degrade=degrade))

    def follow(self, *, has_witness: bool) -> None:
        """Follow the checks that the truth asks for; close the open alerts of all others.

        Without a witness nothing can be cosigned, so the quorum alone is checked.
        """
        checks = [each for each in SignalCheck if has_witness or each is SignalCheck.QUORUM]
        self.outages.follow(
            {each.value: Thresholds(_DOWN_AFTER, 1, severity=_SEVERITY[each]) for each in checks}
        )

    def begin_term(self) -> None:
        """Have the stored states read again: another process led before this one."""
        self.outages.read_again()

    def report(self, findings: Findings, now: float) -> None:
        """Add an outcome of each check that changed; `now` is in epoch seconds. Only for the leader.

        A check that is not followed is ignored. Nothing is added before the stored states were read, since
        only then is known what an earlier leader published.
        """
        if not self.outages.has_read:
            return
        for check, failure in findings.items():
            state = self.outages.states.get(check.value)
            is_down = state is not None and state.verdict == "down"
            if failure is None:
                if state is not None and (is_down or state.fails):
                    self.outages.add_outcome(check.value, now, None)
            elif not (is_down and state is not None and state.told):
                for at in (min(failure.since, now), now):
                    self.outages.add_outcome(check.value, max(0.0, at), failure.reason, failure.detail)
