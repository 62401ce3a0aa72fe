"""What an earlier run knew, taken up again: verdicts, silences and who beat meanwhile.

Pure; where it is kept is `vigil`'s business. Each run's listening clocks begin at nought, so a silence
that was saved as so many seconds of listening simply reaches back before the beginning.
"""

from collections.abc import Collection, Iterator, Mapping

from marketswarm.detector.clock import Moment
from marketswarm.detector.gap import before_the_start
from marketswarm.detector.judgement import Liveness
from marketswarm.detector.record import Heard, Record
from marketswarm.detector.verdict import Remembered, State, Testimony, Told, Verdict


def recall(
    life: Liveness,
    remembered: Mapping[str, Remembered],
    testimonies: Mapping[str, Testimony],
    now: Moment,
) -> Iterator[Verdict | None]:
    """Restore one service in each step; after the last service `life` is no longer held.

    The caller may let others run between two steps. A service that is restored can be heard to be up from
    then on; no service is declared down before all are restored. `now` is when the first step is taken.

    A service that is remembered up and was heard shortly before counts as silent for half its timeout:
    the warm-up that every start brings makes that safe, and a healer that is restarted for ever still
    gets to its verdict. Yield in each step what already follows, if anything does: a service is up again
    that was remembered down, or a remembered one is no longer watched.
    """
    life.woke(now)
    restored: set[str] = set()
    while left := _left(life, remembered, restored):
        for svc in left:
            record, memory = life.records.get(svc), remembered.get(svc)
            if svc in restored:
                memory = None  # it was restored, dropped and added again: its drop is told, it begins anew
            restored.add(svc)
            if record is not None and record.held:
                yield _recall_one(life, record, memory, testimonies.get(svc), now)
            elif record is None and memory is not None:
                yield _unwatched(svc, memory, now)
    life.held = False


def _left(life: Liveness, remembered: Mapping[str, Remembered], restored: Collection[str]) -> list[str]:
    """Who is still to be restored; a change of the roster between two steps may bring and take services."""
    held = [svc for svc, record in life.records.items() if record.held]
    return held + [svc for svc in remembered if svc not in life.records and svc not in restored]


def _recall_one(
    life: Liveness, record: Record, memory: Remembered | None, testimony: Testimony | None, now: Moment
) -> Verdict | None:
    """Restore one service; return that it is up if it was not, and this is known by now."""
    svc, verdict, record.held = record.watch.svc, None, False
    heard, record.last = record.last, None
    stopped = record.stopped
    if memory is not None:
        if _heard_replays_alone(record, memory):
            heard = None
            record.estrange()
            life.counts.replayed += 1
        _restore(record, memory, now)
        _take_note(record, memory, testimony, now)
    # who was heard needs no other word, and news in it must stay news: it would show that we are deaf
    if testimony is not None and heard is None and record.state is not State.DOWN:
        _attest(record, testimony, now)
    if heard is not None:
        before, record.last = record.last, heard
        record.stopped = stopped
        if memory is not None:
            life.dirty[svc] = None
        if record.state is not State.UP:
            verdict = life.came_up(record, heard, before=before)
    elif record.state is State.DOWN:
        # a run that was killed after telling it may have left its silence, on a clock that is no more
        life.dirty[svc] = None
    elif record.state is State.UNKNOWN and record.last and _beats(record, testimony):
        verdict = life.came_up(record, now, before=None)
    else:
        record.marked = True
        life.dirty[svc] = record
    record.bus.file(record)
    return verdict


def _beats(record: Record, testimony: Testimony | None) -> bool:
    """Whether the other witness alone shows that a service is up: a start need not wait for its next beat."""
    if testimony is None or testimony.age_sec is None or record.stopped:
        return False
    return testimony.age_sec <= record.watch.timeout_sec / 2


def recall_bus(
    life: Liveness, name: str, since: float | None, now: Moment, *, deaf: bool = False
) -> Verdict | None:
    """Takes up that a bus was told lost, and `since` when, in epoch seconds, it had not been heard.

    One that was lost as `deaf` is not found by a single canary. Returns `bus_ok` if it is heard already.
    """
    bus = life.buses.get(name)
    if bus is None:
        return None
    was_heard = bus.state is State.UP
    bus.state, bus.deaf = State.DOWN, deaf
    if since is not None:
        bus.lost = Moment(now.mono - now.since(since), since)
    return bus.regained(now) if was_heard else None


def _restore(record: Record, memory: Remembered, now: Moment) -> None:
    record.state = memory.state
    silent_for = record.watch.timeout_sec / 2 if memory.silent_for is None else memory.silent_for
    if not memory.seen:
        record.enter = -silent_for
        return
    since = now.wall - silent_for if memory.since is None else memory.since
    record.last = Heard(-silent_for, now.mono - now.since(since), since)
    if memory.boot is not None:
        record.boots[memory.boot] = max(memory.i, record.boots.get(memory.boot, 0))


def _take_note(record: Record, memory: Remembered, testimony: Testimony | None, now: Moment) -> None:
    """Takes up what is to be held against the first beat that is heard."""
    noted = memory.noted
    if noted is None:
        return
    for boot, i in noted.instances().items():
        record.boots[boot] = max(i, record.boots.get(boot, 0))
    record.stopped = noted.stopped
    if record.state is State.UP:
        known = before_the_start(record, noted, testimony, now)
        # of whom an ok was told just before the end there may be no note yet
        told = {memory.boot} if memory.boot is not None else set()
        record.before = known._replace(among=known.among | told)
        record.estrange()


def _heard_replays_alone(record: Record, memory: Remembered) -> bool:
    """Tells what was heard before there was a memory to hold it against: old beats, and nothing else."""
    # what is up beats, and another healer may just have noted the same beat
    known = memory.noted.instances() if memory.noted is not None and memory.state is State.DOWN else {}
    if memory.boot is not None:
        known[memory.boot] = max(memory.i, known.get(memory.boot, 0))
    return bool(record.boots) and all(i <= known.get(boot, -1) for boot, i in record.boots.items())


def _attest(record: Record, testimony: Testimony, now: Moment) -> None:
    """Takes the other witness's word for life, but for no longer silence than half a timeout.

    An older beat would convict a service for the time when perhaps it was the bus that was away. One that
    is no younger than the silence that is remembered is no news: it is where that silence begins.
    """
    beat, age = testimony.beat, testimony.age_sec
    if age is None:
        return
    running = record.bus.clock.running(now.mono)
    goodbye = beat.status == "stopping"
    lives = not goodbye or record.is_unheard_life(beat, age, running)
    record.is_replay(beat.boot, beat.i)  # takes note of it
    record.stopped = goodbye
    if lives and (record.last is None or age < record.silence(running)):
        at = running - min(age, record.watch.timeout_sec / 2)
        record.last = Heard(at, now.mono - age, now.wall - age)


def _unwatched(svc: str, memory: Remembered, now: Moment) -> Verdict:
    told = Told.ALERT if memory.state is State.DOWN else Told.FORGOTTEN
    return Verdict(svc, State.UNWATCHED, told, now.wall, since=memory.since)
