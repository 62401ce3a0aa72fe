"""What systemd is told, over a real datagram socket."""

import os

import pytest

from marketswarm.agent.status import AgentStatus
from marketswarm.agent.systemd import find_systemd
from marketswarm.alive_file import Phase
from support.rig.notify_socket import NotifyEar


@pytest.fixture(params=["path", "abstract"])
def ear(request, tmp_path):
    address = str(tmp_path / "notify") if request.param == "path" else f"@{tmp_path}/notify"
    with NotifyEar(address) as ear:
        yield ear


def status_of(phase=Phase.WORKING, at=100.0, limit_sec=30.0, text="ok; truth revision 7", *, taken=True):
    return AgentStatus(phase, at, limit_sec, taken, text)


def test_from_the_wait_to_the_stop_each_thing_is_said_once(ear):
    systemd = find_systemd({"NOTIFY_SOCKET": ear.address})
    waits = status_of(Phase.JOINING, text="waits for the truth")
    for _ in range(2):
        systemd.report(waits)
    assert ear.heard() == [["STATUS=waits for the truth"]]
    for at in (100, 200):
        systemd.report(status_of(at=at))
    assert ear.heard() == [["STATUS=ok; truth revision 7", "READY=1"]]
    for _ in range(2):
        systemd.report(status_of(Phase.STOPPING, text="stopping"))
    assert ear.heard() == [["STATUS=stopping", "STOPPING=1"]]


def test_the_watchdog_is_fed_with_progress_and_with_nothing_else(ear):
    systemd = find_systemd({"NOTIFY_SOCKET": ear.address, "WATCHDOG_USEC": "60000000"})
    systemd.report(status_of(Phase.JOINING))
    assert ["WATCHDOG=1"] not in ear.heard()
    systemd.report(status_of(at=100))
    assert ear.heard() == [["READY=1", "WATCHDOG=1"]]
    for _ in range(50):
        systemd.report(status_of(at=100))
    assert ear.heard() == [], "time alone is no food"
    systemd.report(status_of(at=107.4))
    assert ear.heard() == [], "a quarter of what the work may be silent is early enough"
    systemd.report(status_of(at=107.5))
    assert ear.heard() == [["WATCHDOG=1"]]
    systemd.report(status_of(Phase.STOPPING, at=130))
    assert ["WATCHDOG=1"] not in ear.heard()


@pytest.mark.parametrize(
    ("unit_sec", "limit_sec", "told"), [(60, 30, None), (30, 30, 42.5), (30, 3600, 4505), (5, 3, 8.75)]
)
def test_it_waits_longer_than_the_agents_own_watchdog_and_hears_so_if_the_unit_does_not(
    ear, unit_sec, limit_sec, told
):
    systemd = find_systemd({"NOTIFY_SOCKET": ear.address, "WATCHDOG_USEC": str(unit_sec * 1_000_000)})
    systemd.report(status_of(limit_sec=limit_sec))
    (message,) = ear.heard()
    assert [line for line in message if "USEC" in line] == (
        [] if told is None else [f"WATCHDOG_USEC={told * 1e6:.0f}"]
    )
    # progress that was not told, then the longest silence of work that is well, then a look a second later
    longest_sec = limit_sec / 4 + limit_sec + 1
    assert longest_sec < (told or unit_sec)


def test_what_nobody_took_is_said_again(ear):
    systemd = find_systemd({"NOTIFY_SOCKET": ear.address, "WATCHDOG_USEC": "60000000"})
    said = status_of()
    ear.fill()
    systemd.report(said)
    assert "READY=1" not in ear.lines()
    systemd.report(said)
    assert ear.heard() == [["STATUS=ok; truth revision 7", "READY=1", "WATCHDOG=1"]]


@pytest.mark.parametrize("text", ["two\nREADY=1", "a\rb\x00c", "x" * 5000, "\ud800"])
def test_a_status_is_one_short_line_whatever_it_quotes(ear, text):
    find_systemd({"NOTIFY_SOCKET": ear.address}).report(status_of(Phase.JOINING, text=text))
    ((line,),) = ear.heard()
    assert line.startswith("STATUS=")
    assert len(line) < 400


@pytest.mark.parametrize(
    "watchdog",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"}],
)
def test_a_watchdog_that_does_not_watch_us_is_not_fed(ear, watchdog):
    find_systemd({"NOTIFY_SOCKET": ear.address, **watchdog}).report(status_of())
    assert ear.heard() == [["STATUS=ok; truth revision 7", "READY=1"]]


def test_ours_is_the_one_that_names_our_pid(ear):
    ours = {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}
    find_systemd({"NOTIFY_SOCKET": ear.address, **ours}).report(status_of())
    assert "WATCHDOG=1" in ear.heard()[0]


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_without_a_socket_of_its_kind_there_is_no_manager(environ):
    assert find_systemd(environ) is None


@pytest.mark.live
def test_one_that_is_not_there_hurts_nobody(tmp_path):
    for address in (str(tmp_path / "gone"), "@gone", "/" + "x" * 300, "/\0"):
        find_systemd({"NOTIFY_SOCKET": address}).report(status_of())
