"""Publish metrics of an agent for Prometheus, on METRICS_PORT.

Parts of the tree make metrics with `family`, and `exporter` serves them. `exporter` imports
`prometheus_client`, so import it only where METRICS_PORT is set.
"""

from marketswarm.metrics.family import Family, Histogram, Source, counter, gauge

__all__ = ["Family", "Histogram", "Source", "counter", "gauge"]
