"""Render metrics in Prometheus' text format with `prometheus_client`.

Only a process that is scraped needs this module, which brings that library.
"""

import itertools
import time
from collections.abc import Iterator
from math import inf
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.samples import Sample

from marketswarm.metrics.family import Family

VALUES_PER_PIECE: Final = 100
"""How many values are rendered without a pause: half a millisecond's work, for which the event loop waits.
Without pauses Python would switch to the event loop's thread only after 5 ms, each time the loop has work."""
MIN_PAUSE_SEC: Final = 0.0005
"""The shortest pause after a piece. The pause is as long as rendering the piece took, so a busy machine
delays the answer and not the event loop."""
_PROCESS: Final = ProcessCollector(registry=None)


class _SingleMetricRegistry:
    """A registry of one metric: the library renders all metrics of a registry as one piece of memory."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> list[Metric]:
        return [self._metric]


def encode_metric(metric: Metric) -> bytes:
    return generate_latest(_SingleMetricRegistry(metric))


def render_family(family: Family) -> Iterator[bytes]:
    """Yield a family in the text format, in pieces of VALUES_PER_PIECE, with pauses between them."""
    if family.histogram is not None:
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for label, one in family.histogram.list_series():
            buckets = [("+Inf" if bound == inf else str(bound), n) for bound, n in one.buckets()]
            histogram.add_metric([] if label is None else [label], buckets, one.sum)
        yield encode_metric(histogram)
        return
    metric = Metric(family.name.removesuffix("_total"), family.help, family.kind)
    values = iter(family.values)
    has_head = False
    while True:
        started = time.monotonic()
        metric.samples = [
            Sample(family.name, dict(zip(family.labels, labels, strict=True)), number)
            for labels, number in itertools.islice(values, VALUES_PER_PIECE)
        ]
        if has_head and not metric.samples:
            return
        text = encode_metric(metric)
        # the lines of HELP and TYPE are there once
        yield text.split(b"\n", 2)[2] if has_head else text
        has_head = True
        if len(metric.samples) < VALUES_PER_PIECE:
            return
        time.sleep(max(MIN_PAUSE_SEC, time.monotonic() - started))


def render_process() -> Iterator[bytes]:
    """Yield the metrics of this process: its memory, processor time and open files."""
    return map(encode_metric, _PROCESS.collect())
