"""Publish metrics of an agent for Prometheus, on METRICS_PORT.

Parts of the tree make metrics with `family`, `exporter` serves them, and `rendering` makes the text. The
first scrape imports `rendering`, and with it `prometheus_client`.

Enters: families of counters, gauges and histograms, read at each scrape.
Leaves: the text format of Prometheus, over HTTP in threads of its own.
Never: a scrape that delays the event loop, or an answer for a foreign `Host`.
"""

from marketswarm.metrics.family import Family, ForeignLabel, Histogram, LabelledHistogram, MetricTable, Source

__all__ = ["Family", "ForeignLabel", "Histogram", "LabelledHistogram", "MetricTable", "Source"]
