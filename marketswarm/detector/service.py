"""One watched service: its state, and the rule of DETECTION.md for when its silence is a miss.

Pure. Every `at` is a reading of the listening clock of the service's bus, in seconds. Only the detector
changes a service, and the monitor what was published and saved of it.

Most beats are not parsed when they arrive. A payload is *familiar* if it differs from the last parsed one
only in a later `i` and `ts`: same head, same tail, same length, and greater when compared byte by byte. Such
a payload is stored as the last beat at once, for a third of the cost. `confirm` parses it before any
conclusion is drawn from it; the timing wheel does so after three quarters of the timeout, and reads only `i`
and `ts`, because the rest is known. If it was not a new beat, the last parsed beat counts again,
and every payload is parsed on arrival until the next beat. So no verdict rests on an unparsed payload. A
forged one puts a miss off once, by an interval and a half, in which a service that is alive is heard.
"""

from dataclasses import InitVar, dataclass, field
from math import inf
from typing import Any, Final

from marketswarm.beat import Beat, MalformedBeat, Meaning, find_form, parse_beat, parse_counts, parse_sender
from marketswarm.detector.clock import CANARY_EVERY_SEC, OVERDUE_SEC, HeardAt, ListeningClock, Moment
from marketswarm.detector.heard import NO_SIZE, LastPayload
from marketswarm.detector.instances import Instances
from marketswarm.detector.job import Job
from marketswarm.detector.rule import WatchRule, find_rule
from marketswarm.detector.states import STAGES, TRANSITIONS, Publication, Reason, Stage, State, Step, Trigger
from marketswarm.detector.trouble import (
    BESIDE,
    NO_TROUBLE,
    NOT_STARTING,
    PLAIN,
    PresentSilence,
    ReportedFailure,
    ServiceOutage,
    Trouble,
)
from marketswarm.truth import MAX_REPLICAS, Watch

BOOTS_KEPT: Final = 2 * MAX_REPLICAS
"""The instances of a service whose highest `i` is kept: all that a truth allows, and as many old ones.

If a service invents a new instance with each beat, the instances that were silent longest are dropped.
"""

JOB_BOOTS_KEPT: Final = 8
"""The same for a job with a schedule, and one more for each run under way: each run may be an instance.

A report that is sent again comes right after the first, and not after that many other runs.
"""

AFTER_DIGITS: Final = b":"
"""The byte after those of the digits."""

NEVER: Final = -inf
"""One float for all services."""

LONGEST_PROOF_SEC: Final = 600.0
"""A service with a longer timeout shows too late that its machine is gone, so it does not count as proof."""

UNDONE_INTERVALS: Final = 1.5
"""The intervals that a service has to be heard in after its last payload turned out not to be a beat."""

AHEAD_SEC: Final = 2 * (OVERDUE_SEC + CANARY_EVERY_SEC)
"""The running clock is ahead of what is proven by less than this, or a gap begins."""

IN_FLIGHT_SEC: Final = 0.25
"""A stored beat is news only if it is this much younger than the silence: beats take time to arrive."""

# before Python 3.12 an attribute of an enum takes as long as a call, and these are read at each look
_EVALUATED: Final = Stage.EVALUATED
_DOWN: Final = State.DOWN


@dataclass(slots=True, eq=False)
class WatchedService(LastPayload):
    """One service of the roster. `enter` alone changes its state, so it has an outage while it is down.

    Args:
        line: the service's line in the truth.
        clock: the listening clock of the bus on which it beats.
        watched_since: when it was first watched, by that clock.
        stage: whether what an earlier run saved about it is still to be applied.
    """

    line: InitVar[Watch]
    clock: ListeningClock
    watched_since: float
    stage: Stage = Stage.EVALUATED
    # its line in the truth, of which only the name and the channel are its own
    svc: str = field(init=False)
    channel: bytes = field(init=False)
    rule: WatchRule = field(init=False)
    # the longest one of the truths since the healer started: its key may have been stored under it
    longest_timeout_sec: float = field(init=False)
    job: Job | None = None  # its runs, if it is a job
    # who beats
    instances: Instances = field(default_factory=Instances)
    host: str | None = None  # the host that a beat named last; few beats name one
    history: Any = None  # what the observer keeps of its beats; only the observer knows the type
    # of the last payload that was parsed, which came from the instance that beat last
    parsed_at: HeardAt | None = None
    parsed_i: int = 0
    parsed_ts: float = 0.0
    # by the rule
    state: State = State.UNKNOWN
    outage: ServiceOutage | None = None
    silence: PresentSilence = PLAIN
    trouble: Trouble = NO_TROUBLE
    not_due_before: float = NEVER  # granted after a change of interval, timeout or bus
    is_on_wheel: bool = False  # its bus's wheel has one entry for it, never two
    # what was published about it last, for its health key: the event of a miss, the time of an ok
    published: bytes | float | None = None
    has_turns: bool = False  # that key is written again in turns

    def __post_init__(self, line: Watch) -> None:
        self.svc, self.channel, self.rule = line.svc, line.channel.encode(), find_rule(line)
        self.longest_timeout_sec = line.timeout_sec

    def is_under(self, watch: Watch) -> bool:
        """Return True if this is its line in the truth."""
        is_same = self.svc == watch.svc and self.channel == watch.channel.encode()
        return is_same and self.rule == find_rule(watch)

    @property
    def has_schedule(self) -> bool:
        return self.job is not None and self.job.rule.schedule is not None

    # -- payloads

    def confirm_counts(self) -> bool:
        """Parse what is new in a payload that was stored unparsed: its `i` and `ts`.

        Return False, and change nothing, if they are not written as usual, or it is a replay.
        """
        payload = self.payload
        counts = parse_counts(payload, len(self.expected_below) - 1, len(payload) - len(self.expected_tail))
        if counts is None or self.instances.is_replay_of_last(counts[0]):
            return False
        self._note_parsed(self.last_beat, *counts)
        return True

    def _confirm_whole(self) -> bool:
        """Parse the whole of a payload that was stored unparsed; return False if it is not a new beat."""
        beat = parse_beat(self.payload, self.svc)
        if isinstance(beat, MalformedBeat) or self.check_replay(beat.boot, beat.i):
            return False
        self._note_parsed(self.last_beat, beat.i, beat.ts)
        return True

    def _note_parsed(self, heard: HeardAt | None, i: int, ts: float) -> None:
        self.is_unparsed, self.parsed_at, self.parsed_i, self.parsed_ts = False, heard, i, ts

    def store_parsed(self, payload: bytes, beat: Beat, heard: HeardAt) -> None:
        """Keep a parsed beat, and derive how the next payload of the same instance begins and ends."""
        self.payload = payload
        self._note_parsed(heard, beat.i, beat.ts)
        if b'"host"' in payload and (host := parse_sender(payload).host) is not None:
            if beat.boot is not None:
                self.instances.record_host(beat.boot, host, self.host)
            self.host = host
        form = None if self.has_schedule else find_form(payload, beat, self.expected_tail)
        if form is None:
            self.parse_next()
            return
        self.expected_size = len(payload)
        if form.tail != self.expected_tail:  # else keep the objects that are there, and the memory they share
            self.expected_below, self.expected_tail = form.head + AFTER_DIGITS, form.tail

    # -- instances and replays

    def check_replay(self, boot: str | None, i: int, *, is_alive: bool = True) -> bool:
        """Return True if this beat, or a later one of its instance, was heard before; record `i` if not.

        `is_alive` is False for a report that is not a sign of life.
        """
        job = self.job if self.has_schedule else None
        kept = BOOTS_KEPT if job is None else JOB_BOOTS_KEPT + len(job.runs)
        return self.instances.check_replay(boot, i, kept, is_alive=is_alive)

    def shows_life(self, beat: Beat) -> bool:
        """Return True if, with this payload that was heard, all signs of life of its sender were heard.

        A goodbye is none, but it comes after one: after a gap, that one may be under `beat:<svc>` alone.
        """
        if beat.meaning is not Meaning.GOODBYE:
            return beat.meaning is Meaning.LIFE
        clock, last = self.clock, self.last_beat
        return clock.is_listening and last is not None and last.mono >= clock.listening_since

    def other_instances(self) -> tuple[str, ...]:
        """Return the other instances that were alive when the last beat was heard."""
        if self.parsed_at is None:
            return ()
        return self.instances.list_others(self.parsed_at.mono - self.rule.timeout_sec)

    def find_live_host(self) -> str | None:
        """Return the host of the instance that beat last, if it shows that this is there; otherwise None.

        One that is down because it reported a failure beats all the same, unless it said goodbye. A job is up
        until its next run is due, and so is what may be silent for long, whatever became of its machine.
        """
        is_silent = self.state is _DOWN and (self.trouble.due_failure is None or self.silence.stopped)
        if is_silent or self.job is not None or self.stage is Stage.DROPPED:
            return None
        if self.rule.timeout_sec > LONGEST_PROOF_SEC:
            return None
        return self.instances.find_last_host(self.host)

    def find_only_host(self) -> str | None:
        """Return the host that its beats name; None if it is unknown, or its instances name several."""
        if self.host is None or self.parsed_at is None:
            return self.host
        return self.instances.find_only_host(self.host, self.parsed_at.mono - self.rule.timeout_sec)

    # -- trouble

    @property
    def channel_refused_at(self) -> Moment | None:
        """Since when the bus refuses its channel to the healer; None if it does not."""
        return self.trouble.channel_refused_at

    def refuse_channel(self, since: Moment) -> None:
        """Note that its channel can't be heard."""
        self.trouble = self.trouble._replace(channel_refused_at=since)

    def allow_channel(self, now: Moment) -> Moment | None:
        """Note that the channel is allowed, and begin a warm-up; return since when it was refused."""
        since, running = self.channel_refused_at, self.clock.read(now.mono)
        self.trouble = self.trouble._replace(channel_refused_at=None)
        if self.last_beat is None:
            self.watched_since = running
        self.not_due_before = running + self.rule.warm_up_sec
        if self.job is not None:
            self.job.unheard_until = now.mono
        self.parse_next()
        return since

    # -- the rule

    def due(self) -> float:
        """Return when, by the listening clock, the service may be declared down.

        Every gap grants a warm-up, but one silence never gets more than one warm-up in all. A service that
        reported a failure is due at once, if the truth asks for an alert on that. Of a job the runs count.
        """
        job = self.job
        if job is None:
            due = self._silence_due()
        else:  # with a schedule, its silence does not count
            due = job.find_due(self._silence_due() if job.rule.schedule is None else inf)
        if self.trouble is NO_TROUBLE:  # almost always
            return due
        failure = self.trouble.due_failure
        return due if failure is None else min(due, failure.heard.at)

    def _silence_due(self) -> float:
        """Return when, by the listening clock, its silence is too long: what `due` says, but for failures."""
        rule, last = self.rule, self.last_beat
        warm_up_sec = rule.warm_up_sec
        due = self.watched_since + warm_up_sec if last is None else last.at + rule.timeout_sec
        grace = self.clock.gap_end + warm_up_sec
        if grace > due:
            due = min(grace, due + warm_up_sec)
        due, starting_until = max(due, self.not_due_before), self.silence.starting_until
        return due if starting_until == NOT_STARTING else max(due, starting_until)

    def evaluate_job(self, now: Moment) -> None:
        if self.job is not None:
            self.job.evaluate(self.clock, now)

    def silence_sec(self, now: float) -> float:
        """Return the seconds without a beat at `now`; if it never beat, the seconds since it is watched."""
        return now - (self.watched_since if self.last_beat is None else self.last_beat.at)

    def find_silence_to_save(self) -> float:
        """Return when its silence began, by the listening clock, as a later run of the healer is to count it.

        While a reseed, or a channel that was refused, still grants it time, that is half a timeout ago at
        most, since that time is not saved: the warm-up of the later run comes in its place.
        """
        began = self.watched_since if self.last_beat is None else self.last_beat.at
        proven = self.clock.proven
        return began if proven >= self.not_due_before else max(began, proven - self.rule.timeout_sec / 2)

    def silence_save_at(self) -> float:
        """Return when the service's silence should be saved, so that it survives a restart of the healer."""
        if self.last_beat is None:
            return self.watched_since
        return self.last_beat.at + self.rule.look_sec

    def next_evaluation(self) -> float:
        """Return when the timing wheel should return the service; infinity while it can't fall due."""
        if not self.may_fall_due:
            return inf
        # should an unparsed payload be no beat, the last beat would be as old as the last parsed one
        last = self.parsed_at if self.is_unparsed else self.last_beat
        has_failed = self.trouble is not NO_TROUBLE and self.trouble.due_failure is not None
        is_plain = not self.silence.is_saved and self.job is None and not has_failed
        look_sec = self.rule.look_sec
        if is_plain and last is not None:
            return last.at + look_sec  # which is before it is due
        due = self.due() if self.job is None else min(self.due(), self.job.look_at)
        if self.silence.is_saved:
            # a beat that ends a saved silence begins one that is to be saved that much later
            return min(self.clock.proven + max(look_sec, AHEAD_SEC), due)
        look_at = self.silence_save_at() if last is None else last.at + look_sec
        return min(look_at, due)

    @property
    def may_fall_due(self) -> bool:
        """Whether its deadline counts: it is restored, can be heard, and is neither down nor a suspect."""
        if self.stage is not _EVALUATED or self.state is _DOWN:
            return False
        return self.trouble is NO_TROUBLE or self.trouble.channel_refused_at is None

    @property
    def has_failed_unnoticed(self) -> bool:
        """Whether it reported a failure that is to be missed, and was not evaluated since."""
        if self.trouble is NO_TROUBLE or self.trouble.due_failure is None:
            return False
        is_watched = self.stage is not Stage.RESTORING and self.channel_refused_at is None
        return self.state is not State.DOWN and is_watched

    def miss_reason(self) -> Reason:
        if self.trouble.due_failure is not None:
            return Reason.FAILED
        if self.job is not None:
            if self.job.run_due_at() <= self.due():
                return Reason.NEVER_ENDED
            if self.job.rule.schedule is not None:
                return Reason.OVERDUE
        if self.silence.stopped:
            return Reason.STOPPED
        return Reason.NEVER_SEEN if self.last_beat is None else Reason.SILENT

    # -- transitions

    def move(self, trigger: Trigger, now: Moment) -> Publication:
        """Apply a transition; return where it is to be published."""
        state, publication = TRANSITIONS[self.state, trigger]
        outage = self._begin_outage(now) if state is _DOWN else None
        self.enter(state, outage)
        return publication

    def enter(self, state: State, outage: ServiceOutage | None) -> None:
        """Set the state together with its outage; of one that is down, save no silence any more."""
        self.state, self.outage = state, outage
        if state is _DOWN:
            self.silence = self.silence.drop()
            self.parse_next()

    def move_stage(self, step: Step) -> None:
        """Apply a step of the detector; one that has no place in the table changes nothing."""
        self.stage = STAGES.get((self.stage, step), self.stage)

    def _begin_outage(self, now: Moment) -> ServiceOutage:
        """Count a miss, and return the outage that begins with it.

        It began when a failure was reported, when a run that is overdue was scheduled, or when one that takes
        too long was to have ended; otherwise with the last beat.
        """
        self.trouble = Trouble(*self.trouble[:-1], self.trouble.miss_count + 1)  # faster than `_replace`
        reason, job, down_since = self.miss_reason(), self.job, None
        if (failure := self.trouble.due_failure) is not None:
            return ServiceOutage(failure.heard.moment, failure.heard.moment, reason)
        if job is not None and reason is Reason.NEVER_ENDED:
            down_since = job.find_long_run_end(now)
        elif job is not None and reason is Reason.OVERDUE:
            down_since = job.find_missed_run(now)
        return ServiceOutage(now, down_since, reason)

    def mark_silence_saved(self) -> None:
        """Note that the silence is saved on the bus.

        The next payload is parsed, so that a beat ends the saved silence.
        """
        self.silence = self.silence.save()
        self.parse_next()

    def wheel_time(self) -> float:
        """Return `next_evaluation`; if that is infinity, note that the wheel removes the service.

        A service that beats is confirmed here, so it is evaluated only once it is silent.
        """
        if self.is_unparsed:
            self.confirm_counts()
        at = self.next_evaluation()
        if at == inf:
            self.is_on_wheel = False
        return at

    # -- beats

    def confirm(self, running: float) -> bool:
        """Parse the last payload if it was stored unparsed; `running` is the listening clock.

        If it is not a new beat, undo it and return False. The beats of a service that is alive were heard all
        the same, but the last one may be older than the look at it allows. So it has time for another one.
        """
        if not self.is_unparsed or self.confirm_counts() or self._confirm_whole():
            return True
        self.is_unparsed, self.last_beat, self.payload = False, self.parsed_at, b""
        self.parse_next()
        granted_sec = min(UNDONE_INTERVALS * self.rule.interval_sec, self.rule.timeout_sec)
        self.not_due_before = max(self.not_due_before, running + granted_sec)
        return False

    def take_beat(self, payload: bytes, beat: Beat, heard: HeardAt, *, is_new_process: bool = False) -> None:
        """Record a parsed beat that is neither a replay nor a goodbye, and end the failures that it ends.

        `is_new_process` is True for the first beat of an instance.
        """
        self.last_beat, self.silence = heard, PLAIN
        before = self.trouble  # any run of a job ends its failures
        ended = before.end_failures(None if self.job is not None else beat, is_new_process=is_new_process)
        self.trouble = ended if self.stage is not Stage.RESTORING else ended.note_ended(before, beat)
        if beat.boot != self.instances.last:
            counts = self.parsed_at is not None and not self.has_schedule
            self.instances.switch(beat.boot, self.parsed_at.mono if self.parsed_at and counts else None)
        self.complete_run(beat, heard)
        self.store_parsed(payload, beat, heard)

    def complete_run(self, beat: Beat, heard: HeardAt) -> None:
        """Record that a run of a job is complete; with a schedule, any sign of life says so."""
        if self.job is not None and self.state is State.DOWN:
            self.job.drop_long_runs(heard.at)
        if self.job is not None and (beat.run == "ended" or self.job.rule.schedule is not None):
            self.job.take_completion(beat, heard)

    def parse_next(self) -> None:
        """Have every payload parsed on arrival until the next live beat."""
        self.expected_size = NO_SIZE

    def is_last_payload(self, payload: bytes) -> bool:
        """Return True if a stored payload is the one that was heard last, by its bytes and its time.

        Nearly all that is stored by services that die is, and to parse it takes as long as all else about
        them. Of a job, which has runs under way, it counts how old the payload is.
        """
        last = self.last_beat
        if payload != self.payload or self.is_unparsed or self.job is not None or last is None:
            return False
        return abs(self.parsed_ts - last.wall) <= IN_FLIGHT_SEC

    def take_run_report(self, beat: Beat, heard: HeardAt) -> bool:
        """Record a report about a run (`started`, `failed` or `log`), which is not a sign of life.

        Return True if the service is due earlier than before. A run that failed is missed at once, whatever
        the truth says, because the report itself asks for an alert.
        """
        if self.job is not None and beat.run == "started":
            self.job.take_start(beat, heard, self.clock)
        if self.job is not None and beat.run == "failed":
            self.job.take_failure(beat, heard)
        if beat.run != "failed":
            return False
        before = self.trouble
        report = ReportedFailure(heard, beat.exit_code, beat.detail)
        self.trouble = before.add_failure(report, self._find_way(beat, heard), beat.boot)
        if self.trouble is before:
            return False
        self.parse_next()
        return True

    def _find_way(self, beat: Beat, heard: HeardAt) -> str | None:
        """Return the way by which a failure came; None if it is of the service's own process.

        So are all failures of a job, whose next run shows how it is. Without a `via`, a report is by the way
        if another process beats.
        """
        if self.job is not None or beat.via is not None:
            return beat.via if self.job is None else None
        last = self.last_beat
        is_alive = last is not None and heard.at - last.at < self.rule.timeout_sec
        return BESIDE if is_alive and beat.boot != self.instances.last else None

    def take_goodbye(self, beat: Beat, now: HeardAt) -> None:
        """Record a goodbye; another exit code than 0 is a failure, if the truth asks for an alert on it."""
        self.silence = self.silence.stop(True)
        if self.rule.alert_on_failure and beat.exit_code:
            failure = ReportedFailure(now, beat.exit_code, beat.detail)
            self.trouble = self.trouble._replace(failure=failure)

    def end_failures(self) -> None:
        """Forget all failures and a goodbye, since a sign of life followed."""
        self.silence, self.trouble = self.silence.stop(False), self.trouble.end_failures()

    def stay_down(self, before: HeardAt | None) -> None:
        """Note that it beats and stays down, since a failure is open; `before` is the last beat before that.

        So the outage continues from where it began.
        """
        if self.outage is not None and self.outage.down_since is None and before is not None:
            self.outage = self.outage._replace(down_since=before.moment)

    # -- another line of the truth

    def inherit(self, old: "WatchedService", now: Moment) -> None:
        """Take over the state of `old`, the same service under another line of the truth.

        The silence continues; it is never due before a warm-up from now. The run of a job that is expected or
        under way is not due earlier than it was, for as long as that. Its channel counts as refused, if it
        was, until the bus says otherwise.
        """
        here, there = self.clock.stamp(now), old.clock.read(now.mono)
        ahead_sec = here.at - there
        self.watched_since = here.at - old.silence_sec(there)
        self.longest_timeout_sec = max(old.longest_timeout_sec, self.rule.timeout_sec)
        self.last_beat = None if old.last_beat is None else old.last_beat._replace(at=self.watched_since)
        self.parsed_at = None if old.parsed_at is None else self.last_beat
        self.payload, self.parsed_i, self.parsed_ts = old.payload, old.parsed_i, old.parsed_ts
        self.state, self.outage, self.published = old.state, old.outage, old.published
        self.silence, self.trouble = old.silence.shift(ahead_sec), old.trouble.shift(ahead_sec)
        self.not_due_before = here.at + self.rule.warm_up_sec
        self.instances, self.host = old.instances, old.host
        if self.has_schedule:
            self.instances.forget_others()
        if self.job is not None and old.job is not None:
            had_gap = old.job.find_heard_since(old.clock, now.mono) > old.job.expected.since.mono
            self.job.inherit(old.job, ahead_sec, is_same_bus=self.clock is old.clock, had_gap=had_gap)
            self.job.keep_deadlines(old.job, here, ahead_sec, self.rule.warm_up_sec)
