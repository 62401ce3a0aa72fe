"""Who may open the WebSocket."""

import time

import pytest

from marketswarm.operator.tokens import Scope, create_token, write_token
from marketswarm.testing import MemoryBus
from marketswarm.web.guard import Guard, SiteRules
from marketswarm.web.tokens import TokenVerifier


def scope(client="127.0.0.1", **headers):
    given = [(name.encode(), value.encode()) for name, value in {"host": "127.0.0.1:8080", **headers}.items()]
    address = {"client": (client, 5), "path": "/ws", "query_string": b"", "headers": given}
    return {"type": "websocket", "scheme": "ws", **address}


async def open_socket(bus, asked):
    """What a client is answered: `open`, or the status of a refusal."""
    sent = []

    async def app(*_):
        sent.append({"status": "open"})

    async def send(message):
        sent.append(message)

    await Guard(app, SiteRules({"localhost"}, "HOSTS"), TokenVerifier(lambda: bus, "board"))(
        asked, None, send
    )
    assert all(each.get("type", "websocket.").startswith("websocket.") for each in sent)
    return sent[0]["status"]


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (scope(), "open"),
        (scope(origin="http://127.0.0.1:8080"), "open"),
        (scope(origin="https://127.0.0.1:8080"), "open"),
        (scope(origin="wss://127.0.0.1:8080"), "open"),  # as some programs write it
        (scope(origin="http://evil.example"), 403),
        (scope(origin="http://127.0.0.1:9090"), 403),
        (scope(origin="null"), 403),
        (scope(origin="http://[::1"), 403),
        (scope(host="evil.example", origin="http://evil.example"), 421),
        (scope("10.0.0.2"), 401),
    ],
)
async def test_only_a_page_of_the_board_and_a_program_that_may_read_open_it(asked, status):
    assert await open_socket(MemoryBus("system-redis"), asked) == status


async def test_a_token_opens_it_from_another_machine():
    bus = MemoryBus("system-redis")
    for wanted, status in ((Scope.READ, "open"), (Scope.WRITE, 403)):
        token, text = create_token("kim", [wanted], author="kim", now=time.time())
        await write_token(bus, token)
        assert await open_socket(bus, scope("10.0.0.2", authorization=f"Bearer {text}")) == status
