"""What pages show of a price is written once after each of its moves, as the page itself has it."""

import asyncio
import re
from dataclasses import replace
from types import SimpleNamespace

import orjson
import pytest

from marketswarm.tasks import end_tasks
from marketswarm.web.updates import UpdateHub
from services.board.fleet.frame import Frame
from services.board.fleet.snapshot import FleetSnapshot
from services.board.market import price_cells
from services.board.market.live import LiveMarket
from services.board.market.overview import SeriesPast, TileView, make_tile
from services.board.market.price_cells import make_cells, publish_cells, run_price_cells
from services.board.market.site import MarketNotice, SymbolPage
from services.board.market.states import StoredSeries
from services.board.market.topics import find_symbol
from services.board.templates import TEMPLATES
from services.tables.rows import QuoteRow
from support.waiting import PATIENT_SEC

NOW = 1_700_000_000.0
SERIES = StoredSeries(id="spy", symbol="SPY", kind="quotes")
PAST = SeriesPast(points=((1, 100.0), (2, 101.0)))


class Scene:
    """A market whose pages have shown one symbol, and a follower of two."""

    def __init__(self):
        self.hub, self.live = UpdateHub("b"), LiveMarket()
        self.pages = {"SPY": (SERIES, PAST)}
        self.shown = SimpleNamespace(find_kept=self.pages.get)
        self.follower = self.hub.join()
        self.hub.subscribe(self.follower, ["cells:SPY", "cells:QQQ"])

    def quote(self, symbol, price, at_sec=NOW - 3):
        row = QuoteRow(symbol, int(1000 * at_sec), price, *(None,) * 5, "yahoo", None, None, False)
        assert self.live.take_quote(row, NOW)
        self.hub.publish(f"quotes:{symbol}", b"1", wider="quotes")

    async def take(self):
        async with asyncio.timeout(PATIENT_SEC):
            _, updates = await self.follower.take()
        return {one.topic: orjson.loads(one.data) for one in updates}


@pytest.fixture
async def scene():
    return Scene()


async def test_the_cells_of_a_quote_are_those_of_the_page(scene):
    scene.quote("SPY", 110.5)
    publish_cells(scene, ["SPY"], NOW)
    found = (await scene.take())["cells:SPY"]
    tile = make_tile(SERIES, PAST, scene.live)
    assert (found["series"], found["at"]) == ("spy", tile.at)
    texts = {name: (cell["text"], cell["mark"]) for name, cell in found["cells"].items()}
    assert texts == {
        "price": ("110.50", "price"),
        "change": ("+10.50 (+10.50 %)", "change rise"),
        "source": ("yahoo", ""),
        "age": ("3 s ago", ""),
    }
    frame = Frame("SPY", "/market", FleetSnapshot(NOW), "b-1")
    page = TEMPLATES.render(SymbolPage(frame, MarketNotice(), "SPY", "1m", tile))
    shown = re.findall(r'<span data-cell="(\w+)"(?: class="([^"]*)")?[^>]*>([^<]*)</span>', page)
    assert {name: (text, mark) for name, mark, text in shown} == texts
    assert f'data-priced="spy" data-price-at="{tile.at}"' in page
    assert f'data-since="{found["cells"]["age"]["since"]}" data-after=" ago"' in page


@pytest.mark.parametrize(
    ("total", "text"),
    [
        (-0.71, "\N{MINUS SIGN}0.88 (\N{MINUS SIGN}0.72 %, with dividend \N{MINUS SIGN}0.71 %)"),
        (-0.7201, "\N{MINUS SIGN}0.88 (\N{MINUS SIGN}0.72 %)"),
        (None, "\N{MINUS SIGN}0.88 (\N{MINUS SIGN}0.72 %)"),
    ],
)
def test_beside_the_change_of_a_price_stands_its_total_return(total, text):
    moved = {"price": 121.25, "change": -0.88, "change_percent": -0.72, "decimals": 2}
    tile = replace(make_tile(SERIES, PAST, LiveMarket()), **moved, total_percent=total)
    assert make_cells(tile, NOW)["change"].text == text


async def test_of_what_no_page_has_shown_there_are_no_cells_but_the_page_is_told(scene):
    scene.quote("QQQ", 5.0)
    publish_cells(scene, ["QQQ", "IWM"], NOW)
    assert await scene.take() == {"cells:QQQ": {"series": "", "at": None, "cells": {}}}


async def test_several_moves_of_a_symbol_are_written_once_and_only_if_it_is_followed(scene, monkeypatch):
    written = []
    monkeypatch.setattr(
        price_cells, "make_cells", lambda tile, now: written.append(tile.price) or make_cells(tile, now)
    )
    scene.pages["IWM"] = SERIES, PAST
    running = asyncio.create_task(run_price_cells(scene))
    await asyncio.sleep(0)
    for price in range(1, 50):
        scene.quote("SPY", float(price))
        scene.quote("IWM", float(price))
    assert (await scene.take())["cells:SPY"]["cells"]["price"]["text"] == "49.00"
    assert written == [49.0]
    scene.quote("SPY", 50.0)
    assert (await scene.take())["cells:SPY"]["cells"]["price"]["text"] == "50.00"
    await end_tasks(running)


async def test_cells_are_numbered_and_kept_by_no_one_else(scene):
    scene.quote("SPY", 1.0)
    before = scene.hub.position
    publish_cells(scene, ["SPY"], NOW)
    assert scene.hub.position == before
    other = scene.hub.join()
    assert scene.hub.resume(other, before, ["cells:SPY"])
    assert other.first_pending is None
    assert f"b-{scene.hub.publish('quotes:SPY', b'1') - 1}" == before


@pytest.mark.parametrize(
    ("tile", "text", "since"),
    [
        (TileView("SPY", price=1.0, at=int(1000 * NOW) - 86_400_000 * 4), "2023-11-10 22:13 UTC", None),
        (TileView("SPY", price=1.0, at=int(1000 * NOW), daily=True), "2023-11-15", None),
        (TileView("SPY"), "", None),
        (TileView("SPY", price=1.0, at=int(1000 * NOW) - 61_000), "61 s ago", NOW - 61),
    ],
)
def test_an_age_grows_only_if_it_is_one(tile, text, since):
    found = make_cells(tile, NOW)["age"]
    assert (found.text, found.since) == (text, since)


@pytest.mark.parametrize(
    ("topic", "symbol"),
    [("quotes:X:BTC", "X:BTC"), ("bars:EUR/USD:1m", "EUR/USD"), ("bars:X:BTC:1d", "X:BTC")],
)
def test_the_symbol_of_an_update_is_in_its_topic(topic, symbol):
    assert find_symbol(topic) == symbol
