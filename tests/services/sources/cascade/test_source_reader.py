"""What reading one source keeps from one question to the next."""

import asyncio
import time

from services.market.sessions import get_session
from services.sources.cascade import source_reader
from services.sources.cascade.source_reader import SourceReader
from services.sources.settings import WorkSettings


async def test_loads_that_begin_at_once_compute_each_calendar_once_and_one_at_a_time(monkeypatch):
    running, computed = [], []

    def compute(code):
        running.append(code)
        computed.append(code)
        time.sleep(0.05)  # long enough for others to come meanwhile
        assert running == [code]
        running.clear()
        return get_session("24x7")

    monkeypatch.setattr(source_reader, "get_session", compute)
    reader = SourceReader(None, None, {}, WorkSettings, time.time)
    await asyncio.gather(*(reader.find_session(code) for code in ("XNYS", "XLON") * 5))
    assert computed == ["XNYS", "XLON"]
