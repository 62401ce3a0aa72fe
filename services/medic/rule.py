"""Define an alert rule of the truth, and the rules that hold without being written there. Pure."""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Annotated, Final, Self

from pydantic import Field, model_validator
from pydantic_core import SchemaError, SchemaValidator, core_schema

from marketswarm.access.services import find_written_key
from marketswarm.agent import ServiceConfig
from marketswarm.event import Severity
from marketswarm.keys import RESERVED_PREFIXES
from marketswarm.operator.remedies import ARCHIVE, SOURCES
from marketswarm.operator.service_reports import DatedTable
from marketswarm.status.probe_past import list_target_names
from marketswarm.truth import ESCALATED_RULE, PROPOSED_RULE, Truth, find_probe_targets
from marketswarm.truth.document_edit import MASSIVE
from services.medic.metric import (
    CONNECTION_METRICS,
    COUNTERS,
    DATABASE,
    FLEET,
    GROUP,
    HOST,
    LOG_METRICS,
    REPAIR_METRICS,
    Metric,
    MetricSubject,
)

MAX_RULES: Final = 100
MAX_PAIRS: Final = 20_000
"""The most pairs of a rule and a subject that are evaluated; further ones are left out, and said."""

MAX_PATTERN_CHARS: Final = 300
MAX_LINE_CHARS: Final = 2000
"""The part of a line in which a pattern is looked for."""
MAX_REPEAT: Final = 100
MAX_PATTERNS: Final = 20
"""The most rules with a pattern: the engine lets one take 10 MB of memory."""

_REPEATED_GROUP: Final = re.compile(r"(?<!\\)\)\{")
_REPEAT: Final = re.compile(r"\{(\d*+),?(\d*+)\}")

STOPPED_RULE: Final = "stopped"
"""The rule of ours that no medic can act, which a medic that waits for a leader tells of, too."""

RuleName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,29}$")]
Limit = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]
Duration = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
DATABASE_ERRORS: Final = (
    r'"event":"database\.away"|\b(asyncpg|psycopg|sqlalchemy)\.[\w.]*(Error|Exception)'
    r"|\b(Postgres|Interface|Operational)Error\b|deadlock detected|too many connections"
    r"|remaining connection slots"
)
"""Matches a line that says that a database can't be used, or has refused something."""


@lru_cache(maxsize=2 * MAX_PATTERNS)
def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """Return a function that says whether the pattern is in a text. Raises ValueError, with the reason.

    The engine is Rust's, which pydantic brings: its time grows with the length of the line and of the
    pattern, and never as a power of either, whatever the line. It knows no look-around and no
    back-references.
    """
    # counted repeats in each other make a short pattern a huge one: `(.{1,30}){30}` takes 0.3 s for a line
    if _REPEATED_GROUP.search(pattern):
        raise ValueError("pattern: {n} may follow a character or a class, and no group")
    counts = [count for each in _REPEAT.finditer(pattern) for count in each.groups() if count]
    if any(len(count) > len(str(MAX_REPEAT)) or int(count) > MAX_REPEAT for count in counts):
        raise ValueError(f"pattern: repeats too much, {MAX_REPEAT} times at most")
    try:
        validator = SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]  # the last one says why
        reason = (lines[-1] if lines else "can't be compiled").removeprefix("error: ")[:200]
        raise ValueError(f"pattern: {reason}") from None
    return validator.isinstance_python


class RuleSeverity(StrEnum):
    """What follows from a rule that holds."""

    INFO = "info"  # a line in the log
    WARNING = "warning"  # an event: people get a message
    CRITICAL = "critical"  # an urgent one; of a service, it is a symptom that the medic may act on
    EMERGENCY = "emergency"  # an urgent one; the medic leaves the service to people

    def for_event(self) -> Severity:
        return Severity.CRITICAL if self is RuleSeverity.EMERGENCY else Severity(self)


class MonitorRule(ServiceConfig):
    """`settings.rules`: when to publish an alert about what was measured."""

    metric: Metric
    """What is measured, of each subject. Example: `"process_memory"`."""
    above: Limit | None = None
    """The rule holds for values above this one. Example: `80`."""
    below: Limit | None = None
    """The rule holds for values below this one. Example: `10`."""
    for_sec: Duration = 0.0
    """How long each value must be so before the rule holds. Example: `300`."""
    clear_sec: Duration = 30.0
    """How long no value may be so before the rule no longer holds. Example: `60`."""
    within_sec: Annotated[float | None, Field(gt=0, le=86_400, allow_inf_nan=False)] = None
    """For a metric that counts: the time in which the increase is counted. Example: `3600`."""
    share_above: Annotated[float | None, Field(ge=0, lt=1)] = None
    """The rule holds if the values of more than this share of all subjects are so. Example: `0.1`."""
    severity: RuleSeverity = RuleSeverity.WARNING
    """What follows: `info` a line in the log, `warning` a message to people, `critical` an urgent one and
    perhaps a remedy, `emergency` an urgent one and no remedy. Example: `"critical"`."""
    services: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=100)], ...], Field(max_length=100)
    ] = ()
    """Names or patterns of the subjects that the rule is about. Default: all. Example: `["rss_*"]`."""

    pattern: Annotated[str | None, Field(min_length=1, max_length=MAX_PATTERN_CHARS)] = None
    """For `log_matches`: the regular expression that is looked for in each line of the log. Example:
    `"connection (refused|reset)"`."""
    key: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    """For `write_age`: the stream or key, as it is called in the `publish_to` of the service. Example:
    `"rss:items"`."""
    table: DatedTable | None = None
    """For `table_age`: the table of archive. Example: `"quotes"`."""

    @model_validator(mode="after")
    def _fits_the_metric(self) -> Self:
        """Raise ValueError if the limits don't fit each other, or the metric."""
        self._require_detail("pattern", self.pattern, Metric.LOG_MATCHES)
        self._require_detail("key", self.key, Metric.WRITE_AGE)
        self._require_detail("table", self.table, Metric.TABLE_AGE)
        if self.pattern is not None:
            compile_pattern(self.pattern)
        if self.key is not None and ("*" in self.key or self.key.startswith(RESERVED_PREFIXES)):
            raise ValueError("key: is a key of its own, and none of the swarm's")
        if self.detail and self.share_above is not None:
            raise ValueError(f"share_above: is not for {self.metric}")
        if self.below is not None and self.metric in LOG_METRICS:
            raise ValueError("below: is not for logs, since of a long one only the end is read")
        if (self.above is None) is (self.below is None):
            raise ValueError("above: a rule has either above or below")
        counts = self.metric in COUNTERS
        if (self.within_sec is not None) is not counts:
            raise ValueError(
                f"within_sec: is {'missing: this metric counts' if counts else 'for metrics that count'}"
            )
        return self

    def _require_detail(self, name: str, value: str | None, metric: Metric) -> None:
        if (value is not None) is not (self.metric is metric):
            raise ValueError(f"{name}: is {f'for {metric}' if value is not None else 'missing'}")

    @property
    def detail(self) -> str:
        """The pattern, key or table that says what is measured of the subject; empty for most metrics."""
        return self.pattern or self.key or self.table or ""

    @property
    def can_heal(self) -> bool:
        """Whether a service that the rule is about is one to act on while it holds.

        A count of the past continues to be so after a remedy, and a share is that of many.
        """
        is_own = self.metric.subject is MetricSubject.SERVICE and self.metric not in REPAIR_METRICS
        return (
            is_own
            and self.severity is RuleSeverity.CRITICAL
            and self.within_sec is None
            and self.share_above is None
        )

    @property
    def frees_connections(self) -> bool:
        """Whether new connections of archive may end what the rule reports, so that archive is its target."""
        return (
            self.metric in CONNECTION_METRICS
            and self.severity is RuleSeverity.CRITICAL
            and self.share_above is None
        )

    @property
    def is_about_age(self) -> bool:
        """Whether one value over the limit shows for how long nothing happened."""
        return self.metric is Metric.WRITE_AGE and self.above is not None

    @property
    def proof_sec(self) -> float:
        """How much time has to be observed for a proof: an age has to grow to its limit meanwhile."""
        return self.for_sec + (self.above or 0.0 if self.is_about_age else 0.0)

    def is_met_by(self, value: float) -> bool:
        return value > self.above if self.above is not None else value < (self.below or 0.0)

    def includes(self, subject: str) -> bool:
        return not self.services or any(fnmatchcase(subject, pattern) for pattern in self.services)

    def describe(self) -> str:
        """Return the limit in words: `above 80 for 300 s`."""
        limit = f"above {self.above:g}" if self.above is not None else f"below {self.below:g}"
        lasts = f" for {self.for_sec:g} s" if self.for_sec else ""
        counted = f" within {self.within_sec:g} s" if self.within_sec is not None else ""
        return f"{limit}{lasts}{counted}"


def _rule(
    metric: Metric, severity: RuleSeverity = RuleSeverity.WARNING, **more: float | str | tuple[str, ...]
) -> MonitorRule:
    return MonitorRule.model_validate({"metric": metric, "severity": severity, **more})


SHIPPED: Final[Mapping[str, MonitorRule]] = {
    "degraded": _rule(Metric.DEGRADED, above=0, for_sec=300),
    "restarts": _rule(Metric.RESTARTS, above=5, within_sec=3600),
    "memory": _rule(Metric.PROCESS_MEMORY, above=80, for_sec=300),
    "memory_high": _rule(Metric.PROCESS_MEMORY, RuleSeverity.CRITICAL, above=90, for_sec=60),
    "host_memory": _rule(Metric.HOST_MEMORY, above=80, for_sec=300),
    "host_memory_high": _rule(Metric.HOST_MEMORY, RuleSeverity.CRITICAL, above=90, for_sec=60),
    "disk": _rule(Metric.HOST_DISK_FREE, RuleSeverity.CRITICAL, below=10, for_sec=60),
    "service_disk": _rule(Metric.PROCESS_DISK_FREE, below=10, for_sec=60),
    "conflict": _rule(Metric.CONFLICT, above=0, for_sec=60),
    "bus_memory": _rule(Metric.BUS_MEMORY, above=80, for_sec=300),
    "bus_connections": _rule(Metric.BUS_CONNECTIONS, above=80, for_sec=60),
    "bus_replica_lag": _rule(Metric.BUS_REPLICA_LAG, above=10, for_sec=30),
    "database_connections": _rule(Metric.DATABASE_CONNECTIONS, above=80, for_sec=60),
    "database_idle_transactions": _rule(Metric.DATABASE_IDLE_TRANSACTIONS, above=0, for_sec=300),
    "database_memory": _rule(Metric.DATABASE_MEMORY, above=80, for_sec=300),
    "database_lag": _rule(Metric.DATABASE_LAG, above=600, for_sec=60, services=(ARCHIVE,)),
    "database_replica_lag": _rule(Metric.DATABASE_REPLICA_LAG, above=300, for_sec=60),
    "sources": _rule(Metric.SOURCE_FAILING, above=0, share_above=0.1, for_sec=60),
    "gate": _rule(Metric.GATE_CLOSED, above=0, for_sec=600),
    "quarantine": _rule(Metric.QUARANTINED, above=100, within_sec=3600),
    "bad_source": _rule(Metric.SOURCE_REJECTS, above=10, for_sec=60, services=(SOURCES,)),
    "backup": _rule(Metric.BACKUP_LATE, above=3600, for_sec=60, services=(ARCHIVE,)),
    "backup_damaged": _rule(Metric.BACKUP_DAMAGED, above=0, services=(ARCHIVE,)),
    "restore": _rule(Metric.RESTORE_FAILED, above=0, for_sec=600, services=(ARCHIVE,)),
    "api_limits": _rule(Metric.SOURCE_LIMITED, above=0, share_above=0, for_sec=600),
    "slow": _rule(Metric.PROBE_SEC, above=1, for_sec=60),
    "certificate": _rule(Metric.CERTIFICATE_DAYS, below=7, for_sec=60),
    "database_errors": _rule(Metric.LOG_MATCHES, above=3, within_sec=300, pattern=DATABASE_ERRORS),
    "new_errors": _rule(Metric.LOG_NEW_ERRORS, above=0, within_sec=600),
    ESCALATED_RULE: _rule(Metric.ESCALATED, RuleSeverity.EMERGENCY, above=0),
    # the next proposal has another id, so it is another event
    PROPOSED_RULE: _rule(Metric.PROPOSED, above=0, clear_sec=0),
    STOPPED_RULE: _rule(Metric.STOPPED, RuleSeverity.EMERGENCY, above=0, for_sec=60),
    "fuse": _rule(Metric.FUSE, RuleSeverity.EMERGENCY, above=0),
}
"""The rules that are in force unless the truth says otherwise."""


def list_pairs(rules: Mapping[str, MonitorRule], truth: Truth) -> dict[str, tuple[str, MonitorRule]]:
    """Return by the name `<rule>/<subject>` each rule with each subject that the truth names.

    The subjects of a rule about a share are one, `all`; those of a rule with a key are the services that
    write it. Without archive nothing is known of a database. There are MAX_PAIRS at most.
    """
    subjects = {
        MetricSubject.SERVICE: tuple(truth.services),
        MetricSubject.BUS: tuple(truth.bus_names()),
        MetricSubject.PROBE: list_target_names(truth),
        MetricSubject.HOST: (HOST,),
        MetricSubject.FLEET: (FLEET,),
        MetricSubject.DATABASE: (DATABASE,) if ARCHIVE in truth.services else (),
    }
    pairs = (
        (f"{name}/{subject}", (subject, rule))
        for name, rule in rules.items()
        for subject in ((GROUP,) if rule.share_above is not None else subjects.get(rule.metric.subject, ()))
        if rule.share_above is not None or rule.includes(subject)
        if rule.key is None or find_written_key(truth, subject, rule.key) is not None
    )
    return {name: pair for _, (name, pair) in zip(range(MAX_PAIRS), pairs, strict=False)}


def list_probes_by_service(truth: Truth) -> dict[str, list[str]]:
    """Return by service the names of massive's targets that depend on it, and so show whether it works."""
    needed = {target.svc: target.depends_on for target in find_probe_targets(truth)}
    found: dict[str, list[str]] = {}
    for name in list_target_names(truth):
        for svc in needed[f"{MASSIVE}/{name}"]:
            found.setdefault(svc, []).append(name)
    return found
