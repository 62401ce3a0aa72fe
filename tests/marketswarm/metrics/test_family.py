from math import inf

from marketswarm.metrics.family import OTHER, ForeignLabel, Histogram, MetricTable


def test_a_value_counts_up_to_its_bound_and_in_all_above():
    spread = Histogram(0.1, 1.0)
    for value in (0.0, 0.1, 0.5, 7.0):
        spread.observe(value)
    assert list(spread.buckets()) == [(0.1, 2), (1.0, 3), (inf, 4)]
    assert spread.sum == 7.6


def test_a_reading_is_consistent_whatever_is_observed_meanwhile():
    spread = Histogram(0.1)
    reading = spread.buckets()
    assert next(reading) == (0.1, 0)
    spread.observe(5.0)
    assert next(reading) == (inf, 0)


def collect(**values):
    table = MetricTable("a_", {"n_total{status}": "N.", "m{x,y}": "M.", "up": "Up.", "took_seconds": "Took."})
    return [
        (one.name, one.kind, one.labels, one.histogram or list(one.values)) for one in table.collect(**values)
    ]


def test_each_key_is_the_text_of_its_labels():
    [(*_, values)] = collect(n_total={404: 2})
    assert values == [(("404",), 2.0)]
    [(*_, values)] = collect(m={("a", "b"): 1, ("a", "c"): None})
    assert values == [(("a", "b"), 1.0)]


def test_the_name_and_the_value_say_of_what_kind_a_metric_is():
    spread = Histogram(1.0)
    assert collect(took_seconds=spread, n_total=[("x", 1)], up=True, m={}) == [
        ("a_took_seconds", "histogram", (), spread),
        ("a_n_total", "counter", ("status",), [(("x",), 1.0)]),
        ("a_up", "gauge", (), [((), 1.0)]),
        ("a_m", "gauge", ("x", "y"), []),
    ]
    assert collect(up=None) == [("a_up", "gauge", (), [])]


def test_a_mapping_is_copied_before_another_thread_writes_to_it():
    counts = {"x": 1}
    [family] = MetricTable("", {"n_total{status}": "N."}).collect(n_total=counts)
    counts["y"] = 2
    assert list(family.values) == [(("x",), 1.0)]


def test_a_label_that_others_choose_has_so_many_values_and_one_for_all_others():
    label = ForeignLabel(2)
    assert [label.bound(each) for each in ("a", "b", "c", "a", "d", "b")] == [
        "a",
        "b",
        OTHER,
        "a",
        OTHER,
        "b",
    ]
