"""The answers to requests for badges."""

from dataclasses import replace
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI

from services.board.public.badges import make_badge_site
from services.board.settings import PublicSettings
from support.board_examples import make_small

PUBLIC = PublicSettings(tags=("market",))


@pytest.fixture
def board():
    return SimpleNamespace(snapshot=make_small(), public=PUBLIC, is_current=lambda: True)


@pytest.fixture
async def client(board):
    app = FastAPI()
    app.include_router(make_badge_site(board))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://board") as client:
        yield client


async def test_a_public_badge_may_be_kept_and_shown_by_any_page(client):
    found = await client.get("/badge/prices.svg")
    assert found.headers["content-type"].startswith("image/svg+xml")
    assert "public, max-age=30" in found.headers["cache-control"]
    assert found.headers["cross-origin-resource-policy"] == "cross-origin"
    assert found.headers["access-control-allow-origin"] == "*"
    assert "prices: late" in found.text


async def test_another_badge_is_for_its_reader_alone(client):
    found = await client.get("/badge/tag/ingest.json")
    assert found.json()["status"] == "down"
    assert found.headers["cache-control"] == "private, no-cache"
    assert "access-control-allow-origin" not in found.headers
    assert "cross-origin-resource-policy" not in found.headers


async def test_there_is_a_badge_of_all_services_for_readers_alone(client, board):
    board.public = PublicSettings(tags=("*",))
    found = await client.get("/badge/tag/%2A.json")
    counts = [each.state for each in board.snapshot.services]
    assert (found.json()["total"], found.json()["down"]) == (len(counts), counts.count("down"))
    assert found.json()["grace"] == counts.count("silent") > 0
    assert found.headers["cache-control"] == "private, no-cache"
    assert "down" in (await client.get("/badge/tag/*.svg")).text


async def test_a_tag_may_have_any_letters(client, board):
    service = replace(board.snapshot.services[0], tags=("a/b c",))
    board.snapshot = replace(board.snapshot, services=(service,))
    assert (await client.get("/badge/tag/a%2Fb%20c.json")).json()["total"] == 1


async def test_a_badge_that_is_known_is_not_sent_again(client, board):
    etag = (await client.get("/badge/prices.shields")).headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}'):
        again = await client.get("/badge/prices.shields", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
    board.is_current = lambda: False
    changed = await client.get("/badge/prices.shields", headers={"If-None-Match": etag})
    assert (changed.status_code, changed.json()["message"]) == (200, "unknown")


@pytest.mark.parametrize("path", ["/badge/no.svg", "/badge/mesh.exe", "/badge/tag/no.svg", "/badge/mesh"])
async def test_there_is_no_badge_of_what_there_is_not(client, path):
    assert (await client.get(path)).status_code == 404
