"""Hours and their sums: additive, bounded, and the same in every time zone."""

import datetime as dt
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from marketswarm.history.rollup import (
    HOUR_SEC,
    Run,
    Seconds,
    count_hours,
    count_seconds,
    cut_runs,
    fill_runs,
    find_differences,
    make_down,
    replace_runs,
    sum_runs,
)
from marketswarm.history.spans import KnownState, Span

H0, HOURS = 497_000, 12
BEGIN, END = H0 * HOUR_SEC, (H0 + HOURS) * HOUR_SEC


@st.composite
def covering_spans(draw):
    cuts = sorted({BEGIN, END, *draw(st.lists(st.integers(BEGIN, END), max_size=10))})
    return [Span(a, b, draw(st.sampled_from(KnownState))) for a, b in pairwise(cuts)]


@st.composite
def some_runs(draw):
    runs, at = [], H0
    for _ in range(draw(st.integers(0, 5))):
        at += draw(st.integers(0, 3))
        hours, down = draw(st.integers(1, 3)), draw(st.integers(0, HOUR_SEC))
        runs.append(Run(at, hours, down, draw(st.integers(0, HOUR_SEC - down))))
        at += hours
    return runs


def hour_by_hour(runs):
    return {hour: run[2:] for run in runs for hour in range(run.hour, run.end)}


@given(covering_spans())
def test_the_hours_of_spans_have_their_seconds_and_no_others(spans):
    runs = count_hours(spans, H0, H0 + HOURS)
    assert sum_runs(runs) == count_seconds(spans, BEGIN, END)
    assert [run.hour for run in runs] == [H0, *(run.end for run in runs[:-1])]
    for run in runs:
        for hour in range(run.hour, run.end):
            whole = count_seconds(spans, hour * HOUR_SEC, (hour + 1) * HOUR_SEC)
            assert run.seconds(1) == whole
            assert sum(whole) == HOUR_SEC


@given(covering_spans(), st.integers(0, HOURS))
def test_sums_are_additive_wherever_a_window_is_cut(spans, cut):
    runs = count_hours(spans, H0, H0 + HOURS)
    early, late = cut_runs(runs, H0, H0 + cut), cut_runs(runs, H0 + cut, H0 + HOURS)
    assert sum_runs(early).plus(sum_runs(late)) == sum_runs(runs)


@given(covering_spans())
def test_the_share_of_uptime_is_between_none_and_all_and_leaves_out_what_is_unknown(spans):
    found = count_seconds(spans, BEGIN, END)
    if found.up + found.down:
        assert 0 <= found.share <= 1
        assert found.share == found.up / (HOURS * HOUR_SEC - found.unknown)
    else:
        assert found.share is None


@given(covering_spans(), st.integers(-(10**5), 10**5))
def test_the_hours_of_a_fleet_do_not_depend_on_when_they_were(spans, shift):
    moved = [Span(a + shift * HOUR_SEC, b + shift * HOUR_SEC, state) for a, b, state in spans]
    runs = count_hours(moved, H0 + shift, H0 + shift + HOURS)
    assert [run._replace(hour=run.hour - shift) for run in runs] == count_hours(spans, H0, H0 + HOURS)


def test_the_night_in_which_the_clocks_change_has_as_many_seconds_as_it_lasts():
    zone = ZoneInfo("Europe/Berlin")
    for day, hours in ((dt.date(2026, 3, 29), 23), (dt.date(2026, 10, 25), 25)):
        begin = int(dt.datetime.combine(day, dt.time(), zone).timestamp())
        after = dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), zone)
        end = int(after.timestamp())
        runs = count_hours([Span(begin, end, KnownState.UP)], begin // HOUR_SEC, end // HOUR_SEC)
        assert sum_runs(runs) == Seconds(up=hours * HOUR_SEC)


@given(some_runs(), some_runs())
def test_an_hour_is_taken_from_its_service_else_from_its_bus_else_it_was_up(own, shared):
    found = hour_by_hour(fill_runs(own, shared, H0, H0 + HOURS))
    wanted = dict.fromkeys(range(H0, H0 + HOURS), (0, 0)) | hour_by_hour(shared) | hour_by_hour(own)
    assert found == {hour: each for hour, each in wanted.items() if hour < H0 + HOURS}


@given(some_runs(), some_runs() | st.just([]))
def test_no_hour_is_missing_or_counted_twice(own, shared):
    assert sum(sum_runs(fill_runs(own, shared, H0, H0 + HOURS))) == HOURS * HOUR_SEC


@given(covering_spans(), some_runs())
def test_what_differs_from_the_bus_is_enough_to_find_every_hour_again(spans, shared):
    runs = count_hours(spans, H0, H0 + HOURS)
    kept = find_differences(runs, shared)
    assert hour_by_hour(fill_runs(kept, shared, H0, H0 + HOURS)) == hour_by_hour(runs)


@given(some_runs(), some_runs(), st.integers(0, HOURS), st.integers(0, HOURS))
def test_replaced_hours_are_the_new_ones_and_the_others_stay(old, new, one, two):
    first, end = H0 + min(one, two), H0 + max(one, two)
    found = hour_by_hour(replace_runs(old, new, first, end))
    inside = {hour: each for hour, each in hour_by_hour(new).items() if first <= hour < end}
    outside = {hour: each for hour, each in hour_by_hour(old).items() if not first <= hour < end}
    assert found == inside | outside


@given(covering_spans(), st.integers(BEGIN, END), st.integers(BEGIN, END))
def test_an_outage_reported_late_turns_what_was_up_into_down_and_nothing_else(spans, one, two):
    start, end = min(one, two), max(one, two)
    before = hour_by_hour(count_hours(spans, H0, H0 + HOURS))
    after = hour_by_hour(make_down(count_hours(spans, H0, H0 + HOURS), start, end))
    for hour, (down, unknown) in after.items():
        touched = max(0, min(end, (hour + 1) * HOUR_SEC) - max(start, hour * HOUR_SEC))
        assert unknown == before[hour][1]
        assert before[hour][0] <= down <= min(HOUR_SEC - unknown, before[hour][0] + touched)
        if touched == HOUR_SEC:
            assert down == HOUR_SEC - unknown
    assert after.keys() == before.keys()
