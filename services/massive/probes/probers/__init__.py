"""One module per kind of probe: probe one target once, in a bounded time, and return a `Result`.

The module `<kind>.py` has `async def probe(target, context) -> Result`, which raises nothing unless it is
cancelled. It is imported when the first target of its kind is probed.
"""
