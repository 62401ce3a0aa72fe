"""The log files of agents: bounded, rotated, read from their end, followed across rotations."""

import errno
import os
import resource
import signal
from pathlib import Path

import pytest

from marketswarm.fleet.agent_logs import LogFiles, bound_log, find_logs
from marketswarm.log_follower import FILES, LogFollower


@pytest.fixture
def failures():
    return []


@pytest.fixture
def files(tmp_path, failures):
    files = LogFiles(tmp_path, failures.append, max_bytes=100)
    yield files
    files.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "logs").iterdir())


def test_each_agent_has_a_file_and_so_has_each_process_of_a_service(tmp_path, files):
    for name in ("rss_agg", "rss_agg/2", "healer"):
        files.append(name, b"x")
    assert names(tmp_path) == ["healer.log", "rss_agg.log", "rss_agg@2.log"]
    assert list(find_logs(tmp_path)) == ["healer", "rss_agg", "rss_agg/2"]
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "logs").iterdir()} == {0o600}


def test_a_log_never_takes_more_than_its_files(tmp_path, files):
    for number in range(1000):
        files.append("a", b"line %d" % number)
    assert names(tmp_path) == ["a.log", "a.log.1", "a.log.2"]
    assert len(names(tmp_path)) == FILES
    assert all(path.stat().st_size <= 100 for path in (tmp_path / "logs").iterdir())
    assert (tmp_path / "logs/a.log").read_bytes().endswith(b"line 999\n")
    assert find_logs(tmp_path) == {"a": tmp_path / "logs/a.log"}


def test_a_line_longer_than_a_file_is_written_whole(tmp_path, files):
    files.append("a", b"short")
    files.append("a", b"x" * 1000)
    files.append("a", b"after")
    assert [(tmp_path / f"logs/a.log{ending}").stat().st_size for ending in ("", ".1", ".2")] == [6, 1001, 6]


def test_a_new_fleet_goes_on_with_the_file_and_counts_what_is_in_it(tmp_path, files, failures):
    files.append("a", b"x" * 90)
    files.close()
    again = LogFiles(tmp_path, failures.append, max_bytes=100)
    again.append("a", b"y" * 90)
    assert names(tmp_path) == ["a.log", "a.log.1"]
    again.close()


def test_a_file_that_cannot_be_written_is_said_once_and_tried_again(tmp_path, files, failures):
    blocked = tmp_path / "logs/a.log"
    blocked.mkdir()
    for _ in range(3):
        files.append("a", b"lost")
    assert [error.errno for error in failures] == [errno.EISDIR]
    blocked.rmdir()
    files.append("a", b"written")
    assert blocked.read_bytes() == b"written\n"


def test_the_log_of_a_program_that_writes_it_itself_never_takes_more_than_its_files(tmp_path):
    path = tmp_path / "server.log"
    bound_log(path, 100)
    for number in range(5):
        path.write_bytes(b"%d" % number * 100)
        bound_log(path, 100)
        assert path.exists(), "it is as large as it may be"
        path.write_bytes(b"%d" % number * 101)
        bound_log(path, 100)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["server.log.1", "server.log.2"]
    assert [(tmp_path / f"server.log.{number}").read_bytes()[:1] for number in (1, 2)] == [b"4", b"3"]


def test_a_line_of_which_a_full_disk_took_a_part_is_said_and_not_glued_to_the_next(tmp_path, files, failures):
    files.append("a", b"first")
    path = tmp_path / "logs/a.log"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 3, limit[1]))  # as a disk of that size
    try:
        files.append("a", b"second")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert [error.errno for error in failures] == [errno.ENOSPC]
    for line in (b"third", b"fourth"):
        files.append("a", line)
    assert path.read_bytes().splitlines() == [b"first", b"sec", b"third", b"fourth"]


def test_a_link_in_its_place_is_not_followed(tmp_path, files, failures):
    (tmp_path / "target").write_bytes(b"")
    (tmp_path / "logs/a.log").symlink_to(tmp_path / "target")
    files.append("a", b"x")
    assert failures
    assert (tmp_path / "target").read_bytes() == b""


@pytest.mark.parametrize("wanted", [0, 1, 2, 5, 18, 100])
def test_the_last_lines_are_read_across_rotated_files(tmp_path, files, wanted):
    for number in range(100):
        files.append("a", b"line %d" % number)
    kept = b"".join((tmp_path / f"logs/a.log{ending}").read_bytes() for ending in (".2", ".1", "")).split(
        b"\n"
    )
    assert LogFollower(tmp_path / "logs/a.log").read_tail(wanted) == kept[:-1][-wanted:] * bool(wanted)


def test_the_last_line_of_a_large_file_is_found_from_its_end(tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * 300_000 + b"\n" + b"y" * 300_000 + b"\nlast\n")
    assert LogFollower(path).read_tail(1) == [b"last"]
    assert [line[:1] for line in LogFollower(path).read_tail(3)] == [b"x", b"y", b"l"]


def test_following_goes_on_behind_the_last_lines_and_loses_nothing_at_a_rotation(tmp_path, files):
    follower = LogFollower(tmp_path / "logs/a.log")
    files.append("a", b"before")
    assert follower.read_tail(10) == [b"before"]
    read = []
    written = [b"line %02d" % number for number in range(40)]
    for at, line in enumerate(written):
        files.append("a", line)
        if at % 11 == 0:  # a file holds 12 lines: some files are rotated twice between two looks
            read += follower.read_new()
    assert read + follower.read_new() == written
    assert follower.read_new() == []
    assert {"a.log.1", "a.log.2"} <= set(names(tmp_path))


def test_following_begins_before_the_file_is_there(tmp_path, files):
    follower = LogFollower(tmp_path / "logs/late.log")
    assert follower.read_tail(10) == []
    assert follower.read_new() == []
    files.append("late", b"first")
    assert follower.read_new() == [b"first"]


def test_half_a_line_is_shown_when_its_other_half_is_there(tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(b"one\ntw")
    follower = LogFollower(path)
    assert follower.read_tail(10) == [b"one"]
    assert follower.read_new() == []
    with path.open("ab") as file:
        file.write(b"o\nthr")
    assert follower.read_new() == [b"two"]


def test_a_folder_of_logs_that_others_may_write_to_is_refused(tmp_path):
    (tmp_path / "logs").mkdir()
    os.chmod(tmp_path / "logs", 0o777)  # noqa: S103, PTH101 - that is the point
    with pytest.raises(PermissionError):
        LogFiles(tmp_path, lambda _: None)
