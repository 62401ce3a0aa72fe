"""MarketSwarm: a heartbeat bus for small fleets."""

__version__ = "0.1.0"
