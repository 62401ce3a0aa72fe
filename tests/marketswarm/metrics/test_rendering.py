"""The text that a scrape gets."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from marketswarm.metrics import Family, Histogram, LabelledHistogram
from marketswarm.metrics.rendering import VALUES_PER_PIECE, render_family


@pytest.mark.parametrize(
    "count", [0, 1, VALUES_PER_PIECE - 1, VALUES_PER_PIECE, VALUES_PER_PIECE + 1, 3 * VALUES_PER_PIECE]
)
def test_a_family_in_pieces_is_the_same_as_in_one(count):
    values = [((f"svc{n}",), n) for n in range(count)]
    text = b"".join(render_family(Family("some_up", "gauge", "Up.", values, ("svc",)))).decode()
    assert text.count("# HELP some_up") == text.count("# TYPE some_up gauge") == 1
    [family] = text_string_to_metric_families(text)
    assert [(sample.labels["svc"], sample.value) for sample in family.samples] == [
        (svc, number) for (svc,), number in values
    ]


def test_a_histogram_counts_upwards_to_infinity():
    spread = Histogram(0.5, 2.0)
    spread.observe(1.0)
    text = b"".join(render_family(Family("took_seconds", "histogram", "Took.", histogram=spread))).decode()
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        'took_seconds_bucket{le="0.5"} 0.0',
        'took_seconds_bucket{le="2.0"} 1.0',
        'took_seconds_bucket{le="+Inf"} 1.0',
        "took_seconds_count 1.0",
        "took_seconds_sum 1.0",
    ]


def test_a_histogram_by_label_has_each_known_value_from_the_start():
    spread = LabelledHistogram(("chart", "page"), 0.5)
    spread.observe("chart", 1.0)
    family = Family("took_seconds", "histogram", "Took.", labels=("route",), histogram=spread)
    text = b"".join(render_family(family)).decode()
    assert text.count("# TYPE took_seconds histogram") == 1
    lines = text.splitlines()
    assert 'took_seconds_bucket{le="0.5",route="chart"} 0.0' in lines
    assert 'took_seconds_count{route="chart"} 1.0' in lines
    assert 'took_seconds_count{route="page"} 0.0' in lines
    spread.observe("new", 0.1)
    assert 'took_seconds_sum{route="new"} 0.1' in b"".join(render_family(family)).decode()
