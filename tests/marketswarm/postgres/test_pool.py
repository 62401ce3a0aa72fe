"""The pool of connections to PostgreSQL, and what it says when the server does not answer."""

import socket

import pytest

from marketswarm.postgres.errors import PostgresAwayError
from marketswarm.postgres.pool import ConnectionPool


async def test_a_server_that_takes_a_connection_and_does_not_answer_is_named_as_such():
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        url = f"postgresql://someone:secret@127.0.0.1:{frozen.getsockname()[1]}/any?sslmode=disable"
        pool = ConnectionPool(url, {}, most=1, connect_sec=lambda: 0.2)
        with pytest.raises(PostgresAwayError, match=r"^TimeoutError: no answer within 0\.2 s$"):
            async with pool.connect(5):
                pass
        await pool.aclose()
