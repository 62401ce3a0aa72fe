"""Probe one target once, in a limited time, and return a `Result`: one module per kind of probe.

The module `<kind>.py` has `async def probe(target, context) -> Result`. It is imported when the first target
of its kind is probed.

Enters: a target, and a context with its time limit.
Leaves: a result with the time that each step took, or the reason why it failed.
Never: an exception, unless the probe is cancelled.
"""
