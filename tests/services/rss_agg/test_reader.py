import time
from contextlib import aclosing

import pytest

from services.rss_agg.fetch import Fetcher
from services.rss_agg.metrics import RssMetrics
from services.rss_agg.parse_process import ParseProcess
from services.rss_agg.reader import FeedReader, should_read
from services.rss_agg.settings import Feed, ReadSettings, RssSettings
from services.rss_agg.store import FeedState, KnownFeed
from support.fixtures import opened
from support.rig import HOST
from support.rig.feed_site import Page, Site, to

site, target = opened(Site), opened(Site)


@pytest.mark.parametrize(
    ("state", "now", "answer"),
    [
        (FeedState(), 1000.0, True),
        (FeedState(read_at=1000.0), 1100.0, False),  # by another instance, a moment ago
        (FeedState(read_at=1000.0), 1150.0, True),
        (FeedState(read_at=1000.0, failures=3, error="404"), 1150.0, False),
        (FeedState(read_at=1000.0, failures=3, error="404"), 1600.0, True),
        (FeedState(read_at=1000.0, not_before=5000.0), 4999.0, False),
        (FeedState(read_at=1000.0, not_before=5000.0), 5000.0, True),
        (FeedState(read_at=1000.0, gone_at=1000.0, error="410"), 9e9, False),
    ],
)
def test_a_feed_is_asked_once_a_period_whoever_asks_and_never_against_its_word(state, now, answer):
    assert should_read(state, 300.0, now) is answer


class Store:
    """Keeps the state of one feed."""

    def __init__(self, state):
        self.state = state

    async def load_states(self, _feeds):
        return [self.state]

    async def save_state(self, _known, state, _settings):
        self.state = state


@pytest.mark.parametrize(
    ("path", "has_moved", "pause_sec"),
    [("/feed", False, 0.0), ("/busy", False, 600.0), ("/feed", True, 600.0)],
)
async def test_a_pause_that_the_target_of_a_redirect_asks_for_is_not_one_of_the_feeds_host(
    site, target, path, has_moved, pause_sec
):
    busy = Page(status=503, headers={"Retry-After": "600"})
    site.pages |= {"/feed": to(target.url("/busy")), "/busy": busy}
    target.pages["/busy"] = busy
    feed = Feed(url=site.url(path), name="a")
    store = Store(FeedState(moved_to=target.url("/busy") if has_moved else ""))
    settings = RssSettings(settings=ReadSettings(allow_inside=(HOST,)))
    async with aclosing(Fetcher()) as fetcher:
        reader = FeedReader(fetcher, ParseProcess(), RssMetrics())
        state, paused_sec = await reader.read(KnownFeed(feed, "scope", "address"), settings, store)
    assert (state.error, paused_sec) == ("503", pause_sec)
    assert state.not_before > time.time() + 500  # of the feed itself
    assert store.state == state
