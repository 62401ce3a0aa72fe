"""Serve the market: bars, indicators, quotes and series, as an API, a WebSocket and pages."""
