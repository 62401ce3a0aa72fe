"""Connect to PostgreSQL, for services that have a database, and bring its schema up to date.

A program without the driver `asyncpg`, of the extra `archive`, imports this package late, or not at all.

Enters: a URL, settings of the sessions, statements, SQL files.
Leaves: rows, or an error that says whether a later attempt may succeed; whether the database is away.
Never: a connection or a server that is waited for without a limit, a password or a row in a message, or a
table of one service.
"""
