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
    if noted.pace_sec:
        found["pace_sec"] = round(noted.pace_sec, 3)
    if noted.timeout_sec:
        found["timeout_sec"] = noted.timeout_sec
    return orjson.dumps(found)


def read_note(raw: bytes) -> Noted | None:
    """Reads it back; None for what is no such object."""
    try:
        found: Any = orjson.loads(raw)
        boot, i, ts, wall = found["boot"], found["i"], found["ts"], found["wall"]
        beside = _instances(found.get("beside", {}))
        if type(boot) is not str or type(i) is not int or beside is None:
            return None
        stopped = found.get("stopped") is True
        pace_sec, timeout_sec = (float(found.get(key, 0.0)) for key in ("pace_sec", "timeout_sec"))
        return Noted(boot, i, float(ts), float(wall), stopped, beside, pace_sec, timeout_sec)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        return None


def _instances(found: Any) -> dict[str, int] | None:
    if isinstance(found, list):  # until 0.1.0 there were no more than their names
        found = dict.fromkeys(found, 0)
    if all(type(boot) is str and type(i) is int for boot, i in found.items()):
        return dict(found)
    return None
