"""`marketswarm history`: what the board recorded of a service."""

import asyncio
import json
import time

import pytest

from marketswarm.bus import Bus
from marketswarm.cli.history import ServiceReport, describe_report, format_share
from marketswarm.event import Event, Kind, encode_event
from marketswarm.history.rollup import WINDOWS, PastOutage, Seconds
from marketswarm.history.spans import KnownState
from marketswarm.text import format_duration
from marketswarm.truth import parse_truth
from services.board.fleet.recorder import HistoryRecorder

T0 = 1_790_000_000


def report(**more):
    uptime = {window: Seconds(86_400, 600, 3600) for window in WINDOWS}
    known = {
        "svc": "rss_agg",
        "at": T0,
        "since": T0 - 90_000,
        "state": KnownState.UP,
        "uptime": uptime,
        "outages": [],
    }
    return ServiceReport(**(known | more))


def test_uptime_is_shown_beside_what_is_unknown():
    lines = describe_report(report(), T0)
    assert lines[0].startswith("rss_agg is up; recorded since ")
    assert lines[3].split()[:5] == ["24h", "99.310", "%", "10", "min"]
    assert format_duration(3600) in lines[3]
    assert lines[-1] == "no outage is recorded"


def test_the_latest_outage_comes_first_and_one_that_lasts_is_named():
    outages = [PastOutage(T0 - 9000, T0 - 8000), PastOutage(T0 - 60, None)]
    lines = describe_report(report(outages=outages), T0)
    assert lines[-2].endswith("60 s, and it is down still")
    assert "still" not in lines[-1]


def test_only_what_was_always_up_has_all_percent():
    assert [format_share(share) for share in (1.0, 0.9999999, 0.0, None)] == [
        "100.000 %",
        "99.999 %",
        "0.000 %",
        "-",
    ]


@pytest.mark.live
def test_nothing_recorded_is_said_and_ends_with_1(shell, seeded):
    ended = shell("history", "rss_agg")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "nothing is recorded of rss_agg" in ended.stderr


@pytest.mark.live
def test_a_service_that_is_not_there_is_refused(shell, seeded):
    ended = shell("history", "rss_ag")
    assert ended.returncode == 2
    assert "did you mean rss_agg?" in ended.stderr


@pytest.mark.live
def test_what_the_board_recorded_is_shown(shell, seeded):
    system, _ = seeded
    miss = Event(
        Kind.HEARTBEAT_MISS, "rss_agg", time.time(), "x", "healer", late_sec=30.0, since=time.time() - 1
    )
    system.cmd("XADD", "healer:alerts:log", "*", "event", encode_event(miss))
    asyncio.run(record(system.url, (shell.folder / "truth.json").read_bytes()))
    found = json.loads(shell.said("history", "rss_agg", "--json"))
    assert found["svc"] == "rss_agg"
    assert set(found["uptime"]) == set(WINDOWS)
    assert set(found["uptime"]["24h"]) == {"share", "up_sec", "down_sec", "unknown_sec"}
    assert shell.said("history", "rss_agg").startswith("rss_agg is ")


async def record(url, document):
    bus = Bus("system-redis", url)
    recorder = HistoryRecorder(bus)
    recorder.follow(parse_truth(document).truth)
    for _ in range(3):
        await recorder.step(block_sec=None)
    await bus.aclose()
