"""The process that takes documents apart, and how it is ended."""

import os

import pytest

from services.rss_agg import parse_process as module
from services.rss_agg.parse import NotAFeedError
from services.rss_agg.parse_process import ParseProcess
from support.rig.feed_site import rss
from support.rig.process import alive
from support.waiting import auntil


async def test_documents_are_taken_apart_by_one_process_that_ends_with_us():
    async with ParseProcess() as parser:
        entries = await parser.parse(rss(2, 1), "text/xml", "http://a/")
        assert [entry.title for entry in entries] == ["Item 2", "Item 1"]
        assert parser._process is not None
        pid = parser._process.pid
        with pytest.raises(NotAFeedError, match="not_a_feed"):
            await parser.parse(b"nonsense", "", "http://a/")
        assert parser._process.pid == pid != os.getpid()
    assert not alive(pid)


async def test_a_document_that_takes_too_long_costs_its_process_and_no_other_document(monkeypatch):
    async with ParseProcess() as parser:
        await parser.parse(rss(1), "", "http://a/")
        assert parser._process is not None
        pid = parser._process.pid
        monkeypatch.setattr(module, "PARSE_SEC", 0.05)
        with pytest.raises(NotAFeedError, match="takes_too_long"):
            await parser.parse(b"<rss><channel><item><title>" + b"<" * 1_900_000, "", "http://a/")
        assert not alive(pid)
        assert len(await parser.parse(rss(1), "", "http://a/")) == 1


async def test_a_process_that_dies_is_replaced():
    async with ParseProcess() as parser:
        await parser.parse(rss(1), "", "http://a/")
        assert parser._process is not None
        parser._process.kill()
        with pytest.raises(NotAFeedError, match="kills its reader"):
            await parser.parse(rss(1), "", "http://a/")
        assert len(await parser.parse(rss(1), "", "http://a/")) == 1


async def test_it_ends_with_its_input():
    """So it does not outlive an agent that was killed."""
    async with ParseProcess() as parser:
        await parser.parse(rss(1), "", "http://a/")
        process = parser._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        await auntil(lambda: process.returncode is not None, 10)
        assert process.returncode == 0
