"""Define an alert rule of the truth, and the rules that hold without being written there. Pure."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from marketswarm.agent import ServiceConfig
from marketswarm.event import Severity
from marketswarm.truth import ESCALATED_RULE
from services.medic.rules.metric import FLEET, GROUP, HOST, KINDS, Metric, MetricSubject

MAX_RULES: Final = 100
MAX_PAIRS: Final = 20_000
"""The most pairs of a rule and a subject that are evaluated; further ones are left out, and said."""

RuleName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,29}$")]
Limit = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]
Duration = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


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

    @model_validator(mode="after")
    def _fits_the_metric(self) -> Self:
        """Raise ValueError if the limits don't fit each other, or the metric."""
        if (self.above is None) is (self.below is None):
            raise ValueError("above: a rule has either above or below")
        if (self.within_sec is not None) is not KINDS[self.metric].is_counter:
            counts = KINDS[self.metric].is_counter
            raise ValueError(
                f"within_sec: is {'missing: this metric counts' if counts else 'for metrics that count'}"
            )
        return self

    @property
    def can_heal(self) -> bool:
        """Whether a service that the rule is about is one to act on while it holds.

        A count of the past goes on to be so after a remedy, and a share is that of many.
        """
        is_own = KINDS[self.metric].of is MetricSubject.SERVICE and self.metric is not Metric.ESCALATED
        return (
            is_own
            and self.severity is RuleSeverity.CRITICAL
            and self.within_sec is None
            and self.share_above is None
        )

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


def _rule(metric: Metric, severity: RuleSeverity = RuleSeverity.WARNING, **more: float) -> MonitorRule:
    return MonitorRule.model_validate({"metric": metric, "severity": severity, **more})


SHIPPED: Final[Mapping[str, MonitorRule]] = {
    "degraded": _rule(Metric.DEGRADED, above=0, for_sec=300),
    "restarts": _rule(Metric.RESTARTS, above=5, within_sec=3600),
    "memory": _rule(Metric.PROCESS_MEMORY, above=80, for_sec=300),
    "memory_high": _rule(Metric.PROCESS_MEMORY, RuleSeverity.CRITICAL, above=90, for_sec=60),
    "host_memory": _rule(Metric.HOST_MEMORY, above=80, for_sec=300),
    "host_memory_high": _rule(Metric.HOST_MEMORY, RuleSeverity.CRITICAL, above=90, for_sec=60),
    "disk": _rule(Metric.HOST_DISK_FREE, RuleSeverity.CRITICAL, below=10, for_sec=60),
    "bus_memory": _rule(Metric.BUS_MEMORY, above=80, for_sec=300),
    "bus_connections": _rule(Metric.BUS_CONNECTIONS, above=80, for_sec=60),
    "sources": _rule(Metric.SOURCE_FAILING, above=0, share_above=0.1, for_sec=60),
    "quarantine": _rule(Metric.QUARANTINED, above=100, within_sec=3600),
    ESCALATED_RULE: _rule(Metric.ESCALATED, RuleSeverity.EMERGENCY, above=0),
    "fuse": _rule(Metric.FUSE, RuleSeverity.EMERGENCY, above=0),
}
"""The rules that are in force unless the truth says otherwise."""


def merge_rules(own: Mapping[str, MonitorRule | None], *, shipped: bool) -> dict[str, MonitorRule]:
    """Return the rules in force: ours, and those of a truth in their place; None there takes a rule out."""
    merged: dict[str, MonitorRule | None] = {**(SHIPPED if shipped else {}), **own}
    return {name: rule for name, rule in merged.items() if rule is not None}


def list_pairs(
    rules: Mapping[str, MonitorRule], services: Iterable[str], buses: Iterable[str]
) -> dict[str, tuple[str, MonitorRule]]:
    """Return by the name `<rule>/<subject>` each rule with each subject that the truth names.

    The subjects of a rule about a share are one, `all`. There are MAX_PAIRS at most.
    """
    subjects = {
        MetricSubject.SERVICE: tuple(services),
        MetricSubject.BUS: tuple(buses),
        MetricSubject.HOST: (HOST,),
        MetricSubject.FLEET: (FLEET,),
    }
    pairs = (
        (f"{name}/{subject}", (subject, rule))
        for name, rule in rules.items()
        for subject in ((GROUP,) if rule.share_above is not None else subjects.get(KINDS[rule.metric].of, ()))
        if rule.share_above is not None or rule.includes(subject)
    )
    return {name: pair for _, (name, pair) in zip(range(MAX_PAIRS), pairs, strict=False)}
