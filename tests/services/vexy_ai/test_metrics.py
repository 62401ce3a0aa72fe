from services.vexy_ai.backlog import Backlog
from services.vexy_ai.digest import Plain
from services.vexy_ai.metrics import Tally
from services.vexy_ai.records import Made
from services.vexy_ai.sources import Kind, Source
from support.pages import table

SOURCE = Source("market-redis", "rss:items", Kind.ITEMS)
MADE = [Made(b"1000000-0", "note", "a", b""), Made(b"1000000-1", "note", "b", b"")]


def values(tally):
    return {(family.name, labels): value for family in tally.collect() for labels, value in family.values}


def test_the_table_of_vexy_ai_is_what_it_tells():
    def row(family):
        return f"`{family.name}`", family.kind, ", ".join(f"`{label}`" for label in family.labels) or "-"

    shown = [tuple(cells[:3]) for cells in table("docs/metrics.md", "vexy_ai")]
    assert sorted(shown) == sorted(map(row, Tally().collect()))


def test_who_never_had_anything_to_do_has_nothing_to_say():
    tally = Tally()
    assert tally.summary(5.0) is None
    tally.backlogs = {"rss:items": Backlog()}
    assert tally.summary(5.0) is None
    tally.backlogs = {"rss:items": Backlog(unread=3, oldest_sec=2)}
    assert tally.summary(5.0) == "0.0/s, 3 unread (oldest 2 s)"


def test_what_was_done_is_counted_and_said():
    tally = Tally()
    tally.settled(SOURCE, MADE, 1, 1002.0)
    tally.failed("rss:items")
    tally.buried("rss:items")
    tally.taken_over("rss:items")
    tally.gone("rss:items", 3)
    tally.gone("rss:items", 0)
    tally.digested(Plain(0, "it did not answer"))
    tally.backlogs = {"rss:items": Backlog(pending=1, unread=-1, oldest_sec=7)}
    found = values(tally)
    outcomes = {"new": 1, "known": 1, "failed": 1, "dead": 1, "taken_over": 1, "gone": 3}
    for outcome, count in outcomes.items():
        assert found["marketswarm_vexy_ai_entries_total", ("rss:items", outcome)] == count
    assert ("marketswarm_vexy_ai_unread", ("rss:items",)) not in found
    assert found["marketswarm_vexy_ai_oldest_unread_seconds", ("rss:items",)] == 7
    assert found["marketswarm_vexy_ai_digests_plain_total", ()] == 1
    assert tally.delay.sum == 4.0
    assert tally.summary(1002.0) == (
        "2.0/s, 200 or more unread (oldest 7 s), 1 taken, 1 dead, plain digests (it did not answer)"
    )
    tally.digested(Plain(1, None))
    assert "plain" not in tally.summary(1002.0)
    assert tally.digests == 2
