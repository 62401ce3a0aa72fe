"""Logs are read within bounds: of a long one the end, of a line that is too long nothing.

That nothing is lost at a rotation is tested where the files are rotated: fleet/test_agent_logs.py.
"""

import os
import stat

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


def put_instead(path, kind):
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        (path.parent / "secret").write_text("a secret\n")
        path.symlink_to(path.parent / "secret")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mknod(path, stat.S_IFSOCK | 0o600)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("pipe", "it is not a regular file"),
        ("folder", "it is not a regular file"),
        ("link", "it is a link"),
        ("socket", "it is a socket"),
    ],
)
@pytest.mark.parametrize("place", ["a.log", "a.log.1"])
def test_what_stands_in_place_of_a_log_is_not_read_nor_waited_for(path, kind, why, place):
    append(path, b"first\n")
    follower = LogFollower(path)
    assert follower.read_new() == [b"first"]
    if place == "a.log":
        path.rename(path.with_name("a.log.1"))
        append(path.with_name("a.log.1"), b"before it\n")
        put_instead(path, kind)
        assert follower.read_new(100) == [b"before it"]
    else:
        put_instead(path.with_name(place), kind)
        append(path, b"before it\n")
        assert LogFollower(path).read_tail(5) == [b"first", b"before it"]
    tail = LogFollower(path)
    tail.read_tail(5)
    assert tail.refused == {path.with_name(place): why}
    put = path.with_name(place)
    put.rmdir() if kind == "folder" else put.unlink()
    append(path, b"after it\n")
    assert follower.read_new()[-1] == b"after it"
    assert follower.refused == {}
