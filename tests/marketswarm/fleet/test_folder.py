import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from marketswarm.fleet import folder


def test_a_second_fleet_is_told_who_has_the_folder(tmp_path):
    with folder.claim(tmp_path / "data"):
        with pytest.raises(folder.TakenError) as caught, folder.claim(tmp_path / "data"):
            pass
        assert caught.value.pid == os.getpid()
    with folder.claim(tmp_path / "data"):
        pass


def test_the_pid_of_one_that_was_killed_is_no_obstacle(tmp_path):
    script = (
        "import os, pathlib, signal, sys\n"
        "from marketswarm.fleet import folder\n"
        "with folder.claim(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == -9
    assert (tmp_path / "fleet.pid").read_text().strip().isdigit()
    with folder.claim(tmp_path):
        assert (tmp_path / "fleet.pid").read_text() == f"{os.getpid()}\n"


def test_the_data_is_the_users_alone(tmp_path):
    with folder.claim(tmp_path / "data"):
        assert (tmp_path / "data").stat().st_mode & 0o077 == 0


def test_a_fleet_counts_as_running_while_it_answers(tmp_path):
    address = str(tmp_path / "c")
    fleet = folder.Running(1, address, {"system-redis": "redis://127.0.0.1:1"})
    assert folder.running(tmp_path) is None
    folder.publish(tmp_path, fleet)
    assert folder.running(tmp_path) is None
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        assert folder.running(tmp_path) == fleet
    assert folder.running(tmp_path) is None
    assert folder.ended_badly(tmp_path)
    folder.withdraw(tmp_path)
    assert not folder.ended_badly(tmp_path)


@pytest.mark.parametrize("said", [b"", b"[]", b"{}", b'{"pid":"x","control":1,"buses":{}}', b'{"pid":1}'])
def test_a_spoilt_file_is_no_fleet(tmp_path, said):
    (tmp_path / "fleet.json").write_bytes(said)
    assert folder.running(tmp_path) is None


def test_a_folder_too_deep_for_a_socket_has_its_elsewhere(tmp_path):
    assert folder.control_address(tmp_path).startswith(str(tmp_path)) == (len(str(tmp_path)) < 88)
    deep = tmp_path / ("x" * 100)
    address = folder.control_address(deep)
    assert len(address) < 100
    Path(address).parent.rmdir()


def test_an_operator_is_let_in_by_the_files_that_a_fleet_names(tmp_path):
    address, key = str(tmp_path / "c"), tmp_path / "key"
    key.write_text("redis://operator:secret@127.0.0.1:1\n")
    urls = {"system-redis": "redis://127.0.0.1:1", "market-redis": "redis://far:2"}
    folder.publish(tmp_path, folder.Running(1, address, urls, {"system-redis": str(key)}))
    assert b"secret" not in (tmp_path / "fleet.json").read_bytes()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        found = folder.running(tmp_path)
    assert found is not None
    assert found.buses == {**urls, "system-redis": "redis://operator:secret@127.0.0.1:1"}
