"""The client that all share: what a server does to it, over real sockets, costs that one request."""

import asyncio
import errno
import gzip
import socket
import ssl
import time

import httpx
import pytest
from httpcore._backends.anyio import AnyIOStream

from marketswarm.net.http import HttpClient, HttpError, HttpResponse
from support.fixtures import opened
from support.http_pool import connections
from support.rig.certificates import Authority
from support.rig.feed_site import Page, Site, drip, endless, to
from support.rig.process import HOST, NO_HOST, free_port

NOTHING = HttpResponse(0, b"")


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            caused(httpx.ConnectError("x"), caused(OSError("all"), socket.gaierror(socket.EAI_NONAME, "x"))),
            "dns",
        ),
        (caused(httpx.ConnectError("x"), ssl.SSLError("x")), "tls"),
        (httpx.ReadTimeout("x"), "timeout"),
        (caused(httpx.ConnectTimeout("x"), ssl.SSLWantReadError("x")), "timeout"),
        (TimeoutError(), "timeout"),
        (ConnectionRefusedError(), "refused"),
        (caused(httpx.ConnectError("x"), OSError("no route")), "refused"),
        (caused(httpx.ConnectError("x"), OSError(errno.EMFILE, "too many open files")), "no_resources"),
        (httpx.ReadError("x"), "broken"),
        (httpx.RemoteProtocolError("x"), "broken"),
        (httpx.LocalProtocolError("x"), "broken"),
        (ConnectionResetError(), "broken"),
        (httpx.ProxyError("x"), "proxy"),
        (httpx.UnsupportedProtocol("x"), "bad_url"),
        (httpx.InvalidURL("x"), "bad_url"),
        (UnicodeError("x"), "bad_url"),
        (KeyError("s3cret"), "broken (KeyError)"),
    ],
    ids=repr,
)
def test_an_error_has_one_reason(error, reason):
    found = HttpError(error, NOTHING)
    assert (found.reason, str(found), found.kind) == (reason, reason, type(error).__name__)


@pytest.mark.parametrize(("said", "sec"), [("120", 120.0), ("999", 600.0), ("-5", None), (None, None)])
def test_a_server_says_when_to_come_again(said, sec):
    headers = {} if said is None else {"retry-after": said}
    assert HttpResponse(429, b"", headers).find_retry_after(600.0) == sec


site = opened(Site)


@pytest.fixture
async def client():
    async with HttpClient("test") as client:
        yield client


async def get(client, url, within_sec=20.0, max_bytes=10_000, **options):
    return await client.fetch("GET", url, within_sec=within_sec, max_bytes=max_bytes, **options)


async def fails(client, url, within_sec=20.0, **options):
    with pytest.raises(HttpError) as caught:
        await get(client, url, within_sec, **options)
    return caught.value


async def test_any_status_is_an_answer_and_no_redirect_is_followed(client, site):
    site.pages |= {"/a": Page(b"x", 404, {"X-Y": "z"}), "/b": to("/a", 307)}
    found = await get(client, site.url("/a"))
    assert (found.status, found.body, found.headers["x-y"]) == (404, b"x", "z")
    assert (await get(client, site.url("/b"))).status == 307
    assert [visit.path for visit in site.visits] == ["/a", "/b"]
    sent = site.visits[0].headers
    assert sent["user-agent"].startswith("marketswarm-test/")
    assert sent["accept-encoding"] == "identity"


async def test_a_body_that_is_not_wanted_is_not_waited_for(client, site):
    site.pages["/drip"] = drip
    found = await get(client, site.url("/drip"), body_of={404})
    assert (found.status, found.body) == (200, b"")
    assert connections(client.client) == []


async def test_no_more_of_a_body_is_read_than_it_may_have(client, site):
    site.pages |= {"/all": b"x" * 10_000, "/more": b"x" * 10_001, "/endless": endless}
    assert len((await get(client, site.url("/all"))).body) == 10_000
    for path in ("/more", "/endless"):
        error = await fails(client, site.url(path))
        assert (error.reason, error.answer.status, len(error.answer.body)) == ("too_long", 200, 10_000)
    assert connections(client.client) == []  # given up rather than read to their ends


async def test_whatever_a_server_does_on_the_wire_costs_that_one_request_its_time_and_no_more(client, site):
    site.pages |= {"/drip": drip, "/cut": lambda handler: handler.connection.close(), "/well": b"x"}
    with socket.create_server((HOST, 0)) as mute:
        urls = f"http://{HOST}:{mute.getsockname()[1]}/", site.url("/drip"), site.url("/cut")
        begun = time.monotonic()
        errors = await asyncio.gather(*(fails(client, url, 1.0) for url in urls))
    assert [error.reason for error in errors] == ["timeout", "timeout", "broken"]
    assert [error.answer.status for error in errors] == [0, 200, 0]
    assert time.monotonic() - begun > 0.9
    assert connections(client.client) == []
    assert (await get(client, site.url("/well"))).body == b"x"


async def test_a_time_that_is_over_while_a_connection_is_put_away_leaves_none_behind(
    client, site, monkeypatch
):
    put_away = AnyIOStream.aclose

    async def slowly(stream):
        await asyncio.sleep(0.3)  # as on a busy machine
        await put_away(stream)

    monkeypatch.setattr(AnyIOStream, "aclose", slowly)
    site.pages |= {"/endless": endless, "/drip": drip}
    urls = [site.url(path) for path in ("/endless", "/drip") * 5]
    errors = await asyncio.gather(*(fails(client, url, 0.15) for url in urls))
    assert "timeout" in {error.reason for error in errors}
    assert connections(client.client) == []


@pytest.mark.live
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (
            f"http://{HOST}:FREE/",
            "refused",
        ),  # each worker would find another port
        (f"http://{NO_HOST}/", "dns"),
        *((each, "bad_url") for each in ("nonsense", "gopher://a/", "http://")),
    ],
)
async def test_what_is_no_url_or_leads_nowhere_is_one_word(client, url, reason):
    assert (await fails(client, url.replace("FREE", str(free_port())))).reason == reason


@pytest.mark.needs("openssl")
async def test_a_certificate_that_nobody_vouches_for_is_refused(client, tmp_path):
    spoken_to = asyncio.Event()

    async def listen(_reader, _writer):
        spoken_to.set()

    context = Authority(tmp_path).untrusted("cert")
    async with await asyncio.start_server(listen, HOST, port := free_port(), ssl=context):
        assert (await fails(client, f"https://{HOST}:{port}/s3cret")).reason == "tls"
    assert not spoken_to.is_set()


async def test_no_cookie_is_kept(client, site):
    site.pages["/"] = Page(headers={"Set-Cookie": "a=b"})
    for _ in range(2):
        await get(client, site.url())
    assert all("cookie" not in visit.headers for visit in site.visits)


@pytest.mark.parametrize("by_proxy", [True, False])
async def test_only_who_may_go_by_a_proxy_does(site, monkeypatch, by_proxy):
    site.pages |= {"/": b"direct", "http://elsewhere.example/": b"proxy"}
    monkeypatch.setenv("HTTP_PROXY", site.url())
    async with HttpClient(by_proxy=by_proxy) as client:
        if by_proxy:
            assert (await get(client, "http://elsewhere.example/")).body == b"proxy"
        else:
            assert (await get(client, site.url())).body == b"direct"
    assert site.visits[0].headers["user-agent"].startswith("marketswarm/")


async def test_what_was_packed_as_asked_for_is_unpacked_up_to_what_it_may_have(site):
    packed = {"Content-Encoding": "gzip"}
    site.pages |= {
        "/well": Page(gzip.compress(b"x" * 10_000), headers=packed),
        "/bomb": Page(gzip.compress(bytes(10_000_000)), headers=packed),
        "/cut": Page(gzip.compress(b"x")[:-5], 429, packed | {"Retry-After": "7"}),
    }
    async with HttpClient(encodings="gzip") as client:
        assert (await get(client, site.url("/well"))).body == b"x" * 10_000
        bomb, cut = [await fails(client, site.url(path)) for path in ("/bomb", "/cut")]
    assert (bomb.reason, len(bomb.answer.body)) == ("too_long", 10_000)
    assert (cut.reason, cut.answer.status, cut.answer.find_retry_after()) == ("bad_encoding", 429, 7.0)
    assert site.visits[0].headers["accept-encoding"] == "gzip"
    async with HttpClient() as client:  # which asked for nothing
        assert gzip.decompress((await get(client, site.url("/well"))).body) == b"x" * 10_000
