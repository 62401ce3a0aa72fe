"""Let who is signed in play an installed strategy over the archive, and read what came of it.

Enters: a request: the name of a strategy, its parameters, symbols and days; never code.
Leaves: jobs and their reports, hypothetical, kept in a folder by the digest of their inputs.
Never: a run in this process or without bounds, or a job that is forgotten without saying so.
"""
