"""Represent a metric and its values, without the text format, which `exporter` makes. Pure.

Values are computed while they are read, so those of a hundred thousand services are never in memory at once.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

MAX_FOREIGN_VALUES: Final = 200
"""The most values of a label that others choose."""
OTHER: Final = "other"
"""The value of a label that stands for all those above that number."""
Value = tuple[tuple[str, ...], float]
"""One value of a metric: the values of its labels, in the order of `Family.labels`, and the number."""


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

    def list_series(self) -> "list[tuple[str | None, Histogram]]":
        """Return itself, without the value of a label."""
        return [(None, self)]


class LabelledHistogram:
    """Counts values by upper bound for each value of one label, each exported also while it has none.

    `known` are values that the label has from the start. `observe` adds others, so the caller bounds them.
    One thread may write while another reads.
    """

    def __init__(self, known: Iterable[str], *bounds: float) -> None:
        self._bounds = bounds
        self._series = {label: Histogram(*bounds) for label in known}

    def add(self, label: str) -> Histogram:
        """Return the histogram of a label's value; it is exported from now on."""
        return self._series.setdefault(label, Histogram(*self._bounds))

    def observe(self, label: str, value: float) -> None:
        self.add(label).observe(value)

    def list_series(self) -> list[tuple[str | None, Histogram]]:
        """Return the values of the label, each with its histogram."""
        return list(self._series.copy().items())


class ForeignLabel:
    """Bounds the values of a label that others choose, such as the name that the writer of an entry gives."""

    def __init__(self, most: int = MAX_FOREIGN_VALUES) -> None:
        self._most = most
        self._known: set[str] = set()

    def bound(self, value: str) -> str:
        """Return the value if it is among the first `most` different ones, else OTHER."""
        if value not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(value)
        return value


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with its values, which can be read once. A histogram has at most one label, no `values`."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    values: Iterable[Value] = ()
    labels: tuple[str, ...] = ()
    histogram: Histogram | LabelledHistogram | None = None


Source = Callable[[], Iterable[Family]]
"""A function that returns the current metrics. The exporter calls it in a thread, so it may only read."""

Values = float | Mapping[Any, float | None] | Iterable[tuple[Any, float | None]] | None
"""A number, or numbers by the text of a metric's label, or by those of several. None stands for no value.

A mapping is copied at once, because another thread may write to it; pairs are read when they are rendered.
"""


class MetricTable:
    """The metrics of one part of the tree: the help text of each by its name, without the prefix.

    A name ends in its unit (`_seconds`), a counter's in `_total`, and the names of its labels follow in
    braces: `pings_total{kind}`. A metric that is neither a counter nor a histogram is a gauge.
    """

    def __init__(self, prefix: str, help_texts: Mapping[str, str]) -> None:
        self._prefix = prefix
        self._rows: dict[str, tuple[str, tuple[str, ...]]] = {}
        for row, help_text in help_texts.items():
            name, *labels = row.replace("{", " ").replace(",", " ").rstrip("}").split()
            self._rows[name] = help_text, tuple(labels)

    def collect(self, **values: Values | Histogram | LabelledHistogram) -> Iterator[Family]:
        """Yield the metrics that have values here, in the order of the arguments."""
        for name, each in values.items():
            help_text, labels = self._rows[name]
            if isinstance(each, Histogram | LabelledHistogram):
                yield Family(self._prefix + name, "histogram", help_text, labels=labels, histogram=each)
            elif name.endswith("_total"):
                yield Family(self._prefix + name, "counter", help_text, _list_values(each), labels)
            else:
                yield Family(self._prefix + name, "gauge", help_text, _list_values(each), labels)

    def read(self, owner: object) -> Iterator[Family]:
        """Yield the metrics that `owner` has as attributes, under their names here and in their order."""
        return self.collect(**{name: getattr(owner, name) for name in self._rows if hasattr(owner, name)})


def _list_values(values: Values) -> Iterator[Value]:
    if values is None or isinstance(values, int | float):
        values = (((), values),)
    pairs = dict(values).items() if isinstance(values, Mapping) else values
    return (
        (key if isinstance(key, tuple) else (str(key),), float(value))
        for key, value in pairs
        if value is not None
    )
