"""Probe what the fleet connects to (names, ports, certificates, pages), and publish market data."""
