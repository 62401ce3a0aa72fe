"""The forms of the pages as a browser sends them, over buses in memory."""

import asyncio
import logging
import time
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse

from marketswarm.keys import BOARD_AUDIT, MEDIC_APPROVALS, MEDIC_INCIDENTS, NOTIFIER_REQUESTS, answers_key
from marketswarm.operator.announcements import read_announcements
from marketswarm.operator.healing import EntryKind, HealingApproval, TimelineEntry
from marketswarm.operator.requests import Answer, OperatorRequest, RequestKind
from marketswarm.operator.silences import read_silences
from marketswarm.operator.tokens import Scope, create_token, revoke_token, write_token
from marketswarm.testing import MemoryBus
from marketswarm.truth import parse_truth
from marketswarm.web.audit import AuditLog
from marketswarm.web.sessions import SessionGate
from marketswarm.web.tokens import TokenVerifier
from services.board.actions.announcements import AnnouncementBoard
from services.board.actions.forms import find_way_back, list_acts, list_announcement_acts, make_forms
from services.board.actions.steering import HealingSteering, Steering
from services.board.app import add_errors
from services.board.fleet.incident_record import IncidentRecord
from services.board.settings import PublicSettings
from services.board.templates import TEMPLATES

TRUTH = parse_truth(b'{"services": {"rss_agg": {"tags": ["ingest"]}, "mesh": {}, "healer": {}}}').truth
HOME = "http://localhost:8080"
SILENCE = {"svc": "rss_agg", "for_sec": "1800", "reason": "new disks", "back": "service"}
FORMS = [
    ("/act/silence", SILENCE),
    ("/act/unsilence", {"id": "x"}),
    ("/act/ack", {"svc": "mesh"}),
    ("/act/test", {}),
    ("/act/announce", {"title": "Slow", "text": "We look into it."}),
    ("/act/update", {"id": "x", "text": "Better."}),
    ("/act/resend", {}),
    ("/act/approve", {"id": "3f9a1c04"}),
]


PUBLIC = PublicSettings(tags=("ingest",))


class Browser:
    """A browser on the board's pages, and the buses behind them."""

    def __init__(self, origin: str = HOME) -> None:
        self.system, self.market = MemoryBus("system-redis"), MemoryBus("market-redis")
        self.origin, self.refreshed, buses = origin, 0, [self.system, self.market]
        audit = AuditLog(lambda: self.system, "board")
        self.steering = Steering(lambda: buses, audit, lambda: TRUTH)
        self.gate = SessionGate(TokenVerifier(lambda: self.system, "board"), "board_8080")
        announcements = AnnouncementBoard(lambda: self.system, audit, lambda: PUBLIC)
        healing = HealingSteering(lambda: self.system, audit, IncidentRecord(lambda: self.system))
        app = FastAPI()
        add_errors(app, TEMPLATES)
        board = SimpleNamespace(gate=self.gate, refresh=self.refresh, templates=TEMPLATES)
        acts = list_acts(self.steering, healing) | list_announcement_acts(announcements)
        app.include_router(make_forms(board, acts))

        @app.get("/view")
        async def show_view(request: Request):
            found = await self.gate.find_session(request)
            said = found and found.find_notice(request.query_params.get("said", ""))
            notice = said and [said.text, said.is_bad]
            return JSONResponse(found and {"csrf": found.csrf, "author": found.author, "notice": notice})

        transport = httpx.ASGITransport(app, client=("127.0.0.1", 5000))
        self.http = httpx.AsyncClient(transport=transport, base_url=origin)

    async def refresh(self) -> None:
        self.refreshed += 1

    async def make_token(self, *scopes: Scope) -> str:
        self.token, text = create_token("deploy", scopes or [Scope.WRITE], author="kim", now=time.time())
        await write_token(self.system, self.token)
        return str(text)

    async def post(self, path: str, fields: dict[str, str], **headers: str | None) -> httpx.Response:
        given = {"Origin": self.origin} | headers
        return await self.http.post(
            path, data=fields, headers={name: value for name, value in given.items() if value is not None}
        )

    async def sign_in(self, *scopes: Scope, **fields: str) -> httpx.Response:
        return await self.post("/sign-in", {"token": await self.make_token(*scopes), **fields})

    async def view(self, said: str = ""):
        return (await self.http.get("/view", params={"said": said})).json()

    async def send(self, path: str, fields: dict[str, str]) -> tuple[str, str, bool]:
        """Send a form of a page; return where it leads, and what that page says."""
        answer = await self.post(path, fields | {"csrf": (await self.view())["csrf"]})
        assert answer.status_code == 303, answer.text
        where = urlsplit(answer.headers["location"])
        text, is_bad = (await self.view(parse_qs(where.query)["said"][0]))["notice"]
        return where.path, text, is_bad

    async def audit(self) -> list[tuple[bytes, ...]]:
        entries = await self.system.client.xrange(BOARD_AUDIT)
        return [(fields[b"action"], fields[b"outcome"], fields[b"name"]) for _, fields in entries]

    async def silences(self) -> list:
        return list((await read_silences([self.market])).silences.values())

    async def answer(self, *answers: Answer) -> OperatorRequest:
        """Answer the next request as a notifier does."""
        ((_, entries),) = await self.market.client.xread({NOTIFIER_REQUESTS: "0"}, block=5000)
        request = OperatorRequest.parse(entries[-1][1][b"ask"])
        for each in answers:
            await self.market.client.rpush(answers_key(request.id), each.encode())
        return request

    async def aclose(self) -> None:
        await self.http.aclose()
        await self.system.aclose()
        await self.market.aclose()


@pytest.fixture
async def browser():
    found = Browser()
    await found.sign_in()
    yield found
    await found.aclose()


async def test_a_token_opens_a_session_whose_cookie_no_script_and_no_other_site_can_use():
    browser = Browser()
    page = await browser.http.get("/sign-in", params={"back": "service", "svc": '"><b>'})
    assert (page.status_code, page.headers["cache-control"]) == (200, "no-store")
    assert 'value="&#34;&gt;&lt;b&gt;"' in page.text
    answer = await browser.sign_in(back="service", svc="rss agg")
    assert (answer.status_code, answer.headers["location"]) == (303, "/services/rss%20agg")
    name, *parts = [part.strip().lower() for part in answer.headers["set-cookie"].split(";")]
    assert name.startswith("board_8080=")
    assert set(parts) == {"httponly", "samesite=strict", "path=/", "max-age=43200"}
    assert (await browser.view())["author"] == "deploy"
    assert "Signed in with the token deploy" in (await browser.http.get("/sign-in")).text
    await browser.aclose()


async def test_behind_https_the_cookie_is_for_https_alone():
    browser = Browser("https://board.example")
    assert "secure" in (await browser.sign_in()).headers["set-cookie"].lower()
    assert await browser.view() is not None
    await browser.aclose()


async def test_a_wrong_token_opens_none_and_is_limited(monkeypatch):
    monkeypatch.setattr(
        "marketswarm.web.sessions.time", SimpleNamespace(monotonic=lambda: 1000.0, time=time.time)
    )
    browser = Browser()
    answers = [await browser.post("/sign-in", {"token": f"mst_<{n}>"}) for n in range(11)]
    assert [each.status_code for each in answers] == [401] * 10 + [429]
    assert "The token is not valid." in answers[0].text
    assert answers[-1].headers["retry-after"] == "5"
    assert not any("set-cookie" in each.headers or "mst_" in each.text for each in answers)
    await browser.aclose()


@pytest.mark.parametrize("scope", [Scope.READ, Scope.SEED])
async def test_a_session_may_do_what_its_token_may(scope):
    browser = Browser()
    assert (await browser.sign_in(scope)).status_code == 303
    for path, fields in FORMS:
        _, text, is_bad = await browser.send(path, fields)
        assert (text, is_bad) == ("The token lacks the scope write.", True)
    assert await browser.audit() == []
    await browser.aclose()


@pytest.mark.parametrize(("fields", "what"), [({}, "*"), ({"id": "m1"}, "m1")])
async def test_dead_messages_are_sent_again_one_or_all(browser, fields, what):
    fields = fields | {"back": "notifications", "by": "lena"}
    sending = asyncio.create_task(browser.send("/act/resend", fields))
    request = await browser.answer(Answer(ok=True, said="200", channel="webhook", done=True))
    assert (request.do, request.what, request.by) == (RequestKind.RESEND, what, "lena")
    assert await sending == ("/notifications", "Webhook: 200.", False)
    assert await browser.audit() == [(b"resend", b"begun", b"deploy"), (b"resend", b"done", b"deploy")]


async def test_how_many_dead_messages_are_left_is_said_first_and_is_no_success(browser):
    sending = asyncio.create_task(browser.send("/act/resend", {"back": "notifications"}))
    left = Answer(ok=False, said="100 of 250 are sent now, 150 are left", left=150)
    await browser.answer(left, Answer(ok=True, said="200", channel="webhook", done=True))
    said = "100 of 250 are sent now, 150 are left; webhook: 200."
    assert await sending == ("/notifications", said, True)


async def test_a_service_is_silenced_by_a_form_and_the_page_says_so(browser):
    where, text, is_bad = await browser.send("/act/silence", SILENCE | {"by": "kim"})
    assert (where, text, is_bad) == ("/services/rss_agg", "rss_agg: silenced for 30 min.", False)
    (made,) = await browser.silences()
    assert (made.services, made.author, made.reason) == (("rss_agg",), "kim", "new disks")
    assert (await browser.view())["author"] == "kim", "the next form proposes the same person"
    assert await browser.audit() == [
        (b"silence", b"begun", b"deploy"),
        (b"silence", b"done", b"deploy"),
    ]
    assert browser.refreshed == 1


async def test_a_silence_is_ended_by_a_form(browser):
    await browser.send("/act/silence", SILENCE)
    (made,) = await browser.silences()
    where, text, _ = await browser.send("/act/unsilence", {"id": made.id, "back": "incidents"})
    assert (where, text) == ("/incidents", "rss_agg: not silenced any more.")
    assert (await browser.silences())[0].has_ended(time.time())
    assert (await browser.send("/act/unsilence", {"id": "x"}))[1:] == ("No such silence.", True)


WRONG_SILENCES = (
    ({"reason": "a\x1b[2J"}, "reason"),
    ({"reason": "x" * 501}, "reason"),
    ({"for_sec": "0"}, "for_sec"),
    ({"for_sec": "-1"}, "Wrong: form.for_sec: is not more than 0."),
    ({"for_sec": "nan"}, "for_sec"),
    ({"for_sec": "999999999"}, "for_sec"),
    ({"by": "x" * 201}, "author"),
    ({"svc": ""}, "Nothing was done. Wrong: form: "),
    ({"svc": "rss_ag"}, "The truth names no rss_ag; did you mean rss_agg?"),
)


async def test_a_silence_that_is_out_of_bounds_is_refused_in_words(browser):
    for changed, said in WRONG_SILENCES:
        _, text, is_bad = await browser.send("/act/silence", SILENCE | changed)
        assert (said in text, is_bad, "\x1b" in text) == (True, True, False), (changed, text)
    assert await browser.silences() == []
    assert await browser.audit() == []
    assert browser.refreshed == 0


async def test_a_silence_needs_no_reason(browser):
    _, _, is_bad = await browser.send("/act/silence", SILENCE | {"reason": " "})
    (silence,) = await browser.silences()
    assert (is_bad, silence.reason) == (False, "no reason given")


async def test_an_announcement_is_published_and_updated_by_forms(browser):
    fields = {
        "title": "New disks",
        "text": "one\r\ntwo",
        "by": "kim",
        "tag": "ingest",
        "back": "announcements",
    }
    times = {"begins": "2030-01-01T10:00", "ends": "2030-01-01T12:00"}
    sent = await browser.send("/act/announce", fields | times)
    assert sent == ("/announcements", "Published: New disks.", False)
    (made,) = await read_announcements(browser.system)
    assert (made.latest.text, made.latest.tags, made.latest.author) == ("one\ntwo", ("ingest",), "kim")
    assert made.latest.ends_at - made.latest.begins_at == 7200
    update = {"id": made.latest.id, "text": "Not needed.", "state": "withdrawn"}
    assert not (await browser.send("/act/update", update))[2]
    (made,) = await read_announcements(browser.system)
    assert [str(one.state) for one in made.updates] == ["withdrawn", "scheduled"]
    assert made.latest.ends_at == made.updates[1].ends_at


WRONG_ANNOUNCEMENTS = (
    ({"title": ""}, "title"),
    ({"text": "x" * 2001}, "text"),
    ({"state": "fine"}, "There is no such state."),
    ({"tag": "other"}, "The truth does not mark the tag other as public."),
    ({"begins": "soon", "ends": "later"}, "A begin and an end are a date and a time."),
    ({"begins": "2030-01-01T10:00"}, "Nothing was done. Wrong: form"),
)


async def test_an_announcement_that_is_out_of_bounds_is_refused_in_words(browser):
    for changed, said in WRONG_ANNOUNCEMENTS:
        _, text, is_bad = await browser.send("/act/announce", {"title": "Slow", "text": "We look."} | changed)
        assert (said in text, is_bad) == (True, True), (changed, text)
    assert await read_announcements(browser.system) == ()


async def test_an_outage_is_acknowledged_by_a_form(browser):
    (where, text, is_bad), request = await asyncio.gather(
        browser.send("/act/ack", {"svc": "mesh", "by": "kim", "back": "incidents"}),
        browser.answer(Answer(ok=True, said="kim sees to mesh", done=True)),
    )
    assert (where, text, is_bad) == ("/incidents", "Kim sees to mesh.", False)
    assert (request.do, request.what, request.by) == (RequestKind.ACK, "mesh", "kim")


async def test_what_the_notifier_refuses_or_does_not_answer_is_said(browser):
    browser.steering.answer_sec = 0.02
    _, text, is_bad = await browser.send("/act/ack", {"svc": "mesh"})
    assert (text, is_bad) == (
        "The notifier has not answered yet: one that runs within a day does it.",
        True,
    )
    await browser.market.client.delete(NOTIFIER_REQUESTS)
    browser.steering.answer_sec = 5.0
    (_, text, is_bad), request = await asyncio.gather(
        browser.send("/act/ack", {"svc": "mesh"}),
        browser.answer(Answer(ok=False, said="nothing is down\x1b under that name", done=True)),
    )
    assert (text, is_bad, request.by) == ("Nothing is down\\x1b under that name.", True, "deploy")


async def test_a_test_message_is_sent_by_a_form_and_each_answer_shown(browser):
    (where, text, is_bad), request = await asyncio.gather(
        browser.send("/act/test", {"back": "notifications"}),
        browser.answer(
            Answer(ok=True, said="200 ok", channel="slack"),
            Answer(ok=False, said="404", channel="email", done=True),
        ),
    )
    assert (where, text, is_bad) == ("/notifications", "Slack: 200 ok; email: 404.", True)
    assert (request.do, request.what) == (RequestKind.TEST, "*")


OTHER_ORIGINS = (
    *(None, "", "null", "http://evil.example", "http://localhost", "http://localhost:9000"),
    *("ftp://localhost:8080", "http://localhost:8080.evil.example", "http://evil@localhost:8080", "http://["),
    "https://localhost:8080",
)


async def test_a_form_that_another_page_sent_is_refused(browser):
    csrf = (await browser.view())["csrf"]
    for path, fields in FORMS:
        for origin in OTHER_ORIGINS:
            answer = await browser.post(path, fields | {"csrf": csrf}, Origin=origin)
            assert answer.status_code == 403, (path, origin)
    for words in ("<h1>This was not done</h1>", "This form was not sent by a page of "):
        assert words in answer.text
    assert await browser.audit() == []
    assert await browser.view() is not None


async def test_a_form_without_the_secret_of_its_session_is_refused(browser):
    own = await browser.view()
    other = browser.gate.store.open(browser.token, HOME, time.monotonic())[1].csrf
    for path, fields in (*FORMS, ("/sign-out", {})):
        for csrf in ("", "x", other):
            assert (await browser.post(path, fields | {"csrf": csrf})).status_code == 403, (path, csrf)
    assert await browser.audit() == []
    assert await browser.view() == own


async def test_another_page_can_neither_sign_in_nor_out(browser):
    csrf = (await browser.view())["csrf"]
    for path, fields in (("/sign-in", {"token": await browser.make_token()}), ("/sign-out", {"csrf": csrf})):
        assert (await browser.post(path, fields, Origin="http://evil.example")).status_code == 403
    assert (await browser.view())["csrf"] == csrf


async def test_without_a_session_a_form_leads_to_the_sign_in_page():
    browser = Browser()
    text = await browser.make_token()
    for path, fields in FORMS:
        for headers in ({}, {"Cookie": "board_8080=x"}, {"Authorization": f"Bearer {text}"}):
            answer = await browser.post(path, fields, **headers)
            assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?why=over"), path
    assert "session has ended" in (await browser.http.get("/sign-in?why=over")).text
    assert await browser.audit() == []
    await browser.aclose()


async def test_a_revoked_token_s_session_has_ended_on_the_pages_and_for_forms():
    for look_first in (False, True):
        browser = Browser()
        await browser.sign_in()
        csrf = (await browser.view())["csrf"]
        await revoke_token(browser.system, browser.token.id)
        if look_first:
            assert await browser.view() is None
        answer = await browser.post("/act/silence", SILENCE | {"csrf": csrf})
        assert answer.headers["location"] == "/sign-in?why=over"
        await write_token(browser.system, browser.token)  # as if it had never been revoked
        assert await browser.view() is None
        assert len(browser.gate.store) == 0
        assert await browser.audit() == []
        await browser.aclose()


async def test_while_the_bus_of_the_tokens_is_away_the_page_is_shown_and_nothing_is_done(browser):
    csrf = (await browser.view())["csrf"]
    browser.system.connected = False
    assert (await browser.view())["csrf"] == csrf
    answer = await browser.post("/act/silence", SILENCE | {"csrf": csrf})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "which keeps the tokens, does not answer" in answer.text
    assert await browser.silences() == []


async def test_signing_out_ends_the_session(browser):
    cookie = browser.http.cookies["board_8080"]
    answer = await browser.post("/sign-out", {"csrf": (await browser.view())["csrf"]})
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert await browser.view() is None
    browser.http.cookies["board_8080"] = cookie
    assert await browser.view() is None
    assert (await browser.post("/sign-out", {})).status_code == 303


async def test_signing_in_again_ends_the_session_before_it(browser):
    cookie = browser.http.cookies["board_8080"]
    await browser.sign_in()
    assert browser.http.cookies["board_8080"] != cookie
    assert len(browser.gate.store) == 1


async def test_forms_have_the_limits_of_their_token(browser):
    said = [await browser.send("/act/unsilence", {"id": "x"}) for _ in range(11)]
    assert said[0][1] == "No such silence."
    assert said[-1][1] == "The token was used too often."


async def test_a_form_that_can_not_be_read_is_refused(browser):
    kind, csrf = {"Content-Type": "application/x-www-form-urlencoded"}, (await browser.view())["csrf"]
    for content, headers, status in (
        (b"\xff", kind, 422),
        (b"&".join(b"a%d=1" % n for n in range(30)), kind, 422),
        (b"csrf=" + csrf.encode(), {"Content-Type": "text/plain"}, 415),
        (b"", {}, 415),
    ):
        answer = await browser.http.post("/act/test", content=content, headers={"Origin": HOME} | headers)
        assert answer.status_code == status
    assert (await browser.post("/act/else", {"csrf": csrf})).status_code == 404
    assert (await browser.http.get("/act/test")).status_code == 405


async def test_no_log_has_a_token_a_cookie_or_a_form_s_secret(capsys, caplog):
    caplog.set_level(logging.DEBUG)
    browser = Browser()
    answer = await browser.sign_in()
    csrf = (await browser.view())["csrf"]
    await browser.post("/sign-in", {"token": "mst_wrong"})
    await browser.send("/act/silence", SILENCE)
    logged = caplog.text + "".join(capsys.readouterr())
    assert "board.signed_in" in logged
    secrets = [csrf, answer.headers["set-cookie"].partition("=")[2].partition(";")[0], "mst_"]
    assert not any(each in logged for each in secrets)
    entries = repr(await browser.system.client.xrange(BOARD_AUDIT))
    assert not any(each in entries for each in secrets)
    await browser.aclose()


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({}, "/incidents"),
        ({"back": "https://evil.example"}, "/incidents"),
        ({"back": "//evil.example"}, "/incidents"),
        ({"back": "notifications"}, "/notifications"),
        ({"back": "service"}, "/incidents"),
        ({"back": "service", "svc": "../x?y#z"}, "/services/..%2Fx%3Fy%23z"),
        ({"back": "entry", "svc": "../x?y#z&a"}, "/truth/entry?name=..%2Fx%3Fy%23z%26a"),
        ({"back": "entry"}, "/incidents"),
    ],
)
def test_a_form_leads_back_to_our_own_pages_alone(fields, path):
    assert find_way_back(fields) == path


async def test_a_form_approves_what_the_medic_proposes_and_leads_back_to_the_record(browser):
    await browser.sign_in()
    what = {"incident": "mesh.17", "svc": "mesh", "remedy": "restart"}
    entry = TimelineEntry(**what, ts=17.0, what=EntryKind.PROPOSED, proposal="3f9a1c04")
    await browser.system.client.xadd(MEDIC_INCIDENTS, {"entry": entry.encode()})
    fields = {"id": "3f9a1c04", "back": "past", "by": "ann"}
    assert await browser.send("/act/approve", fields) == (
        "/incidents/past",
        "Approved: restart mesh.",
        False,
    )
    (raw,) = (await browser.system.client.hgetall(MEDIC_APPROVALS)).values()
    assert HealingApproval.parse(raw).by == "ann"
    _, said, is_bad = await browser.send("/act/approve", {"id": "nope", "back": "past"})
    assert (said, is_bad) == ("Nothing is proposed under that id, or not any more.", True)
