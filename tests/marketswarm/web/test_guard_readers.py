"""What the guard notes of who reads: whose token it is, the log of reads, and answers that are shortened."""

import time

import pytest
from structlog.testing import capture_logs

from marketswarm.operator.tokens import Scope, create_token, write_token
from marketswarm.testing import MemoryBus
from marketswarm.web.guard import Guard, SiteRules, is_stranger
from marketswarm.web.tokens import TokenVerifier, find_spender

RULES = SiteRules({"localhost"}, "HOSTS", shortened=("/health",))


def scope(path="/api/v1/fleet", client="10.0.0.2", method="GET", query=b"", **headers):
    given = {"host": "127.0.0.1:8080", **headers}
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()]
    about = {"type": "http", "method": method, "path": path, "query_string": query, "client": (client, 5)}
    return {**about, "headers": raw}


@pytest.fixture
async def bus():
    bus = MemoryBus("system-redis")
    yield bus
    await bus.aclose()


@pytest.fixture
async def tokens(bus):
    """Two tokens that may read, and one that may not, as the header that has each."""
    found = {}
    for name, scopes in (("kim", [Scope.READ]), ("lee", [Scope.READ]), ("deploy", [Scope.WRITE])):
        token, text = create_token(name, scopes, author="kim", now=time.time())
        await write_token(bus, token)
        found[name] = f"Bearer {text}"
    return found


async def ask(bus, asked, *, logs_reads=False):
    """Return what the application was told of the client, and the status of the answer."""
    seen, sent = [], []

    async def app(scope, _receive, send):
        seen.append((find_spender(scope), is_stranger(scope)))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def send(message):
        sent.append(message)

    await Guard(app, RULES, TokenVerifier(lambda: bus, "board"), logs_reads=logs_reads)(asked, None, send)
    return (seen[0] if seen else None), sent[0]["status"]


@pytest.mark.parametrize("client", ["10.0.0.2", "127.0.0.1"])
async def test_two_tokens_of_one_address_have_limits_of_their_own(bus, tokens, client):
    found = {
        name: await ask(bus, scope(client=client, authorization=tokens[name])) for name in ("kim", "lee")
    }
    spenders = {spender for (spender, _), _ in found.values()}
    assert len(spenders) == 2
    assert all(spender.startswith("token ") for spender in spenders)


async def test_a_token_that_is_not_valid_makes_no_limits_of_its_own(bus):
    for wrong in ("Bearer mst_aaaaaaaaaaaa_bbbb", "Bearer x", "Basic eA=="):
        asked = scope(client="127.0.0.1", authorization=wrong)
        assert await ask(bus, asked) == (("127.0.0.1", False), 200)
    assert (await ask(bus, scope(client="127.0.0.1")))[0] == ("127.0.0.1", False)


async def test_a_stranger_gets_the_short_answer_and_a_reader_the_whole_one(bus, tokens):
    for header, stranger in (
        (None, True),
        ("Bearer x", True),
        (tokens["deploy"], True),
        (tokens["kim"], False),
    ):
        asked = scope("/health", **({} if header is None else {"authorization": header}))
        (_, is_short), status = await ask(bus, asked)
        assert (is_short, status) == (stranger, 200), header
    assert (await ask(bus, scope("/health", client="127.0.0.1")))[0] == ("127.0.0.1", False)
    bus.connected = False
    assert (await ask(bus, scope("/health", authorization=tokens["kim"])))[0] == ("10.0.0.2", True)


async def test_each_read_is_logged_with_who_what_and_how_it_ended(bus, tokens):
    with capture_logs() as lines:
        await ask(
            bus,
            scope("/api/v1/bars/SPY", query=b"limit=5&x=%0a", authorization=tokens["kim"]),
            logs_reads=True,
        )
        await ask(bus, scope("/api/v1/fleet"), logs_reads=True)
        await ask(bus, scope("/api/v1/silences", method="POST", client="127.0.0.1"), logs_reads=True)
        for path in ("/healthz", "/static/a/b.js", "/link/secret"):
            await ask(bus, scope(path, client="127.0.0.1"), logs_reads=True)
        await ask(bus, scope("/api/v1/fleet"))
    reads = [each for each in lines if each["event"] == "board.read"]
    assert [
        (each["client"], each["name"], each["path"], each["query"], each["status"]) for each in reads
    ] == [
        ("10.0.0.2", "kim", "/api/v1/bars/SPY", "limit=5&x=%0a", 200),
        ("10.0.0.2", None, "/api/v1/fleet", None, 401),
    ]
    assert reads[0]["took_ms"] >= 0
    assert tokens["kim"].rpartition("_")[2] not in str(lines)


async def test_a_websocket_is_logged_when_it_ends(bus, tokens):
    async def app(_scope, _receive, _send):
        pass

    async def send(_message):
        pass

    guard = Guard(app, RULES, TokenVerifier(lambda: bus, "board"), logs_reads=True)
    with capture_logs() as lines:
        for header in ({"authorization": tokens["kim"]}, {}):
            await guard({**scope("/ws", **header), "type": "websocket"}, None, send)
    found = [(each["name"], each["path"], each["status"]) for each in lines if each["event"] == "board.read"]
    assert found == [("kim", "/ws", 101), (None, "/ws", 401)]


CROSS_SITE = {"sec_fetch_site": "cross-site"}


@pytest.mark.parametrize(
    "headers",
    [
        CROSS_SITE | {"sec_fetch_mode": "no-cors", "sec_fetch_dest": "empty"},
        CROSS_SITE | {"sec_fetch_mode": "no-cors", "sec_fetch_dest": "image"},
        CROSS_SITE | {"sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"},
        {"sec_fetch_site": "same-site", "sec_fetch_mode": "cors"},
        {"origin": "https://evil.example"},
    ],
)
async def test_another_site_has_a_browser_of_this_machine_read_nothing(bus, headers):
    """Its page could not see the answer, but the request would count to the person at the browser."""
    assert await ask(bus, scope(client="127.0.0.1", **headers)) == (None, 403)
    for path in ("/health", "/healthz", "/static/0/board.css"):
        assert (await ask(bus, scope(path, client="127.0.0.1", **headers)))[1] == 200, "it is for everyone"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec_fetch_site": "none", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"},
        CROSS_SITE | {"sec_fetch_mode": "navigate", "sec_fetch_dest": "document"},
        {"sec_fetch_site": "same-origin", "sec_fetch_mode": "cors", "sec_fetch_dest": "empty"},
        {"sec_fetch_site": "same-origin", "origin": "http://127.0.0.1:8080"},
    ],
)
async def test_a_program_a_page_of_ours_and_a_link_that_is_followed_are_answered(bus, headers):
    assert (await ask(bus, scope(client="127.0.0.1", **headers)))[1] == 200
