"""Connect to PostgreSQL, for services that have a database.

In: a URL, settings of the sessions, and statements. Out: rows, or an error that says whether to try again.
A pool survives its server; a transaction and a limit of work don't wait for a server that is frozen.

No connection waits without a limit, no message holds a password or a row, and nothing here knows a table.
A program without the driver `asyncpg`, of the extra `archive`, imports this package late, or not at all.
"""
