"""A metric and its values, without the text format, which is `exporter`. Pure.

Values are made while they are read, so a hundred thousand services never lie in memory twice.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Value = tuple[tuple[str, ...], float]
"""The values of the labels, in the order of the labels, and the number."""


class Histogram:
    """Counts values by upper bound, for a histogram.

    One thread writes and another reads: a reading may miss the last value, and is consistent in itself.
    """

    def __init__(self, *bounds: float) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def buckets(self) -> Iterator[tuple[float, int]]:
        """Yield each bound, infinity last, and how many values were not above it."""
        count = 0
        for bound, here in zip((*self._bounds, float("inf")), list(self._counts), strict=True):
            count += here
            yield bound, count


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. A name ends in its unit (`_seconds`), a counter's in `_total`.

    `values` can be read once; a histogram metric has a `Histogram` instead, and no labels.
    """

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    values: Iterable[Value] = ()
    labels: tuple[str, ...] = ()
    histogram: Histogram | None = None


Source = Callable[[], Iterable[Family]]
"""Returns the current metrics. It is called in another thread than the event loop's, so it may only read."""


def gauge(name: str, help_text: str, value: float | None) -> Family:
    """Return a gauge without labels; None gives it no value."""
    return Family(name, "gauge", help_text, () if value is None else (((), value),))


def counter(name: str, help_text: str, value: float | None) -> Family:
    """Return a counter without labels; None gives it no value.

    A counter only grows until the process ends.
    """
    return Family(name, "counter", help_text, () if value is None else (((), value),))
