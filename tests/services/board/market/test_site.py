"""Pages of the market that many look at are rendered once for all who are not signed in."""

import asyncio
from types import SimpleNamespace

import pytest

from services.board.market import site
from services.board.market.feed import MarketStates
from services.board.market.site import PageStore


class Pages:
    """Renders pages that are their title and who is signed in; counts them."""

    def __init__(self, monkeypatch):
        monkeypatch.setattr(site, "PAGE_SEC", 60.0)
        self.session, self.rendered = None, []
        templates = SimpleNamespace(render=lambda frame: f"{frame.title} {frame.session}")
        board = SimpleNamespace(make_session_frame=self.make_frame, templates=templates)
        self.states = MarketStates(read_at=1.0)
        self.store = PageStore(board, lambda: self.states)

    async def make_frame(self, _request, title, _path):
        return site.Frame(title, "", None, "", session=self.session)

    async def get(self, title):
        async def make(frame):
            self.rendered.append(title)
            await asyncio.sleep(0)
            return frame

        return (await self.store.answer(None, title, make)).body.decode()


@pytest.fixture
def pages(monkeypatch):
    return Pages(monkeypatch)


async def test_all_who_look_at_a_page_at_once_and_within_a_second_get_one_rendering(pages):
    assert await asyncio.gather(*(pages.get("Sources") for _ in range(5))) == ["Sources None"] * 5
    assert await pages.get("Sources") == "Sources None"
    assert await pages.get("Market") == "Market None"
    assert pages.rendered == ["Sources", "Market"]


async def test_a_page_that_is_read_since_a_series_changed_has_the_change_though_one_is_being_made(pages):
    early = asyncio.create_task(pages.get("Sources"))
    await asyncio.sleep(0)
    pages.states = MarketStates(read_at=2.0)
    await asyncio.gather(early, *(pages.get("Sources") for _ in range(3)))
    assert pages.rendered == ["Sources"] * 2
    pages.states = MarketStates(read_at=3.0)
    await pages.get("Sources")
    assert pages.rendered == ["Sources"] * 3


async def test_who_is_signed_in_has_a_page_of_their_own(pages):
    pages.session = "kim"
    assert [await pages.get("Sources") for _ in range(2)] == ["Sources kim"] * 2
    pages.session = None
    assert await pages.get("Sources") == "Sources None"
    assert pages.rendered == ["Sources"] * 3
