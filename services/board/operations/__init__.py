"""Answer the operator's curl: is all well, how full are database and caches; clear caches, refresh sources.

Enters: what the fleet reader, the feed of the market and archive's reports say; requests of the operator.
Leaves: answers as JSON; caches without their entries, and requests to sources, both audited.
Never: a 503 for a part that this fleet does not have, or a key deleted that cannot be made again.
"""
