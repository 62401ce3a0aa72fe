"""Connect to PostgreSQL, for services that have a database, and bring its schema up to date.

In: a URL, settings of the sessions, statements, SQL files. Out: rows, or an error that says whether a later
attempt may succeed. A pool survives its server, and notes whether it is away. A transaction never waits for a
server that is frozen.

No connection waits without a limit, no message holds a password or a row, and nothing here knows a table.
A program without the driver `asyncpg`, of the extra `archive`, imports this package late, or not at all.
"""
