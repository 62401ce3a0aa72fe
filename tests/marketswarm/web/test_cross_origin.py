"""Pages of other origins: which may read, and what their browser is told."""

import pytest

from marketswarm.testing import MemoryBus
from marketswarm.web.cross_origin import OtherOrigins, check_origins
from marketswarm.web.guard import HEADERS, Guard, SiteRules
from marketswarm.web.tokens import TokenVerifier

APP = "https://app.example"
ORIGINS = OtherOrigins([APP, "http://localhost:5173"], ["/api/", "/ws"])
RULES = SiteRules({"localhost"}, "HOSTS")


def scope(path="/api/v1/fleet", method="GET", client="127.0.0.1", kind="http", **headers):
    given = {"host": "127.0.0.1:8080", **headers}
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()]
    about = {"type": kind, "method": method, "path": path, "query_string": b"", "client": (client, 5)}
    return {**about, "headers": raw}


async def ask(asked, origins=ORIGINS):
    """Return the status of the answer, and its headers."""
    sent = []

    async def app(scope, _receive, send):
        if scope["type"] == "websocket":
            await send({"type": "opened", "status": "open", "headers": []})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def send(message):
        sent.append(message)

    verifier = TokenVerifier(lambda: MemoryBus("system-redis"), "board")
    await Guard(app, RULES, verifier, origins=origins)(asked, None, send)
    return sent[0]["status"], {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}


def test_an_origin_is_taken_only_as_a_browser_sends_it():
    assert check_origins(f" {APP}, http://localhost:5173 ,") == f"{APP},http://localhost:5173"
    assert check_origins("http://[::1]:5173")
    for wrong in (
        *(
            "*",
            "null",
            "app.example",
            "https://app.example/",
            "https://App.example",
            "https://app.example:443",
        ),
        *("http://app.example:80", "https://*.example", "https://kim@app.example", "ftp://app.example"),
        *(
            "https://app.example:0",
            "https://app.example:x",
            "https://[::1",
            "https://",
            "https://bücher.example",
        ),
        *("https://app.example?a", "https://app.example#a", ",".join([APP] * 101)),
    ):
        with pytest.raises(ValueError, match="must be"):
            check_origins(wrong)


@pytest.mark.parametrize("client", ["127.0.0.1", "10.0.0.2"])
async def test_a_page_of_a_named_origin_sees_the_answer_and_why_it_was_refused(client):
    status, headers = await ask(scope(client=client, origin=APP))
    assert status == (200 if client == "127.0.0.1" else 401)
    assert headers["access-control-allow-origin"] == APP
    assert "RateLimit-Remaining" in headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in headers
    assert headers["vary"] == "Origin"


async def test_what_the_browser_says_of_a_named_origin_refuses_nothing():
    sent = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "cors", "sec_fetch_dest": "empty"}
    assert (await ask(scope(origin=APP, **sent)))[0] == 200
    assert (await ask(scope("/sign-off", origin=APP, **sent)))[0] == 403, "a path that is not for other pages"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", f"{APP}.evil.example", f"{APP}:444", ""])
async def test_a_page_of_another_origin_is_refused_and_sees_nothing(origin):
    status, headers = await ask(scope(origin=origin))
    assert (status, headers["vary"]) == (403, "Origin")
    assert not any(name.startswith("access-control") for name in headers)


async def test_pages_with_forms_and_what_changes_something_are_not_for_other_origins():
    for asked in (scope("/sign-in", origin=APP), scope(method="POST", origin=APP)):
        _, headers = await ask(asked)
        assert not any(name.startswith("access-control") for name in headers)


async def test_a_browser_is_told_before_a_read_and_refused_before_a_write():
    wanted = {"access_control_request_headers": "authorization"}
    asked = scope(method="OPTIONS", origin=APP, access_control_request_method="GET", **wanted)
    status, headers = await ask(asked)
    assert (status, headers["access-control-allow-origin"]) == (200, APP)
    assert "Authorization" in headers["access-control-allow-headers"]
    assert headers["access-control-allow-methods"] == "GET, HEAD"
    assert headers["content-security-policy"] == dict(HEADERS)[b"content-security-policy"].decode()
    for method, origin in (("POST", APP), ("DELETE", APP), ("GET", "https://evil.example")):
        asked = scope(method="OPTIONS", origin=origin, access_control_request_method=method)
        assert (await ask(asked))[0] == 400, (method, origin)
    asked = scope(method="OPTIONS", origin=APP, access_control_request_method="GET", host="evil.example")
    assert (await ask(asked))[0] == 421


async def test_a_named_origin_opens_the_websocket_and_still_needs_what_all_need():
    assert (await ask(scope("/ws", kind="websocket", origin=APP)))[0] == "open"
    assert (await ask(scope("/ws", kind="websocket", origin=APP, client="10.0.0.2")))[0] == 401
    assert (await ask(scope("/ws", kind="websocket", origin="https://evil.example")))[0] == 403
    assert (await ask(scope("/other", kind="websocket", origin=APP)))[0] == 403


async def test_without_named_origins_nothing_is_said_of_them():
    _, headers = await ask(scope(origin=APP), origins=None)
    assert not any(name.startswith("access-control") or name == "vary" for name in headers)
    assert (await ask(scope("/ws", kind="websocket", origin=APP), origins=None))[0] == 403
