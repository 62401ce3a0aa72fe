"""Names, details, reasons and documents full of markup have no effect on any page."""

from playwright.sync_api import expect

from marketswarm.status.service_rows import ServiceState
from support.board_examples import HOSTILE, make_hostile, make_small
from support.board_pages import make_pages
from support.rig.board_site import BoardSite
from support.rig.browser import Tabs, needs_chromium

pytestmark = needs_chromium
PATHS = [*make_pages(make_small()), "/alerts/one", "/?wall=1", "/?group=tag", "/announcements?session=1"]
OURS = "main script, main img:not([src^='/badge/']), [onmouseover], [onload], [onerror], [style]"
HOVER = """() => {
  for (const one of document.querySelectorAll("main *")) one.dispatchEvent(new MouseEvent("mouseover"));
}"""


def test_markup_is_text_on_every_page(new_tab: Tabs):
    tab = new_tab()
    with BoardSite(make_hostile()) as site:
        for path in PATHS:
            page = tab.open(site.url + path, live=path not in ("/public", "/missing"))
            assert page.locator(OURS).count() == 0, path
            links = page.locator("a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
            foreign = [link for link in links if not link.startswith(("/", "#", "?")) or link[:2] == "//"]
            assert foreign == [], path
            page.evaluate(HOVER)
            assert page.evaluate("window.hurt") is None, path


def test_a_change_full_of_markup_is_text(new_tab: Tabs):
    with BoardSite(make_hostile()) as site:
        page = new_tab().open(site.url)
        for text in HOSTILE:
            site.change(
                HOSTILE[0],
                state=ServiceState.DOWN,
                **dict.fromkeys(("outage", "failure", "detail", "cause", "acked_by"), text),
            )
            expect(page.locator("#rows tr").first.locator(".says")).to_contain_text(
                text.replace("\x1b", "").strip()[:9]
            )
        assert page.evaluate("window.hurt") is None
        assert page.locator("main script, main img").count() == 0
