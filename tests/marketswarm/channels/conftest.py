"""A receiver of messages without a socket: it answers by a script, and keeps the requests."""

from itertools import chain, repeat

import httpx
import orjson
import pytest

from marketswarm.channels.http import Http


@pytest.fixture(scope="session")
def http():
    return Http()  # it never connects, so there is nothing to close


class ScriptedReceiver:
    def __init__(self, route):
        self.route = route
        self.answer(then=httpx.Response(200))

    def answer(self, *script, then=None):
        """Set the answers to the next requests (responses, or exceptions), and the one to all after those."""
        self.route.side_effect = chain(script, repeat(then)) if then else iter(script)

    @property
    def requests(self):
        return [call.request for call in self.route.calls]

    @property
    def bodies(self):
        return [request.content for request in self.requests]

    @property
    def found(self):
        return [orjson.loads(body) for body in self.bodies]


@pytest.fixture
def receiver(respx_mock):
    """Whatever is at `support.channel_kinds.URL`; a request to any other host fails the test."""
    return ScriptedReceiver(respx_mock.post(host="receiver.example.org"))
