"""What is stored of a service while its channel was not heard: the beat under `beat:<svc>`, a run's report.

Pure. Each function decides what a stored value shows beyond what was heard, and records that in the service.
"""

from math import inf

from marketswarm.beat import Beat, Meaning
from marketswarm.detector.clock import HeardAt, Moment
from marketswarm.detector.saved import EndedRun, FailedRun, LastBeat
from marketswarm.detector.service import IN_FLIGHT_SEC, WatchedService
from marketswarm.detector.trouble import ReportedFailure
from marketswarm.detector.verdict import UnheardBeat

# -- whether a stored beat is news


def find_elapsed_sec(service: WatchedService, now: Moment) -> float:
    """Return the silence with which a stored beat is compared; that of a job includes the gaps."""
    if not service.has_schedule:
        return service.silence_sec(service.clock.read(now.mono))
    return inf if service.last_beat is None else now.mono - service.last_beat.mono


def is_last(service: WatchedService, beat: Beat, age_sec: float, silence_sec: float) -> bool:
    """Return True if the stored beat is the one that was heard last, though it looks younger.

    A key without `life` in its beat lives for twice the timeout that it was stored under, so after a reseed
    with a shorter one its age seems to be less than it is. Of a beat that an earlier run of the healer heard,
    only the time is known, by the healer's clock. A sender whose beats are all the same is known by neither.
    """
    heard = service.last_beat
    is_its_time = heard is not None and abs(beat.ts - heard.wall) <= IN_FLIGHT_SEC
    if service.parsed_at is None:
        return is_its_time
    longer_sec = service.longest_timeout_sec - service.rule.timeout_sec if beat.life is None else 0.0
    oldest_sec = age_sec + 2 * longer_sec
    may_be_last = is_its_time or oldest_sec >= silence_sec - IN_FLIGHT_SEC
    return may_be_last and (beat.i, beat.ts) == (service.parsed_i, service.parsed_ts)


def is_news(service: WatchedService, beat: Beat, i: int, age_sec: float, silence_sec: float) -> bool:
    """Return True if the stored beat with this `i` was never heard here.

    Without a `boot`, return True if the beat is younger than the silence, and not the last one.
    """
    if is_last(service, beat, age_sec, silence_sec):
        return False
    if beat.boot is None:
        return age_sec < silence_sec - IN_FLIGHT_SEC
    return service.instances.is_new_life(beat.boot, i)


def is_unheard_life(service: WatchedService, beat: Beat, age_sec: float, silence_sec: float) -> bool:
    """Return True if a stored beat shows a sign of life that was never heard here.

    A report that a run started or failed is not a sign of life, and a goodbye is not a sign of life, however
    long its key may live. It shows that there was a beat before it, whose `i` is one less; without a `boot`
    it can't be known whether that beat was heard.
    """
    if beat.meaning is Meaning.REPORT:
        return False
    if beat.meaning is Meaning.LIFE:
        return is_news(service, beat, beat.i, age_sec, silence_sec)
    return beat.boot is not None and is_news(service, beat, beat.i - 1, age_sec, silence_sec)


def _record(service: WatchedService, beat: Beat, now: HeardAt) -> None:
    """Record the `i` of a stored beat, and whether it is a goodbye.

    The `i` may be lower than that of a later report that was heard. A goodbye shows that the beat before it
    was sent.
    """
    is_life = beat.meaning is Meaning.LIFE
    if beat.boot is not None:
        service.check_replay(beat.boot, beat.i, is_alive=is_life)
        service.instances.raise_alive_i(beat.boot, beat.i if is_life else beat.i - 1)
    if beat.meaning is Meaning.GOODBYE:
        service.take_goodbye(beat, now)
    else:
        service.silence = service.silence.stop(False)


# -- what it changes


def take_unheard(service: WatchedService, stored: LastBeat, now: Moment) -> UnheardBeat | None:
    """Record a stored beat that was never heard; return it if it keeps the service up, otherwise None."""
    beat, age = stored.beat, stored.age_sec
    if age is None:
        return None
    before, here = service.last_beat, service.clock.stamp(now)
    silence_sec = find_elapsed_sec(service, now)
    is_life = is_unheard_life(service, beat, age, silence_sec)
    if is_news(service, beat, beat.i, age, silence_sec):
        _record(service, beat, here)
    if not is_life:
        return None
    heard = here.earlier(age)
    if before is None or heard.at > before.at or age < silence_sec:
        service.last_beat = heard
        service.complete_run(beat, heard)
        service.evaluate_job(now)
    if service.due() <= service.clock.proven:
        return None
    is_repeated = before is not None and before is service.silence.unheard
    service.silence = service.silence._replace(unheard=service.last_beat)
    return UnheardBeat(service.svc, service.rule.bus, age, is_repeated)


def note_witness(service: WatchedService, stored: LastBeat | None, now: Moment) -> None:
    """Note what `beat:<svc>` says about the runs of a job: nothing newer than was heard, or nothing.

    A report that is not a sign of life should not be there: it replaced one that may have been.
    """
    job = service.job
    if job is None:
        return
    is_report = stored is None or stored.beat.meaning is Meaning.REPORT
    age_sec = None if stored is None or is_report else stored.age_sec
    if age_sec is not None and (job.moved_at is None or now.mono - age_sec >= job.moved_at.mono):
        job.note_witness(-inf if service.last_beat is None else service.last_beat.mono)
    else:
        job.note_no_witness()
    job.evaluate(service.clock, now)


def end_outage(service: WatchedService, stored: LastBeat, now: Moment) -> HeardAt | None:
    """Record a stored beat that was never heard and ends the outage of a service that is down.

    Return when it was sent, or None if it ends nothing: a goodbye, a beat from before the miss, one that was
    heard, and one that is as old as a service without a schedule may be silent.
    """
    beat, age, outage = stored.beat, stored.age_sec, service.outage
    if outage is None or outage.missed_at is None or age is None or now.mono - age < outage.missed_at.mono:
        return None
    if beat.meaning is not Meaning.LIFE or not is_news(
        service, beat, beat.i, age, find_elapsed_sec(service, now)
    ):
        return None
    if not service.has_schedule and age >= service.rule.timeout_sec:
        return None
    is_new_process = beat.boot is not None and service.instances.find_i(beat.boot) is None
    if not all(each.is_ended_by(beat, is_new_process=is_new_process) for each in service.trouble.open):
        return None
    here = service.clock.stamp(now)
    heard = here.earlier(age)
    _record(service, beat, here)
    service.end_failures()
    service.complete_run(beat, heard)
    service.last_beat = heard
    service.parse_next()
    return heard


def end_open_failure(service: WatchedService, ended: EndedRun) -> None:
    """Close the open failure that came the same way as a later report that all is well."""
    trouble = service.trouble
    left = (each for each in trouble.open if each.via != ended.via or each.report.heard.wall >= ended.ts)
    service.trouble = trouble._replace(open=tuple(left))
    service.parse_next()  # so that the next beat ends the outage


def take_unheard_failure(service: WatchedService, failed: FailedRun, now: Moment) -> bool:
    """Record that a run failed unheard; return False unless that is later than all that is known.

    The beat under `beat:<svc>` counts as well, since a sign of life may have followed. Of a job with a
    schedule that was restored, the last run counts, and not when its silence was saved.
    """
    job, last = service.job, service.last_beat
    if job is None or service.trouble.due_failure is not None:
        return False
    if failed.alive_ts is not None and failed.alive_ts >= failed.ts:
        return False
    last_heard = last.wall if last is not None and job.rule.schedule is None else -inf
    if not job.take_unheard_failure(failed.ts, last_heard, now):
        return False
    ago_sec = now.since(failed.ts)
    heard = HeardAt(service.clock.read(now.mono), now.mono - ago_sec, now.wall - ago_sec)
    failure = ReportedFailure(heard, failed.exit_code, failed.detail)
    service.trouble = service.trouble._replace(failure=failure)
    return True


def apply_stored_beat(service: WatchedService, stored: LastBeat, now: Moment) -> None:
    """Record the beat under `beat:<svc>` as the last one heard, after the saved state was restored.

    It counts as half a timeout old at most, because an older one would make the service due for a time in
    which perhaps the bus was away. A beat that is no younger than the restored silence changes nothing of it:
    that silence began with this beat. One that is hardly younger is not a further run of a job, because its
    age is read from a key, a moment before or after `now`. A goodbye marks the service as stopped.
    """
    beat, age = stored.beat, stored.age_sec
    if age is None or beat.meaning is Meaning.REPORT:
        return
    here, silence_sec = service.clock.stamp(now), find_elapsed_sec(service, now)
    is_known = service.has_schedule and is_last(service, beat, age, silence_sec)
    is_life = beat.meaning is Meaning.LIFE or is_unheard_life(service, beat, age, silence_sec)
    _record(service, beat, here)
    # the last one is not another run, though a shorter timeout makes it look younger
    sent, last = here.earlier(age), service.last_beat
    if is_known and last is not None:
        sent = last
    elif is_life and (last is None or age < silence_sec):
        at = here.at - min(age, service.rule.timeout_sec / 2)
        service.last_beat = sent._replace(at=at)
        if last is None or age < silence_sec - IN_FLIGHT_SEC:
            service.complete_run(beat, service.last_beat)
    job = service.job
    is_later = job is not None and sent.mono > job.expected.since.mono + IN_FLIGHT_SEC
    if is_life and is_later and service.has_schedule:
        service.complete_run(beat, sent)  # its ok was published, and the job was not saved yet
