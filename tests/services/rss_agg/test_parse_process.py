"""The process that takes documents apart: what a document may cost, and what its answer may be."""

import os
from contextlib import aclosing
from dataclasses import replace

import orjson
import pytest

from services.rss_agg import parse_process as module
from services.rss_agg.parse import MAX_ENTRIES, NotAFeedError
from services.rss_agg.parse_process import ParseProcess
from support.rig.feed_site import rss
from support.rig.process import alive


async def test_documents_are_taken_apart_by_one_process_that_ends_with_us():
    async with aclosing(ParseProcess()) as parser:
        entries = await parser.parse(rss(2, 1), "text/xml", "http://a/")
        assert [entry.title for entry in entries] == ["Item 2", "Item 1"]
        pid = parser.pid
        assert pid is not None
        with pytest.raises(NotAFeedError, match="not_a_feed"):
            await parser.parse(b"nonsense\n\xff", "", "http://a/\n")
        assert parser.pid == pid != os.getpid()
    assert not alive(pid)


async def test_a_document_that_takes_too_long_costs_its_process_and_no_other_document(monkeypatch):
    monkeypatch.setattr(module, "LIMITS", replace(module.LIMITS, request_sec=0.05))
    async with aclosing(ParseProcess()) as parser:
        await parser.parse(rss(1), "", "http://a/")
        pid = parser.pid
        assert pid is not None
        with pytest.raises(NotAFeedError, match="takes_too_long"):
            await parser.parse(b"<rss><channel><item><title>" + b"<" * 1_900_000, "", "http://a/")
        assert not alive(pid)
        assert len(await parser.parse(rss(1), "", "http://a/")) == 1


ENTRY = {"id": "1", "link": "", "title": "", "summary": "", "published": "2026-11-29T10:00:00Z"}


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff",
        b"null",
        b"{}",
        b"[1]",
        orjson.dumps([{"id": "1"}]),
        orjson.dumps([ENTRY | {"more": ""}]),
        orjson.dumps([ENTRY | {"title": 1}]),
        orjson.dumps([ENTRY | {"published": "soon"}]),
        orjson.dumps([ENTRY] * (MAX_ENTRIES + 1)),
    ],
)
async def test_a_process_that_a_document_took_over_ends_no_task_by_its_answer(answer, monkeypatch):
    async def exchange(_self, _request, _on_progress):
        return answer

    monkeypatch.setattr(ParseProcess, "_exchange", exchange)
    async with aclosing(ParseProcess()) as parser:
        with pytest.raises(NotAFeedError, match="kills its reader"):
            await parser.parse(rss(1), "", "http://a/")


async def test_an_answer_of_entries_is_taken(monkeypatch):
    async def exchange(_self, _request, _on_progress):
        return orjson.dumps([ENTRY])

    monkeypatch.setattr(ParseProcess, "_exchange", exchange)
    async with aclosing(ParseProcess()) as parser:
        (entry,) = await parser.parse(rss(1), "", "http://a/")
    assert (entry.id, entry.published) == ("1", ENTRY["published"])
