import itertools

from hypothesis import given
from hypothesis import strategies as st

from soak.stretches import around, common, longest, merged, total, touching, without

moments = st.integers(0, 30)
stretches = st.lists(st.tuples(moments, moments).map(sorted).map(tuple), max_size=8)


def seconds(found):
    return {second for start, end in found for second in range(int(start), int(end))}


@given(stretches, stretches, moments)
def test_stretches_are_what_sets_of_seconds_are(found, others, at):
    one, other = merged(found), merged(others)
    assert seconds(one) == seconds(found)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(one))
    assert longest(one) <= total(one) == len(seconds(found))
    assert seconds(without(one, other)) == seconds(one) - seconds(other)
    assert seconds(common(one, other)) == seconds(one) & seconds(other)
    assert (around(one, at) is None) == (not any(start <= at <= end for start, end in one))
    assert list(touching(one, at, 100)) == [each for each in one if each[1] >= at]
