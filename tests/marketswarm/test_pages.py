"""Items are divided into pages in their order, and no page is larger than it may be."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from marketswarm.pages import split_pages


@given(st.lists(st.integers(0, 9)), st.integers(1, 5), st.integers(0, 20))
def test_pages_hold_all_items_in_order_and_each_is_as_full_as_it_may_be(items, most, most_size):
    pages = list(split_pages(items, most, most_size, lambda item: item))
    assert [item for page in pages for item in page] == items
    for page in pages:
        assert 1 <= len(page) <= most
        assert sum(page) <= most_size or len(page) == 1
    for page, following in pairwise(pages):
        assert len(page) == most or sum(page) + following[0] > most_size


def test_without_a_size_only_the_number_counts():
    assert list(split_pages(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(split_pages([], 2)) == []
