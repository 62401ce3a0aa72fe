"""The lines to paste: those for systemd are read by its own checker, that for PowerShell by its grammar."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from marketswarm.operator.ping_lines import make_bus_lines, make_ping_lines
from marketswarm.truth.document_edit import AddedKind
from support.rig.web_site import Page, Site

URL = "http://127.0.0.1:1/ping/3f0c7e62-7f3e-4f0a-9c53-0d6f0b6f3c11"


def verify(folder: Path, unit: str) -> subprocess.CompletedProcess[str]:
    """Has systemd read a unit, with what is added to it in a folder beside it."""
    env = os.environ | {"SYSTEMD_UNIT_PATH": f"{folder}:"}
    command = ["systemd-analyze", "verify", "--man=no", str(folder / unit)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.needs("systemd-analyze", "curl")
def test_systemd_takes_the_lines_for_it(tmp_path):
    (tmp_path / "backup.service").write_text("[Service]\nType=oneshot\nExecStart=/bin/true\n")
    added = tmp_path / "backup.service.d" / "override.conf"
    added.parent.mkdir()
    job = make_ping_lines(AddedKind.JOB, "backup", URL)["systemd"]
    added.write_text(job)
    (tmp_path / "worker-beat.service").write_text(make_ping_lines(AddedKind.DAEMON, "worker", URL)["systemd"])
    for unit in "backup.service", "worker-beat.service":
        found = verify(tmp_path, unit)
        assert (found.returncode, found.stderr) == (0, "")
    added.write_text(job.replace("ExecStopPost=/bin", "ExecStopPost=bin"))  # the checker does look at it
    assert verify(tmp_path, "backup.service").stderr != ""


def test_without_the_board_a_program_needs_the_address_of_each_bus():
    lines = make_bus_lines(AddedKind.JOB, "backup", ["system-redis", "market-redis"])
    assert lines == {
        "marketswarm exec": "export SYSTEM_REDIS_URL=redis://system-redis:6379\n"
        "export MARKET_REDIS_URL=redis://market-redis:6379\n"
        "marketswarm exec --svc backup -- /usr/local/bin/backup"
    }
    daemon = make_bus_lines(AddedKind.DAEMON, "worker", ["system-redis"])
    assert daemon["marketswarm beat"].endswith("\nmarketswarm beat worker --every 60s")


# a number, or text in which nothing is expanded and nothing that ends it: typographic quotes do, too
ARGUMENT = r"""\d+|"[^"$`\u201c-\u201e\r\n]+\""""
POWERSHELL = re.compile(rf"(?P<cmdlet>[A-Z][a-z]+-[A-Za-z]+)(?P<parameters>( -[A-Z][A-Za-z]+ ({ARGUMENT}))*)")


@pytest.mark.parametrize("kind", [AddedKind.JOB, AddedKind.DAEMON])
def test_the_line_for_powershell_is_one_command_whose_parameters_it_has(kind):
    """By its grammar and its reference alone: no test has a PowerShell to run it."""
    found = POWERSHELL.fullmatch(make_ping_lines(kind, "backup", URL)["PowerShell"])
    assert found is not None
    assert found["cmdlet"] == "Invoke-RestMethod"
    # no -Method: it is Get then, by which a ping may come
    words = found["parameters"].split()
    assert dict(zip(words[::2], words[1::2], strict=True)) == {"-Uri": f'"{URL}"', "-TimeoutSec": "10"}
    for broken in (
        f'Invoke-RestMethod -Uri "{URL}',
        f'Invoke-RestMethod -Uri "{URL}$x"',
        "curl -Uri 1",
        "X-Y 1",
    ):
        assert POWERSHELL.fullmatch(broken) is None, broken


def test_a_board_that_is_away_ends_no_daemon_that_pings_it():
    program = make_ping_lines(AddedKind.DAEMON, "worker", URL)["Python"]
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("no ping: ")


@pytest.mark.needs("curl")
@pytest.mark.parametrize("kind", [AddedKind.JOB, AddedKind.DAEMON])
def test_cron_has_nothing_to_send_by_mail_if_the_board_takes_the_ping(kind):
    with Site({f"/ping/KEY{code}": Page(b"OK") for code in ("", "/0")}) as site:
        line = make_ping_lines(kind, "worker", site.url("/ping/KEY"))["cron"]
        line = (
            line.partition("  ")[2]
            .replace("/usr/local/bin/worker", "true")
            .replace("pgrep -x worker", "true")
        )
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "--retry-connrefused" in line, "the board may restart just now"


def test_a_name_that_the_kernel_cuts_is_looked_for_by_its_unit():
    """`pgrep -x` would never find it, and `pgrep -f` would always find the shell of the line itself."""
    short, long = (make_ping_lines(AddedKind.DAEMON, svc, URL)["cron"] for svc in ("w" * 15, "w" * 16))
    assert f" pgrep -x {'w' * 15} >/dev/null && curl" in short
    assert f" systemctl is-active --quiet {'w' * 16}.service && curl" in long


def test_a_container_is_not_unhealthy_because_the_board_is_away():
    remark, line = make_ping_lines(AddedKind.DAEMON, "worker", URL)["Docker"].splitlines()
    assert remark.startswith("# "), "a Dockerfile takes it"
    assert line.endswith(f'"{URL}" || true')
    assert "--retry" not in line, "the engine ends a check after 30 s"
