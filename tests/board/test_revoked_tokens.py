"""What a token opened ends with the token: real sockets, a real server, a real bus that keeps the tokens."""

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace

import httpx
import orjson
import pytest
from fastapi import FastAPI, WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from marketswarm.operator.tokens import Scope, create_token, revoke_token, write_token
from marketswarm.tasks import end_tasks
from marketswarm.web import guard
from marketswarm.web.event_stream import StreamHub
from marketswarm.web.guard import TOKEN_REFUSED, Guard
from marketswarm.web.server import open_socket, serve
from marketswarm.web.sessions import SessionGate
from marketswarm.web.tokens import TokenVerifier
from marketswarm.web.updates import UpdateHub
from services.board.actions.forms import make_forms
from services.board.fleet.api import make_api
from services.board.market.conversation import serve_client
from services.board.site_rules import SITE_RULES
from services.board.templates import TEMPLATES
from support.waiting import auntil

ELSEWHERE = ("192.0.2.7", 5000)
WITHIN_SEC = 15


class Site:
    """A board with its streams alone; `url` and `socket_url` lead to it as from another machine."""

    def __init__(self, bus):
        self.bus, self.events, self.hub = bus, StreamHub("boot"), UpdateHub("boot")
        verifier = TokenVerifier(lambda: bus, "board")
        self.gate = gate = SessionGate(verifier, "board_test")
        app = FastAPI()
        app.include_router(make_api(SimpleNamespace(hub=self.events)))
        app.include_router(make_forms(SimpleNamespace(gate=gate, templates=TEMPLATES), {}))

        @app.websocket("/ws")
        async def follow(socket: WebSocket) -> None:
            await serve_client(socket, self)

        self._guard = Guard(app, replace(SITE_RULES, names=("127.0.0.1",)), verifier, gate=gate)

    async def __call__(self, scope, receive, send):
        await self._guard({**scope, "client": ELSEWHERE}, receive, send)

    def close(self):
        self.events.close()
        self.hub.close()

    async def prepare_snapshots(self, topics):
        pass

    def find_snapshot(self, _topic):
        return None

    async def make_token(self):
        """Make a token; return its id and the header that has it."""
        token, text = create_token("kim", [Scope.READ], author="kim", now=time.time())
        await write_token(self.bus, token)
        return token.id, {"Authorization": f"Bearer {text}"}


@pytest.fixture
async def site(bus, monkeypatch):
    monkeypatch.setattr(guard, "CHECK_SEC", 0.1)
    found, listening = Site(bus), open_socket("127.0.0.1", 0, "BOARD")
    port = listening.getsockname()[1]
    found.url, found.socket_url = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}/ws"
    serving = asyncio.create_task(serve(found, listening, lambda: 10, found.close))
    yield found
    await end_tasks(serving)


async def wait_for_followers(hub, count):
    await auntil(lambda: len(hub) == count)


async def test_a_websocket_is_closed_with_its_token_and_another_one_stays(site):
    ident, headers = await site.make_token()
    _, others = await site.make_token()
    async with (
        connect(site.socket_url, additional_headers=headers) as revoked,
        connect(site.socket_url, additional_headers=others) as valid,
    ):
        await revoked.recv(), await valid.recv()
        await revoke_token(site.bus, ident)
        with pytest.raises(ConnectionClosedError):
            async with asyncio.timeout(WITHIN_SEC):
                await revoked.recv()
        assert (revoked.close_code, revoked.close_reason) == (
            TOKEN_REFUSED,
            "the token is not valid any more",
        )
        await wait_for_followers(site.hub, 1)
        await valid.send(orjson.dumps({"subscribe": ["quotes"]}).decode())
        assert orjson.loads(await valid.recv())["type"] == "snapshot"


async def test_a_stream_ends_with_its_token(site):
    ident, headers = await site.make_token()
    async with httpx.AsyncClient(base_url=site.url, headers=headers) as client:
        async with client.stream("GET", "/api/v1/stream") as answer:
            assert answer.status_code == 200
            await wait_for_followers(site.events, 1)
            await revoke_token(site.bus, ident)
            async with asyncio.timeout(WITHIN_SEC):
                assert b"reset" in await answer.aread(), "it ends as a whole answer does"
        assert len(site.events) == 0
        assert (await client.get("/api/v1/stream")).status_code == 401


async def test_a_stream_ends_when_its_browser_signs_out(site):
    _, headers = await site.make_token()
    form = {"token": headers["Authorization"].removeprefix("Bearer "), "back": "fleet"}
    async with httpx.AsyncClient(base_url=site.url) as client:
        signed_in = await client.post("/sign-in", data=form, headers={"Origin": site.url})
        assert signed_in.status_code == 303, signed_in.text
        async with client.stream("GET", "/api/v1/stream") as answer:
            await wait_for_followers(site.events, 1)
            site.gate.store.close(client.cookies["board_test"])
            async with asyncio.timeout(WITHIN_SEC):
                await answer.aread()
        assert len(site.events) == 0
