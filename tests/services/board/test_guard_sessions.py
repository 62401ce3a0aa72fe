"""Browsers on other machines: what a session opens, and what it does not; bodies that only some may send."""

import time
from dataclasses import replace
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI, Request

from marketswarm.operator.tokens import Scope, create_token, revoke_token, write_token
from marketswarm.testing import MemoryBus
from marketswarm.web.guard import MAX_BODY_BYTES, Guard
from marketswarm.web.sessions import SessionGate
from marketswarm.web.tokens import WRITES, TokenVerifier
from services.board.actions.forms import make_forms
from services.board.site_rules import SITE_RULES
from services.board.templates import TEMPLATES
from support.fixtures import closed

HOME = "http://board.example:8080"
ELSEWHERE = ("192.0.2.7", 5000)
BROWSER = {"Accept": "text/html,*/*;q=0.8"}


class Site:
    """A board's guard, its sign-in page, a page and a route of the API, and a client on another machine."""

    def __init__(self, client: tuple[str, int] = ELSEWHERE) -> None:
        self.bus = MemoryBus()
        verifier = TokenVerifier(lambda: self.bus, "board")
        gate = SessionGate(verifier, "board_8080")
        app = FastAPI()
        app.include_router(make_forms(SimpleNamespace(gate=gate, templates=TEMPLATES), {}))

        @app.api_route("/{path:path}", methods=["GET", "POST", "PUT"])
        async def read(request: Request):
            return len(await request.body())

        guard = Guard(app, replace(SITE_RULES, names=("board.example",)), verifier, gate=gate)
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(guard, client=client), base_url=HOME)

    async def make_token(self, *scopes: Scope) -> str:
        self.token, text = create_token("kim", scopes, author="kim", now=time.time())
        await write_token(self.bus, self.token)
        return str(text)

    async def sign_in(self, *scopes: Scope) -> httpx.Response:
        fields = {"token": await self.make_token(*scopes), "back": "fleet"}
        return await self.http.post("/sign-in", data=fields, headers={"Origin": HOME})

    async def read(self, path: str = "/", **headers: str) -> int:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return (await self.http.get(path, headers=given)).status_code

    async def aclose(self) -> None:
        await self.http.aclose()
        await self.bus.aclose()


site = closed(Site)


async def test_a_browser_elsewhere_is_led_to_the_sign_in_page_and_then_reads(site):
    away = await site.http.get("/incidents", headers=BROWSER)
    assert (away.status_code, away.headers["location"]) == (303, "/sign-in?back=fleet")
    page = await site.http.get("/sign-in?back=fleet", headers=BROWSER)
    assert (page.status_code, 'name="token"' in page.text) == (200, True)
    assert await site.read("/static/0/board.css") == 200
    answer = await site.sign_in(Scope.READ)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "secure" not in answer.headers["set-cookie"].lower()
    assert [await site.read(path) for path in ("/", "/incidents", "/api/v1/fleet")] == [200] * 3


async def test_without_a_session_programs_and_browsers_read_nothing(site):
    assert [await site.read(path) for path in ("/", "/api/v1/fleet", "/truth/edit")] == [401] * 3
    assert await site.read("/api/v1/fleet", Accept="text/html") == 401
    assert await site.read("/", Cookie="board_8080=guessed") == 401
    assert (await site.http.post("/api/v1/truth/check", content=b"{}")).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://board.example:9999"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"},
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "cors"},
    ],
)
async def test_what_another_site_asks_for_behind_the_back_of_a_person_is_not_answered(site, headers):
    await site.sign_in(Scope.READ)
    assert await site.read("/api/v1/fleet", **headers) == 401
    assert await site.read("/api/v1/fleet", Origin=HOME) == 200
    assert await site.read("/", Sec_Fetch_Site="same-site", Sec_Fetch_Mode="navigate") == 200


async def test_a_session_without_the_scope_read_reads_nothing_and_is_told_so(site):
    await site.sign_in(Scope.WRITE, Scope.SEED)
    answer = await site.http.get("/", headers=BROWSER)
    assert (answer.status_code, "lacks the scope read" in answer.text) == (403, True)


async def test_the_scope_signals_opens_the_signals_of_the_api_and_nothing_else(site):
    given = {"Authorization": f"Bearer {await site.make_token(Scope.SIGNALS)}"}
    signals = ("/api/v1/signals", "/api/v1/signals/SPY", "/api/v1/signals/EUR/USD")
    assert [await site.read(path, **given) for path in signals] == [200] * 3
    others = ("/api/v1/signalsmore", "/api/v1/bars/SPY", "/api/v1/fleet", "/", "/market/signals", "/ws")
    assert [await site.read(path, **given) for path in others] == [403] * len(others)
    refused = await site.http.post("/api/v1/signals", content=b"{}", headers=given)
    assert refused.status_code == 200, "the guard leaves writes to their routes"
    await site.sign_in(Scope.SIGNALS)
    assert [await site.read(path) for path in ("/api/v1/signals", "/market/signals")] == [200, 403]


async def test_reading_signals_is_no_write_that_is_limited(site):
    given = {"Authorization": f"Bearer {await site.make_token(Scope.SIGNALS)}"}
    assert {await site.read("/api/v1/signals", **given) for _ in range(3 * WRITES)} == {200}


async def test_a_session_ends_with_its_token(site):
    await site.sign_in(Scope.READ)
    assert await site.read() == 200
    await revoke_token(site.bus, site.token.id)
    assert await site.read() == 401


async def test_while_the_tokens_can_not_be_read_a_session_reads_nothing(site):
    await site.sign_in(Scope.READ)
    site.bus.connected = False
    assert await site.read() == 503


async def test_a_wrong_token_in_the_header_is_not_mended_by_a_session(site):
    await site.sign_in(Scope.READ)
    assert await site.read(Authorization="Bearer mst_wrong") == 401


LONG = b"{" + b" " * MAX_BODY_BYTES


@pytest.mark.parametrize("path", ["/api/v1/truth", "/api/v1/truth/check", "/truth/check", "/truth/seed"])
async def test_only_who_may_seed_sends_a_long_document(path):
    site = Site(("127.0.0.1", 5000))
    assert (await site.http.put(path, content=LONG)).status_code == 413
    write, seed = [await site.make_token(scope) for scope in (Scope.WRITE, Scope.SEED)]
    answers = [
        (await site.http.put(path, content=LONG, headers={"Authorization": f"Bearer {text}"})).status_code
        for text in (write, seed, "mst_wrong")
    ]
    assert answers == [413, 200, 401]
    other = await site.http.put("/act/ack", content=LONG, headers={"Authorization": f"Bearer {seed}"})
    assert other.status_code == 413
    await site.sign_in(Scope.SEED)
    assert (await site.http.put(path, content=LONG)).status_code == 200
    foreign = await site.http.put(path, content=LONG, headers={"Origin": "null"})
    assert foreign.status_code == (403 if path in SITE_RULES.reading_posts else 413)
    await site.aclose()


async def test_a_long_document_without_a_length_is_bounded_too():
    site = Site(("127.0.0.1", 5000))

    async def send():
        for _ in range(3):
            yield LONG[:40_000]

    assert (await site.http.put("/api/v1/truth", content=send())).status_code == 413
    token = await site.make_token(Scope.SEED)
    answer = await site.http.put(
        "/api/v1/truth", content=send(), headers={"Authorization": f"Bearer {token}"}
    )
    assert (answer.status_code, answer.json()) == (200, 120_000)
    await site.aclose()


async def test_nobody_sends_more_than_a_truth_may_have(site):
    token = await site.make_token(Scope.SEED)
    given = {"Authorization": f"Bearer {token}", "Content-Length": str(16 * 1024 * 1024 + 1)}
    assert (await site.http.put("/api/v1/truth", content=b"", headers=given)).status_code == 413
