"""The clock of a recording on a real bus: all processes tell the same time, whenever they were started."""

import asyncio
import subprocess
import sys
import time

import pytest

from marketswarm.bus import Bus
from marketswarm.keys import replay_clock_key
from services.market.records import AssetClass, RecordKind
from services.sources.catalog.request import Question
from services.sources.replay import replay_source as module
from services.sources.replay.recording import read_recording
from services.sources.replay.replay_source import ReplaySource
from support.recordings import MINUTE_MS, PLAY_FROM, PLAY_FROM_MS, TO_MS, bar, iso, write
from support.waiting import auntil

KEY = replay_clock_key("two_hours")
ROWS = [bar(PLAY_FROM_MS + minute * MINUTE_MS, 9 + minute % 3) for minute in range(-30, 120)]
ALL = Question("SPY", AssetClass.STOCKS, RecordKind.BARS, PLAY_FROM.replace(year=2000), PLAY_FROM, "1m")
OTHER_PROCESS = """
import asyncio, sys
from pathlib import Path
from marketswarm.bus import Bus
from services.sources.replay import replay_source as module
from services.sources.replay.recording import read_recording
from services.sources.replay.replay_source import ReplaySource

async def main():
    bus = Bus("market-redis", sys.argv[1])
    source = ReplaySource("replay", read_recording(Path(sys.argv[2])), bus, speed=60.0)
    print((await source.read_clock()).begun_ms)
    await bus.aclose()

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path):
    return write(tmp_path, *ROWS)


async def test_processes_that_begin_at_once_agree_and_so_does_one_that_comes_later(path, bus, server):
    recording = read_recording(path)
    buses = [Bus("market-redis", server.url) for _ in range(5)]
    try:
        sources = [ReplaySource("replay", recording, each, speed=60.0) for each in buses]
        clocks = await asyncio.gather(*(source.read_clock() for source in sources))
    finally:
        await asyncio.gather(*(each.aclose() for each in buses))
    (begun_ms,) = {clock.begun_ms for clock in clocks}
    line = [sys.executable, "-c", OTHER_PROCESS, server.url, str(path)]
    later = await asyncio.to_thread(subprocess.run, line, capture_output=True, check=True)
    assert int(later.stdout) == begun_ms


async def test_it_plays_every_minute_once_in_order_and_stops_at_its_end(path, bus):
    source = ReplaySource("replay", read_recording(path), bus, speed=3600.0)
    seen, newest = [], ALL.start

    async def play():
        nonlocal newest
        question = Question(ALL.symbol, ALL.asset, ALL.kind, newest, PLAY_FROM.replace(year=2100), "1m")
        answer = await source.ask(question)
        assert all(record.start_ms + MINUTE_MS <= answer.played_at * 1000 for record in answer.records)
        seen.extend(answer.records)
        if answer.records:
            newest = PLAY_FROM.fromtimestamp((answer.records[-1].start_ms + 1) / 1000, PLAY_FROM.tzinfo)
        return await find_time() == TO_MS

    async def find_time():
        return (await source.read_clock()).find_time(source.recording.find_reel("SPY"))

    begun = time.monotonic()
    await auntil(play, 60)
    assert time.monotonic() - begun >= 1.9, "two hours at 3600 take two seconds"
    await play()
    assert [record.start_ms for record in seen] == [row["start"] for row in ROWS]
    assert await find_time() == TO_MS


async def test_another_speed_goes_on_from_where_the_clock_is(path, bus):
    recording = read_recording(path)
    fast = ReplaySource("replay", recording, bus, speed=3600.0)

    async def is_under_way():
        return (await fast.read_clock()).played_ms > 5 * MINUTE_MS

    await auntil(is_under_way)
    before = await fast.read_clock()
    slow = await ReplaySource("replay", recording, bus, speed=0.001).read_clock()
    # as much as it played from one reading to the next, and not a minute more or less
    between = (slow.now_ms - before.now_ms) * 3600
    assert slow.played_ms == pytest.approx(before.played_ms + between, abs=1)
    again = await ReplaySource("replay", recording, bus, speed=0.001).read_clock()
    assert again.played_ms == pytest.approx(slow.played_ms, abs=1000)


async def test_another_start_and_another_file_begin_anew_and_each_is_a_warning(
    path, bus, server, tmp_path, monkeypatch
):
    warnings = []
    monkeypatch.setattr(module.log, "warning", lambda event, **fields: warnings.append((event, fields)))
    recording = read_recording(path)
    source = ReplaySource("replay", recording, bus, speed=3600.0)

    async def is_under_way():
        return (await source.read_clock()).played_ms > MINUTE_MS

    await auntil(is_under_way)
    assert warnings == []
    at = iso(PLAY_FROM_MS - 10 * MINUTE_MS)
    earlier = ReplaySource("replay", recording, bus, speed=0.001, start=at)
    for _ in range(2):
        assert (await earlier.read_clock()).played_ms == -10 * MINUTE_MS
    assert warnings == [("replay.restarted", {"recording": "two_hours", "bus": "market-redis"})]
    (tmp_path / "other").mkdir()
    other = read_recording(write(tmp_path / "other", *ROWS[:-1]))
    assert (await ReplaySource("replay", other, bus, speed=0.001).read_clock()).played_ms == 0
    assert server.cmd("HGET", KEY, "digest") == other.digest
    assert len(warnings) == 2


@pytest.mark.parametrize(("field", "value"), [("begun", "soon"), ("elapsed", ""), ("speed", "fast")])
async def test_a_clock_that_somebody_broke_begins_anew(path, bus, server, field, value):
    source = ReplaySource("replay", read_recording(path), bus, speed=0.001)
    await source.read_clock()
    server.cmd("HSET", KEY, "elapsed", "600000")
    server.cmd("HSET", KEY, field, value)
    assert (await source.read_clock()).played_ms == 0
