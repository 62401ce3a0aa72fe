from marketswarm.bus.backlog import Backlog
from services.vexy_ai.digest import SummaryResult
from services.vexy_ai.metrics import VexyMetrics
from services.vexy_ai.records import Record
from support.pages import table

MADE = [Record(b"1000000-0", "note", "a", b""), Record(b"1000000-1", "note", "b", b"")]


def values(metrics):
    return {(family.name, labels): value for family in metrics.collect() for labels, value in family.values}


def test_the_table_of_vexy_ai_is_what_it_tells():
    def row(family):
        return f"`{family.name}`", family.kind, ", ".join(f"`{label}`" for label in family.labels) or "-"

    shown = [tuple(cells[:3]) for cells in table("docs/metrics.md", "vexy_ai")]
    assert sorted(shown) == sorted(map(row, VexyMetrics().collect()))


def test_who_never_had_anything_to_do_has_nothing_to_say():
    metrics = VexyMetrics()
    assert metrics.summary(5.0) is None
    metrics.backlogs = {"rss:items": Backlog()}
    assert metrics.summary(5.0) is None
    metrics.backlogs = {"rss:items": Backlog(unread=3, oldest_sec=2)}
    assert metrics.summary(5.0) == "0.0/s, 3 unread (oldest 2 s)"


def test_what_was_done_is_counted_and_said():
    metrics = VexyMetrics()
    metrics.count_settled("rss:items", MADE, 1, 1002.0)
    for outcome, number in (("failed", 1), ("dead", 1), ("taken_over", 1), ("gone", 3)):
        metrics.count("rss:items", outcome, number)
    metrics.count("rss:other", "gone", 0)
    metrics.count_digest(SummaryResult(0, "it did not answer"))
    metrics.backlogs = {"rss:items": Backlog(pending=1, unread=None, oldest_sec=7)}
    found = values(metrics)
    outcomes = {"new": 1, "known": 1, "failed": 1, "dead": 1, "taken_over": 1, "gone": 3}
    for outcome, count in outcomes.items():
        assert found["marketswarm_vexy_ai_entries_total", ("rss:items", outcome)] == count
    assert ("marketswarm_vexy_ai_unread", ("rss:items",)) not in found
    assert found["marketswarm_vexy_ai_oldest_unread_seconds", ("rss:items",)] == 7
    assert found["marketswarm_vexy_ai_digests_plain_total", ()] == 1
    assert metrics.delay.sum == 4.0
    assert metrics.summary(1002.0) == (
        "2.0/s, 200 or more unread (oldest 7 s), 1 taken, 1 dead, plain digests (it did not answer)"
    )
    metrics.count_digest(SummaryResult(1, None))
    assert "plain" not in metrics.summary(1002.0)
    assert metrics.digests == 2
