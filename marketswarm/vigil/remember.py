"""What a listener keeps on the bus about silence, so that a restart forgets none.

Two hashes: the roster holds each verdict (tell.lua writes it), the silence hash how long each service has
been silent once that is worth keeping. Its entries are readings of a listening clock, `<at> <since> <seen>
<bus>`; under `@<bus>` lies that clock's own reading, `<at> <wall>`, written with them in one step.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, NamedTuple

import orjson

from marketswarm.bus import Bus
from marketswarm.liveness import Liveness, Moment, Record, Remembered, State

SCAN: Final = 5000
BUS_FIELD: Final = "bus:"
TRUTH_FIELD: Final = "truth:"
"""Roster fields of buses, and of the truth on them, begin with these; no service's name can."""

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
    """The two hashes of one listener on one bus. Every method may raise BusError."""

    def __init__(self, bus: Bus, listener: str) -> None:
        self.bus = bus
        self.roster_key = f"{listener}:roster"
        self.silence_key = f"{listener}:silence"

    async def roster(self, match: str | None = None) -> dict[str, Entry]:
        """Every verdict that is stored, by service (or `bus:<name>`); what can't be read is left out."""
        found: dict[str, Entry] = {}
        async for field, value in self._scan(self.roster_key, match):
            entry = _read(value)
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

    async def save(self, changed: Mapping[str, Record | None], life: Liveness, now: Moment) -> None:
        """Writes the silences that changed together with the clocks they are read on."""
        pipe = self.bus.pipeline(transaction=True)
        kept: dict[Any, Any] = {}
        for name, bus in life.buses.items():
            kept[f"@{name}"] = f"{bus.clock.proven:.3f} {now.wall:.3f}"
        for svc, record in changed.items():
            if record is not None:
                kept[svc] = _written(record)
        pipe.hset(self.silence_key, mapping=kept)
        if gone := [svc for svc, record in changed.items() if record is None]:
            pipe.hdel(self.silence_key, *gone)
        await self.bus.ask(pipe.execute())

    async def _scan(self, key: str, match: str | None = None) -> AsyncIterator[tuple[str, bytes]]:
        cursor = 0
        while True:
            cursor, found = await self.bus.ask(self.bus.client.hscan(key, cursor, match=match, count=SCAN))
            for field, value in found.items():
                yield field.decode("utf-8", "replace"), value
            if not cursor:
                return


def _read(value: bytes) -> Entry | None:
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
) -> dict[str, Remembered]:
    """Puts together what the two hashes say of each service. Pure.

    `bus_of` names the bus of every service that is watched now. A silence counts only on the clock on which
    it was saved: one on another bus than then is as one that nobody saved.
    """
    found: dict[str, Remembered] = {}
    for svc in (roster.keys() | silences.keys()) - {field for field in roster if ":" in field}:
        entry = roster.get(svc)
        state = State(entry["verdict"]) if entry else State.UNKNOWN
        at, wall = clocks.get(bus_of.get(svc, ""), (0.0, None))
        since, seen, silent_for = _number(entry, "since"), entry is not None, None
        if svc in silences:
            silence = silences[svc]
            same = wall is not None and silence.bus == bus_of.get(svc)
            silent_for = max(0.0, at - silence.at) if same else None
            seen, since = silence.seen, silence.since if silence.seen else None
        elif state is State.UP:
            since = wall  # it was beating when the clocks were last written
        if state is State.DOWN:
            seen = since is not None
        i: Any = entry.get("i") if entry else None
        boot = _text(entry, "boot")
        found[svc] = Remembered(state, since, silent_for, seen, boot, i if type(i) is int else 0)
    return found


def _number(entry: Entry | None, key: str) -> float | None:
    value: Any = entry.get(key) if entry else None
    return float(value) if type(value) in (int, float) else None


def _text(entry: Entry | None, key: str) -> str | None:
    value = entry.get(key) if entry else None
    return value if isinstance(value, str) else None
