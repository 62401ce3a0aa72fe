"""Write what the pages show of a price after each of its moves, once for all browsers that follow it.

The pages have the same cells from `make_cells`, so a script only puts them in place. They are a topic of
`/ws` of the pages' own: what moves again within a tenth of a second is written once.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from marketswarm.web.updates import Follower
from services.board.market import pictures
from services.board.market.market import Market
from services.board.market.overview import TileView, make_tile
from services.board.market.topics import TopicKind, find_symbol, name_topic
from services.market.records import TIMEFRAMES

_MOVES: Final = (TopicKind.QUOTES, *(name_topic(TopicKind.BARS, frame) for frame in TIMEFRAMES))


@dataclass(frozen=True, slots=True)
class PriceCell:
    """A text of a tile, and its class.

    Of an age that grows, `since` is its begin in epoch seconds, and `after` is what follows the age itself.
    """

    text: str
    mark: str = ""
    since: float | None = None
    after: str = ""


def make_cells(tile: TileView, now: float) -> Mapping[str, PriceCell]:
    """Return by name the parts of a tile that change when its price moves; `now` is in epoch seconds."""
    moved = pictures.format_change(tile.change, tile.price, tile.decimals)
    change = f"{moved} ({pictures.format_percent(tile.change_percent)})"
    return {
        "price": PriceCell(pictures.format_price(tile.price, tile.decimals), "price"),
        "change": PriceCell(change, f"change {pictures.find_direction(tile.change)}"),
        "source": PriceCell(tile.source or "no source yet"),
        "age": _make_age(tile, now),
    }


def _make_age(tile: TileView, now: float) -> PriceCell:
    if tile.at is None or tile.daily:
        return PriceCell("" if tile.at is None else pictures.format_day(tile.at))
    since = tile.at / 1000
    is_old = now - since >= pictures.OLD_SEC
    return PriceCell(pictures.format_recency(tile.at, now), since=None if is_old else since, after=" ago")


async def run_price_cells(market: Market) -> None:
    """Publish the cells of each symbol that moved and is followed, at most once in an interval, for ever."""
    while True:
        prices = Follower()
        market.hub.subscribe(prices, _MOVES)
        while prices.dropped is None:
            _, updates = await prices.take()
            publish_cells(market, {find_symbol(one.topic) for one in updates}, time.time())
            await prices.pause()


def publish_cells(market: Market, symbols: Iterable[str], now: float) -> None:
    """Publish the cells of those of some symbols that are followed.

    Without a page that shows a symbol its cells are empty: the page has to be fetched.
    """
    for symbol in symbols:
        topic = name_topic(TopicKind.CELLS, symbol)
        if market.hub.is_followed(topic):
            shown = market.shown.find_kept(symbol)
            tile = TileView(symbol) if shown is None else make_tile(*shown, market.live)
            cells = {} if tile.price is None else make_cells(tile, now)
            data = {"series": tile.series, "at": tile.at, "cells": cells}
            market.hub.publish(topic, orjson.dumps(data), is_kept=False)
