import errno
import json
import os
import threading
from datetime import UTC

import orjson
import pytest

from marketswarm.fleet import output
from marketswarm.fleet.output import FLEET, LineWriter, LogFormatter
from support.waiting import PATIENT_SEC, until


@pytest.fixture
def screen():
    return LogFormatter((FLEET, "healer", "rss_agg"), colours=False, zone=UTC)


def raw(event="service.down", level="info", **facts) -> bytes:
    return orjson.dumps(
        {"ts": "2025-11-06T12:50:58.300Z", "level": level, "event": event, "agent": "x", **facts}
    )


def test_a_line_has_time_name_event_and_facts_in_columns(screen):
    line = screen.format_line("healer", raw(svc="rss_agg", late_sec=31.2, why="no beat"), 0.0)
    assert line == '12:50:58 healer  service.down svc=rss_agg late_sec=31.2 why="no beat"'


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (raw("service.down"), True),
        (raw("probe.result"), False),
        (raw("probe.result", "warning"), True),
        (raw("service.down", "debug"), False),
        (b"Traceback (most recent call last):", True),
        (b"   ", False),
        (b'{"no":"event"}', True),
        (b"[1]", True),
    ],
)
def test_a_newcomer_sees_what_is_worth_a_line(screen, line, shown):
    assert (screen.format_line("healer", line, 0.0) is not None) == shown


def test_what_the_fleet_itself_says_is_always_shown(screen):
    assert screen.format_line(FLEET, raw("fleet.anything"), 0.0)


def test_verbose_shows_all(screen):
    screen.verbose = True
    assert all(screen.format_line("healer", raw("probe.result", "debug"), 0.0) for _ in range(20))


def test_the_same_again_and_again_is_shown_five_times_then_counted(screen):
    lines = [screen.format_line("healer", raw("beat.bad", "warning"), now / 10) for now in range(20)]
    assert [line is not None for line in lines] == [True] * 5 + [False] * 15
    assert screen.format_line("rss_agg", raw("beat.bad", "warning"), 2.0) is not None
    assert "(and 15 more like it)" in screen.format_line("healer", raw("beat.bad", "warning"), 11.0)
    assert "more like it" not in screen.format_line("healer", raw("beat.bad", "warning"), 11.1)


def test_colours_mark_who_and_how_bad(screen):
    screen.colours = True
    line = screen.format_line("healer", raw("x.y", "error"), 0.0)
    assert "\x1b[31mx.y\x1b[0m" in line
    assert "\x1b[32mhealer \x1b[0m" in line


def test_a_strangers_payload_cannot_touch_the_terminal(screen):
    line = screen.format_line("healer", raw("a.b", "warning", got="\x1b[2J\r\u202e"), 0.0)
    assert line.isprintable()
    assert "\\x1b" in line
    assert screen.format_line("healer", b"\x1b[2Jboo", 0.0).endswith("\\x1b[2Jboo")


def test_of_a_traceback_the_last_line_is_shown_and_all_when_asked(screen):
    died = raw("program.died", "critical", exception="Traceback\n  File x\nValueError: no")
    assert screen.format_line("healer", died, 0.0).splitlines()[1:] == ["    ValueError: no"]
    screen.verbose = True
    assert len(screen.format_line("healer", died, 0.0).splitlines()) == 4


@pytest.mark.parametrize("ts", [None, 7, "yesterday", {}])
def test_a_line_without_a_time_is_shown_all_the_same(screen, ts):
    line = orjson.dumps({"ts": ts, "event": "a.down"})
    assert screen.format_line("healer", line, 0.0) == "         healer  a.down"


def test_lines_come_whole_and_in_order():
    reading, writing = os.pipe()
    voice = LineWriter(writing, lambda: None)
    for number in range(1000):
        voice.put(b"%d" % number)
    voice.close()
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read().split() == [b"%d" % number for number in range(1000)]


def test_a_reader_that_stalls_holds_nobody_up_and_what_is_lost_is_counted():
    reading, writing = os.pipe()
    voice = LineWriter(writing, lambda: None)
    for _ in range(20_000):  # a pipe holds 64 KiB
        voice.put(b"x" * 100)
    voice.close(within_sec=0.05)  # gives up
    lines = []
    with os.fdopen(reading, "rb") as pipe:
        while not lines or b"log.dropped" not in lines[-1]:
            lines.append(pipe.readline())
    voice.close()
    os.close(writing)
    assert len(lines) - 1 + json.loads(lines[-1])["lines"] == 20_000


def test_a_reader_that_went_away_is_noticed():
    reading, writing = os.pipe()
    gone = threading.Event()
    voice = LineWriter(writing, gone.set)
    os.close(reading)
    voice.put(b"x")
    assert gone.wait(PATIENT_SEC)
    voice.close()
    os.close(writing)


def test_a_full_disk_ends_no_fleet_and_the_lines_that_it_did_not_take_are_counted(monkeypatch, tmp_path):
    fails, gone = [OSError(errno.ENOSPC, "No space left on device")] * 3, threading.Event()
    write = os.write

    def write_unless_full(fd, data):
        if fails:
            raise fails.pop()
        return write(fd, data)

    monkeypatch.setattr(output.os, "write", write_unless_full)
    with (tmp_path / "log").open("wb") as file:
        lines = LineWriter(file.fileno(), gone.set)
        for number in range(3):
            lines.put(b"%d" % number)
        until(lambda: not fails)
        lines.put(b"3")
        lines.close(PATIENT_SEC)
    assert not gone.is_set()
    shown = (tmp_path / "log").read_bytes().splitlines()
    left = [line for line in shown if b"log.dropped" not in line]
    dropped = sum(json.loads(line)["lines"] for line in shown if line not in left)
    assert len(left) + dropped == 4
    assert left[-1] == b"3"
    assert dropped


def test_a_pipe_that_another_program_made_non_blocking_loses_no_line():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    lines = LineWriter(writing, lambda: os.close(writing))  # so that the reader below sees an end
    for _ in range(2000):  # a pipe holds 64 KiB
        lines.put(b"x" * 100)
    with os.fdopen(reading, "rb") as pipe:
        assert [pipe.readline() for _ in range(2000)] == [b"x" * 100 + b"\n"] * 2000
        lines.close(PATIENT_SEC)
    os.close(writing)


def test_a_line_of_which_a_full_disk_took_a_part_is_not_glued_to_the_next(monkeypatch, tmp_path):
    takes, write = [3, 0, 0], os.write

    def write_until_full(fd, data):
        if not takes:
            return write(fd, data)
        if not (part := takes.pop(0)):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[:part])

    monkeypatch.setattr(output.os, "write", write_until_full)
    with (tmp_path / "log").open("wb") as file:
        lines = LineWriter(file.fileno(), lambda: None)
        for line in (b"the first", b"the second", b"the third"):
            lines.put(line)
        lines.close(PATIENT_SEC)
    torn, *shown = (tmp_path / "log").read_bytes().splitlines()
    left = [line for line in shown if b"log.dropped" not in line]
    assert (torn, left[-1]) == (b"the", b"the third")
    dropped = sum(json.loads(line)["lines"] for line in shown if line not in left)
    assert len(left) + dropped == 3
