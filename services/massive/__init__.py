"""Probe what the fleet connects to, and publish market data: names, ports, certificates, pages; bars."""
