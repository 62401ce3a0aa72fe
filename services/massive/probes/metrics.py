"""Report the metrics of massive's probes on METRICS_PORT: at most one value per target of the truth."""

from collections.abc import Iterator, Mapping

from marketswarm.agent.outage_alerts import OutageAlerts
from marketswarm.metrics.family import Family, counter, counters, gauge, gauges
from services.massive.probes.publish import ResultPublisher
from services.massive.probes.result import ProbeFinding


def collect_metrics(
    latest: Mapping[str, ProbeFinding],
    results: ResultPublisher,
    alerts: OutageAlerts,
) -> Iterator[Family]:
    """Use the last result and the state of each target; another thread may call this."""
    yield gauges(
        "marketswarm_massive_probe_ok",
        "1 if the last probe of the target found it as it should be, else 0.",
        {(name, each.result.kind): each.result.ok for name, each in latest.items()},
        ("target", "kind"),
    )
    yield gauges(
        "marketswarm_massive_target_up",
        "1 if the target is up, 0 if it is down, by several probes in a row.",
        {name: each.verdict != "down" for name, each in alerts.states.copy().items()},
        ("target",),
    )
    yield gauges(
        "marketswarm_massive_probe_seconds",
        "How long the last probe of the target took.",
        {name: each.result.ms.get("total", 0.0) / 1000 for name, each in latest.items()},
        ("target",),
    )
    yield gauges(
        "marketswarm_massive_certificate_days",
        "How many days the target's certificate is still good for, where it has one.",
        {
            name: float(each.result.facts["days_left"])
            for name, each in latest.items()
            if "days_left" in each.result.facts
        },
        ("target",),
    )
    yield counter("marketswarm_massive_results_total", "Results put on the bus.", results.published)
    yield counter(
        "marketswarm_massive_results_lost_total",
        "Results dropped because the bus was away for too long.",
        results.lost,
    )
    yield counters(
        "marketswarm_massive_events_total",
        "Events put on massive:alerts, which the healer copies: miss, ok, unwatched.",
        alerts.published,
        ("kind",),
    )
    yield gauge(
        "marketswarm_massive_results_waiting",
        "Results that the bus of the alerts has not taken yet.",
        alerts.pending_count(),
    )
