"""Probes what the fleet connects to: does the name resolve, does the port answer."""
