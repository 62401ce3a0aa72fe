"""One module a kind of probe: look at one target once, in a bounded time, and give a `Result`.

A module `probes/<kind>.py` is the kind `<kind>`: it has `async def probe(target, means) -> Result`, which
raises nothing but a cancellation. It is imported when the first target of its kind is probed. Not here: when
that is (`rounds.py`), and what follows from the results (`outlook.py`).
"""
