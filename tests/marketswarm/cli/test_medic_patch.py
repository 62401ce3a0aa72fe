"""`medic patch` on real servers: from the bus or PostgreSQL, and tested on a copy of a repository."""

import asyncio
import shutil
import signal
import subprocess
import sys
import time

import orjson
import pytest

from marketswarm.keys import MEDIC_INCIDENTS
from marketswarm.operator.healing import (
    DIAGNOSIS_FIELD,
    ENTRY_FIELD,
    DiagnosisRecord,
    EntryKind,
    TimelineEntry,
)
from services.archive.database import Database
from services.archive.writer import TypedEntry, Writer
from services.tables.tables import STREAMS
from support.rig.process import alive
from support.rig.shell import SERVICES
from support.waiting import until

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
]
IDENT, OLDER = "mesh.1795400736319", "mesh.1795300000000"
PATCH = "--- a/mesh.py\n+++ b/mesh.py\n@@ -1 +1 @@\n-\tsize = 1\x1b[2J\n+\tsize = 2"
GOOD = "--- a/size.py\n+++ b/size.py\n@@ -1 +1 @@\n-size = 1\n+size = 2"
TEST = f"{sys.executable} -B -c 'import size, sys; print(size.size); sys.exit(size.size != 2)'"


def make_fields(patch, ident=IDENT, **more):
    told = {"incident": ident, "ts": time.time(), "svc": "mesh"}
    entry = TimelineEntry(what=EntryKind.DIAGNOSED, **told)
    record = DiagnosisRecord(**told, reason="exhausted", text="Too small.", patch=patch, **more)
    return {ENTRY_FIELD: entry.encode(), DIAGNOSIS_FIELD: record.encode()}


@pytest.fixture
def system(shell, buses):
    """system-redis of a fleet with a medic."""
    shell.write({"services": {**SERVICES, "medic": {}}})
    assert shell("seed").returncode == 0
    return buses[0]


def record_on_bus(system, patch, **more):
    fields = make_fields(patch, **more)
    system.cmd("XADD", MEDIC_INCIDENTS, "*", *(part for pair in fields.items() for part in pair))


def record_in_archive(url, *patches, ident=IDENT):
    kind, make = STREAMS[MEDIC_INCIDENTS]
    entries = []
    for number, patch in enumerate(patches, 1):
        place = b"%d-%d" % (int(ident.rpartition(".")[2]), number)
        fields = {name.encode(): value for name, value in make_fields(patch, ident).items()}
        entries.append(TypedEntry(MEDIC_INCIDENTS, place, kind, make(place, fields)[0]))

    async def write():
        database = Database(url)
        assert await Writer(database).write(entries) == []
        await database.aclose()

    asyncio.run(write())


@pytest.fixture
def repository(tmp_path):
    top = tmp_path / "repository"
    top.mkdir()
    (top / "size.py").write_text("size = 1\n")
    for words in (("init", "-q"), ("add", "."), ("commit", "-qm", "Add a size")):
        names = ("-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", str(top), *names, *words], check=True, capture_output=True)
    return top


def test_a_patch_is_shown_without_what_a_terminal_would_obey_and_whole_for_programs(shell, system):
    record_on_bus(system, PATCH)
    shown = shell("medic", "patch", IDENT)
    assert (shown.returncode, shown.stdout) == (0, PATCH.replace("\x1b", "\\x1b") + "\n")
    assert "they are shown as escapes" in shown.stderr
    found = orjson.loads(shell.said("medic", "patch", IDENT, "--json"))
    assert (found["incident"], found["patch"]) == (IDENT, PATCH)


def test_an_earlier_patch_of_an_outage_is_printed_by_how_far_back_it_is(shell, system):
    for patch in ("first", "second", "third"):
        record_on_bus(system, patch)
    found = [shell.said("medic", "patch", IDENT, *more) for more in ((), ("--back", "1"), ("--back", "2"))]
    assert found == ["third\n", "second\n", "first\n"]


def test_git_applies_what_is_printed_with_its_tabs_and_spaces_in_any_locale(shell, system, repository):
    spaced = "--- a/size.py\n+++ b/size.py\n@@ -1 +1,2 @@\n size = 1\n+\tname\u00a0=\u3000'größer → ✗'"
    record_on_bus(system, spaced)
    words = [sys.executable, "-m", "marketswarm", "medic", "patch", IDENT]
    env = shell.env | {"PYTHONIOENCODING": "ascii"}
    shown = subprocess.run(words, cwd=shell.folder, env=env, capture_output=True, timeout=60, check=True)
    assert (shown.stdout, shown.stderr) == (f"{spaced}\n".encode(), b"")
    subprocess.run(["git", "-C", str(repository), "apply"], input=shown.stdout, timeout=60, check=True)
    assert (repository / "size.py").read_text() == "size = 1\n\tname\u00a0=\u3000'größer → ✗'\n"


def test_an_outage_that_the_bus_has_no_more_is_found_in_postgresql_the_newest_diagnosis_of_it(
    shell, system, archive_url
):
    record_in_archive(archive_url, "first", "second\0")
    record_in_archive(archive_url, "another", ident=OLDER)
    assert shell("medic", "patch", IDENT, DATABASE_URL=archive_url).stdout == "second�\n"
    assert shell("medic", "patch", OLDER, DATABASE_URL=archive_url).stdout == "another\n"
    earlier = shell("medic", "patch", IDENT, "--back", "1", DATABASE_URL=archive_url)
    assert earlier.stdout == "first\n", earlier.stderr
    none = shell("medic", "patch", IDENT, "--back", "2", DATABASE_URL=archive_url)
    assert f"no diagnosis of {IDENT} 2 before the newest is on record" in none.stderr
    missing = shell("medic", "patch", "mesh.1", DATABASE_URL=archive_url)
    assert missing.returncode == 2
    assert "no diagnosis of mesh.1 is on record" in missing.stderr
    away = shell("medic", "patch", IDENT)
    assert away.returncode == 2
    assert "there is no database" in away.stderr


def test_a_patch_is_tested_on_a_copy_and_its_failure_is_the_exit_code(shell, system, repository):
    env = {"MEDIC_DIAGNOSIS_FOLDER": str(repository), "MEDIC_PATCH_TEST": TEST}
    record_on_bus(system, GOOD)
    ended = shell("medic", "patch", IDENT, "--check", **env)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == (
        "it applies to a copy of the last commit, and the test command succeeds there\n2\n"
    )
    record_on_bus(system, GOOD.replace("size = 2", "size = 3"))
    ended = shell("medic", "patch", IDENT, "--check", "--json", **env)
    assert ended.returncode == 1
    found = orjson.loads(ended.stdout)
    assert (found["verdict"], found["exit_code"], found["output"]) == ("failed", 1, "3\n")
    assert (repository / "size.py").read_text() == "size = 1\n"
    assert sorted(each.name for each in repository.iterdir()) == [".git", "size.py"]


def test_a_patch_from_which_something_was_removed_is_shown_as_such_and_not_tested(
    shell, system, repository, tmp_path
):
    record_on_bus(system, GOOD, altered=True)
    shown = shell("medic", "patch", IDENT)
    assert (shown.returncode, shown.stdout) == (0, GOOD + "\n")
    assert "something was removed from this patch when it was stored" in shown.stderr
    command = f"touch {tmp_path / 'tested'}"
    env = {"MEDIC_DIAGNOSIS_FOLDER": str(repository), "MEDIC_PATCH_TEST": command}
    ended = shell("medic", "patch", IDENT, "--check", **env)
    assert ended.returncode == 1
    assert ended.stdout.startswith("it is refused: something was removed from it")
    assert not (tmp_path / "tested").exists()


def start_check(shell, tmp_path, repository, limit_sec):
    """Begin to test a patch by a command that sleeps; return it, the file for the pid, and TMPDIR."""
    pids, temporary = tmp_path / "pids", tmp_path / "temporary"
    temporary.mkdir()
    command = f"sh -c 'sleep 600 & echo $! >{pids}.new; mv {pids}.new {pids}; wait'"
    shell.env |= {
        "MEDIC_DIAGNOSIS_FOLDER": str(repository),
        "MEDIC_PATCH_TEST": command,
        "MEDIC_PATCH_TEST_SEC": str(limit_sec),
        "TMPDIR": str(temporary),
    }
    return shell.start("medic", "patch", IDENT, "--check"), pids, temporary


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_test_command_and_deletes_the_copy(shell, system, repository, tmp_path, number):
    record_on_bus(system, GOOD)
    starting, pids, temporary = start_check(shell, tmp_path, repository, 500)
    with starting as process:
        until(pids.exists, what="the test command")
        process.send_signal(number)
        assert process.wait(30) == 128 + number
    until(lambda: not alive(int(pids.read_text())), what="the end of the test command")
    assert list(temporary.iterdir()) == []


def test_the_host_ends_the_test_command_of_a_check_that_was_killed(shell, system, repository, tmp_path):
    record_on_bus(system, GOOD)
    starting, pids, temporary = start_check(shell, tmp_path, repository, 4)
    with starting as process:
        until(pids.exists, what="the test command")
        process.kill()
        process.wait(30)
    assert list(temporary.iterdir()), "killed before its own time limit"
    until(lambda: not alive(int(pids.read_text())), what="the end of the test command")


def test_without_a_repository_a_test_or_a_patch_nothing_is_tested(shell, system, repository):
    record_on_bus(system, GOOD)
    ended = shell("medic", "patch", IDENT, "--check", MEDIC_PATCH_TEST=TEST)
    assert (ended.returncode, "MEDIC_DIAGNOSIS_FOLDER is not set" in ended.stderr) == (2, True)
    ended = shell("medic", "patch", IDENT, "--check", MEDIC_DIAGNOSIS_FOLDER=str(repository))
    assert (ended.returncode, "MEDIC_PATCH_TEST is not set" in ended.stderr) == (2, True)
    record_on_bus(system, "")
    ended = shell("medic", "patch", IDENT)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"the diagnosis of {IDENT} has no patch" in ended.stderr
