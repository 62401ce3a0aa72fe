"""Restore a service's state from an older truth, a saved run, the leader's roster or `beat:<svc>`. Pure.

The sender may have written `beat:<svc>` and `run:<svc>` while no healer listened. Nothing here is called when
a service is missed: `service.py` has the rule for that.
"""

from math import inf

from marketswarm.beat import Meaning
from marketswarm.detector.clock import HeardAt, Moment
from marketswarm.detector.job import OTHER_RUN_SEC, ROUNDING_SEC, drop_missed_runs
from marketswarm.detector.service import IN_FLIGHT_SEC, WatchedService
from marketswarm.detector.trouble import (
    ANY_WAY,
    MAX_OPEN_FAILURES,
    NOT_STARTING,
    OpenFailure,
    ReportedFailure,
)
from marketswarm.detector.verdict import NO_FAILURES, EndedRun, FailedRun, LastBeat, SavedService, State, Step


class RestorableService(WatchedService):
    """A service of the roster, as the detector makes it."""

    __slots__ = ()

    # -- another line of the truth

    def inherit(self, old: WatchedService, moment: Moment) -> None:
        """Take over the state of `old`, the same service under another line of the truth.

        The silence continues; it is never due before a warm-up from now. The run of a job that is expected or
        under way is not due earlier than it was, for as long as that.
        """
        now, old_now = self.clock.read(moment.mono), old.clock.read(moment.mono)
        ahead_sec = now - old_now
        before = now - old.silence_sec(old_now)
        self.watched_since = before
        self.longest_timeout_sec = max(old.longest_timeout_sec, self.rule.timeout_sec)
        self.last_beat = None if old.last_beat is None else old.last_beat._replace(at=before)
        self.state, self.instances, self.stopped = old.state, old.instances, old.stopped
        # its channel counts as refused until the bus says otherwise
        self.trouble = old.trouble
        self.change_trouble(last_unheard=None)
        if self.trouble.starting_until > NOT_STARTING:
            self.change_trouble(starting_until=self.trouble.starting_until + ahead_sec)
        self.published = old.published
        self.not_due_before = now + self.warm_up_sec
        self.payload, self.parsed_i, self.parsed_ts = old.payload, old.parsed_i, old.parsed_ts
        self.parsed_at = None if old.parsed_at is None else self.last_beat
        if self.has_schedule:
            self.instances.forget_others()
        self.host = old.host
        if self.job is not None and old.job is not None:
            had_gap = old.job.find_heard_since(old.clock, moment.mono) > old.job.expected_from.mono
            self.job.inherit(old.job, ahead_sec, is_same_bus=self.clock is old.clock, had_gap=had_gap)
            here = HeardAt(now, moment.mono, moment.wall)
            self.job.keep_deadlines(old.job, here, ahead_sec, self.warm_up_sec)
        trouble = old.trouble
        if trouble.failure is not None:
            self.change_trouble(failure=trouble.failure.shift(ahead_sec))
        if trouble.open:
            self.change_trouble(open=tuple(each.shift(ahead_sec) for each in trouble.open))
        if old.trouble.ended_failure is not None:
            self.change_trouble(ended_failure=old.trouble.ended_failure.shift(ahead_sec))
        self.is_silence_saved = old.is_silence_saved

    # -- stored beats and runs

    def end_outage(self, stored: LastBeat, now: Moment) -> HeardAt | None:
        """Record a stored beat that was never heard and ends the outage of a service that is down.

        Return when it was sent, or None if it ends nothing: a goodbye, a beat from before the miss, one that
        was heard, and one that is as old as a service without a schedule may be silent.
        """
        beat, age = stored.beat, stored.age_sec
        missed_at = self.trouble.missed_at
        if missed_at is None or age is None or now.mono - age < missed_at.mono:
            return None
        if beat.meaning is Meaning.GOODBYE or not self.is_unheard_life(beat, age, self.elapsed_sec(now)):
            return None
        if not self.has_schedule and age >= self.rule.timeout_sec:
            return None
        is_new_process = beat.boot is not None and self.instances.find_i(beat.boot) is None
        if not all(each.is_ended_by(beat, is_new_process=is_new_process) for each in self.trouble.open):
            return None
        self.record_stored(beat)
        self.clear_failure()
        heard = HeardAt(self.clock.read(now.mono) - age, now.mono - age, now.wall - age)
        self.complete_run(beat, heard)
        self.last_beat = heard
        self.parse_next()
        return heard

    def end_open_failure(self, ended: EndedRun) -> None:
        """Close the open failure that came the same way as a later report that all is well."""
        left = (
            each for each in self.trouble.open if each.via != ended.via or each.report.heard.wall >= ended.ts
        )
        self.change_trouble(open=tuple(left))
        self.parse_next()  # so that the next beat ends the outage

    def take_unheard_failure(self, failed: FailedRun, now: Moment) -> bool:
        """Record that a run failed unheard; return False unless that is later than all that is known.

        The beat under `beat:<svc>` counts as well, since a sign of life may have followed. Of a job with a
        schedule that was restored, the last run counts, and not when its silence was saved.
        """
        if self.job is None or self.failure is not None:
            return False
        if failed.alive_ts is not None and failed.alive_ts >= failed.ts:
            return False
        last_heard = -inf
        if self.job.rule.schedule is None and self.last_beat is not None:
            last_heard = self.last_beat.wall
        if not self.job.take_unheard_failure(failed.ts, last_heard, now):
            return False
        ago_sec = now.since(failed.ts)
        heard = HeardAt(self.clock.read(now.mono), now.mono - ago_sec, now.wall - ago_sec)
        self.change_trouble(failure=ReportedFailure(heard, failed.exit_code, failed.detail))
        return True

    def apply_stored_beat(self, stored: LastBeat, now: Moment) -> None:
        """Record the beat under `beat:<svc>` as the last one heard, after the saved state was restored.

        It counts as half a timeout old at most, because an older one would make the service due for a time in
        which perhaps the bus was away. A beat that is no younger than the restored silence changes nothing of
        it: that silence began with this beat. One that is hardly younger is not a further run of a job,
        because its age is read from a key, a moment before or after `now`. A goodbye marks the service as
        stopped.
        """
        beat, age = stored.beat, stored.age_sec
        if age is None:
            return
        if beat.meaning is Meaning.REPORT:
            return
        running = self.clock.read(now.mono)
        is_goodbye = beat.meaning is Meaning.GOODBYE
        silence_sec = self.elapsed_sec(now)
        is_last = self.has_schedule and self.is_last(beat, age, silence_sec)
        is_life = not is_goodbye or self.is_unheard_life(beat, age, silence_sec)
        self.record_stored(beat)
        self.stopped = is_goodbye
        if is_goodbye:
            self.note_failure(beat, HeardAt(running, now.mono, now.wall))
        # the last one is not another run, though a shorter timeout makes it look younger
        sent = self.last_beat if is_last else None
        if is_life and sent is None and (self.last_beat is None or age < silence_sec):
            is_saved_run = self.last_beat is not None and age >= silence_sec - IN_FLIGHT_SEC
            at = running - min(age, self.rule.timeout_sec / 2)
            self.last_beat = HeardAt(at, now.mono - age, now.wall - age)
            if not is_saved_run:
                self.complete_run(beat, self.last_beat)
        sent = sent or HeardAt(running - age, now.mono - age, now.wall - age)
        is_later = self.job is not None and sent.mono > self.job.expected_from.mono + IN_FLIGHT_SEC
        if is_life and is_later and self.has_schedule:
            self.complete_run(beat, sent)  # its ok was published, and the job was not saved yet

    # -- restore and takeover

    def heard_only_replays(self, saved: SavedService) -> bool:
        """Return True if all beats heard before the restore are replays of beats in an earlier run."""
        heard = self.instances.to_dict()
        if not heard:
            return False
        # a service that is up beats, and another healer may have saved the very beat that was heard here
        is_down = saved.state is State.DOWN
        known = saved.last_beat.instances() if saved.last_beat is not None and is_down else {}
        if saved.boot is not None:
            known[saved.boot] = max(saved.i, known.get(saved.boot, 0))
        return all(i <= known.get(boot, -1) for boot, i in heard.items())

    def restore(self, saved: SavedService, now: Moment) -> None:
        """Apply the saved state of an earlier run: state, silence and instances.

        Each run's listening clocks begin at 0, so a restored silence begins at a negative reading.
        """
        self.state = saved.state
        self._restore_miss(saved, now)
        silent_sec = self._count_silence(saved)
        if not saved.seen:
            self.watched_since = -silent_sec
        else:
            since = now.wall - silent_sec if saved.since is None else saved.since
            self.last_beat = HeardAt(-silent_sec, now.mono - now.since(since), since)
        known = {} if saved.boot is None or not saved.seen else {saved.boot: saved.i}
        if saved.last_beat is not None:
            known |= {boot: max(i, known.get(boot, 0)) for boot, i in saved.last_beat.instances().items()}
            self.stopped = saved.last_beat.stopped
            self.host = self.host or saved.last_beat.host
        if known:
            self.instances.add_older(known)
        if self.job is not None:
            heard = self.last_beat or HeardAt(-silent_sec, now.mono - silent_sec, now.wall - silent_sec)
            job = saved.job and drop_missed_runs(saved.job, self.job.rule, saved.recovered_at)
            self.job.restore(job, heard, self.clock.read(now.mono), now)
            if self.job.has_run and (self.has_schedule or heard.mono < self.job.expected_from.mono):
                self.last_beat = self.job.expected_from

    def _count_silence(self, saved: SavedService) -> float:
        """Return for how many seconds it counts as silent, after an earlier run saved that or did not.

        A silence that was allowed by a longer timeout counts as half of the present one at most: it proves
        nothing under that, so the warm-up of this start is what the service has to be heard in.
        """
        half_sec = self.rule.timeout_sec / 2
        if saved.silent_sec is None:
            return half_sec
        is_shorter = saved.silent_under_sec is not None and saved.silent_under_sec > self.rule.timeout_sec
        return min(saved.silent_sec, half_sec) if is_shorter else saved.silent_sec

    def _restore_miss(self, saved: SavedService, now: Moment) -> None:
        """Restore when a service that is down was missed, and since when, as far as that is known."""
        missed_at, since = self.trouble.missed_at, saved.down_since
        if saved.missed_at is not None:
            missed_at = Moment(now.mono - now.since(saved.missed_at), saved.missed_at)
        down_since = None if since is None else Moment(now.mono - now.since(since), since)
        self.change_trouble(missed_at=missed_at, down_since=down_since)
        self._restore_open_failures(saved, down_since or missed_at or now, now)

    def _restore_open_failures(self, saved: SavedService, since: Moment, now: Moment) -> None:
        """Open the failures that were open, unless their end was heard before the restore.

        `since` is when the outage began. Those that were noted with the last beat count, if they are of this
        outage: the published one may be over. Without a note, as of a healer that was killed at once, that
        one counts.
        """
        open_here, resolved = self.trouble.open, self.trouble.resolved
        self.change_trouble(resolved=())
        if self.job is not None or saved.state is not State.DOWN or ANY_WAY in resolved:
            return
        noted = NO_FAILURES if saved.last_beat is None else saved.last_beat.failures
        found = {via: at for via, at in noted.items() if at >= since.wall - ROUNDING_SEC}
        if not found and saved.open_via is not None:
            found = {saved.open_via: since.wall}
        running, restored = self.clock.read(now.mono), list[OpenFailure]()
        for via, at in sorted(found.items(), key=lambda each: each[1]):
            if via not in resolved and all(each.via != via for each in open_here):
                heard = HeardAt(running, now.mono - now.since(at), at)
                restored.append(OpenFailure(ReportedFailure(heard, None), via))
        if restored:
            self.change_trouble(open=(*restored, *open_here)[:MAX_OPEN_FAILURES])

    def begin_ended_failure(self) -> bool:
        """Make a failure that ended before the restore the present one.

        Return False if there was none, or a later one has not ended.
        """
        ended = self.trouble.ended_failure
        if ended is None:
            return False
        self.change_trouble(ended_failure=None)
        if self.failure is not None:
            return False
        self.change_trouble(failure=ended)
        return True

    def find_run_after_miss(self, published: SavedService) -> HeardAt | None:
        """Return when we heard a complete run of a job that the leader has published as down before that."""
        heard, missed_at = self.last_beat, published.missed_at
        if not self.has_schedule or self.failure is not None or heard is None or missed_at is None:
            return None
        return heard if heard.wall > missed_at + OTHER_RUN_SEC else None

    def adopt_down(self, published: SavedService, now: Moment) -> None:
        """Adopt a miss that the leader published; its `since` is the last beat that the leader knew."""
        since = published.since
        self.clear_failure()
        self._restore_miss(published, now)
        self.confirm(self.clock.read(now.mono))
        self.parse_next()
        self.state = State.DOWN
        self.is_silence_saved = False
        self.move_stage(Step.ANSWERED)
        if since is not None:
            # the outage began with the last beat that the leader knew, whatever was heard here since then
            silent_sec = now.since(since)
            running = self.clock.read(now.mono)
            self.last_beat = HeardAt(running - silent_sec, now.mono - silent_sec, since)

    def adopt_up(self, published: SavedService, now: Moment) -> None:
        """Adopt an ok that the leader published: it heard a beat at an unknown time.

        So the service counts as silent for at most half its timeout, as it does after a start.
        """
        running = self.clock.read(now.mono)
        if self.job is not None and self.state is State.DOWN:
            self.job.drop_long_runs(running)
        self.state = State.UP
        self.clear_failure()
        ago_sec = self.rule.timeout_sec / 2
        if self.last_beat is None or self.silence_sec(running) > ago_sec:
            self.last_beat = HeardAt(running - ago_sec, now.mono - ago_sec, now.wall - ago_sec)
        if self.job is not None and published.job is None:
            self.job.adopt(None, self.clock, now)
