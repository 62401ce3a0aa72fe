"""The hashes in which a monitor keeps its state on a bus: keys, reading, writing.

There are four hashes. The roster holds each verdict; publish.lua writes it. `<listener>:silence` holds how
long each service has been silent, once that is worth saving: `<at> <since> <seen> <bus> <timeout>`, where
`at` is a reading of the bus's listening clock, and `timeout` the timeout in force. Its field `@<bus>` holds
that clock's own reading, `<at> <wall>`, written in the same step. `<listener>:heard` holds the last beat of
each service as JSON (`SavedBeat`), to be compared with its next one. `<listener>:jobs` holds what is known
about the runs of jobs (`job_entry.py`).
"""

import re
from collections.abc import AsyncIterator, Callable, Container, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from math import inf
from typing import Final, NamedTuple, TypeVar

import orjson

from marketswarm.beat import MAX_BOOT_CHARS, MAX_HOST_CHARS, MAX_VIA_CHARS
from marketswarm.bus import Bus, BusError
from marketswarm.bus.stored_values import (
    MAX_DURATION_SEC,
    MAX_EPOCH_SEC,
    parse_count,
    parse_decimal,
    parse_duration,
    parse_epoch,
    parse_number,
    parse_object,
    parse_text,
    parse_values,
    replace_unusable,
    report_unusable,
)
from marketswarm.bus.transaction import BusTransaction, commit
from marketswarm.detector import Detector, Moment, SavedBeat, SavedJob, SavedService, State, WatchedService
from marketswarm.detector.service import BOOTS_KEPT
from marketswarm.detector.trouble import MAX_OPEN_FAILURES
from marketswarm.keys import heard_key, jobs_key, monitor_lease_key, roster_key, silence_key
from marketswarm.monitor.encoder import BUS_FIELD, REACH_FIELD, TRUTH_FIELD, WATCH_FIELD
from marketswarm.monitor.job_entry import encode_job_entry, parse_job_entry
from marketswarm.monitor.leadership import Fence
from marketswarm.monitor.roster_entry import RosterEntry, parse_entry
from marketswarm.time_slice import TimeSlice
from marketswarm.truth.model import SERVICE_NAME

SCAN_COUNT: Final = 5000
SCANNED_AT_ONCE: Final = 100
"""Fields that are yielded before the next look at the clock; each costs as much as a field."""
BATCH_SIZE: Final = 2000
MAX_SILENCE_BYTES: Final = 500
_FIELD: Final = re.compile(rf"({BUS_FIELD}|{TRUTH_FIELD}|{WATCH_FIELD}|{REACH_FIELD})?{SERVICE_NAME.pattern}")

_UP: Final = b'"verdict":"up"'  # in an entry of a service that is up, as the publisher writes it

T = TypeVar("T")
Clocks = Mapping[str, tuple[float, float]]
MAX_SAVED_BEAT_BYTES: Final = 65_536
"""Bytes; a saved beat with the most instances that are kept, each with the longest name, is shorter."""


class SavedSilence(NamedTuple):
    """A saved silence, which began `at` by the listening clock of `bus`, and at `since` in epoch seconds.

    If the service was never `seen`, the silence began when it was first watched, and `since` is 0. It was
    measured under `timeout_sec`, which an entry of before 0.2 does not say.
    """

    at: float
    since: float
    seen: bool
    bus: str
    timeout_sec: float | None = None


@dataclass(eq=False)
class SavedState:
    """What an earlier run saved, as it was read from its hashes: a service's part is parsed when it is taken.

    Of a hundred thousand services, most were up, and nothing about them is urgent at a start. `silences`,
    `clocks` and `jobs` are parsed already.
    """

    store: "StateStore"
    roster: dict[str, bytes]
    """The entries, as they were saved, that were not taken yet."""
    silences: dict[str, SavedSilence]
    clocks: Clocks
    heard: dict[str, bytes]
    """The last beats of services, as they were saved, that were not taken yet."""
    jobs: dict[str, SavedJob]

    def find_urgent(self, watched: Container[str]) -> list[str]:
        """Return the fields of all that was not simply up: down, silent, a bus, or not `watched`.

        For this, entries are not parsed: one that only looks like that of a service that is up is parsed
        when it is taken.
        """
        fields = [field for field, raw in self.roster.items() if _UP not in raw or field not in watched]
        return list(dict.fromkeys((*fields, *self.silences)))

    def take_entry(self, field: str) -> RosterEntry | None:
        """Return the roster's entry, which can be taken once; None if there is none that can be read."""
        raw = self.roster.pop(field, None)
        bus, key = self.store.bus.name, self.store.roster_key
        return None if raw is None else parse_entry(bus, key, field, raw)

    def take(self, svc: str, bus: str, entry: RosterEntry | None) -> SavedService | None:
        """Return what was saved about a service that is on `bus` now and has this entry; None for nothing."""
        silence, raw = self.silences.get(svc), self.heard.pop(svc, None)
        last_beat = None if raw is None else self.store.parse_saved_beat(svc, raw)
        if entry is None and silence is None:
            return None
        return combine_service(entry, silence, self.clocks.get(bus), bus, last_beat)


class StateStore:
    """The hashes of one listener (`healer` or `sentinel`) on one bus.

    Every async method may raise BusError.
    """

    def __init__(self, bus: Bus, listener: str) -> None:
        self.bus = bus
        self.roster_key = roster_key(listener)
        self.silence_key = silence_key(listener)
        self.heard_key = heard_key(listener)
        self.jobs_key = jobs_key(listener)
        self.lease_key = monitor_lease_key(listener)

    async def load_roster(self, match: str | None = None) -> dict[str, RosterEntry]:
        """Return the roster's verdicts by field, or those that `match`; report those that can't be read."""
        found: dict[str, RosterEntry] = {}
        async for field, value in self._scan(self.roster_key, match):
            if not self._is_field(field):
                continue
            entry = parse_entry(self.bus.name, self.roster_key, field, value)
            if entry is not None:
                found[field] = entry
        return found

    async def load_state(self, watched: Container[str], *, has_jobs: bool) -> SavedState:
        """Return all that an earlier run saved. `watched` has the services of the roster in force.

        Without jobs, no right to their key is needed, which users from before don't have.
        """
        roster = {
            field: value
            async for field, value in self._scan(self.roster_key)
            if field in watched or self._is_field(field)
        }
        silences, clocks = await self.load_silences()
        heard = {svc: raw async for svc, raw in self._scan(self.heard_key)}
        return SavedState(self, roster, silences, clocks, heard, await self.load_jobs() if has_jobs else {})

    def _is_field(self, field: str) -> bool:
        """Return True for a name that a field of the roster may have; report any other one."""
        if _FIELD.fullmatch(field) is not None:
            return True
        report_unusable(self.bus.name, self.roster_key, field)
        return False

    def parse_saved_beat(self, svc: str, raw: bytes) -> SavedBeat | None:
        """Report and return None for an unusable value."""
        saved = parse_saved_beat(raw)
        if saved is None:
            report_unusable(self.bus.name, self.heard_key, svc)
        return saved

    async def load_silences(self) -> tuple[dict[str, SavedSilence], dict[str, tuple[float, float]]]:
        """Return the saved silences by service, and the saved clocks by bus: reading and wall time.

        A field that can't be read is reported and left out.
        """
        services: dict[str, SavedSilence] = {}
        clocks: dict[str, tuple[float, float]] = {}
        async for field, value in self._scan(self.silence_key):
            found = parse_saved_silence(value)
            if found is None or (found.bus == "") is not field.startswith("@"):
                report_unusable(self.bus.name, self.silence_key, field)
            elif field.startswith("@"):
                clocks[field[1:]] = found.at, found.since
            else:
                services[field] = found
        return services, clocks

    async def load_saved_beats(self) -> dict[str, SavedBeat]:
        """Return the saved last beats by service; a field that can't be read is reported and left out."""
        heard = {svc: self.parse_saved_beat(svc, raw) async for svc, raw in self._scan(self.heard_key)}
        return {svc: saved for svc, saved in heard.items() if saved is not None}

    async def load_jobs(self) -> dict[str, SavedJob]:
        """Return the saved state of jobs by service; a field that can't be read is reported and left out."""
        found: dict[str, SavedJob] = {}
        async for svc, raw in self._scan(self.jobs_key):
            job = parse_job_entry(raw)
            if job is None:
                report_unusable(self.bus.name, self.jobs_key, svc)
            else:
                found[svc] = job
        return found

    async def replace_unusable(self, error: BusError) -> bool:
        """Delete the keys of the listener that are not a hash, if that is the error.

        Return True to have the request retried.
        """
        keys = (self.roster_key, self.silence_key, self.heard_key, self.jobs_key, self.lease_key)
        return await replace_unusable(error, self.bus, dict.fromkeys(keys, "hash"))

    async def save_jobs(self, fence: Fence, jobs: Mapping[str, SavedJob | None]) -> bool:
        """Write the state of jobs, delete the fields that are None; return False if another process leads."""
        return await self._save(self.jobs_key, fence, jobs, encode_job_entry, {})

    async def save_beats(self, fence: Fence, beats: Mapping[str, SavedBeat | None]) -> bool:
        """Write the last beats, delete the fields that are None; return False if another process leads."""
        return await self._save(self.heard_key, fence, beats, encode_saved_beat, {})

    async def save_silences(
        self, fence: Fence, changed: Mapping[str, WatchedService | None], detector: Detector, now: Moment
    ) -> bool:
        """Write silences together with the readings of their clocks, and delete the fields that are None.

        Return False if another process leads.
        """
        clocks = {
            f"@{name}": f"{bus.clock.proven:.3f} {now.wall:.3f}" for name, bus in detector.buses.items()
        }
        return await self._save(self.silence_key, fence, changed, encode_silence, clocks)

    async def _save(
        self,
        key: str,
        fence: Fence,
        changed: Mapping[str, T | None],
        encode: Callable[[T], str | bytes],
        always: Mapping[str, str],
    ) -> bool:
        """Write fields of a hash, and delete those that are None, 2000 at a time, each time with `always`.

        Return False if another process leads.
        """
        left = iter(changed.items())  # no list of a hundred thousand
        for _ in range(0, max(1, len(changed)), BATCH_SIZE):
            batch = dict(islice(left, BATCH_SIZE))
            written = {field: encode(value) for field, value in batch.items() if value is not None}
            save = BusTransaction()
            if fence.boot:
                save.require(self.lease_key, "boot", fence.boot)
                save.require(self.lease_key, "epoch", str(fence.epoch))
            save.write_hash(key, {**always, **written}, [field for field in batch if field not in written])
            if not await commit(self.bus, save):
                return False
        return True

    async def _scan(self, key: str, match: str | None = None) -> AsyncIterator[tuple[str, bytes]]:
        """Yield each field of a hash with its value, letting other tasks run between them. Raise BusError."""
        cursor, time_slice = 0, TimeSlice()
        while True:
            cursor, found = await self.bus.ask(
                self.bus.client.hscan(key, cursor, match=match, count=SCAN_COUNT)
            )
            for at, (field, value) in enumerate(found.items()):
                if not at % SCANNED_AT_ONCE:
                    await time_slice.pause()
                yield field.decode("utf-8", "replace"), value
            if not cursor:
                return


def parse_saved_silence(value: bytes) -> SavedSilence | None:
    """Parse a saved silence, or a clock's reading, for which `bus` is empty.

    Return None for anything else.
    """
    if len(value) > MAX_SILENCE_BYTES:
        return None
    parts = value.decode("utf-8", "replace").split(" ")
    if len(parts) not in (2, 4, 5):
        return None
    at = parse_decimal(parts[0], -MAX_DURATION_SEC, MAX_DURATION_SEC)
    since = parse_decimal(parts[1], 0.0, MAX_EPOCH_SEC)
    seen, bus = parts[2:4] or ("1", "")
    timeout_sec = parse_decimal(parts[4], 0.0, MAX_DURATION_SEC) if len(parts) > 4 else None
    if at is None or since is None or seen not in ("0", "1") or (timeout_sec is None and len(parts) > 4):
        return None
    return SavedSilence(at, since, seen == "1", bus, timeout_sec)


def encode_silence(service: WatchedService) -> str:
    """Return five values, which `SavedSilence` explains."""
    at, end = service.find_silence_to_save(), _encode_rule(service.rule.bus, service.rule.timeout_sec)
    if service.last_beat is None:
        return f"{at:.3f} 0 0 {end}"
    return f"{at:.3f} {service.last_beat.wall:.3f} 1 {end}"


@lru_cache(maxsize=1024)  # to format a number takes long, and thousands may fall silent at once
def _encode_rule(bus: str, timeout_sec: float) -> str:
    return f"{bus} {timeout_sec:.3f}"


def combine_service(
    entry: RosterEntry | None,
    silence: SavedSilence | None,
    clock: tuple[float, float] | None,
    bus: str,
    last_beat: SavedBeat | None,
) -> SavedService:
    """Return the saved state of one service from its parts; `clock` is that of its present `bus`.

    A silence counts only on the clock by which it was saved: if the service has moved to another bus, it
    counts as not saved.
    """
    state = State.UNKNOWN if entry is None else entry.verdict
    at, wall = clock or (0.0, None)
    since, seen, silent_sec = None if entry is None else entry.since, entry is not None, None
    under_sec = None
    if silence is not None and not silence.seen and entry is not None:
        silence = None  # it ended when the service came up; that run was killed before it deleted this
    if silence is not None:
        is_same_clock = wall is not None and silence.bus == bus
        silent_sec = max(0.0, at - silence.at) if is_same_clock else None
        under_sec = silence.timeout_sec
        seen, since = silence.seen, silence.since if silence.seen else None
    elif entry is not None and state is State.UP:
        # it was beating when the clocks were last written, if it had come up by then
        since = max(entry.ts, wall or 0.0) or None
    if state is State.DOWN:
        seen = since is not None
    boot, i = (None, 0) if entry is None else (entry.boot, entry.i or 0)
    saved = SavedService(state, since, silent_sec, seen, boot, i, last_beat, silent_under_sec=under_sec)
    if entry is not None and state is State.DOWN:
        saved = replace(saved, missed_at=entry.ts or None, down_since=entry.down_since(), open_via=entry.via)
    elif entry is not None and entry.ended is not None:
        saved = replace(saved, recovered_at=entry.ts or None)
    return saved


def encode_saved_beat(beat: SavedBeat) -> bytes:
    """Leave out the values that are empty."""
    more = b',"stopped":true' if beat.stopped else b""
    if beat.others:
        more += b',"beside":%b' % orjson.dumps(beat.others)
    if beat.pace_sec:
        more += b',"pace_sec":%.3f' % beat.pace_sec
    if beat.timeout_sec:
        more += b',"timeout_sec":%a' % beat.timeout_sec
    if beat.failures:
        more += b',"failures":%b' % orjson.dumps({via: round(at, 3) for via, at in beat.failures.items()})
    if beat.host is not None:
        more += b',"host":%b' % orjson.dumps(beat.host)
    # a boot of letters and digits, as agents have it, needs no escapes
    boot = b'"%b"' % beat.boot.encode() if beat.boot.isalnum() else orjson.dumps(beat.boot)
    return b'{"boot":%b,"i":%d,"ts":%a,"wall":%.3f%b}' % (boot, beat.i, beat.ts, beat.wall, more)


def parse_saved_beat(raw: bytes) -> SavedBeat | None:
    """Return None for an unusable value."""
    found = parse_object(raw, MAX_SAVED_BEAT_BYTES)
    boot, i = parse_text(found.get("boot"), MAX_BOOT_CHARS), parse_count(found.get("i"))
    ts, wall = parse_number(found.get("ts"), -inf, inf), parse_epoch(found.get("wall"))
    pace_sec, timeout_sec = (parse_duration(found.get(key, 0.0)) for key in ("pace_sec", "timeout_sec"))
    beside = found.get("beside", {})
    if isinstance(beside, list):  # until 0.1.0 only the boots were saved
        beside = dict.fromkeys(beside, 0) if all(type(boot) is str for boot in beside) else None
    others = parse_values(beside, BOOTS_KEPT, MAX_BOOT_CHARS, parse_count)
    failures = parse_values(found.get("failures", {}), MAX_OPEN_FAILURES, MAX_VIA_CHARS, parse_epoch)
    if boot is None or i is None or ts is None or wall is None:
        return None
    if pace_sec is None or timeout_sec is None or others is None or failures is None:
        return None
    host = parse_text(found.get("host"), MAX_HOST_CHARS)  # without a usable one, the rest counts all the same
    is_stopped = found.get("stopped") is True
    return SavedBeat(boot, i, ts, wall, is_stopped, others, pace_sec, timeout_sec, failures, host)
