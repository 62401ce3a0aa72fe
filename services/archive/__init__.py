"""Keep the market in PostgreSQL: write what the streams say, each row once, and the highest revision wins.

Enters: the streams of the market, the alert log and the medic's record; requests for backups.
Leaves: rows, partitions, correlations, backups and exports; `archive:dead` for entries that can't be rows.
Never: an acknowledged entry that is not committed, an older revision over a newer one, or a released
migration that changes.
"""
