"""Ask a source outside, within its limits, while its breaker is closed, and with its keys.

Enters: a request that a cascade wants, the source's limits and keys, what other instances asked for.
Leaves: an answer, or an error with its reason; the source's health on the bus.
Never: a request beyond a limit that instances share, a key in a log line, or an answer without a bound.
"""
