"""The oracle of simulated incidents: it knows what is really wrong, and judges what the medic says and does.

A verdict is **false** if it calls a service well that is not, and has not been for longer than an
observation may be old, or an action undone that was done. It is **wrong** if it names another cause than the
true one, gives up what could be healed, or leaves something open. An action is **forbidden** where a person,
a dependency or the state of the fleet forbids it, and **needless** on a service that is well. **Repeated** is
a call for people in an incident for which they were called before. **Hasty** is what ends a time of which
another medic saw a part.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

from marketswarm.operator.healing import UNDONE, EntryKind, TimelineEntry
from services.medic.facts import RestartOwner, Symptom
from services.medic.refusal import Refusal
from services.medic.remedies import REMEDIES, Remedy, RemedyOrder
from services.medic.repair import Repair, RepairState, Resolution
from services.medic.settings import HealingSettings

LAG_SEC: Final = 18.0
"""How old an observation may be: a measurement of a rule, and the word of a healer that died just now."""
LOOK_SEC: Final = 10.0
"""The longest time from one look of the medic to the next."""
LEFT_TO_OTHERS: Final = frozenset(
    {Refusal.NOT_OURS, Refusal.STOPPED, Refusal.TOO_OLD, Refusal.TOO_MANY_REMEDIES}
)
"""Refusals with which an outage may stay open for as long as it lasts."""
MAX_RESTARTS: Final = 5
AFTER_WAIT: Final = (EntryKind.REFUSED, EntryKind.PROPOSED, EntryKind.INTENDED, EntryKind.ESCALATED)
"""What may follow the remedy `wait` if the target did not recover."""
ROUNDING_SEC: Final = 1e-3


@dataclass
class Spell:
    """A time in which a service was not well; `end` is None while it lasts."""

    begin: float
    end: float | None = None


@dataclass
class Truth:
    """What is really so with one service."""

    symptom: Symptom | None = None
    cause: str = ""
    since: float = 0.0
    spells: list[Spell] = field(default_factory=list)

    def was_ill_for(self, sec: float, now: float) -> bool:
        return self.symptom is not None and self.since < now - sec

    def was_well_since(self, begin: float, now: float) -> bool:
        """Return True if the service was well at a time from `begin` on."""
        return self.symptom is None or self.since > begin or now <= begin


class IncidentOracle:
    """What is true, and what was said and done, with the verdicts on both."""

    def __init__(self) -> None:
        self.truth: dict[str, Truth] = {}
        self.changed_at = 0.0
        self.right: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.false: list[str] = []
        self.forbidden: list[str] = []
        self.needless: list[str] = []
        self.repeated: list[str] = []
        self.hasty: list[str] = []
        self.story: list[str] = []
        self._clear_since = 0.0
        self._acted_at: dict[str, float] = {}
        self._was_done: dict[str, bool] = {}
        self._opened_at: dict[str, float] = {}
        self._unsure = set[str]()
        self._escalated = set[str]()
        self._took_over_at = -inf
        self._waits_since: dict[str, float] = {}
        self._restarts: Counter[str] = Counter()

    def tell(self, at: float, what: str) -> None:
        self.story.append(f"{at:8.1f} {what}")

    def note(self, svc: str, symptom: Symptom | None, cause: str, now: float) -> None:
        """Note what is true from now on."""
        truth = self.truth.setdefault(svc, Truth())
        if symptom is truth.symptom:
            return
        if truth.symptom is None:
            truth.spells.append(Spell(now))
        if symptom is None:
            truth.spells[-1].end, truth.cause = now, cause
        truth.symptom, truth.since, self.changed_at = symptom, now, now
        self.tell(now, f"truth: {svc} {symptom or f'well by {cause}'}")

    def note_order(self, svc: str, *, is_done: bool) -> None:
        self._was_done[svc] = is_done

    def note_takeover(self, now: float) -> None:
        """Note that another medic leads: each time that goes on begins anew."""
        self._took_over_at = now

    def note_view(self, now: float, *, is_clear: bool) -> None:
        self._clear_since = self._clear_since if is_clear else now

    def _truth_of(self, svc: str) -> Truth:
        return self.truth.setdefault(svc, Truth())

    def _sees_well(self, truth: Truth, now: float) -> bool:
        """Return True if all could see for long enough that a service is well."""
        return truth.symptom is None and max(truth.since, self._clear_since) < now - LAG_SEC - LOOK_SEC

    # -- what the medic says

    def judge(
        self, entry: TimelineEntry, services: Mapping[str, Any], settings: HealingSettings, now: float
    ) -> None:
        self.tell(now, f"medic: {entry.svc} {entry.describe()}")
        match entry.what:
            case EntryKind.OPENED:
                self._opened_at[entry.incident] = now
            case EntryKind.INTENDED:
                self._acted_at[entry.svc] = now
            case EntryKind.ABANDONED if entry.reason == UNDONE:
                if self._was_done[entry.svc]:
                    self.false.append(f"{now:.1f} {entry.svc} {entry.describe()}: it was done")
                self.right["undone"] += 1
            case EntryKind.ABANDONED:
                self._unsure.add(entry.incident)
            case EntryKind.RESTARTED:
                self._restarts[entry.incident] += 1
            case EntryKind.ESCALATED if entry.incident in self._escalated:
                self.repeated.append(f"{now:.1f} {entry.svc} {entry.describe()}")
            case EntryKind.ESCALATED:
                self._escalated.add(entry.incident)
        self._judge_time(entry, settings, now)
        self._judge_verdict(entry, services[entry.svc], settings, now)

    def _judge_time(self, entry: TimelineEntry, settings: HealingSettings, now: float) -> None:
        """Hold that a time in which a target may recover, settle or be stable passed under one medic."""
        needed_sec = {EntryKind.FAILED: settings.settle_sec, EntryKind.RESOLVED: settings.stable_sec}
        begin = self._took_over_at
        if entry.what is EntryKind.WAITING:
            self._waits_since[entry.svc] = now
        elif entry.what in AFTER_WAIT and entry.svc in self._waits_since:
            needed_sec[entry.what] = settings.wait_sec
            begin = max(begin, self._waits_since.pop(entry.svc))
        elif entry.what is EntryKind.RECOVERED:
            self._waits_since.pop(entry.svc, None)
        if now - begin < needed_sec.get(entry.what, 0.0) - ROUNDING_SEC:
            self.hasty.append(f"{now:.1f} {entry.svc} {entry.describe()}: {now - begin:.1f} s")

    def _judge_verdict(
        self, entry: TimelineEntry, service: Any, settings: HealingSettings, now: float
    ) -> None:
        truth = self._truth_of(entry.svc)
        match entry.what:
            case EntryKind.VERIFIED:
                is_true = truth.was_well_since(self._acted_at[entry.svc], now)
                self._rule_out_false(entry, truth, now, is_true=is_true)
                self._count(entry, now, is_right=truth.cause == entry.remedy)
            case EntryKind.RECOVERED:
                self._rule_out_false(entry, truth, now)
                self._note_doubt(entry)
                is_proven = truth.cause == entry.remedy and entry.incident not in self._unsure
                self._count(entry, now, is_right=not is_proven)
            case EntryKind.FAILED:
                self._note_doubt(entry)
                self._count(entry, now, is_right=not self._sees_well(truth, now))
            case EntryKind.RELAPSED:
                is_right = any(
                    each.end is None or each.end > now - LAG_SEC - LOOK_SEC for each in truth.spells
                )
                self._count(entry, now, is_right=is_right)
            case EntryKind.ESCALATED:
                self._count(entry, now, is_right=self._is_hopeless(entry, service, settings, now))
            case EntryKind.RESOLVED:
                stable_since = now - settings.stable_sec + LAG_SEC
                was_stable = all(
                    each.end is not None and (each.end <= stable_since or each.end - each.begin < LAG_SEC)
                    for each in truth.spells
                )
                self._rule_out_false(entry, truth, now, is_true=was_stable or truth.symptom is not None)
                self._count(entry, now, is_right=self._is_right_end(entry, truth, service))

    def _note_doubt(self, entry: TimelineEntry) -> None:
        """Note an action of which not all was seen that followed: missing data proves nothing."""
        if self._clear_since >= self._acted_at.get(entry.svc, inf):
            self._unsure.add(entry.incident)

    def _rule_out_false(
        self, entry: TimelineEntry, truth: Truth, now: float, *, is_true: bool = True
    ) -> None:
        if not is_true or truth.was_ill_for(LAG_SEC, now):
            self.false.append(f"{now:.1f} {entry.svc} {entry.describe()}: it is {truth.symptom}")

    def _count(self, entry: TimelineEntry, now: float, *, is_right: bool) -> None:
        what = f"{entry.what} {entry.reason}".strip()
        if is_right:
            self.right[what] += 1
        else:
            self.wrong.append(what)
            self.tell(now, f"oracle: wrong, {what}")

    def _is_right_end(self, entry: TimelineEntry, truth: Truth, service: Any) -> bool:
        is_by_remedy = truth.cause in list(Remedy)
        match entry.reason:
            case Resolution.HEALED:
                return is_by_remedy
            case Resolution.RESTARTED:
                return truth.cause == "owner"
            case _:
                opened_at = self._opened_at[entry.incident]
                is_unseen = service.owner is RestartOwner.ELSEWHERE or service.started_at < opened_at
                is_by_owner = truth.cause == "owner" and is_unseen
                return truth.cause in ("self", "dependency") or is_by_owner or entry.incident in self._unsure

    def _is_hopeless(self, entry: TimelineEntry, service: Any, settings: HealingSettings, now: float) -> bool:
        """Return True if nothing of the ladder would end the fault, or it came back again and again."""
        truth = self._truth_of(entry.svc)
        if self._sees_well(truth, now):
            return False
        if entry.reason == "crash_loop":
            return self._restarts[entry.incident] >= MAX_RESTARTS
        return not self._find_cures(service, settings) or service.has_returned

    def _find_cures(self, service: Any, settings: HealingSettings) -> set[Remedy]:
        cures = (
            set() if service.fault is None else service.fault.cures & set(settings.ladder_of(service.name))
        )
        return cures - ({Remedy.RESTART} if service.owner is RestartOwner.ELSEWHERE else set())

    # -- what the medic does

    def judge_order(
        self, order: RemedyOrder, services: Mapping[str, Any], blocked: Refusal | None, now: float
    ) -> None:
        service, truth = services[order.svc], self._truth_of(order.svc)
        needed = None if service.needs is None else self._truth_of(service.needs.name)
        is_cut = needed is not None and needed.symptom is Symptom.SILENT and needed.was_ill_for(LAG_SEC, now)
        silent = [each for each in self.truth.values() if each.symptom is Symptom.SILENT]
        is_fleet = len(silent) == len(services) and all(each.was_ill_for(LAG_SEC, now) for each in silent)
        is_other = service.owner not in (RestartOwner.MEDIC, RestartOwner.ELSEWHERE)
        is_owned = is_other and service.is_ended and REMEDIES[order.remedy].replaces_process
        if blocked or service.is_silenced or service.is_stopped or is_cut or is_fleet or is_owned:
            self.forbidden.append(f"{now:.1f} {order.remedy} of {order.svc}")
        if truth.symptom is None and truth.since < now - LAG_SEC - LOOK_SEC:
            self.needless.append(f"{now:.1f} {order.remedy} of {order.svc}")

    # -- what is left

    def is_concluded(self, repairs: Mapping[str, Repair], services: Mapping[str, Any]) -> bool:
        """Return True if what is well has no open outage, and all else is left to people or to its owner."""
        return all(self._is_concluded(svc, repairs.get(svc)) for svc in services)

    def _is_concluded(self, svc: str, repair: Repair | None) -> bool:
        if self._truth_of(svc).symptom is None:
            return repair is None
        is_left = repair is not None and repair.refusal in LEFT_TO_OTHERS
        return is_left or (repair is not None and repair.state is RepairState.ESCALATED)

    def judge_end(self, repairs: Mapping[str, Repair], services: Mapping[str, Any], now: float) -> None:
        """Judge what is open at the end, long after the last change."""
        for svc in services:
            if self._is_concluded(svc, repairs.get(svc)):
                self.right["end"] += bool(self._truth_of(svc).spells)
            else:
                self.wrong.append(f"end of {svc}")
                self.tell(now, f"oracle: wrong end, {svc} {self._truth_of(svc).symptom} {repairs.get(svc)}")
