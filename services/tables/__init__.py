"""Describe tables that several services share: archive or signals writes them, the board reads them. Pure.

Enters: the fields of an entry.
Leaves: its row (`rows`), and the SQL that stages, merges and selects rows (`tables`, `signals`).
Never: a connection to a database, a row that PostgreSQL would refuse, or another row for the same entries in
another order.
"""
