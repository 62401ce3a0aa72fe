"""Define where new lines of the logs of services come from; count, match and learn them in `rules/logs.py`.

A log is read in two steps. `fetch` asks what needs no thread, such as an engine. `list_logs` returns
functions that read the new lines: a log whose function is not called in a look is not read, and its lines are
there in the next one.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final

from marketswarm.packed_log import LOG_LINES
from marketswarm.tasks import gather_all

FEWER_LINES: Final = (LOG_LINES, 50, 5)
"""How many lines are asked for, one after the other, as long as the answer is too long."""
MAX_LOG_BYTES: Final = 256 * 1024
"""The longest answer about one log."""
LOOK_BYTES: Final = 4 * 1024 * 1024
"""How much of all logs of a source is read in one look; the others come first in the next."""
FETCH_SEC: Final = 3.0
"""The longest time of asking for all logs: the medic waits for it between two rounds."""


class LogError(Exception):
    """A log can't be read; the message says why, and `reason` so in a word."""

    def __init__(self, why: str, reason: str = "unusable") -> None:
        super().__init__(why)
        self.reason = reason


class LogTooLongError(LogError):
    """An answer is longer than MAX_LOG_BYTES: fewer lines may fit."""

    def __init__(self) -> None:
        super().__init__("the lines are too long", "too_long")


@dataclass(frozen=True, slots=True)
class NewLines:
    """Lines in their order. `has_gap` says that others were left out; `skipped_bytes`, how much if known."""

    lines: Sequence[bytes] = ()
    has_gap: bool = False
    skipped_bytes: int = 0


ReadLines = Callable[[], NewLines]
"""Returns the lines since it was called last for the same log. Raises OSError if they are not known."""


class LogSource(ABC):
    """One place with logs of services."""

    async def fetch(self, services: Collection[str]) -> None:
        """Ask for what is new in the logs of these services, where that needs no thread. Raises nothing."""
        del services

    @abstractmethod
    def list_logs(self, services: Collection[str]) -> Mapping[str, ReadLines]:
        """Return what reads the log of each service that has one here; this may block. Raises OSError."""

    def find_problem(self) -> str | None:
        """Return what people should mend so that all logs here can be read; None if nothing."""
        return None

    @abstractmethod
    async def read_end(self, svc: str) -> Sequence[Sequence[bytes]]:
        """Return the last lines of each process of a service, LOG_LINES each at most.

        Raises OSError and LogError.
        """


async def read_log_end(sources: Iterable[LogSource], svc: str, at_most: int, within_sec: float) -> str:
    """Return the last lines of each process of a service, without those that can't be read in time.

    All are `at_most` bytes together, and each process has an equal share. `within_sec` is for each source.
    """
    found = list[Sequence[bytes]]()
    for source in sources:
        with suppress(OSError, LogError, TimeoutError):
            async with asyncio.timeout(within_sec):
                found += await source.read_end(svc)
    texts = (b"\n".join(lines) for lines in found)
    most = at_most // max(1, len(found))
    ends = (text if len(text) <= most else text[-most:].partition(b"\n")[2] for text in texts)
    return b"\n".join(ends).decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry of a log that is asked for. `key` is that of no other entry, `ts` its time in epoch seconds.

    `text` may have several lines; it is None if it was left out.
    """

    key: bytes
    ts: float
    text: bytes | None


@dataclass(frozen=True, slots=True)
class _Position:
    """Up to where a log was read: the key of the last entry, and a second from which on to ask for more."""

    key: bytes | None
    since: int | None


_Fetched = tuple[NewLines, _Position]
"""The new lines of a log, and where it is read up to once they were taken."""


class PolledLogs(LogSource):
    """Logs of which another program is asked: a container engine, or journalctl.

    Each answer begins some entries before the new ones, so that the last one that was read is in it: if it is
    not, entries in between were left out.
    """

    at_once: ClassVar[int]
    """How many logs are asked for at once."""
    per_look: ClassVar[int]
    """How many logs are asked for in one look: those that were asked for longest ago."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._found: dict[str, Sequence[str] | None] = {}
        self._fetched: dict[str, _Fetched] = {}
        self._waiting: Collection[str] = ()
        self._positions: dict[str, _Position] = {}
        self._asked_at: dict[str, float] = {}
        self._looked_at: int | None = None
        self._unreadable = set[str]()

    @abstractmethod
    def find_logs(self, svc: str) -> Sequence[str] | None:
        """Return the names of the logs of a service; None if it is not known yet what runs here."""

    @abstractmethod
    async def ask(self, name: str, since: int | None, lines: int, within_sec: float) -> Sequence[LogEntry]:
        """Return the last `lines` entries of a log that are no older than `since`, in their order.

        Raises LogError.
        """

    async def fetch(self, services: Collection[str]) -> None:
        began, ends_at = int(time.time()), time.monotonic() + FETCH_SEC
        self._found = {svc: self.find_logs(svc) for svc in services}
        names = {name: svc for svc, found in self._found.items() for name in found or ()}
        limit, left, failed = asyncio.Semaphore(self.at_once), LOOK_BYTES, list[tuple[str, str]]()
        was_unreadable = bool(self._unreadable)
        self._fetched = {}
        self._unreadable &= names.keys()
        self._positions = {name: each for name, each in self._positions.items() if name in names}
        self._asked_at = {name: self._asked_at.get(name, float("-inf")) for name in names}

        async def fetch_one(name: str) -> None:
            """Keep what is new in one log in `_fetched`, or why it can't be read in `failed`."""
            nonlocal left
            async with limit:
                if left <= 0:
                    return
                self._asked_at[name] = time.monotonic()
                # an entry of a log that is new here is newer than the last look
                position = self._positions.get(name) or _Position(None, self._looked_at)
                try:
                    entries, asked = await self._ask(name, position.since, ends_at)
                except LogError as error:
                    failed.append((names[name], str(error)))
                    self._unreadable.add(name)
                    return
            self._unreadable.discard(name)
            left -= sum(len(each.text or b"") for each in entries)
            self._fetched[name] = _make_fetched(entries, asked, position, began)

        in_turn = sorted(names, key=self._asked_at.__getitem__)
        self._waiting = (self._positions.keys() - self._unreadable).intersection(in_turn[self.per_look :])
        await gather_all(map(fetch_one, in_turn[: self.per_look]))
        if failed and not was_unreadable:  # once, until all of them can be read
            svc, why = failed[0]
            self._log.warning("medic.log_unreadable", svc=svc, reason=why, logs=len(failed))
        if None not in self._found.values():
            self._looked_at = began

    def list_logs(self, services: Collection[str]) -> Mapping[str, ReadLines]:
        found = {svc: self._found.get(svc) for svc in services}
        return {svc: partial(self._take, names) for svc, names in found.items() if names is None or names}

    def _take(self, names: Sequence[str] | None) -> NewLines:
        """Return what is new in these logs: of one that was read before and waits for its turn, nothing.

        Raises OSError if one could not be read.
        """
        fetched = self._fetched
        asked = [] if names is None else [name for name in names if name not in self._waiting]
        if names is None or any(name not in fetched for name in asked):
            raise OSError("not known")
        taken = {name: fetched.pop(name) for name in asked}
        self._positions |= {name: position for name, (_, position) in taken.items()}
        new = [each for each, _ in taken.values()]
        return NewLines([line for each in new for line in each.lines], any(each.has_gap for each in new))

    async def read_end(self, svc: str) -> Sequence[Sequence[bytes]]:
        ends_at = time.monotonic() + FETCH_SEC
        found = [(await self._ask(name, None, ends_at))[0] for name in self.find_logs(svc) or ()]
        return [_split(entries)[-LOG_LINES:] for entries in found]

    async def _ask(self, name: str, since: int | None, ends_at: float) -> tuple[Sequence[LogEntry], int]:
        """Return the last entries of a log, and how many were asked for. Raises LogError."""
        for lines in FEWER_LINES:
            try:
                return await self.ask(name, since, lines, max(0.0, ends_at - time.monotonic())), lines
            except LogTooLongError:
                if lines == FEWER_LINES[-1]:
                    raise
        raise AssertionError


def _make_fetched(entries: Sequence[LogEntry], asked: int, position: _Position, began: int) -> _Fetched:
    """Return what came after `position` in the answer to a request of `asked` entries.

    It was made at `began`, in epoch seconds: a later time of an entry is that of another clock.
    """
    if not entries:
        return NewLines(), position
    # by their order and not their times: a clock that is set back has later entries seem older
    known = max((at for at, each in enumerate(entries, 1) if each.key == position.key), default=0)
    new, last = entries[known:], entries[-1]
    has_gap = not known and (position.key is not None or len(entries) >= asked)
    has_gap = has_gap or any(each.text is None for each in new)
    since = max(0, min(int(last.ts), began))
    return NewLines(_split(new), has_gap), _Position(last.key, since)


def _split(entries: Sequence[LogEntry]) -> list[bytes]:
    texts = (each.text for each in entries if each.text is not None)
    return [line.rstrip(b"\r") for text in texts for line in text.split(b"\n") if line]
