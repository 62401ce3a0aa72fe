"""Holds what docs/security.md says of clients without a token to what the board answers to everyone."""

import re
from types import SimpleNamespace

import pytest

from marketswarm.operator.signed_link import LINK_PATH
from marketswarm.testing import MemoryBus
from marketswarm.web.guard import Guard
from marketswarm.web.tokens import TokenVerifier
from services.board.fleet.visibility import BADGE_PATH, PUBLIC_PATH, is_public_path
from services.board.pings.answers import RefusedPingError
from services.board.pings.management import ManagementApi
from services.board.settings import PublicSettings
from services.board.site_rules import SITE_RULES
from support.board_examples import make_small
from support.pages import section

NAMED = re.compile(r"`(/[a-z0-9./-]+)`")
PATHS = {
    *("/", "/incidents", "/alerts", "/truth", "/docs", "/market", "/keys", "/ws", "/api/v1/openapi.json"),
    *("/api/v1/fleet", "/api/v1/health", "/api/v1/alerts", "/api/v3/checks", "/api/v3/badges"),
    *(SITE_RULES.sign_in_path, *SITE_RULES.shortened, "/static/", "/favicon.ico", "/healthz", "/readyz"),
    *("/api/v3/status", PUBLIC_PATH, BADGE_PATH, LINK_PATH),
}
"""Paths of the board; one with a slash at its end stands for what lies below it."""


@pytest.fixture
def named() -> set[str]:
    said = section("docs/security.md", "Sessions on the board's pages")
    (line,) = re.findall(r"^- \*\*Without a token.*?(?=^- )", said, re.MULTILINE | re.DOTALL)
    return set(NAMED.findall(line))


async def is_answered(path: str) -> bool:
    """Return whether a client on another machine, without a token, has an answer that is no refusal."""
    management = ManagementApi(SimpleNamespace(find_problem=lambda: None), None, None)
    asked = {"type": "http", "method": "GET", "path": path, "query_string": b"", "client": ("10.0.0.2", 5)}
    asked["headers"] = [(b"host", b"127.0.0.1:8080")]
    if management.handles(path):  # stands before the guard, and asks for a token itself
        try:
            return (await management.answer(asked, None)).status == 200
        except RefusedPingError:
            return False
    sent, public = [], PublicSettings(tags=("ingest",))

    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    def is_open(path: str) -> bool:
        return path.startswith(LINK_PATH) or is_public_path(path, make_small(), public)

    await Guard(app, SITE_RULES, TokenVerifier(MemoryBus, "board"), is_open=is_open)(asked, None, send)
    return sent[0]["status"] == 200


BELOW = {"/static/": "/static/0/board.css", BADGE_PATH: "/badge/tag/ingest.svg", LINK_PATH: "/link/a.b"}


async def test_a_client_without_a_token_sees_what_the_page_says_and_nothing_else(named):
    answered = {path for path in PATHS if await is_answered(BELOW.get(path, path))}
    assert answered == named - {"/api/v2/", "/api/v1/"}
