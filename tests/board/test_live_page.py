"""A page that is open: it follows the fleet, says at once when it can't, and catches up."""

import re
from dataclasses import replace

import pytest
from playwright.sync_api import Page, Route, expect

from marketswarm.status.service_rows import ServiceState
from services.board.fleet.snapshot import BusSnapshot
from support.board_examples import make_service, make_well
from support.fixtures import opened
from support.rig.board_site import BoardSite
from support.rig.browser import Tabs, needs_chromium
from support.waiting import until

pytestmark = needs_chromium

site = opened(lambda: BoardSite(make_well()))


COUNT_STREAMS = """let streams = 0;
window.EventSource = class extends EventSource {
  constructor(url) {
    super(url);
    this.addEventListener("open", () => { document.documentElement.dataset.streams = ++streams; });
  }
}"""
"""Counts in an attribute how often a stream was opened."""


NOTE_LINKS = """() => {
  window.links = [];
  new MutationObserver(() => window.links.push(document.body.dataset.link)).observe(
    document.body, { attributeFilter: ["data-link"] });
}"""
"""Notes in `window.links` whether the page was current, each time that it changed."""


NOTE_CLASSES = """() => {
  window.classes = [];
  const look = () => window.classes.push(document.querySelector('#rows tr[data-svc="notifier"]').className);
  new MutationObserver(look).observe(
    document.getElementById("rows"), { subtree: true, childList: true, attributeFilter: ["class"] });
}"""
"""Notes in `window.classes` the classes of a row, each time that any row changed."""


SHORTEN_WAITS = """const wait = window.setTimeout;
window.setTimeout = (run, ms, ...more) => wait(run, ms >= 10_000 ? ms / 50 : ms, ...more);"""
"""What waits for 10 s or more waits for a fiftieth of it."""


HIDE = """window.hide = (state) => {
  Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
  dispatchEvent(new Event("visibilitychange"));
}"""
"""Gives a page `hide("hidden")`, which hides it, and `hide("visible")`, which shows it again."""


SKIP_A_MINUTE = """() => {
  const read = Date.now;
  Date.now = () => read() + 60_000;
  hide("visible");
}"""
"""Shows a hidden page in which no timer ran for a minute, as browsers slow them."""


def row(page: Page, svc: str):
    return page.locator(f'#rows tr[data-svc="{svc}"]')


def test_a_row_turns_and_goes_to_the_top_and_back(site: BoardSite, new_tab: Tabs):
    page = new_tab().open(site.url)
    site.change("notifier", state=ServiceState.DOWN, since=site.now() - 31, acked_by="ana")
    expect(row(page, "notifier")).to_contain_text("down")
    expect(row(page, "notifier")).to_contain_text("acknowledged by ana")
    expect(page.locator("#rows tr").first).to_have_attribute("data-svc", "notifier")
    expect(page.locator("h1")).to_have_text("1 of 7 down")
    expect(page.locator("h1")).to_have_class("down")
    expect(page.locator("#icon")).to_have_attribute("href", re.compile(r"/bad\.svg$"))
    assert page.title().startswith("1 of 7 down")
    site.change("notifier", state=ServiceState.UP, since=None, acked_by=None)
    expect(page.locator("h1")).to_have_text("all 7 up")
    expect(page.locator("h1.down")).to_have_count(0)
    expect(page.locator("#rows tr").last).to_have_attribute("data-svc", "notifier")


def test_a_row_turns_before_the_page_is_fetched(site: BoardSite, new_tab: Tabs):
    page = new_tab().open(site.url)
    held: list[Route] = []
    page.route(re.compile(r"/\?"), lambda route: held.append(route))
    place = row(page, "notifier").get_attribute("aria-rowindex")
    site.change("notifier", state=ServiceState.DOWN, since=site.now() - 31, outage="missed since")
    expect(row(page, "notifier")).to_have_class("down")
    expect(row(page, "notifier").locator(".says")).to_contain_text("missed since")
    expect(row(page, "notifier")).to_have_attribute("aria-rowindex", place)
    expect(page.locator("h1")).to_have_text("all 7 up")
    until(lambda: held or page.wait_for_timeout(20))
    held[0].continue_()
    expect(page.locator("h1")).to_have_text("1 of 7 down")
    expect(page.locator("#rows tr").first).to_have_attribute("data-svc", "notifier")


def test_a_page_from_before_a_row_turned_does_not_turn_it_back(site: BoardSite, new_tab: Tabs):
    page = new_tab().open(site.url)
    held: list[Route] = []
    page.route(re.compile(r"/\?"), lambda route: held.append(route))
    site.change("mesh", state=ServiceState.UNKNOWN)
    until(lambda: held or page.wait_for_timeout(20))
    old = held[0].fetch()
    words = {"outage": "missed since", "outage_at": site.now() - 31}
    site.change("notifier", state=ServiceState.DOWN, since=site.now() - 31, **words)
    expect(row(page, "notifier")).to_have_class("down")
    page.evaluate(NOTE_CLASSES)
    held[0].fulfill(response=old)
    expect(page.locator("h1")).to_have_text("none of 7 down, 1 unknown")
    assert re.search(r"missed since \d\d:\d\d", row(page, "notifier").inner_text())
    until(lambda: len(held) > 1 or page.wait_for_timeout(20))
    held[1].continue_()
    expect(page.locator("h1")).to_have_text("1 of 7 down, 1 unknown")
    assert set(page.evaluate("window.classes")) <= {"down"}


def test_services_come_and_go_in_the_order_of_the_truth(site: BoardSite, new_tab: Tabs):
    page = new_tab().open(site.url)
    services = site.snapshot.services
    site.move(replace(site.snapshot, services=(services[0], make_service("newcomer"), *services[2:])))
    expect(page.locator("#rows tr")).to_have_count(7)
    expect(page.locator("#rows tr").nth(1)).to_have_attribute("data-svc", "newcomer")
    expect(row(page, services[1].svc)).to_have_count(0)


def test_what_happens_while_a_page_is_on_its_way_is_on_it(site: BoardSite, new_tab: Tabs):
    tab = new_tab()

    def change_first(route: Route) -> None:
        """Changes the fleet after the page was made, and before its script follows it."""
        site.change("notifier", state=ServiceState.DOWN, since=site.now() - 31)
        route.continue_()

    tab.page.route("**/api/v1/stream*", change_first)
    page = tab.open(f"{site.url}/incidents")
    expect(page.locator("main")).to_contain_text("1 of 7 down")


def test_what_the_medic_does_is_looked_for_again_though_nothing_of_the_fleet_changes(
    site: BoardSite, new_tab: Tabs
):
    site.change("mesh", state=ServiceState.DOWN)
    page = new_tab().open(f"{site.url}/incidents")
    card = page.locator(".card", has_text="mesh")  # besides those of a page and a source
    expect(card).to_have_count(1)
    services = tuple(replace(one, state=ServiceState.UP) for one in site.snapshot.services)
    site.snapshot = replace(site.snapshot, services=services, incidents=())  # and no browser is told
    expect(card).to_have_count(0)


def test_a_lost_bus_and_a_note_are_shown(site: BoardSite, new_tab: Tabs):
    page = new_tab().open(site.url)
    buses = (site.snapshot.buses[0], BusSnapshot("market-redis", "away", "refused"))
    site.move(replace(site.snapshot, buses=buses, notes=("bus market-redis does not answer: refused",)))
    expect(page.locator("#parts .down")).to_have_text("market-redis")
    expect(page.locator("#notes")).to_have_text("bus market-redis does not answer: refused")


def counted_from(sec: int) -> re.Pattern[str]:
    """Return what matches so many seconds, or up to 14 more: a text may pass before it is looked at."""
    return re.compile(rf"^({'|'.join(str(each) for each in range(sec, sec + 15))}) s$")


def test_silence_counts_on_and_a_beat_begins_it_anew(site: BoardSite, new_tab: Tabs):
    page = new_tab().open(site.url)
    site.change("mesh", last_beat_at=site.now() - 40)
    expect(row(page, "mesh").locator(".si")).to_have_text(counted_from(42))
    site.change("mesh", last_beat_at=site.now())
    expect(row(page, "mesh").locator(".si")).to_have_text(re.compile(r"^\d s$"))


def test_the_focus_stays_where_it_is_when_rows_move(site: BoardSite, new_tab: Tabs):
    page = new_tab().open(site.url)
    row(page, "mesh").locator("a").focus()
    site.change("notifier", state=ServiceState.DOWN)
    expect(page.locator("#rows tr").first).to_have_attribute("data-svc", "notifier")
    site.change("mesh", state=ServiceState.DOWN)
    expect(page.locator("#rows tr").first).to_have_attribute("data-svc", "mesh")
    assert page.evaluate("document.activeElement.textContent") == "mesh"


OTHER_PAGES = pytest.mark.nightly("the page of the fleet loses its server in every run")


@pytest.mark.parametrize(
    "path", ["/", *(pytest.param(path, marks=OTHER_PAGES) for path in ("/incidents", "/services/mesh"))]
)
def test_a_page_that_lost_its_server_says_so_and_catches_up(site: BoardSite, new_tab: Tabs, path: str):
    tab = new_tab()
    tab.page.clock.install()
    page = tab.open(site.url + path)
    page.clock.pause_at(page.evaluate("Date.now() / 1000 + 1"))  # it learns it from the connection alone
    site.stop()
    expect(page.get_by_role("status").first).to_contain_text("The board does not answer")
    expect(page.locator("body")).to_have_class("stale")
    site.change("mesh", state=ServiceState.DOWN, since=site.now() - 31)
    page.clock.resume()
    site.start()
    page.wait_for_selector("body.live")
    expect(page.locator("#banner")).to_be_hidden()
    expect(page.locator("main .down").first).to_be_visible()


@pytest.mark.parametrize("status", [503, 429])
def test_a_page_that_is_refused_says_so_though_its_stream_goes_on(
    site: BoardSite, new_tab: Tabs, status: int
):
    tab = new_tab()
    page = tab.open(f"{site.url}/services/mesh")
    page.route("**/services/mesh", lambda route: route.fulfill(status=status, body="not now"))
    site.change("mesh", state=ServiceState.DOWN, since=site.now() - 31)
    expect(page.locator("#banner")).to_contain_text("The board does not answer")
    expect(page.locator("body")).to_have_class("stale")
    page.unroute("**/services/mesh")
    page.wait_for_selector("body.live")
    expect(page.locator("#banner")).to_be_hidden()
    expect(page.locator("main .down").first).to_be_visible()
    tab.forget_errors(status)


def test_a_page_whose_request_hangs_says_so_though_its_stream_goes_on(site: BoardSite, new_tab: Tabs):
    tab = new_tab()
    tab.page.add_init_script(SHORTEN_WAITS)
    page = tab.open(f"{site.url}/services/mesh")
    page.route("**/services/mesh", lambda _route: None)  # no answer ever comes
    site.change("mesh", state=ServiceState.DOWN, since=site.now() - 31)
    expect(page.locator("#banner")).to_contain_text("The board does not answer")
    expect(page.locator("body")).to_have_class("stale")
    page.unroute("**/services/mesh")
    page.wait_for_selector("body.live")
    expect(page.locator("main .down").first).to_be_visible()


@pytest.mark.nightly(
    "test_a_page_that_was_hidden_for_long_says_… has a page give its stream back in every run"
)
def test_more_tabs_than_a_browser_has_connections_follow_the_fleet(site: BoardSite, new_tab: Tabs):
    tab = new_tab()
    for script in (SHORTEN_WAITS, HIDE):
        tab.context.add_init_script(script)
    hidden = []
    for _ in range(6):
        page = tab.context.new_page()
        page.goto(f"{site.url}/services/mesh")
        page.wait_for_selector("body.live")
        page.evaluate("hide('hidden')")
        hidden.append(page)
    seen = tab.open(f"{site.url}/services/mesh")
    site.change("mesh", state=ServiceState.DOWN, since=site.now() - 31)
    for page in (seen, *hidden):
        expect(page.locator("main .down").first).to_be_visible()
        assert page.locator("body").get_attribute("class") == "live"


def test_a_page_that_was_hidden_for_long_says_what_it_lost_and_follows_once_it_is_seen(
    site: BoardSite, new_tab: Tabs
):
    tab = new_tab()
    for script in (COUNT_STREAMS, SHORTEN_WAITS, HIDE):
        tab.page.add_init_script(script)
    page = tab.open(site.url)
    page.evaluate("hide('hidden')")
    expect(page.locator("html")).to_have_attribute(
        "data-streams", re.compile("^([3-9]|..+)$")
    )  # it looks again and again
    assert page.locator("body").get_attribute("class") == "live"
    site.stop()
    expect(page.locator("#banner")).to_contain_text("The board does not answer")
    site.change("notifier", state=ServiceState.DOWN, since=site.now() - 31)
    site.start()
    expect(row(page, "notifier")).to_contain_text("down")
    page.wait_for_selector("body.live")
    page.evaluate(NOTE_LINKS)
    page.evaluate(SKIP_A_MINUTE)
    site.change("mesh", state=ServiceState.DOWN, since=site.now() - 31)
    expect(row(page, "mesh")).to_contain_text("down")
    page.wait_for_timeout(1500)  # its clock has ticked since
    assert page.evaluate("window.links") == []


OPEN_A_FORM = """() => {
  const form = document.createElement("form");
  form.dataset.own = "";
  form.innerHTML = "<input>";
  document.getElementById("main").append(form);
  form.firstChild.focus();
}"""
"""Adds a form to the page, with the focus in its field."""


def test_news_wait_for_a_reader_in_a_form_but_not_without_end(site: BoardSite, new_tab: Tabs):
    page = new_tab().open(f"{site.url}/services/mesh")
    page.evaluate(OPEN_A_FORM)
    page.evaluate(NOTE_LINKS)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    site.change("mesh", state=ServiceState.DOWN, since=site.now() - 31)
    page.wait_for_timeout(1500)
    assert asked == []
    expect(page.locator("main .down").first).to_be_visible()
    assert page.evaluate("window.links") == []  # it needed no other connection
    assert page.evaluate("document.activeElement.matches('form input')")


def test_a_page_whose_session_is_over_says_so(site: BoardSite, new_tab: Tabs):
    tab = new_tab()
    page = tab.open(site.url)
    page.route("**/api/v1/**", lambda route: route.fulfill(status=401))
    site.stop()  # the stream ends, and the browser asks for another one
    site.start()
    expect(page.locator("#banner")).to_contain_text("You are not signed in any more")
    page.unroute("**/api/v1/**")
    page.wait_for_selector("body.live")
    tab.forget_errors(401)


def test_a_connection_alone_makes_no_page_live(site: BoardSite, new_tab: Tabs):
    tab = new_tab()
    tab.page.add_init_script(COUNT_STREAMS)
    page = tab.open(site.url)
    site.stop()
    expect(page.locator("body")).to_have_class("stale")
    site.change("mesh", state=ServiceState.DOWN)
    site.may_begin.clear()
    site.start()
    expect(page.locator("html")).to_have_attribute("data-streams", "2")
    assert page.locator("body").get_attribute("class") == "stale"
    site.may_begin.set()
    page.wait_for_selector("body.live")
    # at once; what the row shows the browser draws a moment later (`content-visibility`)
    assert "down" in (row(page, "mesh").text_content() or "")


def test_a_page_of_what_is_gone_stays_as_it_was_and_follows(site: BoardSite, new_tab: Tabs):
    tab = new_tab()
    page = tab.open(f"{site.url}/services/mesh")
    page.route("**/services/mesh", lambda route: route.fulfill(status=404, body="no such service"))
    site.stop()
    expect(page.locator("body")).to_have_class("stale")
    site.change("mesh", state=ServiceState.DOWN)
    site.start()
    page.wait_for_selector("body.live")
    expect(page.locator("h1")).to_have_text("mesh")
    tab.forget_errors(404)


def test_a_hidden_page_waits_and_is_fetched_once_it_is_seen(site: BoardSite, new_tab: Tabs):
    tab = new_tab()
    tab.page.add_init_script(HIDE)
    page = tab.open(site.url)
    page.wait_for_selector("body.live")
    page.wait_for_timeout(500)
    page.evaluate("hide('hidden')")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    site.change("notifier", state=ServiceState.DOWN, since=site.now() - 31)
    page.wait_for_timeout(1500)
    assert asked == []
    expect(page.locator("h1")).to_have_text("all 7 up")
    page.evaluate("hide('visible')")
    expect(page.locator("h1")).to_have_text("1 of 7 down")


def test_a_page_that_is_offline_says_so_at_once(site: BoardSite, new_tab: Tabs):
    tab = new_tab()
    page = tab.open(site.url)
    tab.context.set_offline(True)
    expect(page.get_by_role("status").first).to_contain_text("offline")
    site.change("mesh", state=ServiceState.DOWN)
    tab.context.set_offline(False)
    page.wait_for_selector("body.live")
    expect(row(page, "mesh")).to_contain_text("down")


def test_a_connection_that_says_nothing_is_made_again(site: BoardSite, new_tab: Tabs):
    tab = new_tab()
    tab.page.clock.install()
    page = tab.open(site.url)
    site.is_silent = True
    site.change("mesh", state=ServiceState.DOWN)
    page.evaluate(NOTE_LINKS)
    page.clock.fast_forward(4000)
    page.clock.fast_forward(4000)
    expect(row(page, "mesh")).to_contain_text("down")
    assert page.evaluate("window.links") == ["stale", "live"]


def test_a_machine_that_slept_reads_everything_anew(site: BoardSite, new_tab: Tabs):
    tab = new_tab()
    tab.page.clock.install()
    page = tab.page
    page.goto(site.url)
    page.clock.run_for(2000)
    page.wait_for_selector("body.live")
    site.is_silent = True
    site.change("mesh", state=ServiceState.DOWN)
    site.is_silent = False
    page.clock.set_system_time("2100-01-01T00:00:00Z")  # no timer ran meanwhile
    page.clock.run_for(2000)
    expect(row(page, "mesh")).to_contain_text("down")


def test_a_service_page_follows_its_service(site: BoardSite, new_tab: Tabs):
    page = new_tab().open(f"{site.url}/services/mesh")
    at = site.now() - 31
    site.change(
        "mesh", state=ServiceState.DOWN, since=at, outage="silent since", outage_at=at, last_beat_at=at
    )
    expect(page.locator("main .head")).to_contain_text("silent since")
    expect(page.locator("[data-silence]")).to_have_text(counted_from(33))
