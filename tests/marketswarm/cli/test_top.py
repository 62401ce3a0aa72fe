"""`marketswarm top`: what its keys do to the view, what is drawn, and that it leaves a usable terminal."""

import os
import pty
import select
import signal
import subprocess
import sys
import termios

import pytest
from rich.console import Console

from marketswarm.cli.keyboard import NamedKey
from marketswarm.cli.status import StatusReport
from marketswarm.cli.top import View, choose_rows, draw_top, press_key
from marketswarm.status.notifications import Notifications
from marketswarm.status.service_rows import ServiceRow, ServiceState
from support.rig.shell import SERVICES

NOW = 1_762_433_458.0


def row(svc, verdict="up", **more):
    known = dict.fromkeys(("silence_sec", "instances", "boot", "rev", "restarts", "status", "detail"))
    fields = {"verdict": ServiceState(verdict), "timeout_sec": 30.0, "bus": "system-redis", **known, **more}
    return ServiceRow(svc, **fields)


ROWS = [
    row("mesh", silence_sec=2.0, restarts=1),
    row("api", silence_sec=9.0, restarts=0),
    row("Zoo", "down", since=NOW - 60),
    row("new", "unknown"),
]
REPORT = StatusReport(ROWS, 1, notifications=Notifications(at=NOW))


def pressed(*keys, view=None):
    found = view or View()
    for key in keys:
        after = press_key(found, key, len(ROWS))
        assert after is not None
        found = after
    return found


def names(*keys):
    return [each.svc for each in choose_rows(REPORT, pressed(*keys))]


def drawn(view, report=REPORT, width=100, height=20):
    console = Console(width=width, height=height, highlight=False, no_color=True)
    with console.capture() as captured:
        console.print(draw_top((report, view)), height=height)
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.mark.parametrize(
    ("keys", "order"),
    [
        ("", ["Zoo", "new", "mesh", "api"]),
        ("n", ["Zoo", "api", "mesh", "new"]),
        ("nn", ["new", "mesh", "api", "Zoo"]),
        ("s", ["Zoo", "api", "mesh", "new"]),
        ("r", ["mesh", "api", "Zoo", "new"]),
        ("ssw", ["Zoo", "new", "mesh", "api"]),
        ("w", ["api", "mesh", "new", "Zoo"]),
        ("nnn", ["Zoo", "api", "mesh", "new"]),
    ],
)
def test_a_key_chooses_the_order_and_the_same_key_turns_it_around(keys, order):
    assert names(*keys) == order


def test_a_filter_finds_names_and_verdicts_whatever_their_case():
    assert names("/", *"z") == ["Zoo"]
    assert names("/", *"DOWN", NamedKey.ENTER) == ["Zoo"]
    assert names("/", *"nq", NamedKey.BACKSPACE, NamedKey.ENTER, "n") == ["Zoo", "new"]
    assert names("/", *"mesh", NamedKey.ESCAPE) == names()
    assert names("/", *"mesh", NamedKey.ENTER, NamedKey.ESCAPE) == names()


def test_while_a_filter_is_typed_letters_are_letters():
    view = pressed("/", *"qws")
    assert (view.pattern, view.is_typing, view.order) == ("qws", True, "w")
    assert len(pressed("/", *"x" * 99).pattern) == 60


def test_q_and_the_end_of_the_input_end_it():
    assert press_key(View(), "q", 4) is None
    assert press_key(View(is_typing=True), NamedKey.END, 4) is None


def test_scrolling_ends_at_the_first_and_the_last_row():
    assert pressed(NamedKey.UP).first == 0
    assert pressed(NamedKey.DOWN, NamedKey.DOWN).first == 2
    assert pressed(NamedKey.PAGE_DOWN, NamedKey.PAGE_DOWN).first == 3
    assert pressed(NamedKey.PAGE_DOWN, NamedKey.HOME).first == 0
    assert pressed(NamedKey.PAGE_DOWN, "n").first == 0
    assert press_key(View(), NamedKey.DOWN, 0) == View()


@pytest.mark.parametrize("key", ["x", "é", NamedKey.REDRAW, NamedKey.ENTER, NamedKey.BACKSPACE])
def test_another_key_changes_nothing(key):
    assert press_key(View(), key, 4) == View()


def test_the_rows_stand_in_their_order_above_the_keys():
    lines = drawn(pressed("n"))
    assert lines[0] == "1 of 4 down, 1 unknown"
    assert [line.split()[0] for line in lines[2:6]] == ["Zoo", "api", "mesh", "new"]
    assert lines[6] == "w worst  n name  s silence  r restarts  / filter  q quit"
    assert drawn(pressed("n", "n"))[6].startswith("w worst  n name ↑  s")


def test_what_does_not_fit_and_what_is_above_is_counted():
    rows = [row(f"svc{n:03}") for n in range(50)]
    lines = drawn(View(first=5), StatusReport(rows, 1, notifications=Notifications(at=NOW)), height=12)
    assert len(lines) <= 12
    assert lines[2].startswith("svc005")
    assert lines[-2] == f"{45 - (len(lines) - 4)} more"
    assert lines[-1].endswith("5 above")


def test_a_filter_without_a_match_still_shows_the_headline_and_itself():
    lines = drawn(pressed("/", *"\x9bnobody"))
    assert lines[0] == "1 of 4 down, 1 unknown"
    assert lines[-1].startswith("filter: ")
    assert "nobody_" in lines[-1]


def test_without_a_fleet_the_reason_and_the_keys_are_shown():
    assert drawn(View(), StatusReport([], None, why="no bus answered"))[:2] == [
        "no bus answered", "w worst  n name  s silence  r restarts  / filter  q quit",
    ]  # fmt: skip


@pytest.mark.live
def test_without_a_terminal_it_refuses_and_names_another_way(shell, seeded):
    ended = shell("top")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "top needs a terminal" in ended.stderr
    assert "marketswarm status --watch" in ended.stderr
    assert "ssh -t" in ended.stderr


class Screen:
    """`marketswarm top` on a terminal."""

    def __init__(self, shell) -> None:
        self.ours, self.theirs = pty.openpty()
        termios.tcsetwinsize(self.theirs, (24, 100))
        self.before = termios.tcgetattr(self.theirs)
        how = {"stdin": self.theirs, "stdout": self.theirs, "stderr": self.theirs, "start_new_session": True}
        environ = {**shell.env, "TERM": "xterm", "NO_COLOR": "1"}
        line = [sys.executable, "-m", "marketswarm", "top"]
        self.running = subprocess.Popen(line, cwd=shell.folder, env=environ, **how)

    def type(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    def see(self, *words: bytes, within: float = 20) -> bytes:
        """Wait until a screen shows all words."""
        shown = b""
        while not all(word in shown for word in words):
            assert select.select([self.ours], [], [], within)[0], shown
            shown = (shown + os.read(self.ours, 65_536))[-100_000:]
        return shown

    def close(self) -> None:
        self.running.kill()
        self.running.wait()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def screen(shell, seeded):
    found = Screen(shell)
    yield found
    found.close()


@pytest.mark.live
@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda screen: screen.type(b"q"), id="q"),
        pytest.param(lambda screen: screen.running.send_signal(signal.SIGINT), id="ctrl-c"),
        pytest.param(
            lambda screen: screen.running.terminate(),
            id="sigterm",
            marks=pytest.mark.nightly("ctrl-c ends it by a signal, too"),
        ),
    ],
)
def test_it_ends_with_0_and_leaves_the_terminal_as_it_was(screen, end):
    screen.see(*(svc.encode() for svc in SERVICES), b"q quit")
    assert not termios.tcgetattr(screen.theirs)[3] & (termios.ECHO | termios.ICANON)
    end(screen)
    assert screen.running.wait(20) == 0
    assert termios.tcgetattr(screen.theirs) == screen.before
    assert b"\x1b[?1049l" in screen.see(b"\x1b[?1049l")


@pytest.mark.live
def test_keys_act_at_once_and_what_happens_is_shown(screen, seeded):
    screen.see(b"none of 3 down")
    screen.type(b"/mes")
    screen.see(b"mes_")
    screen.type(b"\r")
    assert b"rss_agg" not in screen.see(b"/ mes", b"q quit")
    screen.type(b"n\x1a")  # Ctrl-Z does nothing
    seeded[0].cmd("HSET", "healer:roster", "mesh", '{"verdict":"down","since":1}')
    screen.see(b"1 of 3 down")
    for bus in seeded:
        bus.stop()
    screen.see(b"no bus answered")
    screen.type(b"q")
    assert screen.running.wait(20) == 0
