"""What a browser loads to see the fleet for the first time, and when it sees it."""

import gzip
from collections.abc import Callable

import pytest

from support.board_examples import make_large, make_well
from support.rig.board_site import BoardSite
from support.rig.browser import Tab, needs_chromium

pytestmark = needs_chromium
Tabs = Callable[..., Tab]
MOST_BYTES = 60_000
DATA = "/api/v1/"


@pytest.mark.parametrize("make", [make_well, lambda: make_large(1000)], ids=["shipped", "thousand"])
def test_the_first_load_is_small(make: Callable, new_tab: Tabs):
    with BoardSite(make()) as site:
        tab = new_tab()
        tab.open(site.url)
        files = {each.url: each for each in tab.requests if DATA not in each.url}
        sizes = {url.rpartition("/")[2]: packed(one.response().body()) for url, one in files.items()}
    assert {"board.css", "fleet.js", "stream.js", "words.js", "keys.js"} <= set(sizes)
    assert sum(sizes.values()) <= MOST_BYTES, sizes


def packed(body: bytes) -> int:
    """How many bytes it is as the board sends it, which packs pages less than files."""
    return len(gzip.compress(body, 4))


def test_nothing_is_asked_of_anybody_else_nor_twice(new_tab: Tabs):
    with BoardSite(make_well()) as site:
        tab = new_tab()
        tab.open(site.url)
        urls = [each.url for each in tab.requests]
    assert all(url.startswith(site.url) for url in urls)
    assert len(urls) == len(set(urls))
