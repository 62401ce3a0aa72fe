"""What a command writes goes where it went without us, byte by byte, and its end is kept."""

import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from marketswarm.tail_buffer import TAIL_BYTES
from support.waiting import PATIENT_SEC, until

pytestmark = pytest.mark.live

PROGRAM = """
import subprocess, sys
from marketswarm.cli.output_copier import OutputCopier
copier = OutputCopier.start()
outputs = {} if copier is None else {"stdout": copier.stdout, "stderr": copier.stderr}
child = subprocess.Popen(sys.argv[2:], close_fds=False, **outputs)
if copier is None:
    sys.exit(child.wait())
copier.release()
code = child.wait()
kept = copier.finish()
with open(sys.argv[1], "wb") as file:
    file.write(b"%d %d\\n" % (code, kept.size) + kept.tail)
"""
"""Run a command with a copier; write its exit status, how much it wrote, and the end of that into a file."""
BIG = 20_000_000


@pytest.fixture
def line(tmp_path):
    """Return the command line of PROGRAM for a command."""
    return lambda *command: [sys.executable, "-c", PROGRAM, str(tmp_path / "kept"), *command]


@pytest.fixture
def kept(tmp_path):
    """Return what PROGRAM found: the exit status, the size and the end of the output."""

    def read() -> tuple[int, int, bytes]:
        head, _, tail = (tmp_path / "kept").read_bytes().partition(b"\n")
        code, size = head.split()
        return int(code), int(size), tail

    return read


def run(words, **how):
    return subprocess.run(words, capture_output=True, check=False, timeout=PATIENT_SEC, **how)


@pytest.mark.parametrize(
    "written", [b"", b"no newline", bytes(range(256)) * 3, b"\xff\xfe" * 40_000, b"line\n" * 9000]
)
def test_all_bytes_pass_unchanged_and_the_last_are_kept(tmp_path, line, kept, written):
    (tmp_path / "written").write_bytes(written)
    ended = run(line("cat", str(tmp_path / "written")))
    assert (ended.stdout, ended.stderr) == (written, b"")
    assert kept() == (0, len(written), written[-TAIL_BYTES:])


MEASURED = """
import os, resource, sys
from marketswarm.cli import output_copier
answer = output_copier._Copy._answer
def measure(copy):
    open(sys.argv[1] + ".most", "w").write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
    answer(copy)
output_copier._Copy._answer = measure
"""


def test_a_large_output_is_copied_in_little_memory(tmp_path, line, kept):
    most = []
    for size in (1000, BIG):
        words = line("head", "-c", str(size), "/dev/urandom")
        words[2] = MEASURED + PROGRAM
        with (tmp_path / "copied").open("wb") as file:
            assert subprocess.run(words, stdout=file, check=False, timeout=PATIENT_SEC).returncode == 0
        most.append(int((tmp_path / "kept.most").read_text()))
    assert most[1] - most[0] < 2000, "kilobytes"
    copied = (tmp_path / "copied").read_bytes()
    assert len(copied) == BIG
    assert kept() == (0, BIG, copied[-TAIL_BYTES:])


def test_stdout_and_stderr_stay_apart_unless_they_are_one(line, kept):
    script = "for i in 1 2 3; do echo out $i; echo err $i >&2; done; exit 3"
    ended = run(line("sh", "-c", script))
    assert (ended.stdout, ended.stderr) == (b"out 1\nout 2\nout 3\n", b"err 1\nerr 2\nerr 3\n")
    code, size, tail = kept()
    assert (code, size, sorted(tail.split())) == (3, 36, sorted((ended.stdout + ended.stderr).split()))
    in_order = b"".join(b"out %d\nerr %d\n" % (i, i) for i in (1, 2, 3))
    ended = subprocess.run(
        line("sh", "-c", script), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    assert ended.stdout == in_order
    assert kept() == (3, 36, in_order)


def test_a_command_whose_reader_has_gone_is_ended_as_by_a_shell(line, kept):
    reader = subprocess.Popen(["head", "-n", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    run_it = subprocess.Popen(line("yes"), stdout=reader.stdin)
    assert reader.communicate(timeout=PATIENT_SEC)[0] == b"y\n"
    assert run_it.wait(PATIENT_SEC) == 0
    assert kept()[0] == -signal.SIGPIPE


def test_a_command_may_close_its_output_and_go_on(tmp_path, line, kept):
    ended = run(line("sh", "-c", f"echo last; exec >&- 2>&-; echo x > {tmp_path / 'went-on'}; exit 4"))
    assert ended.stdout == b"last\n"
    assert (tmp_path / "went-on").exists()
    assert kept() == (4, 5, b"last\n")


def test_a_full_disk_does_not_end_the_command(line, kept):
    with Path("/dev/full").open("wb") as full:
        words = line("sh", "-c", f"head -c {TAIL_BYTES * 9} /dev/zero; echo two; exit 5")
        assert subprocess.run(words, stdout=full, check=False, timeout=PATIENT_SEC).returncode == 0
    code, size, tail = kept()
    assert (code, size, tail[-6:]) == (5, 9 * TAIL_BYTES + 4, b"\0\0two\n")


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_child_that_lives_on_still_writes(tmp_path, line, kept, is_killed):
    """After the end of the command, and of us; also if nobody could say goodbye to the copier."""
    script = f"until [ -e {tmp_path / 'enough'} ]; do sleep 0.05; done; echo late; echo later"
    script = f"({script}) & echo early; {'wait' if is_killed else 'exit 6'}"
    with subprocess.Popen(line("sh", "-c", script), stdout=subprocess.PIPE) as running:
        assert running.stdout.readline() == b"early\n"
        if is_killed:
            running.kill()
        assert running.wait(PATIENT_SEC) == (-signal.SIGKILL if is_killed else 0)
        (tmp_path / "enough").touch()
        assert running.stdout.read() == b"late\nlater\n"
    if not is_killed:
        assert kept() == (6, 6, b"early\n")


def test_what_a_tee_of_the_script_writes_after_its_end_is_kept_too(line, kept):
    ended = run(line("bash", "-c", "exec > >(sleep 0.1; cat); echo through the tee"))
    assert ended.stdout == b"through the tee\n"
    assert kept() == (0, 16, b"through the tee\n")


def test_a_reader_that_is_slow_gets_all_and_does_not_hold_us_up(line, kept):
    size = 100_000
    with subprocess.Popen(line("head", "-c", str(size), "/dev/zero"), stdout=subprocess.PIPE) as running:
        assert running.wait(PATIENT_SEC) == 0
        assert len(running.stdout.read()) == size
    assert kept()[0] == 0


def test_a_terminal_is_left_to_the_command(tmp_path, line, kept):
    ours, theirs = pty.openpty()
    words = line("sh", "-c", "[ -t 1 ] && [ ! -t 2 ] && echo seen >&2")
    ended = subprocess.run(words, stdout=theirs, stderr=subprocess.PIPE, check=False, timeout=PATIENT_SEC)
    assert ended.stderr == b"seen\n"
    assert kept() == (0, 5, b"seen\n"), "stderr is no terminal"
    (tmp_path / "kept").unlink()
    ended = subprocess.run(line("test", "-t", "1"), stdout=theirs, stderr=theirs, check=False)
    assert ended.returncode == 0
    assert not (tmp_path / "kept").exists(), "nothing is copied"
    os.close(ours)
    os.close(theirs)


def test_the_copier_keeps_no_other_file_open_and_no_signal_to_its_group_ends_it(tmp_path, line):
    (read, write), (early, late) = os.pipe(), os.pipe()
    script = f"exec {write}>&-; trap '' TERM; echo ready; read -r _ <&{early}; echo last words"
    how = {"stdout": subprocess.PIPE, "pass_fds": (write, early), "start_new_session": True}
    with subprocess.Popen(line("bash", "-c", script), **how) as running:
        os.close(write)
        os.close(early)
        assert running.stdout.readline() == b"ready\n"
        [copier] = until(lambda: find_children(running.pid, besides="bash"))
        os.kill(copier, signal.SIGTERM)
        os.killpg(running.pid, signal.SIGTERM)
        assert running.wait(PATIENT_SEC) == -signal.SIGTERM
        assert select.select([read], [], [], PATIENT_SEC)[0], "the copier does not hold it"
        os.write(late, b"\n")
        assert running.stdout.read() == b"last words\n"
    os.close(read)
    os.close(late)


def find_children(pid: int, besides: str) -> list[int]:
    """Return the children of a process, but for those that run the program `besides`."""
    pids = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [int(each) for each in pids if Path(f"/proc/{each}/comm").read_text().strip() != besides]
