"""From families to the text of Prometheus, which is the library's business, in pieces, which is ours."""

import itertools
import time
import zlib
from collections.abc import Iterable, Iterator
from math import inf
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.samples import Sample

from marketswarm.metrics.family import Family

GZIP: Final = 31  # as zlib's `wbits`
PIECE: Final = 100
"""Values that are rendered in one go, half a millisecond's work: so long the loop waits for its turn. Else a
thread that computes gives the interpreter up only after 5 ms, each time the loop comes back to it."""
LEAST_BREATH_SEC: Final = 0.0005
"""After each piece as much time as it took is the loop's, at least this: a busy machine slows the answer
down, and not the loop."""


class _One:
    """A registry of one metric: the library renders all of a registry into one piece of memory."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> list[Metric]:
        """See the library's `Collector`."""
        return [self._metric]


def text_of(metric: Metric) -> bytes:
    """A metric as text."""
    return generate_latest(_One(metric))


def rendered(family: Family) -> Iterator[bytes]:
    """A family as text. One of very many values comes in pieces, with a breath after each."""
    if family.spread is not None:
        histogram = HistogramMetricFamily(family.name, family.help)
        buckets = [("+Inf" if bound == inf else str(bound), n) for bound, n in family.spread.buckets()]
        histogram.add_metric([], buckets, family.spread.sum)
        yield text_of(histogram)
        return
    metric = Metric(family.name.removesuffix("_total"), family.help, family.kind)
    values = iter(family.values)
    headed = False
    while True:
        begun = time.monotonic()
        some = itertools.islice(values, PIECE)
        metric.samples = [Sample(family.name, _labels(family, of), number) for of, number in some]
        if headed and not metric.samples:
            return
        text = text_of(metric)
        # the lines of HELP and TYPE are there once
        yield text.split(b"\n", 2)[2] if headed else text
        headed = True
        if len(metric.samples) < PIECE:
            return
        time.sleep(max(LEAST_BREATH_SEC, time.monotonic() - begun))


def _labels(family: Family, values: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(family.labels, values, strict=True))


def packed(pieces: Iterable[bytes]) -> tuple[int, list[bytes]]:
    """The length of the whole, and the whole compressed: quickly rather than well, its way is short."""
    packer = zlib.compressobj(level=1, wbits=GZIP)
    size, found = 0, []
    for piece in pieces:
        size += len(piece)
        found.append(packer.compress(piece))
    found.append(packer.flush())
    return size, found
