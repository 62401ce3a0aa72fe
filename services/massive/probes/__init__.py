"""Probe hosts, ports, certificates and pages, publish each result, and alert when a target is lost.

`scheduler` decides when a target is probed and `probers/` how; `state` decides what follows from a result;
`publish` writes the results and `alerts` the states and events to Redis; `monitor` puts them together.
"""
