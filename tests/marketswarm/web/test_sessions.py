import pytest
from starlette.requests import Request
from starlette.responses import Response

from marketswarm.operator.tokens import Scope, create_token, write_token
from marketswarm.testing import MemoryBus
from marketswarm.web.limits import RefusedError
from marketswarm.web.sessions import (
    LASTS_SEC,
    MAX_NOTICES,
    MAX_SESSIONS,
    PageNotice,
    SessionGate,
    SessionStore,
    is_foreign,
)
from marketswarm.web.tokens import TokenVerifier

TOKEN, _ = create_token("deploy", [Scope.WRITE], author="kim", now=1.0)
HOME = "http://localhost"


def test_a_session_is_found_by_its_secret_until_it_is_over_or_closed():
    store = SessionStore()
    secret, session = store.open(TOKEN, HOME, 10.0)
    assert store.find(secret, 10.0) is session
    assert store.find(secret, 9.0 + LASTS_SEC) is session
    assert store.find(secret, 10.0 + LASTS_SEC) is None
    assert store.find(None, 10.0) is store.find("", 10.0) is store.find(secret[:-1], 10.0) is None
    store.close(secret)
    store.close(secret)
    store.close(None)
    assert store.find(secret, 10.0) is None
    assert len(store) == 0


def test_one_session_more_than_there_may_be_ends_the_oldest_one():
    store = SessionStore()
    made = [store.open(TOKEN, HOME, float(n))[0] for n in range(MAX_SESSIONS + 1)]
    assert len(set(made)) == MAX_SESSIONS + 1
    assert len(store) == MAX_SESSIONS
    assert store.find(made[0], 0.0) is None
    assert store.find(made[1], 0.0) is not None
    store.open(TOKEN, HOME, LASTS_SEC * 2)
    assert len(store) == 1, "those that are over make room"


def test_a_form_s_secret_is_the_session_s_alone():
    store = SessionStore()
    (_, one), (_, two) = store.open(TOKEN, HOME, 0.0), store.open(TOKEN, HOME, 0.0)
    assert one.matches_csrf(one.csrf)
    assert not one.matches_csrf(two.csrf)
    assert not one.matches_csrf("")
    assert not one.matches_csrf("\ud800é")
    assert one.csrf not in repr(one)


def test_a_notice_is_kept_for_the_page_to_be_loaded_again_but_not_for_ever():
    _, session = SessionStore().open(TOKEN, HOME, 0.0)
    first = session.add_notice(PageNotice("done"))
    assert session.find_notice(first) == session.find_notice(first) == PageNotice("done")
    for _ in range(MAX_NOTICES):
        session.add_notice(PageNotice("more"))
    assert session.find_notice(first) is None


async def test_a_program_signs_people_in_under_its_own_name(capsys):
    bus = MemoryBus()
    token, text = create_token("kim", [Scope.READ], author="kim", now=1.0)
    await write_token(bus, token)
    gate = SessionGate(TokenVerifier(lambda: bus, "shop"), "shop_80")
    answer, asked = Response(), make_request(origin="http://shop.example", host="shop.example")
    await gate.open(asked, answer, str(text))
    assert answer.headers["set-cookie"].startswith("shop_80=")
    with pytest.raises(RefusedError, match="the token is not valid"):
        await gate.open(asked, answer, "mst_wrong")
    with pytest.raises(RefusedError, match="not sent by a page of the shop"):
        await gate.open(make_request(origin="http://evil.example", host="shop.example"), answer, str(text))
    logged = "".join(capsys.readouterr())
    assert "shop.signed_in" in logged
    assert "shop.token_refused" in logged
    await bus.aclose()


def test_a_request_without_an_origin_is_a_program_s():
    assert not is_foreign(make_request(host="shop.example"))


def make_request(**headers):
    given = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": given, "client": ("::1", 1)})
