"""Programs that ping Healthchecks ping the board, unmodified: they get another host, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from support.rig.steered_fleet import run_steered_fleet
from support.waiting import until

BORGMATIC = Path(sys.executable).parent / "borgmatic"
BORG = """\
#!/bin/sh
# stands in for borg: it backs up nothing, and fails if it is told to
case "$*" in
  *--version*) echo "borg 1.4.0"; exit 0 ;;
  *create*) exit "${BORG_ENDS_WITH:-0}" ;;
  *info*) echo '{"repository": {"id": "x", "location": "x"}, "encryption": {"mode": "none"}, "cache": {}}' ;;
esac
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    with run_steered_fleet(tmp_path_factory.mktemp("clients")) as fleet:
        fleet.key = fleet.shell.said("token", "create", "clients", "--ping-key").strip()
        url = f"{fleet.url}/ping/{fleet.key}/backup/log"
        until(lambda: httpx.get(url).status_code == 200, 5, "the board to know the key")
        yield fleet


def kinds(fleet, agent):
    """Return what the pings said that a client has sent."""
    with fleet.operator() as client:
        entries = [fields for _, fields in client.xrange("pings:backup")]
    return [each["kind"] for each in entries if each.get("user_agent", "").startswith(agent)]


def run_borgmatic(fleet, folder, code):
    """Run borgmatic with a borg that ends with `code`."""
    borg, source, config = folder / "borg", folder / "source", folder / "config.yaml"
    borg.write_text(BORG, encoding="utf-8")
    borg.chmod(0o755)
    source.mkdir()
    config.write_text(
        f"source_directories: ['{source}']\n"
        f"repositories: [{{path: '{folder / 'repository'}'}}]\n"
        f"local_path: '{borg}'\n"
        f"healthchecks: {{ping_url: '{fleet.url}/ping/{fleet.key}/backup'}}\n",
        encoding="utf-8",
    )
    env = {**os.environ, "HOME": str(folder), "BORG_ENDS_WITH": str(code)}
    words = [str(BORGMATIC), "--config", str(config), "create"]
    return subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_borgmatic_reports_the_start_and_the_end_of_a_backup(fleet, tmp_path):
    before = len(kinds(fleet, "borgmatic"))
    ended = run_borgmatic(fleet, tmp_path, 0)
    assert ended.returncode == 0, ended.stderr
    assert kinds(fleet, "borgmatic")[before:] == ["start", "log", "success"]


def test_borgmatic_reports_a_backup_that_failed(fleet, tmp_path):
    before = len(kinds(fleet, "borgmatic"))
    assert run_borgmatic(fleet, tmp_path, 2).returncode != 0
    assert kinds(fleet, "borgmatic")[before:] == ["start", "log", "fail"]


@pytest.mark.needs("curl")
def test_the_line_of_a_crontab_reports_the_exit_code_of_its_job(fleet):
    url = f"{fleet.url}/ping/{fleet.key}/backup"
    line = f"curl -fsS -m 10 {url}/start; sh -c 'exit 7'; curl -fsS -m 10 --retry 5 {url}/$?"
    ended = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, "OKOK")
    assert kinds(fleet, "curl") == ["start", "fail"]
