"""Represent a metric and its values, without the text format, which `exporter` makes. Pure.

Values are computed while they are read, so those of a hundred thousand services are never in memory at once.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

Value = tuple[tuple[str, ...], float]
"""One value of a metric: the values of its labels, in the order of `Family.labels`, and the number."""

_Key = TypeVar("_Key", bound=str | int | tuple[str, ...])


class Histogram:
    """Counts values by upper bound, for a histogram metric.

    `bounds` are the upper bounds of the buckets, in ascending order, without infinity.

    One thread may write while another reads: the reader may miss the last value, but gets consistent counts.
    """

    def __init__(self, *bounds: float) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def buckets(self) -> Iterator[tuple[float, int]]:
        """Yield each bound, infinity last, and how many values were less than or equal to the bound."""
        count = 0
        for bound, here in zip((*self._bounds, float("inf")), list(self._counts), strict=True):
            count += here
            yield bound, count


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with its values. A name ends in its unit (`_seconds`), a counter's in `_total`.

    `values` can be read once. A histogram metric has a `Histogram` instead, and no labels.
    """

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    values: Iterable[Value] = ()
    labels: tuple[str, ...] = ()
    histogram: Histogram | None = None


Source = Callable[[], Iterable[Family]]
"""A function that returns the current metrics. The exporter calls it in a thread, so it may only read."""


def gauge(name: str, help_text: str, value: float | None) -> Family:
    """Return a gauge without labels; with None, it has no value."""
    return Family(name, "gauge", help_text, () if value is None else (((), value),))


def counter(name: str, help_text: str, value: float | None) -> Family:
    """Return a counter without labels; with None, it has no value. It may only grow."""
    return Family(name, "counter", help_text, () if value is None else (((), value),))


def gauges(name: str, help_text: str, values: Mapping[_Key, float | None], labels: tuple[str, ...]) -> Family:
    """Return a gauge with a value for each key: the text of its label, or of several. None is left out."""
    return Family(name, "gauge", help_text, _list_values(values), labels)


def counters(name: str, help_text: str, values: Mapping[_Key, float], labels: tuple[str, ...]) -> Family:
    """Return a counter with a value for each key, as `gauges` does."""
    return Family(name, "counter", help_text, _list_values(values), labels)


def histogram(name: str, help_text: str, values: Histogram) -> Family:
    return Family(name, "histogram", help_text, histogram=values)


def _list_values(values: Mapping[_Key, float | None]) -> list[Value]:
    copy = dict(values)  # at once, since another thread may write
    return [
        (key if isinstance(key, tuple) else (str(key),), float(value))
        for key, value in copy.items()
        if value is not None
    ]
