"""One bench on a real server, at a small scale: the bare program and ours both run and are compared."""

import pytest


@pytest.mark.live
def test_a_bench_measures_all_figures_of_the_table_and_positive_ratios():
    from bench.catalogue import BENCHES  # here: it imports whatever is measured

    bench = BENCHES["heard"]
    sample = bench.measure(0.005)
    assert sample.keys() == bench.figures.keys()
    assert all(0.1 < bench.figures[name].ratio(pair) < 100 for name, pair in sample.items())
