"""What a log line looks like to a person: time, who, event, facts. Pure; JSON in, one line of text out.

By default only what a newcomer wants to read is shown: warnings and worse, and the few events of `_TELLING`.
A line that comes again and again is shown a few times and then counted.
"""

import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any

import orjson

from marketswarm.text import escape_text

FLEET = "fleet"  # the name under which the fleet itself speaks
_HEADS = ("ts", "level", "event", "agent", "exception", "part")
_LONG = ("sha256",)
_LOUD = {"warning": "33", "error": "31", "critical": "31;1"}
_COLOURS = ("36", "32", "35", "34", "96", "92", "95", "94")
_DIM = "2"
# events of level info that are worth a line at first sight, by their last word
_TELLING = frozenset(
    (
        "ready",
        "seeded",
        "up",
        "down",
        "ok",
        "miss",
        "lost",
        "back",
        "reseeded",
        "applied",
        "monitoring",
        "listening",
        "ended",
        "stopped",
        "started",
    )
)
_SHOWN_IN_A_ROW = 5
_FORGET_SEC = 10.0


_WAITING_LINES = 10_000


class LineWriter:
    """Writes lines to a file descriptor from a thread.

    Args:
        fd: where to.
        on_gone: called once, from that thread, when nobody reads any more.
    """

    def __init__(self, fd: int, on_gone: Callable[[], object]) -> None:
        self._fd, self._on_gone = fd, on_gone
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_all, name="voice", daemon=True)
        self._thread.start()

    def say(self, line: bytes) -> None:
        """One line, without its end."""
        if self._lines.qsize() < _WAITING_LINES:
            self._lines.put(line + b"\n")
        else:
            self._dropped += 1

    def close(self, within_sec: float = 1.0) -> None:
        """Waits for what is left to be written, but not for ever."""
        self._lines.put(None)
        self._thread.join(within_sec)

    def _write_all(self) -> None:
        """The thread: until `close`, or until nobody reads."""
        try:
            while (line := self._lines.get()) is not None:
                self._write(line)
                if self._lines.empty():
                    self._tell_dropped()
            self._tell_dropped()
        except OSError:
            self._on_gone()

    def _tell_dropped(self) -> None:
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._write(b'{"level":"warning","event":"log.dropped","agent":"fleet","lines":%d}\n' % dropped)

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._fd, data) :]


@dataclass(slots=True)
class _Row:
    """How often one event of one agent came lately."""

    since: float
    shown: int = 0
    hidden: int = 0


@dataclass(slots=True)
class LogFormatter:
    """Renders for one terminal.

    Args:
        names: the agents, in the order of their colours; the longest sets the column.
        colours: whether to use any.
        verbose: show all.
        zone: of the times shown; None is the machine's.
    """

    names: tuple[str, ...]
    colours: bool = True
    verbose: bool = False
    zone: tzinfo | None = None
    _rows: dict[tuple[str, str], _Row] = field(default_factory=dict)

    def line(self, name: str, raw: bytes, now: float) -> str | None:
        """The line to show for `raw`, or None for nothing. `now` in monotonic seconds."""
        record = _parse_record(raw)
        if record is None:
            text = escape_text(raw.decode("utf-8", "replace"))
            return self._joined(None, name, text) if text.strip() else None
        level, event = str(record.get("level", "info")), str(record.get("event", ""))
        if not self.verbose and not (name == FLEET or _telling(level, event)):
            return None
        hidden = 0 if self.verbose else self._hidden(name, event, now)
        if hidden is None:
            return None
        return self._joined(record.get("ts"), name, self._said(record, level, event, hidden))

    def _said(self, record: Mapping[str, Any], level: str, event: str, hidden: int) -> str:
        left_out = _HEADS if self.verbose else (*_HEADS, *_LONG)
        facts = [f"{key}={_value(value)}" for key, value in record.items() if key not in left_out]
        text = " ".join([self._painted(escape_text(event), _LOUD.get(level, "")), *facts])
        if hidden:
            text += self._painted(f" (and {hidden} more like it)", _DIM)
        lines = str(record.get("exception") or "").strip().splitlines()
        for line in lines if self.verbose else lines[-1:]:
            text += "\n    " + self._painted(escape_text(line), _DIM)
        return text

    def _joined(self, ts: Any, name: str, text: str) -> str:
        width = max(map(len, self.names), default=0)
        colour = _COLOURS[self.names.index(name) % len(_COLOURS)] if name in self.names else _DIM
        return (
            f"{self._painted(_clock(ts, self.zone), _DIM)} {self._painted(f'{name:<{width}}', colour)} {text}"
        )

    def _painted(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self.colours and colour else text

    def _hidden(self, name: str, event: str, now: float) -> int | None:
        """None when the line is one too many of its kind, else how many such were left out before it."""
        row = self._rows.get((name, event))
        if row is None or now - row.since > _FORGET_SEC:
            hidden = row.hidden if row else 0
            self._rows[name, event] = _Row(since=now, shown=1)
            return hidden
        if row.shown < _SHOWN_IN_A_ROW:
            row.shown += 1
            return 0
        row.hidden += 1
        return None


class Output:
    """Says things through `voice`, as `screen` renders them; without one, each line is a JSON object."""

    def __init__(self, voice: LineWriter, screen: LogFormatter | None) -> None:
        self._voice, self._screen = voice, screen

    @property
    def on_screen(self) -> bool:
        """Whether a person reads it."""
        return self._screen is not None

    def tell(self, event: str, level: str = "info", **facts: Any) -> None:
        """An event of the fleet's own."""
        self.hear(FLEET, _make_record(FLEET, event, level, facts))

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


def _parse_record(raw: bytes) -> dict[str, Any] | None:
    try:
        record = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return record if isinstance(record, dict) and "event" in record else None


def _telling(level: str, event: str) -> bool:
    return level in _LOUD or (level == "info" and event.rpartition(".")[2] in _TELLING)


def _clock(ts: Any, zone: tzinfo | None) -> str:
    try:
        return datetime.fromisoformat(ts).astimezone(zone).strftime("%H:%M:%S")
    except (TypeError, ValueError):
        return " " * 8


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        value = ",".join(value)
    if isinstance(value, str):
        text = escape_text(value)
        return f'"{text}"' if " " in text or not text else text
    return escape_text(orjson.dumps(value).decode())


def _numbered(name: str, line: bytes) -> bytes:
    """The line, with the process's own name where its service has several: `"process":"rss_agg/2"`."""
    if "/" not in name:
        return line
    return orjson.dumps(orjson.loads(line) | {"process": name})


def _wrapped(name: str, line: bytes) -> bytes:
    return _make_record(name, "program.output", "info", {"line": line.decode("utf-8", "replace")})


def _make_record(name: str, event: str, level: str, facts: dict[str, Any]) -> bytes:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return orjson.dumps({"ts": now, "level": level, "event": event, "agent": name, **facts})


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False
