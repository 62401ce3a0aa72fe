"""The revisions of a truth as a user sees, compares and rolls them back."""

import hashlib
import os
import pty
import select
import subprocess
import sys

import orjson
import pytest

from marketswarm.cli import seed, truth
from marketswarm.cli.truth import KnownRevision, is_revision, merge_revisions
from marketswarm.keys import TRUTH_DOC, TRUTH_HISTORY, TRUTH_META
from marketswarm.seeding.transaction import SeedError
from marketswarm.status.revisions import Revision
from support.rig.shell import SERVICES, Shell

live = pytest.mark.live
FIRST = {"services": SERVICES}
SECOND = {"services": {**SERVICES, "mesh": {"tags": ["x"], "replicas": 2}, "new": {}}}


@pytest.fixture
def twice(shell, seeded):
    shell.write(SECOND)
    assert shell("seed").returncode == 0
    return seeded


def table(shell, *words):
    return [line.split() for line in shell.said("truth", "history", *words).splitlines()]


def in_force(bus):
    return bus.cmd("HGET", TRUTH_META, "revision"), orjson.loads(bus.cmd("GET", TRUTH_DOC))


def known(number, bus, sha256="a", **more):
    return KnownRevision(
        Revision(number, sha256, b"", 1.0), 2, **{"is_intact": True, "buses": (bus,), **more}
    )


def test_revisions_of_several_buses_are_merged_the_newest_first():
    merged = merge_revisions({"a": [known(2, "a"), known(1, "a")], "b": [known(3, "b"), known(1, "b")]})
    assert [(one.revision.number, one.buses) for one in merged] == [(3, ("b",)), (2, ("a",)), (1, ("a", "b"))]


@pytest.mark.parametrize("other", [{"sha256": "b"}, {"is_intact": False}])
def test_a_revision_that_differs_between_buses_says_so(other):
    (one,) = merge_revisions({"a": [known(1, "a")], "b": [known(1, "b", **other)]})
    assert (one.buses, one.differs_on) == (("a",), ("b",))


@pytest.mark.parametrize(
    ("which", "is_it"), [("3", True), ("truth.json", False), ("./3", False), ("\N{SUPERSCRIPT TWO}", False)]
)
def test_a_number_is_a_revision_and_all_else_a_file(which, is_it):
    assert is_revision(which) is is_it


@live
def test_the_history_has_number_time_author_size_and_hash_of_each_revision(shell, twice):
    head, newest, oldest = table(shell)
    assert head == ["rev", "seeded", "by", "size", "sha256"]
    assert (newest[0], newest[-2:], oldest[0]) == ("2", ["in", "force"], "1")
    shown = orjson.loads(shell.said("truth", "history", "--json"))
    assert shown["away"] == {}
    for one, (number, text) in zip(shown["revisions"], ((2, SECOND), (1, FIRST)), strict=True):
        assert (one["revision"], one["size"]) == (number, len(orjson.dumps(text)))
        assert one["seeded_by"].startswith("marketswarm@")
        assert one["buses"] == ["system-redis", "market-redis"]
        assert one["intact"]
    assert newest[-4:-2] == ["B", shown["revisions"][0]["sha256"][:12]]


@live
def test_the_history_says_what_one_bus_alone_keeps_what_is_damaged_and_which_bus_is_away(shell, twice):
    system, market = twice
    (newest, _), *_ = market.cmd("XREVRANGE", TRUTH_HISTORY, "+", "-")
    market.cmd("XDEL", TRUTH_HISTORY, newest)
    sha256 = "0" * 64
    system.cmd(
        "XADD", TRUTH_HISTORY, "*", "revision", 9, "sha256", sha256, "doc", "\x1b[2J", "seeded_by", "\x1b"
    )
    text = shell.said("truth", "history", COLUMNS="200")
    assert "in force; not on market-redis" in text
    assert "the document does not have this hash; not on market-redis" in text
    assert "\x1b" not in text
    ended = shell("truth", "rollback", "9", "--yes")
    assert (ended.returncode, "revision 9 is damaged" in ended.stderr) == (2, True)
    market.stop()
    assert shell.said("truth", "history").startswith("bus market-redis does not answer: refused\n")


@live
def test_without_arguments_the_last_two_revisions_are_compared(shell, twice):
    assert shell.said("truth", "diff").splitlines() == [
        "revision 1 → revision 2", "  + new", "  ~ mesh: tags, replicas default → 2",
    ]  # fmt: skip
    assert shell("truth", "diff", "1", "2", "--exit-code").returncode == 1
    assert shell("truth", "diff", "2", "2", "--exit-code").stdout.splitlines() == [
        "revision 2 → revision 2", "  nothing: the same bytes",
    ]  # fmt: skip
    found = orjson.loads(shell.said("truth", "diff", "2", "1", "--json"))
    assert (found["dropped"], found["same"], found["old"]) == (["new"], False, "revision 2")


@live
def test_a_file_is_compared_with_what_is_in_force_or_with_a_revision(shell, twice):
    assert "nothing: the same bytes" in shell.said("truth", "diff", "truth.json")
    shell.write(FIRST)
    assert shell.said("truth", "diff", "truth.json").splitlines()[:2] == [
        "revision 2 → truth.json",
        "  - new",
    ]
    assert "nothing" in shell.said("truth", "diff", "1", "truth.json")
    shell.write(orjson.dumps(FIRST, option=orjson.OPT_INDENT_2))
    assert "the same content, written differently" in shell.said("truth", "diff", "1", "truth.json")
    assert shell.said("truth", "diff", "1").splitlines()[:2] == ["revision 1 → revision 2", "  + new"]


@live
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["diff", "7"], 2, "no bus keeps a revision 7; `marketswarm truth history` shows"),
        (["diff"], 2, "there are no two revisions"),
        (["diff", "nofile.json"], 2, "nofile.json: No such file"),
        (["diff", "wrong.json"], 2, "wrong.json: 1 problem\n  services.a.heartbeat"),
        (["rollback", "7"], 2, "no bus keeps a revision 7"),
        (["rollback", "0"], 2, "REV"),
        (["show", "7"], 2, "no bus keeps a revision 7"),
    ],
)
def test_what_is_not_there_or_not_valid_is_said(shell, seeded, words, code, said):
    (shell.folder / "wrong.json").write_text('{"services":{"a":{"heartbeat":{"interval_sec":-1}}}}')
    ended = shell("truth", *words)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert said in ended.stderr


@live
def test_a_document_is_shown_byte_for_byte(shell, twice):
    assert shell.said("truth", "show", "1").encode() == orjson.dumps(FIRST)
    assert shell.said("truth", "show").encode() == orjson.dumps(SECOND)


@live
def test_a_rollback_is_a_new_revision_on_every_bus(shell, twice):
    lines = shell.said("truth", "rollback", "1", "--yes").splitlines()
    assert lines[0].startswith("revision 1, seeded ")
    assert lines[0].endswith(", would replace revision 2:")
    assert lines[1] == "  - new"
    assert "revision 1, seeded again, is revision 3 on system-redis and market-redis" in lines
    assert lines[-2:] == [
        "  ! truth.json is another document, and seeding it would undo this; to have the same there:",
        "    marketswarm truth show > truth.json",
    ]
    assert [in_force(bus) for bus in twice] == [("3", FIRST)] * 2
    again = shell.said("truth", "rollback", "1").splitlines()  # nothing is asked, for nothing changes
    assert "  nothing: the same bytes" in again
    assert (
        "revision 1, seeded again, is still revision 3 on system-redis and market-redis: nothing to do"
        in again
    )


@live
def test_without_a_terminal_it_asks_nobody_and_does_nothing(shell, twice):
    ended = shell("truth", "rollback", "1")
    assert ended.returncode == 2
    assert "nothing changed: no terminal; pass --yes to confirm" in ended.stderr
    assert "  - new" in ended.stdout
    assert in_force(twice[0])[0] == "2"


@live
def test_a_lost_truth_comes_back_by_a_rollback(shell, twice):
    for bus in twice:
        bus.cmd("DEL", TRUTH_DOC, TRUTH_META)
    assert "no bus has a valid truth now" in shell.said("truth", "rollback", "1", "--yes")
    assert [in_force(bus) for bus in twice] == [("3", FIRST)] * 2


@live
def test_two_documents_under_one_number_are_not_rolled_back(shell, twice):
    raw = b'{"services":{}}'
    sha256 = hashlib.sha256(raw).hexdigest()
    twice[1].cmd("XADD", TRUTH_HISTORY, "*", "revision", 1, "sha256", sha256, "doc", raw)
    ended = shell("truth", "rollback", "1", "--yes")
    assert ended.returncode == 2
    assert "revision 1 is not the same on system-redis and market-redis" in ended.stderr
    assert "another one on market-redis" in shell.said("truth", "history", COLUMNS="200")


@live
def test_with_a_bus_away_nothing_is_rolled_back(shell, twice, monkeypatch):
    monkeypatch.setattr(seed, "_ANSWER_WITHIN_SEC", 0.1)
    twice[1].stop()
    ended = shell("truth", "rollback", "1", "--yes")
    assert ended.returncode == 3
    assert "not seeded, nothing changed: market-redis: refused" in ended.stderr
    assert in_force(twice[0])[0] == "2"


@pytest.fixture
def asked(shell, twice):
    """A rollback on a terminal that has shown its changes and asks."""
    ours, theirs = pty.openpty()
    how = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "start_new_session": True}
    line = [sys.executable, "-m", "marketswarm", "truth", "rollback", "1"]
    with (
        os.fdopen(ours, "r+b", buffering=0) as screen,
        subprocess.Popen(line, cwd=shell.folder, env=shell.env, **how) as running,
    ):
        os.close(theirs)
        shown = b""
        while b"[y/N]" not in shown:
            assert select.select([screen], [], [], 20)[0], shown
            shown += screen.read(1000)
        assert b"- new" in shown
        yield screen, running
        running.kill()


@live
@pytest.mark.parametrize(("typed", "code", "revision"), [(b"y\n", 0, "3"), (b"n\n", 1, "2")])
def test_on_a_terminal_it_asks(asked, twice, typed, code, revision):
    screen, running = asked
    screen.write(typed)
    assert running.wait(20) == code
    assert in_force(twice[0])[0] == revision


@live
def test_a_yes_to_what_somebody_changed_meanwhile_does_nothing(shell, asked, twice):
    screen, running = asked
    shell.write({"services": {**SERVICES, "other": {}}})
    assert shell("seed").returncode == 0
    screen.write(b"y\n")
    assert running.wait(20) == 1
    assert in_force(twice[0])[0] == "3"


@live
def test_what_is_seeded_at_the_last_moment_is_not_rolled_back(shell, twice, monkeypatch):
    def seed_between(*args, **how):
        shell.write({"services": {**SERVICES, "other": {}}})
        another = Shell(shell.folder)  # a process of its own
        another.env = shell.env
        assert another("seed").returncode == 0
        return seed.seed_document(*args, **how)

    monkeypatch.setattr(truth, "seed_document", seed_between)
    ended = shell("truth", "rollback", "1", "--yes")
    assert (ended.returncode, "changed meanwhile" in ended.stderr) == (1, True), ended
    assert in_force(twice[0])[0] == "3"


@live
@pytest.mark.parametrize("at", [0, 1])
def test_a_rollback_mends_buses_that_hold_different_documents(shell, twice, at):
    raw = orjson.dumps({"services": {**SERVICES, "alone": {}}})
    twice[at].cmd("SET", TRUTH_DOC, raw)
    meta = ("revision", "3", "sha256", hashlib.sha256(raw).hexdigest())
    twice[at].cmd("HSET", TRUTH_META, *meta)
    shell.said("truth", "rollback", "1", "--yes")
    assert [in_force(bus) for bus in twice] == [("4", FIRST)] * 2


@live
def test_a_bus_that_could_not_be_put_back_is_not_called_unchanged(shell, seeded, monkeypatch):
    async def fail(*_args, **_how):
        raise SeedError("market-redis", "timeout", unrestored=["system-redis"])

    monkeypatch.setattr(seed, "seed_buses", fail)
    ended = shell("seed")
    assert ended.returncode == 3
    assert "not seeded: market-redis: timeout; could not be put back on system-redis" in ended.stderr
    assert "nothing changed" not in ended.stderr
