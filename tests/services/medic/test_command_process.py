"""Whether the command of an earlier medic is over: by the pid, the start, the boot and the namespace."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.medic.command_process import has_group_ended, identify_group
from support.waiting import until

pytestmark = [pytest.mark.live, pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")]
MEDIC = """
import subprocess, time
from services.medic.command_process import identify_group
line = ["sh", "-c", "sleep 600 & echo $!; wait"]
with subprocess.Popen(line, start_new_session=True, stdout=subprocess.PIPE, text=True) as command:
    print(identify_group(command.pid), command.stdout.readline(), flush=True)
    command.wait()
    time.sleep(600)
"""


class Medic:
    """A medic whose command has a process of its own, which stays if its first process is killed alone."""

    def __init__(self):
        self.process = subprocess.Popen([sys.executable, "-c", MEDIC], stdout=subprocess.PIPE, text=True)
        *identity, child = self.process.stdout.readline().split()
        self.identity, self.child = " ".join(identity), int(child)
        self.group = int(identity[1].partition(".")[0])

    def kill(self):
        self.process.kill()
        self.process.wait(30)

    def close(self):
        for pid in (self.group, self.child):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.kill()
        self.process.stdout.close()


@pytest.fixture
def medic():
    found = Medic()
    yield found
    found.close()


def test_a_command_has_ended_once_its_medic_and_all_of_its_group_have(medic):
    assert not has_group_ended(medic.identity)
    medic.kill()
    assert not has_group_ended(medic.identity), "the command runs"
    os.kill(medic.group, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{medic.group}").exists(), what="the end of the first process")
    assert not has_group_ended(medic.identity), "a process of its group runs"
    os.kill(medic.child, signal.SIGKILL)
    until(lambda: has_group_ended(medic.identity), what="the end of the group")


def test_a_medic_that_still_runs_may_know_how_its_command_ended(medic):
    os.killpg(medic.group, signal.SIGKILL)
    gone = lambda pid: not Path(f"/proc/{pid}").exists()  # noqa: E731 - asked again and again
    until(lambda: gone(medic.group) and gone(medic.child), what="the end of the command")
    assert not has_group_ended(medic.identity)


def test_a_pid_that_another_process_has_by_now_is_that_of_a_command_that_ended(medic):
    host, group, own = medic.identity.split(" ")
    medic.kill()
    assert not has_group_ended(f"{host} {group} {own}")
    assert has_group_ended(f"{host} {group}1 {own}"), "it began at another time"


def test_nothing_is_known_of_another_host_or_by_what_is_no_identity(medic):
    boot, *rest = medic.identity.partition("/")
    os.killpg(medic.group, signal.SIGKILL)
    medic.kill()
    until(lambda: has_group_ended(medic.identity), what="the end of the group")
    assert not has_group_ended("".join([boot[::-1], *rest])), "another boot, or another host"
    _, group, own = medic.identity.split(" ")
    assert not has_group_ended(f"{boot}/pid:[1] {group} {own}"), "another container"
    for wrong in ("", "junk", f"{medic.identity} ", medic.identity.replace(group, "0.1"), "x" * 10_000):
        assert not has_group_ended(wrong)
    assert not has_group_ended(medic.identity.replace(group, f"{2**40}.1"))


def test_a_process_that_is_not_there_has_no_identity():
    gone = subprocess.Popen(["true"])
    gone.wait(30)
    assert identify_group(gone.pid) == ""
    assert identify_group(os.getpid()) != ""
