"""A trader's first hour with the market station, by docs/market.md: charts, numbers, a source that fails."""

import re
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any

import orjson
import pytest
from playwright.sync_api import Page, expect

from support.pages import ROOT
from support.rig.browser import Tabs, needs_chromium
from support.rig.receiver import Receiver
from support.scenes.sources import answer_as_kraken, answer_range_as_coinbase
from support.scenes.walk import Desk, find_block, find_line, look, open_desk
from support.waiting import until

pytestmark = [
    needs_chromium,
    pytest.mark.live,
    pytest.mark.needs("curl", "openssl", "sh"),
    pytest.mark.timeout(600),  # a whole story on a busy machine
]
MARKET, API, NIGHT = "docs/market.md", "docs/services/market-board.md", "docs/at-3am.md"
MINE = "my-market.json"
FEW = ("SPY", "BTC/USD", "EUR/USD", "US.10Y")
BITCOIN = {"symbol": "BTC/USD", "kind": "bars", "timeframe": "1m"}


def write_truth(folder: Path) -> None:
    """Put the line of the page, with sources before the recording, into the example with few symbols."""
    text = (ROOT / MARKET).read_text(encoding="utf-8")
    (line,) = re.findall(r'^ *(\{"symbol": "BTC/USD", .*\})$', text, re.MULTILINE)
    truth = orjson.loads((ROOT / "examples/market.json").read_bytes())
    section = truth["services"]["sources"]
    kept = [keep_few(each) for each in section["endpoints"]]
    section["endpoints"] = [each for each in kept if each.get("symbols") or each.get("symbol") in FEW]
    endpoints = truth["services"]["sources"]["endpoints"]
    (place,) = (n for n, each in enumerate(endpoints) if BITCOIN.items() <= each.items())
    endpoints[place] = {**orjson.loads(line), "every_sec": 1}  # not a minute until it has failed three times
    (folder / MINE).write_bytes(orjson.dumps(truth))
    (folder / "examples").symlink_to(ROOT / "examples")


def keep_few(endpoint: dict[str, Any]) -> dict[str, Any]:
    """Return an endpoint with those of its symbols that this test needs, if it has several."""
    if "symbols" not in endpoint:
        return endpoint
    return {**endpoint, "symbols": [each for each in endpoint["symbols"] if each in FEW]}


@pytest.fixture
def folder():
    """A folder that the user of the database can reach, which a test's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="trader-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def test_a_trader_sees_charts_asks_for_bars_and_is_told_of_a_source_that_fails(folder, new_tab: Tabs):
    with Receiver() as kraken, Receiver() as coinbase, open_desk(folder, {"services": {}}) as desk:
        kraken.always = 500
        coinbase.choose = answer_range_as_coinbase
        write_truth(folder)
        desk.type(find_line(MARKET, "marketswarm validate my-market.json"))
        urls = {"kraken": f"http://127.0.0.1:{kraken.port}", "coinbase": f"http://127.0.0.1:{coinbase.port}"}
        desk.start(TRUTH_PATH=MINE, SOURCES_BASE_URLS=orjson.dumps(urls).decode())
        until(lambda: desk.verdict("archive") == "up", 120, desk.up.text)
        page = new_tab().page
        look_at_charts(desk, page)
        ask_for_numbers(desk)
        take_one_source_out(desk, page)
        learn_that_a_source_fails(desk, page, kraken)
        mend_it(desk, page, kraken)


def look_at_charts(desk: Desk, page: Page) -> None:
    page.goto(f"{desk.url}/market")
    tile = page.locator('.tile[data-symbol="SPY"]')
    expect(tile.locator(".price")).to_have_text(re.compile(r"^\d+\.\d\d$"), timeout=60_000)
    expect(tile).to_contain_text("replay")
    tile.get_by_role("link").first.click()
    expect(page.locator("#legend")).to_contain_text("C ", timeout=60_000)
    look(page)


def ask_for_numbers(desk: Desk) -> None:
    assert len(orjson.loads(desk.type(find_line(API, "/api/v1/bars/SPY")))["bars"]) == 3
    line = find_block(MARKET, "bash", "psql ").strip()
    ask, there = re.findall(r"^psql (\S.*\S) +# no psql here\? (\S.*\S) is one$", line)[0]
    counts, *others = filter(None, map(str.strip, find_block(MARKET, "sql", "FROM bars").split(";")))
    assert "SPY|1d|" in desk.type(f"{there} {ask} -Atc {shlex.quote(counts)}")
    for sql in others:
        assert desk.type(f"{there} {ask} -Atc {shlex.quote(sql)}")


def take_one_source_out(desk: Desk, page: Page) -> None:
    """The page's way to see one source take over from another."""
    desk.type(find_line(MARKET, "source pause replay_a"))
    page.goto(f"{desk.url}/market/sources")
    expect(page.locator('#sources [data-row="replay_a"]')).to_contain_text("paused", timeout=60_000)
    assert "paused" in desk.type(find_line(MARKET, "source status"))
    desk.type(find_line(MARKET, "source resume replay_a"))
    expect(page.locator('#sources [data-row="replay_a"]')).to_contain_text("up", timeout=60_000)


def learn_that_a_source_fails(desk: Desk, page: Page, kraken: Receiver) -> None:
    message = desk.read("source:kraken fails")
    assert "); meanwhile coinbase serves BTC/USD:bars:1m" in message.text
    assert "next: marketswarm source status" in message.text
    page.goto(f"{desk.url}/market/sources")
    expect(page.locator('#sources [data-row="kraken"]')).to_contain_text(re.compile("down|breaker open"))
    expect(page.locator('#cascade [data-row="BTC/USD:bars:1m"] .cascade b')).to_have_text("coinbase")
    status = desk.type(find_line(NIGHT, "source status"))
    assert re.search(r"^kraken +down", status, re.MULTILINE)
    asked = desk.ask(
        f"{find_line(NIGHT, 'source try').replace('NAME', 'kraken')} --base-url http://127.0.0.1:{kraken.port}"
    )
    assert asked.returncode == 1
    assert "500" in asked.stdout


def mend_it(desk: Desk, page: Page, kraken: Receiver) -> None:
    kraken.choose = answer_as_kraken
    desk.type("marketswarm source resume kraken")
    desk.read("source:kraken answers again")
    page.goto(f"{desk.url}/market/sources")
    expect(page.locator('#sources [data-row="kraken"]')).to_contain_text("up", timeout=60_000)
    page.goto(f"{desk.url}/incidents")
    expect(page.locator("main")).to_contain_text("Nothing is down", timeout=120_000)
