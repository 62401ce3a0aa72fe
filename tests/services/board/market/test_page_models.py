from pathlib import Path
from types import SimpleNamespace

import pytest

from marketswarm.web.updates import MAX_TOPICS
from services.archive.correlations import MIN_DAYS
from services.bars.indicators import INDICATORS
from services.board import market
from services.board.market.conversation import is_topic
from services.board.market.overview import TileView
from services.board.market.site import OVERLAYS, MarketNotice, MarketPage, TileGroup

TEMPLATE = Path(market.__file__).parents[1] / "templates" / "market_correlations.html"
NUMBERS = {5: "five"}
VALUES = [name for one in INDICATORS.values() for name in one.outputs]


@pytest.mark.parametrize("name", VALUES)
def test_every_value_of_every_indicator_is_drawn_by_one_box(name):
    prefixes = [one.prefix for one in OVERLAYS if name == one.prefix or name.startswith(f"{one.prefix}_")]
    assert len(prefixes) == 1
    assert len(OVERLAYS) == len(INDICATORS)


@pytest.mark.parametrize("count", [1, MAX_TOPICS, MAX_TOPICS + 1, 5000])
def test_a_page_follows_all_of_its_symbols_with_no_more_topics_than_a_client_may_have(count):
    tiles = tuple(TileView(f"S{number}") for number in range(count))
    page = MarketPage(SimpleNamespace(), MarketNotice(), (TileGroup("stocks", tiles),))
    topics = page.topics.split()
    assert all(map(is_topic, topics))
    assert len(topics) <= MAX_TOPICS
    assert {"quotes", "bars:1m"} == set(topics) or {f"cells:S{n}" for n in range(count)} == set(topics)


def test_the_page_of_correlations_says_how_many_days_the_archive_needs():
    assert TEMPLATE.read_text(encoding="utf-8").count(f"{NUMBERS[MIN_DAYS]} days") == 2
