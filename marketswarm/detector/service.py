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

from math import inf
from typing import Any, Final

from marketswarm.beat import Beat, MalformedBeat, Meaning, find_form, parse_beat, parse_counts, parse_sender
from marketswarm.detector.clock import CANARY_EVERY_SEC, OVERDUE_SEC, HeardAt, ListeningClock, Moment
from marketswarm.detector.instances import Instances
from marketswarm.detector.job import Job
from marketswarm.detector.rule import find_rule
from marketswarm.detector.trouble import (
    ANY_WAY,
    BESIDE,
    MAX_OPEN_FAILURES,
    NO_TROUBLE,
    NOT_STARTING,
    OpenFailure,
    ReportedFailure,
    Trouble,
)
from marketswarm.detector.verdict import (
    STAGES,
    TRANSITIONS,
    LastBeat,
    Publication,
    Reason,
    Stage,
    State,
    Step,
    Trigger,
    UnheardBeat,
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

NO_SIZE: Final = -1
"""The expected size while no payload is familiar."""

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


class LastPayload:
    """The last payload of a service, and what a familiar one is compared with.

    The slots of a class come before those of its heirs, by name. So all that a familiar beat reads and writes
    is in the first 64 bytes of a service, which is one line of the processor's cache, and not three.
    """

    __slots__ = ("expected_below", "expected_size", "expected_tail", "is_unparsed", "last_beat", "payload")

    def __init__(self) -> None:
        # the payload that would be familiar: it is greater than the last one and less than this, which is
        # the text before `i` and a byte that is greater than any digit
        self.expected_below = b""
        self.expected_tail = b""
        self.expected_size = NO_SIZE
        self.payload = b""
        self.is_unparsed = False  # the last payload was stored unparsed
        self.last_beat: HeardAt | None = None


class WatchedService(LastPayload):
    """One service of the roster.

    Args:
        watch: the service's line in the truth.
        clock: the listening clock of the bus on which it beats.
        watched_since: when it was first watched, by that clock.
        stage: whether what an earlier run saved about it is still to be applied.
    """

    __slots__ = (
        "channel",
        "clock",
        "has_turns",
        "history",
        "host",
        "instances",
        "is_on_wheel",
        "is_silence_saved",
        "job",
        "longest_timeout_sec",
        "not_due_before",
        "parsed_at",
        "parsed_i",
        "parsed_ts",
        "published",
        "rule",
        "stage",
        "state",
        "stopped",
        "svc",
        "trouble",
        "watched_since",
    )

    def __init__(
        self, watch: Watch, clock: ListeningClock, watched_since: float, stage: Stage = Stage.EVALUATED
    ) -> None:
        super().__init__()
        self.watch, self.clock = watch, clock
        # the longest one of the truths since the healer started: its key may have been stored under it
        self.longest_timeout_sec = watch.timeout_sec
        self.job: Job | None = None  # its runs, if it is a job
        self.instances = Instances()
        self.host: str | None = None  # the host that a beat named last; few beats name one
        self.history: Any = None  # what the observer keeps of its beats; only the observer knows the type
        # of the last payload that was parsed, which came from the instance that beat last
        self.parsed_at: HeardAt | None = None
        self.parsed_i = 0
        self.parsed_ts = 0.0
        # by the rule
        self.state = State.UNKNOWN
        self.watched_since = watched_since
        self.not_due_before = NEVER  # granted after a change of interval, timeout or bus
        self.stopped = False  # it said goodbye, and has not beaten since
        self.trouble = NO_TROUBLE
        # where it stands in the detector
        self.stage = stage
        self.is_silence_saved = False  # its silence is saved on the bus, or about to be
        self.is_on_wheel = False  # its bus's wheel has one entry for it, never two
        # what was published about it last, for its health key: the event of a miss, the time of an ok
        self.published: bytes | float | None = None
        self.has_turns = False  # that key is written again in turns

    @property
    def watch(self) -> Watch:
        """Its line in the truth, of which only the name and the channel are its own."""
        bus, interval_sec, timeout_sec, alert_on_failure, job, *_ = self.rule
        return Watch(self.svc, bus, self.channel.decode(), interval_sec, timeout_sec, alert_on_failure, job)

    @watch.setter
    def watch(self, watch: Watch) -> None:
        self.svc, self.channel, self.rule = watch.svc, watch.channel.encode(), find_rule(watch)

    def is_under(self, watch: Watch) -> bool:
        """Return True if this is its line in the truth."""
        is_same = self.svc == watch.svc and self.channel == watch.channel.encode()
        return is_same and self.rule == find_rule(watch)

    @property
    def has_schedule(self) -> bool:
        return self.job is not None and self.job.rule.schedule is not None

    # -- payloads

    def parse_next(self) -> None:
        """Have every payload parsed on arrival until the next live beat."""
        self.expected_size = NO_SIZE

    def confirm_counts(self) -> bool:
        """Parse what is new in a payload that was stored unparsed: its `i` and `ts`.

        Return False, and change nothing, if they are not written as usual, or it is a replay.
        """
        payload = self.payload
        counts = parse_counts(payload, len(self.expected_below) - 1, len(payload) - len(self.expected_tail))
        if counts is None or self.instances.is_replay_of_last(counts[0]):
            return False
        self.is_unparsed, self.parsed_at = False, self.last_beat
        self.parsed_i, self.parsed_ts = counts
        return True

    def _confirm_whole(self) -> bool:
        """Parse the whole of a payload that was stored unparsed; return False if it is not a new beat."""
        beat = parse_beat(self.payload, self.svc)
        if isinstance(beat, MalformedBeat) or self.check_replay(beat.boot, beat.i):
            return False
        self.is_unparsed, self.parsed_at = False, self.last_beat
        self.parsed_i, self.parsed_ts = beat.i, beat.ts
        return True

    def store_parsed(self, payload: bytes, beat: Beat, heard: HeardAt) -> None:
        """Keep a parsed beat, and derive how the next payload of the same instance begins and ends."""
        self.payload, self.is_unparsed = payload, False
        self.parsed_at, self.parsed_i, self.parsed_ts = heard, beat.i, beat.ts
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
        kept = BOOTS_KEPT
        if self.job is not None and self.has_schedule:
            kept = JOB_BOOTS_KEPT + len(self.job.runs)
        return self.instances.check_replay(boot, i, kept, is_alive=is_alive)

    def shows_life(self, beat: Beat) -> bool:
        """Return True if, with this payload that was heard, all signs of life of its sender were heard.

        A goodbye is none, but it comes after one: after a gap, that one may be under `beat:<svc>` alone.
        """
        if beat.meaning is not Meaning.GOODBYE:
            return beat.meaning is Meaning.LIFE
        clock, last = self.clock, self.last_beat
        return clock.is_listening and last is not None and last.mono >= clock.listening_since

    def record_stored(self, beat: Beat) -> None:
        """Record the `i` of a stored beat; it may be lower than that of a later report that was heard.

        A goodbye shows that the beat before it was sent.
        """
        if beat.boot is None:
            return
        alive_i = beat.i if beat.meaning is Meaning.LIFE else beat.i - 1
        self.check_replay(beat.boot, beat.i, is_alive=beat.meaning is Meaning.LIFE)
        self.instances.raise_alive_i(beat.boot, alive_i)

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
        is_silent = self.state is _DOWN and (self.failure is None or self.stopped)
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

    def is_news(self, beat: Beat, i: int, age_sec: float, silence_sec: float) -> bool:
        """Return True if the stored beat with this `i` was never heard here.

        Without a `boot`, return True if the beat is younger than the silence, and not the last one.
        """
        if self.is_last(beat, age_sec, silence_sec):
            return False
        if beat.boot is None:
            return age_sec < silence_sec - IN_FLIGHT_SEC
        return self.instances.is_new_life(beat.boot, i)

    def is_last(self, beat: Beat, age_sec: float, silence_sec: float) -> bool:
        """Return True if the stored beat is the one that was heard last, though it looks younger.

        A key without `life` in its beat lives for twice the timeout that it was stored under, so after a
        reseed with a shorter one its age seems to be less than it is. Of a beat that an earlier run of the
        healer heard, only the time is known, by the healer's clock. A sender whose beats are all the same is
        known by neither.
        """
        heard = self.last_beat
        is_its_time = heard is not None and abs(beat.ts - heard.wall) <= IN_FLIGHT_SEC
        if self.parsed_at is None:
            return is_its_time
        longer_sec = self.longest_timeout_sec - self.rule.timeout_sec if beat.life is None else 0.0
        oldest_sec = age_sec + 2 * longer_sec
        may_be_last = is_its_time or oldest_sec >= silence_sec - IN_FLIGHT_SEC
        return may_be_last and (beat.i, beat.ts) == (self.parsed_i, self.parsed_ts)

    def is_last_payload(self, payload: bytes) -> bool:
        """Return True if a stored payload is the one that was heard last, by its bytes and its time.

        Nearly all that is stored by services that die is, and to parse it takes as long as all else about
        them. Of a job, which has runs under way, it counts how old the payload is.
        """
        if payload != self.payload or self.is_unparsed or self.job is not None or self.last_beat is None:
            return False
        return abs(self.parsed_ts - self.last_beat.wall) <= IN_FLIGHT_SEC

    # -- trouble

    @property
    def failure(self) -> ReportedFailure | None:
        """The failure that is to be missed: the one that it reported last, or else the first open one."""
        own, others = self.trouble.failure, self.trouble.open
        return others[0].report if own is None and others else own

    @property
    def failure_via(self) -> str | None:
        """The way by which the failure came that is to be missed; None for one of the service itself."""
        own, others = self.trouble.failure, self.trouble.open
        return others[0].via if own is None and others else None

    @property
    def channel_refused_at(self) -> Moment | None:
        """Since when the bus refuses its channel to the healer; None if it does not."""
        return self.trouble.channel_refused_at

    def change_trouble(self, **changes: Any) -> None:
        """Set attributes of its `Trouble`; if none is another value, as almost always, make no object."""
        trouble = self.trouble
        for name, value in changes.items():
            if getattr(trouble, name) is not value:
                self.trouble = trouble._replace(**changes)
                return

    # -- the rule

    @property
    def warm_up_sec(self) -> float:
        return self.rule.warm_up_sec

    def due(self) -> float:
        """Return when, by the listening clock, the service may be declared down.

        Every gap grants a warm-up, but one silence never gets more than one warm-up in all. A service that
        reported a failure is due at once, if the truth asks for an alert on that. Of a job the runs count.
        """
        due = self._silence_due() if self.job is None else self._job_due(self.job)
        if self.trouble is NO_TROUBLE:  # almost always
            return due
        failure = self.failure
        return due if failure is None else min(due, failure.heard.at)

    def _silence_due(self) -> float:
        """Return when, by the listening clock, its silence is too long: what `due` says, but for failures."""
        rule, last = self.rule, self.last_beat
        warm_up_sec = rule.warm_up_sec
        due = self.watched_since + warm_up_sec if last is None else last.at + rule.timeout_sec
        grace = self.clock.gap_end + warm_up_sec
        if grace > due:
            due = min(grace, due + warm_up_sec)
        due = max(due, self.not_due_before)
        return due if self.trouble is NO_TROUBLE else max(due, self.trouble.starting_until)

    def _job_due(self, job: Job) -> float:
        """Return when a run is overdue or has taken too long; without a schedule, the silence counts, too.

        While a run is under way that has a longest time, the schedule waits for its end. If that may have
        been in a gap, whichever comes first is when `beat:<svc>` is to be read.
        """
        run_due = job.run_due_at()
        if job.rule.schedule is None:
            due = min(self._silence_due(), run_due)
        else:
            due = min(job.due_at, run_due) if job.is_end_unheard or run_due == inf else run_due
        return due

    def evaluate_job(self, now: Moment) -> None:
        if self.job is not None:
            self.job.evaluate(self.clock, now)

    def note_witness(self, now: Moment, age_sec: float | None) -> None:
        """Note what `beat:<svc>` says about the runs of a job: nothing newer than was heard, or nothing.

        `age_sec` is how long ago that was written; None if there is none.
        """
        if self.job is None:
            return
        moved_at = self.job.moved_at
        if age_sec is not None and (moved_at is None or now.mono - age_sec >= moved_at.mono):
            self.job.note_witness(-inf if self.last_beat is None else self.last_beat.mono)
        else:
            self.job.note_no_witness()
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
        is_plain = not self.is_silence_saved and self.job is None and self.failure is None
        look_sec = self.rule.look_sec
        if is_plain and last is not None:
            return last.at + look_sec  # which is before it is due
        due = self.due() if self.job is None else min(self.due(), self.job.look_at)
        if self.is_silence_saved:
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
        if self.trouble is NO_TROUBLE or self.failure is None:
            return False
        is_watched = self.stage is not Stage.RESTORING and self.channel_refused_at is None
        return self.state is not State.DOWN and is_watched

    def miss_reason(self) -> Reason:
        if self.failure is not None:
            return Reason.FAILED
        if self.job is not None:
            if self.job.run_due_at() <= self.due():
                return Reason.NEVER_ENDED
            if self.job.rule.schedule is not None:
                return Reason.OVERDUE
        if self.stopped:
            return Reason.STOPPED
        return Reason.NEVER_SEEN if self.last_beat is None else Reason.SILENT

    # -- transitions

    def move(self, trigger: Trigger) -> Publication:
        """Apply a transition; return where it is to be published."""
        self.state, publication = TRANSITIONS[self.state, trigger]
        return publication

    def move_stage(self, step: Step) -> None:
        """Apply a step of the detector; one that has no place in the table changes nothing."""
        self.stage = STAGES.get((self.stage, step), self.stage)

    def prepare_miss(self, now: Moment) -> None:
        """Prepare the miss: save no silence any more, and have the next payload parsed."""
        self.is_silence_saved = False
        down_since = self._find_down_since(now)
        missed_at = now if self.failure is None else down_since
        # made in a quarter of the time that `_replace` takes
        self.trouble = Trouble(missed_at, down_since, self.trouble.miss_count + 1, *self.trouble[3:])
        self.parse_next()

    def _find_down_since(self, now: Moment) -> Moment | None:
        """Return when the outage began that is about to be missed; None for that of a silence.

        That is when a failure was reported, when a run that is overdue was scheduled, and when one that takes
        too long was to have ended.
        """
        if self.failure is not None:
            return Moment(self.failure.heard.mono, self.failure.heard.wall)
        if self.job is None:
            return None
        reason = self.miss_reason()
        if reason is Reason.NEVER_ENDED:
            return self.job.find_long_run_end(now)
        return self.job.find_missed_run(now) if reason is Reason.OVERDUE else None

    def mark_silence_saved(self) -> None:
        """Note that the silence is saved on the bus.

        The next payload is parsed, so that a beat ends the saved silence.
        """
        self.is_silence_saved = True
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

    def allow_channel(self, running: float) -> Moment | None:
        """Note that the channel is allowed, and begin a warm-up; return since when it was refused."""
        since = self.channel_refused_at
        self.change_trouble(channel_refused_at=None)
        if self.last_beat is None:
            self.watched_since = running
        self.not_due_before = running + self.warm_up_sec
        self.parse_next()
        return since

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
        self.last_beat = heard
        failed = self.failure
        self.change_trouble(starting_until=NOT_STARTING)
        self.clear_failure(beat, is_new_process=is_new_process)
        if self.stage is Stage.RESTORING and failed is not None and self.failure is not failed:
            self.change_trouble(ended_failure=failed)
        if beat.boot != self.instances.last:
            counts = self.parsed_at is not None and not self.has_schedule
            self.instances.switch(beat.boot, self.parsed_at.mono if self.parsed_at and counts else None)
        self.is_silence_saved = False
        self.complete_run(beat, heard)
        self.store_parsed(payload, beat, heard)

    def complete_run(self, beat: Beat, heard: HeardAt) -> None:
        """Record that a run of a job is complete; with a schedule, any sign of life says so."""
        if self.job is not None and self.state is State.DOWN:
            self.job.drop_long_runs(heard.at)
        if self.job is not None and (beat.run == "ended" or self.job.rule.schedule is not None):
            self.job.take_completion(beat, heard)

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
        report, via = ReportedFailure(heard, beat.exit_code, beat.detail), self._find_way(beat, heard)
        known = self.trouble.open
        if via is None:
            if self.trouble.failure is not None:
                return False
            self.change_trouble(failure=report)
        elif len(known) >= MAX_OPEN_FAILURES or any(each.via == via for each in known):
            return False
        else:
            self.change_trouble(open=(*known, OpenFailure(report, via, beat.boot)))
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

    def note_failure(self, beat: Beat, heard: HeardAt) -> None:
        """Note the exit code of a goodbye other than 0, if the truth asks for an alert on that."""
        if self.rule.alert_on_failure and beat.exit_code:
            self.change_trouble(failure=ReportedFailure(heard, beat.exit_code, beat.detail))

    def clear_failure(self, beat: Beat | None = None, *, is_new_process: bool = False) -> None:
        """Forget a failure or a goodbye, since a sign of life followed.

        Of the open failures, forget those that this `beat` ends; all of them without one, and of a job.
        """
        self.stopped = False
        trouble = self.trouble
        if trouble.failure is not None:
            self.change_trouble(failure=None)
        if trouble.open:
            self.change_trouble(
                open=()
                if beat is None or self.job is not None
                else tuple(
                    each for each in trouble.open if not each.is_ended_by(beat, is_new_process=is_new_process)
                )
            )
        if self.stage is Stage.RESTORING and beat is not None and beat.run == "ended":
            ways = dict.fromkeys((*trouble.resolved, beat.via or ANY_WAY))
            self.change_trouble(resolved=tuple(ways)[-MAX_OPEN_FAILURES:])

    def stay_down(self, before: HeardAt | None) -> None:
        """Note that it beats and stays down, since a failure is open; `before` is the last beat before that.

        So the outage continues from where it began.
        """
        if self.trouble.down_since is None and before is not None:
            self.change_trouble(down_since=Moment(before.mono, before.wall))

    def elapsed_sec(self, now: Moment) -> float:
        """Return the silence with which a stored beat is compared; that of a job includes the gaps."""
        if self.job is None or self.job.rule.schedule is None:
            return self.silence_sec(self.clock.read(now.mono))
        return inf if self.last_beat is None else now.mono - self.last_beat.mono

    def is_unheard_life(self, beat: Beat, age_sec: float, silence_sec: float) -> bool:
        """Return True if a stored beat is a sign of life that was never heard here.

        A report that a run started or failed is not a sign of life, and a goodbye is not a sign of life,
        however long its key may live. It shows that there was a beat before it, whose `i` is one less;
        without a `boot` it can't be known whether that beat was heard.
        """
        if beat.meaning is Meaning.REPORT:
            return False
        if beat.meaning is Meaning.LIFE:
            return self.is_news(beat, beat.i, age_sec, silence_sec)
        return beat.boot is not None and self.is_news(beat, beat.i - 1, age_sec, silence_sec)

    # -- stored beats, under `beat:<svc>`

    def take_unheard(self, stored: LastBeat, now: Moment) -> UnheardBeat | None:
        """Record a stored beat that was never heard; return it if it keeps the service up, otherwise None."""
        beat, age = stored.beat, stored.age_sec
        if age is None:
            return None
        before = self.last_beat
        running = self.clock.read(now.mono)
        silence_sec = self.elapsed_sec(now)
        is_life = self.is_unheard_life(beat, age, silence_sec)
        if self.is_news(beat, beat.i, age, silence_sec):
            self.record_stored(beat)
            self.stopped = beat.meaning is Meaning.GOODBYE
            if self.stopped:
                self.note_failure(beat, HeardAt(running, now.mono, now.wall))
        if not is_life:
            return None
        heard = HeardAt(running - age, now.mono - age, now.wall - age)
        if before is None or heard.at > before.at or age < silence_sec:
            self.last_beat = heard
            self.complete_run(beat, heard)
            self.evaluate_job(now)
        if self.due() <= self.clock.proven:
            return None
        is_repeated = before is not None and before is self.trouble.last_unheard
        self.change_trouble(last_unheard=self.last_beat)
        return UnheardBeat(self.svc, self.rule.bus, age, is_repeated)
