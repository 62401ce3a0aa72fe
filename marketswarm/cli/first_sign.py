"""Wait for the first sign of life of a service that was added, or for the first probe of a page."""

import asyncio
import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from marketswarm.beat import Beat, parse_beat
from marketswarm.bus import BusError
from marketswarm.bus.stored_values import parse_object, read_strings
from marketswarm.cli.fleet_view import open_fleet
from marketswarm.keys import last_beat_key, last_run_key, probe_key
from marketswarm.status.probe_past import ProbeReading, find_probes_point, parse_reading
from marketswarm.text import escape_text, extract_line
from marketswarm.truth import MARKET, Truth
from marketswarm.truth.document_edit import AddedKind

_EVERY_SEC: Final = 0.25
_MAX_PROBE_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class SignPlace:
    """Where the first sign of life of a service or a page is stored: its bus and its keys."""

    bus: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FirstSign:
    """A first sign of life, heard at `at` (epoch seconds); `problem` is what it says is wrong, if any.

    `probe` is the result of a page's first probe.
    """

    at: float
    problem: str = ""
    probe: ProbeReading | None = None


def find_sign_place(kind: AddedKind, name: str, truth: Truth) -> SignPlace:
    if kind is AddedKind.PAGE:
        point = find_probes_point(truth)
        return SignPlace(MARKET if point is None else point.bus, (probe_key(name),))
    return SignPlace(truth.bus_of(name), (last_beat_key(name), last_run_key(name)))


async def read_signs(place: SignPlace, truth: Truth, data: Path) -> list[bytes | None]:
    """Return what is stored there now: it may be of a service of this name that was removed before."""
    async with open_fleet(data) as fleet:
        return await read_strings(fleet.bus(place.bus, truth), place.keys)


async def wait_for_sign(
    place: SignPlace, svc: str, known: list[bytes | None], within_sec: float, data: Path
) -> FirstSign | None:
    """Return the first sign that is not among the `known` ones; None if there is none in time.

    A bus that is away meanwhile is asked again.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_sec), open_fleet(data) as fleet:
            bus = fleet.bus(place.bus)
            while True:
                with contextlib.suppress(BusError):
                    found = await read_strings(bus, place.keys)
                    new = [raw for raw, old in zip(found, known, strict=True) if raw and raw != old]
                    if new:
                        is_probe = place.keys == (probe_key(svc),)
                        probe = parse_reading(svc, new[0]) if is_probe else None
                        return FirstSign(time.time(), _find_problem(new, svc), probe)
                await asyncio.sleep(_EVERY_SEC)
    return None


def _find_problem(signs: list[bytes], svc: str) -> str:
    """Return what a beat, a run or a probe says is wrong; an empty text if nothing is."""
    for raw in signs:
        document = parse_object(raw, _MAX_PROBE_BYTES)
        beat = parse_beat(raw, svc)
        if document.get("ok") is False:
            said = document.get("error") or document.get("detail") or document.get("said")
            return _clean(said) or "it failed"
        if isinstance(beat, Beat) and document.get("run") == "failed":
            return _clean(document.get("detail")) or "it failed"
    return ""


def _clean(said: object) -> str:
    return escape_text(extract_line(said) or "") if isinstance(said, str) else ""
