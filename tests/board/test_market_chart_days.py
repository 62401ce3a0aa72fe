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
    """The chart of XLF in a timeframe. Each question for bars is answered by the next of `pages`, or the last."""

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
