"""What a diagnosis may see of a repository, whatever a log says."""

import shutil
import subprocess

import orjson
import pytest

from services.medic.diagnosis.repository import AROUND, MAX_FRAMES, find_frames, read_commits, read_source

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
LINES = [f"line {number}" for number in range(1, 41)]


@pytest.fixture
def folder(tmp_path):
    """Return a folder within a repository, with a module, a link out of it, and a file that no commit has."""

    def git(*words):
        names = ("-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", str(tmp_path), *names, *words], check=True, capture_output=True)

    inner = tmp_path / "shop"
    (inner / "deep").mkdir(parents=True)
    (inner / "deep" / "feed.py").write_text("\n".join(LINES))
    (inner / "long.py").write_text("x = 1\n" * 200_000)
    (tmp_path / "beside.py").write_text("beside")
    outside = tmp_path.parent / f"{tmp_path.name}.secret"
    outside.write_text("outside")
    (inner / "link.py").symlink_to(outside)
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "Add a feed")
    (inner / "never.py").write_text("never committed")
    return inner


def frame(path, line):
    return f'  File "{path}", line {line}, in work\n    work()\n'


async def test_the_lines_around_the_last_frames_are_read_the_innermost_first(folder):
    logs = "Traceback (most recent call last):\n" + "".join(
        [frame(folder / "deep/feed.py", 1), frame("/usr/lib/x.py", 3), frame(folder / "deep/feed.py", 20)]
    )
    first, second = (await read_source(folder, logs)).strip().split("\n\n")
    assert first.split("\n")[0] == "deep/feed.py:"
    assert "20> line 20" in first
    assert len(first.split("\n")) == 2 + 2 * AROUND
    assert "1> line 1" in second
    in_json = orjson.dumps({"exception": logs}).decode()
    assert await read_source(folder, in_json) == await read_source(folder, logs)


async def test_a_log_has_nothing_read_but_what_the_last_commit_has_of_the_folder(folder):
    for path in (
        folder / "link.py",
        folder / "never.py",
        folder / "long.py",
        folder / "none.py",
        folder.parent / "beside.py",
        f"{folder}/../beside.py",
        f"{folder}/deep/../../beside.py",
        f"{folder}-other/a.py",
        "/etc/passwd",
        "-v.py",
    ):
        found = await read_source(folder, frame(path, 1))
        for word in ("outside", "never", "beside", "x = 1", "root:"):
            assert word not in found, path
    assert await read_source(None, frame(folder / "deep/feed.py", 1)) == ""
    assert await read_source(folder.parent.parent, frame(folder / "deep/feed.py", 1)) == "", "no repository"


def test_of_many_frames_the_last_are_taken_each_once(folder):
    logs = "".join(frame(folder / "a.py", number) for number in range(50)) * 2
    assert find_frames(logs, folder) == [("a.py", 49 - number) for number in range(MAX_FRAMES)]
    assert find_frames(frame(folder / "a.py", "9" * 50), folder) == []
    assert find_frames(frame(folder / "a.txt", 1), folder) == []
    assert find_frames(frame(f"{folder}/a\x00b.py", 1), folder) == [], "no program takes such a word"


async def test_a_line_that_the_file_does_not_have_gives_its_last_ones(folder):
    assert "line 40" in await read_source(folder, frame(folder / "deep/feed.py", 44))
    assert "line" not in await read_source(folder, frame(folder / "deep/feed.py", 900_000))


async def test_the_last_commits_are_read_and_without_a_repository_none(folder):
    assert "Add a feed" in await read_commits(folder)
    assert await read_commits(folder.parent.parent) == ""
    assert await read_commits(None) == ""
