"""The page of the fleet in a browser: what it draws, finds, and does by keys."""

import re

import pytest
from playwright.sync_api import Page, Route, expect

from marketswarm.status.service_rows import ServiceState
from notifier.router.incident import Decision
from services.board.fleet.snapshot import LastRunView
from support.board_examples import make_large, make_service, make_small, make_snapshot, make_well
from support.fixtures import opened
from support.rig.board_site import BoardSite
from support.rig.browser import PHONE, Tabs, needs_chromium

pytestmark = needs_chromium

ROWS = "#rows tr[data-svc]"
CUT = """[...document.querySelectorAll("nav, .scroll:not(.picture)")]
  .filter((one) => one.scrollWidth > one.clientWidth + 1)
  .map((one) => one.outerHTML.slice(0, 200))"""
RING = """(() => {
  const one = document.activeElement;
  const has = (each) => each !== null && getComputedStyle(each).outlineStyle !== "none";
  return [one.outerHTML.slice(0, 200), one === document.body || has(one) || has(one.closest("tr"))];
})()"""

SAYS_CUT = """[...document.querySelectorAll("#rows .says")]
  .filter((one) => one.scrollWidth > one.clientWidth + 1 || one.scrollHeight > one.clientHeight + 1)
  .map((one) => one.textContent)"""
NEAR_SIGHT = 90
LONG = "2 of 14 feeds answer with 503 since 22:30, one has a certificate that ended yesterday; " * 2
LARGEST = """[...document.querySelectorAll("#rows tr:first-child > *")]
  .sort((a, b) => b.clientWidth - a.clientWidth)[0].className"""

small = opened(lambda: BoardSite(make_small()))
large = opened(lambda: BoardSite(make_large(1000)))


def names(page: Page) -> list[str]:
    """The services in the page, from the top, once it shows what was asked for."""
    page.locator("#main:not([aria-busy])").wait_for()
    return page.locator(ROWS).evaluate_all("rows => rows.map(row => row.dataset.svc)")


def test_a_page_that_is_open_becomes_what_the_server_draws_for_a_new_one(new_tab: Tabs):
    services = [make_service(f"of-{one}", ServiceState.DOWN, held=one) for one in Decision]
    run = LastRunView(ok=False, text="exit 3")
    services += [
        make_service("new", ServiceState.DOWN, outage="never heard", outage_at=None),
        make_service("beats", paused=True),
        make_service("ran", ServiceState.FAILED, last_run=run, status="stopping", detail="exit 3"),
    ]
    with BoardSite(make_small()) as site:
        drawn = new_tab().open(site.url)
        site.move(make_snapshot(*services))
        expect(drawn.locator(ROWS)).to_have_count(len(services))
        plain = new_tab(java_script_enabled=False).open(site.url, live=False)
        for one in services:
            rows = [page.locator(f'{ROWS}[data-svc="{one.svc}"]').inner_html() for page in (plain, drawn)]
            assert without_time(rows[0]) == without_time(rows[1])
            assert one.hold is None or one.hold in rows[1]


def without_time(html: str) -> str:
    """A row without what differs from one second to the next."""
    html = re.sub(r"\d+ s</td>", "… s</td>", html)
    html = re.sub(r"\d+ 10h\d+", "…", html)
    return re.sub(r"(unknown|down) [\d]+ (s|min)", r"\1 …", html)


def test_the_worst_is_on_top_and_the_headline_counts(small: BoardSite, new_tab: Tabs):
    page = new_tab().open(small.url)
    expect(page.locator("h1.down")).to_have_text("2 of 11 down, 1 failed, 1 unwatchable, 1 silent, 1 unknown")
    assert names(page)[:3] == ["rss_agg", "vexy_ai", "nightly-backup"]
    assert page.title().startswith("2 of 11 down")
    expect(page.locator("#parts")).to_contain_text("not heard by the healer: deaf")


def test_search_filter_order_and_groups_are_in_the_address(small: BoardSite, new_tab: Tabs):
    page = new_tab().open(small.url)
    page.keyboard.press("/")
    page.keyboard.type("feeds")
    expect(page.locator(ROWS)).to_have_count(1)
    expect(page.locator("#found")).to_have_text("1 of 11")
    page.keyboard.press("Escape")
    page.keyboard.press("p")
    expect(page.locator(ROWS)).to_have_count(6)
    page.get_by_label("Tag").select_option("market")
    assert names(page) == ["quotes", "prices"]
    page.get_by_label("Group").select_option("bus")
    expect(page.locator("#rows tr.group")).to_have_text(["market-redis"])
    page.reload()
    page.wait_for_selector("body.live")
    assert names(page) == ["quotes", "prices"]
    page.get_by_label("Search services").fill("nothing is like this")
    expect(page.get_by_text("No service is like that.")).to_be_visible()


def test_by_host_is_a_link_that_needs_no_script_and_follows_what_happens(new_tab: Tabs):
    groups = "#rows tr.group"
    with BoardSite(make_small()) as site:
        plain = new_tab(java_script_enabled=False).open(f"{site.url}/?by=host", live=False)
        drawn = new_tab().open(site.url)
        drawn.get_by_role("link", name="By host").click()
        expect(drawn).to_have_url(re.compile(r"\?group=host$"))
        heads = ["db1", "no known host", "web1, web2", "web1"]
        for page in (plain, drawn):
            expect(page.locator(groups)).to_have_text(heads)
        site.change("mesh", hosts=("web3",))
        expect(drawn.locator(groups)).to_have_text([*heads[:3], "web3"])
        drawn.get_by_role("link", name="Without groups").click()
        expect(drawn.locator(groups)).to_have_count(0)
        plain.get_by_role("link", name="Without groups").click()
        expect(plain.locator(groups)).to_have_count(0)
        plain.get_by_role("link", name="By host").click()
        expect(plain.locator(groups)).to_have_text([*heads[:3], "web3"])


def test_what_was_typed_before_the_script_came_is_in_the_address_when_it_comes(
    small: BoardSite, new_tab: Tabs
):
    page, held = new_tab().page, list[Route]()
    page.route("**/fleet.js", lambda route: held.append(route))
    page.goto(small.url, wait_until="commit")
    page.get_by_label("Search services").fill("feeds")
    page.get_by_label("Order").select_option("name")
    held[0].continue_()
    page.wait_for_selector("body.live")
    expect(page).to_have_url(re.compile(r"\?text=feeds&sort=name$"))
    expect(page.locator("th[aria-sort]")).to_have_text(["service"])
    expect(page.locator(ROWS)).to_have_count(1)


def test_a_column_head_orders(small: BoardSite, new_tab: Tabs):
    page = new_tab().open(small.url)
    page.get_by_role("link", name="service", exact=True).click()
    assert names(page) == sorted(names(page))
    expect(page.locator("th[aria-sort]")).to_have_text(["service"])
    page.get_by_role("link", name="restarts").click()
    assert names(page)[0] == "sentinel"


def test_the_keys_go_down_and_open(small: BoardSite, new_tab: Tabs):
    page = new_tab().open(small.url)
    for key in "jjk":
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.textContent") == "rss_agg"
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("Enter")
    page.wait_for_url("**/services/rss_agg")
    expect(page.locator("h1")).to_have_text("rss_agg")


def test_a_wall_shows_no_controls_and_escape_leaves_it(small: BoardSite, new_tab: Tabs):
    page = new_tab().open(small.url)
    page.keyboard.press("w")
    expect(page.get_by_label("Search services")).to_be_hidden()
    assert "wall=1" in page.url
    page.reload()
    page.wait_for_selector("body.live.wall")
    page.keyboard.press("Escape")
    expect(page.get_by_label("Search services")).to_be_visible()


def test_a_wall_of_a_large_fleet_has_room_for_what_is_not_up(large: BoardSite, new_tab: Tabs):
    page = new_tab().open(f"{large.url}/?wall=1")
    expect(page.locator(ROWS)).to_have_count(7)
    expect(page.get_by_text("993 others are up.")).to_be_visible()


def test_of_a_thousand_services_only_those_near_the_sight_are_in_the_page(large: BoardSite, new_tab: Tabs):
    page = new_tab().open(large.url)
    expect(page.locator("#found")).to_have_text("1000 of 1000")
    assert page.locator(ROWS).count() == 100, "as without a script"
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(page.locator(f'{ROWS}[data-svc="web-00999"]')).to_be_in_viewport()
    assert page.locator(ROWS).count() <= NEAR_SIGHT
    assert page.locator("#fleet").get_attribute("aria-rowcount") == "1001"
    assert page.locator('[data-svc="web-00999"]').get_attribute("aria-rowindex") == "1001"


@pytest.mark.parametrize("width", [1920, 1280, 900, 390])
def test_what_a_service_says_is_never_cut_and_the_last_hour_is_the_largest_in_a_row(
    width: int, new_tab: Tabs
):
    with BoardSite(make_snapshot(make_service("feeds", status="degraded", detail=LONG))) as site:
        page = new_tab(viewport={"width": width, "height": 800}).open(site.url)
        expect(page.locator("#rows .says")).to_be_visible()
        assert page.evaluate(SAYS_CUT) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert width < 620 or page.evaluate(LARGEST) == "h"


def test_in_a_large_fleet_the_row_that_is_pointed_at_says_all(large: BoardSite, new_tab: Tabs):
    tab = new_tab(viewport={"width": 1280, "height": 800})
    page = tab.open(large.url)
    large.change("web-00999", status="degraded", detail=LONG)
    page.locator("input[type=search]").fill("web-0")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    row = page.locator(f'{ROWS}[data-svc="web-00999"]')
    expect(row.locator(".says")).to_contain_text("2 of 14 feeds")
    before = row.bounding_box()
    row.hover()
    assert row.locator(".says").evaluate("(one) => getComputedStyle(one).whiteSpace") == "normal"
    assert row.bounding_box() == before, "no other row moves"


def test_the_keys_go_through_a_thousand(large: BoardSite, new_tab: Tabs):
    page = new_tab().open(large.url)
    for _ in range(60):
        page.keyboard.press("j")
    focused = page.locator(ROWS).filter(has=page.locator("a:focus"))
    expect(focused).to_be_in_viewport()
    assert focused.get_attribute("aria-rowindex") == "61"


@pytest.mark.nightly(
    "test_of_a_thousand_services_only_those_near_the_sight_are_in_the_page keeps a page small"
)
@pytest.mark.parametrize("count", [1000, 10_000])
def test_a_search_in_a_large_fleet_costs_a_few_frames(count: int, new_tab: Tabs):
    """The time of a processor counts: the machine may be busy with other tests."""
    with BoardSite(make_large(count)) as site:
        tab = new_tab()
        page = tab.open(site.url, within_sec=60)
        meter = tab.context.new_cdp_session(page)
        meter.send("Performance.enable", {"timeDomain": "threadTicks"})

        def used_sec() -> float:
            found = meter.send("Performance.getMetrics")["metrics"]
            return next(each["value"] for each in found if each["name"] == "TaskDuration")

        begun = used_sec()
        page.evaluate(
            """async () => {
              const search = document.querySelector("input[type=search]");
              for (const text of ["w", "we", "web", "web-00", "", "7", "77", ""]) {
                search.value = text;
                search.dispatchEvent(new InputEvent("input", { bubbles: true }));
                await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
              }
            }"""
        )
        assert (used_sec() - begun) / 8 < 0.25


def test_without_javascript_everything_can_be_read_and_asked(large: BoardSite, new_tab: Tabs):
    page = new_tab(java_script_enabled=False).open(large.url, live=False)
    expect(page.locator(ROWS)).to_have_count(100)
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_text("101 to 200 of 1000")).to_be_visible()
    page.get_by_label("State").select_option("down")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(ROWS)).to_have_count(7)
    page.get_by_role("link", name="market-00003").click()
    expect(page.locator("h1")).to_have_text("market-00003")


def test_nothing_is_wider_than_a_phone(small: BoardSite, new_tab: Tabs):
    tab = new_tab(viewport=PHONE)
    for path in (
        "/",
        "/incidents",
        "/alerts",
        "/topology",
        "/truth",
        "/notifications",
        "/services/rss_agg",
        "/public",
        "/announcements?session=1",
    ):
        page = tab.open(small.url + path, live=path != "/public")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert page.evaluate(CUT) == [], path


def test_the_ring_of_the_focus_is_seen_on_all_that_can_have_it(small: BoardSite, new_tab: Tabs):
    tab = new_tab()
    for path in ("/", "/alerts", "/topology", "/truth"):
        page = tab.open(small.url + path)
        for _ in range(14):
            page.keyboard.press("Tab")
            where, has_ring = page.evaluate(RING)
            assert has_ring, (path, where)


def test_less_motion_is_none(small: BoardSite, new_tab: Tabs):
    page = new_tab(reduced_motion="reduce").open(small.url)
    small.change("mesh", state=ServiceState.DOWN)
    expect(page.locator('[data-svc="mesh"].down')).to_be_visible()
    assert page.evaluate("document.getAnimations().length") == 0


def test_all_is_well_is_said_plainly(new_tab: Tabs):
    with BoardSite(make_well()) as site:
        page = new_tab().open(site.url)
        expect(page.locator("h1")).to_have_text("all 7 up")
        assert page.locator("#icon").get_attribute("href").endswith("good.svg")
