"""Name what rules can be about: the metrics, what each measures, and of what. Pure."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final, Self

from marketswarm.operator.remedies import ARCHIVE, BARS, SOURCES

HOST: Final = "host"
"""The subject of what is measured of the machine on which the medic runs."""
FLEET: Final = "fleet"
"""The subject of what is measured of all services together."""
DATABASE: Final = "database"
"""The subject of what archive says of PostgreSQL."""
GROUP: Final = "all"
"""The subject of a rule about a share: the group as a whole."""


class MetricSubject(StrEnum):
    """What a metric is measured of."""

    SERVICE = "service"
    BUS = "bus"
    SOURCE = "source"
    PROBE = "probe"
    HOST = "host"
    FLEET = "fleet"
    DATABASE = "database"


class Metric(StrEnum):
    """What is measured; percentages are from 0 to 100."""

    subject: MetricSubject
    """What it is measured of, the second word of a member; a service if there is none."""

    def __new__(cls, value: str, subject: str = "service") -> Self:
        metric = str.__new__(cls, value)
        metric._value_ = value
        metric.subject = MetricSubject(subject)
        return metric

    DEGRADED = "degraded"  # 1 if the last beat says `degraded`
    RESTARTS = "restarts"  # so far
    PROCESS_MEMORY = "process_memory"  # in percent: of the machine's, or of the limit of its container
    PROCESS_DISK_FREE = "process_disk_free"  # in percent, of the disk on which it works, besides the host's
    PROCESS_CPU = "process_cpu"  # in percent of one processor, of its busiest process or container
    CONFLICT = "conflict"  # 1 while more processes of it run than its `replicas`, as mesh sees it
    ESCALATED = "escalated"  # 1 while an outage of it is open that the medic gave up
    PROPOSED = "proposed"  # 1 while a remedy for it waits for a person's approval
    HOST_MEMORY = "host_memory", "host"  # in percent
    HOST_CPU = "host_cpu", "host"  # in percent of all processors
    HOST_DISK_FREE = "host_disk_free", "host"  # in percent, of the fullest disk that matters
    BUS_MEMORY = "bus_memory", "bus"  # in percent of `maxmemory`; unknown without such a limit
    BUS_CONNECTIONS = "bus_connections", "bus"  # in percent of `maxclients`
    BUS_REPLICAS = "bus_replicas", "bus"  # how many replicas are connected to it, and follow
    BUS_REPLICA_LAG = "bus_replica_lag", "bus"  # in seconds, since the one that is most behind was heard
    SOURCE_FAILING = "source_failing", "source"  # 1 while a source of the market fails
    SOURCE_REJECTS = "source_rejects"  # what the worst source in service sent lately that is of no use
    SOURCE_LIMITED = "source_limited", "source"  # 1 while a source of the market takes no more requests
    GATE_CLOSED = "gate_closed", "fleet"  # 1 if the last run of the gate left it closed
    QUARANTINED = "quarantined", "fleet"  # records that failed a check, so far
    BACKUP_LATE = "backup_late"  # in seconds, since the next backup was due
    BACKUP_DAMAGED = "backup_damaged"  # 1 while a dump in the folder is not what was saved
    RESTORE_FAILED = (
        "restore_failed"  # 1 after archive could not restore its newest backup, to see that it can
    )
    DATABASE_CONNECTIONS = "database_connections", "database"  # in percent of those that superusers leave
    DATABASE_IDLE_TRANSACTIONS = "database_idle_transactions", "database"  # sessions idle in a transaction
    DATABASE_SIZE = "database_size", "database"  # in GB (10^9 bytes)
    DATABASE_MEMORY = "database_memory", "database"  # in percent of the memory of archive's machine
    DATABASE_REPLICAS = "database_replicas", "database"  # how many replicas are connected to it
    DATABASE_REPLICA_LAG = "database_replica_lag", "database"  # in seconds, of the one that is most behind
    DATABASE_LAG = "database_lag"  # in seconds, since archive's oldest unread entry was written
    TABLE_AGE = "table_age", "database"  # in seconds, of the newest row in the table of the rule
    STOPPED = "stopped", "fleet"  # 1 while it may act on nothing of the fleet, or of what one owner runs
    FUSE = "fuse", "fleet"  # 1 while the medic has stopped after too many remedies
    LOG_MATCHES = "log_matches"  # lines of its log that match the pattern of the rule, so far
    LOG_NEW = "log_new"  # lines of its log of a kind that was never seen before, so far
    LOG_NEW_ERRORS = "log_new_errors"  # those of them that are errors
    WRITE_AGE = "write_age"  # in seconds, since it wrote the key of the rule
    PROBE_SEC = "probe_sec", "probe"  # in seconds, what the faster of the last two probes of a target took
    PROBE_FAILING = "probe_failing", "probe"  # 1 if the last probe of a target failed
    CERTIFICATE_DAYS = "certificate_days", "probe"  # how long the certificate of a target is good for


COUNTERS: Final = frozenset(
    {Metric.RESTARTS, Metric.QUARANTINED, Metric.LOG_MATCHES, Metric.LOG_NEW, Metric.LOG_NEW_ERRORS}
)
"""The metrics of which only the increase means something."""
REPAIR_METRICS: Final = frozenset({Metric.ESCALATED, Metric.PROPOSED})
"""What the medic says of its own work on a service: no symptom of that service."""
WORK_METRICS: Final = REPAIR_METRICS | {Metric.STOPPED, Metric.FUSE}
"""What the medic says of its own work, once it has decided."""
ALERTED_METRICS: Final = frozenset({Metric.SOURCE_FAILING})
"""What has an alert of its own for each subject, so that one subject alone is no share of all."""
HOST_METRICS: Final = frozenset({Metric.HOST_MEMORY, Metric.HOST_CPU, Metric.HOST_DISK_FREE})
PROCESS_METRICS: Final = frozenset({Metric.PROCESS_MEMORY, Metric.PROCESS_CPU})
"""What is measured of the processes and containers of a service."""
CONNECTION_METRICS: Final = frozenset({Metric.DATABASE_CONNECTIONS, Metric.DATABASE_IDLE_TRANSACTIONS})
"""What archive can do something about by new connections."""
CORRUPTION_METRICS: Final[Mapping[Metric, frozenset[str]]] = {
    Metric.QUARANTINED: frozenset({SOURCES, BARS}),
    Metric.SOURCE_REJECTS: frozenset({SOURCES}),
    Metric.BACKUP_LATE: frozenset({ARCHIVE}),
    Metric.BACKUP_DAMAGED: frozenset({ARCHIVE}),
    Metric.RESTORE_FAILED: frozenset({ARCHIVE}),
}
"""What says that data is damaged, or can't be restored, and which services that is about."""
LOG_METRICS: Final = frozenset({Metric.LOG_MATCHES, Metric.LOG_NEW, Metric.LOG_NEW_ERRORS})
"""What is counted in the log of a service."""

Readings = dict[Metric, dict[str, float | None]]
"""By metric and subject, what was measured at one moment; None is a subject whose value is not known. Where
the rule says more of what is measured, the subject is that of `name_reading`."""


def name_reading(subject: str, detail: str) -> str:
    """Return what a reading is called: its subject, with the detail of the rule if it has one."""
    return f"{subject} {detail}" if detail else subject


def find_most(values: Iterable[float | None]) -> float | None:
    """Return the largest value of a service's processes or containers; None unless each of them is known."""
    found = list(values)
    known = [value for value in found if value is not None]
    return max(known, default=None) if len(known) == len(found) else None
