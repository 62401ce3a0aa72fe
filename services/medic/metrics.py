"""Report the medic's metrics on METRICS_PORT. Another thread than the event loop's reads them."""

from collections import Counter
from collections.abc import Iterator

from marketswarm.metrics.family import Family, gauge
from services.medic.alert_follower import AlertFollower
from services.medic.medic import Medic
from services.medic.repair import RepairState


def collect_metrics(medic: Medic, alerts: AlertFollower) -> Iterator[Family]:
    states = Counter(repair.state for repair in list(medic.planner.repairs.values()))
    open_states = [state for state in RepairState if state is not RepairState.RESOLVED]
    yield Family(
        "marketswarm_medic_repairs",
        "gauge",
        "Open repairs, by their state.",
        [((state,), float(states[state])) for state in open_states],
        ("state",),
    )
    yield Family(
        "marketswarm_medic_entries_total",
        "counter",
        "Entries of timelines that were written, by what they say.",
        [((what,), float(count)) for what, count in medic.entries.copy().items()],
        ("what",),
    )
    yield Family(
        "marketswarm_medic_orders_total",
        "counter",
        "Remedies that were ordered, by the remedy and what became of the order.",
        [(names, float(count)) for names, count in medic.orders.copy().items()],
        ("remedy", "result"),
    )
    yield Family(
        "marketswarm_medic_alerts_total",
        "counter",
        "Entries of the alert log that were seen, by what they were.",
        [((what,), float(count)) for what, count in alerts.seen.copy().items()],
        ("what",),
    )
    holding = Counter(name.partition("/")[0] for name in medic.rules.holding.copy())
    yield Family(
        "marketswarm_medic_rules_holding",
        "gauge",
        "For how many subjects a rule holds.",
        [((rule,), float(holding[rule])) for rule in medic.rules.names],
        ("rule",),
    )
    yield Family(
        "marketswarm_medic_events_total",
        "counter",
        "Events put on medic:alerts, which the healer copies: miss, ok, unwatched.",
        [((kind,), float(count)) for kind, count in medic.rules.alerts.published.copy().items()],
        ("kind",),
    )
    tier = medic.second_tier
    yield Family(
        "marketswarm_medic_diagnoses_total",
        "counter",
        "Questions to the second tier, by what became of them.",
        [((result,), float(count)) for result, count in (tier.counts.copy() if tier else {}).items()],
        ("result",),
    )
    yield gauge(
        "marketswarm_medic_leading", "1 while this process is the one that acts.", float(medic.is_leading)
    )
    yield gauge(
        "marketswarm_medic_fuse_blown",
        "1 after too many remedies, until a person approves.",
        float(medic.planner.fuse.blown_at is not None),
    )
    yield gauge(
        "marketswarm_medic_round_seconds", "How long the last look at the fleet took.", medic.round_sec
    )
