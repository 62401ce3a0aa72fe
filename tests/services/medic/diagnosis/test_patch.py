"""A patch that a model wrote is tested on a copy; the repository itself stays as it is."""

import shutil
import subprocess
import sys

import pytest

from services.medic.diagnosis.patch import PatchVerdict, check_patch, refuse_paths
from support.rig.process import alive
from support.waiting import auntil

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
]
V = PatchVerdict
GOOD = "--- a/feed.py\n+++ b/feed.py\n@@ -1,2 +1,2 @@\n one = 1\n-two = 3\n+two = 2"
GONE = "--- a/way\n+++ /dev/null\n@@ -1 +0,0 @@\n-{outside}\n\\ No newline at end of file"
"""The end of a patch that deletes the link of the repository."""
BINARY = (
    f"diff --git a/x b/x\nnew file mode 100644\nindex {'0' * 40}..f76dd238ade08917e6712764a16a22005a50573d\n"
    "GIT binary patch\nliteral 1\nIcmZPo000310RR91\n\nliteral 0\nHcmV?d00001\n"
)
CODE = "import feed, os, sys; print('two is', feed.two); sys.exit(feed.two != 2)"
TEST = (sys.executable, "-B", "-c", CODE)


def make_new(path, mode="100644", text="x"):
    head = f"diff --git a/{path} b/{path}\nnew file mode {mode}\n--- /dev/null\n+++ b/{path}\n"
    return f"{head}@@ -0,0 +1 @@\n+{text}"


IGNORED = "\n" + make_new(".gitmodules", text='[submodule "m"]\n+\tpath = module\n+\tignore = all').replace(
    "+1 @@", "+1,3 @@"
)


def git(folder, *words):
    names = ("-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *names, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path):
    """Return a repository with a module twice, a link out of it, and a hook that leaves a mark."""
    top = tmp_path / "fleet"
    (top / "shop").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    for folder in (top, top / "shop"):
        (folder / "feed.py").write_text("one = 1\ntwo = 3\n")
    (top / "way").symlink_to(tmp_path / "outside")
    git(top, "init", "-q")
    git(top, "add", ".")
    git(top, "commit", "-qm", "Add a feed")
    for name in ("post-checkout", "applypatch-msg", "post-index-change", "post-commit"):
        hook = top / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {tmp_path / 'hooked'}\n")
        hook.chmod(0o755)
    return top


@pytest.fixture
def room(tmp_path):
    (tmp_path / "room").mkdir()
    return tmp_path / "room"


def read_all(folder):
    """Return the content of each file, and where each link leads, below a folder."""
    return {
        str(path): path.readlink() if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


async def test_a_patch_is_tested_on_a_copy_and_the_repository_stays_as_it_is(repository, room, tmp_path):
    before = read_all(repository)
    found = await check_patch(repository, GOOD, TEST, 30, room)
    assert (found.verdict, found.output, found.exit_code) == (V.PASSED, "two is 2\n", 0)
    assert read_all(repository) == before
    assert not (tmp_path / "hooked").exists()
    assert git(room / "clone", "remote") == ""


@pytest.mark.parametrize("head", ["", "diff --git a/feed.py b/feed.py\n"])
async def test_a_folder_within_a_repository_is_what_the_paths_of_a_patch_start_from(repository, room, head):
    found = await check_patch(repository / "shop", head + GOOD, TEST, 30, room)
    assert found.verdict is V.PASSED, found
    assert "two = 3" in (room / "clone" / "feed.py").read_text()
    assert "two = 2" in (room / "clone" / "shop" / "feed.py").read_text()


@pytest.mark.parametrize(
    "patch",
    [
        make_new("../escaped"),
        make_new("way/escaped"),
        "diff --git a/shop/feed.py b/shop/feed.py\n" + GOOD.replace("feed", "shop/feed"),
        GOOD.replace("+two = 2", "+two = 3"),
        "diff --git a/feed.py b/feed.py\nold mode 100644\nnew mode 100644\n",
    ],
)
async def test_what_is_not_of_that_folder_or_changes_nothing_is_never_passed(
    repository, room, tmp_path, patch
):
    (repository / "shop" / "way").symlink_to(tmp_path / "outside")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "Add a way")
    found = await check_patch(repository / "shop", patch, ("touch", str(tmp_path / "tested")), 30, room)
    assert found.verdict in (V.OUTSIDE, V.LINK, V.NOT_APPLICABLE), found
    assert not (tmp_path / "tested").exists()
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize(
    ("code", "ended"),
    [
        ("import sys; print('out'); print('bad', file=sys.stderr); sys.exit(3)", (V.FAILED, 3, "bad")),
        ("import time; time.sleep(600)", (V.TIMED_OUT, None, "")),
        (None, (V.UNRUNNABLE, None, "No such file")),
    ],
)
async def test_how_a_test_command_ends_is_the_verdict(repository, room, code, ended):
    verdict, exit_code, output = ended
    command = ("/no/such/command",) if code is None else (sys.executable, "-c", code)
    limit_sec = 0.3 if verdict is V.TIMED_OUT else 30
    found = await check_patch(repository, GOOD, command, limit_sec, room)
    assert (found.verdict, found.exit_code) == (verdict, exit_code)
    assert output in found.output


async def test_what_a_test_leaves_behind_is_ended_with_it(repository, room, tmp_path):
    pids = tmp_path / "pids"
    command = ("sh", "-c", f"sleep 600 & echo $! >{pids}; echo done")
    found = await check_patch(repository, GOOD, command, 30, room)
    assert (found.verdict, found.output) == (V.PASSED, "done\n")
    await auntil(lambda: not alive(int(pids.read_text())), what="its end")


async def test_a_test_command_may_be_a_program_of_the_copy(repository, room):
    program = repository / "check"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "Add a check")
    assert (await check_patch(repository, GOOD, ("./check",), 30, room)).verdict is V.PASSED


@pytest.mark.parametrize(
    ("patch", "verdicts"),
    [
        (make_new("../escaped"), {V.OUTSIDE, V.NOT_APPLICABLE}),
        (make_new("../../room/escaped"), {V.OUTSIDE, V.NOT_APPLICABLE}),
        (make_new("/escaped"), {V.OUTSIDE, V.NOT_APPLICABLE}),
        (make_new(".git/hooks/pre-commit", "100755"), {V.OUTSIDE, V.NOT_APPLICABLE}),
        (make_new("shop/.GIT/config"), {V.OUTSIDE, V.NOT_APPLICABLE}),
        (make_new("way/escaped"), {V.LINK}),
        (make_new("link", "120000", "/etc/passwd"), {V.LINK}),
        (make_new("link", "0120000", "/etc/passwd"), {V.LINK}),
        (make_new("link", "120000 ", "/etc/passwd"), {V.LINK}),
        (make_new("module", "160000", f"Subproject commit {'1' * 40}"), {V.LINK}),
        (make_new("module", "0160000", f"Subproject commit {'1' * 40}") + IGNORED, {V.LINK}),
        (f"diff --git a/way b/way\ndeleted file mode 0120000\n{GONE}", {V.LINK}),
        ("diff --git a/way b/road\nsimilarity index 100%\nrename from way\nrename to road", {V.LINK}),
        (BINARY, {V.BINARY}),
        (f"{GOOD}\n{BINARY}", {V.BINARY}),
        (GOOD.replace("two = 3", "two = 9"), {V.NOT_APPLICABLE}),
        ("no patch at all", {V.NOT_APPLICABLE}),
    ],
)
async def test_a_patch_that_is_refused_changes_nothing_anywhere_and_tests_nothing(
    repository, room, tmp_path, patch, verdicts
):
    before, mark = read_all(repository), tmp_path / "tested"
    patch = patch.replace("{outside}", str(tmp_path / "outside"))
    found = await check_patch(repository, patch, ("touch", str(mark)), 30, room)
    assert found.verdict in verdicts, found
    assert not mark.exists()
    assert read_all(repository) == before
    assert list((tmp_path / "outside").iterdir()) == []
    assert {path.name for path in room.rglob("*")} & {"escaped", "pre-commit"} == set()


def test_paths_are_refused_without_git_too(tmp_path):
    (tmp_path / "way").symlink_to("/")
    assert refuse_paths(tmp_path, ["a/b.py", ".github/x.yaml"]) is None
    for path in ("../x", "a/../../x", "/x", ".git/x", "a/.Git/x", ""):
        assert refuse_paths(tmp_path, ["good.py", path]) is V.OUTSIDE, path
    for path in ("way", "way/etc/x"):
        assert refuse_paths(tmp_path, [path]) is V.LINK


async def test_a_folder_that_is_no_repository_is_no_copy(tmp_path, room):
    (tmp_path / "plain").mkdir()
    assert (await check_patch(tmp_path / "plain", GOOD, TEST, 30, room)).verdict is V.NO_COPY
