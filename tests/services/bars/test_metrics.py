"""What bars counts: all of it, and under a bounded number of names."""

from collections import Counter

from marketswarm.metrics.family import MAX_FOREIGN_VALUES, OTHER
from services.bars.metrics import BarsMetrics
from services.bars.outputs import Outputs


def test_however_many_sources_the_writers_of_entries_invent_a_scrape_stays_small_and_counts_all():
    metrics = BarsMetrics()
    for number in range(5 * MAX_FOREIGN_VALUES):
        source = f"s{number}"
        records = Counter({(source, "taken"): 2, (source, "schema"): 1})
        metrics.count_committed(Outputs(), records, Counter({(source, "gap"): 1}))
    families = {each.name: list(each.values) for each in metrics.collect()}
    for name, outcomes, total in (("records_total", 2, 3), ("findings_total", 1, 1)):
        values = families[f"marketswarm_bars_{name}"]
        assert len(values) == outcomes * (MAX_FOREIGN_VALUES + 1)
        assert sum(count for _, count in values) == total * 5 * MAX_FOREIGN_VALUES
        assert OTHER in {source for (source, _), _ in values}
    assert "2,000 records" in metrics.summary()
