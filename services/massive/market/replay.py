r"""Reads a recording: frames as a server sent them, each with when it came, for the machine of live ones.

A recording is a file of lines, each a JSON object: `{"at": 1762433460123, "frame": "[{\"ev\":…}]"}`, `at` in
epoch milliseconds. A line that is none is passed over and counted. Not here: the pace (`loop.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

LINE_BYTES: Final = 2 << 20
PAUSE_AT_MOST_SEC: Final = 60.0
"""A night in a recording is no reason to be silent for one."""


@dataclass(frozen=True, slots=True)
class Played:
    """A frame and when it came, in epoch milliseconds; `frame` is None for a line that is none."""

    at: int
    frame: str | None


def recorded(path: Path) -> Iterator[Played]:
    """The frames of a file, in its order; the file is read as they are taken. Raises OSError."""
    if not path.is_file():  # nor a pipe, at which one would wait for ever
        raise FileNotFoundError
    with path.open("rb") as file:
        at = 0
        while line := file.readline(LINE_BYTES):
            if not line.strip():
                continue
            played = _played(line)
            if played is None:
                yield Played(at, None)
            else:
                at = played.at
                yield played


def pause_sec(before: int, at: int, speed: float) -> float:
    """How long to wait between two frames of these times; none at speed 0 or where time goes back."""
    return min(PAUSE_AT_MOST_SEC, max(0, at - before) / 1000 / speed) if speed else 0.0


def _played(line: bytes) -> Played | None:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict):
        return None
    at, frame = found.get("at"), found.get("frame")
    if not isinstance(at, int) or isinstance(at, bool) or not 0 <= at < 1 << 48 or not isinstance(frame, str):
        return None
    return Played(at, frame)
