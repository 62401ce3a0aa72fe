"""Define what services say of themselves on system-redis, and how a process is asked to do something.

archive says how its backups are (`BackupReport`) and how its database is (`DatabaseReport`): it alone has
the password of PostgreSQL. The medic asks for a backup before archive would make it (`BackupRequest`), or
asks one process to carry out a remedy itself (`ServiceRequest`): to open its connections to PostgreSQL again,
or to load its series (`REQUEST_KEYS`). That process answers by a `RequestReport`.

Each report is in place of the one before, and requests expire. Anyone with access to the bus may have written
any of them, so each is parsed when it is read.
"""

from dataclasses import field
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from marketswarm.bus import Bus
from marketswarm.bus.stored_values import MAX_DURATION_SEC, read_parsed, report_unusable
from marketswarm.keys import ARCHIVE_BACKUP, ARCHIVE_DATABASE
from marketswarm.operator.fields import STRICT, Epoch, Ident, JsonRecord, Name
from marketswarm.operator.remedies import REQUEST_KEYS, list_rule_words
from marketswarm.truth import Truth

REQUEST_VALID_SEC: Final = 60
"""How long a request stays on the bus. One that is not taken by then is not followed, and neither is one
whose `ts` is further from the reader's clock."""
REPORT_VALID_SEC: Final = 24 * 3600
"""How long a `RequestReport` stays on the bus."""
DATABASE_REPORT_VALID_SEC: Final = 60
"""How long the report of a database stays on the bus; archive writes one every five seconds."""
MAX_SKEW_SEC: Final = 300.0
"""How far the `ts` of that report may be from the reader's clock: one that never expires is not believed."""
MAX_TABLES: Final = 50

Count = Annotated[int, Field(ge=0, le=10**9)]
Duration = Annotated[float, Field(ge=0, le=MAX_DURATION_SEC, allow_inf_nan=False)]
Age = Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]
"""A record may be of 1800."""
TableName = Annotated[str, Field(pattern=r"^[a-z_]{1,63}$")]


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
    the folder that is not what was saved, empty if none is known. `verified_at` is when a backup was last
    restored and found to be what was saved, None if none was, and `verified` is its dump; `verify_due_at` is
    when the next one is restored, None if none will be; `verify_why` is why the last attempt failed. All
    times are epoch seconds. Raises ValueError when a field is out of bounds.
    """

    state: BackupState
    ts: Epoch
    made_at: Epoch | None = None
    due_at: Epoch | None = None
    why: Annotated[str, Field(max_length=200)] = ""
    request: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{0,200}$")] = ""
    result: BackupResult | None = None
    damaged: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{0,100}$")] = ""
    verified_at: Epoch | None = None
    verified: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{0,100}$")] = ""
    verify_due_at: Epoch | None = None
    verify_why: Annotated[str, Field(max_length=200)] = ""

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


class RequestResult(StrEnum):
    """The outcome of a request."""

    DONE = "done"  # a new connection answers; no critical series is stale
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ServiceRequest(JsonRecord):
    """A request, made at `ts` (epoch seconds), to the process `boot`, which follows each `id` once.

    Raises ValueError when a field is out of bounds.
    """

    id: Ident
    boot: Name
    by: Name
    ts: Epoch


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class RequestReport(JsonRecord):
    """The outcome of the last request that the process `boot` followed, as of `ts` (epoch seconds).

    `request` is its id. `result` is None while it is carried out. `ended` counts the sessions that did
    nothing in a transaction and were ended, `loaded` the series that are fresh again. `why` is why it failed.
    Raises ValueError when a field is out of bounds.
    """

    request: Ident
    boot: Name
    ts: Epoch
    result: RequestResult | None = None
    ended: Annotated[int, Field(ge=0, le=10**6)] = 0
    loaded: Annotated[int, Field(ge=0, le=10**6)] = 0
    why: Annotated[str, Field(max_length=200)] = ""


async def read_request_report(bus: Bus, remedy: str, svc: str) -> RequestReport | None:
    """Return what a service says of a remedy of REQUEST_KEYS; None if it says nothing that can be used.

    Raises BusError.
    """
    return await read_parsed(bus, REQUEST_KEYS[remedy][svc][0], RequestReport.parse)


class DatedTable(StrEnum):
    """The tables of archive whose newest row has an age."""

    BARS = "bars"
    QUOTES = "quotes"
    INDICATORS = "indicators"
    FEATURES = "features"
    OBSERVATIONS = "observations"
    CORRELATIONS = "correlations"
    DOWNLOADS = "downloads"
    SOURCE_HEALTH = "source_health"
    ALERT_LOG = "alert_log"
    INCIDENTS = "incidents"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class DatabaseReport(JsonRecord):
    """What archive says of its database as of `ts`, in epoch seconds; what is None is not known.

    `lag_sec` is how long the oldest entry waits that archive has not read. `connections` are in use, of
    `connection_limit` that are not reserved for superusers. `idle_transactions` counts the sessions that have
    done nothing in a transaction for a minute, `size_bytes` is the size of the database, and `memory_percent`
    what the server takes of the memory of archive's machine, if it runs there. `replicas` counts the servers
    that follow PostgreSQL, `replica_lag_sec` is by how much the slowest one is behind.
    `table_ages` has the seconds since the time of the newest row, by table. Raises ValueError when a field is
    out of bounds.
    """

    ts: Epoch
    lag_sec: Duration | None = None
    connections: Count | None = None
    connection_limit: Annotated[int, Field(ge=1, le=10**9)] | None = None
    idle_transactions: Count | None = None
    size_bytes: Annotated[int, Field(ge=0, le=10**18)] | None = None
    memory_percent: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] | None = None
    replicas: Count | None = None
    replica_lag_sec: Duration | None = None
    table_ages: Annotated[dict[TableName, Age], Field(max_length=MAX_TABLES)] = field(default_factory=dict)

    def find_connection_percent(self) -> float | None:
        """Return how much of what is not reserved is in use; a superuser may make it more than 100."""
        if self.connections is None or self.connection_limit is None:
            return None
        return 100 * self.connections / self.connection_limit


async def read_database_report(bus: Bus, now: float) -> DatabaseReport | None:
    """Return what archive says of its database; None if it says nothing that can be used at `now`.

    Raises BusError.
    """
    report = await read_parsed(bus, ARCHIVE_DATABASE, DatabaseReport.parse)
    if report is None or abs(now - report.ts) <= MAX_SKEW_SEC:
        return report
    report_unusable(bus.name, ARCHIVE_DATABASE, "ts")
    return None


def list_ruled_tables(truth: Truth) -> list[DatedTable]:
    """Return the tables that rules of the medic are about, each once."""
    named = set(list_rule_words(truth, "table"))
    return [table for table in DatedTable if table in named]
