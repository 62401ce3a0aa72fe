"""A truth from a document, and a gate over buses in memory."""

import asyncio
import time
from collections import Counter
from dataclasses import replace

import orjson
import pytest

from marketswarm.operator.tokens import create_ping_key, write_ping_key
from marketswarm.testing import MemoryBus
from marketswarm.truth import parse_truth
from marketswarm.web.server import WHOLE_ANSWER
from services.board.pings.desk import PingDesk
from services.board.pings.directory import PingDirectory
from services.board.pings.gate import PingGate
from services.board.pings.key_ring import KeyRing
from services.board.pings.writer import PingWriter
from services.board.site_rules import SITE_RULES
from support.fixtures import closed

TRUTH = {
    "services": {
        "backup": {},
        "shop_api": {},
        "shop.api": {},
        "elsewhere": {"heartbeat": {"redis_url": "redis://market-redis:6379"}},
    }
}


def make_truth(document):
    return parse_truth(orjson.dumps(document)).truth


@pytest.fixture
def truth_of():
    return make_truth


class GateRig:
    """A gate, the buses behind it, and a client; `handed_on` has the paths that the gate did not answer."""

    def __init__(self):
        self.buses = {name: MemoryBus(name) for name in ("system-redis", "market-redis")}
        self.environ = {"PING_ALL": "B" * 22, "PING_BAD": "x"}
        self.keys = KeyRing(lambda: self.buses["system-redis"], self.environ)
        self.directory = PingDirectory(make_truth(TRUTH))
        self.follow()
        self.writer = PingWriter(
            self.buses.__getitem__, "b00700b007aa", lambda work, name: asyncio.create_task(work, name=name)
        )
        self.desk = PingDesk(lambda: self.directory, self.keys, self.writer)
        self.responses, self.handed_on = Counter(), []
        self.gate = PingGate(
            self.hand_on, replace(SITE_RULES, names={"board.example"}), self.desk, self.responses
        )

    def follow(self, named=()):
        """Takes over the keys that a truth names, and its services."""
        self.keys.follow(named, frozenset(self.directory.by_name) | {"healer"})

    async def hand_on(self, scope, _receive, send):
        self.handed_on.append(scope["path"])
        await send({"type": "http.response.start", "status": 299, "headers": []})
        await send({"type": "http.response.body", "body": b"the board"})

    async def make_key(self, svc=None, **how):
        key, secret = create_ping_key("test", svc, author="kim", now=time.time(), **how)
        assert await write_ping_key(self.buses["system-redis"], key)
        await self.keys.refresh(time.monotonic())
        return key, secret

    async def ask(
        self,
        path,
        method="GET",
        body=b"",
        *,
        query=b"",
        client="10.9.8.7",
        host="board.example",
        is_whole=False,
        **headers,
    ):
        """Returns status, body and headers; `is_whole`: the server takes answers as a whole."""
        given = [(b"host", host.encode())] + [
            (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
        ]
        if body:
            given.append((b"content-length", str(len(body)).encode()))
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query,
            "client": (client, 1234),
            "headers": given,
        }
        pieces = [body[at : at + 60_000] for at in range(0, len(body), 60_000)] or [b""]
        sent = []

        async def receive():
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

        async def send(message):
            sent.append(message)

        async def send_whole(head, answer_body):
            status_line, *lines = head.removesuffix(b"\r\n").split(b"\r\n")
            fields = [tuple(line.split(b": ", 1)) for line in lines]
            sent.extend(
                [{"status": int(status_line.split(b" ")[1]), "headers": fields}, {"body": answer_body}]
            )

        if is_whole:
            scope["extensions"] = {WHOLE_ANSWER: send_whole}
        await self.gate(scope, receive, send)
        return sent[0]["status"], sent[1]["body"], dict(sent[0]["headers"])

    async def entries(self, svc, bus="system-redis"):
        return [fields for _, fields in await self.buses[bus].client.xrange(f"pings:{svc}")]

    async def aclose(self):
        for bus in self.buses.values():
            await bus.aclose()


rig = closed(GateRig)
