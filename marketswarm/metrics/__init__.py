"""What an agent tells Prometheus of itself, on METRICS_PORT.

`family` is how parts of the tree say it, `own` what every agent says, `serving` the way out
and `rendering` its text.
These two draw in `prometheus_client`, and are imported only where METRICS_PORT is set.
"""

from marketswarm.metrics.family import Family, Source, Spread

__all__ = ["Family", "Source", "Spread"]
