"""Which rules hold, by what was measured: properties of any story, and examples."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from services.medic.metric import Metric
from services.medic.rule import MonitorRule
from services.medic.rules.evaluation import MAX_COUNTS, RuleEvaluator
from support.examples import examples

GAP_SEC = 40.0


def rule(**more):
    return MonitorRule.model_validate({"metric": "process_memory", "above": 80, "clear_sec": 20, **more})


def look(story, checked, metric=Metric.PROCESS_MEMORY, subject="feed"):
    """Return the findings of a story of (seconds since the last look, value)."""
    evaluator, now, found = RuleEvaluator(), 1000.0, []
    for step_sec, value in story:
        now += step_sec
        readings = {} if value == "missing" else {metric: {subject: value}}
        (finding,) = evaluator.evaluate({"r": (subject, checked)}, readings, now, GAP_SEC).values()
        found.append((now, finding))
    return found


STORIES = st.lists(
    st.tuples(
        st.sampled_from([0.0, 10.0, 10.0, 10.0, 39.0, 41.0, 500.0]),
        st.sampled_from([0.0, 80.0, 81.0, 95.0, None, "missing"]),
    ),
    max_size=40,
)


@given(STORIES, st.sampled_from([0.0, 30.0, 60.0]), st.sampled_from([0.0, 20.0]))
@settings(max_examples=examples(150))
def test_a_rule_begins_to_hold_when_each_value_of_its_time_is_known_and_over_the_limit(story, for_sec, clear):
    found = look(story, rule(for_sec=for_sec, clear_sec=clear))
    values = [None if value == "missing" else value for _, value in story]
    held = None
    for i, (now, finding) in enumerate(found):
        run = i  # the first of the looks up to this one that are all over the limit, without a gap
        while run > 0 and (values[run - 1] or 0) > 80 and story[run][0] <= GAP_SEC:
            run -= 1
        is_over = values[i] is not None and values[i] > 80
        lasts = is_over and now - found[run][0] >= for_sec
        assert finding.is_met == (None if values[i] is None else values[i] > 80)
        if finding.holds and not held:
            assert lasts
        if lasts:
            assert finding.holds
        if values[i] is None:
            assert finding.holds is None, "missing data makes nothing true, and nothing false"
        held = held if finding.holds is None else finding.holds


@given(STORIES, st.sampled_from([0.0, 20.0, 60.0]))
@settings(max_examples=examples(150))
def test_a_rule_ends_to_hold_when_no_value_of_its_time_is_over_the_limit(story, clear_sec):
    found = look(story, rule(clear_sec=clear_sec))
    held, since = False, None
    for (now, finding), (step_sec, value) in zip(found, story, strict=True):
        is_clear = value not in (None, "missing") and value <= 80
        if not is_clear or step_sec > GAP_SEC:
            since = None
        if is_clear:
            since = now if since is None else since
            if held and finding.holds is False:
                assert now - since >= clear_sec
            if now - since >= clear_sec:
                assert finding.holds is False
        held = held if finding.holds is None else finding.holds


@given(
    st.lists(
        st.tuples(
            st.sampled_from([1.0, 10.0, 30.0, 50.0]),
            st.integers(0, 3),
            st.sampled_from(["", "lost", "reset"]),
        ),
        max_size=60,
    ),
    st.sampled_from([60.0, 300.0]),
)
@settings(max_examples=examples(150))
def test_a_count_is_what_was_seen_to_increase_in_its_time(story, within_sec):
    evaluator, now, counter, last, seen = RuleEvaluator(), 1000.0, 5, None, []
    counted = rule(metric="restarts", above=4, within_sec=within_sec)
    for step_sec, more, what in story:
        now += step_sec
        counter = more if what == "reset" else counter + more
        if step_sec > GAP_SEC:
            last, seen = None, []
        readings = {} if what == "lost" else {Metric.RESTARTS: {"feed": counter}}
        (finding,) = evaluator.evaluate({"r": ("feed", counted)}, readings, now, GAP_SEC).values()
        if what == "lost":
            assert finding.holds is None
            continue
        seen += [(now, counter - last)] if last is not None and counter > last else []
        last = counter
        most = sum(count for at, count in seen if at > now - within_sec)
        least = sum(count for at, count in seen if at > now - within_sec * (1 - 1 / MAX_COUNTS))
        assert least <= finding.value <= most
        assert not (finding.is_met and most <= 4)


def test_five_restarts_in_an_hour_are_no_alert_and_six_are_one_until_the_hour_has_passed():
    counted = rule(metric="restarts", above=5, within_sec=3600, clear_sec=0)
    quiet = [(30.0, 7)] * 121
    found = look([*quiet, (30.0, 12), (30.0, 13), *[(30.0, 13)] * 119], counted, Metric.RESTARTS)
    holds = [finding.holds for _, finding in found]
    assert holds[:120] == [None] * 120, "an hour has to be counted to know that nothing happened in it"
    assert holds[120:123] == [False, False, True]
    assert holds[-2:] == [True, False]


def test_a_count_does_not_begin_with_what_happened_before_the_first_look():
    counted = rule(metric="restarts", above=5, within_sec=60, clear_sec=0)
    assert [each.holds for _, each in look([(30.0, 1000)] * 3, counted, Metric.RESTARTS)] == [
        None,
        None,
        False,
    ]


def test_a_counter_that_began_anew_counts_from_there():
    counted = rule(metric="restarts", above=5, within_sec=600)
    found = look([(30.0, 1000), (30.0, 0), (30.0, 5), (30.0, 6)], counted, Metric.RESTARTS)
    assert [finding.value for _, finding in found] == [0, 0, 5, 6]


def test_a_long_count_keeps_a_limited_number_of_looks_and_never_counts_too_much():
    counted = rule(metric="restarts", above=1e9, within_sec=86_400)
    found = look([(10.0, n) for n in range(10_000)], counted, Metric.RESTARTS)
    assert 8640 * (1 - 2 / MAX_COUNTS) <= found[-1][1].value <= 8640


@pytest.mark.parametrize(
    ("values", "is_met"),
    [
        ([1, 0, 0, 0, 0, 0, 0, 0, 0, 0], False),
        ([1, 1, 0, 0, 0, 0, 0, 0, 0, 0], True),
        ([1, None, 0, 0, 0, 0, 0, 0, 0, 0], None),
        ([1, 0, 0], False),  # one source has an alert of its own
        ([1], False),
        ([1, 1, 0], True),
        ([0, None], False),
        ([1, None], None),
        ([None, None], None),
        ([], None),
    ],
)
def test_a_share_is_known_whatever_those_are_of_which_nothing_is_known(values, is_met):
    shared = MonitorRule.model_validate({"metric": "source_failing", "above": 0, "share_above": 0.1})
    readings = {Metric.SOURCE_FAILING: {f"s{n}": value for n, value in enumerate(values)}}
    (finding,) = RuleEvaluator().evaluate({"r": ("all", shared)}, readings, 1.0, 60).values()
    assert finding.is_met is is_met


@pytest.mark.parametrize(("metric", "share"), [("source_failing", 0), ("source_limited", 0.1)])
def test_one_of_several_is_a_share_if_the_rule_asks_for_it_or_nothing_else_tells_of_it(metric, share):
    shared = MonitorRule.model_validate({"metric": metric, "above": 0, "share_above": share})
    readings = {Metric(metric): {"a": 1.0, "b": 0.0}}
    (finding,) = RuleEvaluator().evaluate({"r": ("all", shared)}, readings, 1.0, 60).values()
    assert finding.is_met is True


def test_a_rule_that_changed_and_a_subject_that_came_back_begin_anew():
    evaluator, readings = RuleEvaluator(), {Metric.PROCESS_MEMORY: {"feed": 99.0}}
    slow, slower = rule(for_sec=10), rule(for_sec=20)
    for now, pairs, holds in [
        (0, {"r": ("feed", slow)}, None),
        (10, {"r": ("feed", slow)}, True),
        (20, {"r": ("feed", slower)}, None),
        (40, {"r": ("feed", slower)}, True),
        (50, {}, None),
        (55, {"r": ("feed", slower)}, None),
    ]:
        found = evaluator.evaluate(pairs, readings, float(now), 60)
        assert [each.holds for each in found.values()] == [holds] * len(pairs)


def test_a_clock_that_went_back_begins_the_time_anew():
    assert [each.holds for _, each in look([(30.0, 90), (-5.0, 90), (30.0, 90)], rule(for_sec=30))] == [
        None,
        None,
        True,
    ]
