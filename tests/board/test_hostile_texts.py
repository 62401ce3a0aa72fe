"""Names, details, reasons and documents full of markup have no effect on any page."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from services.board.snapshot import ServiceState
from support.board_examples import HOSTILE, make_hostile, make_small
from support.board_pages import make_pages
from support.rig.board_site import BoardSite
from support.rig.browser import Tab, needs_chromium

pytestmark = needs_chromium
Tabs = Callable[..., Tab]
PATHS = [*make_pages(make_small()), "/alerts/one", "/?wall=1", "/?group=tag", "/announcements?session=1"]


@pytest.fixture
def site() -> Iterator[BoardSite]:
    with BoardSite(make_hostile()) as site:
        yield site


@pytest.mark.parametrize("path", PATHS)
def test_markup_is_text(site: BoardSite, new_tab: Tabs, path: str):
    is_live = path not in ("/public", "/missing")
    page = new_tab().open(site.url + path, live=is_live)
    assert page.evaluate("window.hurt") is None
    assert (
        page.locator(
            "main script, main img:not([src^='/badge/']), [onmouseover], [onload], [onerror], [style]"
        ).count()
        == 0
    )
    links = page.locator("a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    assert all(link.startswith(("/", "#", "?")) and not link.startswith("//") for link in links), links
    for element in page.locator("main *:visible").all()[:40]:
        element.dispatch_event("mouseover")
    assert page.evaluate("window.hurt") is None


def test_a_change_full_of_markup_is_text(site: BoardSite, new_tab: Tabs):
    page = new_tab().open(site.url)
    for text in HOSTILE:
        site.change(HOSTILE[0], state=ServiceState.DOWN, detail=text, cause=text, acked_by=text, since=None)
        expect(page.locator("#rows tr").first.locator(".says")).to_contain_text(
            text.replace("\x1b", "").strip()[:9]
        )
    assert page.evaluate("window.hurt") is None
    assert page.locator("main script, main img").count() == 0
