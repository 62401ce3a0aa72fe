"""Ratios, goals, and which figures count as slower."""

import json

import pytest

from bench.figures import (
    Bench,
    Figure,
    Pair,
    Result,
    decode_results,
    encode_results,
    find_pace,
    find_slowdowns,
    percentile,
    spread_of,
)

COST = Figure("a beat", "µs of a core", "bare subscriber", goal=2.0, goal_ratio=1.5)
RATE = Figure("beats", "beats/s", "bare subscriber", goal=100, is_rate=True)
DELAY = Figure("late", "ms", "empty loop", slack=20)


def pairs(*ratios, limit=1.0):
    return [Pair(ratio * limit, limit) for ratio in ratios]


def slower(figure, before, now, **more):
    results = [Result("c", "d", {"x": each}) for each in (before, now)]
    return list(find_slowdowns("heard", {"x": figure}, *results, **more))


def test_a_ratio_says_how_many_times_the_limit_we_need_also_of_a_rate():
    assert COST.ratio(Pair(3.0, 2.0)) == 1.5
    assert RATE.ratio(Pair(50.0, 200.0)) == 4.0


@pytest.mark.parametrize("pair", [Pair(0.0, 1.0), Pair(1.0, 0.0), Pair(-1.0, 1.0)])
def test_what_was_not_measured_has_no_ratio(pair):
    with pytest.raises(ValueError, match="a beat: measured"):
        COST.ratio(pair)


def test_minimum_median_and_maximum_are_those_of_the_ratios_of_each_run():
    # by the medians of both it would be 2.0: a busy run is busy for the limit, too
    assert COST.spread([Pair(1.0, 1.0), Pair(8.0, 4.0), Pair(6.0, 2.0)]) == (1.0, 2.0, 3.0)
    assert spread_of([4.0, 1.0, 2.0]) == (1.0, 2.0, 4.0)


def test_a_goal_is_held_against_the_median_of_the_value_and_of_the_ratio():
    assert COST.is_met([Pair(2.0, 2.0), Pair(9.0, 2.0), Pair(1.0, 2.0)])
    assert not COST.is_met([Pair(2.1, 2.0)])
    assert not COST.is_met([Pair(2.0, 1.0)])
    assert RATE.is_met([Pair(100.0, 900.0)])
    assert not RATE.is_met([Pair(99.0, 1.0)])
    assert DELAY.is_met(pairs(1.0)) is None


def test_a_percentile_is_a_value_that_was_measured():
    values = [float(number) for number in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 50.0, 99.0, 100.0]
    assert percentile([7.0], 0.99) == 7.0


def test_a_figure_is_slower_if_its_best_repeat_is_a_fifth_over_the_best_and_beyond_all_before():
    assert slower(COST, pairs(1.0, 1.1), pairs(1.21, 1.3))
    assert not slower(COST, pairs(1.0, 1.1), pairs(1.19, 1.3)), "less than a fifth"
    assert not slower(COST, pairs(1.0, 1.4), pairs(1.3, 1.5)), "within the range before"
    assert not slower(COST, pairs(1.0, 1.1), pairs(9.0, 1.05)), "one good repeat is enough"


def test_beside_figures_of_another_machine_only_costs_count_that_are_twice_as_high():
    assert not slower(COST, pairs(1.0, 1.1), pairs(1.9), elsewhere=1.0)
    assert slower(COST, pairs(1.0, 1.1), pairs(2.1), elsewhere=1.0)
    assert not slower(COST, pairs(1.0), [Pair(5.9, 2.0)], elsewhere=3.0), "it is slowed as the most are"
    assert slower(COST, pairs(1.0), [Pair(6.1, 2.0)], elsewhere=3.0)
    assert not slower(COST, pairs(1.0), [Pair(6.1, 3.1)], elsewhere=3.0), "and as its own limit is"
    assert slower(DELAY, [Pair(8.0, 0.1)], [Pair(800.0, 0.1)])
    assert not slower(DELAY, [Pair(8.0, 0.1)], [Pair(800.0, 0.1)], elsewhere=1.0), "a time of the clock"
    memory = Figure("memory", "MB PSS", "bare")
    assert slower(memory, pairs(1.0), pairs(2.1), elsewhere=3.0), "which no pace explains"


def measure_pace(*limits, unit="µs of a core", missing=()):
    """Compare limits that were 1.0 before; of the benches in `missing` there was no result then."""
    names = [str(number) for number in range(len(limits))]
    figures = {"x": Figure("a beat", unit, "bare")}
    benches = {name: Bench("Group", lambda _scale: {}, 1, 1, figures) for name in names}
    before = {name: Result("c", "d", {"x": [Pair(9.0, 1.0)]}) for name in names if name not in missing}
    now = {
        name: limit and Result("c", "d", {"x": [Pair(1.0, limit), Pair(1.0, 9.0 * limit)]})
        for name, limit in zip(names, limits, strict=True)
    }
    return find_pace(benches, before, now)


def test_the_pace_of_a_machine_is_that_of_the_bare_programs_whatever_ours_needed():
    assert measure_pace(3.0) == 3.0, "the best repeat counts"
    assert measure_pace(0.9, 3.0, 3.2) == 3.0, "one that is odd does not"
    assert measure_pace(3.0, unit="ms") == measure_pace(3.0, unit="MB PSS") == 1.0, (
        "only what a processor took"
    )
    assert measure_pace(3.0, 3.0, missing=("0", "1")) == measure_pace(None) == measure_pace() == 1.0


def test_a_rate_that_fell_is_slower_and_one_that_grew_is_not():
    before = [Pair(100.0, 100.0), Pair(90.0, 100.0)]
    assert slower(RATE, before, [Pair(70.0, 100.0)])
    assert not slower(RATE, before, [Pair(170.0, 100.0)])
    assert not slower(RATE, before, [Pair(35.0, 50.0), Pair(50.0, 50.0)]), "a slow machine is slow for both"


def test_a_short_time_may_change_by_its_slack():
    assert not slower(DELAY, [Pair(8.0, 0.1)], [Pair(27.0, 0.1)])
    assert slower(DELAY, [Pair(8.0, 0.1)], [Pair(29.0, 0.1)])


def test_a_slowdown_names_the_bench_the_figure_and_both_ratios():
    (found,) = slower(COST, pairs(1.0, 1.1, 1.04), pairs(1.5, 1.6))
    assert str(found) == "heard, a beat (µs of a core): at best 1.50 times the limit, was 1.04 (1.00 to 1.10)"


def test_a_figure_that_only_one_side_has_is_not_compared():
    assert (
        list(find_slowdowns("heard", {"new": COST}, Result("c", "d"), Result("c", "d", {"new": pairs(9)})))
        == []
    )
    assert list(find_slowdowns("heard", {}, Result("c", "d", {"old": pairs(1)}), Result("c", "d"))) == []


def test_results_are_the_same_after_a_file():
    result = Result("abc123", "2026-11-25")
    result.add({"rate": Pair(412_345.6, 450_000.0)})
    result.add({"rate": Pair(400_000.0, 440_000.0)})
    machine = {"processor": "X", "cores": "2"}
    found_machine, found = decode_results(json.loads(json.dumps(encode_results(machine, {"heard": result}))))
    assert found_machine == machine
    assert (found["heard"].commit, found["heard"].day) == ("abc123", "2026-11-25")
    assert found["heard"].figures == {"rate": [Pair(412_300.0, 450_000.0), Pair(400_000.0, 440_000.0)]}


def test_results_whose_values_and_limits_differ_in_number_are_refused():
    figure = {"values": [1.0, 2.0], "limits": [1.0]}
    with pytest.raises(ValueError, match="zip"):
        decode_results(
            {"machine": {}, "benches": {"x": {"commit": "c", "day": "d", "figures": {"f": figure}}}}
        )
