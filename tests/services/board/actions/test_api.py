"""The routes that change something, as a client sees them, over buses in memory."""

import asyncio
import re
import time
from functools import cache
from types import SimpleNamespace

import httpx
import orjson
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from structlog.testing import capture_logs

from marketswarm.keys import (
    BOARD_AUDIT,
    MEDIC_APPROVALS,
    MEDIC_INCIDENTS,
    NOTIFIER_REQUESTS,
    answers_key,
    board_link_key,
)
from marketswarm.operator.healing import EntryKind, HealingApproval, TimelineEntry
from marketswarm.operator.requests import Answer, OperatorRequest, RequestKind
from marketswarm.operator.signed_link import MAX_SUBJECTS, LinkAction, SignedLink, make_link
from marketswarm.operator.silences import read_silences
from marketswarm.operator.tokens import Scope, create_token, write_token
from marketswarm.tasks import run_beside
from marketswarm.testing import MemoryBus
from marketswarm.truth import parse_truth
from marketswarm.web.audit import AuditLog
from marketswarm.web.tokens import TokenVerifier
from services.board.actions.announcements import AnnouncementBoard
from services.board.actions.api import make_actions
from services.board.actions.links import LinkActs, make_link_site
from services.board.actions.steering import MAX_WAITING, HealingSteering, Steering
from services.board.app import add_errors, describe_failures
from services.board.fleet.incident_record import IncidentRecord
from services.board.settings import PublicSettings
from services.board.templates import TEMPLATES
from support.current import Current
from support.waiting import PATIENT_SEC, auntil

TRUTH = parse_truth(
    orjson.dumps({"services": {"rss_agg": {"tags": ["ingest"]}, "mesh": {}, "healer": {}}})
).truth
SILENCE = {"services": ["rss_*"], "for_sec": 1800, "reason": "deployment"}
OK = Answer(ok=True, said="kim sees to mesh", done=True)
REFUSED = Answer(ok=False, said="nothing is down under that name", done=True)
SLACK = Answer(ok=True, said="200 ok", channel="slack", where="hooks.slack.com")


KEY = SecretStr("k" * 32)
PUBLIC = PublicSettings(tags=("ingest",))


@cache
def make_app():
    app, behind = FastAPI(), [Current() for _ in range(4)]
    app.include_router(make_actions(*behind))
    return app, behind


class Client:
    """A client with a token, and the buses behind the routes."""

    def __init__(self) -> None:
        self.system, self.market = MemoryBus("system-redis"), MemoryBus("market-redis")
        self.buses = [self.system, self.market]
        audit = AuditLog(lambda: self.system, "board")
        self.steering = Steering(lambda: self.buses, audit, lambda: TRUTH)
        announcements = AnnouncementBoard(lambda: self.system, audit, lambda: PUBLIC)
        self.record = IncidentRecord(lambda: self.system)
        self.healing = HealingSteering(lambda: self.system, audit, self.record)
        self.app, behind = make_app()
        verifier = TokenVerifier(lambda: self.system, "board")
        for current, value in zip(
            behind, (self.steering, verifier, announcements, self.healing), strict=True
        ):
            current.value = value
        self.headers = {}
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, client=("127.0.0.1", 5000)), base_url="http://localhost"
        )

    async def log_in(self, *scopes: Scope) -> None:
        token, text = create_token("deploy", scopes, author="kim", now=time.time())
        await write_token(self.system, token)
        self.token, self.headers = token, {"Authorization": f"Bearer {text}"}

    async def ask(self, method: str, path: str, body=None, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else None if body is None else orjson.dumps(body)
        kind = {"Content-Type": "application/json"} if content else {}
        return await self.http.request(
            method, f"/api/v1{path}", content=content, headers=kind | self.headers | headers
        )

    async def audit(self) -> list[dict[str, str]]:
        entries = await self.system.client.xrange(BOARD_AUDIT)
        return [{key.decode(): value.decode() for key, value in fields.items()} for _, fields in entries]

    async def silences(self) -> list:
        return list((await read_silences([self.market])).silences.values())

    async def answer(self, *answers: Answer) -> OperatorRequest:
        """Answer the next request as a notifier does."""
        ((_, entries),) = await self.market.client.xread({NOTIFIER_REQUESTS: "0"}, block=5000)
        request = OperatorRequest.parse(entries[-1][1][b"ask"])
        for each in answers:
            await self.market.client.rpush(answers_key(request.id), each.encode())
        return request


@pytest.fixture
async def client():
    found = Client()
    await found.log_in(Scope.WRITE)
    yield found
    await found.http.aclose()
    for bus in found.buses:
        await bus.aclose()


async def test_a_silence_is_set_on_every_bus_in_the_name_of_the_token(client):
    answer = await client.ask("POST", "/silences", SILENCE)
    assert answer.status_code == 201, answer.text
    (made,) = await client.silences()
    assert (made.services, made.author, made.reason) == (("rss_*",), "deploy", "deployment")
    assert made.ends_at == pytest.approx(time.time() + 1800, abs=10)
    found = answer.json()
    assert (found["id"], found["matches"], found["refused"]) == (made.id, ["rss_agg"], {})
    assert answer.headers["cache-control"] == "no-store"


async def test_a_silence_may_be_in_somebody_s_name_and_on_tags(client):
    body = {"tags": ["ingest"], "for_sec": 60.5, "reason": "x", "author": "kim"}
    found = (await client.ask("POST", "/silences", body)).json()
    assert (found["author"], found["tags"], found["matches"]) == ("kim", ["ingest"], ["rss_agg"])


async def test_a_silence_is_ended_and_stays_ended(client):
    ident = (await client.ask("POST", "/silences", SILENCE)).json()["id"]
    answers = [await client.ask("DELETE", f"/silences/{ident}") for _ in range(2)]
    assert [each.status_code for each in answers] == [200, 200]
    assert answers[0].json()["ends_at"] == answers[1].json()["ends_at"] <= time.time()
    assert (await client.silences())[0].has_ended(time.time())
    assert (await client.ask("DELETE", "/silences/nope")).status_code == 404


WRONG_SILENCES = (
    {},
    SILENCE | {"services": []},
    SILENCE | {"services": "rss_agg"},
    SILENCE | {"services": [""]},
    SILENCE | {"services": ["x" * 201]},
    SILENCE | {"services": ["x*"] * 51},
    SILENCE | {"for_sec": 0},
    SILENCE | {"for_sec": "60"},
    SILENCE | {"for_sec": 367 * 86_400},
    SILENCE | {"reason": " "},
    SILENCE | {"reason": "a\x1b[2J"},
    SILENCE | {"author": "a\nb"},
    SILENCE | {"id": "mine"},
    b"no json",
    b"[]",
    b"\xff",
    b'{"services":["a"],"for_sec":1e999,"reason":"x"}',
)


async def test_a_silence_that_is_out_of_bounds_is_refused_and_not_repeated(client):
    for body in WRONG_SILENCES:
        await client.log_in(Scope.WRITE)  # one token may not write so often
        answer = await client.ask("POST", "/silences", body)
        assert (answer.status_code, "\x1b" in answer.text) == (422, False), body
    assert await client.silences() == []
    assert await client.audit() == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            {"for": 60},
            "body.for_sec: missing; body.for: is not a known key",
        ),
        (
            SILENCE | {"zzz": 1},
            "body.zzz: is not a known key (known: services, tags, for_sec, reason, author)",
        ),
        (SILENCE | {"services": ["a", 5]}, "body.services[1]: is not text"),
        (SILENCE | {"for_sec": 0}, "body.for_sec: is not more than 0"),
        (b"[]", "body: is not an object"),
        (b"{", "body: "),
    ],
)
async def test_a_wrong_body_is_answered_with_what_is_unknown_and_what_is_missing(client, body, words):
    detail = (await client.ask("POST", "/silences", body)).json()["detail"]
    assert detail.startswith(f"wrong: {words}")
    assert ('did you mean "for_sec"?' in detail) == (body == {"for": 60})


async def test_of_many_wrong_names_some_are_shown_escaped_and_the_rest_is_counted(client):
    body = SILENCE | {f"\u202e<b>{n}": n for n in range(500)}
    detail = (await client.ask("POST", "/silences", body)).json()["detail"]
    assert detail.isprintable()
    assert detail.endswith("; and 490 more")
    assert len(detail) < 2000


async def test_a_name_that_the_truth_does_not_have_is_refused_with_the_nearest_one(client):
    answer = await client.ask("POST", "/silences", SILENCE | {"services": ["rss_ag"]})
    assert answer.status_code == 422
    assert answer.json() == {"detail": "the truth names no rss_ag; did you mean rss_agg?"}


async def test_a_body_that_is_no_json_by_its_type_is_refused(client):
    answer = await client.ask("POST", "/silences", SILENCE, **{"Content-Type": "text/plain"})
    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/silences"),
        ("DELETE", "/silences/x"),
        ("POST", "/incidents/mesh/ack"),
        ("POST", "/notifications/test"),
        ("POST", "/notifications/resend"),
    ],
)
async def test_each_write_needs_a_token_with_that_scope_and_a_cookie_is_none(client, method, path):
    text = client.headers["Authorization"].removeprefix("Bearer ")
    client.headers = {}
    answer = await client.ask(method, path, b"no json", Cookie=f"token={text}; Authorization=Bearer {text}")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    await client.log_in(Scope.READ)
    assert (await client.ask(method, path, b"no json")).status_code == 403
    assert await client.audit() == []
    assert await client.system.client.exists(NOTIFIER_REQUESTS) == 0


async def test_an_outage_is_acknowledged_by_the_notifier(client):
    answer, request = await asyncio.gather(
        client.ask("POST", "/incidents/massive/x/ack", {"by": "kim"}), client.answer(OK)
    )
    assert answer.status_code == 200, answer.text
    assert (request.do, request.what, request.by) == (RequestKind.ACK, "massive/x", "kim")
    assert answer.json()["answers"][0]["said"] == "kim sees to mesh"
    assert (answer.json()["done"], answer.json()["ok"]) == (True, True)


async def test_an_acknowledgement_that_the_notifier_refuses_is_a_conflict(client):
    answer, request = await asyncio.gather(client.ask("POST", "/incidents/mesh/ack"), client.answer(REFUSED))
    assert (answer.status_code, request.by) == (409, "deploy")
    assert [each["outcome"] for each in await client.audit()] == ["begun", "refused"]


async def test_without_an_answer_an_acknowledgement_stays_asked_and_a_test_has_failed(client):
    client.steering.answer_sec = 0.05
    assert (await client.ask("POST", "/incidents/mesh/ack")).status_code == 202
    await client.market.client.delete(NOTIFIER_REQUESTS)
    answer, _ = await asyncio.gather(client.ask("POST", "/notifications/test"), client.answer(SLACK))
    assert answer.status_code == 504
    assert (answer.json()["done"], len(answer.json()["answers"])) == (False, 1)
    assert [each["outcome"] for each in await client.audit()] == ["begun", "unanswered"] * 2


async def test_a_test_message_goes_to_one_channel_or_to_all_and_tells_what_receivers_said(client):
    done = Answer(ok=False, said="404", channel="email", done=True)
    answer, request = await asyncio.gather(
        client.ask("POST", "/notifications/test"), client.answer(SLACK, done)
    )
    assert (answer.status_code, request.what, request.do) == (200, "*", RequestKind.TEST)
    assert (answer.json()["ok"], [each["said"] for each in answer.json()["answers"]]) == (
        False,
        ["200 ok", "404"],
    )
    await client.market.client.delete(NOTIFIER_REQUESTS)
    _, request = await asyncio.gather(
        client.ask("POST", "/notifications/test", {"channel": "slack"}), client.answer(OK)
    )
    assert request.what == "slack"


async def test_what_was_given_up_is_sent_again_one_or_all(client):
    answer, request = await asyncio.gather(client.ask("POST", "/notifications/resend"), client.answer(OK))
    assert (answer.status_code, request.do, request.what) == (200, RequestKind.RESEND, "*")
    await client.market.client.delete(NOTIFIER_REQUESTS)
    answer, request = await asyncio.gather(
        client.ask("POST", "/notifications/resend", {"id": "m1", "by": "kim"}), client.answer(REFUSED)
    )
    assert (answer.status_code, request.what, request.by) == (409, "m1", "kim")
    await client.market.client.delete(NOTIFIER_REQUESTS)
    left = Answer(ok=False, said="100 of 250 are sent now, 150 are left", left=150)
    answer, _ = await asyncio.gather(client.ask("POST", "/notifications/resend"), client.answer(left, OK))
    assert (answer.status_code, [each["left"] for each in answer.json()["answers"]]) == (409, [150, 0])
    await client.market.client.delete(NOTIFIER_REQUESTS)
    client.steering.answer_sec = 0.02
    assert (await client.ask("POST", "/notifications/resend")).status_code == 202
    assert [each["action"] for each in await client.audit()] == ["resend"] * 8


async def test_an_announced_attempt_does_not_hold_up_the_answer(client, monkeypatch):
    client.steering.answer_sec = 0.05
    monkeypatch.setattr("services.board.actions.steering.GRACE_SEC", 0.05)
    later = Answer(ok=True, said="500", channel="slack", retry_sec=3600.0)
    answering = asyncio.gather(client.ask("POST", "/notifications/test"), client.answer(later))
    async with asyncio.timeout(PATIENT_SEC):
        answer, _ = await answering
    assert answer.status_code == 504


async def test_what_is_done_is_in_the_audit_log_before_and_after_it(client):
    ident = (await client.ask("POST", "/silences", SILENCE)).json()["id"]
    begun, done = await client.audit()
    assert (begun["outcome"], done["outcome"], begun["id"] == done["id"]) == ("begun", "done", True)
    assert begun | {"id": "", "ts": "", "detail": ""} == {
        "id": "",
        "ts": "",
        "outcome": "begun",
        "action": "silence",
        "target": ident,
        "token": client.token.id,
        "name": "deploy",
        "client": "127.0.0.1",
        "detail": "",
    }
    assert "rss_*" in begun["detail"]
    assert "deployment (deploy)" in begun["detail"]
    secret = client.headers["Authorization"].rpartition("_")[2]
    assert secret not in repr(await client.audit())


async def test_each_entry_of_the_audit_log_is_in_the_log_of_the_board_too(client):
    """With the board's password one can empty the stream, and forge it."""
    with capture_logs() as said:
        await client.ask("POST", "/silences", SILENCE)
    lines = [line for line in said if line["event"] == "board.audit"]
    for line, entry in zip(lines, await client.audit(), strict=True):
        assert entry == {"id": line["act"], "ts": entry["ts"]} | {
            name: line[name] for name in entry.keys() & line
        }
    assert [line["outcome"] for line in lines] == ["begun", "done"]


async def test_what_can_not_be_audited_is_not_done(client, monkeypatch):
    await client.system.client.set(BOARD_AUDIT, "no stream")
    answer = await client.ask("POST", "/silences", SILENCE)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert await client.silences() == []


async def test_a_bus_that_did_not_take_it_is_named(client):
    client.market.connected = False
    answer = await client.ask("POST", "/silences", SILENCE)
    assert answer.status_code == 201
    assert answer.json()["refused"].keys() == {"market-redis"}


async def test_without_a_bus_it_is_refused_and_that_is_audited(client):
    client.buses = [client.market]
    client.market.connected = False
    for method, path, body in (
        ("POST", "/silences", SILENCE),
        ("DELETE", "/silences/x", None),
        ("POST", "/incidents/mesh/ack", None),
    ):
        answer = await client.ask(method, path, body)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "no bus took it" in answer.json()["detail"]
    assert [each["outcome"] for each in await client.audit()] == ["begun", "failed"] * 2


async def test_a_token_that_writes_too_often_is_told_when_to_come_back(client, monkeypatch):
    monkeypatch.setattr(
        "marketswarm.web.tokens.time", SimpleNamespace(monotonic=lambda: 1000.0, time=time.time)
    )
    answers = [await client.ask("DELETE", "/silences/x") for _ in range(11)]
    assert [each.status_code for each in answers] == [404] * 10 + [429]
    assert answers[-1].headers["retry-after"] == "2"


async def test_only_so_many_clients_wait_for_the_notifier(client, monkeypatch):
    monkeypatch.setattr("services.board.actions.steering.MAX_WAITING", 1)
    client.steering.answer_sec = 0.02
    assert MAX_WAITING > 1
    answers = await asyncio.gather(*(client.ask("POST", "/incidents/mesh/ack") for _ in range(2)))
    assert sorted(each.status_code for each in answers) == [202, 503]


def test_the_document_of_the_api_has_bodies_answers_and_the_token():
    document = Client().app.openapi()
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    route = document["paths"]["/api/v1/silences"]["post"]
    assert route["requestBody"]["content"]["application/json"]["schema"]["required"] == ["for_sec"]
    described = describe_failures(document)["paths"]["/api/v1/silences"]["post"]["responses"]
    assert {"201", "401", "403", "415", "422", "429", "503"} <= described.keys()
    assert route["security"] == [{"token": []}]


INCIDENT = {"title": "Shop is slow", "text": "We look into it.", "tags": ["ingest"]}


async def test_an_announcement_is_published_updated_and_audited(client):
    made = await client.ask("POST", "/announcements", INCIDENT)
    (first,) = made.json()["updates"]
    assert (made.status_code, first["state"], first["author"]) == (201, "investigating", "deploy")
    path = f"/announcements/{first['id']}"
    changed = await client.ask(
        "PATCH", path, {"text": "It was a disk.", "state": "resolved", "author": "kim"}
    )
    assert [one["state"] for one in changed.json()["updates"]] == ["resolved", "investigating"]
    assert changed.json()["updates"][0]["title"] == "Shop is slow"
    assert (await client.ask("GET", "/announcements")).json() == [changed.json()]
    assert [(each["action"], each["outcome"]) for each in await client.audit()] == [
        ("announce", "begun"),
        ("announce", "done"),
        ("update_announcement", "begun"),
        ("update_announcement", "done"),
    ]


async def test_maintenance_is_scheduled_by_its_begin(client):
    body = {**INCIDENT, "begins_at": 2e9, "ends_at": 2e9 + 3600}
    found = await client.ask("POST", "/announcements", body)
    assert found.json()["updates"][0]["state"] == "scheduled"


@pytest.mark.parametrize(
    "change",
    [
        {"title": ""},
        {"title": "two\nlines"},
        {"text": "x" * 2001},
        {"state": "fine"},
        {"state": "scheduled"},
        {"tags": ["other"]},
        {"begins_at": 5.0},
        {"begins_at": 5.0, "ends_at": 5.0},
        {"more": 1},
    ],
)
async def test_an_announcement_that_is_out_of_bounds_is_refused(client, change):
    found = await client.ask("POST", "/announcements", INCIDENT | change)
    assert found.status_code == 422
    assert await client.audit() == []


async def test_an_update_of_nothing_is_refused_and_so_is_one_without_the_scope(client):
    assert (await client.ask("PATCH", "/announcements/none", {"text": "x"})).status_code == 404
    await client.log_in(Scope.READ)
    assert (await client.ask("POST", "/announcements", INCIDENT)).status_code == 403
    assert await client.audit() == []


def propose(ident: str = "3f9a1c04") -> list[bytes]:
    """Return the entries of an outage for which the medic proposes a restart."""
    steps = ((EntryKind.OPENED, {"reason": "silent"}), (EntryKind.PROPOSED, {"proposal": ident}))
    return [
        TimelineEntry(incident="mesh.17", ts=17.0, svc="mesh", what=what, remedy="restart", **more).encode()
        for what, more in steps
    ]


async def test_a_proposal_of_the_medic_is_approved_once_in_the_name_of_the_token(client):
    for entry in propose():
        await client.system.client.xadd(MEDIC_INCIDENTS, {"entry": entry})
    answer = await client.ask("POST", "/monitor/proposals/3f9a1c04/approve")
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"id": "3f9a1c04", "svc": "mesh", "remedy": "restart", "by": "deploy"}
    (raw,) = (await client.system.client.hgetall(MEDIC_APPROVALS)).values()
    approval = HealingApproval.parse(raw)
    assert (approval.id, approval.by) == ("3f9a1c04", "deploy")
    assert approval.ts == pytest.approx(time.time(), abs=10)
    begun, done = await client.audit()
    assert (begun["action"], begun["target"], done["outcome"]) == ("approve", "3f9a1c04", "done")
    assert begun["detail"] == "restart mesh (deploy)"
    # the medic took it: it is a proposal no more
    taken = TimelineEntry(incident="mesh.17", ts=18.0, svc="mesh", what=EntryKind.INTENDED, remedy="restart")
    await client.system.client.xadd(MEDIC_INCIDENTS, {"entry": taken.encode()})
    assert (await client.ask("POST", "/monitor/proposals/3f9a1c04/approve")).status_code == 404


class LinkSite:
    """The routes of links by `KEY`, for a client without a token."""

    def __init__(self, client: Client) -> None:
        app = FastAPI()
        acts = LinkActs(client.steering, client.healing)
        app.include_router(make_link_site(acts, KEY, TEMPLATES))
        add_errors(app, TEMPLATES)
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver")

    async def ask(self, method: str, link: SignedLink, key=KEY, origin="http://testserver"):
        address = make_link("http://testserver", key, link)
        return await self.http.request(method, address, headers={"Origin": origin} if origin else {})


@pytest.fixture
async def site(client):
    found = LinkSite(client)
    yield found
    await found.http.aclose()


def link_to(action: LinkAction, *subjects: str, about="mesh", life_sec=60.0) -> SignedLink:
    return SignedLink(action, subjects, about, "team", float(int(time.time() + life_sec)))


def link_to_approve(ident="3f9a1c04", life_sec=60.0) -> SignedLink:
    return link_to(LinkAction.APPROVE, ident, life_sec=life_sec)


async def test_a_signed_link_only_shows_and_its_form_approves_in_the_name_of_the_link(client, site):
    for entry in propose():
        await client.system.client.xadd(MEDIC_INCIDENTS, {"entry": entry})
    link = link_to_approve()
    shown = await site.ask("GET", link)
    assert (shown.status_code, "Approve: restart mesh" in shown.text) == (200, True)
    assert re.search(r"until <time datetime=[^>]+>[^<]*\d\d:\d\d:\d\d", shown.text), (
        "and when the link ends, maybe tomorrow"
    )
    assert shown.headers["cache-control"] == "no-store"
    assert await client.system.client.hgetall(MEDIC_APPROVALS) == {}, "a preview of a chat opens it, too"
    done = await site.ask("POST", link)
    assert (done.status_code, "Approved: restart mesh" in done.text) == (200, True)
    (raw,) = (await client.system.client.hgetall(MEDIC_APPROVALS)).values()
    assert HealingApproval.parse(raw).by == "link of team"
    begun, _ = await client.audit()
    assert (begun["action"], begun["detail"]) == ("approve", "restart mesh (link of team)")
    taken = TimelineEntry(incident="mesh.17", ts=18.0, svc="mesh", what=EntryKind.INTENDED, remedy="restart")
    await client.system.client.xadd(MEDIC_INCIDENTS, {"entry": taken.encode()})
    client.record.clear()
    again = [await site.ask(method, link) for method in ("GET", "POST")]
    assert [(each.status_code, "This was done already" in each.text) for each in again] == [(200, True)] * 2
    other = link_to_approve(life_sec=50.0)
    assert [(await site.ask(method, other)).status_code for method in ("GET", "POST")] == [404, 404]


@pytest.mark.parametrize(
    ("link", "wrong", "status"),
    [
        ({}, {"key": SecretStr("another" * 9)}, 404),
        ({"life_sec": -2.0}, {}, 410),
        ({"ident": "0" * 8}, {}, 404),
        ({"ident": "fuse"}, {}, 404),
        ({}, {"origin": "https://evil.example"}, 403),
    ],
)
async def test_a_link_of_another_key_time_proposal_or_page_approves_nothing(
    client, site, link, wrong, status
):
    for entry in propose():
        await client.system.client.xadd(MEDIC_INCIDENTS, {"entry": entry})
    answer = await site.ask("POST", link_to_approve(**link), **wrong)
    assert answer.status_code == status
    assert ("it has expired" in answer.text) is (status == 410)
    assert await client.system.client.hgetall(MEDIC_APPROVALS) == {}
    assert await client.audit() == []


async def test_an_outage_is_seen_to_by_a_link_once_and_the_audit_has_the_channel(client, site):
    link = link_to(LinkAction.ACK, "heartbeat_miss.mesh.17")
    shown = await site.ask("GET", link)
    assert (shown.status_code, "I see to it: mesh" in shown.text) == (200, True)
    assert await client.system.client.exists(NOTIFIER_REQUESTS) == 0
    # an app's button sends no origin
    answer, request = await asyncio.gather(site.ask("POST", link, origin=None), client.answer(OK))
    assert (answer.status_code, "kim sees to mesh" in answer.text) == (200, True)
    assert (request.do, request.what) == (RequestKind.ACK, "heartbeat_miss.mesh.17")
    assert request.by == "link of team"
    begun, done = await client.audit()
    assert (begun["action"], begun["detail"], done["outcome"]) == ("ack", "by link of team", "done")
    again = await site.ask("POST", link)
    assert (again.status_code, "This was done already" in again.text) == (200, True)
    assert "This was done already" in (await site.ask("GET", link)).text
    assert await client.system.client.xlen(NOTIFIER_REQUESTS) == 1
    assert len(await client.audit()) == 2


async def test_a_link_to_an_outage_that_is_over_says_so_and_is_not_used_up(client, site):
    link = link_to(LinkAction.ACK, "m.17")
    answer, _ = await asyncio.gather(site.ask("POST", link), client.answer(REFUSED))
    assert (answer.status_code, "othing of it is down any more" in answer.text) == (409, True)
    assert (await site.ask("GET", link)).status_code == 200
    await client.market.client.delete(NOTIFIER_REQUESTS)
    answer, _ = await asyncio.gather(site.ask("POST", link), client.answer(OK))
    assert answer.status_code == 200


async def test_without_an_answer_of_the_notifier_the_link_is_used_since_it_was_asked(client, site):
    client.steering.answer_sec = 0.05
    link = link_to(LinkAction.ACK, "m.17")
    answer = await site.ask("POST", link)
    assert (answer.status_code, "has not answered yet" in answer.text) == (200, True)
    assert "This was done already" in (await site.ask("POST", link)).text
    assert await client.system.client.xlen(NOTIFIER_REQUESTS) == 1


async def test_the_notifier_is_asked_about_all_outages_of_a_link_at_once(client, site):
    client.steering.answer_sec = PATIENT_SEC
    threads = [f"m.{number}" for number in range(MAX_SUBJECTS)]

    async def list_requests() -> list[OperatorRequest]:
        entries = await client.market.client.xrange(NOTIFIER_REQUESTS)
        return [OperatorRequest.parse(fields[b"ask"]) for _, fields in entries]

    async def are_all_asked() -> bool:
        return len(await list_requests()) == MAX_SUBJECTS

    async with run_beside(site.ask("POST", link_to(LinkAction.ACK, *threads))) as pressed:
        await auntil(are_all_asked, within=5.0, what="a request for each, before any was answered")
        for request in await list_requests():
            await client.market.client.rpush(answers_key(request.id), OK.encode())
        answer = await pressed
    assert (answer.status_code, answer.text.count(OK.said)) == (200, MAX_SUBJECTS)
    assert {request.what for request in await list_requests()} == set(threads)
    assert [entry["outcome"] for entry in await client.audit()].count("done") == MAX_SUBJECTS


async def test_a_link_whose_act_is_cancelled_may_be_used_again_at_once(client, site):
    client.steering.answer_sec = PATIENT_SEC
    link = link_to(LinkAction.ACK, "m.17")

    async def is_asked() -> int:
        return await client.market.client.xlen(NOTIFIER_REQUESTS)

    async with run_beside(site.ask("POST", link)):
        await auntil(is_asked, what="the request to the notifier")
    await client.market.client.delete(NOTIFIER_REQUESTS)
    answer, _ = await asyncio.gather(site.ask("POST", link), client.answer(OK))
    assert (answer.status_code, OK.said in answer.text) == (200, True)


async def test_a_link_keeps_services_quiet_for_two_hours_once(client, site):
    link = link_to(LinkAction.QUIET, "mesh", "rss_agg", about="mesh, rss_agg")
    assert "Quiet for 2 h: mesh, rss_agg" in (await site.ask("GET", link)).text
    assert await client.silences() == []
    answers = await asyncio.gather(*(site.ask("POST", link) for _ in range(3)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert 200 in {answer.status_code for answer in answers}
    (silence,) = await client.silences()
    assert (silence.services, silence.author) == (("mesh", "rss_agg"), "link of team")
    assert silence.ends_at == pytest.approx(time.time() + 7200, abs=10)
    assert [each["outcome"] for each in await client.audit()] == ["begun", "done"]
    assert (await client.audit())[0]["detail"].endswith("by a link in a message (link of team)")


@pytest.mark.parametrize("name", ["nope", "*", "[m]esh"])
async def test_a_link_silences_nothing_that_the_truth_does_not_name(client, site, name):
    link = link_to(LinkAction.QUIET, name)
    assert [(await site.ask("POST", link)).status_code for _ in range(2)] == [422] * 2, "it is not used up"
    assert await client.silences() == []
    assert await client.audit() == []


async def test_a_link_whose_use_can_not_be_recorded_does_nothing(client, site):
    client.system.connected = False
    for method in ("GET", "POST"):
        assert (await site.ask(method, link_to(LinkAction.QUIET, "mesh"))).status_code == 503
    assert await client.silences() == []


async def test_a_claim_of_a_board_that_was_killed_ends_by_itself(client, site):
    link = link_to(LinkAction.QUIET, "mesh")
    assert await LinkActs(client.steering, client.healing).claim(link)
    assert (await site.ask("POST", link)).status_code == 409
    assert 0 < await client.system.client.pttl(board_link_key(link.id)) <= 60_000
    await client.system.client.delete(board_link_key(link.id))
    assert (await site.ask("POST", link)).status_code == 200
    assert 60_000 < await client.system.client.pttl(board_link_key(link.id)) <= 121_000


async def test_what_a_diagnosis_proposes_needs_a_scope_of_its_own(client, site):
    advised = {"remedy": "restart", "proposal": "3f9a1c04", "text": "The disk is full."}
    for what, more in ((EntryKind.ESCALATED, {}), (EntryKind.DIAGNOSED, advised)):
        entry = TimelineEntry(incident="mesh.17", ts=17.0, svc="mesh", what=what, **more)
        await client.system.client.xadd(MEDIC_INCIDENTS, {"entry": entry.encode()})
    refused = await client.ask("POST", "/monitor/proposals/3f9a1c04/approve")
    assert (refused.status_code, "diagnose" in refused.text) == (403, True)
    shown = await site.ask("GET", link_to_approve())
    assert ("diagnose" in shown.text, "<button" in shown.text) == (True, False)
    assert (await site.ask("POST", link_to_approve())).status_code == 403
    await client.log_in(Scope.DIAGNOSE)
    assert (await client.ask("POST", "/monitor/proposals/3f9a1c04/approve")).status_code == 403
    assert await client.system.client.hgetall(MEDIC_APPROVALS) == {}
    await client.log_in(Scope.WRITE, Scope.DIAGNOSE)
    assert (await client.ask("POST", "/monitor/proposals/3f9a1c04/approve")).status_code == 200
    assert await client.system.client.hkeys(MEDIC_APPROVALS) == [b"3f9a1c04"]


async def test_nothing_is_approved_that_is_not_proposed_or_with_the_wrong_token(client):
    for ident in ("3f9a1c04", "fuse", "x" * 300, "%0a"):
        answer = await client.ask("POST", f"/monitor/proposals/{ident}/approve")
        assert answer.status_code == 404, (ident, answer.text)
    for entry in propose():
        await client.system.client.xadd(MEDIC_INCIDENTS, {"entry": entry})
    wrong = await client.ask("POST", "/monitor/proposals/3f9a1c04/approve", {"by": "a\nb"})
    assert wrong.status_code == 422
    await client.log_in(Scope.READ, Scope.SEED)
    assert (await client.ask("POST", "/monitor/proposals/3f9a1c04/approve")).status_code == 403
    client.headers = {}
    assert (await client.ask("POST", "/monitor/proposals/3f9a1c04/approve")).status_code == 401
    assert await client.system.client.hgetall(MEDIC_APPROVALS) == {}
    assert await client.audit() == []


async def test_without_the_bus_of_the_record_nothing_is_approved(client):
    for entry in propose():
        await client.system.client.xadd(MEDIC_INCIDENTS, {"entry": entry})
    await client.record.read()
    client.system.connected = False
    answer = await client.ask("POST", "/monitor/proposals/3f9a1c04/approve")
    assert answer.status_code == 503
