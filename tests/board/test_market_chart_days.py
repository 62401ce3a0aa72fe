"""The chart of a symbol over splits and dividends, in a browser: its API and its WebSocket are the test's."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from playwright.sync_api import Page, WebSocketRoute, expect

from support.rig.browser import Tabs, needs_chromium

pytestmark = needs_chromium
Row = Mapping[str, Any]


def make_bar(start: str, close: float, *, upto: str | None = None, day: str | None = None) -> Row:
    """Return a bar of one price as the API gives it, adjusted for splits up to a day."""
    at = round(1000 * datetime.fromisoformat(start).replace(tzinfo=UTC).timestamp())
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    origin = {"source": "massive", "final": True, "rev": 0, "epoch": 0, "adjusted_to": upto}
    return {"start": at, "day": day, **prices, "volume": None, **origin}


def make_action(kind: str, ex_day: str, value: float) -> Row:
    """Return a split of a ratio, or a dividend of an amount."""
    ratio, amount = (value, None) if kind == "split" else (None, value)
    return {"ex_day": ex_day, "kind": kind, "ratio": ratio, "amount": amount}


class PlayedChart:
    """The chart of XLF in a timeframe. Each question for bars has the next of `pages`, or the last."""

    def __init__(
        self, page: Page, timeframe: str, *pages: Sequence[Row], actions: Sequence[Row] = ()
    ) -> None:
        self.page, self.pages, self.actions = page, list(pages), list(actions)
        self._topic = f"bars:XLF:{timeframe}"
        self._client: WebSocketRoute | None = None
        self._pushed = 0
        page.route(re.compile("/api/v1/bars/"), lambda route: route.fulfill(json=self._answer()))
        page.route(re.compile("/api/v1/indicators/"), lambda route: route.fulfill(json={"indicators": []}))
        page.route(
            re.compile("/api/v1/actions/"), lambda route: route.fulfill(json={"actions": self.actions})
        )
        page.route_web_socket(re.compile("/ws$"), self._welcome)

    def open(self, url: str) -> None:
        """Open the page, and wait until the chart has its bars and follows the market."""
        timeframe = self._topic.rpartition(":")[2]
        self.page.goto(f"{url}/market/symbol/XLF?timeframe={timeframe}")
        expect(self.page.locator("#legend")).to_contain_text("C ")
        expect(self.page.locator("#prices")).to_have_text("prices live")

    def push(self, bar: Row) -> None:
        self._pushed += 1
        self._send(
            {"type": "updates", "last": self._pushed, "updates": [{"topic": self._topic, "data": bar}]}
        )

    def begin_anew(self) -> None:
        """End the WebSocket: the page makes another one, and asks for what it may have missed."""
        assert self._client is not None
        self._client.close()

    def _answer(self) -> Row:
        found = self.pages.pop(0) if len(self.pages) > 1 else self.pages[0]
        return {"bars": found, "gaps": [], "cursor": None}

    def _welcome(self, client: WebSocketRoute) -> None:
        self._client = client
        client.on_message(self._reply)
        self._send({"type": "hello", "position": "b-0"})

    def _reply(self, message: str | bytes) -> None:
        topics = {self._topic: []} if "subscribe" in orjson.loads(message) else {}
        self._send({"type": "snapshot", "position": f"b-{self._pushed}", "topics": topics})

    def _send(self, message: Row) -> None:
        assert self._client is not None
        self._client.send(orjson.dumps(message).decode())


def test_the_last_hour_of_new_york_in_winter_is_of_its_own_day(market, new_tab: Tabs):
    bars = [make_bar(f"2035-12-03T{at}", 100, upto="2035-12-03") for at in ("20:58", "20:59")]
    chart = PlayedChart(new_tab().page, "1m", bars, actions=[make_action("dividend", "2035-12-04", 2)])
    chart.open(market.url)
    expect(chart.page.locator("#return")).to_contain_text("price +0.00 %, total return +0.00 %")
    expect(chart.page.locator("#actions")).to_be_hidden()
    chart.push(make_bar("2035-12-04T14:30", 99))
    expect(chart.page.locator("#actions")).to_have_text("dividend 2 on 2035-12-04")
    expect(chart.page.locator("#return")).to_contain_text("price \N{MINUS SIGN}1.00 %, total return +1.02 %")


SPLIT = make_action("split", "2035-12-04", 10)


def test_a_chart_that_is_open_over_a_split_has_one_basis(market, new_tab: Tabs):
    before = [
        make_bar(f"2035-12-{day}T14:30", 1200, upto="2035-12-03", day=f"2035-12-{day}")
        for day in ("02", "03")
    ]
    after = [
        {**bar, **dict.fromkeys(("open", "high", "low", "close"), 120), "adjusted_to": "2035-12-04"}
        for bar in before
    ]
    newest = make_bar("2035-12-04T14:30", 120, upto="2035-12-04", day="2035-12-04")
    chart = PlayedChart(new_tab().page, "1d", before, [*after, newest])
    chart.open(market.url)
    chart.actions.append(SPLIT)  # it was announced since
    chart.push({**newest, "adjusted_to": None})
    box = chart.page.locator("#chart")
    expect(box).to_have_attribute(
        "aria-label", re.compile(r": 3 bars .* lowest price 120\.0000, highest 120\.0000$")
    )
    expect(chart.page.locator("#return")).to_contain_text("price +0.00 %, total return +0.00 %")
    expect(chart.page.locator("#actions")).to_have_text("split 10:1 on 2035-12-04")


def test_a_chart_that_missed_the_begin_of_an_ex_day_keeps_no_bar_of_the_basis_before(market, new_tab: Tabs):
    times = ("2035-12-03T20:58", "2035-12-03T20:59", "2035-12-04T14:30")
    before = [make_bar(at, 1200, upto="2035-12-03") for at in times[:2]]
    after = [make_bar(at, 120, upto="2035-12-04") for at in times]
    chart = PlayedChart(new_tab().page, "1m", before, after[1:], after, actions=[SPLIT])
    chart.open(market.url)
    chart.begin_anew()
    box = chart.page.locator("#chart")
    expect(box).to_have_attribute(
        "aria-label", re.compile(r": 3 bars .* lowest price 120\.0000, highest 120\.0000$")
    )


def test_a_week_that_is_open_over_a_split_has_the_weeks_before_on_its_basis(market, new_tab: Tabs):
    days = ("2019-12-30", "2020-01-06")
    before = [make_bar(f"{day}T14:30", 1200, upto="2020-01-07", day=day) for day in days]
    after = [make_bar(f"{day}T14:30", 120, upto="2020-01-08", day=day) for day in days]
    chart = PlayedChart(new_tab().page, "1w", before, after, actions=[make_action("split", "2020-01-08", 10)])
    chart.open(market.url)
    chart.push({**after[-1], "adjusted_to": None})  # as traded on its last day
    box = chart.page.locator("#chart")
    expect(box).to_have_attribute(
        "aria-label", re.compile(r": 2 bars .* lowest price 120\.0000, highest 120\.0000$")
    )


def test_the_return_of_months_has_the_dividends_between_their_closes_and_follows_the_newest_one(
    market, new_tab: Tabs
):
    months = (("2035-06", 100), ("2035-07", 110))
    bars = [
        make_bar(f"{month}-03T13:30", close, upto="2035-07-20", day=f"{month}-01") for month, close in months
    ]
    actions = [
        make_action("dividend", "2035-06-20", 300),  # before the close of June
        make_action("dividend", "2035-07-02", 5),
        make_action("split", "2035-07-15", 10),  # half of that for a share of today
        make_action("dividend", "2035-07-25", 20),  # announced
    ]
    chart = PlayedChart(new_tab().page, "1mo", bars, actions=actions)
    chart.open(market.url)
    result = chart.page.locator("#return")
    expect(result).to_contain_text("price +10.00 %, total return +10.55 % since 2035-06-01")
    chart.push({**bars[-1], **dict.fromkeys(("high", "close"), 120), "rev": 1, "adjusted_to": None})
    expect(result).to_contain_text("price +20.00 %, total return +20.60 % since 2035-06-01")
    expect(chart.page.locator("#chart")).to_have_attribute("aria-label", re.compile(r"highest 120\.0000$"))
