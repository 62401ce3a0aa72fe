"""The client with a guard: it connects to outside addresses, and to those inside that are allowed."""

import asyncio
import socket

import httpx
import pytest

from marketswarm.net.address_guard import AddressGuard, InsideAddressError
from marketswarm.net.addresses import parse_allowance
from marketswarm.net.http import HttpClient, HttpError
from support.rig.certificates import Authority
from support.rig.feed_site import Http2Site, Site


@pytest.fixture
def site():
    with Site() as site:
        site.pages["/"] = b"inside"
        yield site


async def get(client, url, within_sec=20.0, own_url=""):
    """The body, or why there is none."""
    try:
        answer = await client.fetch("GET", url, within_sec=within_sec, max_bytes=1000, own_url=own_url)
    except HttpError as error:
        return error.reason
    return answer.body


async def look_up_and_get(site, *addresses, allow=(), within_sec=20.0):
    guard = AddressGuard(lambda _host, _port: addresses)
    guard.allowances = tuple(map(parse_allowance, allow))
    async with HttpClient(guard=guard) as client:
        return await get(client, f"http://news.example:{site.server_port}/", within_sec)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::ffff:127.0.0.1", "169.254.169.254", "::1", "10.0.0.1", "fe80::1", "64:ff9b::7f00:1"],
)
async def test_a_name_that_points_inside_is_not_asked(site, address):
    assert await look_up_and_get(site, address) == "inside_address"
    assert site.visits == []


async def test_of_a_name_with_both_kinds_only_what_is_outside_is_asked(site):
    found = await look_up_and_get(site, "127.0.0.1", "192.0.2.1", "203.0.113.1", within_sec=0.5)
    assert found == "inside_address"
    assert site.visits == []


async def test_what_is_allowed_inside_is_asked(site):
    for allow in ("127.0.0.1", "127.0.0.0/8", "news.example", f"127.0.0.1:{site.server_port}"):
        assert await look_up_and_get(site, "127.0.0.1", allow=[allow]) == b"inside"
    assert await look_up_and_get(site, "127.0.0.1", allow=["127.0.0.1:1"]) == "inside_address"


async def test_an_address_is_checked_with_each_request_and_allowed_if_it_is_our_own(site):
    async with HttpClient(guard=AddressGuard()) as client:
        assert await get(client, site.url(), own_url=site.url("/feed")) == b"inside"
        assert await get(client, site.url()) == "inside_address"  # its connection stands open
    assert len(site.visits) == 1


async def test_the_address_that_was_judged_is_the_one_that_is_asked(site):
    """A name that points elsewhere a moment later: nobody looks it up a second time."""
    answers = [["127.0.0.1"], ["127.0.0.2"]]
    for reason in (b"inside", "inside_address"):
        guard = AddressGuard(lambda _host, _port: answers.pop(0))
        guard.allowances = (parse_allowance("127.0.0.1"),)
        async with HttpClient(guard=guard) as client:
            assert await get(client, f"http://news.example:{site.server_port}/") == reason
    assert answers == []


async def test_a_name_that_nobody_knows_is_told_as_such():
    def nobody(_host, _port):
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    async with HttpClient(guard=AddressGuard(nobody)) as client:
        assert await get(client, "http://nobody.example/") == "dns"


@pytest.mark.parametrize(
    "host", ["\u2460\u2461\u2466.0.0.1", "\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021"]
)
def test_an_address_in_other_letters_is_no_address_or_inside(host):
    with pytest.raises((InsideAddressError, httpx.InvalidURL)):
        AddressGuard().require_allowed(f"http://{host}/", "http://news.example/")


@pytest.fixture
def http2_site(tmp_path, monkeypatch):
    context = Authority(tmp_path).untrusted("server")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    with Http2Site(context, b"two") as site:
        yield site


async def test_http_2_is_spoken_and_one_connection_serves_all(http2_site):
    url = http2_site.url
    async with HttpClient(guard=AddressGuard()) as client:
        assert [await get(client, url, own_url=url) for _ in range(3)] == [b"two"] * 3
    assert (http2_site.connections, http2_site.requests) == (1, 3)


async def test_an_answer_that_never_comes_does_not_spoil_the_connection_for_the_next(http2_site):
    url = http2_site.url
    async with HttpClient(guard=AddressGuard()) as client:
        assert await get(client, url, own_url=url) == b"two"  # so that it is connected
        http2_site.unanswered = http2_site.requests + 3
        waiting = [get(client, url, 0.5, own_url=url) for _ in range(3)]
        assert await asyncio.gather(*waiting) == ["timeout"] * 3
        http2_site.unanswered = (
            http2_site.requests
        )  # one whose time was over before it was sent was never counted
        assert [await get(client, url, own_url=url) for _ in range(3)] == [b"two"] * 3
