"""The table of benches, and the pages that name one."""

import re

import pytest

from support.pages import PAGES, ROOT


@pytest.fixture
def benches():
    from bench.catalogue import BENCHES  # here: it imports whatever is measured, and each worker would

    return BENCHES


def test_each_bench_runs_in_make_bench_or_is_long_and_the_check_has_fewer_repeats(benches):
    for name, bench in benches.items():
        assert bench.check_repeats <= bench.repeats, name
        assert bool(bench.check_repeats) is bool(bench.repeats), name
        assert bench.figures, name


def test_each_figure_has_a_text_of_its_own_since_a_slowdown_is_named_by_it(benches):
    named = [
        (name, each.text, each.unit) for name, bench in benches.items() for each in bench.figures.values()
    ]
    assert len(named) == len(set(named))


def test_each_bench_that_a_page_names_is_there_and_the_page_of_figures_names_all(benches):
    for page in PAGES:
        shown = re.findall(
            r'make bench(?:check)? ARGS="?([a-z_ ]+)|python -m bench ([a-z_]+)', page.read_text("utf-8")
        )
        words = {word for pair in shown for found in pair for word in found.split()}
        assert words <= benches.keys(), page
    performance = (ROOT / "docs" / "performance.md").read_text("utf-8")
    assert [name for name in benches if f"`{name}`" not in performance] == []
