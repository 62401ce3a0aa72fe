"""What an agent tells Prometheus of itself, on METRICS_PORT.

`family` is how parts of the tree say it, `own` what every agent says, `serving` the way out. Only `serving`
draws in `prometheus_client`, and is imported only where METRICS_PORT is set: others do not carry it.
"""

from marketswarm.metrics.family import Family, Source, Spread

__all__ = ["Family", "Source", "Spread"]
