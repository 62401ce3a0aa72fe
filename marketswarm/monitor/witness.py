"""The last beats that services stored under `beat:<svc>`, read 500 at a time: a second witness of a silence.

A failure of a job is not a sign of life, so it is not there; `read_last_runs` finds it under `run:<svc>`.

The age of a beat follows from the time to live of its key: the life with which its sender stored it, less the
remaining life. The beat says that life; of one that does not say it, it is twice the timeout. No clocks are
compared. A service may write anything under its key, so no more bytes are read than a beat may
have.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from marketswarm.beat import (
    MAX_BEAT_BYTES,
    MAX_EXIT_CODE,
    Beat,
    MalformedBeat,
    compute_beat_age_sec,
    parse_beat,
)
from marketswarm.bus import Bus, BusError
from marketswarm.bus.scripts import Script
from marketswarm.bus.stored_values import report_unusable
from marketswarm.detector import EndedRun, FailedRun, LastBeat
from marketswarm.keys import last_beat_key, last_run_key
from marketswarm.monitor.last_run import parse_last_run
from marketswarm.pages import split_pages

BATCH_SIZE: Final = 500
LAST_BEATS_SCRIPT: Final = Script.beside("marketswarm.monitor", "last_beats.lua")


@dataclass(slots=True)
class StoredBeats:
    """The result of reading the last beats of the `services`.

    `found` has the last beats; `unreadable` has, for a value that is not a beat, what is wrong with it. A
    service in neither of them stored no last beat.
    """

    services: Sequence[str]
    found: dict[str, LastBeat] = field(default_factory=dict)
    unreadable: dict[str, MalformedBeat] = field(default_factory=dict)


IsKnown = Callable[[str, bytes], bool]


async def read_last_beats(
    bus: Bus, timeouts: Mapping[str, float], is_known: IsKnown | None = None
) -> AsyncIterator[StoredBeats]:
    """Read the last beats of services, given with their timeouts in seconds, 500 at a time.

    A payload for whose service `is_known` returns True is not parsed, and is in no answer.

    If reading a batch fails, read its services one by one, so that one bad key can't hide the others. A
    service that could not be read is in no answer. Raise BusError if the bus is away.
    """
    services = iter(timeouts.items())
    while batch := dict(islice(services, BATCH_SIZE)):
        try:
            yield await _read_batch(bus, batch, is_known)
        except BusError as error:
            if len(batch) == 1:
                raise
            batch_error = error
            async for answer in _read_one_by_one(bus, batch, is_known, batch_error):
                yield answer


async def read_last_runs(
    bus: Bus, services: Sequence[str]
) -> AsyncIterator[tuple[str, FailedRun | EndedRun]]:
    """Read the last runs of services under `run:<svc>`, 250 at a time.

    Yield, with their services, those that failed, and those that somebody else reported to be well. A value
    that can't be used is reported and left out. Raise BusError.
    """
    for batch in split_pages(services, BATCH_SIZE // 2):
        keys = [make(svc) for svc in batch for make in (last_run_key, last_beat_key)]
        replies = await bus.script(LAST_BEATS_SCRIPT, keys, [MAX_BEAT_BYTES])
        for svc, run, beat in zip(batch, replies[::4], replies[2::4], strict=True):
            found = _parse_run(bus, svc, run, beat)
            if found is not None:
                yield svc, found


def _parse_run(bus: Bus, svc: str, run: bytes, beat: bytes) -> FailedRun | EndedRun | None:
    """Return None for a run that concerns nobody; report a value that can't be used."""
    if not run:
        return None
    last = parse_last_run(run) if len(run) <= MAX_BEAT_BYTES else None
    if last is None or last.svc != svc or last.ok is None or last.ts is None:
        report_unusable(bus.name, last_run_key(svc))
        return None
    if last.ok:
        return None if last.via is None else EndedRun(last.ts, last.via)
    if last.quiet:
        return None
    alive = parse_beat(beat, svc)
    alive_ts = alive.ts if isinstance(alive, Beat) else None
    code = last.code if last.code is not None and last.code <= MAX_EXIT_CODE else None
    return FailedRun(last.ts, code, alive_ts, last.detail)


async def _read_one_by_one(
    bus: Bus, timeouts: Mapping[str, float], is_known: IsKnown | None, batch_error: BusError
) -> AsyncIterator[StoredBeats]:
    """Read each service alone; raise `batch_error`, the error of reading all together, if none can be read.

    Raise BusError at once if the bus is away.
    """
    read = 0
    for svc, timeout_sec in timeouts.items():
        try:
            yield await _read_batch(bus, {svc: timeout_sec}, is_known)
            read += 1
        except BusError as error:
            if error.reason != "error":
                raise
    if not read:
        raise batch_error


async def _read_batch(bus: Bus, timeouts: Mapping[str, float], is_known: IsKnown | None) -> StoredBeats:
    """Read and parse the last beats of these services with one script. Raise BusError."""
    replies = await bus.script(LAST_BEATS_SCRIPT, [last_beat_key(svc) for svc in timeouts], [MAX_BEAT_BYTES])
    answer = StoredBeats(list(timeouts))
    for (svc, timeout_sec), payload, left_ms in zip(
        timeouts.items(), replies[::2], replies[1::2], strict=True
    ):
        if not payload or (is_known is not None and is_known(svc, payload)):
            continue
        beat = parse_beat(payload, svc)
        if isinstance(beat, Beat):
            answer.found[svc] = LastBeat(beat, compute_beat_age_sec(timeout_sec, left_ms, beat))
        else:
            answer.unreadable[svc] = beat
    return answer
