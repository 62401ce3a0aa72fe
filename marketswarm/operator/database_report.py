"""Define what archive says of its database, and of how far it is behind its streams.

archive alone has the password of PostgreSQL. It keeps a `DatabaseReport` on system-redis, which expires
unless it is renewed. Anyone with access to the bus may have written it, so it is parsed when it is read.
"""

from dataclasses import field
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from marketswarm.bus import Bus
from marketswarm.bus.stored_values import MAX_DURATION_SEC, read_parsed, report_unusable
from marketswarm.keys import ARCHIVE_DATABASE
from marketswarm.operator.fields import STRICT, Epoch, JsonRecord
from marketswarm.operator.remedies import list_rule_words
from marketswarm.truth import Truth

REPORT_VALID_SEC: Final = 60
"""How long a report stays on the bus; archive writes one every five seconds."""
MAX_SKEW_SEC: Final = 300.0
"""How far the `ts` of a report may be from the reader's clock: one that does not expire is not believed."""
MAX_TABLES: Final = 50

Count = Annotated[int, Field(ge=0, le=10**9)]
Duration = Annotated[float, Field(ge=0, le=MAX_DURATION_SEC, allow_inf_nan=False)]
Age = Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]
"""A record may be of 1800."""
TableName = Annotated[str, Field(pattern=r"^[a-z_]{1,63}$")]


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
