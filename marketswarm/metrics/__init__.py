"""What an agent publishes about itself for Prometheus, on METRICS_PORT.

`family` is how parts of the tree state a metric. `exporter` serves them; it imports `prometheus_client`, so
import it only where METRICS_PORT is set.
"""

from marketswarm.metrics.family import Family, Histogram, Source, counter, gauge

__all__ = ["Family", "Histogram", "Source", "counter", "gauge"]
