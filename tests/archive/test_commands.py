"""`marketswarm archive …`, as a person types it."""

import json
from datetime import date
from types import SimpleNamespace

import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from marketswarm.exit import Exit
from services.archive import commands
from support.postgres import query

APP = typer.Typer()
for each in ("backup", "restore", "verify", "export"):
    APP.command(each)(getattr(commands, each))


@pytest.fixture
def run(postgres, archive_url, tmp_path, monkeypatch):
    """Run a command on the test's database, as the program of the command line does."""
    monkeypatch.chdir(tmp_path)

    def run(*words, **env):
        for name, value in {
            "DATABASE_URL": archive_url,
            "POSTGRES_BIN": str(postgres.programs),
            **env,
        }.items():
            monkeypatch.setenv(name, value)
        done = CliRunner().invoke(APP, words)
        refusal = done.exception if isinstance(done.exception, Exit) else None
        code = int(refusal.code) if refusal else done.exit_code
        return SimpleNamespace(
            returncode=code, stdout=done.stdout, stderr=refusal.message if refusal else done.stderr
        )

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
    query(
        archive_url,
        "INSERT INTO actions (symbol, ex_day, kind, ratio, withdrawn, source, replay) "
        "VALUES ('AAPL', '2020-08-31', 'split', 4, false, 'x', false)",
    )
    assert "1 rows of actions in 1 files" in run("export", "actions", "--to", "files").stdout
    assert pl.read_parquet(tmp_path / "files/actions-2020-08.parquet")["ex_day"].to_list() == [
        date(2020, 8, 31)
    ]
    bounds = ("--from", "2020-08-31", "--until", "2020-09-01")
    assert "1 rows" in run("export", "actions", "--to", "files", *bounds).stdout
    assert "0 rows" in run("export", "actions", "--to", "files", "--until", "2020-08-31").stdout


def test_an_export_of_an_unknown_symbol_is_refused_with_the_nearest_name(run, archive_url, tmp_path):
    query(archive_url, "INSERT INTO symbols VALUES ('SPY', 'stocks', now(), now(), true)")
    refused = run("export", "bars", "--to", "files", "--symbol", "SPY", "--symbol", "SPPY")
    assert refused.returncode == 2
    assert refused.stderr == "the archive has no symbol SPPY; did you mean SPY?"
    assert not (tmp_path / "files").exists()
    assert run("export", "bars", "--to", "files", "--symbol", "SPY").returncode == 0, "it has no bars yet"


def test_a_person_exports_a_file_for_each_day(run, archive_url, tmp_path):
    times = ("2026-10-26T12:00Z", "2026-10-26T23:59Z", "2026-10-28T00:00Z")
    rows = ", ".join(f"('SPY', '1m', '{at}', 1, 2, 0.5, 1.5, true, 0, 'x', true)" for at in times)
    names = "symbol, timeframe, start, open, high, low, close, final, rev, source, replay"
    query(archive_url, f"INSERT INTO bars ({names}) VALUES {rows}")  # noqa: S608 - our own
    done = run("export", "bars", "--to", "files", "--by", "day")
    assert "3 rows of bars in 2 files" in done.stdout, done.stderr
    files = sorted((tmp_path / "files").iterdir())
    assert [file.name for file in files] == ["bars-2026-10-26.parquet", "bars-2026-10-28.parquet"]
    assert [f"{at:%Y-%m-%dT%H:%MZ}" for at in pl.read_parquet(files)["start"]] == list(times)
    assert run("export", "bars", "--to", "files", "--by", "hour").returncode != 0


@pytest.mark.parametrize(("as_of", "close"), [("2026-10-25", 400.0), ("2026-10-26", 100.0)])
def test_an_export_as_of_a_day_is_adjusted_up_to_that_day(run, archive_url, tmp_path, as_of, close):
    names = "symbol, timeframe, start, open, high, low, close, final, rev, source, replay"
    bar = "('AAPL', '1d', '2026-10-23T13:30Z', 400, 400, 400, 400, true, 0, 'x', true)"
    query(archive_url, f"INSERT INTO bars ({names}) VALUES {bar}")  # noqa: S608 - our own
    query(archive_url, "INSERT INTO symbols VALUES ('AAPL', 'stocks', now(), now(), true)")
    query(
        archive_url,
        "INSERT INTO actions (symbol, ex_day, kind, ratio, withdrawn, source, replay) "
        "VALUES ('AAPL', '2026-10-26', 'split', 4, false, 'x', false)",
    )
    done = run("export", "bars", "--to", "files", "--adjust", "splits", "--as-of", as_of)
    assert "1 rows of bars in 1 files" in done.stdout, done.stderr
    frame = pl.read_parquet(tmp_path / "files/bars-2026-10.parquet")
    assert frame["close"].to_list() == [close]
    assert frame["adjusted_to"].to_list() == [date.fromisoformat(as_of)]


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
