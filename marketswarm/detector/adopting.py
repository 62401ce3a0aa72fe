"""What a listener that stood by takes over from the leader before it: verdicts that differ from its own.

Pure. Both heard the same, a moment apart, but one may have had a gap that the other had not. What was told
stands: a miss is closed by the next beat, and who was told up and is silent falls due again.
"""

from marketswarm.detector.clock import Moment
from marketswarm.detector.judgement import Liveness
from marketswarm.detector.record import Heard, Record
from marketswarm.detector.verdict import Remembered, State


def adopt(life: Liveness, svc: str, told: Remembered, now: Moment) -> None:
    """Put a service into the state that was told of it."""
    record = life.records.get(svc)
    if record is None or record.state is told.state:
        return
    if told.state is State.DOWN:
        _put_down(record, told, now)
        life.dirty[svc] = None
    elif told.state is State.UP:
        _put_up(record, now)


def adopt_bus(life: Liveness, name: str) -> None:
    """Takes it that a bus is not told lost; if it is not heard, its loss is declared anew."""
    bus = life.buses.get(name)
    if bus is not None and bus.state is State.DOWN:
        bus.state, bus.lost, bus.deaf = State.UP, None, False


def _put_down(record: Record, memory: Remembered, now: Moment) -> None:
    record.vet()
    record.estrange()
    record.state = State.DOWN
    record.marked = record.asked = False
    record.forget_gap()
    if memory.since is not None:
        # the outage began with the last beat that the leader knew, whatever was heard since then
        silent_sec = now.since(memory.since)
        running = record.bus.clock.running(now.mono)
        record.last = Heard(running - silent_sec, now.mono - silent_sec, memory.since)


def _put_up(record: Record, now: Moment) -> None:
    """A beat that only the leader heard: how long ago is unknown, so half a timeout, as at a start."""
    record.state = State.UP
    ago_sec = record.watch.timeout_sec / 2
    running = record.bus.clock.running(now.mono)
    if record.last is None or record.silence(running) > ago_sec:
        record.last = Heard(running - ago_sec, now.mono - ago_sec, now.wall - ago_sec)
    record.bus.file(record)
