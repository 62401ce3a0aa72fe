"""What is published is there at once, also while the list is being read."""

import asyncio

from marketswarm.testing import MemoryBus
from marketswarm.web.audit import AuditLog
from marketswarm.web.tokens import Client
from services.board.actions import announcements as module
from services.board.actions.announcements import AnnouncementBoard, AnnouncementBody
from services.board.settings import PublicSettings
from support.waiting import auntil


async def test_what_is_published_while_the_list_is_read_is_there_with_the_next_look(monkeypatch):
    bus, release, waiting = MemoryBus(), asyncio.Event(), asyncio.Event()
    read = module.read_announcements

    async def read_slowly(of):
        found = await read(of)
        waiting.set()
        await release.wait()
        return found

    monkeypatch.setattr(module, "read_announcements", read_slowly)
    board = AnnouncementBoard(lambda: bus, AuditLog(lambda: bus, "board"), PublicSettings)
    looking = asyncio.create_task(board.read())
    await waiting.wait()
    body, client = AnnouncementBody(title="Slow", text="We look.", author="kim"), Client(None, "127.0.0.1")
    publishing = asyncio.create_task(board.publish(client, body, 1.0))
    await auntil(lambda: bus.client.exists("board:announcements"))
    release.set()
    assert await looking == ()
    await publishing
    assert [each.latest.title for each in await board.read()] == ["Slow"]
    await bus.aclose()
