"""Report the medic's metrics on METRICS_PORT. Another thread than the event loop's reads them."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from marketswarm.metrics import Family, MetricTable
from services.medic.alert_follower import AlertFollower
from services.medic.facts import RestartOwner
from services.medic.medic import Medic
from services.medic.repair import RepairState

_HELP: Final = {
    "repairs{state}": "Open repairs, by their state.",
    "entries_total{what}": "Entries of timelines that were written, by what they say.",
    "orders_total{remedy,result}": "Remedies that were ordered, by the remedy and the outcome.",
    "alerts_total{what}": "Entries of the alert log that were seen, by what they were.",
    "rules_holding{rule}": "For how many subjects a rule holds.",
    "events_total{kind}": "Events put on medic:alerts, which the healer copies: miss, ok, unwatched.",
    "diagnoses_total{result}": "Questions to the second tier, by outcome.",
    "engine_requests_total{request,result}": "Requests to the container engine, by outcome.",
    "systemd_requests_total{request,result}": "Calls to systemd, by outcome.",
    "leading": "1 while this process is the one that acts.",
    "fuse_blown": "1 after too many remedies, until a person approves.",
    "round_seconds": "The processor time of the last look at the fleet.",
}
_METRICS: Final = MetricTable("marketswarm_medic_", _HELP)


def collect_metrics(medic: Medic, alerts: AlertFollower) -> Iterator[Family]:
    states = Counter(repair.state for repair in list(medic.planner.repairs.values()))
    holding = Counter(name.partition("/")[0] for name in medic.rules.holding.copy())
    return _METRICS.collect(
        repairs={state: states[state] for state in RepairState if state is not RepairState.RESOLVED},
        entries_total=medic.entries,
        orders_total=medic.orders,
        alerts_total=alerts.seen,
        rules_holding={rule: holding[rule] for rule in medic.rules.names},
        events_total=medic.rules.alerts.published,
        diagnoses_total=medic.second_tier.counts if medic.second_tier else {},
        engine_requests_total=_count_requests(medic, RestartOwner.ENGINE),
        systemd_requests_total=_count_requests(medic, RestartOwner.SYSTEMD),
        leading=medic.is_leading,
        fuse_blown=medic.planner.fuse.blown_at is not None,
        round_seconds=medic.round_sec,
    )


def _count_requests(medic: Medic, kind: RestartOwner) -> Counter[tuple[str, str]]:
    owners = (owner for owner in medic.owners if kind in owner.restarts_for)
    return sum((owner.requests.copy() for owner in owners), Counter())
