"""How a note of a service's last beat is kept: one JSON object a field of `<listener>:heard`. Pure."""

from typing import Any

import orjson

from marketswarm.liveness import Noted


def write_note(noted: Noted) -> bytes:
    """As it is kept; what says nothing is left out."""
    found: dict[str, Any] = {
        "boot": noted.boot,
        "i": noted.i,
        "ts": noted.ts,
        "wall": round(noted.wall, 3),
    }
    if noted.stopped:
        found["stopped"] = True
    if noted.beside:
        found["beside"] = noted.beside
    return orjson.dumps(found)


def read_note(raw: bytes) -> Noted | None:
    """Reads it back; None for what is no such object."""
    try:
        found: Any = orjson.loads(raw)
        boot, i, ts, wall = found["boot"], found["i"], found["ts"], found["wall"]
        beside = tuple(found.get("beside", ()))
        if type(i) is not int or not all(type(each) is str for each in (boot, *beside)):
            return None
        return Noted(boot, i, float(ts), float(wall), found.get("stopped") is True, beside)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        return None
