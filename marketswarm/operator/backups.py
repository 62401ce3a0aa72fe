"""Define what archive says of its backups, and how one is asked for before archive would make it.

archive keeps a `BackupReport` on system-redis, in place of the one before. The medic writes a `BackupRequest`
there, which expires. Anyone with access to the bus may have written either, so each is parsed when it is
read.
"""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from marketswarm.bus import Bus
from marketswarm.bus.stored_values import read_parsed
from marketswarm.keys import ARCHIVE_BACKUP
from marketswarm.operator.fields import STRICT, Epoch, Ident, JsonRecord, Name

REQUEST_VALID_SEC: Final = 60
"""How long a request stays on the bus: one that no instance of archive takes by then is not followed."""


class BackupState(StrEnum):
    """How the backups of archive are."""

    OFF = "off"  # there is no folder for them
    IDLE = "idle"  # the newest one is as new as the schedule wants it
    RUNNING = "running"
    FAILED = "failed"  # the last attempt failed; archive pauses before the next one


class BackupResult(StrEnum):
    """The outcome of a request."""

    MADE = "made"
    FAILED = "failed"
    NOT_DUE = "not_due"  # the newest backup is as new as the schedule wants it


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class BackupReport(JsonRecord):
    """What archive says of its backups, as of `ts`.

    `made_at` is when the newest backup was begun, None if there is none; `due_at` when the next one is due,
    None if that is not known. `why` is why the last attempt failed. `request` is the id of the last request
    that archive took, `result` its outcome, None as long as it is carried out. `damaged` is a dump in
    the folder that is not what was saved, empty if none is known. All times are epoch seconds. Raises
    ValueError when a field is out of bounds.
    """

    state: BackupState
    ts: Epoch
    made_at: Epoch | None = None
    due_at: Epoch | None = None
    why: Annotated[str, Field(max_length=200)] = ""
    request: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{0,200}$")] = ""
    result: BackupResult | None = None
    damaged: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{0,100}$")] = ""

    def find_late_sec(self, now: float) -> float:
        """Return for how long the next backup has been due at `now`; 0 if it is not, or is being made."""
        if self.state in (BackupState.OFF, BackupState.RUNNING) or self.due_at is None:
            return 0.0
        return max(0.0, now - self.due_at)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class BackupRequest(JsonRecord):
    """A request, made at `ts`, to make the backup now that is due; archive takes each `id` once.

    Raises ValueError when a field is out of bounds.
    """

    id: Ident
    by: Name
    ts: Epoch


async def read_backup_report(bus: Bus) -> BackupReport | None:
    """Return what archive says of its backups; None if it says nothing that can be used. Raises BusError."""
    return await read_parsed(bus, ARCHIVE_BACKUP, BackupReport.parse)
