"""A browser on the board of a real fleet."""

from playwright.sync_api import Page, expect

from support.rig.browser import Tabs, needs_chromium
from support.scenes.board import BoardFleet
from support.waiting import until

pytestmark = needs_chromium


def row(page: Page, svc: str):
    return page.locator(f'#rows tr[data-svc="{svc}"]')


def test_the_row_of_a_service_turns_when_it_dies_and_when_it_is_back(board: BoardFleet, new_tab: Tabs):
    page = new_tab().open(board.url)
    expect(page.locator("h1")).to_have_text("all 4 up")
    board.beater.stop("shop")
    expect(row(page, "shop")).to_contain_text("down")
    board.beater.resume("shop")
    expect(row(page, "shop")).to_contain_text("up")


def test_every_page_is_about_the_fleet(board: BoardFleet, new_tab: Tabs):
    tab = new_tab()
    board.beater.stop("shop", "web")
    until(lambda: board.state("shop") == board.state("web") == "down", what="both to be down")
    page = tab.open(f"{board.url}/incidents")
    expect(page.locator(".card")).to_have_count(1)
    expect(page.locator(".card")).to_contain_text("1 that needs it is down, too")
    page.get_by_role("link", name="web").click()
    expect(page.locator("main .head")).to_contain_text("needs shop, which is down")
    expect(page.locator("main")).to_contain_text('"depends_on"')
    page.get_by_role("link", name="Alerts").click()
    page.locator("tr", has_text="web is down").locator("a").first.click()
    expect(page.locator("pre")).to_contain_text("heartbeat_miss")
    for name in ("Truth", "Notifications", "Fleet"):
        page.get_by_role("link", name=name, exact=True).click()
        page.wait_for_selector("body.live")
        expect(page.get_by_role("link", name=name, exact=True)).to_have_attribute("aria-current", "page")
