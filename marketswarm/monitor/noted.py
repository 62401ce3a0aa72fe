"""How a note of a service's last beat is kept: one JSON object a field of `<listener>:heard`. Pure."""

from math import inf
from typing import Any, Final

import orjson

from marketswarm.beat import MAX_BOOT
from marketswarm.bus.stored_values import count, duration, epoch, number, text
from marketswarm.detector import SavedBeat
from marketswarm.detector.service import BOOTS_KEPT

LONGEST_NOTE: Final = 65_536
"""What a note of as many instances as are kept apart may take, each with the longest name, and then some."""


def write_note(noted: SavedBeat) -> bytes:
    """As it is kept; what says nothing is left out."""
    found: dict[str, Any] = {
        "boot": noted.boot,
        "i": noted.i,
        "ts": noted.ts,
        "wall": round(noted.wall, 3),
    }
    if noted.stopped:
        found["stopped"] = True
    if noted.others:
        found["beside"] = noted.others
    if noted.pace_sec:
        found["pace_sec"] = round(noted.pace_sec, 3)
    if noted.timeout_sec:
        found["timeout_sec"] = noted.timeout_sec
    return orjson.dumps(found)


def read_note(raw: bytes) -> SavedBeat | None:
    """Read it back; None for what is no such object."""
    try:
        found: Any = orjson.loads(raw) if len(raw) <= LONGEST_NOTE else None
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict):
        return None
    boot, i = text(found.get("boot"), MAX_BOOT), count(found.get("i"))
    ts, wall = number(found.get("ts"), -inf, inf), epoch(found.get("wall"))
    pace_sec, timeout_sec = (duration(found.get(key, 0.0)) for key in ("pace_sec", "timeout_sec"))
    beside = _instances(found.get("beside", {}))
    if boot is None or i is None or ts is None or wall is None:
        return None
    if pace_sec is None or timeout_sec is None or beside is None:
        return None
    return SavedBeat(boot, i, ts, wall, found.get("stopped") is True, beside, pace_sec, timeout_sec)


def _instances(found: Any) -> dict[str, int] | None:
    if isinstance(found, list):  # until 0.1.0 there were no more than their names
        found = dict.fromkeys(found, 0) if all(type(boot) is str for boot in found) else None
    if not isinstance(found, dict) or len(found) > BOOTS_KEPT:
        return None
    if any(text(boot, MAX_BOOT) is None or count(i) is None for boot, i in found.items()):
        return None
    return found
