"""The chart of a symbol, and the connection that a page follows the market by, in a browser."""

import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import orjson
import pytest
from playwright.sync_api import Page, Route, WebSocketRoute, expect

from services.board.market.pictures import (
    format_day,
    format_price,
)
from services.market.records import DAY_MS, VolumeKind
from support.market_board import NOW
from support.rig.browser import Tabs, needs_chromium
from support.waiting import PATIENT_SEC, Patience, until

pytestmark = needs_chromium
WHOSE_VOLUME = {
    None: "(of unknown exchanges)",
    VolumeKind.VENUE: "of one exchange",
    VolumeKind.CONSOLIDATED: "of all exchanges",
    VolumeKind.NONE: "changes of a quote, no trades",
}


def drawn_bars(page: Page) -> None:
    """Wait until the chart has bars."""
    expect(page.locator("#legend")).to_contain_text("C ")


def in_browser(page: Page, predicate: Callable[[], object], what: str) -> None:
    """Wait until `predicate()` is true, while the browser's events are handled in this thread."""
    patience = Patience(PATIENT_SEC)
    while not predicate():
        assert not patience.is_over(), f"not in time: {what}"
        page.wait_for_timeout(20)


def test_a_chart_follows_its_bars_and_says_what_each_is(market, new_tab: Tabs):
    page = new_tab().open(f"{market.url}/market/symbol/XLK")
    drawn_bars(page)
    market.publish_bar("XLK", "1m", NOW, 240.5, final=False)
    legend = page.locator("#legend")
    expect(legend).to_contain_text("C 240.50")
    expect(legend).to_contain_text("still open · massive")
    expect(page.locator("#quote .price")).to_have_text("240.50")
    market.publish_bar("XLK", "1m", NOW, 241.5, rev=2)
    expect(legend).to_contain_text("C 241.50")
    expect(legend).to_contain_text("final · revision 2")
    market.publish_bar("XLK", "1m", NOW, 242.5, rev=1, epoch=1)  # counted anew after a loss
    expect(legend).to_contain_text("C 242.50")
    expect(legend).to_contain_text("final · revision 1")
    for rev, (kind, words) in enumerate(WHOSE_VOLUME.items(), 2):
        market.publish_bar("XLK", "1m", NOW, 242.5, rev=rev, epoch=1, volume_kind=kind)
        expect(legend).to_contain_text(f" · volume 100 {words} · final")
    assert page.locator("#gaps").is_hidden()
    page.click('[data-timeframe="1d"]')
    expect(page.locator("#chart")).to_have_attribute("aria-label", re.compile("^Chart of XLK, 1d: "))
    day, evening = format_day(NOW + DAY_MS), NOW // DAY_MS * DAY_MS + DAY_MS * 3 // 4
    market.publish_bar("XLK", "1d", evening, 243.5, day=day)  # as the exchange dates it
    expect(legend).to_contain_text(re.compile(f"^{day} .* C 243.50"))


def test_a_chart_has_the_basis_that_is_chosen_and_marks_splits_and_dividends(market, new_tab: Tabs):
    tab = new_tab()
    *_, before, bar, _ = market.get("/api/v1/bars/XLK?timeframe=1d&limit=5").json()["bars"]
    paid, day = (each["day"] or format_day(each["start"]) for each in (before, bar))
    actions = [
        {"ex_day": day, "kind": "split", "ratio": 10, "amount": None},
        {"ex_day": paid, "kind": "dividend", "ratio": None, "amount": 0.5},
        {"ex_day": "1999-01-04", "kind": "split", "ratio": 0.5, "amount": None},
    ]
    tab.page.route(re.compile("/api/v1/actions/"), lambda route: route.fulfill(json={"actions": actions}))
    with tab.page.expect_request(re.compile("/api/v1/bars/XLK.*adjust=splits")):
        page = tab.open(f"{market.url}/market/symbol/XLK?timeframe=1d")
    drawn_bars(page)
    expect(page.locator("#actions")).to_have_text(f"split 10:1 on {day} · dividend 0.5 on {paid}")
    expect(page.locator("#return")).to_contain_text(re.compile("^price .* %, total return .* % since "))
    with page.expect_request(re.compile("/api/v1/bars/XLK.*adjust=all")):
        page.select_option("#adjust", "all")
    expect(page.locator("#return")).to_contain_text(re.compile("^total return .* % since "))
    with page.expect_request(re.compile("/api/v1/bars/XLK.*adjust=none")):
        page.select_option("#adjust", "none")
    expect(page.locator("#return")).not_to_contain_text("return")


def find_hour_that_repeats() -> int:
    """The time in epoch milliseconds at which New York last put its clocks back."""
    zone, hour = ZoneInfo("America/New_York"), timedelta(hours=1)
    moment = datetime.fromtimestamp(NOW // 3_600_000 * 3600, UTC)
    while (moment - hour).astimezone(zone).utcoffset() <= moment.astimezone(zone).utcoffset():
        moment -= hour
    return round(moment.timestamp() * 1000)


@pytest.mark.nightly("test_a_chart_follows_its_bars_and_says_what_each_is follows a chart in every run")
def test_a_chart_goes_on_through_the_hour_that_a_clock_repeats(market, new_tab: Tabs):
    repeated = find_hour_that_repeats()
    page = new_tab(timezone_id="America/New_York").open(f"{market.url}/market/symbol/^VIX")
    page.click('[data-timeframe="1m"]')  # of which it has none: the newest bar is one of these
    for minute in (-2, -1, 0, 1, 59, 60):
        market.publish_bar("^VIX", "1m", repeated + 60_000 * minute, 200.0 + minute)
        expect(page.locator("#legend")).to_contain_text(f"C {200 + minute}.00")
        clock = "02:00" if minute == 60 else f"01:{minute % 60:02}"
        assert clock in page.locator("#legend").inner_text()


def test_no_bar_of_the_timeframe_before_is_drawn_while_the_next_one_is_loaded(market, new_tab: Tabs):
    page = new_tab().open(f"{market.url}/market/symbol/ETH/USD")
    drawn_bars(page)
    expect(page.locator("#prices")).to_have_text("prices live")

    def answer_late(route: Route) -> None:
        for minute in (0, 1):
            market.publish_bar("ETH/USD", "1m", NOW + 60_000 * minute, 9999.0 - minute)
        newest = "/api/v1/bars/ETH/USD?limit=1"
        until(lambda: market.get(newest).json()["bars"][0]["close"] == 9998.0)
        page.wait_for_timeout(500)  # five times as long as an update may wait for its batch
        route.continue_()

    page.route(re.compile("/api/v1/bars/.*timeframe=1h"), answer_late)
    page.click('[data-timeframe="1h"]')
    (bar,) = market.get("/api/v1/bars/ETH/USD?timeframe=1h&limit=1").json()["bars"]
    expect(page.locator("#legend")).to_contain_text(f"C {format_price(bar['close'])}")
    market.publish_bar("ETH/USD", "1h", bar["start"] + 3_600_000, 3456.0)
    expect(page.locator("#legend")).to_contain_text("C 3,456.00")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route(re.compile("/api/v1/bars/.*timeframe=5m"), hold)
    with page.expect_request(re.compile("/api/v1/bars/.*timeframe=5m")):
        page.click('[data-timeframe="5m"]')
    page.click('[data-timeframe="1h"]')
    chart = page.locator("#chart")
    expect(chart).to_have_attribute("aria-label", re.compile("^Chart of ETH/USD, 1h: 301 bars"))
    with page.expect_response(re.compile("/api/v1/bars/.*timeframe=5m")):
        held[0].continue_()
    market.publish_bar("ETH/USD", "1h", bar["start"] + 7_200_000, 3457.0)
    expect(page.locator("#legend")).to_contain_text("C 3,457.00")
    assert re.search("1h: 30[12] bars", chart.get_attribute("aria-label") or "")


def test_a_gap_is_said_and_the_timeframe_is_switched_without_a_new_page(market, new_tab: Tabs):
    tab = new_tab()
    page = tab.open(f"{market.url}/market/symbol/BTC/USD")
    expect(page.locator("#gaps li")).to_contain_text("28 bars are missing")
    market.publish_bar("BTC/USD", "1m", NOW - 80 * 60_000, 96_000.0)  # one of them comes late
    expect(page.locator("#gaps li").first).to_contain_text("17 bars are missing")
    expect(page.locator("#gaps li").last).to_contain_text("10 bars are missing")
    page.click('[data-timeframe="1h"]')
    expect(page.locator("#gaps")).to_be_hidden()
    assert page.url.endswith("?timeframe=1h")
    pages = [each for each in tab.requests if each.resource_type == "document"]
    assert len(pages) == 1
    page.check('#overlays input[name="bb"]')
    page.check('#overlays input[name="rsi"]')
    page.wait_for_function("document.querySelectorAll('#chart canvas').length > 4")  # the pane of the RSI


def scroll_back(page: Page) -> None:
    """Draw the chart to the right until it begins."""
    box = page.locator("#chart").bounding_box()
    assert box is not None
    for _ in range(6):
        page.mouse.move(box["x"] + 200, box["y"] + 150)
        page.mouse.down()
        page.mouse.move(box["x"] + 1200, box["y"] + 150, steps=4)
        page.mouse.up()


def test_a_chart_that_is_scrolled_back_asks_for_older_bars(market, new_tab: Tabs):
    tab = new_tab()
    page = tab.open(f"{market.url}/market/symbol/GLD")
    drawn_bars(page)
    with page.expect_response(lambda answer: "cursor=" in answer.url and "/bars/" in answer.url) as found:
        scroll_back(page)
    assert len(found.value.json()["bars"]) == 400


def test_a_chart_that_is_refused_its_bars_asks_again(market, new_tab: Tabs):
    tab = new_tab()
    tab.page.clock.install()
    refused: list[str] = []

    def refuse_first(status: int, detail: str) -> Callable[[Route], None]:
        def refuse(route: Route) -> None:
            if route.request.url in refused:
                route.continue_()
                return
            refused.append(route.request.url)
            route.fulfill(status=status, json={"detail": detail}, headers={"Retry-After": "7"})

        return refuse

    newest = re.compile("/api/v1/bars/[^&]*&limit=500&adjust=splits$")
    tab.page.route(newest, refuse_first(503, "the database is away"))
    tab.page.route(re.compile("/api/v1/bars/.*cursor="), refuse_first(429, "too many requests"))
    page = tab.open(f"{market.url}/market/symbol/GLD", live=False)
    state = page.locator("#chart-state")
    expect(state).to_have_text("The chart has nothing to show: the database is away.")
    page.clock.fast_forward(7100)
    drawn_bars(page)
    expect(state).to_have_text("")
    scroll_back(page)
    expect(state).to_have_text("Older bars can't be loaded now: too many requests.")
    page.clock.fast_forward(7100)
    expect(page.locator("#chart")).to_have_attribute("aria-label", re.compile(": 900 bars from "))
    expect(state).to_have_text("")
    tab.forget_errors(503)
    tab.forget_errors(429)


def test_a_chart_whose_question_hangs_says_so_and_asks_again(market, new_tab: Tabs):
    tab = new_tab()
    tab.page.clock.install()
    newest = re.compile("/api/v1/bars/")
    hung: list[Route] = []

    def hang_first(route: Route) -> None:
        if hung:
            route.continue_()
        else:
            hung.append(route)  # no answer to it ever comes

    tab.page.route(newest, hang_first)
    with tab.page.expect_request(newest):
        page = tab.open(f"{market.url}/market/symbol/GLD", live=False)
    page.clock.fast_forward(15_100)
    lacking = "The chart has nothing to show: the board does not answer."
    expect(page.locator("#chart-state")).to_have_text(lacking)
    page.clock.fast_forward(5100)
    drawn_bars(page)
    expect(page.locator("#chart-state")).to_have_text("")


@pytest.mark.nightly("test_after_a_short_break_a_chart_has_what_it_missed_… asks the API in every run")
def test_what_a_chart_missed_in_a_long_break_is_asked_of_the_api(market, new_tab: Tabs):
    tab, lost, dropped = new_tab(), threading.Event(), list[str]()

    def pass_on(client: WebSocketRoute) -> None:
        server = client.connect_to_server()
        server.on_message(lambda text: dropped.append(str(text)) if lost.is_set() else client.send(text))

    tab.page.route_web_socket(re.compile("/ws$"), pass_on)
    page = tab.open(f"{market.url}/market/symbol/XLF")
    drawn_bars(page)
    expect(page.locator("#prices")).to_have_text("prices live")
    lost.set()
    for minute in range(30):
        market.publish_bar("XLF", "1m", NOW + 60_000 * minute, 50.0 + minute)
    in_browser(page, lambda: any("79.0" in each for each in dropped), "the last of them")
    lost.clear()
    with page.expect_response(re.compile("/api/v1/bars/")) as asked:
        market.publish_bar("XLF", "1m", NOW + 60_000 * 30, 80.0)
    assert [bar["close"] for bar in asked.value.json()["bars"]][-31:] == [50.0 + n for n in range(31)]
    expect(page.locator("#legend")).to_contain_text("C 80.00")


class Wire:
    """The WebSockets of a page. While `is_silent` they bring nothing; `forget` makes each begin anew."""

    def __init__(self, page: Page) -> None:
        self.is_silent = self.forget = False
        self.opened: list[WebSocketRoute] = []
        self.closed: set[int] = set()
        self.answers = 0
        self._dropped: list[str] = []
        page.route_web_socket(re.compile("/ws$"), self._carry)

    def has_dropped(self, text: str) -> bool:
        return any(text in each for each in self._dropped)

    def _carry(self, client: WebSocketRoute) -> None:
        server, number = client.connect_to_server(), len(self.opened)
        self.opened.append(client)

        def pass_up(message: str | bytes) -> None:
            wanted = orjson.loads(message)
            if self.forget:
                wanted.pop("after", None)
            server.send(orjson.dumps(wanted).decode())

        def pass_down(message: str | bytes) -> None:
            self.answers += orjson.loads(message).get("topics") == {}
            if self.is_silent:
                self._dropped.append(str(message))
            else:
                client.send(message)

        def close(code: int | None, reason: str | None) -> None:
            self.closed.add(number)
            server.close(code=code, reason=reason)

        client.on_message(pass_up)
        server.on_message(pass_down)
        client.on_close(close)


def test_after_a_short_break_a_chart_has_what_it_missed_and_follows_one_timeframe(market, new_tab: Tabs):
    tab = new_tab()
    wire = Wire(tab.page)
    page = tab.open(f"{market.url}/market/symbol/DIA")
    drawn_bars(page)
    chart = page.locator("#chart")
    expect(chart).to_have_attribute("aria-label", re.compile("^Chart of DIA, 1m: 500 bars from "))
    wire.is_silent = wire.forget = True
    market.publish_bar("DIA", "1m", NOW - 1_800_000, 999.0, rev=1)  # a correction
    for minute in range(7):  # so many that it is not in a snapshot
        market.publish_bar("DIA", "1m", NOW + 60_000 * minute, 432.0 + minute)
    in_browser(page, lambda: wire.has_dropped("438.0"), "the last of them")
    wire.is_silent = False
    with page.expect_response(re.compile("/api/v1/indicators/")):
        wire.opened[-1].close()
    expect(chart).to_have_attribute("aria-label", re.compile(r"highest 999\.00$"))
    expect(page.locator("#legend")).to_contain_text("C 438.00")
    page.evaluate("""() => {
      for (const name of ["1h", "1m", "5m", "1m"]) {
        document.querySelector(`[data-timeframe="${name}"]`).click();
      }
    }""")
    expect(chart).to_have_attribute("aria-label", re.compile(r"^Chart of DIA, 1m: .* highest 999\.00$"))
    expect(page.locator("#prices")).to_have_text("prices live")
    market.publish_bar("DIA", "1m", NOW + 420_000, 439.5)
    expect(page.locator("#legend")).to_contain_text("C 439.50")
    assert len(wire.opened) - len(wire.closed) == 1
    wire.is_silent = True
    for minute in range(20, 540):  # more than a page of the API
        market.publish_bar("DIA", "1m", NOW + 60_000 * minute, 440.0)
    newest = NOW + 60_000 * 539
    in_browser(page, lambda: wire.has_dropped(str(newest)), "the last of them")
    wire.is_silent = False
    wire.opened[-1].close()
    # none of them is from before the hole
    label = r": 500 bars from .* lowest price 440\.00, highest 440\.00$"
    expect(chart).to_have_attribute("aria-label", re.compile(label))


def test_a_connection_that_falls_silent_is_renewed_and_so_is_that_of_a_page_that_was_put_away(
    market, new_tab: Tabs
):
    tab = new_tab()
    tab.page.clock.install()
    wire = Wire(tab.page)
    page = tab.open(f"{market.url}/market")
    state, price = page.locator("#prices"), page.locator('.tile[data-symbol="IWM"] .price')
    expect(state).to_have_text("prices live")
    for times in (1, 2):  # a quiet market is no silent connection
        page.clock.fast_forward(11_000)
        in_browser(page, lambda times=times: wire.answers >= times, "an answer")
    assert len(wire.opened) == 1
    wire.is_silent = True
    market.publish_quote("IWM", 222.22, NOW + 1000)
    page.clock.fast_forward(6000)
    page.clock.fast_forward(11_000)
    expect(state).to_have_text("prices not current: the board does not answer")
    wire.is_silent = False
    page.clock.fast_forward(1000)
    expect(state).to_have_text("prices live")
    expect(price).to_have_text("222.22")
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    market.publish_quote("IWM", 223.33, NOW + 2000)
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    expect(price).to_have_text("223.33")
    expect(state).to_have_text("prices live")
    assert (len(wire.opened), wire.closed) == (3, {0, 1})
