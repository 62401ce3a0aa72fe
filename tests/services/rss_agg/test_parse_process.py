"""The process that takes documents apart, and how it is ended."""

import os
import signal
import subprocess
import sys
from contextlib import aclosing

import pytest

from services.rss_agg import parse_process as module
from services.rss_agg.parse import NotAFeedError
from services.rss_agg.parse_process import ParseProcess
from support.rig.feed_site import rss
from support.rig.process import alive
from support.waiting import until


async def test_documents_are_taken_apart_by_one_process_that_ends_with_us():
    async with aclosing(ParseProcess()) as parser:
        entries = await parser.parse(rss(2, 1), "text/xml", "http://a/")
        assert [entry.title for entry in entries] == ["Item 2", "Item 1"]
        pid = parser.pid
        assert pid is not None
        with pytest.raises(NotAFeedError, match="not_a_feed"):
            await parser.parse(b"nonsense", "", "http://a/")
        assert parser.pid == pid != os.getpid()
    assert not alive(pid)


async def test_a_document_that_takes_too_long_costs_its_process_and_no_other_document(monkeypatch):
    async with aclosing(ParseProcess()) as parser:
        await parser.parse(rss(1), "", "http://a/")
        pid = parser.pid
        assert pid is not None
        monkeypatch.setattr(module, "PARSE_SEC", 0.05)
        with pytest.raises(NotAFeedError, match="takes_too_long"):
            await parser.parse(b"<rss><channel><item><title>" + b"<" * 1_900_000, "", "http://a/")
        assert not alive(pid)
        assert len(await parser.parse(rss(1), "", "http://a/")) == 1


async def test_a_process_that_dies_is_replaced():
    async with aclosing(ParseProcess()) as parser:
        await parser.parse(rss(1), "", "http://a/")
        assert parser.pid is not None
        os.kill(parser.pid, signal.SIGKILL)
        with pytest.raises(NotAFeedError, match="kills its reader"):
            await parser.parse(rss(1), "", "http://a/")
        assert len(await parser.parse(rss(1), "", "http://a/")) == 1


AGENT = """
import asyncio
from contextlib import aclosing
from services.rss_agg.parse_process import ParseProcess
async def main():
    async with aclosing(ParseProcess()) as parser:
        await parser.parse(b"<rss><channel><item><title>x</title></item></channel></rss>", "", "http://a/")
        print(parser.pid, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


def test_it_does_not_outlive_an_agent_that_was_killed():
    with subprocess.Popen([sys.executable, "-c", AGENT], stdout=subprocess.PIPE, text=True) as agent:
        try:
            assert agent.stdout is not None
            pid = int(agent.stdout.readline())
            assert alive(pid)
        finally:
            agent.kill()
    until(lambda: not alive(pid))
