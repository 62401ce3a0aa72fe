"""The connections of an httpx client: a request that was given up must leave none."""

from typing import Any

import httpx


def connections(client: httpx.AsyncClient) -> list[Any]:
    """Return the connections and the unfinished requests in the client's pool."""
    pool: Any = client._transport._pool  # type: ignore[attr-defined]  # noqa: SLF001 - httpx has no public way
    return [*pool.connections, *pool._requests]  # noqa: SLF001 - as above
