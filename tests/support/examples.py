"""How many examples a test tries: twenty under the profile `dev`, ten under `brief`, that of `make unit`."""

from collections.abc import Sequence
from typing import TypeVar

from hypothesis import settings

USUAL = 100
ALL_FROM = 20
"""A profile that tries so many examples tries all cases of a table."""

T = TypeVar("T")


def examples(count: int) -> int:
    """Return how many a property tries that needs `count` where others try a hundred."""
    return max(1, count * settings().max_examples // USUAL)


def select_cases(cases: Sequence[T]) -> Sequence[T]:
    """Return the cases of a story that takes long: all of them, but under `brief` every third."""
    return cases if settings().max_examples >= ALL_FROM else cases[1::3]
