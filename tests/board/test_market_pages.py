"""The pages of the market in a browser, with a real board, Redis and PostgreSQL behind them."""

import re
import threading
from datetime import UTC, datetime

import orjson
import pytest
from playwright.sync_api import WebSocketRoute, expect

from marketswarm.keys import MARKET_SERIES, MARKET_SOURCES, PRELOAD_STATUS, source_breaker_key
from services.board.market.conversation import FULL
from services.board.market.pictures import format_percent
from support.market_board import NOW, SYMBOLS, open_market
from support.rig.browser import DESK, PHONE, Tabs, find_violations, needs_chromium
from support.waiting import until

pytestmark = needs_chromium
PATHS = (
    "", "/economy", "/correlations", "/sources", "/symbol/EUR/USD", "/rotation", "/breadth", "/rates",
    "/sentiment", "/quality", "/search?query=usd",
)  # fmt: skip
OTHER_THEMES = pytest.mark.nightly("each page is looked at in the light theme in every run")


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """A market without an archive, which a recording plays."""
    with open_market(tmp_path_factory.mktemp("played"), None, replay=True) as market:
        yield market


@pytest.mark.parametrize(
    "theme", ["light", *(pytest.param(theme, marks=OTHER_THEMES) for theme in ("dark", "navy"))]
)
def test_axe_finds_nothing_on_any_page(market, new_tab: Tabs, theme: str):
    tab = new_tab()
    tab.context.add_init_script(f"localStorage.setItem('marketswarm-theme', '{theme}')")
    for path in PATHS:
        page = tab.open(f"{market.url}/market{path}")
        if "/symbol/" in path:
            expect(page.locator("#legend")).to_contain_text("C ")
        for size in (DESK, PHONE):
            page.set_viewport_size(size)
            assert find_violations(page) == [], path
            width = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert width <= 0, f"{path} is wider than a screen of {size['width']}"


def test_a_chart_of_the_past_has_no_bar_of_later_and_follows_nothing(market, new_tab: Tabs):
    day = datetime.fromtimestamp(NOW / 1000 - 5 * 86_400, UTC).date().isoformat()
    tab, asked, sockets = new_tab(), [], []
    tab.context.on("request", lambda request: asked.append(request.url))
    tab.page.on("websocket", lambda socket: sockets.append(socket.url))
    page = tab.open(f"{market.url}/market/symbol/BTC/USD?timeframe=1d&as_of={day}")
    expect(page.locator("#legend")).to_contain_text(f"{day}")
    expect(page.locator("#market-notes .past")).to_contain_text("as it was known at")
    prices = [url for url in asked if re.search("/api/v1/(bars|indicators|actions)/", url)]
    assert len(prices) == 3
    assert all(f"as_of={day}" in url for url in prices)
    assert sockets == []
    page.get_by_role("link", name="Back to now").click()
    expect(page.locator("#market-notes .past")).to_have_count(0)
    assert page.url == f"{market.url}/market/symbol/BTC/USD?timeframe=1d"
    expect(page.locator("#prices")).to_have_text("prices live")
    assert sockets, "the page of now follows the market"


def test_a_tile_follows_the_market_with_the_source_and_the_age_of_its_price(market, new_tab: Tabs):
    page = new_tab().open(f"{market.url}/market")
    tile = page.locator('.tile[data-symbol="USD/JPY"]')
    expect(tile.locator(".price")).to_have_text("149.61")
    known = market.get("/api/v1/market/forex").json()["symbols"]
    base = next(one["price"] - one["change"] for one in known if one["symbol"] == "USD/JPY")
    market.publish_quote("USD/JPY", 151.25, NOW + 1000)
    expect(tile.locator(".price")).to_have_text("151.25")
    expect(tile.locator(".change")).to_contain_text(f"({format_percent(100 * (151.25 - base) / base)})")
    expect(tile.locator(".change")).to_have_class(re.compile("rise"))
    expect(tile.locator(".origin")).to_contain_text("twelve_data")
    expect(tile.locator(".origin [data-since]")).to_have_text(re.compile(r"^\d+ (s|min) ago$"))
    market.publish_quote("USD/JPY", 1.0, NOW - 60_000)  # an older one
    market.publish_quote("USD/JPY", 151.5, NOW + 2000)
    expect(tile.locator(".price")).to_have_text("151.50")


@pytest.mark.parametrize(("path", "at_ms"), [("", NOW + 10_000), ("/symbol/USD/JPY", NOW + 20_000)])
def test_a_price_is_on_the_page_at_once_without_a_page(market, new_tab: Tabs, path: str, at_ms: int):
    page = new_tab().open(f"{market.url}/market{path}")
    expect(page.locator("#prices")).to_have_text("prices live")
    price = page.locator('[data-priced^="USD/JPY"] .price')
    market.publish_quote("USD/JPY", 152.0, at_ms)
    expect(price).to_have_text("152.00")
    page.wait_for_timeout(3000)  # the pages that are under way
    page.route(re.compile(f"{market.url}/market"), lambda route: route.abort())
    market.publish_quote("USD/JPY", 153.25, at_ms + 1)
    expect(price).to_have_text("153.25")
    page.unroute_all()


def test_a_page_that_was_on_its_way_for_longer_than_a_price_takes_no_price_back(market, new_tab: Tabs):
    page = new_tab().open(f"{market.url}/market")
    expect(page.locator("#prices")).to_have_text("prices live")
    price, at_ms = page.locator('[data-priced^="DOGE/USD"] .price'), NOW + 500
    old = page.content()
    market.publish_quote("DOGE/USD", 2.25, at_ms)
    expect(price).to_have_text("2.250000")
    with page.expect_response(f"{market.url}/market"):
        page.route(f"{market.url}/market", lambda route: route.fulfill(body=old, content_type="text/html"))
    page.wait_for_timeout(300)
    assert price.text_content() == "2.250000"
    page.unroute_all()


def test_a_bar_that_was_corrected_in_a_break_is_shown_as_the_page_has_it(market, new_tab: Tabs):
    tab, lost = new_tab(), threading.Event()

    def pass_on(client: WebSocketRoute) -> None:
        server = client.connect_to_server()
        server.on_message(lambda text: None if lost.is_set() else client.send(text))

    tab.page.route_web_socket(re.compile("/ws$"), pass_on)
    page = tab.open(f"{market.url}/market")
    expect(page.locator("#prices")).to_have_text("prices live")
    price = page.locator('.tile[data-symbol="XLE"] .price')
    market.publish_bar("XLE", "1m", NOW + 60_000, 97.25, rev=1)
    expect(price).to_have_text("97.2500")
    lost.set()
    market.publish_bar("XLE", "1m", NOW + 60_000, 98.5, rev=2)
    expect(price).to_have_text("98.5000")  # by the page that is fetched some seconds after each price


def test_a_series_that_names_no_symbol_keeps_no_other_from_being_followed(market, new_tab: Tabs):
    odd = {"symbol": "BRK B", "group": "indices", "kind": "bars", "timeframe": "1m"}
    market.client.hset(MARKET_SERIES, "odd", orjson.dumps(odd))
    try:
        page = new_tab().open(f"{market.url}/market")
        expect(page.locator("#prices")).to_have_text("prices live")
        market.publish_quote("QQQ", 456.78, NOW + 1000)
        expect(page.locator('.tile[data-symbol="QQQ"] .price')).to_have_text("456.78")
    finally:
        market.client.hdel(MARKET_SERIES, "odd")


def test_a_page_says_why_its_prices_stand_still_and_when_they_go_on(market, new_tab: Tabs):
    tab, is_full = new_tab(viewport=PHONE), threading.Event()
    is_full.set()

    def refuse(client: WebSocketRoute) -> None:
        if is_full.is_set():
            client.close(code=FULL, reason="too many clients follow the market")
        else:
            client.connect_to_server()

    tab.page.route_web_socket(re.compile("/ws$"), refuse)
    page = tab.open(f"{market.url}/market")
    state = page.locator("#prices")
    expect(state).to_have_text(re.compile("^prices not current: too many clients follow the market"))
    expect(page.locator("#link")).to_have_text("live")
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    is_full.clear()
    expect(state).to_have_text("prices live", timeout=30_000)
    market.publish_quote("USO", 75.25, NOW + 1000)
    expect(page.locator('.tile[data-symbol="USO"] .price')).to_have_text("75.2500")


def test_a_theme_that_is_chosen_is_worn_by_the_next_page(market, new_tab: Tabs):
    tab = new_tab()
    page = tab.open(f"{market.url}/market")
    page.select_option("#theme", "navy")
    page.goto(f"{market.url}/")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 39, 66)"
    page.select_option("#theme", "")
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") is None


def test_a_board_that_restarts_is_followed_on(market, new_tab: Tabs):
    tab = new_tab()
    page = tab.open(f"{market.url}/market")
    market.fleet["board"].kill()
    page.wait_for_selector("body.stale", timeout=30_000)
    expect(page.locator("#prices")).to_have_text("prices not current: the connection is lost")
    market.fleet.start("board")
    page.wait_for_selector("body.live", timeout=30_000)
    price = page.locator('.tile[data-symbol="GBP/USD"] .price')
    expect(price).to_have_text("1.2641")
    market.publish_quote("GBP/USD", 1.3001, NOW + 5000)
    expect(price).to_have_text("1.3001", timeout=30_000)
    tab.forget_errors(503)  # a board that has not read the fleet yet says so, and the page asks again


def test_the_sources_page_shows_a_source_that_is_paused_and_who_serves_instead(market, new_tab: Tabs):
    page = new_tab().open(f"{market.url}/market/sources")
    row = page.locator('#sources [data-row="yahoo"]')
    series = page.locator('#cascade [data-row="IWM:bars:1m"]')
    expect(row).to_contain_text("up")
    expect(series.locator(".cascade b")).to_have_text("yahoo")
    link = series.locator("a")
    link.focus()
    known = market.client.hget(MARKET_SERIES, "IWM:bars:1m")
    tried = {"yahoo": {"verdict": "paused", "reason": "paused", "at": NOW / 1000}}
    changed = {**orjson.loads(known), "serving": "alpha_vantage", "reason": "yahoo paused", "attempts": tried}
    try:
        market.client.hset(source_breaker_key("yahoo"), "paused", "-1")
        market.client.hset(MARKET_SERIES, "IWM:bars:1m", orjson.dumps(changed))
        expect(row).to_contain_text("paused", timeout=30_000)
        expect(row).to_contain_text("by an operator, until it is resumed")
        expect(series.locator(".cascade b")).to_have_text("alpha_vantage", timeout=30_000)
        expect(page.locator("#fallbacks")).to_contain_text("yahoo was paused")
    finally:
        market.client.delete(source_breaker_key("yahoo"))
        market.client.hset(MARKET_SERIES, "IWM:bars:1m", known)
    expect(row).to_contain_text("up", timeout=30_000)
    expect(series.locator(".cascade b")).to_have_text("yahoo", timeout=30_000)


def test_hostile_texts_of_the_market_are_only_text(market, new_tab: Tabs):
    evil = '<img src=x onerror="window.hurt=1">'
    market.client.hset(
        "market:sources", "evil", orjson.dumps({"state": "down", "asked_at": 1, "reason": evil})
    )
    market.client.xadd(
        "market:quarantine", {"check": evil, "why": evil, "at": NOW, "fields": evil, "sym": evil}
    )
    until(lambda: '"evil"' in market.get("/api/v1/sources").text, what="the board to read it")
    page = new_tab().open(f"{market.url}/market/sources")
    expect(page.locator('#sources [data-row="evil"]')).to_contain_text(evil)
    assert page.locator("main").inner_text().count(evil) > 1, "in the table of the quarantine, too"
    assert page.evaluate("window.hurt") is None


def test_without_a_database_pages_say_what_to_do(played):
    answer = played.get("/api/v1/bars/SPY")
    assert answer.status_code == 503
    assert "DATABASE_URL is not set" in answer.json()["detail"]
    for path in PATHS:
        page = played.get(f"/market{path}")
        assert (page.status_code, "No archive: DATABASE_URL is not set" in page.text) == (200, True), path


def test_a_replay_is_marked_wherever_it_is_shown(played, new_tab: Tabs):
    tab = new_tab()
    page = tab.open(f"{played.url}/market")
    tile = page.locator('.tile[data-symbol="SPY"]')
    played.publish_bar("SPY", "1m", NOW, 500.0, replay=True)
    expect(tile.locator(".price")).to_have_text("500.00")  # the first: the page asks for its place
    for path in ("", "/symbol/SPY", "/sources"):
        assert "played from a recording" in played.get(f"/market{path}").text
    played.publish_bar("SPY", "1m", NOW + 60_000, 501.0, replay=True)
    expect(tile.locator(".price")).to_have_text("501.00")
    expect(tile.locator(".replay")).to_be_visible()
    page = tab.open(f"{played.url}/market/symbol/SPY")
    expect(page.locator("#chart-state")).to_contain_text("DATABASE_URL is not set")
    page = tab.open(f"{played.url}/market/sources")
    expect(page.locator("#sources .replay")).to_have_count(len({one.source for one in SYMBOLS}))
    expect(page.locator('#sources [data-row="finnhub"] .replay')).to_have_count(0)  # it serves nothing
    expect(page.locator("#quarantine tbody .replay")).to_have_count(2)
    tab.forget_errors(503)  # the board has no bars to send


def test_pages_that_were_opened_before_the_market_began_fill_themselves(played, new_tab: Tabs):
    client = played.client
    states, sources = client.hgetall(MARKET_SERIES), client.hgetall(MARKET_SOURCES)
    gate = client.get(PRELOAD_STATUS)
    client.delete(MARKET_SERIES, MARKET_SOURCES, PRELOAD_STATUS)
    until(lambda: not played.get("/api/v1/sources").json()["series"], what="the board to know no series")
    tabs = [new_tab() for _ in range(3)]
    for tab, path in zip(tabs, ("", "/sources", "/economy"), strict=True):
        tab.page.clock.install()
        tab.open(f"{played.url}/market{path}")
    overview, listed, economy = (tab.page for tab in tabs)
    expect(overview.locator("main")).to_contain_text("No series yet")
    expect(listed.locator("main")).to_contain_text("No series yet")
    expect(listed.locator("main")).to_contain_text("The gate has not run")
    client.hset(MARKET_SERIES, mapping=states)
    client.hset(MARKET_SOURCES, mapping=sources)
    client.set(PRELOAD_STATUS, gate)
    until(lambda: played.get("/api/v1/sources").json()["gate"], what="the board to read them")
    for page in (overview, listed, economy):
        page.clock.fast_forward(31_000)
    expect(overview.locator("#gate")).to_contain_text("19 of 20 series were loaded")
    price = overview.locator('.tile[data-symbol="QQQ"]')
    expect(price).to_contain_text("no price yet")
    expect(economy.locator(".tile")).to_have_count(3)
    expect(listed.locator("#cascade tbody tr")).to_have_count(len(SYMBOLS))
    expect(listed.locator("#sources")).to_contain_text("kraken")
    expect(listed.locator("#part-gate")).to_contain_text("19 of 20 series were loaded")
    played.publish_quote("QQQ", 480.5, NOW)
    until(lambda: "480.50" in played.get("/market").text, what="the first price: pages are kept a second")
    overview.clock.fast_forward(16_000)
    expect(price.locator(".price")).to_have_text("480.50")
    played.publish_quote("QQQ", 481.5, NOW + 1000)  # which the page follows now
    expect(price.locator(".price")).to_have_text("481.50")
