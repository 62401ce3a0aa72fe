"""Services whose channel a bus does not let the healer hear: nothing can be concluded of them.

Pure. All others on that bus are judged as ever. A service that can be heard again gets a warm-up.
"""

from collections.abc import Collection

from marketswarm.detector.clock import Moment
from marketswarm.detector.record import Record
from marketswarm.detector.roster import Roster
from marketswarm.detector.verdict import Of, State, Told, Verdict


def refuse(life: Roster, bus_name: str, channels: Collection[str], now: Moment) -> list[Verdict]:
    """Takes note of all channels that a bus refuses; returns whom that begins or ends to hide."""
    bus = life.buses.get(bus_name)
    if bus is None:
        return []
    bus.refused = frozenset(channel.encode() for channel in channels)
    found = []
    for channel, record in bus.channels.items():
        if channel in bus.refused and record.refused is None:
            record.refused = now
            found.append(_verdict(record.watch.svc, State.DOWN, now, record=record))
        elif channel not in bus.refused and record.refused is not None:
            found.append(_allow(record, now))
    return found


def recall_refused(life: Roster, svc: str, since: float, now: Moment) -> Verdict | None:
    """Takes up that a service was told not watchable `since`, in epoch seconds; returns what follows."""
    record = life.records.get(svc)
    if record is None:
        return _verdict(svc, State.UNWATCHED, now)
    if record.refused is not None:
        return None
    record.refused = Moment(now.mono - now.since(since), since)
    known = record.bus.refused
    return _allow(record, now) if known is not None and record.watch.channel.encode() not in known else None


def _allow(record: Record, now: Moment) -> Verdict:
    since, record.refused = record.refused, None
    running = record.bus.clock.running(now.mono)
    if record.last is None:
        record.enter = running
    record.floor = running + record.warm_up_sec
    record.estrange()
    record.bus.file(record)
    return _verdict(record.watch.svc, State.UP, now, record=record, since=since)


def _verdict(
    svc: str, state: State, now: Moment, *, record: Record | None = None, since: Moment | None = None
) -> Verdict:
    last = record.last if record is not None else None
    return Verdict(
        svc,
        state,
        Told.ALERT,
        now.wall,
        of=Of.WATCH,
        reason="auth" if state is State.DOWN else None,
        since=last.wall if last is not None and state is State.DOWN else None,
        down_sec=now.mono - since.mono if since is not None else None,
    )
