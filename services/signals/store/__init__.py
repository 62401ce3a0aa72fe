"""Keep the log of signals in PostgreSQL: add ticks, gaps and changes of the key, and read them to prove.

Enters: entries and places that are decided, notes and cosignatures that are verified; what a reader asks for.
Leaves: rows that are committed, each tick as a whole or not at all; entries, places and nodes as they are.
Never: a tick twice, an entry of a leader that is not the newest one, a row that is changed or deleted.
"""
