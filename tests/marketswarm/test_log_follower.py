"""Logs are read within bounds: of a long one the end, of a line that is too long nothing.

That nothing is lost at a rotation is tested where the files are rotated: fleet/test_agent_logs.py.
"""

import os

import pytest

from marketswarm.log_follower import LogFollower, find_log_files


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(b"")
    return path


def append(path, text):
    with path.open("ab") as file:
        file.write(text)


def test_of_more_than_may_be_read_the_end_is_read_from_the_next_whole_line_on(path):
    follower = LogFollower(path)
    append(path, b"long " * 10 + b"\nshort\nlast\n")
    assert follower.read_new(20) == [b"short", b"last"]
    assert follower.skipped_bytes == 51
    append(path, b"next\n")
    assert follower.read_new(20) == [b"next"]
    assert follower.skipped_bytes == 51


def test_a_line_that_is_too_long_is_left_out_to_its_end_and_not_kept(path):
    follower = LogFollower(path)
    for _ in range(5):
        append(path, b"x" * 15)
        assert follower.read_new(20) == []
        assert len(follower._rest) <= 20  # noqa: SLF001 - what it has in memory
    append(path, b"end\nnext\n")
    assert follower.read_new(20) == [b"next"]
    assert follower.skipped_bytes == 79


def test_a_file_that_was_emptied_is_read_from_its_beginning(path):
    follower = LogFollower(path)
    append(path, b"before\nhal")
    assert follower.read_new() == [b"before"]
    os.truncate(path, 0)
    append(path, b"new\n")
    assert follower.read_new() == [b"new"]
    assert follower.read_new() == []


def test_the_files_of_a_folder_are_found_by_agent(path, tmp_path):
    for name in ("b@2.log", "b.log.1", "other"):
        (tmp_path / name).touch()
    assert find_log_files(tmp_path) == {"a": path, "b/2": tmp_path / "b@2.log"}
    assert find_log_files(tmp_path / "none") == {}
