"""Read the logs of containers: what the engine keeps of their output. The answer is not trusted.

The answer to `GET /containers/{id}/logs` has a time before each line. Of a container without a terminal it
comes in frames: eight bytes, with the number of the stream and the length, and then the text.
"""

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final

from marketswarm.bus.stored_values import parse_epoch
from services.medic.owners.container import BadAnswerOfEngineError
from services.medic.owners.log_source import LogEntry, LogError, PolledLogs
from services.medic.owners.owner import ASKED_AT_ONCE, NoOwnerError

_HEAD_BYTES: Final = 8
_STREAMS: Final = frozenset({0, 1, 2})
"""Stdin, stdout and stderr; 3 is an error of the engine itself."""
_STAMP: Final = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d{1,9})?(Z|[+-]\d\d:\d\d) ")


class ContainerLogs(PolledLogs):
    """The logs of the containers that an engine showed in the last look, by their ids.

    Args:
        list_ids: returns the ids of a service's containers; None if that is not known yet.
        read_log: asks the engine for the end of a log, as `ContainerEngine.read_log` does.
    """

    at_once: ClassVar = ASKED_AT_ONCE
    per_look: ClassVar = 100

    def __init__(
        self,
        list_ids: Callable[[str], Sequence[str] | None],
        read_log: Callable[[str, int, int, float], Awaitable[tuple[bytes, bool] | None]],
        log: Any,
    ) -> None:
        super().__init__(log)
        self._list_ids, self._read_log = list_ids, read_log

    def find_logs(self, svc: str) -> Sequence[str] | None:
        return self._list_ids(svc)

    async def ask(self, name: str, since: int | None, lines: int, within_sec: float) -> Sequence[LogEntry]:
        try:
            found = await self._read_log(name, since or 0, lines, within_sec)
            return [] if found is None else parse_log(found[0], has_terminal=found[1])
        except (NoOwnerError, BadAnswerOfEngineError) as error:
            raise LogError(str(error)) from None


def parse_log(body: bytes, *, has_terminal: bool) -> list[LogEntry]:
    """Return the entries of an answer with times. Raises BadAnswerOfEngineError."""
    texts = [body] if has_terminal else _split_frames(body)
    return [_parse_line(line) for text in texts for line in text.split(b"\n") if line]


def _split_frames(body: bytes) -> Iterator[bytes]:
    """Yield the text of each frame. Its end is the end of a line: a longer one comes in several frames."""
    at = 0
    while at < len(body):
        head = body[at : at + _HEAD_BYTES]
        end = at + _HEAD_BYTES + int.from_bytes(head[4:], "big")
        if len(head) < _HEAD_BYTES or head[0] not in _STREAMS or any(head[1:4]) or end > len(body):
            raise BadAnswerOfEngineError("a log that is not in frames")
        yield body[at + _HEAD_BYTES : end]
        at = end


def _parse_line(line: bytes) -> LogEntry:
    """Return the entry of a line, whose key is the line with its time. Raises BadAnswerOfEngineError."""
    stamp = _STAMP.match(line)
    if stamp is None:
        raise BadAnswerOfEngineError("a line of a log without a time")
    try:
        ts = parse_epoch(datetime.fromisoformat((stamp[1] + stamp[2]).decode()).timestamp())
    except (ValueError, OverflowError):
        raise BadAnswerOfEngineError("a line of a log with a time that is none") from None
    return LogEntry(line, ts or 0.0, line[stamp.end() :])
