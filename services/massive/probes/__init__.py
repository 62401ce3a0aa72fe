"""Probe hosts, ports, certificates and pages, publish each result, and alert when a target is lost.

`scheduler` decides when a target is probed and `probers/` how, `publish` writes the results to Redis,
`monitor` puts them together; `marketswarm.agent.outage_alerts` says what follows from a result.

Enters: the targets of the truth, and what they answer.
Leaves: results on the stream and in `probe:<name>`; misses and oks of targets.
Never: a slow target that delays a quick one, or a secret of a URL in a result.
"""
