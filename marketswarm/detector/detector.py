"""The detector: DETECTION.md as code. It takes messages and the time, and returns verdicts.

Pure: no I/O, no clock of its own, no await. The caller owns the sockets; it reports every event together with
a reading of both clocks (`Moment`), and gets frozen values back.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from math import inf
from typing import Any, Final

from marketswarm import beat as beats
from marketswarm.beat import Beat, MalformedBeat, Meaning
from marketswarm.detector import stored
from marketswarm.detector.bus import Reach, UnsavedSilences, WatchedBus
from marketswarm.detector.clock import CANARY_EVERY_SEC, DELAY_SEC, OVERDUE_SEC, HeardAt, Moment
from marketswarm.detector.flood import FLOOD, FloodLimit
from marketswarm.detector.heard import store_familiar
from marketswarm.detector.hosts import HostCensus
from marketswarm.detector.job import Job
from marketswarm.detector.restarts import RestartObserver
from marketswarm.detector.roster import RosterChange, plan_change
from marketswarm.detector.saved import EndedRun, FailedRun, LastBeat
from marketswarm.detector.service import WatchedService
from marketswarm.detector.states import Reason, Stage, State, Step, Trigger
from marketswarm.detector.trouble import ServiceOutage
from marketswarm.detector.verdict import (
    BatchResult,
    ChangeTimes,
    Copies,
    Counts,
    Mended,
    Subject,
    Suspect,
    Tick,
    UnheardBeat,
    Verdict,
    make_alert,
)
from marketswarm.truth import Watch

CHECK_EVERY_SEC: Final = 1.0
CHECKED_AT_ONCE: Final = 100
"""Services that are checked each second: a tenth of a millisecond of work. All of 100,000 take 17 minutes."""

Messages = Iterable[Sequence[Any]]
# before Python 3.12 an attribute of an enum takes as long as a call, and these are read for each miss
_SUSPECTED: Final = Stage.SUSPECTED
_IS_DUE, _ANSWERED = Step.DUE, Step.ANSWERED
_DUE, _BEAT, _DOWN = Trigger.DUE, Trigger.BEAT, State.DOWN
_SILENCES: Final = frozenset({Reason.SILENT, Reason.STOPPED})
"""The reasons of the misses of services that beat before, and do no more."""

START_UP_SEC: Final = 60.0
"""The longest time that a service which is known to be starting has for its first beat."""


class Detector:
    """Detects silent services and lost buses from the messages and canaries of the listeners.

    It begins with `is_restoring` True: it takes messages, and declares no service down for its silence, until
    `restore_services` is done.

    Args:
        now: when the listening begins.
    """

    def __init__(self, now: Moment) -> None:
        self.buses: dict[str, WatchedBus] = {}
        self.services: dict[str, WatchedService] = {}
        self.counts = Counts()
        self.last_malformed: tuple[str, str] | None = None
        """The service of the last payload that was not a beat, and what was wrong with it."""
        self.jobs: dict[str, WatchedService] = {}
        """The services that are jobs."""
        self.refused: dict[str, None] = {}
        """The services whose channels are refused, in the order in which that was noticed."""
        self.observer = RestartObserver(self.services, self.confirm)
        self.is_restoring = True
        """Whether the state of an earlier run is still to be applied to some service."""
        self.silences = UnsavedSilences()
        self.floods = FloodLimit()
        self.hosts = HostCensus()
        self._change_times = ChangeTimes()
        self._reach = Reach()
        self._awake_at = self._checked_at = now.mono
        self._to_check: Iterator[WatchedService] = iter(())

    # -- the roster

    def set_roster(self, watches: Iterable[Watch], buses: Mapping[str, float], now: Moment) -> list[Verdict]:
        """Put a roster in force at once: `buses` maps names to the seconds after which each counts as lost.

        Every watch's bus must be among them. Return the verdicts on services, and on lost buses, that are no
        longer watched.
        """
        verdicts: list[Verdict] = []
        change = plan_change(self.services, watches, buses)
        while not change.is_done:
            verdicts += self.change_roster(change, now)
        return verdicts

    def change_roster(self, change: RosterChange, now: Moment) -> list[Verdict]:
        """Change some services as planned; call this until the change is done. Return as `set_roster`.

        Between two calls, other work may continue: each service is watched as before, or as planned. A stall
        that ends with this call counts as time in which no healer listened.
        """
        self.note_awake(now)
        if not change.is_begun:
            change.is_begun = True
            for name, timeout_sec in change.buses.items():
                self.buses.setdefault(name, WatchedBus(name, timeout_sec, now)).timeout_sec = timeout_sec
        # one float for all services of a bus
        running = {name: bus.clock.read(now.mono) for name, bus in self.buses.items()}
        verdicts: list[Verdict] = []
        for each in change.take_step():
            if isinstance(each, Watch):
                self._add_service(each, now, running[each.bus])
            else:
                verdicts += self._drop_service(each, now)
        if change.dropped or change.changed:
            return verdicts
        dropped = [bus.drop(now) for name, bus in self.buses.items() if name not in change.buses]
        verdicts += [verdict for verdict in dropped if verdict is not None]
        self.buses = {name: self.buses[name] for name in change.buses}
        self.observer.roster_changed(self.buses)
        change.is_done = True
        return verdicts

    def expect_start(self, services: Collection[str], within_sec: float, now: Moment) -> None:
        """Note that services are starting, so that none is missed for its silence before it can beat.

        That ends with the first beat of each, and after `within_sec` seconds in which its bus is heard, at
        most START_UP_SEC.
        """
        for svc in services:
            if (service := self.services.get(svc)) is not None:
                running = service.clock.read(now.mono)
                until = running + min(within_sec, START_UP_SEC)
                service.silence = service.silence._replace(starting_until=until)
                if service.stage is not Stage.RESTORING:
                    self.bus_of(service).schedule(service)

    def bus_of(self, service: WatchedService) -> WatchedBus:
        """Return the bus that a watched service beats on."""
        return self.buses[service.rule.bus]

    def _drop_service(self, svc: str, now: Moment) -> list[Verdict]:
        """Delete what is held of a service that left the truth, and have its saved beat deleted."""
        service = self.services.pop(svc)
        self.jobs.pop(svc, None)
        self.bus_of(service).remove_service(service)
        self.refused.pop(svc, None)
        self.floods.forget_service(svc)
        service.move_stage(Step.DROPPED)
        self.observer.save_soon(svc)  # which deletes its saved beat
        self.silences.delete(svc)
        verdicts = [self._apply_transition(service, Trigger.REMOVED, now, before=service.last_beat)]
        if service.channel_refused_at is not None:
            verdicts.insert(0, make_alert(svc, State.UNWATCHED, Subject.WATCH, now.wall))
        return verdicts

    def _add_service(self, watch: Watch, now: Moment, running: float) -> None:
        """Watch a service; if another line of the truth named it before, continue with its state and silence.

        `running` is the listening clock of its bus.
        """
        old = self.services.get(watch.svc)
        if old is not None and old.is_under(watch):
            return
        bus = self.buses[watch.bus]
        is_restoring = self.is_restoring if old is None else old.stage is Stage.RESTORING
        stage = Stage.RESTORING if is_restoring else Stage.EVALUATED
        service = WatchedService(watch, bus.clock, running, stage)
        if watch.job is not None:
            service.job = Job(watch.job, HeardAt(running, now.mono, now.wall))
        if old is not None:
            old.confirm(old.clock.read(now.mono))
            old.evaluate_job(now)
            old.move_stage(Step.DROPPED)
            service.inherit(old, now)
            self.bus_of(old).remove_service(old)
            if old.silence.is_saved:  # the saved silence must not stay a reading of another clock
                self.silences.save(service)
        self.observer.service_added(service, old)
        self.note_host(service)
        self.services[watch.svc] = service
        self.jobs.pop(watch.svc, None)
        if service.job is not None:
            self.jobs[watch.svc] = service
        bus.add_service(service)
        if stage is not Stage.RESTORING:
            bus.schedule(service)

    # -- what the listener reports

    def note_awake(self, now: Moment) -> None:
        """Note that this process runs; if it did not for too long, leave that out of every bus's silence.

        A stall of more than a second also begins a gap on each bus. Call this before you read messages that
        may have piled up.
        """
        asleep_sec = now.mono - self._awake_at
        late_sec = asleep_sec - CANARY_EVERY_SEC
        if late_sec > OVERDUE_SEC:
            self.counts.stalls += 1
            for bus in self.buses.values():
                bus.clock.note_stall(asleep_sec)
            self._reach.note_stall(asleep_sec)
        elif late_sec > DELAY_SEC:
            for bus in self.buses.values():
                bus.clock.note_delay(late_sec)
            self._reach.note_stall(late_sec)
        self._awake_at = now.mono

    def take_canary(self, bus_name: str, number: int, now: Moment, worked_sec: float = 0.0) -> list[Verdict]:
        """Take a canary that came back.

        `worked_sec` is for how long the listener has handled messages so far. Return the verdicts
        that any bus is reached again, or this one is found.
        """
        bus = self.buses.get(bus_name)
        if bus is None:
            return []
        bus.clock.note_canary_received(number, now, worked_sec)
        gap = self._reach.evaluate(self.buses.values(), now) if bus.clock.is_listening else None
        found = bus.note_heard(now) if bus.clock.is_listening else None
        return [verdict for verdict in (gap, found) if verdict is not None]

    def take_messages(self, bus_name: str, messages: Messages, now: Moment) -> BatchResult:
        """Take messages that arrived together, as the server sends them: `[b"message", channel, payload]`."""
        self.note_awake(now)
        bus = self.buses.get(bus_name)
        if bus is None:
            return BatchResult([], [])
        if bus.turn != bus.clock.turns:  # a gap began or ended
            bus.turn = bus.clock.turns
            for each in bus.channels.values():
                each.parse_next()
        heard = bus.clock.stamp(now)
        verdicts: list[Verdict] = []
        others: list[Sequence[Any]] = []
        for service, message in store_familiar(bus.channels, messages, heard, self.counts):
            if service is None:
                others.append(message)
            elif self.floods.admit_payload(service.svc, now.mono):
                verdicts += self._take_payload(service, message[2], heard, now)
            else:
                self.counts.dropped += 1
                if service.channel_refused_at is None:
                    verdicts.append(self._refuse_channel(service, now, now, FLOOD))
        return BatchResult(verdicts, others)

    def _take_payload(
        self, service: WatchedService, payload: bytes, heard: HeardAt, now: Moment
    ) -> Sequence[Verdict]:
        """Parse a payload and record it as a beat, a goodbye or a report; return what follows at once.

        Malformed and replayed payloads are only counted.
        """
        self.confirm(service, now.mono)
        found = beats.parse_beat(payload, service.svc)
        if isinstance(found, MalformedBeat):
            self._report_malformed(service, found)
            return ()
        if service.job is not None:
            heard = _date_report(found, heard, service.clock.stalled_sec)
        if service.stage is not Stage.RESTORING:
            self.observer.beat_parsed(service, found, heard)
        is_new_process = found.boot is not None and service.instances.find_i(found.boot) is None
        if service.check_replay(found.boot, found.i, is_alive=service.shows_life(found)):
            self.counts.replayed += 1
            return ()
        self.counts.heard += 1
        if found.meaning is Meaning.REPORT:
            if service.take_run_report(found, heard):
                self.bus_of(service).retry(service)
                self.observer.save_soon(service.svc)  # with its open failures
            elif service.job is not None:
                self.bus_of(service).schedule(service)  # a run that started may be due earlier
            return ()
        if found.meaning is Meaning.GOODBYE:
            service.take_goodbye(found, heard)
            service.parse_next()
            self.observer.goodbye_heard(service, found)
            if service.trouble.due_failure is not None:
                self.bus_of(service).retry(service)
            return ()
        return self._take_beat(service, found, payload, heard, now, is_new_process=is_new_process)

    def _take_beat(
        self,
        service: WatchedService,
        beat: Beat,
        payload: bytes,
        heard: HeardAt,
        now: Moment,
        *,
        is_new_process: bool,
    ) -> Sequence[Verdict]:
        """Record a live beat; return the verdict that the service is up if it was not, and now is.

        Before that comes the miss of a failure that it reported since the last evaluation: the beat that
        follows at once is the end of that outage, and does not undo it.
        """
        verdicts: list[Verdict] = []
        if service.has_failed_unnoticed:
            service.move_stage(Step.ANSWERED)
            verdicts.append(self.declare_down(service, now))
        before, is_other = service.last_beat, beat.boot != service.instances.last
        is_new_sender, ends_saved_silence = service.silence.stopped or is_other, service.silence.is_saved
        open_before = service.trouble.open
        host_before = service.host
        service.take_beat(payload, beat, heard, is_new_process=is_new_process)
        if is_other or service.host != host_before:
            self.note_host(service)
        if is_other:
            self.observer.drop_disproved_case(service, beat.boot)
        if is_new_sender or service.trouble.open != open_before:
            self.observer.save_soon(service.svc)
        if ends_saved_silence:
            self.silences.end(service.svc)
        if service.stage is Stage.RESTORING:
            service.parse_next()
        elif service.state is not State.UP and service.trouble.open:
            service.stay_down(before)
            self.note_host(service)
        elif service.state is not State.UP:
            verdicts.append(self.bring_up(service, heard, before=before))
        else:
            self.observer.beat_recorded(service, beat, heard)
            if service.job is not None:
                # the run that ended may have been due later than the next one
                self.bus_of(service).schedule(service)
        return verdicts

    def note_host(self, service: WatchedService) -> None:
        """Note where a service is, after its host, its state or its roster has changed."""
        find_host = service.find_only_host if service.instances.named_several_hosts else None
        self.hosts.note(service.svc, service.find_live_host(), find_host)

    def confirm(self, service: WatchedService, now: float) -> None:
        """Parse the last beat if it was stored unparsed; correct the counts if it is not a beat.

        `now` is in monotonic seconds.
        """
        if service.is_unparsed and not service.confirm(service.clock.read(now)):
            self.counts.heard -= 1
            self._report_malformed(service, MalformedBeat("not_json"))

    def _report_malformed(self, service: WatchedService, found: MalformedBeat) -> None:
        self.counts.malformed += 1
        self.last_malformed = service.svc, found.reason

    # -- evaluation

    def tick(self, now: Moment) -> Tick:
        """Evaluate all buses and services that are due; call this after `wake_in_sec`, and after a canary."""
        self.note_awake(now)
        verdicts: list[Verdict] = []
        suspects: list[Suspect] = []
        canary_buses: list[str] = []
        wake_in_sec = CANARY_EVERY_SEC
        for bus in self.buses.values():
            bus.clock.check_canary(now.mono)
        if (gap := self._reach.evaluate(self.buses.values(), now)) is not None:
            verdicts.append(gap)
        if self.floods.flooding:
            verdicts += self._end_floods(now)
        for bus in self.buses.values():
            verdict = bus.evaluate(now, may_blame=self._reach.may_blame(bus, now))
            if verdict is not None:
                verdicts.append(verdict)
            running = bus.clock.read_for_looks(now.mono)
            if not self.is_restoring:
                suspects += self._find_suspects(bus, running, now)
                verdicts += self.observer.due_verdicts(bus, now)
            if bus.clock.is_listening and not self.is_restoring:
                wake_in_sec = 0.0 if bus.postponed else min(wake_in_sec, bus.next_due() - running)
                if bus.has_waiting:
                    canary_buses.append(bus.name)
        mended = self._check_services(now) if now.mono - self._checked_at >= CHECK_EVERY_SEC else ()
        return Tick(tuple(verdicts), tuple(suspects), tuple(canary_buses), max(0.0, wake_in_sec), mended)

    def _check_services(self, now: Moment) -> tuple[Mended, ...]:
        """Check the next services, whether the copies of their states agree; mend and return what differs."""
        self._checked_at, found = now.mono, list[Mended]()
        some = list(islice(self._to_check, CHECKED_AT_ONCE))
        if len(some) < CHECKED_AT_ONCE:
            self._to_check = iter(list(self.services.values()))
        evaluated = {name: bus.find_evaluated_until(now.mono) for name, bus in self.buses.items()}
        for service in some:
            if service.stage is not Stage.EVALUATED or self.services.get(service.svc) is not service:
                continue
            until = -inf if self.is_restoring else evaluated[service.rule.bus]
            is_awaited = service.svc in self.refused or service.svc in self.floods.flooding
            is_job = service.svc in self.jobs
            copies = self.bus_of(service).find_disagreement(
                service, until, is_job=is_job, is_awaited=is_awaited
            )
            if copies is not None:
                self._mend(service, copies, now)
                found.append(Mended(service.svc, copies))
        return tuple(found)

    def _mend(self, service: WatchedService, copies: Copies, now: Moment) -> None:
        """Make two copies of a state agree. The state, the truth and what `services` lists are right."""
        if copies is Copies.OUTAGE:
            service.outage = ServiceOutage(None) if service.state is State.DOWN else None
        elif copies is Copies.CHANNEL:
            self.bus_of(service).add_service(service)
        elif copies is Copies.JOBS:
            self.jobs.pop(service.svc, None)
            if service.job is not None:
                self.jobs[service.svc] = service
        elif copies is Copies.REFUSAL:
            self.floods.flooding[service.svc] = now.mono  # whose end looks whether it can be heard
        else:
            service.is_on_wheel = False
            self.bus_of(service).schedule(service)

    def _find_suspects(self, bus: WatchedBus, running: float, now: Moment) -> list[Suspect]:
        """Return the services of a bus whose deadline has provably passed, and mark them as suspects.

        Look at 500 services at most. Have silences saved that have lasted three quarters of a timeout.
        """
        found: list[Suspect] = []
        for service in bus.pop_due(running):
            if not service.may_fall_due:
                continue
            if service.is_unparsed:
                self.confirm(service, now.mono)
            if service.job is not None:
                service.evaluate_job(now)
            if (due := service.due()) > running:
                if not service.silence.is_saved and service.silence_save_at() <= running:
                    service.mark_silence_saved()
                    self.silences.save(service)
                bus.schedule(service)
            elif due > bus.clock.proven:
                bus.awaiting_canary.append(service)
            else:
                service.move_stage(_IS_DUE)
                if service.job is not None:
                    service.job.note_asked()
                found.append(Suspect(service.svc, bus.name))
        return found

    # -- suspects

    def is_last_payload(self, svc: str, payload: bytes) -> bool:
        """Return True if this value of `beat:<svc>` shows no more than what was heard last.

        To evaluate a suspect, it counts as nothing stored.
        """
        service = self.services.get(svc)
        return service is not None and service.is_last_payload(payload)

    def evaluate_suspect(self, svc: str, last: LastBeat | None, now: Moment) -> Verdict | UnheardBeat | None:
        """Decide whether a service whose deadline has passed is down, and end its suspicion.

        `last` is the beat under `beat:<svc>`, None if there is none. Return the miss, and declare the
        service down; or record the stored beat and return it, if it was never heard and keeps the service up.
        Return None, with no verdict, if a beat was heard meanwhile, its channel is refused, or the service is
        no longer watched.

        A failure that the service reported is missed whatever is stored, because the end of a later run stays
        unrecorded, and brings the service up when its message is heard.
        """
        self.note_awake(now)
        service = self.services.get(svc)
        if service is None or service.stage is not _SUSPECTED:
            return None
        service.move_stage(_ANSWERED)
        if service.channel_refused_at is not None:
            return None
        self.confirm(service, now.mono)
        if service.has_failed_unnoticed:
            return self.declare_down(service, now)
        if last is not None and (unheard := stored.take_unheard(service, last, now)) is not None:
            self.bus_of(service).schedule(service)
            self.counts.unheard += 1
            return unheard
        stored.note_witness(service, last, now)
        if service.due() > service.clock.proven:
            self.bus_of(service).schedule(service)
            return None
        return self.declare_down(service, now)

    def retry_suspect(self, svc: str) -> None:
        """Have a service whose `beat:<svc>` could not be read returned as a suspect again soon.

        Call this for suspects in the order of their deadlines, which they keep.
        """
        service = self.services.get(svc)
        if service is not None and service.stage is Stage.SUSPECTED:
            service.move_stage(Step.ANSWERED)
            self.bus_of(service).retry(service)

    # -- services that are down

    def find_down(self, bus_name: str) -> dict[str, float]:
        """Return the services of a bus that are down, with their timeouts in seconds.

        A beat that they sent while their channel was not heard is under `beat:<svc>`.
        """
        down = (each for each in self._list_services(bus_name) if each.state is State.DOWN)
        return {each.svc: each.rule.timeout_sec for each in down}

    def _list_services(self, bus_name: str) -> Collection[WatchedService]:
        bus = self.buses.get(bus_name)
        return () if bus is None else bus.channels.values()

    def end_outage(self, svc: str, last: LastBeat, now: Moment) -> Verdict | None:
        """Bring a service up if the beat under `beat:<svc>` shows that its outage ended unheard.

        Return the verdict on that, or None if it shows nothing of the kind.
        """
        service = self.services.get(svc)
        if service is None or service.stage is Stage.RESTORING or service.state is not State.DOWN:
            return None
        before = service.last_beat
        back = stored.end_outage(service, last, now)
        if back is None:
            return None
        self.counts.unheard += 1
        return self.bring_up(service, now, before=before, back=back)

    # -- failures that stay open

    def find_open_failures(self, bus_name: str) -> list[str]:
        """Return the services of a bus that are down while a failure is open.

        Its end, if it was reported while their channel was not heard, is under `run:<svc>`.
        """
        return [each.svc for each in self._list_services(bus_name) if each.trouble.open]

    def end_open_failure(self, svc: str, ended: EndedRun) -> None:
        """Close the open failure that a stored report ends; the next sign of life ends the outage."""
        service = self.services.get(svc)
        if service is not None and service.stage is not Stage.RESTORING:
            stored.end_open_failure(service, ended)
            self.observer.save_soon(svc)

    # -- runs that failed

    def find_jobs_not_down(self, bus_name: str) -> list[str]:
        """Return the jobs of a bus that are not down.

        A failure that they reported while their channel was not heard is under `run:<svc>`.
        """
        jobs = self.jobs.values()
        return [each.svc for each in jobs if each.rule.bus == bus_name and each.state is not State.DOWN]

    def take_failed_run(self, svc: str, failed: FailedRun, asked: Moment, now: Moment) -> Verdict | None:
        """Return the miss of a job whose last run failed unheard, and declare it down; None otherwise.

        `asked` is when `run:<svc>` was asked for: what was heard since then is newer than the answer.
        """
        service = self.services.get(svc)
        if service is None or service.stage is Stage.RESTORING or service.state is State.DOWN:
            return None
        if service.channel_refused_at is not None:
            return None
        if service.last_beat is not None and service.last_beat.mono >= asked.mono:
            return None
        self.confirm(service, now.mono)
        if not stored.take_unheard_failure(service, failed, now):
            return None
        service.move_stage(Step.ANSWERED)
        return self.declare_down(service, now)

    # -- restore

    def save_all_silences(self) -> None:
        """Save every silence again, because the saved ones are readings of another healer's clocks."""
        for service in self.services.values():
            if service.silence.is_saved:
                self.silences.save(service)

    # -- channels that a bus refuses

    def _end_floods(self, now: Moment) -> list[Verdict]:
        """Let services be evaluated again whose floods have ended; return the verdicts on that."""
        found: list[Verdict] = []
        for svc in self.floods.take_ended(now.mono):
            service = self.services.get(svc)
            if service is None or service.channel_refused_at is None:
                continue
            if service.channel in (self.bus_of(service).refused_channels or ()):
                self.refused[svc] = None  # meanwhile its bus began to refuse it
            else:
                found.append(self._allow_channel(service, now))
        return found

    def set_refused_channels(self, bus_name: str, channels: Collection[str], now: Moment) -> list[Verdict]:
        """Note all channels that a bus refuses to the healer; return the verdicts on their services.

        Such a service is not evaluated; all others on that bus are. A service whose channel is allowed again
        gets a warm-up.
        """
        bus = self.buses.get(bus_name)
        if bus is None:
            return []
        refused = bus.refused_channels = frozenset(channel.encode() for channel in channels)
        found = []
        for channel, service in bus.channels.items():
            if channel in refused and service.channel_refused_at is None:
                self.refused[service.svc] = None
                found.append(self._refuse_channel(service, now, now, "auth"))
            elif channel in refused or service.svc in self.floods.flooding:
                continue
            elif service.channel_refused_at is not None:
                found.append(self._allow_channel(service, now))
        return found

    def restore_refused_channel(self, svc: str, since: float, now: Moment) -> Verdict | None:
        """Apply that a service is published as not watchable, `since` in epoch seconds.

        Return the verdict that it is no longer watched, or watchable again, if so; otherwise None.
        """
        service = self.services.get(svc)
        if service is None:
            return make_alert(svc, State.UNWATCHED, Subject.WATCH, now.wall)
        if service.channel_refused_at is not None:
            return None
        self.refused[svc] = None
        self._refuse_channel(service, now.at_wall(since), now, "auth")
        refused = self.bus_of(service).refused_channels
        is_allowed = refused is not None and service.channel not in refused
        return self._allow_channel(service, now) if is_allowed else None

    def _refuse_channel(self, service: WatchedService, since: Moment, now: Moment, reason: str) -> Verdict:
        """Evaluate a service no longer, as it is not heard whole; return the verdict on that."""
        service.refuse_channel(since)
        last = None if service.last_beat is None else service.last_beat.wall
        return make_alert(service.svc, State.DOWN, Subject.WATCH, now.wall, reason=reason, since=last)

    def _allow_channel(self, service: WatchedService, now: Moment) -> Verdict:
        """Let a service be evaluated again, and return the verdict that it is watchable."""
        self.refused.pop(service.svc, None)
        since = service.allow_channel(now)
        self.bus_of(service).schedule(service)
        down_sec = None if since is None else now.mono - since.mono
        return make_alert(service.svc, State.UP, Subject.WATCH, now.wall, down_sec=down_sec)

    # -- transitions

    def declare_down(self, service: WatchedService, now: Moment) -> Verdict:
        """Record that a service is down, delete its saved silence, and return its miss."""
        self.silences.delete(service.svc)
        return self._apply_transition(service, _DUE, now, before=service.last_beat)

    def bring_up(
        self,
        service: WatchedService,
        now: Moment | HeardAt,
        *,
        before: HeardAt | None,
        back: HeardAt | None = None,
    ) -> Verdict:
        """Return the verdict that a service is up; `before` is its last beat before the one that shows it.

        `back` is when that one was sent, if it was not heard now.
        """
        service.history.drop_gap(service)  # the change of state is published
        verdict = self._apply_transition(service, _BEAT, now, before=before, back=back)
        self.bus_of(service).schedule(service)
        return verdict

    def _apply_transition(
        self,
        service: WatchedService,
        trigger: Trigger,
        now: Moment | HeardAt,
        *,
        before: HeardAt | None,
        back: HeardAt | None = None,
    ) -> Verdict:
        """Move a service to its next state; `before` is the last beat before the event that moves it.

        `back` is the time of a beat that brings it up and was not heard now.
        """
        ended = service.outage if trigger is _BEAT else None
        publication = service.move(trigger, now.moment if isinstance(now, HeardAt) else now)
        is_miss, is_beat = trigger is _DUE, trigger is _BEAT
        running = service.clock.read(now.mono)
        last = service.last_beat
        outage = service.outage if is_miss else ended
        down_since = None if outage is None else outage.down_since
        reason = outage.reason if is_miss and outage else None
        begun = down_since or before
        newest, i = service.instances.find_newest()
        failure = service.trouble.due_failure if is_miss else None
        self.note_host(service)
        host_up = None
        # until all services are restored, some of those that are up are not known to be
        if reason in _SILENCES and not self.is_restoring and (host := service.find_only_host()) is not None:
            host_up = self.hosts.count_up(host)
        return Verdict(
            service.svc,
            service.state,
            publication,
            self._change_times.date(service.svc, now.wall),
            reason=reason,
            exit_code=failure.exit_code if failure else None,
            host=service.host,
            late_sec=service.silence_sec(running) if is_miss else None,
            overdue_sec=running - service.due() if is_miss else None,
            timeout_sec=service.rule.timeout_sec,
            age_sec=(now.mono - last.mono or 0.0) if is_beat and last else None,  # one zero for all
            down_sec=max(0.0, (back or now).mono - begun.mono) if ended and begun else None,
            since=None if before is None else before.wall,
            boot=newest,
            i=i,
            down_since=None if down_since is None else down_since.wall,
            via=service.trouble.via if failure else None,
            detail=failure.detail if failure else None,
            host_up=host_up,
        )


def _date_report(beat: Beat, heard: HeardAt, stalled_sec: float) -> HeardAt:
    """Return when the report of a job was sent, which may have waited while this process did not run.

    Within that time its sender's clock tells. So an outage begins and ends as it does for another healer.
    """
    ago_sec = min(max(0.0, heard.wall - beat.ts), stalled_sec)
    return heard.earlier(ago_sec)._replace(at=heard.at)
