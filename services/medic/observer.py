"""Read what the medic decides on: the fleet's state on the buses, silences, and the processes that run here.

Nothing is probed: the healer's verdicts, the services' last beats and the fleet's own state say all of it. A
part that can't be read makes the whole observation one by which nothing is done.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from marketswarm.agent import Agent
from marketswarm.bus import BusError, NoBusError
from marketswarm.detector import Reason, State
from marketswarm.operator.maintenance import MaintenanceWindow, find_windows, is_window_open
from marketswarm.operator.silences import Silence, read_silences
from marketswarm.status.fleet_state import FleetState, read_fleet_state
from marketswarm.status.service_rows import derive_silence
from marketswarm.truth import HEALER, Service, Truth
from services.medic.facts import FleetFacts, Health, RestartOwner, TargetFacts
from services.medic.owners.owner import NoOwnerError, OwnedProcess, ProcessOwner
from services.medic.refusal import Refusal
from services.medic.settings import HealingSettings, MedicEnvironment

IN_TURN_INTERVALS: Final = 10
IN_TURN_SEC: Final = 60.0
"""Processes that were seen to beat in turn count for so many intervals, and at least so many seconds."""
MAX_BOOTS: Final = 50
"""The most processes of one service that are told apart."""
LATE_INTERVALS: Final = 1.5
LATE_SHARE: Final = 0.6
"""A service that is up is late after so many intervals without a beat, and so much of its timeout."""
_HEALTH: Final[Mapping[State | None, Health]] = {State.UP: Health.UP, State.DOWN: Health.DOWN}


@dataclass(frozen=True, slots=True)
class FleetObservation:
    """What was read at one moment; `wall` is that moment in epoch seconds by the present clock.

    `processes` is None if nothing that runs processes is known here, or none of them answers. `cut_off` says
    that a bus did not answer, `silent_owners` which owners did not, and `owned_by_silent` the services that
    such an owner runs, as far as is known, each with what restarts it.
    """

    truth: Truth
    state: FleetState
    silences: tuple[Silence, ...]
    windows: tuple[MaintenanceWindow, ...]
    processes: tuple[OwnedProcess, ...] | None
    wall: float
    cut_off: bool = False
    silent_owners: tuple[ProcessOwner, ...] = ()
    owned_by_silent: Mapping[str, RestartOwner] = field(default_factory=dict)

    def keep_in_force(self) -> "FleetObservation":
        """Return the observation with only those silences and windows that are in force at its moment.

        A silence is kept for a month after its end, and to find out whether a window is open takes long: both
        are done once, and not for each service.
        """
        silences = tuple(each for each in self.silences if each.is_active(self.wall))
        windows = tuple(each for each in self.windows if is_window_open(each, self.wall))
        return replace(self, silences=silences, windows=windows)

    def is_up(self, svc: str) -> bool:
        entry = self.state.roster.get(svc)
        return svc in self.truth.services and entry is not None and entry.verdict is State.UP

    def find_silence(self, svc: str, timeout_sec: float) -> float | None:
        """Return how many seconds ago a service beat last; None without a last beat."""
        return derive_silence(self.state.ttls_sec.get(svc), timeout_sec, self.state.beats.get(svc))

    def is_silent(self, svc: str) -> bool:
        """Return True if a service of the truth has no last beat, or one that is older than its timeout."""
        if svc not in self.truth.services:
            return False
        timeout_sec = self.truth.timeout_of(svc)
        silence_sec = self.find_silence(svc, timeout_sec)
        return silence_sec is None or silence_sec > timeout_sec


class BeatsInTurn:
    """Find services of which several processes beat in turn, by the `boot` of their last beats.

    A process that replaces another one has a `boot` that was never seen before, and the old one does not come
    back. Only what the services themselves have sent counts: what mesh says of them may be false.
    """

    def __init__(self) -> None:
        self._last: dict[str, str] = {}
        self._replaced: dict[str, dict[str, float]] = {}
        """When each process was replaced as the last one to beat."""
        self._in_turn: dict[str, float] = {}

    def forget(self, services: Collection[str]) -> None:
        """Forget services that are not these."""
        for svc in self._last.keys() - services:
            for part in (self._last, self._replaced, self._in_turn):
                part.pop(svc, None)

    def note(self, svc: str, boot: str | None, now: float, lasts_sec: float) -> bool:
        """Note the last beat of a service; return True if several processes beat in turn.

        They do for `lasts_sec` seconds after that was seen last.
        """
        last = self._last.get(svc)
        if boot is not None and boot != last:
            self._last[svc] = boot
            if last is not None:
                self._note_change(svc, last, boot, now, lasts_sec)
        return now - self._in_turn.get(svc, float("-inf")) < lasts_sec

    def _note_change(self, svc: str, last: str, boot: str, now: float, lasts_sec: float) -> None:
        replaced = self._replaced.setdefault(svc, {})
        if replaced.pop(boot, None) is not None:
            self._in_turn[svc] = now
        for old in [each for each, at in replaced.items() if now - at >= lasts_sec]:
            del replaced[old]
        replaced[last] = now
        if len(replaced) > MAX_BOOTS:
            del replaced[next(iter(replaced))]


class DegradedTimes:
    """Measure for how long the beats of services have said `degraded`, as far as that was observed."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[str | None, float]] = {}
        self._looked_at = float("-inf")

    def begin_look(self, services: Collection[str], now: float, longest_gap_sec: float) -> None:
        """Begin all times again if the last look was too long ago; forget services that are not these."""
        if not 0 <= now - self._looked_at <= longest_gap_sec:
            self._since.clear()
        self._looked_at = now
        for svc in self._since.keys() - services:
            del self._since[svc]

    def measure(self, svc: str, boot: str | None, status: str | None, now: float) -> float:
        """Return for how long the beats of this process have said `degraded`, in seconds."""
        if status != "degraded":
            self._since.pop(svc, None)
            return 0.0
        known = self._since.get(svc)
        if known is None or known[0] != boot:
            known = self._since[svc] = boot, now
        return max(0.0, now - known[1])


class FleetObserver:
    """Read observations, and make facts of them; `problem` says what could not be read last.

    `seen` is the last observation.
    """

    def __init__(self, me: Agent[MedicEnvironment], owners: Sequence[ProcessOwner] = ()) -> None:
        self.problem: str | None = None
        self.seen: FleetObservation | None = None
        self._me, self._owners = me, owners
        self._degraded, self._in_turn = DegradedTimes(), BeatsInTurn()
        self._shown: dict[ProcessOwner, dict[str, RestartOwner]] = {}
        self._timings: tuple[Truth | None, dict[str, tuple[float, float]]] = (None, {})

    def begin_term(self) -> None:
        """Forget what was measured under an earlier lease: nothing was observed since, by another clock."""
        self._degraded, self._in_turn = DegradedTimes(), BeatsInTurn()

    async def observe(self, settings: HealingSettings, now: float, rest_sec: float = 0.0) -> FleetFacts:
        """Return the facts of this moment, `now` in epoch seconds, after a rest of `rest_sec` was planned."""
        self.seen = await self._read()
        return self.make_facts(self.seen, settings, now, rest_sec)

    def make_facts(
        self, seen: FleetObservation, settings: HealingSettings, now: float, rest_sec: float = 0.0
    ) -> FleetFacts:
        self._degraded.begin_look(seen.truth.services.keys(), now, settings.find_longest_gap(rest_sec))
        self._in_turn.forget(seen.truth.services.keys())
        by_service: dict[str, list[OwnedProcess]] = {}
        for process in seen.processes or ():
            by_service.setdefault(process.svc, []).append(process)
        in_force = seen.keep_in_force()
        targets = {
            svc: self._make_target(svc, in_force, settings, by_service.get(svc, []), now)
            for svc in seen.truth.services
        }
        return FleetFacts(targets, find_fleet_refusal(seen))

    async def _read(self) -> FleetObservation:
        """Read all of it. What does not answer is in `problem`; a bus makes the observation cut off.

        An owner that does not answer cuts off what it runs, and nothing else.
        """
        truth = self._me.truth
        problems: list[str] = []
        state, silences = FleetState(), tuple[Silence, ...]()
        try:
            state, failed = await read_fleet_state(truth, self._me.bus, with_runs=False)
            stored = await read_silences([self._me.bus(name) for name in truth.bus_names()])
            silences = tuple(stored.silences.values())
            problems += [f"{bus} {why}" for bus, why in (failed | stored.failed).items()]
        except (BusError, NoBusError) as error:
            problems.append(str(error)[:100])
        cut_off = bool(problems)
        shown, silent = dict[ProcessOwner, tuple[OwnedProcess, ...]](), list[ProcessOwner]()
        for owner in self._owners:
            try:
                shown[owner] = await owner.read(truth.services)
            except NoOwnerError as error:
                silent.append(owner)
                problems.append(str(error)[:100])
        self.problem = "; ".join(problems) or None
        for owner, processes in shown.items():
            self._shown[owner] = {each.svc: each.owner for each in processes}
        return FleetObservation(
            truth,
            state,
            silences,
            find_windows(truth),
            tuple(each for processes in shown.values() for each in processes) if shown else None,
            time.time(),
            cut_off,
            tuple(silent),
            self._find_owned_by(silent, truth),
        )

    def _find_owned_by(self, silent: Collection[ProcessOwner], truth: Truth) -> dict[str, RestartOwner]:
        """Return the services of owners that do not answer, with what restarts them, by their last answers.

        One that never answered may run all that no other one shows.
        """
        found = dict[str, RestartOwner]()
        for owner in silent:
            if owner not in self._shown:
                known = {svc for each in self._shown.values() for svc in each}
                found |= dict.fromkeys(truth.services.keys() - known, RestartOwner.ELSEWHERE)
        for owner in silent:
            shown = self._shown.get(owner, {})
            found |= {svc: each for svc, each in shown.items() if svc in truth.services}
        return found

    def _make_target(
        self,
        svc: str,
        seen: FleetObservation,
        settings: HealingSettings,
        processes: list[OwnedProcess],
        now: float,
    ) -> TargetFacts:
        section = seen.truth.services[svc]
        entry, beat = seen.state.roster.get(svc), seen.state.beats.get(svc)
        # with processes of two owners, nothing is done to it in any case
        owner = processes[0].owner if processes else seen.owned_by_silent.get(svc, RestartOwner.ELSEWHERE)
        own = settings.targets.get(svc)
        if owner is RestartOwner.UP and own is not None and own.owner == "medic":
            owner = RestartOwner.MEDIC
        timeout_sec, interval_sec = self._find_timing(svc, seen.truth)
        boot = (beat and beat.boot) or (entry and entry.boot) or None
        status = None if beat is None else beat.status
        silence_sec = seen.find_silence(svc, timeout_sec)
        late_sec = max(LATE_INTERVALS * interval_sec, LATE_SHARE * timeout_sec)
        in_turn_sec = max(IN_TURN_SEC, IN_TURN_INTERVALS * interval_sec)
        # it beats, and somebody else says that it fails: what an alert is about, no remedy of ours is for
        is_reported = entry is not None and entry.via is not None and not seen.is_silent(svc)
        verdict = None if entry is None else entry.verdict
        health = Health.UP if is_reported else _HEALTH.get(verdict, Health.UNKNOWN)
        is_up = health is Health.UP
        down_since = entry.down_since() or entry.since or entry.ts or None if entry and not is_up else None
        return TargetFacts(
            svc=svc,
            health=health,
            down_since=down_since,
            down_sec=None if down_since is None else max(0.0, seen.wall - down_since),
            boot=boot,
            status=status,
            silence_sec=silence_sec,
            degraded_sec=self._degraded.measure(svc, boot, status, now),
            has_said_goodbye=entry is not None and not is_up and entry.reason() == Reason.STOPPED,
            owner=owner,
            processes=tuple(each.facts for each in processes),
            is_cut_off=svc in seen.owned_by_silent,
            blocked=find_wish(svc, section, seen),
            beats_in_turn=self._in_turn.note(svc, None if beat is None else beat.boot, now, in_turn_sec),
            replicas=section.replicas or 1,
            depends_on=section.depends_on,
            severity=section.severity,
            failure=None if entry is None else entry.failure(),
            is_late=is_up and silence_sec is not None and silence_sec >= late_sec,
        )

    def _find_timing(self, svc: str, truth: Truth) -> tuple[float, float]:
        """Return the timeout and the interval of a service, which last until there is another truth."""
        if self._timings[0] is not truth:
            each = {svc: (truth.timeout_of(svc), truth.interval_of(svc)) for svc in truth.services}
            self._timings = truth, each
        return self._timings[1][svc]


def find_wish(svc: str, section: Service, in_force: FleetObservation) -> Refusal | None:
    """Return `silenced` or `maintenance` if people want a service to be left alone now.

    `in_force` has the silences and windows that are in force, and no others.
    """
    if any(each.matches(svc, section.tags) for each in in_force.silences):
        return Refusal.SILENCED
    is_included = any(each.includes(svc, section.tags) for each in in_force.windows)
    return Refusal.MAINTENANCE if is_included else None


def find_fleet_refusal(seen: FleetObservation) -> Refusal | None:
    """Return why nothing may be done to any target: what the medic, or the healer, can't see."""
    if seen.cut_off:
        return Refusal.CUT_OFF
    if seen.state.unheard_buses():
        return Refusal.BUS_LOST
    leader = seen.state.leader
    if leader is None or leader.lapsed_sec > 0 or seen.is_silent(HEALER):
        return Refusal.HEALER_ABSENT
    beat = seen.state.beats.get(HEALER)
    if beat is None:  # one that can't be used says nothing
        return Refusal.HEALER_DEAF if HEALER in seen.truth.services else None
    return None if beat.status == "ok" else Refusal.HEALER_DEAF
