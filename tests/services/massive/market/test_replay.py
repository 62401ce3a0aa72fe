"""A recording is played like live data: the file, the protocol, the store."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from services.massive.market.replay import RecordedFrame, RecordingPlayer, frame_pause_sec, read_recording
from services.massive.market.settings import MarketSettings
from services.massive.market.status import MarketStatus
from support.waiting import auntil

RECORDED = Path(__file__).parent / "recorded.jsonl"
BARS = 118  # 40 minutes of three symbols; in two of them nobody traded NVDA


@pytest.fixture(autouse=True)
def _beside_the_recording(monkeypatch):
    monkeypatch.chdir(RECORDED.parent)


class BarStore:
    def __init__(self, status):
        self.bars, self._status = [], status

    async def publish(self, bars, _marks, _keep, source):
        new = [bar for bar in bars if bar not in self.bars]
        self.bars += new
        self._status.record_published(bars, source, len(new), 0.0)
        return len(new)


def playing(**wishes):
    me = SimpleNamespace(
        set_degraded=lambda detail, **_part: me.ailing.append(detail),
        log=SimpleNamespace(info=lambda *_a, **_k: None, warning=lambda *_a, **_k: None),
        ailing=[],
    )
    status = MarketStatus()
    status.reset("replay")
    store = BarStore(status)
    settings = MarketSettings(source="replay", **{"speed": 0, **wishes})
    return RecordingPlayer(me, settings, status, store), status, me, store


async def test_a_recording_is_played_to_its_end_and_told():
    play, status, me, store = playing(file=RECORDED.name)
    await play.run()
    bars = store.bars
    assert len(bars) == BARS
    assert {bar.symbol for bar in bars} == {"AAPL", "MSFT", "NVDA"}
    assert status.published == {"replay": BARS}
    assert status.detail() == f"market replay: recorded.jsonl: over, {BARS} bars, {BARS} new"
    assert not status.anomalies
    assert me.ailing == [None]


async def test_it_plays_the_symbols_that_are_wanted():
    play, *_, store = playing(file=RECORDED.name, symbols=("NVDA",))
    await play.run()
    assert [bar.symbol for bar in store.bars] == ["NVDA"] * 38


async def test_other_symbols_take_effect_while_it_plays():
    play, *_, store = playing(file=RECORDED.name, symbols=("NVDA",), speed=4000)
    task = asyncio.create_task(play.run())
    await auntil(lambda: len(store.bars) >= 5)
    play.update_settings(MarketSettings(source="replay", file=RECORDED.name, symbols=("AAPL",), speed=0))
    await task
    assert [bar.symbol for bar in store.bars[-5:]] == ["AAPL"] * 5


async def test_a_file_that_is_not_there_is_a_trouble(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "link.jsonl").symlink_to("/dev/zero")
    for name in ("none.jsonl", "folder.jsonl", "link.jsonl"):
        await require_trouble(name, "no such file")


async def require_trouble(name, why):
    play, status, me, _store = playing(file=name)
    await play.run()
    assert me.ailing == [status.problem()]
    assert status.problem().endswith(f"can't be read ({why})")


async def test_a_recording_of_a_refusal_is_played_as_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = RECORDED.read_text(encoding="utf-8").splitlines()
    path = tmp_path / "refused.jsonl"
    path.write_text(
        "\n".join([lines[0], lines[1].replace("auth_success", "auth_failed"), *lines[2:]]), "utf-8"
    )
    play, status, _me, store = playing(file=path.name)
    await play.run()
    assert store.bars == []
    assert status.detail() == "market replay: refused.jsonl: over, 0 bars, 0 new; it ends over"


def test_lines_that_are_none_are_passed_over(tmp_path):
    path = tmp_path / "odd.jsonl"
    path.write_bytes(
        b'{"at":5,"frame":"a"}\n\n{"at":true,"frame":"a"}\n{"at":-1,"frame":"a"}\n{"at":6}\n[]\n\xff\n'
        b'{"at":7,"frame":"b"}'
    )
    found = list(read_recording(path))
    assert [each for each in found if each.frame is not None] == [
        RecordedFrame(5, "a"),
        RecordedFrame(7, "b"),
    ]
    assert len(found) == 7


def test_a_line_without_end_is_read_in_pieces_and_is_none(tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_bytes(b'{"at":5,"frame":"' + b"x" * (5 << 20) + b'"}\n{"at":6,"frame":"b"}\n')
    assert [each.frame for each in read_recording(path)] == [None, None, None, "b"]


def test_the_pace_is_the_recorded_one_times_the_speed():
    assert frame_pause_sec(1000, 31_000, 1) == 30
    assert frame_pause_sec(1000, 31_000, 60) == 0.5
    assert frame_pause_sec(1000, 31_000, 0) == 0
    assert frame_pause_sec(31_000, 1000, 1) == 0
    assert frame_pause_sec(0, 86_400_000, 1) == 60  # a night is no reason to be silent for one


async def test_without_symbols_a_reseed_leaves_it_all_that_there_are():
    play, *_, store = playing(file=RECORDED.name)
    play.update_settings(MarketSettings(source="replay", file=RECORDED.name, speed=0))
    await play.run()
    assert len(store.bars) == BARS
