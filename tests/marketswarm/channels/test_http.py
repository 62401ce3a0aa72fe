"""The client that channels share: what a receiver does to it costs that one request."""

import asyncio

from httpcore._backends.anyio import AnyIOStream

from marketswarm.channels import SendError
from marketswarm.channels.http import Http
from support.rig.feed_site import Site, drip, endless


async def test_a_time_that_is_over_while_a_connection_is_put_away_leaves_none_behind(monkeypatch):
    put_away = AnyIOStream.aclose

    async def slowly(stream):
        await asyncio.sleep(0.3)  # as on a busy machine
        await put_away(stream)

    monkeypatch.setattr(AnyIOStream, "aclose", slowly)
    http = Http(within_sec=0.15)
    with Site() as site:
        site.pages |= {"/endless": endless, "/drip": drip}

        async def sent(path):
            try:
                await http.request("GET", site.url(path))
            except SendError as error:
                return error.reason
            return "sent"

        said = await asyncio.gather(*(sent(path) for path in ("/endless", "/drip") * 5))
        assert "timeout" in said
        pool = http._client._transport._pool
        assert (pool._requests, pool.connections) == ([], [])
    await http.aclose()
