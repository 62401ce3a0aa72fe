"""Backtests by HTTP and on the pages, on a real board over a real PostgreSQL, played by a real process."""

import asyncio
import contextlib
import os
import signal
import time
from datetime import UTC, datetime, timedelta

import httpx
import orjson
import psutil
import pytest
from playwright.sync_api import expect

from marketswarm.bus import Bus
from marketswarm.operator.tokens import Scope, create_token, write_token
from services.signals.report import HYPOTHETICAL, BacktestReport
from support.market_board import NOW, open_market, run_apart
from support.rig import PLAIN
from support.rig.browser import needs_chromium, sign_in
from support.waiting import until

pytestmark = pytest.mark.live
LAST = datetime.fromtimestamp(NOW / 1000, UTC).date() - timedelta(days=1)
FIRST = LAST - timedelta(days=250)
DAYS = {"from": FIRST.isoformat(), "to": LAST.isoformat()}
ASKED = {"strategy": "moving_average", "symbols": ["BTC/USD"], "parameters": {"fast": 5, "slow": 20}, **DAYS}
WITHIN_SEC = 120  # a busy machine


class Desk:
    """A client of a board with a market, and the folder in which its backtests are kept."""

    def __init__(self, market, folder):
        self.market, self.folder, self.url = market, folder, market.url
        self.text = self.make_token(Scope.WRITE)

    def make_token(self, *scopes):
        token, text = create_token("kim", scopes, author="kim", now=time.time())

        async def write():
            bus = Bus("system-redis", self.market.fleet.system.url)
            async with contextlib.aclosing(bus):
                await write_token(bus, token)

        run_apart(asyncio.run, write())
        return str(text)

    def ask(self, method, path, body=None, *, token=None, **how):
        headers = {"Authorization": f"Bearer {token or self.text}", **how.pop("headers", {})}
        return httpx.request(
            method, f"{self.url}/api/v1{path}", json=body, headers=headers, timeout=30, verify=PLAIN, **how
        )

    def start(self, **more):
        """Ask for a backtest, as soon as the strategies are listed and the token may write again."""
        answers = []

        def is_taken():
            answers.append(self.ask("POST", "/backtest", {**ASKED, **more}))
            if answers[-1].status_code == 429:  # a token writes only so often
                self.text = self.make_token(Scope.WRITE)
            return answers[-1].status_code not in (429, 503)

        until(
            is_taken,
            WITHIN_SEC,
            what=lambda: f"the board to take a backtest: {[each.text for each in answers[-2:]]}",
        )
        return answers[-1]

    def finish(self, ident):
        def find():
            found = self.ask("GET", f"/backtests/{ident}").json()
            return found if found["state"] in ("done", "failed") else None

        return until(find, WITHIN_SEC, what="the end of a backtest")

    def audit(self):
        """Return the newest entries, the newest first, each as its fields."""
        entries = self.market.fleet.system.cmd("XREVRANGE", "board:audit", "+", "-", "COUNT", 4)
        return [{str(name): str(value) for name, value in fields.items()} for _, fields in entries]


@pytest.fixture(scope="module")
def desk(postgres, tmp_path_factory):
    folder = tmp_path_factory.mktemp("backtests")
    kept = folder / "kept"
    with open_market(
        folder, run_apart(postgres.new_archive), environ={"BOARD_BACKTEST_FOLDER": str(kept)}
    ) as market:
        yield Desk(market, kept)


def test_a_program_plays_a_strategy_and_reads_its_report(desk):
    answer = desk.start()
    assert answer.status_code == 202, answer.text
    asked = answer.json()
    assert asked["state"] in ("queued", "running", "done")
    assert asked["hypothetical"] == HYPOTHETICAL
    assert answer.headers["location"] == f"/api/v1/backtests/{asked['id']}"
    found = desk.finish(asked["id"])
    assert (found["state"], found["reason"], found["progress"]) == ("done", None, 1.0), found
    report = BacktestReport.from_json(orjson.dumps(found["result"]))
    assert report.request.symbols == ("BTC/USD",)
    assert report.counts.decisions == 251
    assert report.counts.fills > 0
    assert report.hypothetical == HYPOTHETICAL
    listed = desk.ask("GET", "/backtests").json()
    assert [each["id"] for each in listed["backtests"]] == [asked["id"]]
    assert "result" not in listed["backtests"][0]
    again = desk.start().json()
    assert again["id"] == asked["id"]
    kept = desk.finish(asked["id"])
    assert (kept["kept"], kept["result"]) == (True, found["result"])


def test_each_request_is_audited_with_who_asked(desk):
    desk.start()
    begun, done = desk.audit()[1], desk.audit()[0]
    assert (begun["action"], begun["outcome"], done["outcome"]) == ("backtest", "begun", "done")
    assert (begun["name"], begun["target"]) == ("kim", "moving_average")
    assert "BTC/USD" in begun["detail"]


WRONG = [
    ({"strategy": "moving_averag"}, 422, "did you mean moving_average?"),
    ({"strategy": "../../etc/passwd"}, 422, "strategy"),
    ({"strategy": "import os"}, 422, "strategy"),
    ({"symbols": ["BTC/USDD"]}, 404, "did you mean BTC/USD?"),
    ({"symbols": []}, 422, "symbols"),
    ({"symbols": ["BTC/USD", "BTC/USD"]}, 422, "twice"),
    ({"symbols": ["<script>"]}, 422, "symbols"),
    ({"symbols": [f"A{n}" for n in range(101)]}, 422, "symbols"),
    ({"parameters": {"fast": "quick"}}, 422, "fast"),
    ({"parameters": {"fast": 0}}, 422, "fast"),
    ({"parameters": {"fast": 1.5}}, 422, "whole number"),
    ({"parameters": {"fast": 10**30}}, 422, "fast"),
    ({"parameters": {"fast": True}}, 422, "fast"),
    ({"parameters": {"fastest": 5}}, 422, "there are: fast, slow, percent"),
    ({"parameters": {"fast": {"$ne": 1}}}, 422, "parameters"),
    ({"parameters": {"fast": "9" * 201}}, 422, "parameters"),
    ({"from": "2026-13-01"}, 422, "from"),
    ({"from": "yesterday"}, 422, "from"),
    ({"from": "1969-12-31"}, 422, "from"),
    ({"from": DAYS["to"], "to": DAYS["from"]}, 422, "before"),
    ({"to": "2099-12-31"}, 422, "to: is in the future"),
    ({"timeframe": "2m"}, 422, "timeframe"),
    ({"adjust": "some"}, 422, "adjust"),
    ({"account": {"cash": "-5"}}, 422, "cash"),
    ({"account": {"cash": "NaN"}}, 422, "cash"),
    ({"fee": {"percent": "1e400"}}, 422, "percent"),
    ({"code": "print(1)"}, 422, "code"),
]


@pytest.mark.parametrize(("more", "status", "words"), WRONG)
def test_what_is_wrong_is_refused_with_its_field_and_nothing_is_queued(desk, more, status, words):
    before = {each["id"] for each in desk.ask("GET", "/backtests").json()["backtests"]}
    answer = desk.start(**more)
    assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.text
    assert {each["id"] for each in desk.ask("GET", "/backtests").json()["backtests"]} == before


@pytest.mark.parametrize("body", [b"", b"[", b"null", b"7", b"[" * 30_000, b'{"from": NaN}', b"\xff", b'"a"'])
def test_a_body_that_is_no_request_is_refused(desk, body):
    desk.text = desk.make_token(Scope.WRITE)
    headers = {"Authorization": f"Bearer {desk.text}", "Content-Type": "application/json"}
    answer = httpx.post(
        f"{desk.url}/api/v1/backtest", content=body, headers=headers, timeout=30, verify=PLAIN
    )
    assert answer.status_code in (422, 413), answer.text


def test_more_bars_than_a_minute_suffices_for_are_refused_before_anything_runs(desk, monkeypatch):
    answer = desk.start(symbols=["BTC/USD", "ETH/USD", "DOGE/USD"], timeframe="1m")
    assert answer.status_code == 202, "some thousand are not too many"
    desk.finish(answer.json()["id"])


def test_nobody_reads_or_writes_without_a_token_of_the_scope(desk):
    reader, sower = desk.make_token(Scope.READ), desk.make_token(Scope.SEED)
    for method, path in (("GET", "/backtests"), ("GET", "/backtests/strategies"), ("POST", "/backtest")):
        answer = httpx.request(method, f"{desk.url}/api/v1{path}", json=ASKED, timeout=30, verify=PLAIN)
        assert answer.status_code == 401, path
    assert desk.ask("GET", "/backtests", token=reader).status_code == 200
    assert desk.ask("GET", "/backtests", token=sower).status_code == 403
    assert desk.ask("POST", "/backtest", ASKED, token=reader).status_code == 403
    assert desk.ask("DELETE", "/backtests/" + "0" * 32, token=reader).status_code == 403
    assert desk.ask("GET", "/backtests/" + "0" * 32, token=reader).status_code == 404
    assert desk.ask("GET", "/backtests/..%2F..%2Fetc", token=reader).status_code == 404
    page = httpx.get(f"{desk.url}/market/backtests", timeout=30, verify=PLAIN)
    assert "sign in" in page.text
    assert "moving_average" not in page.text


def test_the_strategies_are_listed_with_their_parameters(desk):
    found = {each["name"]: each for each in desk.ask("GET", "/backtests/strategies").json()["strategies"]}
    assert {"moving_average", "breakout", "buy_and_hold"} <= set(found)
    assert found["moving_average"]["parameters"]["fast"]["least"] == 1


def find_children(market):
    board = psutil.Process(market.fleet["board"].pid)
    return [
        child for child in board.children(recursive=True)
        if any("backtest_process" in word for word in child.cmdline())
    ]  # fmt: skip


def test_a_process_that_is_killed_costs_its_own_backtest_alone(desk):
    first = desk.start(parameters={"fast": 6}).json()["id"]
    (child,) = until(lambda: find_children(desk.market), WITHIN_SEC, what="the process of a backtest")[:1]
    with contextlib.suppress(psutil.NoSuchProcess):
        os.kill(child.pid, signal.SIGKILL)
    failed = desk.finish(first)
    assert (failed["state"], failed["reason"], failed["result"]) == ("failed", "dead", None), failed
    assert "died" in failed["detail"]
    second = desk.start(parameters={"fast": 7}).json()["id"]
    found = desk.finish(second)
    assert found["state"] == "done", found
    assert desk.finish(desk.start(parameters={"fast": 6}).json()["id"])["state"] == "done"


def test_a_board_that_was_killed_says_what_it_left_and_keeps_what_was_done(desk):
    done = desk.finish(desk.start(parameters={"fast": 8}).json()["id"])
    left = desk.start(parameters={"fast": 9}).json()["id"]
    desk.market.fleet["board"].kill()
    desk.market.fleet.start("board")

    def answers():
        with contextlib.suppress(httpx.HTTPError):
            return desk.ask("GET", f"/backtests/{left}").status_code == 200
        return False

    until(answers, WITHIN_SEC, what="the board to be there again")
    found = desk.finish(left)
    assert (found["state"], found["reason"]) == ("failed", "restarted")
    kept = desk.finish(done["id"])
    assert (kept["state"], kept["result"]) == ("done", done["result"])


def test_one_is_deleted_with_its_report(desk):
    done = desk.finish(desk.start(parameters={"fast": 10}).json()["id"])
    assert (desk.folder / f"{done['id']}.job").exists()
    assert desk.ask("DELETE", f"/backtests/{done['id']}").status_code == 200
    assert not (desk.folder / f"{done['id']}.job").exists()
    assert not (desk.folder / f"{done['result']['digest']}.report").exists()
    assert desk.ask("GET", f"/backtests/{done['id']}").status_code == 404
    assert desk.ask("DELETE", f"/backtests/{done['id']}").status_code == 404
    assert desk.audit()[0]["action"] == "delete_backtest"


@needs_chromium
def test_a_person_plays_one_without_a_script_and_reads_it(desk, new_tab):
    until(lambda: desk.ask("GET", "/backtests/strategies").status_code == 200, WITHIN_SEC)
    page = new_tab(java_script_enabled=False).page
    page.goto(f"{desk.url}/market/backtests")
    sign_in(page, desk.make_token(Scope.WRITE))
    expect(page.locator(".tabs [aria-current]")).to_have_text("Backtests")
    if page.locator("#new-backtest").get_attribute("open") is None:
        page.locator("#new-backtest > summary").click()
    page.get_by_label("Strategy").select_option("breakout")
    page.get_by_role("button", name="Choose").click()
    expect(page.locator("form.write")).to_contain_text("breakout")
    page.get_by_label("Symbols, with blanks between them").fill("ETH/USD <b>bold</b>")
    page.get_by_role("button", name="Play it").click()
    expect(page.locator(".said.bad")).to_have_text("Symbols: one is no symbol.")
    expect(page.get_by_label("Symbols, with blanks between them")).to_have_value("ETH/USD <b>bold</b>")
    page.get_by_label("Symbols, with blanks between them").fill("ETH/USD")
    page.get_by_label("from", exact=True).fill(DAYS["from"])
    page.get_by_label("to", exact=True).fill(DAYS["to"])
    page.get_by_label("entry").fill("20")
    page.get_by_role("button", name="Play it").click()
    expect(page.locator("h1")).to_have_text("breakout")
    expect(page.locator(".st.up")).to_have_text(
        "done", timeout=1000 * WITHIN_SEC
    )  # the page loads itself again
    expect(page.locator("#hypothetical")).to_have_text(HYPOTHETICAL)
    expect(page.locator("main")).to_contain_text("Buy and hold buys equal parts")
    expect(page.locator("main")).to_contain_text("fewer than 30")
    if where := os.environ.get("MARKETSWARM_SCREENSHOTS"):
        page.screenshot(path=f"{where}/backtest.png", full_page=True)
    report = page.get_by_role("link", name="The whole report").get_attribute("href")
    page.goto(f"{desk.url}{report}")
    expect(page.locator("h1")).to_contain_text("Backtest of breakout: ETH/USD")
    assert page.locator("svg").count() > 0
    assert page.locator("body").evaluate("body => getComputedStyle(body).maxWidth") == "1040px"
    page.goto(f"{desk.url}/market/backtests")
    if where := os.environ.get("MARKETSWARM_SCREENSHOTS"):
        page.screenshot(path=f"{where}/backtests.png", full_page=True)
    page.get_by_role("row", name="breakout").get_by_role("link").click()
    page.get_by_role("button", name="Delete it").click()
    expect(page.locator(".said")).to_have_text("breakout: the backtest is deleted.")


REFRESH = """async () => {
  const { refresh } = await import(new URL("page.js", document.querySelector("script[type=module]").src));
  return refresh();
}"""
"""Has a page fetch itself, as it does when something happened; returns whether it could."""


@needs_chromium
def test_a_form_that_was_refused_keeps_its_strategy_and_what_was_typed(desk, new_tab):
    until(lambda: desk.ask("GET", "/backtests/strategies").status_code == 200, WITHIN_SEC)
    page = new_tab().page
    page.goto(f"{desk.url}/market/backtests?strategy=breakout")
    sign_in(page, desk.make_token(Scope.WRITE))
    page.goto(f"{desk.url}/market/backtests?strategy=breakout")
    typed = {"symbols": "ETH/USD <b>bold</b>", "cash": "4321", "p_entry": "21", **DAYS}
    for name, text in typed.items():
        page.locator(f'form.write [name="{name}"]').fill(text)
    page.get_by_role("button", name="Play it").click()
    expect(page.locator(".said.bad")).to_have_text("Symbols: one is no symbol.")
    page.wait_for_selector("body.live")
    assert page.evaluate(REFRESH)
    for name, text in {**typed, "strategy": "breakout"}.items():
        expect(page.locator(f'form.write [name="{name}"]')).to_have_value(text)
    expect(page.locator("form.write")).to_contain_text("breakout")


@needs_chromium
def test_a_form_of_a_reader_or_of_another_page_does_nothing(desk, new_tab):
    page = new_tab().page
    page.goto(f"{desk.url}/market/backtests")
    sign_in(page, desk.make_token(Scope.READ))
    expect(page.locator("main")).to_contain_text("begin or delete a backtest")
    expect(page.locator("#new-backtest")).to_have_count(0)
    foreign = httpx.post(f"{desk.url}/market/backtests", data=ASKED, timeout=30, verify=PLAIN)
    assert foreign.status_code == 403
