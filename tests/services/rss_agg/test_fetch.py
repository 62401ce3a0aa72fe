"""Fetcher from real servers of the test's own."""

import socket
from contextlib import aclosing
from urllib.parse import urljoin

import brotli
import pytest

from services.rss_agg.fetch import (
    FeedError,
    Fetcher,
    Validators,
    hash_url,
    host_and_port,
    make_base_url,
    read_validators,
    resolve_redirect,
)
from services.rss_agg.settings import ReadSettings
from support.fixtures import opened
from support.rig.feed_site import Page, Site, drip, fifty_megabytes, rss, to


def test_what_a_server_validates_with_is_shown_to_it_again():
    found = read_validators({"etag": '"a"', "last-modified": "yesterday"})
    assert found.to_headers() == {"If-None-Match": '"a"', "If-Modified-Since": "yesterday"}
    assert read_validators({}).to_headers() == {}


@pytest.mark.parametrize("etag", ["x" * 501, "a\nb", "ü", "\x00"])
def test_a_validator_that_is_none_was_not_said(etag):
    assert read_validators({"etag": etag}) == Validators()


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


@pytest.mark.parametrize(
    ("location", "to"),
    [
        ("/b?c", "https://me:pw@a/b?c"),
        ("b", "https://me:pw@a/b"),
        ("https://a/b", "https://a/b"),
        ("//b/c", "https://b/c"),
        *((each, None) for each in ("//you:pw@a/b", "https://me:pw@a/b", " https://@a/b", "http://[@")),
    ],
)
def test_our_own_password_stays_with_a_relative_redirect_and_no_other_is_taken(location, to):
    assert resolve_redirect("https://me:pw@a/feed", location) == to


@pytest.mark.parametrize("link", ["/news/1", "?p=3", "#n2", "item", "", "//b/c", "../up"])
def test_no_link_is_made_of_what_is_secret_in_a_url(link):
    base = make_base_url("https://me:hunter2@a:81/hunter2/feed?token=hunter2#hunter2", is_secret=True)
    made = urljoin(base, link)
    assert "hunter2" not in made
    assert made.startswith(("https://a:81/", "https://b/c"))
    assert make_base_url("https://me@a/x/feed?id=5", is_secret=False) == "https://a/x/feed?id=5"


def test_a_host_is_bothered_at_one_port():
    assert host_and_port("http://A./x") == host_and_port("http://a:80/y") == "a:80"
    assert host_and_port("https://a/") == "a:443"
    assert host_and_port("nonsense") == host_and_port("http://[") == ""


FEED = rss(1)
SETTINGS = ReadSettings(timeout_sec=60)

site = opened(Site)


async def fetch(url, settings=SETTINGS, resolve=None, **request):
    async with aclosing(Fetcher(resolve) if resolve else Fetcher()) as fetcher:
        return await fetcher.fetch(url, settings, **request)


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


async def test_a_packed_body_is_unpacked(site):
    site.pages["/feed"] = Page(brotli.compress(FEED), headers={"Content-Encoding": "br"})
    assert (await fetch(site.url("/feed"))).body == FEED


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
        (fifty_megabytes, "too_long"),
        (Page(brotli.compress(bytes(10_000_000), quality=1), headers={"Content-Encoding": "br"}), "too_long"),
        (Page(FEED, headers={"Content-Encoding": "gzip"}), "bad_encoding"),
        (Page(FEED, headers={"X": "y" * 60_000}), None),
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


async def test_a_feed_that_is_gone_says_so(site):
    site.pages["/feed"] = 410
    assert (await fails(site.url("/feed"))).gone


@pytest.mark.parametrize(
    ("statuses", "is_gone"), [((301,), True), ((301, 308), True), ((302,), False), ((301, 307), False)]
)
async def test_a_feed_is_gone_only_where_it_is_for_good(site, statuses, is_gone):
    paths = ["/feed", "/b", "/c"]
    for number, status in enumerate(statuses):
        site.pages[paths[number]] = to(paths[number + 1], status)
    site.pages[paths[len(statuses)]] = 410
    failed = await fails(site.url("/feed"))
    assert (str(failed), failed.gone) == ("410", is_gone)


async def test_where_a_feed_has_moved_to_it_is_not_gone(site):
    """After some failures there its own URL is asked again."""
    site.pages["/b"] = 410
    failed = await fails(site.url("/feed"), moved_to=site.url("/b"))
    assert (str(failed), failed.gone) == ("410", False)


async def test_a_server_that_is_busy_says_for_how_long(site):
    site.pages["/feed"] = Page(status=429, headers={"Retry-After": "120"})
    failed = await fails(site.url("/feed"))
    assert (str(failed), failed.retry_after_sec) == ("429", 120.0)


# --- inside addresses -------------------------------------------------------------------------------


def looks_up(*addresses):
    return lambda _host, _port: addresses


async def test_a_name_that_points_inside_is_not_asked(site):
    site.pages["/feed"] = FEED
    url = f"http://news.example:{site.server_port}/feed"
    assert str(await fails(url, resolve=looks_up("127.0.0.1"))) == "inside_address"
    assert site.visits == []


async def test_what_the_truth_allows_inside_is_asked(site):
    site.pages["/feed"] = FEED
    url = f"http://news.example:{site.server_port}/feed"
    settings = ReadSettings(allow_inside=(f"127.0.0.1:{site.server_port}",))
    assert (await fetch(url, settings, looks_up("127.0.0.1"))).body == FEED


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
    async with aclosing(Fetcher(looks_up("127.0.0.1"))) as fetcher:
        settings = ReadSettings(allow_inside=("news.example",))
        await fetcher.fetch(site.url("/feed"), settings)
        away = f"http://news.example:{site.server_port}/away"
        with pytest.raises(FeedError, match="inside_address"):
            await fetcher.fetch(away, settings)
    assert len(site.of("/feed")) == 1


async def test_where_a_feed_moved_to_is_judged_each_time(site):
    site.pages["/feed"] = FEED
    assert str(await fails("http://news.example/", moved_to=site.url("/feed"))) == "inside_address"
