"""Probe what the fleet connects to (names, ports, certificates, pages), and publish market data.

Enters: targets and symbols of the truth, answers of servers outside.
Leaves: results in `massive:probes`, misses and oks of targets, minute bars in `market:bars`.
Never: a slow target that delays others, a followed redirect to an inside address, or a bar twice.
"""
