"""The order of tests: first what failed before, then what takes long, at the head of each worker's part."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import pytest

KEY = "marketswarm/failures"
WAITING = "live"
"""The folder whose tests wait more than they work."""
KEPT = 200
"""How many tests the record of failures holds."""


def read_failures(config: pytest.Config) -> dict[str, int]:
    """Return how often each test failed in the runs that pytest's cache knows of."""
    cache = getattr(config, "cache", None)  # None where the cache is switched off
    return (cache.get(KEY, {}) if cache else None) or {}


def add_failures(known: Mapping[str, int], failed: Sequence[str]) -> dict[str, int]:
    """Return the record with the failures of one more run: the most frequent ones, of which KEPT are kept."""
    counted = dict(known)
    for nodeid in failed:
        counted[nodeid] = counted.get(nodeid, 0) + 1
    return dict(sorted(counted.items(), key=lambda item: -item[1])[:KEPT])


def arrange(
    items: Sequence[pytest.Item], failures: Mapping[str, int], slow: Sequence[str], workers: int
) -> list[pytest.Item]:
    """Return the tests in the order in which they run.

    xdist's `worksteal` gives each worker an even, contiguous part of the list. What fails often or takes long
    is dealt out to the heads of these parts. The tests of WAITING follow in every second part, file by file:
    they wait more than they work, so that the workers of the other parts have the processors meanwhile. The
    others stay beside their neighbours, whose fixtures they share.

    Args:
        items: the tests as they were collected.
        failures: how often each failed, by its id.
        slow: names of files whose tests take long.
        workers: how many parts the list is cut into.
    """
    first = [item for item in items if failures.get(item.nodeid) or item.path.name in slow]
    first.sort(key=lambda item: -failures.get(item.nodeid, 0))
    chosen = set(first)
    left = [item for item in items if item not in chosen]
    files = [
        list(group) for path, group in groupby(left, lambda item: item.path) if path.parent.name == WAITING
    ]
    waiting = {item for group in files for item in group}
    others = iter([item for item in left if item not in waiting])
    arranged: list[pytest.Item] = []
    for number, size in enumerate(_part_sizes(len(items), workers)):
        head = first[number::workers]
        if number % 2 == 0:
            head += [item for group in files[number // 2 :: (workers + 1) // 2] for item in group]
        arranged += head
        arranged += [item for _, item in zip(range(size - len(head)), others, strict=False)]
    return [*arranged, *others]


def _part_sizes(count: int, workers: int) -> Iterator[int]:
    """Yield how many tests each worker is given at first, as xdist's `worksteal` deals them out."""
    for left in range(workers, 0, -1):
        size = count // left
        count -= size
        yield size
