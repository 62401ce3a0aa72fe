"""Describe the tables that several services share: archive writes them, the board reads them. Pure.

In: the fields of an entry. Out: its row (`rows`), and the SQL that stages, merges and selects rows
(`tables`). A row is checked as its table checks it, so that PostgreSQL has nothing to refuse.

Nothing here connects to a database, and of two rows with one key a batch in any order leaves the same one.
"""
