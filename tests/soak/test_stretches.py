import itertools

from hypothesis import given
from hypothesis import strategies as st

from soak.stretches import around, common, longest, merged, total, touching, without

moments = st.integers(0, 30)
stretches = st.lists(st.tuples(moments, moments).map(sorted).map(tuple), max_size=8)


def seconds(found):
    return {second for start, end in found for second in range(int(start), int(end))}


@given(stretches)
def test_merged_is_the_same_time_in_order_and_apart(found):
    out = merged(found)
    assert seconds(out) == seconds(found)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(out))
    assert total(out) == len(seconds(found))
    assert longest(out) <= total(out)


@given(stretches, stretches)
def test_without_and_common_share_out_the_time(one, other):
    one, other = merged(one), merged(other)
    assert seconds(without(one, other)) == seconds(one) - seconds(other)
    assert seconds(common(one, other)) == seconds(one) & seconds(other)


@given(stretches, moments)
def test_around_is_the_stretch_of_that_moment(found, at):
    found = merged(found)
    assert (around(found, at) is None) == (not any(start <= at <= end for start, end in found))
    assert list(touching(found, at, 100)) == [each for each in found if each[1] >= at]
