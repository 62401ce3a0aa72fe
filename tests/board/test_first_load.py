"""What a browser loads to see the fleet for the first time, and when it sees it."""

import gzip

from support.board_examples import make_large
from support.rig.board_site import BoardSite
from support.rig.browser import Tabs, needs_chromium

pytestmark = needs_chromium
MOST_BYTES = 60_000
DATA = "/api/v1/"


def test_the_first_load_is_small_and_asks_nobody_else_and_nothing_twice(new_tab: Tabs):
    with BoardSite(make_large(1000)) as site:
        tab = new_tab()
        tab.open(site.url)
        urls = [each.url for each in tab.requests]
        assert all(url.startswith(site.url) for url in urls)
        assert len(urls) == len(set(urls))
        files = {each.url: each for each in tab.requests if DATA not in each.url}
        sizes = {url.rpartition("/")[2]: packed(one.response().body()) for url, one in files.items()}
    assert {"board.css", "fleet.js", "page.js", "stream.js", "morph.js", "times.js", "keys.js"} <= set(sizes)
    assert sum(sizes.values()) <= MOST_BYTES, sizes


def packed(body: bytes) -> int:
    """How many bytes it is as the board sends it, which packs pages less than files."""
    return len(gzip.compress(body, 4))
