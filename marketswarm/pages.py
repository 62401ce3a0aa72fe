"""Divide many items into pages, each small enough for one request. Pure."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def split_pages(
    items: Iterable[T], most: int, most_size: float = math.inf, size_of: Callable[[T], int] = lambda _item: 0
) -> Iterator[list[T]]:
    """Yield the items in pages of at most `most`, and of `most_size` together unless one alone has more."""
    page: list[T] = []
    size = 0
    for each in items:
        if page and (len(page) == most or size + size_of(each) > most_size):
            yield page
            page, size = [], 0
        page.append(each)
        size += size_of(each)
    if page:
        yield page
