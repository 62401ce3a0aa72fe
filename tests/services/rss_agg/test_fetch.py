"""Fetcher from real servers of the test's own."""

import asyncio
import gzip
import socket
import zlib

import brotli
import httpx
import pytest
from httpcore._backends.anyio import AnyIOStream

from services.rss_agg.fetch import (
    MAX_RETRY_AFTER_SEC,
    FeedError,
    FeedRequest,
    Fetcher,
    InsideAddressError,
    Validators,
    check_address,
    hash_url,
    host_and_port,
    read_retry_after,
    read_validators,
    redact_url,
    resolve_redirect,
)
from services.rss_agg.settings import ReadSettings
from support.http_pool import connections
from support.rig.certificates import Authority
from support.rig.feed_site import Http2Site, Page, Site, drip, endless, fifty_megabytes, rss, to

NOON = 1_763_640_000.0  # Thu, 20 Nov 2025 12:00:00 GMT


def test_what_a_server_validates_with_is_shown_to_it_again():
    found = read_validators({"etag": '"a"', "last-modified": "yesterday"})
    assert found.to_headers() == {"If-None-Match": '"a"', "If-Modified-Since": "yesterday"}
    assert read_validators({}).to_headers() == {}


@pytest.mark.parametrize("etag", ["x" * 501, "a\nb", "ü", "\x00"])
def test_a_validator_that_is_none_was_not_said(etag):
    assert read_validators({"etag": etag}) == Validators()


@pytest.mark.parametrize(
    ("said", "sec"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("99999999999", MAX_RETRY_AFTER_SEC),
        ("Thu, 20 Nov 2025 12:02:00 GMT", 120.0),
        ("Thu, 20 Nov 2025 12:02:00", 120.0),
        ("Thu, 20 Nov 2025 11:00:00 GMT", 0.0),
        ("Thu, 20 Nov 9999 11:00:00 GMT", MAX_RETRY_AFTER_SEC),
        *((each, None) for each in ("", "-5", "soon", "٣", "Thu, 99 Nov 2025 12:02:00 GMT")),
    ],
)
def test_a_server_says_in_seconds_or_by_date_when_to_come_again(said, sec):
    assert read_retry_after({"retry-after": said}, NOON) == sec


@pytest.mark.parametrize(
    ("location", "to"),
    [
        ("/b", "https://a/b"),
        ("http://b:81/c#top", "http://b:81/c"),
        ("//b/c", "https://b/c"),
        *((each, None) for each in ("file:///etc/passwd", "javascript:alert(1)", "http://user:pw@b/")),
        *((each, None) for each in ("http://", "http://[", "http://b:0/", "http://b/" + "x" * 2000)),
        ("http://b/\x01", None),
    ],
)
def test_a_redirect_leads_to_a_web_address_or_nowhere(location, to):
    assert resolve_redirect("https://a/feed", location) == to


def test_a_url_in_a_log_shows_no_secret():
    assert redact_url("https://me:pw@a:8443/feed?token=5#x") == "https://a:8443/feed"
    assert redact_url("http://[") == "?"


def test_a_host_is_bothered_at_one_port():
    assert host_and_port("http://A./x") == host_and_port("http://a:80/y") == "a:80"
    assert host_and_port("https://a/") == "a:443"
    assert host_and_port("nonsense") == host_and_port("http://[") == ""


FEED = rss(1)
SETTINGS = ReadSettings(timeout_sec=60)


@pytest.fixture
def site():
    with Site() as site:
        yield site


async def fetch(url, settings=SETTINGS, resolve=None, **request):
    async with Fetcher(resolve) if resolve else Fetcher() as fetcher:
        return await fetcher.fetch(FeedRequest(url, **request), settings)


async def fails(url, settings=SETTINGS, resolve=None, **request):
    with pytest.raises(FeedError) as caught:
        await fetch(url, settings, resolve, **request)
    return caught.value


async def test_a_feed_comes_with_what_to_ask_with_next_time(site):
    site.pages["/feed"] = Page(
        FEED, headers={"ETag": '"1"', "Last-Modified": "then", "Content-Type": "text/xml"}
    )
    answer = await fetch(site.url("/feed"))
    assert (answer.body, answer.content_type, answer.moved_to) == (FEED, "text/xml", "")
    assert answer.validators == Validators('"1"', "then")
    (visit,) = site.visits
    assert visit.headers["accept-encoding"] == "gzip, br"
    assert "marketswarm" in visit.headers["user-agent"]


async def test_what_has_not_changed_is_not_sent_again(site):
    site.pages["/feed"] = Page(FEED, headers={"ETag": '"1"'})
    url = site.url("/feed")
    answer = await fetch(url, validators=Validators('"1"', "then"), validators_of=hash_url(url))
    assert answer.body is None
    assert answer.validators == Validators('"1"', "then")
    assert site.visits[0].headers["if-modified-since"] == "then"


async def test_a_validator_is_shown_to_nobody_else(site):
    site.pages["/feed"] = Page(FEED, headers={"ETag": '"1"'})
    answer = await fetch(
        site.url("/feed"), validators=Validators('"1"'), validators_of=hash_url("http://elsewhere/")
    )
    assert answer.body == FEED
    site.pages["/feed"] = 304
    assert str(await fails(site.url("/feed"))) == "304"


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate"])
async def test_a_packed_body_is_unpacked(site, coding):
    pack = {"gzip": gzip.compress, "br": brotli.compress, "deflate": zlib.compress}[coding]
    site.pages["/feed"] = Page(pack(FEED), headers={"Content-Encoding": coding})
    assert (await fetch(site.url("/feed"))).body == FEED


async def test_http_2_is_spoken_and_one_connection_serves_all(tmp_path, monkeypatch):
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    with Http2Site(authority.untrusted("server"), FEED) as site:
        async with Fetcher() as fetcher:
            for _ in range(3):
                assert (await fetcher.fetch(FeedRequest(site.url), SETTINGS)).body == FEED
        assert (site.connections, site.requests) == (1, 3)


async def test_an_answer_that_never_comes_does_not_spoil_the_connection_for_the_next(tmp_path, monkeypatch):
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    with Http2Site(authority.untrusted("server"), FEED) as site:
        async with Fetcher() as fetcher:
            assert (
                await fetcher.fetch(FeedRequest(site.url), SETTINGS)
            ).body == FEED  # so that it is connected
            site.unanswered = site.requests + 3
            waiting = [fetcher.fetch(FeedRequest(site.url), ReadSettings(timeout_sec=0.5)) for _ in range(3)]
            assert [str(one) for one in await asyncio.gather(*waiting, return_exceptions=True)] == [
                "timeout"
            ] * 3
            site.unanswered = site.requests  # one whose time was over before it was sent was never counted
            for _ in range(3):
                assert (await fetcher.fetch(FeedRequest(site.url), SETTINGS)).body == FEED


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path):
    with Http2Site(Authority(tmp_path).untrusted("server"), FEED) as site:
        assert str(await fails(site.url)) == "tls"
        assert site.requests == 0


@pytest.mark.parametrize(
    ("first", "second", "moved"), [(301, 308, 2), (308, 302, 1), (302, 301, 0), (307, 303, 0)]
)
async def test_a_move_for_good_is_told_as_far_as_it_goes(site, first, second, moved):
    paths = ["/feed", "/b", "/c"]
    site.pages |= {"/feed": to("/b", first), "/b": to(site.url("/c"), second), "/c": FEED}
    answer = await fetch(site.url("/feed"))
    assert answer.body == FEED
    assert answer.url == site.url("/c")
    assert answer.moved_to == (site.url(paths[moved]) if moved else "")


async def test_where_it_moved_to_is_asked_at_once_and_stays_known(site):
    site.pages["/b"] = Page(FEED, headers={"ETag": '"1"'})
    there = site.url("/b")
    answer = await fetch(
        site.url("/feed"), moved_to=there, validators=Validators('"1"'), validators_of=hash_url(there)
    )
    assert (answer.body, answer.moved_to) == (None, there)
    assert [visit.path for visit in site.visits] == ["/b"]


@pytest.mark.parametrize(
    ("page", "why"),
    [
        (404, "404"),
        (500, "500"),
        (204, "204"),
        (to("/feed"), "too_many_redirects"),
        (to("file:///etc/passwd"), "bad_redirect"),
        (to(""), "too_many_redirects"),
        (Page(status=302), "too_many_redirects"),
        (drip, "timeout"),
        *((each, "too_long") for each in (endless, fifty_megabytes, Page(b"x" * 20_000))),
        (Page(gzip.compress(bytes(10_000_000), 1), headers={"Content-Encoding": "gzip"}), "too_long"),
        (Page(brotli.compress(bytes(10_000_000), quality=1), headers={"Content-Encoding": "br"}), "too_long"),
        (Page(gzip.compress(FEED), headers={"Content-Encoding": "gzip, gzip"}), "bad_encoding"),
        (Page(FEED, headers={"Content-Encoding": "gzip"}), "bad_encoding"),
        (Page(gzip.compress(FEED)[:-9], headers={"Content-Encoding": "gzip"}), "bad_encoding"),
        (Page(FEED, headers={"X": "y" * 60_000}), None),
        (lambda handler: handler.wfile.write(b"nonsense\r\n\r\n"), "broken"),
        (lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<"), "broken"),
        (lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 99_999), "broken"),
        (lambda handler: handler.connection.close(), "broken"),
    ],
)
async def test_what_a_server_does_instead_of_answering_is_one_word(site, page, why):
    site.pages["/feed"] = page
    # only who waits for it needs it to be short
    settings = ReadSettings(timeout_sec=0.6 if why == "timeout" else 20, max_bytes=10_000)
    if why is None:
        assert (await fetch(site.url("/feed"), settings)).body == FEED
    else:
        assert str(await fails(site.url("/feed"), settings)) == why


async def test_a_time_that_is_over_while_a_connection_is_put_away_leaves_none_behind(site, monkeypatch):
    put_away = AnyIOStream.aclose

    async def slowly(stream):
        await asyncio.sleep(0.3)  # as on a busy machine
        await put_away(stream)

    monkeypatch.setattr(AnyIOStream, "aclose", slowly)
    site.pages |= {"/feed": endless, "/drip": drip}
    async with Fetcher() as fetcher:

        async def failed(path):
            with pytest.raises(FeedError):
                await fetcher.fetch(
                    FeedRequest(site.url(path)), ReadSettings(timeout_sec=0.15, max_bytes=1000)
                )

        await asyncio.gather(*(failed(path) for path in ("/feed", "/drip") * 5))
        assert connections(fetcher.client) == []


async def test_a_feed_that_is_gone_says_so(site):
    site.pages["/feed"] = 410
    assert (await fails(site.url("/feed"))).gone


async def test_a_server_that_is_busy_says_for_how_long(site):
    site.pages["/feed"] = Page(status=429, headers={"Retry-After": "120"})
    failed = await fails(site.url("/feed"))
    assert (str(failed), failed.retry_after_sec) == ("429", 120.0)


async def test_no_cookie_is_kept(site):
    site.pages["/feed"] = Page(FEED, headers={"Set-Cookie": "a=b"})
    async with Fetcher() as fetcher:
        for _ in range(2):
            await fetcher.fetch(FeedRequest(site.url("/feed")), SETTINGS)
    assert all("cookie" not in visit.headers for visit in site.visits)


@pytest.mark.live
@pytest.mark.parametrize(
    ("url", "why"),
    [
        *((each, "bad_url") for each in ("nonsense", "gopher://a/", "http://", "http://[")),
        ("http://" + "x" * 300 + "/", "bad_url"),
        ("http://127.0.0.1:1/", "refused"),
    ],
)
async def test_what_is_no_url_or_leads_nowhere_is_one_word(url, why):
    assert str(await fails(url)) == why


async def test_a_name_that_nobody_knows_is_told_as_such():
    def nobody(_host, _port):
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    assert str(await fails("http://nobody.example/", resolve=nobody)) == "dns"


@pytest.mark.parametrize(
    "host", ["\u2460\u2461\u2466.0.0.1", "\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021"]
)
def test_an_address_in_other_letters_is_no_address_or_inside(host):
    with pytest.raises((InsideAddressError, httpx.InvalidURL)):
        check_address(f"http://{host}/", "http://news.example/", ())


# --- inside addresses -------------------------------------------------------------------------------


def looks_up(*addresses):
    def look_up(_host, _port):
        asked.append(_host)
        return addresses

    asked: list[str] = []
    look_up.asked = asked
    return look_up


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::ffff:127.0.0.1", "169.254.169.254", "::1", "10.0.0.1", "fe80::1", "64:ff9b::7f00:1"],
)
async def test_a_name_that_points_inside_is_not_asked(site, address):
    site.pages["/feed"] = FEED
    url = f"http://news.example:{site.server_port}/feed"
    assert str(await fails(url, resolve=looks_up(address))) == "inside_address"
    assert site.visits == []


async def test_of_a_name_with_both_kinds_only_what_is_outside_is_asked(site):
    site.pages["/feed"] = FEED
    url = f"http://news.example:{site.server_port}/feed"
    settings = ReadSettings(timeout_sec=0.5)
    failed = await fails(url, settings, looks_up("127.0.0.1", "192.0.2.1", "203.0.113.1"))
    assert str(failed) == "inside_address"
    assert site.visits == []


@pytest.mark.parametrize("allow", ["127.0.0.1", "127.0.0.0/8", "news.example", "127.0.0.1:{port}"])
async def test_what_the_truth_allows_inside_is_asked(site, allow):
    site.pages["/feed"] = FEED
    url = f"http://news.example:{site.server_port}/feed"
    settings = ReadSettings(allow_inside=(allow.format(port=site.server_port),))
    assert (await fetch(url, settings, looks_up("127.0.0.1"))).body == FEED


async def test_the_address_that_was_judged_is_the_one_that_is_asked(site):
    """A name that points elsewhere a moment later: nobody looks it up a second time."""
    site.pages["/feed"] = FEED
    answers = [["127.0.0.1"], ["127.0.0.2"]]

    def rebinding(_host, _port):
        return answers.pop(0)

    url = f"http://news.example:{site.server_port}/feed"
    settings = ReadSettings(allow_inside=("127.0.0.1",))
    assert (await fetch(url, settings, rebinding)).body == FEED
    assert answers == [["127.0.0.2"]]
    assert str(await fails(url, settings, rebinding)) == "inside_address"


@pytest.mark.parametrize(
    "location",
    [
        *("http://127.0.0.1:{port}/feed", "http://localhost:{port}/feed", "http://LOCALHOST.:{port}/feed"),
        *("http://[::ffff:127.0.0.1]:{port}/feed", "http://[::1]:{port}/feed"),
        *("http://169.254.169.254/latest/meta-data/", "http://0.0.0.0:{port}/feed"),
        *("http://2130706433:{port}/feed", "http://0x7f.1:{port}/feed", "http://127.0.0.1.:{port}/feed"),
        "http://127%2e0%2e0%2e1:{port}/feed",
    ],
)
@pytest.mark.parametrize("status", [301, 302])
async def test_a_redirect_from_outside_to_inside_is_refused(site, location, status):
    site.pages |= {"/away": to(location.format(port=site.server_port), status), "/feed": FEED}

    def look_up(host, port):
        if host == "news.example":
            return ["127.0.0.1"]
        return sorted({str(info[4][0]) for info in socket.getaddrinfo(host, port)})

    url = f"http://news.example:{site.server_port}/away"
    # the name alone is allowed: it stands for one outside
    failed = await fails(url, ReadSettings(allow_inside=("news.example",)), look_up)
    # some resolvers take the last two for names
    assert str(failed) == "inside_address" or ("1.:" in location or "%2e" in location)
    assert site.of("/feed") == []


async def test_a_feed_that_the_truth_itself_puts_inside_is_asked_there_and_nowhere_else(site):
    with Site() as other:
        other.pages["/feed"] = FEED
        site.pages |= {"/here": to("/feed"), "/there": to(other.url("/feed")), "/feed": FEED}
        assert (await fetch(site.url("/here"))).body == FEED
        assert str(await fails(site.url("/there"))) == "inside_address"
        assert other.visits == []


async def test_a_connection_to_an_inside_address_serves_no_other_feed(site):
    """It stays open, and who is redirected there must not find it."""
    site.pages |= {"/feed": FEED, "/away": to(site.url("/feed"))}
    async with Fetcher(looks_up("127.0.0.1")) as fetcher:
        settings = ReadSettings(allow_inside=("news.example",))
        await fetcher.fetch(FeedRequest(site.url("/feed")), settings)
        away = FeedRequest(f"http://news.example:{site.server_port}/away")
        with pytest.raises(FeedError, match="inside_address"):
            await fetcher.fetch(away, settings)
    assert len(site.of("/feed")) == 1


async def test_where_a_feed_moved_to_is_judged_each_time(site):
    site.pages["/feed"] = FEED
    assert str(await fails("http://news.example/", moved_to=site.url("/feed"))) == "inside_address"
