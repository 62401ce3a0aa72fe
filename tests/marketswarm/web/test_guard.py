import asyncio
import time

import pytest

from marketswarm.operator.tokens import Scope, create_token, write_token
from marketswarm.testing import MemoryBus
from marketswarm.web import guard
from marketswarm.web.guard import HEADERS, MAX_BODY_BYTES, MAX_WHOLE_BYTES, Guard, SiteRules, find_refusal
from marketswarm.web.server import WHOLE_ANSWER
from marketswarm.web.tokens import TokenVerifier

RULES = SiteRules({"localhost"}, "HOSTS")


def scope(host="127.0.0.1:8080", client=("127.0.0.1", 1234), path="/", query=b"", **headers):
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    hosts = [] if host is None else [(b"host", host.encode("latin-1"))]
    return {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": query,
        "client": client,
        "headers": hosts + given,
    }


def status(found):
    return None if found is None else found[0]


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]:8080", "10.0.0.1", "board.example"]
)
def test_our_own_names_and_addresses_are_answered(host):
    assert find_refusal(scope(host), SiteRules({"localhost", "board.example"}, "HOSTS")) is None


@pytest.mark.parametrize(
    "host", [None, "", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "a:b:c"]
)
def test_other_names_are_refused(host):
    assert status(find_refusal(scope(host), RULES)) == 421


def test_two_hosts_are_refused():
    two = scope()
    two["headers"].append((b"host", b"127.0.0.1"))
    assert status(find_refusal(two, RULES)) == 421


@pytest.mark.parametrize(
    "client", [None, ("10.0.0.2", 1), ("192.168.1.1", 1), ("fe80::1", 1), ("unix", 1), ("::ffff:10.0.0.2", 1)]
)
async def test_a_client_on_another_machine_needs_a_token_to_read(client):
    start = (await run(answer, scope(client=client)))[0]
    assert start["status"] == 401
    assert (b"www-authenticate", b"Bearer") in start["headers"]
    assert (await run(answer, scope(client=client, path="/healthz")))[0]["status"] == 200
    assert (await run(answer, scope(client=client) | {"method": "POST"}))[0]["status"] == 200


async def test_a_token_lets_a_client_on_another_machine_read():
    bus = MemoryBus()
    token, text = create_token("wall", [Scope.READ], author="kim", now=time.time())
    await write_token(bus, token)
    verifier, client = TokenVerifier(lambda: bus, "board"), ("10.0.0.2", 1)
    asked = scope(client=client, authorization=f"Bearer {text}")
    assert (await run(answer, asked, verifier=verifier))[0]["status"] == 200
    asked["headers"].append((b"authorization", b"Bearer x"))
    assert (await run(answer, asked, verifier=verifier))[0]["status"] == 401
    bus.connected = False
    asked = scope(client=client, authorization=f"Bearer {text}")
    start = (await run(answer, asked, verifier=verifier))[0]
    assert (start["status"], dict(start["headers"])[b"retry-after"]) == (503, b"5")
    await bus.aclose()


def test_what_is_too_long_is_refused():
    assert status(find_refusal(scope(path="/" + "a" * 3000), RULES)) == 414
    assert status(find_refusal(scope(query=b"a" * 3000), RULES)) == 414
    assert status(find_refusal(scope(content_length=str(MAX_BODY_BYTES + 1)), RULES)) == 413
    assert status(find_refusal(scope(content_length="-1"), RULES)) == 413
    assert find_refusal(scope(content_length="10"), RULES) is None
    assert status(find_refusal(scope(cookie="a" * 17_000), RULES)) == 431


async def test_a_client_elsewhere_reads_what_is_open_without_a_token():
    for path, method, expected in (("/public", "GET", 200), ("/public", "PUT", 200), ("/", "GET", 401)):
        asked = scope(client=("10.0.0.2", 1), path=path) | {"method": method}
        assert (await run(answer, asked, is_open="/public".__eq__))[0]["status"] == expected


async def run(app, asked, bodies=(), verifier=None, *, is_open=lambda _path: False, rules=RULES):
    """Run the guard around an application; return what was sent."""
    sent, left = [], list(bodies)

    async def receive():
        return {"type": "http.request", "body": left.pop(0) if left else b"", "more_body": bool(left)}

    async def send(message):
        sent.append(message)

    verifier = verifier or TokenVerifier(MemoryBus, "board")
    await Guard(app, rules, verifier, (), is_open=is_open)(asked, receive, send)
    return sent


async def answer(_scope, _receive, send):
    headers = [(b"content-type", b"text/plain"), (b"referrer-policy", b"no-referrer")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


async def test_every_answer_has_the_headers_and_keeps_its_own():
    for asked, expected in ((scope(), 200), (scope("evil.example"), 421)):
        start = (await run(answer, asked))[0]
        assert start["status"] == expected
        headers = dict(start["headers"])
        assert b"script-src 'self'" in headers[b"content-security-policy"]
        assert headers[b"x-content-type-options"] == b"nosniff"
        if expected == 200:
            assert headers[b"referrer-policy"] == b"no-referrer"


SIZED = (b"content-length", b"2")


async def answer_with(headers, *bodies):
    """Answer 200 by a server that can send an answer in one write; return such writes, and what was sent."""
    whole, sent = [], []

    async def send(message):
        sent.append(message)

    async def send_whole(head, body):
        whole.append((head, body))

    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number, body in enumerate(bodies, 1):
            await send({"type": "http.response.body", "body": body, "more_body": number < len(bodies)})

    guarded = Guard(app, RULES, TokenVerifier(MemoryBus, "board"))
    await guarded(scope() | {"extensions": {WHOLE_ANSWER: send_whole}}, None, send)
    assert guarded.responses == {200: 1}
    return whole, sent


async def test_an_answer_of_one_body_is_one_write_with_the_same_headers():
    given = [SIZED, (b"ETag", b'W/"a"'), (b"referrer-policy", b"no-referrer")]
    ((head, body),), sent = await answer_with(given, b"ok")
    assert (sent, body) == ([], b"ok")
    status_line, *lines, end = head.split(b"\r\n")
    assert (status_line, end) == (b"HTTP/1.1 200 OK", b"")
    more = [each for each in HEADERS if each[0] != b"referrer-policy"]
    assert lines == [b"%b: %b" % header for header in (*given, *more)]


@pytest.mark.parametrize(
    ("headers", "bodies"),
    [
        ([], [b"ok"]),
        ([SIZED], [b"o", b"k"]),
        ([SIZED], [b"too long"]),
        ([SIZED], [b""]),
        ([(b"content-length", b"%d" % (MAX_WHOLE_BYTES + 1))], [b"x" * (MAX_WHOLE_BYTES + 1)]),
        ([SIZED, (b"connection", b"close")], [b"ok"]),
        ([SIZED, (b"x-cursor", b"1\r\nset-cookie: a=b")], [b"ok"]),
        ([SIZED, (b"x-cursor", b"1\nset-cookie: a=b")], [b"ok"]),
        ([SIZED, (b"x-cursor", b"1\0")], [b"ok"]),
        ([SIZED, (b"x-cursor", b"1\x7f")], [b"ok"]),
    ],
)
async def test_other_answers_are_left_to_the_server_message_by_message(headers, bodies):
    whole, sent = await answer_with(headers, *bodies)
    assert whole == []
    assert sent[0]["headers"][: len(headers)] == headers
    assert [message["body"] for message in sent[1:]] == bodies


async def test_a_body_without_a_length_is_bounded_too():
    async def read_all(_scope, receive, send):
        while (await receive())["more_body"]:
            pass
        await answer(_scope, receive, send)

    sent = await run(read_all, scope(), [b"x" * 40_000] * 3)
    assert sent[0]["status"] == 413
    assert (await run(read_all, scope(), [b"x" * 10_000] * 3))[0]["status"] == 200


@pytest.mark.usefixtures("moved_time")
async def test_an_answer_that_does_not_begin_is_ended():
    async def hang(_scope, _receive, _send):
        await asyncio.Event().wait()

    assert (await run(hang, scope()))[0]["status"] == 503


@pytest.mark.usefixtures("moved_time")
async def test_an_answer_that_has_begun_may_go_on():
    ended = []

    async def stream(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(10 * guard.ANSWER_SEC)
        await send({"type": "http.response.body", "body": b"late"})
        ended.append(True)

    sent = await run(stream, scope())
    assert sent[-1]["body"] == b"late"
    assert ended


async def test_what_is_not_http_is_not_answered():
    assert await run(answer, {"type": "lifespan"}) == []


async def test_a_browser_elsewhere_is_sent_to_the_page_that_the_program_names_for_that():
    rules = SiteRules({"localhost"}, "HOSTS", sign_in="/login?back=list")
    for path, expected in (("/", 303), ("/login", 200), ("/sign-in", 303)):
        asked = scope(client=("10.0.0.2", 1), path=path, accept="text/html")
        start = (await run(answer, asked, rules=rules))[0]
        assert start["status"] == expected, path
        assert dict(start["headers"]).get(b"location") == (b"/login?back=list" if expected == 303 else None)
