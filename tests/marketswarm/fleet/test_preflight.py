import os
import shutil
import socket
import sys

import pytest

from marketswarm.exit import Code, Exit
from marketswarm.fleet import preflight
from marketswarm.fleet.plan import Plan, PlannedAgent
from support.pages import ROOT
from support.rig import free_port
from support.rig.shell import Shell

# sl local rem st tx_rx tr_tm retrnsmt uid timeout inode
LINE = "  0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 {inode} 1\n"


@pytest.fixture
def proc(tmp_path):
    """A /proc in which 42 `redis-server` listens on 6379 and 43 `curl` is connected to it."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net/tcp").write_text(
        "header\n"
        + LINE.format(local="0100007F:18EB", state="01", inode=900)
        + LINE.format(local="0100007F:18EB", state="0A", inode=100)
        + LINE.format(local="0100007F:18EC", state="0A", inode=101)
    )
    for pid, name, inode in ((42, "redis-server", 100), (43, "curl", 900)):
        (tmp_path / f"{pid}/fd").mkdir(parents=True)
        (tmp_path / f"{pid}/comm").write_text(f"{name}\n")
        (tmp_path / f"{pid}/fd/3").symlink_to(f"socket:[{inode}]")
    return tmp_path


def test_the_one_who_listens_is_named_not_one_who_is_connected(proc):
    assert preflight.find_port_holder(6379, proc) == "redis-server (pid 42)"


def test_a_listener_whose_process_we_may_not_see_is_another_users(proc):
    assert preflight.find_port_holder(6380, proc) == "a program of another user"


def test_processes_that_end_meanwhile_are_no_trouble(proc):
    (proc / "7").mkdir()
    shutil.rmtree(proc / "42/fd")
    assert preflight.find_port_holder(6379, proc) == "a program of another user"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_real_listener_is_found_and_its_port_is_not_free():
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        port = listener.getsockname()[1]
        assert not preflight.is_port_free(port)
        assert preflight.find_port_holder(port).endswith(f"(pid {os.getpid()})")
    assert preflight.is_port_free(port)


def test_a_port_with_but_closed_connections_is_free():
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        address = listener.getsockname()
        with socket.create_connection(address) as client, listener.accept()[0] as accepted:
            accepted.close()  # first, so that this side is the one in TIME_WAIT
            client.recv(1)
    assert preflight.is_port_free(address[1])


def make_plan(*services: str) -> Plan:
    agents = tuple(PlannedAgent(svc, f"services.{svc}") for svc in services)
    return Plan((), agents, (), needs_database="archive" in services)


@pytest.mark.parametrize(
    ("services", "environ", "way"),
    [
        (("archive", "signals"), {"DATABASE_URL": "postgresql://far/market"}, "leaving DATABASE_URL out"),
        (("archive", "signals"), {"DATABASE_URL_FILE": "/url"}, "leaving DATABASE_URL out"),
        (("bars", "signals"), {}, "running archive, too"),
    ],
)
def test_signals_without_a_database_is_refused_with_the_ways_on(services, environ, way):
    with pytest.raises(Exit, match=r"signals has no database: .*SIGNALS_DATABASE_URL") as refused:
        preflight.require_signals_database(make_plan(*services), environ, runs_database=False)
    assert refused.value.code == Code.CONFIGURATION
    assert way in refused.value.message


@pytest.mark.parametrize(
    ("services", "environ", "runs_database"),
    [
        (("archive", "signals"), {}, True),
        (("archive",), {"DATABASE_URL": "postgresql://far/market"}, False),
        (("signals",), {"SIGNALS_DATABASE_URL": "postgresql://far/market"}, False),
        (("signals",), {"SIGNALS_DATABASE_URL_FILE": "/url"}, False),
    ],
)
def test_signals_with_a_database_and_a_fleet_without_signals_are_not(services, environ, runs_database):
    preflight.require_signals_database(make_plan(*services), environ, runs_database=runs_database)


def test_up_starts_nothing_for_a_database_that_signals_has_no_role_of(tmp_path):
    shell, port = Shell(tmp_path), str(free_port())
    truth = str(ROOT / "examples/market.json")
    ended = shell("up", "--truth", truth, "--port", port, DATABASE_URL="postgresql://u:p@127.0.0.1:1/market")
    assert (ended.returncode, list(tmp_path.glob(".marketswarm"))) == (2, [])
    assert "SIGNALS_DATABASE_URL" in ended.stderr
