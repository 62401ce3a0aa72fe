"""Define a case of the gym, and judge what a healer did in one. Pure."""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from marketswarm.operator.healing import EntryKind, TimelineEntry, fold_incidents

if TYPE_CHECKING:
    from bench.faultgym.injection import Injection


class Expectation(StrEnum):
    """What is right to do about a fault."""

    HEAL = "heal"  # the healer has a remedy
    RECOVER = "recover"  # its owner restarts it, or it comes back by itself
    ESCALATE = "escalate"  # no remedy helps: a person is needed
    REPORT = "report"  # no remedy is there: people get an event, and nothing is touched
    NOTHING = "nothing"  # nothing is wrong, or nothing may be done


_HEALED: Final = frozenset({Expectation.HEAL, Expectation.RECOVER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of fault, or a control, in which nothing must be done.

    Attributes:
        svc: the service into which the fault is injected.
        inject: begins the fault; of a control, also ends it.
        most: how often each remedy may be needed at most.
        reports: the beginning of the alert's name that people must get.
        also: further services that the fault touches, on which an action is as right as on `svc`.
        mend: ends a fault that no remedy ends, or that the healer left.
        is_alone: whether it touches the whole fleet, so that no other case may run beside it.
        steps_clock: whether it sets the wall clock of the fleet, which has one of its own then.
        is_control: whether it is a control.
        is_for_medic: whether it is about the medic itself, or about what can be said to a medic alone.
        find_missing: returns what this machine lacks for it, and what installs that; empty if it has all.
        watch_sec: for how long a control is watched after its injection.
        within_sec: in which time it must be healed, or escalated.
    """

    name: str
    svc: str
    inject: Callable[["Injection"], None]
    expect: Expectation
    most: Mapping[str, int] = field(default_factory=dict)
    reports: str = ""
    also: tuple[str, ...] = ()
    mend: Callable[["Injection"], None] | None = None
    is_alone: bool = False
    steps_clock: bool = False
    is_control: bool = False
    is_for_medic: bool = False
    find_missing: Callable[[], str] = str
    watch_sec: float = 4.0
    within_sec: float = 90.0

    @property
    def needs_restart(self) -> bool:
        """Return True if the service can be well again in a new process alone."""
        return self.expect in _HEALED and set(self.most) <= {"restart"}


@dataclass(frozen=True, slots=True)
class HealerAction:
    """A remedy that a healer carried out, at `ts` (epoch seconds)."""

    ts: float
    svc: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What happened in one case.

    Attributes:
        injected_at: when the fault began, in epoch seconds.
        entries: those of the medic's timelines since then, of the services of the case.
        actions: what the healer did since then to the services of the case.
        given_up_at: when another healer than the medic gave up a service of the case; None if it did not.
        alerts: the names of the services and rules about which people got an event, with its time.
        up_at: when the services of the case were provably well again; None if they were not.
        asked: how many requests the services got meanwhile.
        failed: how many of them got no good answer in time.
    """

    case: Case
    injected_at: float
    entries: tuple[TimelineEntry, ...] = ()
    actions: tuple[HealerAction, ...] = ()
    given_up_at: float | None = None
    alerts: tuple[tuple[float, str], ...] = ()
    up_at: float | None = None
    asked: int = 0
    failed: int = 0
    has_medic: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What is said of a trial. A time is None where there was no such moment; all are in seconds.

    `false` counts outages that the healer calls healed while the fault is there. `why` says what was wrong.
    """

    is_right: bool
    detected_sec: float | None = None
    verified_sec: float | None = None
    up_sec: float | None = None
    needless: int = 0
    harmful: int = 0
    false: int = 0
    is_escalated: bool = False
    asked: int = 0
    failed: int = 0
    why: str = ""


def judge(trial: Trial) -> Judgement:
    """Judge a trial by what its case expects."""
    case = trial.case
    needless, harmful = count_wrong_actions(case, trial.actions)
    detected_at = find_first(trial.entries, EntryKind.OPENED)
    if detected_at is None:
        detected_at = min((ts for ts, name in trial.alerts if name in (case.svc, *case.also)), default=None)
    # a restart is of one service; another remedy, such as an earlier truth, may be of any of them
    healed = {case.svc} if case.needs_restart else {case.svc, *case.also}
    verified_at = find_last(trial.entries, EntryKind.VERIFIED, healed)
    escalated_at = find_first(trial.entries, EntryKind.ESCALATED) or trial.given_up_at
    is_escalated = escalated_at is not None
    is_reported = any(name.startswith(case.reports) for _, name in trial.alerts) if case.reports else False
    false = count_false_ends(case, trial.entries)
    reasons = []
    if case.expect in _HEALED and trial.up_at is None:
        reasons.append("not healed")
    if case.expect in _HEALED and is_escalated:
        reasons.append("escalated")
    if case.expect is Expectation.HEAL and trial.has_medic and verified_at is None and not needless:
        seen = ", ".join(each.what for each in trial.entries) or "nothing"
        reasons.extend([] if is_restarted_by_owner(trial) else [f"healed, but not verified: {seen}"])
    if case.expect is Expectation.ESCALATE and not is_escalated:
        reasons.append("not escalated")
    if case.expect is Expectation.REPORT and not is_reported:
        reasons.append("not reported")
    for count, word in ((needless, "needless"), (harmful, "harmful"), (false, "falsely healed")):
        reasons += [f"{count} {word}"] if count else []

    def since(at: float | None, begin: float | None) -> float | None:
        return None if at is None or begin is None else max(0.0, at - begin)

    return Judgement(
        is_right=not reasons,
        detected_sec=since(detected_at, trial.injected_at),
        verified_sec=since(verified_at, detected_at),
        up_sec=since(trial.up_at, trial.injected_at),
        needless=needless,
        harmful=harmful,
        false=false,
        is_escalated=is_escalated or is_reported,
        asked=trial.asked,
        failed=trial.failed,
        why=", ".join(reasons),
    )


def count_wrong_actions(case: Case, actions: Iterable[HealerAction]) -> tuple[int, int]:
    """Return how many actions were needless, and how many harmful.

    One on a service without a fault, or where nothing may be done, is harmful. One too many on the service
    with the fault is needless.
    """
    mine = Counter(each.remedy for each in actions if each.svc in (case.svc, *case.also))
    harmful = sum(each.svc not in (case.svc, *case.also) for each in actions)
    if case.expect in (Expectation.NOTHING, Expectation.REPORT):
        return 0, harmful + mine.total()
    return sum(max(0, count - case.most.get(remedy, 0)) for remedy, count in mine.items()), harmful


def count_false_ends(case: Case, entries: Iterable[TimelineEntry]) -> int:
    """Return how many outages ended as healed although no remedy can heal them."""
    if case.expect is not Expectation.ESCALATE:
        return 0
    return sum(each.resolution == "healed" for each in fold_incidents(entries))


def is_restarted_by_owner(trial: Trial) -> bool:
    """Return True if what runs the service, or the service itself, was quicker than the healer.

    The healer may not even have looked meanwhile: it restarts one service after the other.
    """
    ends = (EntryKind.RESTARTED, EntryKind.RECOVERED)
    is_seen = any(each.what in ends for each in trial.entries)
    return not trial.actions and (is_seen or (trial.case.needs_restart and not trial.entries))


def find_first(entries: Iterable[TimelineEntry], what: EntryKind) -> float | None:
    return next((each.ts for each in entries if each.what is what), None)


def find_last(entries: Iterable[TimelineEntry], what: EntryKind, services: Container[str]) -> float | None:
    return max((each.ts for each in entries if each.what is what and each.svc in services), default=None)
