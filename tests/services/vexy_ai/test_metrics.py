from marketswarm.bus.backlog import Backlog
from services.vexy_ai.digest import SummaryResult
from services.vexy_ai.metrics import LagDetector, Rate, VexyMetrics, summarize_backlogs
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
    assert metrics.delay_seconds.sum == 4.0
    assert metrics.summary(1002.0) == (
        "2.0/s, 200 or more unread (oldest 7 s), 1 taken, 1 dead, plain digests (it did not answer)"
    )
    metrics.count_digest(SummaryResult(1, None))
    assert "plain" not in metrics.summary(1002.0)
    assert metrics.digests_total == 2


def at(oldest_sec, unread=5):
    return {"rss:items": Backlog(unread=unread, oldest_sec=oldest_sec)}


def test_who_falls_behind_says_so_and_is_well_again_only_well_below():
    lag = LagDetector()
    assert lag.check(at(99), 100) is None
    said = lag.check(at(100, unread=1234), 100)
    assert said == "behind: 1,234 unread in rss:items, the oldest for 100 s"
    assert lag.check(at(60), 100) is not None
    assert lag.check(at(49), 100) is None
    assert lag.check(at(60), 100) is None


def test_who_has_nothing_to_read_is_never_behind():
    lag = LagDetector()
    lag.check(at(200), 100)
    assert lag.check({"rss:items": Backlog()}, 100) is None
    assert lag.check({}, 100) is None
    assert not lag.behind


def test_the_rate_is_that_of_the_last_minute():
    rate = Rate()
    assert rate.per_sec(1000.0) == 0
    rate.add(10, 1000.0)
    assert rate.per_sec(1000.0) == 10
    rate.add(20, 1010.0)
    assert rate.per_sec(1010.0) == 3.0
    assert rate.per_sec(1065.0) == 20 / 60
    assert rate.per_sec(2000.0) == 0


def test_the_summary_says_what_waits():
    several = {
        "a": Backlog(pending=2, unread=30, oldest_sec=1.6),
        "b": Backlog(unread=10, oldest_sec=0.5, lost=7),
    }
    assert (
        summarize_backlogs(several, 12.34) == "12.3/s, 40 unread (oldest 2 s), 2 taken, 7 trimmed off unread"
    )
    assert summarize_backlogs({"a": Backlog()}, 0.0) == "0.0/s, 0 unread"
    assert summarize_backlogs({"a": Backlog(unread=None)}, 1.0) == "1.0/s, 200 or more unread (oldest 0 s)"
