"""What `audit prove` writes of PostgreSQL is proven by the offline file; rows that were changed are named."""

import contextlib
import json
import random
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from services.signals import verify
from services.signals.log.entries import make_key_change
from services.signals.proofs.followed_places import PlacesChangedError
from services.signals.proofs.proof import ProofUnavailableError, write_proof
from services.signals.store.database import SignalDatabase
from support.audited_log import BEGIN_MS, CYCLE_MS, ORIGIN, AuditedLog, play_ticks, store_log

SYMBOLS = ("AAPL", "BTC/USD", "MSFT", "SPY", "XLF")
CHANCE = 7


@pytest.fixture
def log():
    made = AuditedLog(SYMBOLS)
    play_ticks(made, 120, random.Random(CHANCE))
    made.symbols = (*SYMBOLS, "ZZZ")  # the truth got one symbol more
    play_ticks(made, 60, random.Random(CHANCE))
    made.cosign()
    made.add_tick()  # is not cosigned yet
    return made


@pytest.fixture
async def stored(connection, log):
    await store_log(connection, log)
    return connection


@pytest.fixture
async def prove(archive_url):
    """Returns the lines of a proof, as the role of readers gets them."""
    async with contextlib.aclosing(SignalDatabase(archive_url)) as database:

        async def write(symbol, since, until) -> list[str]:
            lines: list[str] = []
            await write_proof(database, symbol, since, until, lines.append)
            return lines

        yield write


def check(lines, log, symbol):
    checker = verify.Checker(
        [verify.parse_key(str(log.key.public))], verify.parse_key(str(log.witness.public)), symbol
    )
    now = (BEGIN_MS + CYCLE_MS * log.tick) / 1000
    return verify.verify(iter(lines), checker, now, 60)


async def test_each_symbol_is_proven_for_any_time_by_the_offline_file(stored, log, prove):
    end = log.find_time()
    for symbol in SYMBOLS:
        for ticks in (1, 2, 50, 500):
            lines = await prove(symbol, end - timedelta(seconds=5 * ticks), end)
            assert check(lines, log, symbol).startswith(f"{len(lines) - 1} entries of {symbol} in {ORIGIN}")
            assert len(lines) - 1 >= min(ticks, 60) - 10
    outcomes = {json.loads(json.loads(line)["place"])["outcome"] for line in lines[1:] if "place" in line}
    assert outcomes == {"signal", "unchanged", "closed"}
    assert sum("symbols" in json.loads(line) for line in lines[1:]) == 2


async def test_a_symbol_that_some_ticks_do_not_have_is_proven_where_it_is_and_refused_elsewhere(
    stored, log, prove
):
    end = log.find_time()
    assert check(await prove("ZZZ", end - timedelta(seconds=100), end), log, "ZZZ")
    with pytest.raises(ProofUnavailableError, match="tick 1 has no ZZZ; it has 5 symbols"):
        await prove("ZZZ", end - timedelta(days=1), end)


async def test_what_is_not_cosigned_is_not_in_a_proof(stored, log, prove):
    end = log.find_time()
    with pytest.raises(ProofUnavailableError, match="no cosigned entry of that time"):
        await prove("SPY", end, end)
    lines = await prove("SPY", end - timedelta(seconds=15), end)
    assert json.loads(lines[0])["first"] + json.loads(lines[0])["count"] == log.size - 1


async def test_without_a_cosignature_nothing_is_proven(connection, prove):
    log = AuditedLog(SYMBOLS)
    log.add_tick()
    await store_log(connection, log)
    with pytest.raises(ProofUnavailableError, match="no checkpoint is cosigned yet"):
        await prove("SPY", log.find_time(), log.find_time())


MORE = """
INSERT INTO signals SELECT 2, symbol, place, at, outcome, side, score, confidence, conflict, participation,
    replay, hash, content FROM signals WHERE tick = 1 ON CONFLICT DO NOTHING
"""
CHANGES = {
    "a row's text": (
        "UPDATE signals SET content = replace(content, '\"0.5\"', '\"0.6\"') WHERE tick = 1",
        "tick 1: the text of the place of SPY was changed",
    ),
    "a row's hash": (
        "UPDATE signals SET hash = sha256(hash) WHERE tick = 1 AND symbol = 'XLF'",
        "tick 1: the stored places are not those that were logged",
    ),
    "a row's outcome": (
        "UPDATE signals SET outcome = 'closed', side = NULL WHERE tick = 1 AND symbol = 'XLF'",
        "the stored places are not those that were logged",
    ),
    "a row left out": (
        "DELETE FROM signals WHERE tick = 1 AND symbol = 'XLF'",
        "tick 1: no place of XLF is stored",
    ),
    "a later row left out": (
        "DELETE FROM signals WHERE tick = (SELECT min(tick) FROM signals WHERE tick > 1)",
        "the stored places are not those that were logged",
    ),
    "a row more": (
        MORE,
        "tick 2: the stored places are not those that were logged",
    ),
    "an entry left out": ("DELETE FROM signal_log WHERE n = 50", "entry 50 is missing"),
    "an entry that is no JSON": (
        "UPDATE signal_log SET entry = 'nothing' WHERE n = 50",
        "entry 50: not of its form",
    ),
    "the symbols left out": ("DELETE FROM signal_symbols", "tick 1: the list of its symbols is missing"),
}


@pytest.mark.parametrize("attack", CHANGES)
async def test_rows_that_a_superuser_changed_are_named_by_their_tick(stored, log, attack, prove):
    sql, named = CHANGES[attack]
    for table in ("signals", "signal_log", "signal_symbols"):
        await stored.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    await stored.execute(sql)
    with pytest.raises(PlacesChangedError, match=named.replace("(", r"\(")):
        await prove("SPY", log.find_time() - timedelta(days=1), log.find_time())


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        (
            'UPDATE signal_log SET entry = replace(entry, \'"truth":"7"\', \'"truth":"8"\') WHERE n = 50',
            "entries: not the ones that were signed",
        ),
        ("UPDATE signal_checkpoints SET note = replace(note, 'log.', 'lag.')", "is false"),
        ("UPDATE signal_nodes SET hash = sha256(hash) WHERE level > 3", "entries: not the ones that were"),
    ],
)
async def test_what_the_rows_do_not_show_the_offline_file_finds(stored, log, sql, named, prove):
    for table in ("signal_log", "signal_checkpoints", "signal_nodes"):
        await stored.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    await stored.execute(sql)
    end = log.find_time() - timedelta(seconds=500)
    lines = await prove("SPY", end - timedelta(seconds=450), end)
    with pytest.raises(verify.NotProven, match=named):
        check(lines, log, "SPY")


async def test_entries_that_are_no_ticks_are_in_a_proof_too(connection, log, prove):
    log.add_entry("key", make_key_change(log.size, BEGIN_MS + CYCLE_MS * log.tick, "old", "new", ["a", "b"]))
    log.add_tick()
    log.cosign()
    await store_log(connection, log)
    lines = await prove("SPY", log.find_time() - timedelta(seconds=20), log.find_time())
    assert [json.loads(json.loads(line)["entry"])["kind"] for line in lines[-3:]] == ["tick", "key", "tick"]


def run(*words: str, url: str, cwd: Path, main=("-m", "marketswarm")) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *main, *words],
        cwd=cwd,
        env={"SIGNALS_DATABASE_URL": url, "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


async def test_a_file_of_the_command_is_accepted_offline_and_by_the_command(
    stored, log, archive_url, postgres, tmp_path
):
    reader = postgres.reader_url_of(archive_url)
    shutil.copy(verify.__file__, tmp_path / "verify.py")
    day = f"{log.find_time():%Y-%m-%d}"
    made = run(
        *("audit", "prove", "BTC/USD", "--from", day, "--to", day, "--out", "b.audit"),
        url=reader,
        cwd=tmp_path,
    )
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.startswith("wrote b.audit: ")
    keys = ["b.audit", "--log", str(log.key.public), "--witness", str(log.witness.public)]
    offline = run(*keys, url="", cwd=tmp_path, main=("-I", "verify.py"))
    assert (offline.returncode, offline.stderr) == (0, "")
    same = run("audit", "verify", *keys, "--symbol", "BTC/USD", url="", cwd=tmp_path)
    assert (same.returncode, same.stderr) == (0, "")
    assert same.stdout.rpartition(",")[0] == offline.stdout.rpartition(",")[0]
    old = run("audit", "verify", *keys, "--max-age", "1h", url="", cwd=tmp_path)
    assert old.returncode == 3
    assert old.stdout.startswith("unavailable: the cosignature is ")
    other = run("audit", "verify", *keys, "--symbol", "SPY", url="", cwd=tmp_path)
    assert (other.returncode, other.stdout) == (1, "refuted: tick 1: the place of BTC/USD, not SPY\n")
    missing = run(
        "audit", "prove", "NONE", "--from", day, "--to", day, "--out", "n", url=reader, cwd=tmp_path
    )
    assert missing.returncode == 3
    assert "unavailable: tick 1 has no NONE" in missing.stderr
    assert sorted(each.name for each in tmp_path.iterdir()) == ["b.audit", "verify.py"]
