"""Bars are taken when they are known, whether a tick is decided or not."""

from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date
from types import SimpleNamespace

import asyncpg
import pytest

from marketswarm.postgres.errors import PostgresAwayError
from marketswarm.testing import MemoryBus
from marketswarm.truth import parse_truth
from services.market.entries import encode_entry
from services.market.records import MINUTE_MS, AssetClass, Bar, Provenance
from services.signals import market_reader as module
from services.signals.cycle.market import WINDOW, ArchivedBar
from services.signals.market_reader import MarketReader
from services.signals.metrics import SignalsMetrics
from services.signals.sessions import SessionBook
from services.signals.settings import SignalsSettings

START = 1_767_571_200_000
VOTERS = [
    {"voter": "trend", "rule": "trend", "weight": 1},
    {"voter": "volume", "rule": "volume", "weight": 1},
]


class Windows:
    """The tables of archive: what they hold, or the `error` that a read of them raises."""

    def __init__(self):
        self.bars, self.splits, self.error, self.asked = [], [], None, []

    async def read_bars(self, symbols, timeframe, most):
        self.asked.append((tuple(symbols), timeframe, most))
        if self.error is not None:
            raise self.error
        return self.bars

    async def read_source_bars(self, wanted, _timeframe, _most):
        assert not wanted
        return []

    async def read_splits(self, _symbols):
        if self.error is not None:
            raise self.error
        return self.splits


class Scene:
    """A reader on a bus in memory, of a process that decides no tick; its clock is `now_ms`."""

    def __init__(self, monkeypatch):
        self.bus, self.now_ms, self.logged = MemoryBus("market-redis"), START, []
        truth = parse_truth(b'{"services": {"signals": {}}}').truth
        me = SimpleNamespace(
            truth=truth,
            section=truth.services["signals"],
            bus=lambda _name: self.bus,
            log=SimpleNamespace(warning=self.log, info=self.log),
            waiting=self.wait,
        )
        settings = SignalsSettings.model_validate({"endpoints": VOTERS, "settings": {"symbols": ["SPY"]}})
        self.passed_sec = 0
        clock = SimpleNamespace(
            time_ns=lambda: self.now_ms * 1_000_000, monotonic=lambda: float(self.passed_sec)
        )
        monkeypatch.setattr(module, "time", clock)
        self.windows = Windows()
        self.reader = MarketReader(me, lambda: settings, SignalsMetrics(), self.windows)

    def log(self, event, **fields):
        self.logged.append((event, fields))

    @asynccontextmanager
    async def wait(self, _limit_sec):
        yield

    def store(self, *numbers):
        """Have the archive hold the bars of these minutes."""
        self.windows.bars = [ArchivedBar(make_bar(number), "one") for number in numbers]

    async def read(self, number, now_ms, ident="*"):
        """Read the bar of a minute, which comes at `now_ms`."""
        await self.write(number, ident)
        self.now_ms = now_ms
        await self.reader.read_next()

    async def write(self, number, ident="*"):
        bar = make_bar(number)
        fields = encode_entry(bar, AssetClass.STOCKS, Provenance("one")) | {"final": "1"}
        await self.bus.client.xadd("bars:bars", fields, id=ident)

    async def read_all(self, now_ms):
        """Read what is there at `now_ms`, from the beginning if that is asked for; return the closes."""
        self.now_ms = now_ms
        await self.reader.read_next()
        return self.closes

    @property
    def closes(self):
        return self.reader.market.see("SPY").close.tolist()


def make_bar(number):
    close = 100.0 + number
    return Bar("SPY", "1m", START + number * MINUTE_MS, close, close, close, close, volume=1.0)


@pytest.fixture
def scene(monkeypatch):
    return Scene(monkeypatch)


async def test_a_process_that_stands_by_with_a_slow_clock_has_all_bars_up_to_that_clock(scene):
    for number in range(200):
        await scene.read(number, START + (number + 1) * MINUTE_MS - 1500)
        assert scene.closes == [100.0 + each for each in range(number)][-64:]
    assert scene.logged == []
    assert scene.reader.is_complete


async def test_a_bar_that_waits_counts_from_its_end_on_without_another_one_of_its_symbol(scene):
    await scene.read(0, START + MINUTE_MS - 1)
    assert scene.closes == []
    scene.now_ms = START + MINUTE_MS
    await scene.reader.read_next()
    assert scene.closes == [100.0]


def close_of(*numbers):
    return [100.0 + number for number in numbers]


async def test_after_a_clock_that_was_behind_was_set_right_the_window_has_no_hole(scene):
    """The machine boots with a clock that is an hour behind, and signals starts before that is set."""
    for number in range(120):
        await scene.write(number, f"{START + (number + 1) * MINUTE_MS}-0")
    behind_ms = START + 60 * MINUTE_MS
    assert await scene.read_all(behind_ms) == close_of(*range(60))
    await scene.read(120, behind_ms + MINUTE_MS, f"{START + 121 * MINUTE_MS}-0")
    assert scene.closes == close_of(*range(61))
    right_ms = START + 121 * MINUTE_MS + 500
    scene.reader.follow()
    scene.reader.market.advance(right_ms)  # as a tick does
    assert scene.closes == close_of(*range(57, 121))
    assert scene.reader.is_complete
    assert scene.logged == []


async def test_once_a_clock_is_right_that_was_behind_more_bars_than_wait_all_is_read_again(scene):
    for number in range(200):
        await scene.write(number, f"{START + (number + 1) * MINUTE_MS}-0")
    assert await scene.read_all(START + 60 * MINUTE_MS) == close_of(*range(60))
    assert scene.reader.is_complete
    scene.now_ms = right_ms = START + 200 * MINUTE_MS + 500
    scene.reader.follow()
    assert not scene.reader.is_complete, "no tick is decided on the hole"
    assert await scene.read_all(right_ms) == close_of(*range(136, 200))
    assert scene.reader.is_complete
    assert scene.logged[-1] == ("bars.read_again", {"refused": 76})
    position = scene.reader.follow()[0].position
    await scene.read_all(right_ms + MINUTE_MS)
    assert scene.reader.follow()[0].position == position, "it is read once more, and no more than that"
    assert len(scene.logged) == 2


async def test_a_clock_that_stays_behind_has_nothing_read_again(scene):
    scene.store(*range(20))
    for number in range(20, 60):
        now_ms = START + (number + 1) * MINUTE_MS
        await scene.read(number, now_ms - 200_000, f"{now_ms}-0")
        assert scene.closes == close_of(*range(number - 3))
    assert len(scene.windows.asked) == 1
    assert scene.logged == []


async def test_what_the_archive_alone_holds_is_in_the_window_once_it_is_known(scene):
    scene.store(*range(10))
    await scene.write(0, f"{START + MINUTE_MS}-0")
    assert await scene.read_all(START + 2 * MINUTE_MS) == close_of(0, 1)
    assert await scene.read_all(START + 10 * MINUTE_MS - 1) == close_of(*range(9))
    assert await scene.read_all(START + 10 * MINUTE_MS) == close_of(*range(10))
    assert scene.logged == []


async def test_a_bar_of_the_future_that_the_bus_added_now_has_nothing_read_again(scene):
    await scene.read(0, START + MINUTE_MS, f"{START + MINUTE_MS}-0")
    await scene.read(60, START + 2 * MINUTE_MS, f"{START + 2 * MINUTE_MS}-0")
    assert scene.logged == [("bars.refused", {"why": "end: ahead of the clock"})]
    assert await scene.read_all(START + 90 * MINUTE_MS) == close_of(0)
    assert len(scene.logged) == 1


async def test_a_bar_of_the_far_future_has_all_read_again_in_a_day(scene):
    day_ms = 24 * 60 * MINUTE_MS
    await scene.write(0, f"{START + MINUTE_MS}-0")
    await scene.write(5, f"{START + 6 * MINUTE_MS}-0")
    await scene.write(400 * 24 * 60, f"{START + 400 * day_ms}-0")
    assert await scene.read_all(START + MINUTE_MS) == close_of(0)
    assert await scene.read_all(START + MINUTE_MS + day_ms - 1) == close_of(0, 5)
    assert [event for event, _ in scene.logged] == ["bars.refused"]
    assert await scene.read_all(START + MINUTE_MS + day_ms) == close_of(0, 5)
    assert [event for event, _ in scene.logged] == ["bars.refused", "bars.read_again"]


async def test_what_the_stream_holds_no_more_comes_from_the_archive(scene):
    scene.store(0, 1, 2, 3)
    await scene.read(3, START + 5 * MINUTE_MS)
    assert scene.closes == [100.0, 101.0, 102.0, 103.0]
    assert scene.reader.is_complete
    await scene.read(4, START + 5 * MINUTE_MS)
    assert scene.closes[-2:] == [103.0, 104.0]
    assert scene.windows.asked == [(("SPY",), "1m", 2 * WINDOW)]  # once, until the truth asks for other ones


async def test_nothing_is_decided_before_the_archive_was_read(scene):
    scene.store(0)
    scene.windows.error = PostgresAwayError("refused")
    for _ in range(2):
        await scene.read(1, START + 5 * MINUTE_MS)
    assert (scene.closes, scene.reader.is_complete) == ([], False)
    assert scene.reader.problem == "bars of the archive not read: refused"
    assert scene.logged == [("windows.unread", {"why": "refused"})]
    scene.windows.error = None
    await scene.reader.read_next()
    assert scene.closes == [100.0, 101.0]
    assert (scene.reader.is_complete, scene.reader.problem) == (True, None)
    assert scene.logged[1:] == [("windows.read", {})]


def make_refusal(cause):
    error = PostgresAwayError("permission denied for table actions")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("cause", [asyncpg.InsufficientPrivilegeError(), TimeoutError()])
async def test_an_archive_that_gives_no_right_yet_leaves_the_stream_until_it_does(scene, cause, monkeypatch):
    scene.store(0)
    scene.windows.error = make_refusal(cause)
    for _ in range(2):
        await scene.read(1, START + 5 * MINUTE_MS)
    assert (scene.closes, scene.reader.is_complete) == ([101.0], True)
    assert scene.reader.problem == "bars of the archive not read: permission denied for table actions"
    assert scene.logged == [("windows.unread", {"why": "permission denied for table actions"})]
    asked = len(scene.windows.asked)
    scene.passed_sec += module.RETRY.first_sec
    await scene.reader.read_next()  # still not
    assert len(scene.windows.asked) == asked
    scene.windows.error = None
    await scene.reader.read_next()
    assert scene.closes == [101.0], "it is asked once a minute"
    scene.passed_sec += module.RETRY.first_sec
    for _ in range(2):
        await scene.reader.read_next()
    assert (scene.closes, scene.reader.is_complete, scene.reader.problem) == ([100.0, 101.0], True, None)


async def test_an_archive_that_fails_at_some_symbols_is_asked_less_and_less_often(scene):
    scene.windows.error = make_refusal(TimeoutError())
    times = []
    for _ in range(2000):
        before = scene.reader.market
        scene.windows.error = None  # what is asked first can be read
        await scene.reader._retry_archive()  # noqa: SLF001 - without the streams
        scene.windows.error = make_refusal(TimeoutError())
        async with scene.reader.lock:
            followers = scene.reader.follow()
        if scene.reader.market is not before:
            times.append(scene.passed_sec)
            await scene.reader._fill(followers)  # noqa: SLF001
        scene.passed_sec += 10
    assert times[:5] == [0, 60, 180, 420, 900]
    assert times[-1] - times[-2] == module.RETRY.longest_sec


async def test_bars_of_another_session_do_not_come_from_the_archive(scene, monkeypatch):
    """One that a symbol had before: archive keeps both, of the same dates."""
    ends = {START: None, START + MINUTE_MS: START + 2 * MINUTE_MS}
    monkeypatch.setattr(SessionBook, "find_end", lambda _book, _code, start_ms, _timeframe: ends[start_ms])
    scene.store(0, 1)
    await scene.read(2, START + 5 * MINUTE_MS)
    assert scene.closes == [101.0, 102.0]


async def test_a_split_that_left_its_stream_is_known_from_the_archive(scene):
    scene.windows.splits = [("SPY", date(2026, 1, 5))]
    await scene.read(1, START + 5 * MINUTE_MS)
    assert scene.reader.market.splits == {"SPY": {date(2026, 1, 5)}}


async def test_what_is_not_known_yet_does_not_come_from_the_archive(scene):
    scene.store(0, 1, 2)
    correction = replace(scene.windows.bars[1], known_ms=START + 9 * MINUTE_MS)
    scene.windows.bars[1] = correction
    scene.now_ms = START + 3 * MINUTE_MS - 1
    await scene.reader.read_next()
    assert scene.closes == [100.0]
