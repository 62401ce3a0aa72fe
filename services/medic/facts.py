"""Define what the medic knows about a target and its fleet at one moment. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Final

from marketswarm.status.notifications import OpenIncident
from services.medic.refusal import Refusal

FEW: Final = 2
"""The least number of targets that are down at once for the fuse to count their share."""


class Health(StrEnum):
    """The healer's verdict on a target. `unknown` also stands for data that could not be read."""

    UP = "up"
    DOWN = "down"
    UNKNOWN = "unknown"


class Symptom(StrEnum):
    """What is wrong with a target."""

    SILENT = "silent"  # its beats are missing
    DEGRADED = "degraded"  # they have said `degraded` for too long
    ALERT = "alert"  # a critical rule holds for it


class RestartOwner(StrEnum):
    """The one that restarts a target: `marketswarm up`, the medic by it, an engine, systemd, or another one.

    Under `medic`, `up` still starts the process, but the medic may end the back-off before a restart. What is
    `elsewhere` is not known here.
    """

    UP = "up"
    MEDIC = "medic"
    ENGINE = "engine"
    SYSTEMD = "systemd"
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """One process of a target as its owner sees it.

    `identity` is another one after each start. `is_waiting` says that the owner pauses before it starts the
    process again, `is_stopped` that it does not: an operator stopped the process, or it ended for good.
    `age_sec` is the time since its last start.
    `is_restarting` says whether it is being ended so that the next one starts; None if that is not known.
    `exit_code` is that of a container or unit that does not run, and None of all else. `is_oom_killed` says
    that the kernel ended a process of it for want of memory, since its last start. `end_reason` is what else
    systemd says of the end of a unit, such as `watchdog`. `is_protected` says that it is no agent that
    may be restarted, whatever the truth calls it.
    """

    identity: str
    is_waiting: bool = False
    is_stopped: bool = False
    age_sec: float = 0.0
    is_restarting: bool | None = None
    exit_code: int | None = None
    is_oom_killed: bool = False
    end_reason: str = ""
    is_protected: bool = False

    def describe_end(self) -> str:
        """Return its outcome, `ended with 137, ran out of memory`; empty if nothing is known."""
        ended = "" if self.exit_code is None else f"ended with {self.exit_code}"
        if self.end_reason:
            ended = f"{ended or 'ended'} ({self.end_reason})"
        return ", ".join(filter(None, (ended, "ran out of memory" if self.is_oom_killed else "")))


@dataclass(frozen=True, slots=True, kw_only=True)
class RemedyEvidence:
    """What is known at one moment of a remedy that leaves a trace of its own, for one target.

    `identity` is what an order would name now; empty if there is nothing to apply the remedy to. It is
    another one after each order that was carried out. `is_under_way` says that what an order would begin was
    begun already. `results` has the identity of each order that was provably carried out, as far as the trace
    goes back, and whether it did what it is for: None as long as that is not known. `undone` has the identity
    of each order that provably was not.
    """

    identity: str = ""
    is_under_way: bool = False
    results: Mapping[str, bool | None] = field(default_factory=dict)
    undone: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFacts:
    """One target at the time of the observation. A value is None if it is not known.

    `down_since` is when its outage began, in epoch seconds by the healer's clock, `down_sec` the time since
    then by the wall clock, which may have been set while the medic leads. `boot` and `status` are those of
    its last beat, `silence_sec` is the age of that beat, `degraded_sec` is for how long its beats have said
    `degraded`. `has_said_goodbye` says that it is down since its last beat said that it stops.
    `beats_in_turn` says that its last beats came from several processes in turn, on any machines; `replicas`
    is how many it has by the truth. `is_cut_off` says that its owner does not answer; `owner` is then the
    last one. `blocked` is a reason of its own why nothing may be done to it. `failure` is what the report
    of a failure said that it is down for. `probe_ages` is how long ago
    the last probes of it began that were answered, in seconds by the clock of what probes it. `is_alerted`
    says if a critical rule held for it `alert_age_sec` ago. `is_late` says that it is up and that most of the
    time until its miss has passed. `evidence` is by the name of a remedy; without it, nothing is known of
    that. `notified` are its last outage and those of the rules about it, as the notifier has them.
    """

    svc: str
    health: Health = Health.UNKNOWN
    down_since: float | None = None
    down_sec: float | None = None
    boot: str | None = None
    status: str | None = None
    silence_sec: float | None = None
    degraded_sec: float = 0.0
    has_said_goodbye: bool = False
    owner: RestartOwner = RestartOwner.ELSEWHERE
    processes: tuple[ProcessFacts, ...] = ()
    is_cut_off: bool = False
    blocked: Refusal | None = None
    beats_in_turn: bool = False
    replicas: int = 1
    depends_on: tuple[str, ...] = ()
    severity: str = "warning"
    failure: str | None = None
    is_alerted: bool | None = False
    alert_age_sec: float = 0.0
    is_late: bool = False
    probe_ages: tuple[float, ...] = ()
    evidence: Mapping[str, RemedyEvidence] = field(default_factory=dict)
    notified: tuple[OpenIncident, ...] = ()

    @property
    def process(self) -> ProcessFacts | None:
        """The process of a target that has exactly one here."""
        return self.processes[0] if len(self.processes) == 1 else None

    @property
    def has_several(self) -> bool:
        """Whether more than one process may beat for it: which of them a beat is of is not known then."""
        return self.beats_in_turn or max(self.replicas, len(self.processes)) > 1

    def is_well(self, symptom: Symptom) -> bool:
        """Return True if the symptom is provably absent."""
        return self.health is Health.UP and self._shows(symptom) is False

    def is_unwell(self, symptom: Symptom) -> bool:
        """Return True if the symptom, or a worse one, is provably there."""
        return self.health is Health.DOWN or (self.health is Health.UP and self._shows(symptom) is True)

    def count_probes(self, within_sec: float) -> int:
        """Return how many of its last probes began within this time, and were answered."""
        return sum(0 <= age < within_sec for age in self.probe_ages)

    def _shows(self, symptom: Symptom) -> bool | None:
        """Return whether a target that is up has the symptom; None if that is not known."""
        match symptom:
            case Symptom.DEGRADED:
                return {"ok": False, "degraded": True}.get(self.status or "")
            case Symptom.ALERT:
                return self.is_alerted
            case _:
                return False


@dataclass(frozen=True)  # without slots, which leave no room for what is computed once
class FleetFacts:
    """All targets at one moment; `blocked` is a reason why nothing may be done to any of them.

    What is counted over all targets is counted once, because each decision about one of them asks for it. So
    `targets` must not be changed.
    """

    targets: Mapping[str, TargetFacts] = field(default_factory=dict)
    blocked: Refusal | None = None

    @cached_property
    def down_counts(self) -> tuple[int, int]:
        """How many targets are down or late, and how many have a verdict.

        Services that stop at one moment are missed one after the other, up to an interval of beats apart.
        """
        known = [each for each in self.targets.values() if each.health is not Health.UNKNOWN]
        return sum(each.health is Health.DOWN or each.is_late for each in known), len(known)

    @cached_property
    def _direct_dependants(self) -> Mapping[str, Sequence[str]]:
        """By the name of a service, the services that need it themselves, and not only through others."""
        found: dict[str, list[str]] = {}
        for each in self.targets.values():
            for name in each.depends_on:
                found.setdefault(name, []).append(each.svc)
        return found

    def find_refusal(self, down_share: float) -> Refusal | None:
        """Return why nothing may be done to any target, such as that more than this share of them is down."""
        down, known = self.down_counts
        is_down = down >= FEW and down > down_share * known
        return self.blocked or (Refusal.FLEET_DOWN if is_down else None)

    def has_down_dependency(self, svc: str) -> bool:
        """Return True if a service is down that `svc` needs, itself or through others."""
        known = self.targets
        found = _reach(svc, lambda name: known[name].depends_on if name in known else ())
        return any(known[name].health is Health.DOWN for name in found & known.keys())

    def find_dependants(self, svc: str) -> tuple[str, ...]:
        """Return the services that are up and that need `svc`, themselves or through others, in order."""
        found = _reach(svc, lambda name: self._direct_dependants.get(name, ()))
        return tuple(sorted(name for name in found if self.targets[name].health is Health.UP))


def _reach(svc: str, list_next: Callable[[str], Iterable[str]]) -> set[str]:
    """Return all services to which a path leads from `svc`, without itself."""
    found, open_names = set[str](), [svc]
    while open_names:
        new = set(list_next(open_names.pop())) - found - {svc}
        found |= new
        open_names += new
    return found
