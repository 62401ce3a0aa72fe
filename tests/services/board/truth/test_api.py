"""The routes of the truth over buses in memory: who may do what, and what an answer says."""

import hashlib
import time
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI

from marketswarm.keys import BOARD_AUDIT, TRUTH_DOC, TRUTH_HISTORY
from marketswarm.operator.tokens import Scope, create_token, write_token
from marketswarm.testing import MemoryBus
from marketswarm.truth import RESERVED_USERS, parse_truth
from marketswarm.web.audit import AuditLog
from marketswarm.web.tokens import TokenVerifier
from services.board.truth.api import make_truth_api
from services.board.truth.editor import TruthEditor

OLD = b'{"services": {"mesh": {}}}\n'
NEW = b'{"services": {"mesh": {"tags": ["a"]}, "rss_agg": {}}}\n'
DIGEST = hashlib.sha256(OLD).hexdigest()
SENT = {"Content-Type": "application/json"}


class Client:
    """A client of the routes, and the buses behind them: revision 1 is no truth, 2 is OLD, 3 is NEW."""

    def __init__(self) -> None:
        self.system, self.market = MemoryBus("system-redis"), MemoryBus("market-redis")
        self.may_seed = True
        self.editor = TruthEditor(
            lambda: [self.system, self.market],
            AuditLog(lambda: self.system, "board"),
            lambda: parse_truth(OLD).truth,
            lambda: self.may_seed,
            TRUTH_DOC,
        )
        app = FastAPI()
        app.include_router(make_truth_api(self.editor, TokenVerifier(lambda: self.system, "board")))
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 5000))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://localhost/api/v1")

    async def fill(self) -> None:
        for number, document in enumerate((b'{"services": 5}', OLD, NEW), 1):
            sha256 = hashlib.sha256(document).hexdigest()
            fields = {"revision": number, "sha256": sha256, "doc": document, "seeded_by": "kim\u202e"}
            await self.market.client.xadd(TRUTH_HISTORY, fields)
        await self.market.client.set(TRUTH_DOC, OLD)

    async def log_in(self, *scopes: Scope) -> dict[str, str]:
        token, text = create_token("deploy", scopes, author="kim", now=time.time())
        await write_token(self.system, token)
        return SENT | {"Authorization": f"Bearer {text}"}

    async def aclose(self) -> None:
        await self.http.aclose()
        await self.system.aclose()
        await self.market.aclose()


@pytest.fixture
async def client():
    found = Client()
    await found.fill()
    yield found
    await found.aclose()


async def test_the_document_comes_back_byte_for_byte_and_only_if_it_changed(client):
    answer = await client.http.get("/truth")
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (200, OLD, f'"{DIGEST}"')
    again = await client.http.get("/truth", headers={"If-None-Match": f'"{DIGEST}"'})
    assert (again.status_code, again.content) == (304, b"")
    await client.market.client.set(TRUTH_DOC, NEW)
    assert (await client.http.get("/truth")).content == NEW


async def test_a_document_that_is_not_valid_is_not_shown_since_it_may_hold_secrets(client):
    await client.market.client.set(TRUTH_DOC, b'{"services": {"a": {"settings": {"password": "hunter2"}}}}')
    answers = [await client.http.get("/truth"), await client.http.get("/truth/revisions/1")]
    assert [each.status_code for each in answers] == [409, 422]
    assert not any("hunter2" in each.text for each in answers)


async def test_without_a_bus_or_a_truth_the_answer_says_so(client):
    await client.market.client.delete(TRUTH_DOC)
    assert (await client.http.get("/truth")).status_code == 503
    client.market.connected = client.system.connected = False
    for path in ("/truth", "/truth/revisions", "/truth/revisions/2", "/truth/diff?older=2&newer=3"):
        assert (await client.http.get(path)).status_code == 503, path


async def test_revisions_are_listed_and_compared(client):
    client.system.connected = False
    listed = (await client.http.get("/truth/revisions")).json()
    assert [each["revision"] for each in listed] == [3, 2, 1]
    assert listed[0]["seeded_by"].isprintable()
    assert (await client.http.get("/truth/revisions/2")).content == OLD
    changes = (await client.http.get("/truth/diff", params={"older": 2, "newer": 3})).json()
    assert (changes["added"], changes["changed"], changes["same"]) == (["rss_agg"], [["mesh", "tags"]], False)
    assert (await client.http.get("/truth/diff", params={"older": 2, "newer": 2})).json()["same"]


async def test_a_revision_that_nobody_keeps_is_not_found(client):
    assert (await client.http.get("/truth/revisions/9")).status_code == 404
    assert (await client.http.get("/truth/diff", params={"older": 2, "newer": 9})).status_code == 404
    assert (await client.http.get("/truth/revisions/0")).status_code == 422


async def test_a_check_needs_no_token_and_says_what_is_wrong_or_what_changes(client):
    wrong = (await client.http.post("/truth/check", content=OLD.replace(b"{}", b"5"), headers=SENT)).json()
    assert (wrong["valid"], wrong["errors"][0]["path"], wrong["errors"][0]["line"]) == (
        False,
        "services.mesh",
        1,
    )
    right = (await client.http.post("/truth/check", content=NEW, headers=SENT)).json()
    assert (right["valid"], right["changes"]) == (True, ["+ rss_agg", "~ mesh: tags"])


async def test_a_form_of_another_site_is_not_checked(client):
    """A browser asks before it sends JSON to another site; a form it sends at once."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = await client.http.post("/truth/check", content=NEW, headers={"Content-Type": kind})
        assert answer.status_code == 415


async def test_seeding_needs_a_token_with_its_scope_and_the_document_that_it_replaces(client):
    match = {"If-Match": f'"{DIGEST}"'}
    others = await client.log_in(Scope.READ, Scope.WRITE)
    mine = await client.log_in(Scope.SEED)
    answers = [
        (await client.http.put("/truth", content=NEW, headers=headers)).status_code
        for headers in (SENT | match, others | match, mine, mine | match | {"Content-Type": "text/plain"})
    ]
    assert answers == [401, 403, 428, 415]
    assert await client.system.client.exists(BOARD_AUDIT) == 0


async def test_a_wrong_document_is_refused_with_all_its_errors(client):
    mine = await client.log_in(Scope.SEED) | {"If-Match": f'"{DIGEST}"'}
    wrong = b'{"services": {"mesh": 5,\n "rss_agg": {"settings": {"poll_sec": "x"}}}}'
    answer = await client.http.put("/truth", content=wrong, headers=mine)
    assert answer.status_code == 422
    assert [(each["path"], each["line"]) for each in answer.json()["errors"]] == [
        ("services.mesh", 1),
        ("services.rss_agg.settings.poll_sec", 2),
    ]
    for user in RESERVED_USERS:
        answer = await client.http.put("/truth", content=NEW.replace(b"rss_agg", user.encode()), headers=mine)
        assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, f"services.{user}")
    client.may_seed = False
    assert (await client.http.put("/truth", content=NEW, headers=mine)).status_code == 403


async def test_a_token_seeds_ten_times_at_once_and_then_waits(client, monkeypatch):
    monkeypatch.setattr(
        "marketswarm.web.tokens.time", SimpleNamespace(monotonic=lambda: 1000.0, time=time.time)
    )
    mine = await client.log_in(Scope.SEED)
    answers = [await client.http.put("/truth", content=NEW, headers=mine) for _ in range(11)]
    assert [each.status_code for each in answers] == [428] * 10 + [429]
    assert answers[-1].headers["retry-after"] == "2"
