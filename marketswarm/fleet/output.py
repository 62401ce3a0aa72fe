"""Write the output of a fleet: as text for a person or as JSON, and to the log files.

A person sees time, agent, event and fields. By default only warnings and worse are shown, and events whose
last word is in `_SHOWN_EVENTS`. An event that one agent repeats is shown 5 times in 10 s, and then only
counted. Writing may block, so it is done in threads. Not here: how log files are rotated (`agent_logs.py`).
"""

import errno
import os
import queue
import select
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import orjson

from marketswarm.bus.stored_values import parse_object
from marketswarm.fleet.agent_logs import LogFiles
from marketswarm.text import escape_text, format_utc

FLEET = "fleet"  # the agent that the fleet's own events name
_HEADER_FIELDS = ("ts", "level", "event", "agent", "exception", "part")
_PROGRAM_OUTPUT: Final = "program.output"
"""The event of a line that is not a log line; its field `line` is the text."""
_LONG_FIELDS = ("sha256",)
_LEVEL_COLOURS = {"warning": "33", "error": "31", "critical": "31;1"}
_COLOURS = ("36", "32", "35", "34", "96", "92", "95", "94")
_DIM = "2"
# last words of the events of level info that are shown by default
_SHOWN_EVENTS = frozenset({
    "ready", "seeded", "up", "down", "ok", "miss", "lost", "back", "reseeded", "applied", "monitoring",
    "listening", "ended", "stopped", "started",
})  # fmt: skip
_MAX_SHOWN = 5
_REPEAT_WINDOW_SEC = 10.0
_MAX_WAITING: Final = 10_000
_GONE: Final = (errno.EPIPE, errno.EIO, errno.EBADF)  # no reader, no terminal, no descriptor any more

T = TypeVar("T")


class BackgroundWriter(Generic[T]):
    """Call `write`, which may block, with one item after the other, in a thread of its own.

    When 10,000 items wait, further ones are dropped and counted; `make_gap` returns the item that says how
    many. If `write` raises an OSError that says that the reader is gone for good (_GONE), the thread ends,
    and `on_failure` is called there. After any other one (a full disk), the item is counted as dropped.
    """

    def __init__(
        self,
        write: Callable[[T], object],
        make_gap: Callable[[int], T],
        on_failure: Callable[[], object] = lambda: None,
    ) -> None:
        self._write, self._make_gap, self._on_failure = write, make_gap, on_failure
        self._items: queue.Queue[T | None] = queue.Queue()
        # each is written by one thread: that of `put`, and ours
        self._refused = self._failed = self._reported = 0
        self._thread = threading.Thread(target=self._write_all, name="background-writer", daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        if self._items.qsize() < _MAX_WAITING:
            self._items.put(item)
        else:
            self._refused += 1

    def close(self, within_sec: float = 1.0) -> None:
        """Wait until all items are written, for `within_sec` at most. No item may be put after that."""
        self._items.put(None)
        self._thread.join(within_sec)

    def _write_all(self) -> None:
        try:
            while (item := self._items.get()) is not None:
                if not self._try_to_write(item):
                    self._failed += 1
                if self._items.empty():
                    self._write_gap()
            self._write_gap()
        except OSError:
            self._on_failure()

    def _write_gap(self) -> None:
        dropped = self._refused + self._failed - self._reported
        if dropped and self._try_to_write(self._make_gap(dropped)):
            self._reported += dropped

    def _try_to_write(self, item: T) -> bool:
        """Return whether an item was written. Raises OSError if none ever will be."""
        try:
            self._write(item)
        except OSError as error:
            if error.errno in _GONE:
                raise
            return False
        return True


class LineWriter(BackgroundWriter[bytes]):
    """Write lines, given without their ends, to a file descriptor.

    `on_closed` is called when its reader or the descriptor itself is gone. A line of which only a part was
    taken, as by a full disk, counts as dropped, and the next one begins on a line of its own.
    """

    def __init__(self, fd: int, on_closed: Callable[[], object]) -> None:
        self._fd, self._is_torn = fd, False
        super().__init__(self._write_line, _make_gap_record, on_closed)

    def _write_line(self, line: bytes) -> None:
        for data in ((b"\n",) if self._is_torn else ()) + (line + b"\n",):
            self._write_bytes(data)

    def _write_bytes(self, data: bytes) -> None:
        """Write all of it, and wait for who reads it. Raises OSError; notes whether a part was written."""
        while data:
            try:
                data = data[os.write(self._fd, data) :]
                self._is_torn = bool(data)
            except BlockingIOError:  # another program made this terminal or pipe non-blocking
                select.select((), (self._fd,), ())


class LogFileWriter(BackgroundWriter[tuple[str, bytes]]):
    """Append lines to the log files of agents. An item is a name and a line.

    `on_failure` is called with the error, from the thread, when writing begins to fail.
    """

    def __init__(self, data: Path, on_failure: Callable[[OSError], object]) -> None:
        self._files = LogFiles(data, on_failure)
        super().__init__(
            lambda item: self._files.append(*item), lambda dropped: (FLEET, _make_gap_record(dropped))
        )

    def _write_all(self) -> None:
        super()._write_all()
        self._files.close()


@dataclass(slots=True)
class _RepeatCount:
    """How many lines of one event of one agent were shown and hidden since `since` (monotonic seconds)."""

    since: float
    shown: int = 0
    hidden: int = 0


@dataclass(slots=True)
class LogFormatter:
    """Formats the lines of agents for one terminal, and hides repeated ones.

    Args:
        names: the agents, in the order of their colours; the longest name sets the width of the column.
        zone: the time zone of the times shown; None is the machine's.
    """

    names: tuple[str, ...]
    colours: bool = True
    verbose: bool = False
    zone: tzinfo | None = None
    time_format: str = "%H:%M:%S"
    _repeats: dict[tuple[str, str], _RepeatCount] = field(default_factory=dict)

    def format_line(self, name: str, raw: bytes, now: float) -> str | None:
        """Return the text to show for a line of output, which may be a log record; None to show nothing."""
        record = parse_object(raw)
        if "event" not in record:
            text = escape_text(raw.decode("utf-8", "replace"))
            return self._format_line(None, name, text) if text.strip() else None
        level, event = str(record.get("level", "info")), str(record.get("event", ""))
        is_shown = level in _LEVEL_COLOURS or (level == "info" and event.rpartition(".")[2] in _SHOWN_EVENTS)
        if not (self.verbose or name == FLEET or is_shown):
            return None
        hidden = 0 if self.verbose else self._count_repeat(name, event, now)
        if hidden is None:
            return None
        return self._format_line(record.get("ts"), name, self._format_record(record, level, event, hidden))

    def _format_record(self, record: Mapping[str, Any], level: str, event: str, hidden: int) -> str:
        """Format a log record without its time and agent; `hidden` lines like it were hidden before."""
        if event == _PROGRAM_OUTPUT:
            return escape_text(str(record.get("line", "")))
        left_out = _HEADER_FIELDS if self.verbose else (*_HEADER_FIELDS, *_LONG_FIELDS)
        facts = [f"{key}={_format_value(value)}" for key, value in record.items() if key not in left_out]
        text = " ".join([self._colour_text(escape_text(event), _LEVEL_COLOURS.get(level, "")), *facts])
        if hidden:
            text += self._colour_text(f" (and {hidden} more like it)", _DIM)
        lines = str(record.get("exception") or "").strip().splitlines()
        for line in lines if self.verbose else lines[-1:]:
            text += "\n    " + self._colour_text(escape_text(line), _DIM)
        return text

    def _format_line(self, ts: Any, name: str, text: str) -> str:
        width = max(map(len, self.names), default=0)
        colour = _COLOURS[self.names.index(name) % len(_COLOURS)] if name in self.names else _DIM
        time_text = self._colour_text(self._format_time(ts), _DIM)
        return f"{time_text} {self._colour_text(f'{name:<{width}}', colour)} {text}"

    def _format_time(self, ts: Any) -> str:
        try:
            return datetime.fromisoformat(ts).astimezone(self.zone).strftime(self.time_format)
        except (TypeError, ValueError, OverflowError):
            return " " * len(datetime.now(UTC).strftime(self.time_format))

    def _colour_text(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self.colours and colour else text

    def _count_repeat(self, name: str, event: str, now: float) -> int | None:
        """Return how many lines of this event were hidden before it; None if this one is hidden, too."""
        row = self._repeats.get((name, event))
        if row is None or now - row.since > _REPEAT_WINDOW_SEC:
            hidden = row.hidden if row else 0
            self._repeats[name, event] = _RepeatCount(since=now, shown=1)
            return hidden
        if row.shown < _MAX_SHOWN:
            row.shown += 1
            return 0
        row.hidden += 1
        return None


class Output:
    """The output of a fleet: the lines of its children, and its own events.

    A terminal gets each line formatted for a person, anything else a JSON object (`formatter` is None). The
    log files get all lines as JSON; `logs` is None for a fleet that keeps none.
    """

    def __init__(
        self, lines: LineWriter, formatter: LogFormatter | None, logs: LogFileWriter | None = None
    ) -> None:
        self._lines, self._formatter, self._logs = lines, formatter, logs

    @property
    def is_for_people(self) -> bool:
        return self._formatter is not None

    def log_event(self, event: str, level: str = "info", **facts: Any) -> None:
        """Write an event of the fleet, also to the log file of the agent that the field `svc` names."""
        record = _make_record(FLEET, event, level, facts)
        self.write_line(FLEET, record)
        if self._logs is not None and "svc" in facts:
            self._logs.put((facts["svc"], record))

    def write_line(self, name: str, line: bytes) -> None:
        if not line.strip():
            return
        record, fields = line, parse_object(line)
        if not fields:
            text = line.decode("utf-8", "replace")
            record = _make_record(name, _PROGRAM_OUTPUT, "info", {"line": text})
        elif "/" in name:  # one of several processes of a service, such as `rss_agg/2`
            record = orjson.dumps(fields | {"process": name})
        if self._logs is not None:
            self._logs.put((name, record))
        if self._formatter is None:
            self._lines.put(record)
            return
        shown = self._formatter.format_line(name, line, time.monotonic())
        if shown is not None:
            self._lines.put(shown.encode("utf-8", "replace"))

    def print_lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._lines.put(line.encode("utf-8", "replace"))


def _format_value(value: Any) -> str:
    """Format the value of a field: a float with up to 3 decimals, texts with commas between them, or JSON."""
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        value = ",".join(value)
    if isinstance(value, str):
        text = escape_text(value)
        return f'"{text}"' if " " in text or not text else text
    return escape_text(orjson.dumps(value).decode())


def _make_record(name: str, event: str, level: str, facts: dict[str, Any]) -> bytes:
    header = {"ts": format_utc(time.time()), "level": level, "event": event, "agent": name}
    return orjson.dumps(header | facts)


def _make_gap_record(dropped: int) -> bytes:
    return _make_record(FLEET, "log.dropped", "warning", {"lines": dropped})
