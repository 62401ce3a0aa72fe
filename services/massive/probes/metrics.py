"""Report the metrics of massive's probes on METRICS_PORT: at most one value per target of the truth."""

from collections.abc import Iterator, Mapping
from typing import Final

from marketswarm.agent.outage_alerts import OutageAlerts
from marketswarm.metrics import Family, MetricTable
from services.massive.probes.publish import ResultPublisher
from services.massive.probes.result import ProbeFinding

_HELP: Final = {
    "probe_ok{target,kind}": "1 if the last probe of the target found it as it should be, else 0.",
    "target_up{target}": "1 if the target is up, 0 if it is down, by several probes in a row.",
    "probe_seconds{target}": "How long the last probe of the target took.",
    "certificate_days{target}": "How many days the target's certificate is still good for, where it has one.",
    "results_total": "Results put on the bus.",
    "results_lost_total": "Results dropped because the bus was away for too long.",
    "events_total{kind}": "Events put on massive:alerts, which the healer copies: miss, ok, unwatched.",
    "results_waiting": "Results that the bus of the alerts has not taken yet.",
}
_METRICS: Final = MetricTable("marketswarm_massive_", _HELP)


def collect_metrics(
    latest: Mapping[str, ProbeFinding],
    results: ResultPublisher,
    alerts: OutageAlerts,
) -> Iterator[Family]:
    """Use the last result and the state of each target; another thread may call this."""
    return _METRICS.collect(
        probe_ok={(name, each.result.kind): each.result.ok for name, each in latest.items()},
        target_up={name: each.verdict != "down" for name, each in alerts.states.copy().items()},
        probe_seconds={name: each.result.ms.get("total", 0.0) / 1000 for name, each in latest.items()},
        certificate_days={
            name: float(each.result.facts["days_left"])
            for name, each in latest.items()
            if "days_left" in each.result.facts
        },
        results_total=results.published,
        results_lost_total=results.lost,
        events_total=alerts.published,
        results_waiting=alerts.pending_count(),
    )
