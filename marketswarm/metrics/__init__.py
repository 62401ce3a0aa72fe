"""Publish metrics of an agent for Prometheus, on METRICS_PORT.

Parts of the tree make metrics with `family`, `exporter` serves them, and `rendering` makes the text. The
first scrape imports `rendering`, and with it `prometheus_client`.
"""

from marketswarm.metrics.family import Family, Histogram, MetricTable, Source

__all__ = ["Family", "Histogram", "MetricTable", "Source"]
