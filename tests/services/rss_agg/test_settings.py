import pytest

from marketswarm.agent.service_config import require_config
from marketswarm.exit import Exit
from marketswarm.truth import Heartbeat, Service
from services.rss_agg.settings import RssSettings


def section(*endpoints, **settings):
    return Service(
        heartbeat=Heartbeat(channel="rss_agg:heartbeat"), endpoints=list(endpoints), settings=settings
    )


def configure(*endpoints, **settings):
    return require_config(RssSettings, "rss_agg", section(*endpoints, **settings))


def test_no_endpoints_are_fine():
    assert configure().endpoints == ()


def test_a_feed_is_read_every_poll_sec_unless_it_says_so_itself():
    found = configure(
        {"url": "http://a", "name": "a"}, {"url": "http://b", "name": "b", "every_sec": 5}, poll_sec=30
    )
    assert [found.every_sec(feed) for feed in found.endpoints] == [30, 5]


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ({"name": "a"}, "url: missing"),
        ({"url": "http://a"}, "name: missing"),
        ({"url": "file:///etc/passwd", "name": "a"}, "url: this is not an http or https URL"),
        ({"url": "/etc/passwd", "name": "a"}, "url: this is not an http or https URL"),
        ({"url": "http://", "name": "a"}, "url: this is not an http or https URL"),
        ({"url": "http://[passwd", "name": "a"}, "url: this is not an http or https URL"),
        ({"url": "http://a:0", "name": "a"}, "url: this is not an http or https URL"),
        ({"url": "http://a", "name": "a", "every_sec": 0}, "every_sec: 0 is not more than 0"),
        ({"url": "http://a", "name": "a", "every_sec": -5}, "every_sec: -5 is not more than 0"),
        ({"url": "http://a", "name": "a", "every_sec": True}, "every_sec: true is not a number"),
        ({"url": "http://a", "name": "a", "every_sec": 1e6}, "every_sec: 1000000.0 is more than 86400"),
    ],
)
def test_a_mistake_in_an_endpoint_is_named_with_what_would_be_right(endpoint, said):
    with pytest.raises(Exit) as caught:
        configure({"url": "http://good", "name": "good"}, endpoint)
    assert caught.value.message.startswith("services.rss_agg.endpoints")
    assert "passwd" not in caught.value.message
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"poll_sec": "soon"}, "poll_sec: text is not a number"),
        ({"host_spacing_sec": -1}, "host_spacing_sec: -1 is less than 0"),
        ({"at_once": 0}, "at_once: 0 is less than 1"),
        ({"max_bytes": 1.5}, "max_bytes: 1.5 is not a whole number"),
        ({"allow_inside": "127.0.0.1"}, "allow_inside: text is not a list"),
        ({"allow_inside": ["http://x"]}, "allow_inside[0]: 'http://x' is not a host"),
        ({"allow_inside": [5]}, "allow_inside[0]: 5 is not text"),
    ],
)
def test_a_mistake_in_the_settings_is_named_with_what_would_be_right(settings, said):
    with pytest.raises(Exit) as caught:
        configure(**settings)
    assert f"services.rss_agg.settings.{said}" in caught.value.message


@pytest.mark.parametrize("same", ["name", "url"])
def test_no_two_feeds_have_one_name_or_one_url(same):
    endpoints = [{"url": f"http://{n}", "name": str(n)} for n in range(3)]
    endpoints[2][same] = endpoints[0][same]
    with pytest.raises(Exit, match=rf"endpoints\[2\]\.{same}: the same as that of endpoints\[0\]"):
        configure(*endpoints)


def test_a_url_that_holds_a_secret_stands_in_the_environment():
    (feed,) = configure({"url": "env:FEED", "name": "a"}).endpoints
    assert feed.is_secret


def test_a_pause_of_nothing_between_two_readings_of_a_host_is_a_choice():
    assert configure(host_spacing_sec=0).settings.host_spacing_sec == 0
