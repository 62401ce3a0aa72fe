from math import inf

from marketswarm.metrics.family import Histogram, counters, gauges


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


def test_each_key_is_the_text_of_its_labels():
    assert list(counters("n_total", "", {404: 2}, ("status",)).values) == [(("404",), 2.0)]
    assert list(gauges("n", "", {("a", "b"): 1, ("a", "c"): None}, ("x", "y")).values) == [(("a", "b"), 1.0)]
