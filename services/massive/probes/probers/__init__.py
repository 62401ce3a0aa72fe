"""Probe one target once, in a limited time, and return a `Result`: one module per kind of probe.

The module `<kind>.py` has `async def probe(target, context) -> Result`, which raises nothing unless it is
cancelled. It is imported when the first target of its kind is probed.
"""
