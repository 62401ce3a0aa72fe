"""`marketswarm archive …`, as a person types it."""

import json
import os
import subprocess
import sys

import polars as pl
import pytest

from support.postgres import query

PROGRAM = """
import sys, typer
from marketswarm.exit import Exit
from services.archive import commands
app = typer.Typer()
for name in ("backup", "restore", "verify", "export"):
    app.command(name)(getattr(commands, name))
try:
    app(standalone_mode=False)
except Exit as refusal:
    sys.stderr.write(refusal.message)
    sys.exit(int(refusal.code))
"""


@pytest.fixture
def run(postgres, archive_url, tmp_path):
    """Run a command on the test's database, as the program of the command line does."""

    def run(*words, **env):
        known = {"DATABASE_URL": archive_url, "POSTGRES_BIN": str(postgres.programs), **env}
        line = [sys.executable, "-c", PROGRAM, *words]
        place = {**{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}, **known}
        return subprocess.run(line, env=place, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


def test_a_person_saves_verifies_restores_and_exports_the_database(run, archive_url, tmp_path):
    bar = (
        "('{}', '1m', '2026-10-26T12:00Z', 1, 2, 0.5, 1.5, NULL, NULL, NULL, true, 0, 'x', NULL, NULL, true)"
    )
    query(archive_url, f"INSERT INTO bars VALUES {bar.format('SPY')}, {bar.format('EUR/USD')}")  # noqa: S608 - our own
    saved = run("backup", "--to", "saved", "--json")
    assert saved.returncode == 0, saved.stderr
    made = json.loads(saved.stdout)
    assert made["tables"]["bars"] == 2
    verified = run("verify", f"saved/{made['file']}")
    assert "can be restored, as it was saved" in verified.stdout, verified.stderr
    query(archive_url, "DELETE FROM bars")
    refused = run("restore", f"saved/{made['file']}")
    assert (refused.returncode, "--replace" in refused.stderr) == (1, True)
    restored = run("restore", f"saved/{made['file']}", "--replace")
    assert restored.returncode == 0, restored.stderr
    assert query(archive_url, "SELECT count(*) FROM bars") == [(2,)]
    password = archive_url.split(":")[2].partition("@")[0]
    assert password not in saved.stdout + verified.stdout + restored.stdout + refused.stderr
    exported = run("export", "bars", "--to", "files", "--symbol", "EUR/USD", "--from", "2026-10-01")
    assert "1 rows of bars in 1 files" in exported.stdout, exported.stderr
    assert pl.read_parquet(tmp_path / "files/bars-2026-10.parquet")["symbol"].to_list() == ["EUR/USD"]
    assert "1 rows" not in run("export", "quotes", "--to", "files").stdout
    assert run("export", "pets", "--to", "files").returncode != 0


def test_an_export_to_a_place_that_can_not_be_written_is_an_error_with_its_path(run, archive_url, tmp_path):
    query(
        archive_url,
        "INSERT INTO observations VALUES ('US.CPI', now(), 1, 'x', NULL, NULL, true)",
    )
    (tmp_path / "notes").write_text("no folder")
    done = run("export", "observations", "--to", "notes")
    assert done.returncode == 1
    assert done.stderr.startswith("notes/observations-2")
    assert done.stderr.endswith(".parquet can't be written: File exists")


def test_the_database_of_an_embedded_fleet_is_found_by_its_folder(run, postgres, archive_url, tmp_path):
    server = tmp_path / ".marketswarm" / "postgres"
    server.mkdir(parents=True)
    (server / "url").write_text(f"{archive_url}\n")
    (server / "programs").write_text(f"{postgres.programs}\n")
    done = run("backup", DATABASE_URL="", POSTGRES_BIN="")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / ".marketswarm/backups").glob("*.dump"))) == 1
    missing = run("backup", "--data", "elsewhere", DATABASE_URL="")
    assert (missing.returncode, "set DATABASE_URL" in missing.stderr.replace("\n", " ")) == (2, True)
