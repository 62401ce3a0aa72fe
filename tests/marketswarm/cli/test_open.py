"""`marketswarm open`: which address it takes, that a browser gets it, and that it is printed without one."""

import socket
import stat

import pytest

from marketswarm.cli.open import find_board
from marketswarm.fleet import data_folder
from support.waiting import until

pytestmark = pytest.mark.live


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield str(listening.getsockname()[1])


def test_the_board_of_the_fleet_here_is_found_whatever_the_environment_says(tmp_path, monkeypatch):
    address = str(tmp_path / "c")
    fleet = data_folder.RunningFleet(1, address, {}, board="http://127.0.0.1:8123")
    data_folder.publish_fleet(tmp_path, fleet)
    monkeypatch.setenv("BOARD_PORT", "9000")
    assert find_board(tmp_path) == "http://127.0.0.1:9000"  # no fleet runs here
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        assert find_board(tmp_path) == "http://127.0.0.1:8123"


def test_without_a_browser_the_address_is_printed(shell, port):
    ended = shell("open", BOARD_PORT=port)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"http://127.0.0.1:{port}\n", "")


def test_a_browser_gets_the_address(shell, port):
    browser, seen = shell.folder / "browser", shell.folder / "seen"
    browser.write_text(f'#!/bin/sh\necho "$1" > {seen}\n')
    browser.chmod(browser.stat().st_mode | stat.S_IXUSR)
    assert shell("open", BOARD_PORT=port, BOARD_HOST="0.0.0.0", BROWSER=str(browser)).returncode == 0  # noqa: S104
    until(seen.exists, what="the browser")
    assert seen.read_text() == f"http://127.0.0.1:{port}\n"


def test_where_no_board_answers_it_ends_with_3_and_says_how_to_get_one(shell):
    ended = shell("open", BOARD_PORT="1")
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "no board answers at http://127.0.0.1:1" in ended.stderr
    assert "`marketswarm up` starts one" in ended.stderr


@pytest.mark.parametrize("port", ["x", "0", "65536", "-1", "\N{SUPERSCRIPT TWO}"])
def test_a_port_that_is_none_is_named(shell, port):
    ended = shell("open", BOARD_PORT=port)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "BOARD_PORT" in ended.stderr
