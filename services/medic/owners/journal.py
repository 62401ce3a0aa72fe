"""Read the logs of units from the journal, by `journalctl`; what it writes is not trusted.

It is run without a shell, once a unit, and writes one JSON object an entry, the newest first: with `--since`
and `--lines`, journalctl 252 leaves the newest out, unless it is asked for the reverse order.
"""

import os
import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import orjson

from marketswarm.bus.stored_values import parse_text
from marketswarm.channels.exec import read_command
from services.medic.owners.log_source import MAX_LOG_BYTES, LogEntry, LogError, LogTooLongError, PolledLogs
from services.medic.owners.owner import InspectingOwner
from services.medic.owners.unit import make_unit_name

USER_BUS: Final = "unix:path=/run/user/"
"""How the address of a user's D-Bus begins: the units behind it are that user's."""
_UNIT: Final = re.compile(r"[A-Za-z0-9:_.@-]{1,255}\.service", re.ASCII)
"""The names that are asked for: in others, journalctl may see a pattern."""
_TIME: Final = re.compile(r"\d{1,18}", re.ASCII)
_MAX_CURSOR: Final = 500


class JournalLogs(PolledLogs):
    """The journal of the units that systemd showed in the last look, by their names.

    Args:
        systemd: knows by service which units were started here, and counts the outcome of each `journalctl`.
        pattern: the name of a service's unit, with `%s` in place of the service.
        is_user: whether these are units of a user.
    """

    at_once: ClassVar = 2
    per_look: ClassVar = 10

    def __init__(self, systemd: InspectingOwner[Any, Any], pattern: str, log: Any, *, is_user: bool) -> None:
        super().__init__(log)
        self._systemd, self._pattern = systemd, pattern
        self._option = "--user-unit" if is_user else "--unit"

    def find_logs(self, svc: str) -> Sequence[str] | None:
        """Return the unit of a service, none if systemd has none; None while that is not known."""
        if not self._systemd.has_read:
            return None
        return [make_unit_name(self._pattern, svc)] if svc in self._systemd.known else []

    async def ask(self, name: str, since: int | None, lines: int, within_sec: float) -> Sequence[LogEntry]:
        if not _UNIT.fullmatch(name):
            raise LogError("a name of a unit that can't be asked for")
        command = ["journalctl", "--quiet", "--no-pager", "--output=json", "--output-fields=MESSAGE"]
        command += ["--reverse", f"--lines={lines}", f"{self._option}={name}"]
        command += [] if since is None else [f"--since=@{since}"]
        try:
            entries = parse_journal(await _run(command, within_sec))
        except LogError as error:
            self._systemd.requests["journal", error.reason] += 1
            raise
        self._systemd.requests["journal", "ok"] += 1
        return entries


async def _run(command: Sequence[str], within_sec: float) -> bytes:
    """Return what journalctl writes. Raises LogError."""
    try:
        code, output = await read_command(command, within_sec, MAX_LOG_BYTES + 1)
    except TimeoutError:
        raise LogError("journalctl does not end: timeout", "timeout") from None
    except OSError as error:
        why = f"journalctl can't be run: {os.strerror(error.errno or 0).lower()}"
        raise LogError(why, "not_runnable") from None
    if code:
        raise LogError(f"journalctl ends with {code}")
    return output


def parse_journal(output: bytes) -> list[LogEntry]:
    """Return the entries that journalctl wrote, the oldest first. Raises LogError."""
    if len(output) > MAX_LOG_BYTES:
        raise LogTooLongError
    return [_parse_entry(line) for line in reversed(output.split(b"\n")) if line]


def _parse_entry(line: bytes) -> LogEntry:
    """Return the entry of a JSON object, whose key is its cursor. Raises LogError."""
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise LogError("journalctl writes no JSON") from None
    cursor = parse_text(found.get("__CURSOR"), _MAX_CURSOR) if isinstance(found, dict) else None
    usec = found.get("__REALTIME_TIMESTAMP") if cursor is not None else None
    if cursor is None or type(usec) is not str or not _TIME.fullmatch(usec):
        raise LogError("journalctl writes an entry without a cursor or a time")
    return LogEntry(cursor.encode(), int(usec) / 1e6, _parse_message(found.get("MESSAGE")))


def _parse_message(value: Any) -> bytes | None:
    """Return the text of an entry; None if journalctl left it out, as it does above 4 KiB.

    A text with control characters, or that is not UTF-8, comes as a list of bytes.
    """
    if type(value) is str:
        return value.encode()
    try:
        return bytes(value) if type(value) is list else None
    except (TypeError, ValueError):
        return None
