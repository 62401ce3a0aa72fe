"""A browser on the board of a real fleet."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from support.rig.browser import Tab, needs_chromium
from support.scenes.board import BoardFleet, open_board
from support.waiting import until

pytestmark = needs_chromium
Tabs = Callable[..., Tab]
WATCH = """([svc]) => {
  window.turned = [];
  let shown = "up";
  new MutationObserver(() => {
    const state = document.querySelector(`#rows tr[data-svc="${svc}"]`)?.className.split(" ")[0];
    if (state && state !== shown) window.turned.push([shown = state, Date.now() / 1000]);
  }).observe(document.getElementById("rows"), { subtree: true, childList: true, attributes: true });
}"""


@pytest.fixture
def board(tmp_path: Path) -> Iterator[BoardFleet]:
    with open_board(tmp_path) as board:
        yield board


def row(page: Page, svc: str):
    return page.locator(f'#rows tr[data-svc="{svc}"]')


def test_the_row_of_a_service_that_dies_turns_within_a_second_of_its_event(board: BoardFleet, new_tab: Tabs):
    page = new_tab().open(board.url)
    expect(page.locator("h1")).to_have_text("all 4 up")
    page.evaluate(WATCH, ["shop"])
    board.beater.stop("shop")
    expect(row(page, "shop")).to_contain_text("down", timeout=15_000)
    board.beater.resume("shop")
    expect(row(page, "shop")).to_contain_text("up", timeout=15_000)
    turned = page.evaluate("window.turned")
    until(lambda: len(board.fleet.alerts.of()) >= 2, 5, "both events")
    assert [state for state, _ in turned] == ["down", "up"]
    for (_, at), event in zip(turned, board.fleet.alerts.of(), strict=True):
        assert 0 <= at - event["ts"] < 1, (turned, event)


def test_every_page_is_about_the_fleet(board: BoardFleet, new_tab: Tabs):
    tab = new_tab()
    board.beater.stop("shop", "web")
    until(lambda: board.state("shop") == board.state("web") == "down", 15, "both to be down")
    page = tab.open(f"{board.url}/incidents")
    expect(page.locator(".card")).to_have_count(1)
    expect(page.locator(".card")).to_contain_text("1 that needs it is down, too")
    page.get_by_role("link", name="web").click()
    expect(page.locator("main .head")).to_contain_text("needs shop, which is down")
    expect(page.locator("main")).to_contain_text('"depends_on"')
    page.get_by_role("link", name="Alerts").click()
    page.locator("tr", has_text="web is down").locator("a").first.click()
    expect(page.locator("pre")).to_contain_text("heartbeat_miss")
    for name in ("Topology", "Truth", "Notifications", "Fleet"):
        page.get_by_role("link", name=name, exact=True).click()
        page.wait_for_selector("body.live")
        expect(page.get_by_role("link", name=name, exact=True)).to_have_attribute("aria-current", "page")


def test_a_board_that_is_killed_is_missed_at_once_and_its_successor_is_followed(
    board: BoardFleet, new_tab: Tabs
):
    tab = new_tab()
    page = tab.open(board.url)
    board.fleet["board"].kill()
    # by its own clock the page would miss it after 5 s at the earliest: the lost connection tells
    expect(page.get_by_role("status").first).to_contain_text("The board does not answer", timeout=4000)
    board.beater.stop("web")
    board.fleet.start("board")
    page.wait_for_selector("body.live", timeout=30_000)
    expect(row(page, "web")).to_contain_text("down", timeout=15_000)
    tab.forget_errors(503)  # a board that has not read the fleet yet says so, and the page asks again


def test_offline_and_back_shows_what_happened_meanwhile(board: BoardFleet, new_tab: Tabs):
    tab = new_tab()
    page = tab.open(board.url)
    tab.context.set_offline(True)
    expect(page.get_by_role("status").first).to_contain_text("offline")
    board.beater.stop("web")
    until(lambda: board.state("web") == "down", 15, "web to be down")
    expect(row(page, "web")).to_contain_text("up")
    tab.context.set_offline(False)
    page.wait_for_selector("body.live", timeout=15_000)
    expect(row(page, "web")).to_contain_text("down")


def test_a_lost_bus_is_told(board: BoardFleet, new_tab: Tabs):
    page = new_tab().open(board.url)
    board.fleet.market.kill()
    expect(page.locator("#parts .down")).to_have_text("market-redis", timeout=15_000)
    expect(page.locator("#parts")).to_contain_text("refused")
