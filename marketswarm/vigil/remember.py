"""What a listener keeps on the bus about silence, so that a restart forgets none.

Three hashes: the roster holds each verdict (tell.lua writes it), the silence hash how long each service has
been silent once that is worth keeping. Its entries are readings of a listening clock, `<at> <since> <seen>
<bus>`; under `@<bus>` lies that clock's own reading, `<at> <wall>`, written with them in one step. The third
holds notes of each service's last beat, to be held against the next one (`noted.py`).
"""

from collections.abc import AsyncIterator, Mapping
from itertools import chain
from typing import Any, Final, NamedTuple

import orjson

from marketswarm.bus import Bus
from marketswarm.liveness import Liveness, Moment, Noted, Of, Record, Remembered, State, Verdict
from marketswarm.scripts import Script
from marketswarm.vigil.noted import read_note, write_note
from marketswarm.vigil.voice import NOT_THE_LEADER, Fence

SCAN: Final = 5000
AT_ONCE: Final = 2000
BUS_FIELD: Final = "bus:"
TRUTH_FIELD: Final = "truth:"
WATCH_FIELD: Final = "watch:"
"""Roster fields of buses, of the truth on them, and of services that may not be heard, begin with these.

No service's name can."""

_SAVE: Final = Script.beside("marketswarm.vigil", "save.lua")

Entry = dict[str, Any]


class Silence(NamedTuple):
    """A saved silence: since when by the listening clock of `bus`, since when in epoch seconds.

    A service that was not `seen` has been silent since it is watched; there is no `since` then.
    """

    at: float
    since: float
    seen: bool
    bus: str


Clocks = Mapping[str, tuple[float, float]]


class Memory:
    """The hashes of one listener on one bus. Every method may raise BusError."""

    def __init__(self, bus: Bus, listener: str) -> None:
        self.bus = bus
        self.roster_key = f"{listener}:roster"
        self.silence_key = f"{listener}:silence"
        self.heard_key = f"{listener}:heard"
        self.lease_key = f"{listener}:lease"

    async def roster(self, match: str | None = None) -> dict[str, Entry]:
        """Every verdict that is stored, by service (or `bus:<name>`); what can't be read is left out."""
        found: dict[str, Entry] = {}
        async for field, value in self._scan(self.roster_key, match):
            entry = read_entry(value)
            if entry is not None:
                found[field] = entry
        return found

    async def silences(self) -> tuple[dict[str, Silence], dict[str, tuple[float, float]]]:
        """Silences by service, and by bus what its clock read (`at`) and when (`wall`) on the last saving."""
        services: dict[str, Silence] = {}
        clocks: dict[str, tuple[float, float]] = {}
        async for field, value in self._scan(self.silence_key):
            try:
                at, wall, *rest = value.decode().split(" ", 3)
                if field.startswith("@"):
                    clocks[field[1:]] = float(at), float(wall)
                else:
                    seen, bus = rest
                    services[field] = Silence(float(at), float(wall), seen == "1", bus)
            except ValueError:
                continue
        return services, clocks

    async def notes(self) -> dict[str, Noted]:
        """The last beats that were noted, by service; what can't be read is left out."""
        found = {svc: read_note(raw) async for svc, raw in self._scan(self.heard_key)}
        return {svc: noted for svc, noted in found.items() if noted is not None}

    async def save_notes(self, fence: Fence, notes: Mapping[str, Noted | None]) -> bool:
        """Writes notes, and forgets those that are None; False: another one leads."""
        kept = [(svc, write_note(noted)) for svc, noted in notes.items() if noted is not None]
        gone = [svc for svc, noted in notes.items() if noted is None]
        fields: list[str | bytes] = [each for pair in kept for each in pair]
        args: list[str | bytes | float] = [*fence, len(kept), *fields, len(gone), *gone]
        return bool(await self.bus.script(_SAVE, [self.lease_key, self.heard_key], args) != NOT_THE_LEADER)

    async def save(
        self, fence: Fence, changed: Mapping[str, Record | None], life: Liveness, now: Moment
    ) -> bool:
        """Writes the silences that changed with the clocks they are read on; False: another one leads."""
        clocks: list[str] = []
        for name, bus in life.buses.items():
            clocks += [f"@{name}", f"{bus.clock.proven:.3f} {now.wall:.3f}"]
        kept = [(svc, record) for svc, record in changed.items() if record is not None]
        gone = [svc for svc, record in changed.items() if record is None]
        keys = [self.lease_key, self.silence_key]
        while True:
            some, kept = kept[:AT_ONCE], kept[AT_ONCE:]
            went, gone = gone[:AT_ONCE], gone[AT_ONCE:]
            fields = [*clocks, *chain.from_iterable((svc, _written(record)) for svc, record in some)]
            args: list[str | bytes | float] = [*fence, len(fields) // 2, *fields, len(went), *went]
            if await self.bus.script(_SAVE, keys, args) == NOT_THE_LEADER:
                return False
            if not kept and not gone:
                return True

    async def _scan(self, key: str, match: str | None = None) -> AsyncIterator[tuple[str, bytes]]:
        cursor = 0
        while True:
            cursor, found = await self.bus.ask(self.bus.client.hscan(key, cursor, match=match, count=SCAN))
            for field, value in found.items():
                yield field.decode("utf-8", "replace"), value
            if not cursor:
                return


_FIELDS: Final = {
    Of.SERVICE: "",
    Of.BUS: BUS_FIELD,
    Of.TRUTH: TRUTH_FIELD,
    Of.REACH: "reach:",
    Of.WATCH: WATCH_FIELD,
}


def field_of(verdict: Verdict) -> str:
    """The roster's field for what a verdict is on."""
    return _FIELDS[verdict.of] + verdict.svc


def read_entry(value: bytes) -> Entry | None:
    """An entry of the roster; None for one that can't be read."""
    try:
        entry = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) and entry.get("verdict") in ("up", "down") else None


def _written(record: Record) -> str:
    if record.last is None:
        return f"{record.enter:.3f} 0 0 {record.bus.name}"
    return f"{record.last.at:.3f} {record.last.wall:.3f} 1 {record.bus.name}"


def remembered(
    roster: Mapping[str, Entry],
    silences: Mapping[str, Silence],
    clocks: Clocks,
    bus_of: Mapping[str, str],
    notes: Mapping[str, Noted] | None = None,
) -> dict[str, Remembered]:
    """Puts together what the hashes say of each service. Pure.

    `bus_of` names the bus of every service that is watched now. A silence counts only on the clock on which
    it was saved: one on another bus than then is as one that nobody saved.
    """
    found: dict[str, Remembered] = {}
    for svc in (roster.keys() | silences.keys()) - {field for field in roster if ":" in field}:
        entry = roster.get(svc)
        state = State(entry["verdict"]) if entry else State.UNKNOWN
        at, wall = clocks.get(bus_of.get(svc, ""), (0.0, None))
        since, seen, silent_for = _number(entry, "since"), entry is not None, None
        silence = silences.get(svc)
        if silence is not None and not silence.seen and entry is not None:
            silence = None  # from before it came up: the run was killed before it could forget it
        if silence is not None:
            same = wall is not None and silence.bus == bus_of.get(svc)
            silent_for = max(0.0, at - silence.at) if same else None
            seen, since = silence.seen, silence.since if silence.seen else None
        elif state is State.UP:
            # it was beating when the clocks were last written, if it had come up by then
            told = _number(entry, "ts")
            since = max(told, wall) if told is not None and wall is not None else wall or told
        if state is State.DOWN:
            seen = since is not None
        i: Any = entry.get("i") if entry else None
        boot = _text(entry, "boot")
        noted = (notes or {}).get(svc)
        found[svc] = Remembered(state, since, silent_for, seen, boot, i if type(i) is int else 0, noted)
    return found


def _number(entry: Entry | None, key: str) -> float | None:
    value: Any = entry.get(key) if entry else None
    return float(value) if type(value) in (int, float) else None


def _text(entry: Entry | None, key: str) -> str | None:
    value = entry.get(key) if entry else None
    return value if isinstance(value, str) else None
