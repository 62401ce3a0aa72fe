"""Pages that many look at are rendered and packed once for all who are not signed in."""

import asyncio
import gzip
from types import SimpleNamespace

import httpx
import pytest
from starlette.requests import Request

from services.board.app import answer_kept
from services.board.fleet import page_store
from services.board.fleet.frame import Frame
from services.board.fleet.page_store import PageStore


def make_request(title, **headers):
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "GET", "path": f"/{title}", "query_string": b"", "headers": raw}
    return Request(scope)


class Pages:
    """Renders pages that are their title and who is signed in; counts them."""

    def __init__(self, monkeypatch):
        monkeypatch.setattr(page_store, "PAGE_SEC", 60.0)
        self.session, self.rendered, self.version = None, [], 1
        self.store = PageStore(
            SimpleNamespace(render=lambda frame: f"{frame.title} {frame.session}"), "board_8080"
        )

    async def answer(self, title, **headers):
        frame = Frame(title, "", None, "", session=self.session)

        async def make():
            self.rendered.append(title)
            await asyncio.sleep(0)
            return frame

        return await self.store.answer(make_request(title, **headers), frame, self.version, make)

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


@pytest.fixture
async def quick(pages):
    """A client of the pages that are kept; the routes before which they stand note each request."""
    seen = []

    async def routes(scope, receive, send):
        seen.append(scope["path"] + scope["query_string"].decode())
        title = scope["path"].removeprefix("/")
        accepted = {
            name.decode(): value.decode() for name, value in scope["headers"] if name == b"accept-encoding"
        }
        await (await pages.answer(title, **accepted))(scope, receive, send)

    pages.store.versions["/Fleet"] = lambda: pages.version
    transport = httpx.ASGITransport(answer_kept(routes, pages.store.find_kept))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client, seen


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
async def test_a_page_that_is_kept_is_answered_as_the_route_answers_it(pages, quick, encoding):
    client, seen = quick
    head = {"Accept-Encoding": encoding}
    first, second = [await client.get("/Fleet", headers=head) for _ in range(2)]
    assert (first.text, second.text, second.headers) == ("Fleet None", "Fleet None", first.headers)
    assert (len(seen), pages.rendered) == (1, ["Fleet"])


async def test_a_page_of_an_older_version_is_not_answered(pages, quick):
    client, seen = quick
    await client.get("/Fleet")
    pages.version = 2
    await client.get("/Fleet")
    assert (len(seen), len(pages.rendered)) == (2, 2)


async def test_who_has_a_session_is_left_to_the_routes_and_their_page_is_kept_for_nobody(pages, quick):
    client, seen = quick
    pages.session = "kim"
    cookie = {"Cookie": "theme=dark; board_8080=secret"}
    assert [(await client.get("/Fleet", headers=cookie)).text for _ in range(2)] == ["Fleet kim"] * 2
    pages.session = None
    assert (await client.get("/Fleet")).text == "Fleet None"
    pages.session = "kim"
    assert (await client.get("/Fleet", headers=cookie)).text == "Fleet kim"
    assert (await client.get("/Fleet", headers={"Cookie": "board_9090=other"})).text == "Fleet None"
    assert len(seen) == 4


async def test_other_paths_queries_and_methods_are_left_to_the_routes(pages, quick):
    client, seen = quick
    for path in ("/Fleet", "/Fleet?text=a", "/Sources", "/Sources", "/Fleet/"):
        await client.get(path)
    await client.head("/Fleet")
    await client.post("/Fleet")
    assert seen == ["/Fleet", "/Fleettext=a", "/Sources", "/Sources", "/Fleet/", "/Fleet", "/Fleet"]
