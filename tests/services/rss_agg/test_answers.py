import pytest

from services.rss_agg.answers import (
    LONGEST_RETRY_SEC,
    Validators,
    origin,
    retry_after_sec,
    shown,
    target,
    validators,
)

NOON = 1_763_640_000.0  # Thu, 20 Nov 2025 12:00:00 GMT


def test_what_a_server_validates_with_is_shown_to_it_again():
    found = validators({"etag": '"a"', "last-modified": "yesterday"})
    assert found.headers() == {"If-None-Match": '"a"', "If-Modified-Since": "yesterday"}
    assert validators({}).headers() == {}


@pytest.mark.parametrize("etag", ["x" * 501, "a\nb", "ü", "\x00"])
def test_a_validator_that_is_none_was_not_said(etag):
    assert validators({"etag": etag}) == Validators()


@pytest.mark.parametrize(
    ("said", "sec"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("99999999999", LONGEST_RETRY_SEC),
        ("Thu, 20 Nov 2025 12:02:00 GMT", 120.0),
        ("Thu, 20 Nov 2025 12:02:00", 120.0),
        ("Thu, 20 Nov 2025 11:00:00 GMT", 0.0),
        ("Thu, 20 Nov 9999 11:00:00 GMT", LONGEST_RETRY_SEC),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("٣", None),
        ("Thu, 99 Nov 2025 12:02:00 GMT", None),
    ],
)
def test_a_server_says_in_seconds_or_by_date_when_to_come_again(said, sec):
    assert retry_after_sec({"retry-after": said}, NOON) == sec


@pytest.mark.parametrize(
    ("location", "to"),
    [
        ("/b", "https://a/b"),
        ("http://b:81/c#top", "http://b:81/c"),
        ("//b/c", "https://b/c"),
        ("file:///etc/passwd", None),
        ("javascript:alert(1)", None),
        ("http://user:pw@b/", None),
        ("http://", None),
        ("http://[", None),
        ("http://b:0/", None),
        ("http://b/" + "x" * 2000, None),
        ("http://b/\x01", None),
    ],
)
def test_a_redirect_leads_to_a_web_address_or_nowhere(location, to):
    assert target("https://a/feed", location) == to


def test_a_url_in_a_log_shows_no_secret():
    assert shown("https://me:pw@a:8443/feed?token=5#x") == "https://a:8443/feed"
    assert shown("http://[") == "?"


def test_a_host_is_bothered_at_one_port():
    assert origin("http://A./x") == origin("http://a:80/y") == "a:80"
    assert origin("https://a/") == "a:443"
    assert origin("nonsense") == origin("http://[") == ""
