"""Does a page answer as it should: against web servers that do what a test says."""

import socket
import threading

import pytest

from services.massive.probes.probers import https
from services.massive.probes.probers.context import ProbeContext
from services.massive.probes.probers.https import probe
from services.massive.probes.probers.trace import ProbeError, Trace
from services.massive.targets import Https
from support.fixtures import opened
from support.rig.process import HOST, NO_HOST, free_port
from support.rig.web_site import Page, Site

NAME = "shop.example"

site = opened(lambda: Site({"/": Page(), "/health": Page(b'{"status": "ok"}')}))


def at(url, **more):
    return Https(name="a", url=url, **more)


async def knows(*addresses):
    return list(addresses)


async def test_a_page_that_answers_is_well(site, context):
    found = await probe(at(site.url("/health?key=s3cret")), context)
    assert (found.kind, found.stage, found.error) == ("https", "done", None)
    assert found.facts == {"address": HOST, "status": 200}
    assert set(found.ms) == {"dns", "tcp", "http", "total"}
    assert found.where == site.url("/health")
    assert site.seen[0][:2] == ("GET", "/health?key=s3cret")


@pytest.mark.needs("openssl")
async def test_over_tls_it_looks_at_the_certificate_too(authority, context):
    with Site(certificate=authority.certificate("good", days=30)) as site:
        found = await probe(at(site.url(), ca_file=str(authority.ca)), context)
        soon = await probe(at(site.url(), ca_file=str(authority.ca), warn_days=60), context)
    assert (found.stage, found.error, found.warning) == ("done", None, None)
    assert 29.5 < found.facts["days_left"] <= 30
    assert set(found.ms) == {"dns", "tcp", "tls", "http", "total"}
    assert (soon.ok, soon.warning) == (True, "ends_soon")


@pytest.mark.needs("openssl")
async def test_the_certificate_is_to_be_on_the_name_in_the_url(authority):
    named = authority.certificate("named", address=f"127.0.0.9,DNS:{NAME}")
    context = ProbeContext(5.0, lambda _host, _port: knows(HOST))
    with Site(certificate=named) as site:
        right = await probe(at(site.url(host=NAME), ca_file=str(authority.ca)), context)
        wrong = await probe(at(site.url(host="other.example"), ca_file=str(authority.ca)), context)
        assert site.names == [NAME, "other.example"]
        assert site.seen[0][2]["host"] == f"{NAME}:{site.port}"
    assert (right.error, wrong.stage, wrong.error) == (None, "tls", "wrong_name")


@pytest.mark.parametrize(("status", "word"), [(204, None), (301, "status_301"), (503, "status_503")])
async def test_the_status_is_to_be_a_good_one(status, word, site, context):
    site.pages["/x"] = Page(b"", status)
    found = await probe(at(site.url("/x")), context)
    assert (found.error, found.facts["status"]) == (word, status)


async def test_which_status_is_a_good_one_may_be_said(site, context):
    site.pages["/x"] = Page(b"", 401)
    assert (await probe(at(site.url("/x"), status=[401, 403]), context)).ok
    assert (await probe(at(site.url("/"), status=[401, 403]), context)).error == "status_200"


async def test_what_is_to_be_in_the_body_is_looked_for(site, context):
    url = site.url("/health")
    assert (await probe(at(url, contains='"ok"'), context)).ok
    assert (await probe(at(url, contains='"ill"'), context)).error == "no_match"
    assert (await probe(at(url, lacks='"ok"'), context)).error == "unwanted_match"
    assert (await probe(at(url, lacks='"ill"'), context)).ok


async def test_no_more_of_a_body_is_read_than_is_allowed(site, context):
    site.pages["/big"] = Page(b"." * 5_000_000 + b"end")
    found = await probe(at(site.url("/big"), contains="end", max_bytes=100_000), context)
    assert (found.error, found.facts["bytes"]) == ("no_match", 100_000)
    whole = await probe(at(site.url("/big"), contains="end", max_bytes=6_000_000), context)
    assert (whole.error, whole.facts["bytes"]) == (None, 5_000_003)


@pytest.mark.parametrize("page", [Page(b"", drip=True), Page(silent=True)], ids=["drips", "says nothing"])
async def test_a_page_without_end_costs_the_time_limit(site, context, page):
    site.pages["/"] = page
    found = await probe(at(site.url(), contains="end"), ProbeContext(1.5, context.look_up))
    assert (found.stage, found.error) == ("http", "timeout")


async def test_a_body_that_drips_is_waited_for_by_those_alone_who_want_to_read_it(site, context):
    site.pages["/"] = Page(b"", drip=True)
    assert (await probe(at(site.url()), context)).ok


async def test_what_is_packed_unasked_is_not_looked_into(site, context):
    site.pages["/packed"] = Page(b"\x1f\x8b...", headers={"content-encoding": "gzip"})
    assert (await probe(at(site.url("/packed"), contains="x"), context)).error == "encoded"
    assert site.seen[0][2]["accept-encoding"] == "identity"


async def test_nobody_listens(context):
    found = await probe(at(f"http://{HOST}:{free_port()}/"), context)
    assert (found.stage, found.error) == ("tcp", "refused")


async def test_of_several_addresses_one_that_answers_is_enough(site):
    context = ProbeContext(5.0, lambda _host, _port: knows("127.0.0.2", HOST))
    found = await probe(at(site.url(host=NAME)), context)
    assert (found.error, found.facts["address"]) == (None, HOST)


@pytest.mark.parametrize("answer", [b"220 mail.example ESMTP\r\n", b"HTTP/1.1 two hundred\r\n\r\n", b""])
async def test_what_is_no_web_server_is_garbled(answer, context):
    with socket.create_server((HOST, 0)) as server:
        task = threading.Thread(target=answered, args=(server, answer))
        task.start()
        found = await probe(at(f"http://{HOST}:{server.getsockname()[1]}/"), context)
        task.join(5)
    assert (found.stage, found.error) == ("http", "garbled")


def answered(server, answer):
    line, _peer = server.accept()
    with line:
        line.recv(4096)
        line.sendall(answer)


async def test_a_redirect_is_followed_only_as_often_as_it_may_be(site, context):
    site.pages["/a"] = Page(b"", 302, {"location": "/b"})
    site.pages["/b"] = Page(b"", 302, {"location": site.url("/health")})
    assert (await probe(at(site.url("/a")), context)).error == "status_302"
    assert (await probe(at(site.url("/a"), redirects=1), context)).error == "status_302"
    found = await probe(at(site.url("/a"), redirects=2, contains="ok"), context)
    assert (found.error, found.facts["status"]) == (None, 200)


async def test_a_redirect_in_a_circle_ends(site, context):
    site.pages["/a"] = Page(b"", 302, {"location": "/a"})
    assert (await probe(at(site.url("/a"), redirects=3), context)).error == "status_302"
    assert len(site.seen) == 4


@pytest.mark.parametrize("location", ["ftp://h/", "file:///etc/passwd"])
async def test_a_redirect_to_what_is_no_page_is_not_followed(location, site, context):
    site.pages["/a"] = Page(b"", 302, {"location": location})
    assert (await probe(at(site.url("/a"), redirects=1), context)).error == "bad_redirect"


@pytest.mark.needs("openssl")
async def test_a_redirect_from_https_to_http_is_not_followed(authority, site, context):
    with Site(
        {"/": Page(b"", 302, {"location": site.url()})}, certificate=authority.certificate("r")
    ) as safe:
        found = await probe(at(safe.url(), ca_file=str(authority.ca), redirects=1), context)
    assert (found.error, site.seen) == ("bad_redirect", [])


# fmt: off
INSIDE = [
    "127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00::1", "fe80::1%eth0", "192.0.0.8", "fec0::1",
    "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::", "2002:a9fe:a9fe::", "198.18.0.1", "224.0.0.1", "not an address",
]
# fmt: on


@pytest.mark.parametrize("inside", INSIDE)
async def test_what_only_those_inside_reach_is_inside(inside, context):
    visit = https.Visit(
        at("https://h/", redirects=1), context, Trace("https", "a"), first_address="2620:fe::fe"
    )
    with pytest.raises(ProbeError, match="redirected_inside"):
        visit.require_allowed_addresses([inside])


@pytest.mark.parametrize("host", ["a..example", f"*.{NO_HOST}", "x" * 64 + ".example"])
async def test_a_name_that_is_none_is_a_result_too(host, context):
    found = await probe(at(f"https://{host}/?key=s3cret"), context)
    assert found.error in {"bad_name", "unknown_name", "look_up_failed", "unreachable"}
    assert found.where == f"https://{host}/"


async def test_an_address_of_the_newer_kind_is_one(context):
    try:
        listening = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with listening:
        task = threading.Thread(target=answered, args=(listening, b"HTTP/1.1 204 ok\r\n\r\n"))
        task.start()
        found = await probe(at(f"http://[::1]:{listening.getsockname()[1]}/"), context)
        task.join(5)
    assert (found.error, found.facts["address"]) == (None, "::1")


async def test_head_is_enough_where_nobody_reads(site, context):
    assert (await probe(at(site.url("/health"), method="HEAD"), context)).ok
    assert site.seen[0][0] == "HEAD"


async def test_the_environment_sends_nobody_by_a_proxy(site, context, monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://{HOST}:{free_port()}")
    assert (await probe(at(site.url()), context)).ok
