import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from marketswarm.fleet import data_folder


def test_a_second_fleet_is_told_who_has_the_folder(tmp_path):
    with data_folder.claim_folder(tmp_path / "data"):
        with (
            pytest.raises(data_folder.FolderTakenError) as caught,
            data_folder.claim_folder(tmp_path / "data"),
        ):
            pass
        assert caught.value.pid == os.getpid()
    with data_folder.claim_folder(tmp_path / "data"):
        pass


def test_the_pid_of_one_that_was_killed_is_no_obstacle(tmp_path):
    script = (
        "import os, pathlib, signal, sys\n"
        "from marketswarm.fleet import data_folder\n"
        "with data_folder.claim_folder(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == -9
    assert (tmp_path / "fleet.pid").read_text().strip().isdigit()
    with data_folder.claim_folder(tmp_path):
        assert (tmp_path / "fleet.pid").read_text() == f"{os.getpid()}\n"


def test_the_data_is_the_users_alone(tmp_path):
    with data_folder.claim_folder(tmp_path / "data"):
        assert (tmp_path / "data").stat().st_mode & 0o077 == 0


@pytest.mark.live
def test_a_fleet_counts_as_running_while_it_answers(tmp_path):
    address = str(tmp_path / "c")
    buses = {"system-redis": "redis://127.0.0.1:1"}
    fleet = data_folder.RunningFleet(1, address, buses, board="http://127.0.0.1:8080")
    assert data_folder.find_fleet(tmp_path) is None
    data_folder.publish_fleet(tmp_path, fleet)
    assert data_folder.find_fleet(tmp_path) is None
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        assert data_folder.find_fleet(tmp_path) == fleet
    assert data_folder.find_fleet(tmp_path) is None
    assert data_folder.has_stale_record(tmp_path)
    data_folder.withdraw_fleet(tmp_path)
    assert not data_folder.has_stale_record(tmp_path)


@pytest.mark.parametrize("said", [b"", b"[]", b"{}", b'{"pid":"x","control":1,"buses":{}}', b'{"pid":1}'])
def test_a_spoilt_file_is_no_fleet(tmp_path, said):
    (tmp_path / "fleet.json").write_bytes(said)
    assert data_folder.find_fleet(tmp_path) is None


def test_a_folder_too_deep_for_a_socket_has_its_elsewhere(tmp_path):
    assert data_folder.choose_control_address(tmp_path).startswith(str(tmp_path)) == (len(str(tmp_path)) < 88)
    deep = tmp_path / ("x" * 100)
    address = data_folder.choose_control_address(deep)
    assert len(address) < 100
    Path(address).parent.rmdir()


@pytest.mark.live
def test_an_operator_is_let_in_by_the_files_that_a_fleet_names(tmp_path):
    address, key = str(tmp_path / "c"), tmp_path / "key"
    key.write_text("redis://operator:secret@127.0.0.1:1\n")
    urls = {"system-redis": "redis://127.0.0.1:1", "market-redis": "redis://far:2"}
    fleet = data_folder.RunningFleet(1, address, urls, {"system-redis": str(key)})
    data_folder.publish_fleet(tmp_path, fleet)
    assert b"secret" not in (tmp_path / "fleet.json").read_bytes()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        found = data_folder.find_fleet(tmp_path)
    assert found is not None
    assert found.buses == {**urls, "system-redis": "redis://operator:secret@127.0.0.1:1"}


def test_a_link_in_place_of_a_file_overwrites_nothing(tmp_path):
    data, mine = tmp_path / "data", tmp_path / "mine"
    data.mkdir(mode=0o700)
    mine.write_text("precious")
    (data / "fleet.pid").symlink_to(mine)
    with (
        pytest.raises(PermissionError, match=r"is a link: remove it.*fleet\.pid"),
        data_folder.claim_folder(data),
    ):
        pass
    (data / "fleet.pid").unlink()
    (data / "fleet.pid").hardlink_to(mine)
    with pytest.raises(PermissionError, match="not a file of its own"), data_folder.claim_folder(data):
        pass
    assert mine.read_text() == "precious"


def test_a_folder_that_others_made_or_may_write_to_is_refused(tmp_path, monkeypatch):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for name, said in (("open", "chmod go-w"), ("link", "a link or a file, not a folder")):
        with pytest.raises(PermissionError, match=said), data_folder.claim_folder(tmp_path / name):
            pass
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with (
        pytest.raises(PermissionError, match="belongs to another user"),
        data_folder.claim_folder(tmp_path / "real"),
    ):
        pass
    assert not list((tmp_path / "real").iterdir())


@pytest.mark.live
def test_what_somebody_else_says_of_a_fleet_here_is_not_heard(tmp_path, monkeypatch):
    address = str(tmp_path / "c")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        data_folder.publish_fleet(
            tmp_path, data_folder.RunningFleet(1, address, {"system-redis": "redis://127.0.0.1:1"})
        )
        assert data_folder.find_fleet(tmp_path) is not None
        tmp_path.chmod(0o777)
        assert data_folder.find_fleet(tmp_path) is None
        tmp_path.chmod(0o700)
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert data_folder.find_fleet(tmp_path) is None
