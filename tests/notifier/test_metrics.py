"""The notifier's metrics: counts are there before there is anything to count."""

from marketswarm.channels.worker import Outcome
from notifier.metrics import NotifierMetrics
from notifier.router.incident import Decision


class Worker(list):
    broken = False


def values(metrics, name):
    [family] = [each for each in metrics.collect() if each.name == f"marketswarm_notifier_{name}"]
    return dict(family.values)


def test_each_outcome_of_each_channel_is_counted_from_zero_so_that_its_first_increase_is_seen():
    metrics = NotifierMetrics()
    metrics.workers = lambda: {"email": Worker([]), "slack": Worker([1, 2])}
    assert values(metrics, "attempts_total") == {
        (channel, outcome): 0 for channel in ("email", "slack") for outcome in ("sent", "failed", "dead")
    }
    assert values(metrics, "waiting") == {("email",): 0, ("slack",): 2}
    assert values(metrics, "channel_broken") == {("email",): 0, ("slack",): 0}


def test_a_channel_that_is_gone_keeps_its_counts():
    metrics = NotifierMetrics()
    metrics.attempt(Outcome("old", "host", None, 0.0))
    assert values(metrics, "attempts_total") == {("old", "sent"): 1}


def test_each_decision_is_counted_from_zero():
    metrics = NotifierMetrics()
    metrics.events[Decision.TELL] += 3
    found = values(metrics, "events_total")
    assert found[("tell",)] == 3
    assert found == {(str(decision),): 0 for decision in Decision} | {("tell",): 3}
