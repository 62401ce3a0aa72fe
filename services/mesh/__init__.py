"""Keep the topology of the running instances, from the beats of every bus, and the flow of their data.

Enters: every beat, the truth, lengths and groups of streams.
Leaves: `mesh:topology`, `mesh:events` and `mesh:flow` on system-redis.
Never: an alert, a restart, or a value from a stored topology that was not checked.
"""
