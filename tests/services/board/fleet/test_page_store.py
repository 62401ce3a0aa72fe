"""Pages that many look at are rendered and packed once for all who are not signed in."""

import asyncio
import gzip
from types import SimpleNamespace

import pytest

from services.board.fleet import page_store
from services.board.fleet.frame import Frame
from services.board.fleet.page_store import PageStore


class Pages:
    """Renders pages that are their title and who is signed in; counts them."""

    def __init__(self, monkeypatch):
        monkeypatch.setattr(page_store, "PAGE_SEC", 60.0)
        self.session, self.rendered, self.version = None, [], 1
        self.store = PageStore(SimpleNamespace(render=lambda frame: f"{frame.title} {frame.session}"))

    async def answer(self, title, **headers):
        frame = Frame(title, "", None, "", session=self.session)

        async def make():
            self.rendered.append(title)
            await asyncio.sleep(0)
            return frame

        return await self.store.answer(SimpleNamespace(headers=headers), frame, title, self.version, make)

    async def get(self, title):
        return (await self.answer(title)).body.decode()


@pytest.fixture
def pages(monkeypatch):
    return Pages(monkeypatch)


async def test_all_who_look_at_a_page_at_once_and_within_a_second_get_one_rendering(pages):
    assert await asyncio.gather(*(pages.get("Sources") for _ in range(5))) == ["Sources None"] * 5
    assert await pages.get("Sources") == "Sources None"
    assert await pages.get("Market") == "Market None"
    assert pages.rendered == ["Sources", "Market"]


async def test_a_page_that_is_read_since_something_changed_has_the_change_though_one_is_being_made(pages):
    early = asyncio.create_task(pages.get("Sources"))
    await asyncio.sleep(0)
    pages.version = 2
    await asyncio.gather(early, *(pages.get("Sources") for _ in range(3)))
    assert pages.rendered == ["Sources"] * 2
    pages.version = 3
    await pages.get("Sources")
    assert pages.rendered == ["Sources"] * 3


async def test_who_is_signed_in_has_a_page_of_their_own(pages):
    pages.session = "kim"
    assert [await pages.get("Sources") for _ in range(2)] == ["Sources kim"] * 2
    pages.session = None
    assert await pages.get("Sources") == "Sources None"
    assert pages.rendered == ["Sources"] * 3


async def test_a_client_that_takes_gzip_gets_it_packed(pages):
    packed = await pages.answer("Fleet", **{"accept-encoding": "br, gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == b"Fleet None"
    assert "content-encoding" not in (await pages.answer("Fleet")).headers
    assert pages.rendered == ["Fleet"]
