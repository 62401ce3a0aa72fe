"""Restore of the state that an earlier run saved, and adoption of the state that another healer published.

Pure; `marketswarm.monitor.state` reads the values from the bus. A healer that stood by and takes over heard
the same as the leader before it, a moment apart, but one of them may have had a gap that the other had not.
The published state counts: the next beat ends a miss, and a service that was published as up and is silent
falls due again.
"""

from collections.abc import Collection, Container, Iterator, Mapping

from marketswarm.detector.bus import make_dropped_bus_verdict
from marketswarm.detector.clock import HeardAt, Moment
from marketswarm.detector.detector import Detector
from marketswarm.detector.job import OTHER_RUN_SEC, ROUNDING_SEC, drop_missed_runs
from marketswarm.detector.saved import NO_FAILURES, LastBeat, SavedService
from marketswarm.detector.service import WatchedService
from marketswarm.detector.states import Publication, Stage, State, Step
from marketswarm.detector.stored import apply_stored_beat
from marketswarm.detector.trouble import (
    ANY_WAY,
    MAX_OPEN_FAILURES,
    OpenFailure,
    PresentSilence,
    ReportedFailure,
    ServiceOutage,
)
from marketswarm.detector.verdict import Verdict


def restore_services(
    detector: Detector,
    saved: Mapping[str, SavedService],
    stored_beats: Mapping[str, LastBeat],
    now: Moment,
    *,
    later: Container[str] = (),
) -> Iterator[Verdict | None]:
    """Restore one service in each step; after the last service the detector is no longer restoring.

    The caller may let other tasks run between two steps. From its step on, a service can come up, and one
    that failed and came up is down in between; no other one is declared down before all are restored, except
    for those in `later`: each of these is not evaluated before its own `restore_service`. `now` is when the
    first step is taken.

    A service that was saved as up and was heard shortly before counts as silent for half its timeout. That is
    safe, since every start grants a warm-up, and a healer that is restarted again and again still reaches a
    verdict. Each step yields its verdicts, or None: a service that was saved as down is up again, or a saved
    service is no longer watched.
    """
    detector.note_awake(now)
    restored: set[str] = set()
    while left := _list_unrestored(detector, saved, restored, later):
        for svc in left:
            service, known = detector.services.get(svc), saved.get(svc)
            if svc in restored:
                known = None  # restored, dropped and added again: its drop is published, it starts as new
            restored.add(svc)
            if service is not None:
                yield from restore_service(detector, svc, known, stored_beats.get(svc), now) or (None,)
            elif known is not None:
                publication = Publication.ALERT if known.state is State.DOWN else Publication.NONE
                yield Verdict(svc, State.UNWATCHED, publication, now.wall, since=known.since)
    detector.is_restoring = False


def restore_service(
    detector: Detector, svc: str, saved: SavedService | None, stored: LastBeat | None, now: Moment
) -> list[Verdict]:
    """Restore one service; return the verdicts that are news: it is up, or failed and is up again.

    Its saved silence is deleted unless it is silent still. Do nothing if it is restored, or was dropped since
    it was left for later.
    """
    service, verdicts = detector.services.get(svc), list[Verdict]()
    if service is None or service.stage is not Stage.RESTORING:
        return verdicts
    silence = service.silence
    service.move_stage(Step.RESTORED)
    heard, service.last_beat = service.last_beat, None
    if saved is not None:
        if heard_only_replays(service, saved):
            heard = None
            service.parse_next()
            detector.counts.replayed += 1
        apply_saved(service, saved, now)
        detector.observer.service_restored(service, saved, stored, now)
    # a service that was heard needs no stored beat, and news in it must stay news, because it would show that
    # we are deaf
    if stored is not None and heard is None and service.state is not State.DOWN:
        apply_stored_beat(service, stored, now)
    elif stored is not None and heard is None and (up := detector.end_outage(svc, stored, now)) is not None:
        verdicts.append(up)
    if heard is not None:
        verdicts += _apply_heard(detector, service, heard, silence, now)
        if saved is not None:
            detector.silences.delete(svc)
    elif service.state is State.DOWN:
        # a run that was killed after publishing the miss may have left its silence, on a clock that is no
        # more
        detector.silences.delete(svc)
    elif service.state is State.UNKNOWN and service.last_beat and _is_sign_of_life(service, stored):
        verdicts.append(detector.bring_up(service, now, before=None))
    else:
        service.mark_silence_saved()
        detector.silences.save(service)  # as a reading of this run's clock
    detector.note_host(service)
    detector.bus_of(service).schedule(service)
    return verdicts


def _list_unrestored(
    detector: Detector, saved: Mapping[str, SavedService], restored: Collection[str], later: Container[str]
) -> list[str]:
    """Return the services that are still to be restored; the roster may change between two steps."""
    waiting = [
        svc
        for svc, service in detector.services.items()
        if service.stage is Stage.RESTORING and svc not in later
    ]
    return waiting + [svc for svc in saved if svc not in detector.services and svc not in restored]


def _apply_heard(
    detector: Detector, service: WatchedService, heard: HeardAt, silence: PresentSilence, now: Moment
) -> list[Verdict]:
    """Apply what was heard before the restore: perhaps a failure that has ended, and the beat after it.

    The failure is missed, unless a later one has not ended.
    """
    verdicts: list[Verdict] = []
    failure, service.trouble = service.trouble.due_failure, service.trouble.begin_ended()
    if service.trouble.due_failure is not failure:
        if service.state is not State.DOWN:
            verdicts.append(detector.declare_down(service, now))
        service.end_failures()
    before, service.last_beat, service.silence = service.last_beat, heard, silence
    if service.state is not State.UP and not service.trouble.open:
        verdicts.append(detector.bring_up(service, heard, before=before))
    return verdicts


def heard_only_replays(service: WatchedService, saved: SavedService) -> bool:
    """Return True if all beats heard before the restore are replays of beats in an earlier run."""
    heard = service.instances.to_dict()
    if not heard:
        return False
    # a service that is up beats, and another healer may have saved the very beat that was heard here
    is_down = saved.state is State.DOWN
    known = saved.last_beat.instances() if saved.last_beat is not None and is_down else {}
    if saved.boot is not None:
        known[saved.boot] = max(saved.i, known.get(saved.boot, 0))
    return all(i <= known.get(boot, -1) for boot, i in heard.items())


def apply_saved(service: WatchedService, saved: SavedService, now: Moment) -> None:
    """Apply the saved state of an earlier run to a service: state, silence and instances.

    Each run's listening clocks begin at 0, so a restored silence begins at a negative reading.
    """
    _enter_saved(service, saved, now)
    silent_sec = _count_silence(service, saved)
    if not saved.seen:
        service.watched_since = -silent_sec
    else:
        since = now.at_wall(now.wall - silent_sec if saved.since is None else saved.since)
        service.last_beat = HeardAt(-silent_sec, since.mono, since.wall)
    known = {} if saved.boot is None or not saved.seen else {saved.boot: saved.i}
    if saved.last_beat is not None:
        known |= {boot: max(i, known.get(boot, 0)) for boot, i in saved.last_beat.instances().items()}
        service.silence = service.silence.stop(saved.last_beat.stopped)
        service.host = service.host or saved.last_beat.host
    if known:
        service.instances.add_older(known)
    if service.job is not None:
        heard = service.last_beat or HeardAt(-silent_sec, now.mono - silent_sec, now.wall - silent_sec)
        job = saved.job and drop_missed_runs(saved.job, service.job.rule, saved.recovered_at)
        service.job.restore(job, heard, service.clock.stamp(now))
        expected = service.job.expected
        if expected.has_run and (service.has_schedule or heard.mono < expected.since.mono):
            service.last_beat = expected.since


def _count_silence(service: WatchedService, saved: SavedService) -> float:
    """Return for how many seconds it counts as silent, after an earlier run saved that or did not.

    A silence that was allowed by a longer timeout counts as half of the present one at most: it proves
    nothing under that, so the warm-up of this start is what the service has to be heard in.
    """
    half_sec = service.rule.timeout_sec / 2
    if saved.silent_sec is None:
        return half_sec
    is_shorter = saved.silent_under_sec is not None and saved.silent_under_sec > service.rule.timeout_sec
    return min(saved.silent_sec, half_sec) if is_shorter else saved.silent_sec


def _enter_saved(service: WatchedService, saved: SavedService, now: Moment) -> None:
    """Restore the state, and of a service that is down the outage, as far as it is known."""
    missed_at = None if saved.missed_at is None else now.at_wall(saved.missed_at)
    down_since = None if saved.down_since is None else now.at_wall(saved.down_since)
    is_down = saved.state is State.DOWN
    service.enter(saved.state, ServiceOutage(missed_at, down_since) if is_down else None)
    open_here, resolved = service.trouble.open, service.trouble.resolved
    if resolved:
        service.trouble = service.trouble._replace(resolved=())
    if is_down and service.job is None and ANY_WAY not in resolved:
        found = _find_open_failures(saved, (down_since or missed_at or now).wall)
        known = {*resolved, *(each.via for each in open_here)}
        here = service.clock.stamp(now)
        restored = [
            OpenFailure(ReportedFailure(here.at_wall(found[via])._replace(at=here.at), None), via)
            for via in sorted(found, key=found.__getitem__)
            if via not in known
        ]
        if restored:
            still_open = (*restored, *open_here)[:MAX_OPEN_FAILURES]
            service.trouble = service.trouble._replace(open=still_open)


def _find_open_failures(saved: SavedService, since: float) -> Mapping[str, float]:
    """Return the failures that were open: by the way each came, when it was reported, in epoch seconds.

    Those that were noted with the last beat count, if they are of this outage, which began at `since`: the
    published one may be over. Without a note, as of a healer that was killed at once, that one counts.
    """
    noted = NO_FAILURES if saved.last_beat is None else saved.last_beat.failures
    found = {via: at for via, at in noted.items() if at >= since - ROUNDING_SEC}
    return found or ({} if saved.open_via is None else {saved.open_via: since})


def _is_sign_of_life(service: WatchedService, stored: LastBeat | None) -> bool:
    """Return True if the stored beat alone shows that a service is up: half a timeout old at most."""
    if stored is None or stored.age_sec is None or service.silence.stopped:
        return False
    return stored.age_sec <= service.rule.timeout_sec / 2


def restore_lost_bus(
    detector: Detector, name: str, since: float | None, now: Moment, *, as_deaf: bool = False
) -> Verdict | None:
    """Apply that a bus was published as lost; `since` is when it was last heard, in epoch seconds.

    Return the verdict that it is found, if it is heard already; None for a bus lost `as_deaf`, which one
    canary does not end. For a bus that is no longer watched, return the verdict that closes its loss.
    """
    bus = detector.buses.get(name)
    if bus is None:
        return make_dropped_bus_verdict(name, since, now)
    return bus.restore_lost(since, now, as_deaf=as_deaf)


def adopt_state(detector: Detector, svc: str, published: SavedService, now: Moment) -> Verdict | None:
    """Apply the state that the leader before us published; delete the saved silence of one that is down.

    Return the verdict that a job is up that was published as down, if we heard a run complete since then; its
    next one may be a day away.
    """
    service = detector.services.get(svc)
    if service is None:
        return None
    verdict = None
    if service.state is not published.state:
        if State.DOWN in (service.state, published.state):
            service.history.drop_gap(service)  # the change of state is published
        if published.state is State.DOWN:
            back = _find_run_after_miss(service, published)
            _adopt_down(service, published, now)
            detector.silences.delete(svc)
            if back is not None:
                before, service.last_beat = service.last_beat, back
                verdict = detector.bring_up(service, now, before=before, back=back)
        elif published.state is State.UP:
            _adopt_up(service, published, now)
            detector.bus_of(service).schedule(service)
        detector.note_host(service)
    if service.job is not None:
        if published.job is not None:
            job = drop_missed_runs(published.job, service.job.rule, published.recovered_at)
            service.job.adopt(job, service.clock, now)
        detector.bus_of(service).schedule(service)  # a run that only the leader heard may be due earlier
    detector.observer.lead_taken_over(service, published, now)
    return verdict


def _find_run_after_miss(service: WatchedService, published: SavedService) -> HeardAt | None:
    """Return when we heard a complete run of a job that the leader has published as down before that."""
    heard, missed_at, failure = service.last_beat, published.missed_at, service.trouble.due_failure
    if not service.has_schedule or failure is not None or heard is None or missed_at is None:
        return None
    return heard if heard.wall > missed_at + OTHER_RUN_SEC else None


def _adopt_down(service: WatchedService, published: SavedService, now: Moment) -> None:
    """Adopt a miss that the leader published; its `since` is the last beat that the leader knew."""
    service.end_failures()
    _enter_saved(service, published, now)
    service.confirm(service.clock.read(now.mono))
    service.move_stage(Step.ANSWERED)
    if published.since is not None:
        # the outage began with the last beat that the leader knew, whatever was heard here since then
        service.last_beat = service.clock.stamp(now).at_wall(published.since)


def _adopt_up(service: WatchedService, published: SavedService, now: Moment) -> None:
    """Adopt an ok that the leader published: it heard a beat at an unknown time.

    So the service counts as silent for at most half its timeout, as it does after a start.
    """
    here, ago_sec = service.clock.stamp(now), service.rule.timeout_sec / 2
    if service.job is not None and service.state is State.DOWN:
        service.job.drop_long_runs(here.at)
    service.enter(State.UP, None)
    service.end_failures()
    if service.last_beat is None or service.silence_sec(here.at) > ago_sec:
        service.last_beat = here.earlier(ago_sec)
    if service.job is not None and published.job is None:
        service.job.adopt(None, service.clock, now)


def is_miss_overruled(
    detector: Detector, svc: str, published: SavedService, now: Moment, *, is_silent: bool, had_until: float
) -> bool:
    """Return True if a service that only we hold for down was heard by the leader before us.

    That leader published it as up, had the time to publish the same miss, and heard more than we did: of a
    job with a schedule a later run, for which the next one is not overdue yet; of a service, that it was not
    silent for three quarters of its timeout. A failure, and what a job without a schedule did not report,
    stays a miss.

    Args:
        detector: the detector that holds it for down.
        published: what the leader published, and knew about its runs.
        now: when we take over.
        is_silent: whether the leader saved a silence of the service, or did not hear its bus.
        had_until: misses that were concluded before this the leader had the time to publish (monotonic).
    """
    service = detector.services.get(svc)
    if service is None or service.state is not State.DOWN or published.state is not State.UP:
        return False
    missed_at = None if service.outage is None else service.outage.missed_at
    if missed_at is None or missed_at.mono > had_until:
        return False
    if service.job is None:
        return service.trouble.due_failure is None and not is_silent
    run, schedule, failure = published.job, service.job.rule.schedule, service.trouble.due_failure
    if run is None or schedule is None or not run.has_run:
        return False
    known = service.job.expected.since.wall if failure is None else failure.heard.wall
    following = schedule.next_run(run.expected_from)
    is_overdue = following is not None and following + service.job.rule.grace_sec <= now.wall
    return run.expected_from > known + OTHER_RUN_SEC and not is_overdue
