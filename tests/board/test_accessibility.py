"""axe-core finds nothing on any page, in both themes, on a desk and on a phone."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from support.board_examples import make_small
from support.board_pages import make_pages
from support.rig.board_site import BoardSite
from support.rig.browser import DESK, PHONE, Tab, needs_chromium

pytestmark = needs_chromium
Tabs = Callable[..., Tab]
AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text(encoding="utf-8")
PATHS = [*make_pages(make_small()), "/alerts/one", "/?group=tag", "/?wall=1", "/announcements?session=1"]
RUN = """async () => (await axe.run(document, {
  runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
})).violations.map(
  (one) => `${one.id}: ${one.help}: ${one.nodes.slice(0, 3).map(node => node.html).join(" | ")}`
)"""


@pytest.fixture(scope="module")
def site() -> Iterator[BoardSite]:
    with BoardSite(make_small()) as site:
        yield site


def violations(page: Page) -> list[str]:
    page.evaluate(f"{AXE}; 0")
    return page.evaluate(RUN)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PATHS)
def test_axe_finds_nothing(site: BoardSite, new_tab: Tabs, path: str, scheme: str):
    tab = new_tab(color_scheme=scheme)
    page = tab.open(site.url + path, live=path not in ("/public", "/missing"))
    for size in (DESK, PHONE):
        page.set_viewport_size(size)
        assert violations(page) == []


def test_axe_finds_nothing_in_the_list_of_keys_nor_on_a_page_that_is_not_current(new_tab: Tabs):
    with BoardSite(make_small()) as site:
        page = new_tab().open(site.url)
        page.keyboard.press("?")
        assert violations(page) == []
        page.keyboard.press("Escape")
        site.stop()
        page.wait_for_selector("body.stale")
        assert violations(page) == []


def test_axe_sees_what_is_wrong(site: BoardSite, new_tab: Tabs):
    """The proof that the tests above would fail."""
    page = new_tab().open(site.url)
    page.evaluate("document.querySelector('input').removeAttribute('aria-label')")
    page.evaluate("document.querySelector('input').removeAttribute('placeholder')")
    assert [each.partition(":")[0] for each in violations(page)] == ["label"]


def test_only_the_headline_is_read_out_when_services_change(site: BoardSite, new_tab: Tabs):
    page = new_tab().open(site.url)
    live = page.locator("main [aria-live], main [role=status], main [role=alert], main [role=log]")
    assert live.evaluate_all("all => all.map(each => each.id)") == ["headline"]
