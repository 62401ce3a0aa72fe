"""What `audit prove` writes of PostgreSQL is proven by the offline file; rows that were changed are named."""

import contextlib
import itertools
import json
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from services.signals import verify
from services.signals.consensus.consensus import UNIT
from services.signals.cycle.tick_rules import encode_rules
from services.signals.log.checkpoint import Checkpoint
from services.signals.log.entries import make_key_change
from services.signals.log.merkle import hash_entry, hash_span, split_span
from services.signals.log.note import SignatureKind, make_key
from services.signals.proofs import rotation
from services.signals.proofs.followed_places import PlacesChangedError
from services.signals.proofs.proof import ProofUnavailableError, write_proof
from services.signals.proofs.rotation import RotationError, change_key
from services.signals.proofs.signer import SigningProblem
from services.signals.store.checkpoints import CheckpointTables
from services.signals.store.database import LogMovedError, SignalDatabase
from services.signals.store.writer import SignalWriter
from support.audited_log import BEGIN_MS, CYCLE_MS, ORIGIN, AuditedLog, play_ticks, store_log
from support.decided_places import RULES, SYMBOL, VOTERS, WEIGHTS, play
from support.witness_rig import WitnessRig

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
    assert (other.returncode, other.stdout) == (1, "refuted: line 1: about BTC/USD, not SPY\n")
    missing = run(
        "audit", "prove", "NONE", "--from", day, "--to", day, "--out", "n", url=reader, cwd=tmp_path
    )
    assert missing.returncode == 3
    assert "unavailable: tick 1 has no NONE" in missing.stderr
    assert sorted(each.name for each in tmp_path.iterdir()) == ["b.audit", "verify.py"]


@pytest.fixture
async def tables(archive_url):
    """The tables of checkpoints, as the service has them."""
    async with contextlib.aclosing(SignalDatabase(archive_url)) as database:
        yield CheckpointTables(database)


async def test_the_signer_signs_what_postgresql_has_and_a_new_leader_goes_on(
    connection, tables, tmp_path, prove
):
    log = AuditedLog(SYMBOLS)
    rig = WitnessRig(tmp_path)
    try:
        log.key, log.witness = rig.key, rig.witness_key
        play_ticks(log, 20, random.Random(CHANCE))
        await store_log(connection, log)
        rig.log, sizes = tables, []
        for _ in range(2):  # each is a leader of its own
            rig.signer = rig.make_signer()
            rig.clock.now = (BEGIN_MS + CYCLE_MS * log.tick) / 1000 + 60
            assert await rig.signer.step()
            assert rig.signer.status.cosigned_size == log.size
            sizes.append(log.size)
            lines = await prove("SPY", log.find_time() - timedelta(days=1), log.find_time())
            assert check(lines, log, "SPY").startswith(f"{log.size} entries of SPY")
            play_ticks(log, 7, random.Random(CHANCE))
            await store_log(connection, log)
        assert [body.partition(b"\n")[0] for body in rig.wire.bodies] == [b"old 0", b"old %d" % sizes[0]]
        await connection.execute("ALTER TABLE signal_nodes DISABLE TRIGGER USER")
        await connection.execute("UPDATE signal_nodes SET hash = sha256(hash) WHERE level = 4")
        rig.clock.now += 120
        await rig.signer.step()
        assert rig.signer.status.problem is SigningProblem.LOG_CHANGED
    finally:
        rig.store.close()


async def test_a_change_says_no_time_before_the_one_before_it(connection, archive_url, monkeypatch):
    log = AuditedLog(SYMBOLS)
    play_ticks(log, 3, random.Random(CHANCE))
    await store_log(connection, log)
    keys = [log.key, *(make_key(ORIGIN, SignatureKind.ED25519) for _ in range(2))]
    now = time.time()
    async with contextlib.aclosing(SignalDatabase(archive_url)) as database:
        for clock, (old, new) in zip((now + 3600, now), itertools.pairwise(keys), strict=True):
            monkeypatch.setattr(rotation, "time", SimpleNamespace(time=lambda clock=clock: clock))
            await change_key(database, old, new)
    moments = await connection.fetch("SELECT at FROM signal_log WHERE kind = 'key' ORDER BY n")
    assert len(moments) == 2
    assert moments[0] == moments[1]


async def test_a_key_is_changed_beside_a_leader_and_an_old_or_a_strange_one_is_refused(
    connection, tables, archive_url, prove
):
    log = AuditedLog(SYMBOLS)
    play_ticks(log, 9, random.Random(CHANCE))
    await store_log(connection, log)
    new = make_key(ORIGIN, SignatureKind.ED25519)
    async with contextlib.aclosing(SignalDatabase(archive_url)) as database:
        leader = SignalWriter(database)
        await leader.begin_epoch("leader")
        await leader.read_state()
        number = await change_key(database, log.key, new)
        assert number == log.size
        with pytest.raises(LogMovedError):
            await leader.write_gap(log.tick + 1, log.tick + 1, BEGIN_MS * 2, "away")
        await leader.read_state()
        assert await tables.read_newest_key() == str(new.public)
        for old, to, named in [
            (log.key, make_key(ORIGIN, SignatureKind.ED25519), "the key in force is"),
            (new, new, "the new key is the old one"),
            (new, make_key("other", SignatureKind.ED25519), "the new key is of other"),
        ]:
            with pytest.raises(RotationError, match=named):
                await change_key(database, old, to)
        size = await tables.read_size()
        nodes = await tables.read_nodes(split_span((0, size)))
        text = Checkpoint(ORIGIN, size, hash_span((0, size), nodes)).format()
        await tables.write_checkpoint(size, time.time(), text + b"\n" + new.sign(text).encode())
        await tables.write_cosignature(
            size, log.witness.public.name, int(time.time()), log.witness.sign(text, int(time.time()))
        )
    lines = await prove("SPY", log.find_time() - timedelta(days=1), datetime.now(UTC) + timedelta(days=1))
    checker = verify.Checker(
        [verify.parse_key(str(log.key.public))], verify.parse_key(str(log.witness.public)), "SPY"
    )
    assert verify.verify(iter(lines), checker, time.time(), 60).startswith(f"{size} entries of SPY")


async def test_a_stored_signal_is_explained_by_the_bars_of_the_archive(connection, archive_url, tmp_path):
    content, at_ms, bars, _ = play(5)
    log = AuditedLog((SYMBOL,))
    weights = {name: weight * UNIT for name, weight in WEIGHTS.items()}
    log.add_tick(rules=encode_rules(replace(RULES, consensus=replace(RULES.consensus, weights=weights))))
    place = json.loads(content)
    cells = [place.get(name) for name in ("side", "score", "confidence", "conflict", "participation")]
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    log.rows["signals"] = [
        (1, SYMBOL, 0, at, place["outcome"], *cells, False, hash_entry(content), content.decode())
    ]
    await store_log(connection, log)
    await connection.executemany(
        "INSERT INTO bars (symbol, timeframe, start, open, high, low, close, volume, source, replay, final,"
        " rev) VALUES ($1, '1m', to_timestamp($2::bigint / 1000.0), $3, $4, $5, $6, $7, $8, $9, true, 0)",
        [(SYMBOL, *row) for row in bars],
    )
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps(make_truth()))
    alone = ("signals", "explain", hash_entry(content).hex())
    words = (*alone, "--truth", "truth.json")
    by_then = run(*alone, url=archive_url, cwd=tmp_path)
    assert (by_then.returncode, by_then.stderr) == (0, ""), "no fleet is asked"
    assert by_then.stdout.endswith("same: recomputed to the same bytes\n")
    assert "a side begins at 0.100000000000 and ends below 0.050000000000" in by_then.stdout
    assert {"weight", "40.000000000000"} <= set(by_then.stdout.split())
    same = run(*words, url=archive_url, cwd=tmp_path)
    assert (same.returncode, same.stderr) == (0, "")
    assert same.stdout.endswith("same: recomputed to the same bytes\n")
    await connection.execute(
        "UPDATE bars SET close = close + 0.01 WHERE start = (SELECT max(start) FROM bars)"
    )
    corrected = run(*words, url=archive_url, cwd=tmp_path)
    assert corrected.returncode == 3
    assert "bars_changed: its 64 1m bars of " in corrected.stdout
    await connection.execute("DELETE FROM bars")
    gone = run(*words, "--json", url=archive_url, cwd=tmp_path)
    assert (gone.returncode, json.loads(gone.stdout)["result"]) == (3, "bars_gone")
    assert json.loads(gone.stdout)["rules"]["weights"]["trend"] == "40.000000000000"
    none = run("signals", "explain", "0" * 64, url=archive_url, cwd=tmp_path)
    assert (none.returncode, "there is no signal" in none.stderr) == (2, True)


def make_truth():
    """Return a truth with the voters of `play`."""
    bars = [
        {"voter": each.name, "kind": "bars", "rule": each.rule, "weight": WEIGHTS[each.name]}
        | ({} if each.source is None else {"source": each.source})
        for each in VOTERS
    ]
    outside = [
        {"voter": name, "kind": "http", "url": "http://127.0.0.1:9/vote", "weight": WEIGHTS[name]}
        for name in ("model", "away")
    ]
    settings = {"enter": 0.1, "leave": 0.05}
    section = {"heartbeat": {"interval_sec": 5}, "endpoints": [*bars, *outside], "settings": settings}
    buses = {name: {"url": f"redis://{name}:6379"} for name in ("system-redis", "market-redis")}
    return {"version": 1, "fleet": "demo", "buses": buses, "services": {"signals": section}}
