"""Everything the fleet says, its own events and its children's lines: to a screen, or as JSON lines."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import orjson

from marketswarm.fleet.screen import FLEET, Screen
from marketswarm.fleet.voice import Voice


class Speech:
    """Says things through `voice`, as `screen` renders them; without one, each line is a JSON object."""

    def __init__(self, voice: Voice, screen: Screen | None) -> None:
        self._voice, self._screen = voice, screen

    @property
    def on_screen(self) -> bool:
        """Whether a person reads it."""
        return self._screen is not None

    def tell(self, event: str, level: str = "info", **facts: Any) -> None:
        """An event of the fleet's own."""
        self.hear(FLEET, _record(FLEET, event, level, facts))

    def hear(self, name: str, line: bytes) -> None:
        """A line that a child wrote."""
        if self._screen is not None:
            text = self._screen.line(name, line, time.monotonic())
            if text is not None:
                self._voice.say(text.encode("utf-8", "replace"))
        elif line.strip():
            self._voice.say(_numbered(name, line) if _is_object(line) else _wrapped(name, line))

    def show(self, lines: Iterable[str]) -> None:
        """Lines for a person, as they are."""
        for line in lines:
            self._voice.say(line.encode("utf-8", "replace"))


def _numbered(name: str, line: bytes) -> bytes:
    """The line, with the process's own name where its service has several: `"process":"rss_agg/2"`."""
    if "/" not in name:
        return line
    return orjson.dumps(orjson.loads(line) | {"process": name})


def _wrapped(name: str, line: bytes) -> bytes:
    return _record(name, "program.output", "info", {"line": line.decode("utf-8", "replace")})


def _record(name: str, event: str, level: str, facts: dict[str, Any]) -> bytes:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return orjson.dumps({"ts": now, "level": level, "event": event, "agent": name, **facts})


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False
