"""What one instance does for all: correlations, retention and backups, on a real database."""

import asyncio
import math
import os
import random
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from datetime import time as dt_time
from itertools import pairwise
from zoneinfo import ZoneInfo

import asyncpg
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketswarm.operator.service_reports import BackupReport
from marketswarm.truth import Heartbeat, Service
from services.archive.backup import list_backups
from services.archive.correlations import (
    NO_SHARES,
    Compared,
    KeptDays,
    compute_correlations,
    find_kept_days,
    forget_expired_days,
    list_changed_days,
)
from services.archive.database import Database
from services.archive.maintenance import SourceState, delete_expired, write_source_states
from services.archive.partitions import drop_expired
from services.archive.restore import verify_backup
from services.archive.writer import TypedEntry, Writer
from services.market.sessions import get_session
from services.market.universe import list_day_shares
from services.tables.rows import BarRow, EntryError, SymbolRow
from services.tables.tables import BAR_TABLE, STREAMS
from support.postgres import EXTENSION, partitions_only, plain, query
from support.scenes.agent import Scene, seed
from support.waiting import until

FIRST = datetime(2026, 5, 4, 13, 30, tzinfo=UTC)
DAYS = 100


def daily_bars(symbol, chance, *, missing=0.0):
    """Return daily bars of about 100 days whose closes follow a random walk."""
    close, rows = 100.0, []
    for day in range(DAYS):
        close *= math.exp(chance.gauss(0, 0.02))
        if chance.random() >= missing:
            start = FIRST + timedelta(days=day)
            prices = (close, close * 1.01, close * 0.99, close)
            rows.append(
                BarRow(symbol, "1d", start, *prices, None, None, None, True, 0, 0, "x", None, None, False)
            )
    return rows


async def write(url, rows):
    database = Database(url)
    entries = [
        TypedEntry(
            "bars:bars", b"1-0", BAR_TABLE, row, SymbolRow(row.symbol, "stocks", row.start, row.start, False)
        )
        for row in map(plain, rows)
    ]
    assert await Writer(database).write(entries) == []
    await database.aclose()


COMPARED = Compared(60, 10)


async def changed_days(connection):
    """Return the days that are to be computed, with what each is made of."""
    return await list_changed_days(connection, COMPARED)


async def compute(connection, day, made_of="", symbols=10, shares=NO_SHARES):
    """Compute the correlations of a day over 60 days."""
    return await compute_correlations(connection, day, Compared(60, symbols, shares), made_of)


def expected_correlation(one, other, day, days):
    """Return Pearson's correlation by numpy of returns between the last common days, and their number."""
    closes = [
        {row.start.date(): row.close for row in rows if row.start.date() <= day} for rows in (one, other)
    ]
    common = list(pairwise(sorted(closes[0].keys() & closes[1].keys())))[-days:]
    values = [[math.log(each[b] / each[a]) for a, b in common] for each in closes]
    return float(np.corrcoef(values)[0, 1]), len(common)


async def test_correlations_are_those_of_numpy_over_the_days_that_both_have(archive_url, connection):
    chance = random.Random(3)
    bars = {symbol: daily_bars(symbol, chance) for symbol in ("SPY", "^VIX")}
    bars["BTC/USDT"] = daily_bars("BTC/USDT", chance, missing=0.2)
    await write(archive_url, [row for rows in bars.values() for row in rows])
    last = (FIRST + timedelta(days=DAYS - 1)).date()
    assert list(await changed_days(connection)) == [last - timedelta(days=n) for n in range(5)]
    for day in (last, last - timedelta(days=30)):
        assert await compute(connection, day) == 3
        found = await connection.fetch("SELECT a, b, value, n FROM correlations WHERE day = $1", day)
        for row in found:
            value, n = expected_correlation(bars[row["a"]], bars[row["b"]], day, 60)
            assert row["value"] == pytest.approx(value, abs=1e-9)
            assert row["n"] == n
    assert await compute(connection, last) == 0  # nothing has changed
    assert await compute(connection, date(2020, 1, 1)) == 0
    shared = next(row for row in bars["SPY"] if row.start == bars["BTC/USDT"][-1].start)
    await write(archive_url, [shared._replace(close=shared.low, rev=1)])
    assert await compute(connection, last) == 2


async def test_one_price_has_the_correlation_1_on_whatever_calendars_it_is_shown(archive_url, connection):
    chance, price, prices = random.Random(7), 100.0, []
    first = FIRST.date().toordinal()
    for _ in range(DAYS):
        price *= math.exp(chance.gauss(0, 0.02))
        prices.append(price)
    rows = []
    for symbol, code in (
        ("SPY", "XNYS"),
        ("BTC", "24x7"),
        ("EUR", "24x5"),
        ("VOD.L", "XLON"),
        ("7203.T", "XTKS"),
    ):
        session = get_session(code)
        for number, close in enumerate(prices):
            day = session.find_date(date.fromordinal(first + number))
            if day is not None:
                start = datetime.fromtimestamp(day.open_ms / 1000, UTC)
                ohlc = (close, close * 1.01, close * 0.99, close)
                rest = (None, None, None, True, 0, 0, "x", None, None, False)
                rows.append(BarRow(symbol, "1d", start, *ohlc, *rest, day=day.date))
    await write(archive_url, rows)
    last = max(row.day for row in rows)
    assert await compute(connection, last) == 10
    found = await connection.fetch("SELECT a, b, value FROM correlations WHERE day = $1", last)
    assert [row["value"] for row in found] == [pytest.approx(1.0, abs=1e-9)] * 10


async def test_symbols_whose_days_end_years_apart_each_have_the_correlations_of_their_last_day(
    archive_url, connection
):
    chance = random.Random(4)
    recorded = {name: daily_bars(name, chance) for name in ("A", "B", "C")}
    old = [row._replace(start=row.start.replace(year=2013)) for rows in recorded.values() for row in rows]
    await write(archive_url, [*old, *daily_bars("BTC/USDT", chance)])
    last = (FIRST + timedelta(days=DAYS - 1)).date()
    days = list(await changed_days(connection))
    assert days == [*(last - timedelta(days=n) for n in range(5)), last.replace(year=2013)]
    made = [
        await compute(connection, day, made_of) for day, made_of in (await changed_days(connection)).items()
    ]
    assert made == [0, 0, 0, 0, 0, 3]
    assert await changed_days(connection) == {}
    await write(archive_url, [old[-1]._replace(close=old[-1].low, rev=1)])
    assert list(await changed_days(connection)) == days[-1:]


async def test_a_day_that_was_computed_before_all_its_history_was_there_is_computed_again(
    archive_url, connection
):
    chance = random.Random(6)
    bars = {symbol: daily_bars(symbol, chance) for symbol in ("AAPL", "SPY")}
    rows = [row for of_symbol in bars.values() for row in of_symbol]
    late, early, half = (FIRST + timedelta(days=day) for day in (20, 40, 50))
    for part in (
        [row for row in rows if row.start < half and not late <= row.start < early],
        [row for row in rows if row.start >= half],
        [row for row in rows if late <= row.start < early],
    ):
        await write(archive_url, part)
        for day, made_of in (await changed_days(connection)).items():
            await compute(connection, day, made_of)
    found = await connection.fetch("SELECT day, value, n FROM correlations")
    assert len(found) == 10  # the last five days of the first two times
    for row in found:
        value, n = expected_correlation(bars["AAPL"], bars["SPY"], row["day"], 60)
        assert (row["value"], row["n"]) == (pytest.approx(value, abs=1e-9), n)
    assert await changed_days(connection) == {}
    await connection.execute("DELETE FROM correlations WHERE day < $1", half.date())
    await forget_expired_days(connection)
    assert await connection.fetchval("SELECT count(*) FROM correlated_days") == 5


def same_walk(chance, days, **symbols):
    """Return daily bars of symbols with the same closes, each symbol by the function that gives its start."""
    close, rows = 100.0, []
    for day in days:
        close *= math.exp(chance.gauss(0, 0.02))
        for symbol, begin in symbols.items():
            prices = (close, close * 1.01, close * 0.99, close)
            rows.append(
                BarRow(
                    symbol, "1d", begin(day), *prices, None, None, None, True, 0, 0, "x", None, None, False
                )
            )
    return rows


def begin_in_new_york(hour, minute=0, *, before=0):
    """Return a function for the time at which a trading day begins in New York, `before` days earlier."""
    zone = ZoneInfo("America/New_York")

    def begin(day):
        local = datetime.combine(day - timedelta(days=before), dt_time(hour, minute), zone)
        return local.astimezone(UTC)

    return begin


@pytest.mark.parametrize("names_day", [True, False])
async def test_a_forex_day_is_compared_with_the_same_trading_day_of_stocks_over_a_change_of_the_clocks(
    archive_url, connection, names_day
):
    chance = random.Random(6)
    every = [date(2026, 1, 5) + timedelta(days=n) for n in range(110)]  # clocks change on 2026-03-08
    days = [day for day in every if day.weekday() < 5]
    begins = {"SPY": begin_in_new_york(9, 30), "EUR/USD": begin_in_new_york(17, before=1)}
    rows = same_walk(chance, days, **begins)
    if names_day:
        rows = [row._replace(day=days[n // 2]) for n, row in enumerate(rows)]
    await write(archive_url, rows)
    changed = await changed_days(connection)
    assert list(changed) == days[:-6:-1]
    for day in days[:-3:-1]:
        await compute(connection, day, changed[day])
    (found,) = await connection.fetch("SELECT day, a, b, value, n FROM correlations WHERE day = $1", days[-1])
    assert tuple(found)[:3] == (days[-1], "EUR/USD", "SPY")
    assert found["value"] == pytest.approx(1.0)
    assert found["n"] == 60
    # the last bar of forex begins on the day before the last of stocks, and a later one is of no matter
    await write(archive_url, [rows[-1]._replace(close=rows[-1].low, rev=1)])
    assert list(await changed_days(connection)) == [days[-1], *days[-3:-6:-1]]


async def test_a_correlation_with_a_replayed_day_is_marked(archive_url, connection):
    chance = random.Random(7)
    rows = {name: daily_bars(name, chance) for name in ("A", "B", "C")}
    rows["C"][-40] = rows["C"][-40]._replace(replay=True)
    await write(archive_url, [row for of_symbol in rows.values() for row in of_symbol])
    last = (FIRST + timedelta(days=DAYS - 1)).date()
    for days, marked in ((60, [("A", "C"), ("B", "C")]), (30, [])):
        await compute_correlations(connection, last, Compared(days, 10), "")
        found = await connection.fetch("SELECT a, b FROM correlations WHERE replay ORDER BY a, b")
        assert [tuple(row) for row in found] == marked


async def test_retention_keeps_the_newest_health_of_each_source(archive_url, connection):
    """A source that has not changed for years has not changed now."""
    begun = datetime(2024, 5, 1, tzinfo=UTC)
    stable, changing = ([SourceState(name, "{}", "up", "")] for name in ("fred", "yahoo"))
    for state in (stable, changing):
        await write_source_states(connection, state, begun.timestamp())
    down = [replace(changing[0], state="down", reason="timeout")]
    await write_source_states(connection, down, begun.timestamp() + 60)
    await delete_expired(connection, "source_health", begun + timedelta(days=400))
    await write_source_states(connection, [*stable, *down], begun.timestamp() + 500 * 86_400)
    found = await connection.fetch("SELECT source, state, at FROM source_health ORDER BY source")
    assert [tuple(row) for row in found] == [
        ("fred", "up", begun),
        ("yahoo", "down", begun + timedelta(minutes=1)),
    ]


async def test_a_change_of_a_source_is_one_row_after_a_clock_that_was_ahead_too(archive_url, connection):
    now = datetime(2026, 5, 1, tzinfo=UTC)
    ahead = now + timedelta(hours=1)

    async def look(at, state):
        document = f'{{"state": "{state}"}}'
        await write_source_states(connection, [SourceState("yahoo", document, state, "")], at.timestamp())
        return tuple(*await connection.fetch("SELECT state ->> 'state', updated FROM sources"))

    assert await look(ahead, "up") == ("up", ahead)
    assert await look(now, "down") == ("down", now)
    for sec in range(3):
        await look(now + timedelta(seconds=sec), "down")
    late = await look(now - timedelta(seconds=30), "up")  # of an instance that is late: clocks are right
    assert late == ("down", now)
    await look(now + timedelta(seconds=4), "down")
    found = await connection.fetch("SELECT state, at FROM source_health ORDER BY at")
    assert [tuple(row) for row in found] == [
        (state, ahead + timedelta(milliseconds=n)) for n, state in enumerate(("up", "down", "up", "down"))
    ]


@partitions_only
def test_while_a_table_is_read_for_long_retention_goes_on_with_the_others_and_reports_it(
    archive_url, tmp_path
):
    old = datetime.now(UTC) - timedelta(days=50)
    download = "INSERT INTO downloads (id, source, asked_at, outcome) VALUES ('1-0', 'yahoo', $1, 'records')"
    query(archive_url, download, old)
    with Scene(tmp_path) as scene, asyncio.Runner() as runner:
        seed(scene.buses, truth(keep_days={"bars": 30, "indicators": 30, "downloads": 30}), 1)
        reader = runner.run(asyncpg.connect(archive_url))
        runner.run(reader.execute("BEGIN; SELECT count(*) FROM bars"))
        agent = scene.module("services.archive", DATABASE_URL=archive_url)
        until(lambda: query(archive_url, "SELECT count(*) FROM downloads") == [(0,)], 60, agent.text)
        failed = agent.wait_log("maintenance.failed", within=30)
        assert "bars_2025_01" in failed["why"]
        assert "indicators" not in failed["why"]
        gone = "SELECT to_regclass('indicators_2025_01') IS NULL, to_regclass('bars_2025_01') IS NULL"
        assert query(archive_url, gone) == [(True, False)]
        runner.run(reader.close())
        assert agent.stop() == 0


async def test_a_pair_that_is_compared_no_more_leaves_its_day_and_no_other(archive_url, connection):
    chance = random.Random(8)
    rows = {name: daily_bars(name, chance) for name in ("A", "B", "C")}
    await write(archive_url, [row for of_symbol in rows.values() for row in of_symbol])
    last = (FIRST + timedelta(days=DAYS - 1)).date()
    before = last - timedelta(days=1)
    pairs = "SELECT a, b FROM correlations WHERE day = $1 ORDER BY a, b"
    for day in (last, before):
        assert await compute(connection, day) == 3
    await write(archive_url, [row._replace(final=False, rev=1) for row in rows["C"][5:]])  # too few days
    assert await compute(connection, last) == 0
    assert [tuple(row) for row in await connection.fetch(pairs, last)] == [("A", "B")]
    assert len(await connection.fetch(pairs, before)) == 3
    await compute(connection, before, symbols=1)
    assert await connection.fetch(pairs, before) == []


@partitions_only
async def test_the_correlations_of_bars_that_retention_dropped_stay_as_they_were_computed(
    archive_url, connection
):
    """A month of bars is dropped; all the correlations are kept."""
    chance = random.Random(9)
    bars = {name: daily_bars(name, chance) for name in ("A", "B")}
    await write(archive_url, [row for rows in bars.values() for row in rows])
    last = (FIRST + timedelta(days=DAYS - 1)).date()  # 2026-08-11
    before, delisted, latest = (last - timedelta(days=n) for n in (30, 60, 0))
    for day in (before, delisted, latest):
        assert await compute(connection, day) == 1
    stored = "SELECT day, value, n FROM correlations ORDER BY day"
    found = await connection.fetch(stored)
    now = datetime(2026, 8, 12, tzinfo=UTC)
    keep = {"bars": 70, "correlations": 400}  # since 2026-06-03
    kept = find_kept_days(keep, COMPARED.days, now)
    dropped = (await drop_expired(connection, {"bars": now - timedelta(days=70)})).dropped
    assert ("bars_2026_05" in dropped, "bars_2026_06" in dropped) == (True, False)
    assert {before, delisted, latest} <= (await changed_days(connection)).keys(), "by what they are made of"
    changed = await list_changed_days(connection, COMPARED, kept)
    assert list(changed) == [last - timedelta(days=n) for n in range(5)], "the latest, which are corrected"
    for day in list(changed)[1:]:
        await compute(connection, day, changed[day])
    assert await connection.fetch(stored + " LIMIT 2") == found[:2]
    # a recording is never dropped, however old
    await connection.execute("UPDATE bars SET replay = true WHERE start::date = $1", before)
    assert before in await list_changed_days(connection, COMPARED, kept)
    assert delisted not in await list_changed_days(connection, COMPARED, kept)


async def test_a_last_day_whose_correlations_are_kept_no_more_is_not_computed(archive_url, connection):
    """It would be deleted within the hour, and computed again."""
    chance = random.Random(10)
    old = [
        row._replace(start=row.start.replace(year=2025)) for name in "CD" for row in daily_bars(name, chance)
    ]
    await write(archive_url, [*old, *daily_bars("A", chance)])
    last = (FIRST + timedelta(days=DAYS - 1)).date()
    kept = find_kept_days({"correlations": 300}, COMPARED.days, datetime(2026, 8, 12, tzinfo=UTC))
    assert last.replace(year=2025) in await changed_days(connection)
    latest = [last - timedelta(days=n) for n in range(5)]
    assert list(await list_changed_days(connection, COMPARED, kept)) == latest
    await connection.execute("UPDATE bars SET replay = true WHERE symbol = 'C'")
    assert last.replace(year=2025) in await list_changed_days(connection, COMPARED, kept)


def test_a_day_is_whole_if_no_bar_of_its_span_is_dropped():
    now = datetime(2026, 8, 12, 9, tzinfo=UTC)
    assert find_kept_days({}, 60, now) == KeptDays(None, None)
    assert find_kept_days({"quotes": 1, "correlations": 400}, 60, now) == KeptDays(date(2025, 7, 9), None)
    assert find_kept_days({"bars": 365}, 60, now) == KeptDays(None, date(2025, 12, 29))
    assert find_kept_days({"bars": 100}, 60, now) == KeptDays(None, date(2026, 8, 6)), (
        "days of a week are corrected"
    )


def truth(**more):
    beats = {"interval_sec": 0.3, "timeout_sec": 10.0}
    return {"services": {"archive": {"heartbeat": beats, "settings": {"claim_sec": 0.2, **more}}}}


def test_one_of_two_instances_makes_backups_correlations_and_drops_what_is_old(
    postgres, archive_url, tmp_path
):
    chance = random.Random(5)
    rows = [*daily_bars("SPY", chance), *daily_bars("QQQ", chance)]
    asyncio.run(write(archive_url, rows))
    old = datetime.now(UTC) - timedelta(days=50)
    download = "INSERT INTO downloads (id, source, asked_at, outcome) VALUES ($1, 'yahoo', $2, 'records')"
    query(archive_url, download, "1-0", old)
    query(archive_url, download, "2-0", old + timedelta(days=40))
    feature = "INSERT INTO features (symbol, start, rev, \"values\", replay) VALUES ($1, $2, 0, '{}', $3)"
    for symbol, at, is_replay in (
        ("OLD", old, False),
        ("PLAYED", old, True),
        ("NEW", old + timedelta(40), False),
    ):
        query(archive_url, feature, symbol, at, is_replay)
    query(archive_url, "INSERT INTO correlations VALUES ('2013-01-04', 'A', 'B', 0.5, 60)")
    with Scene(tmp_path) as scene:
        seed(
            scene.buses,
            truth(keep_days={"downloads": 30, "indicators": 1, "features": 30, "correlations": 3000}),
            1,
        )
        folder = tmp_path / "backups"
        env = {
            "DATABASE_URL": archive_url,
            "POSTGRES_BIN": str(postgres.programs),
            "ARCHIVE_BACKUP_FOLDER": str(folder),
        }
        agents = [scene.module("services.archive", **env) for _ in range(2)]
        until(lambda: folder.exists() and list_backups(folder, time.time()), 60, agents[0].text)
        until(lambda: query(archive_url, "SELECT count(*) FROM correlations") == [(5,)])
        assert query(archive_url, "SELECT id FROM downloads") == [("2-0",)]
        assert query(archive_url, "SELECT symbol FROM features ORDER BY 1") == [("NEW",), ("PLAYED",)]
        if EXTENSION is None:
            gone = "SELECT to_regclass('indicators_2025_01') IS NULL, to_regclass('bars_2025_01') IS NULL"
            assert query(archive_url, gone) == [(True, False)]
        assert sum(len(each.logs("backup.made")) for each in agents) == 1
        (made,) = list_backups(folder, time.time())
        assert asyncio.run(verify_backup(archive_url, folder / made.file, postgres.programs)) == made
        assert [each.stop() for each in agents] == [0, 0]
        # another one finds that there is one of today
        last = scene.module("services.archive", **env)
        last.wait_log("lease.held")
        scene.wait_beat(svc="archive", boot=last.logs("agent.joined")[0]["boot"], i=5)
        assert len(list_backups(folder, time.time())) == 1
        assert last.stop() == 0
        with (folder / made.file).open("r+b") as dump:  # one bit of it is another one
            dump.seek(made.size // 2)
            byte = dump.read(1)[0]
            dump.seek(-1, os.SEEK_CUR)
            dump.write(bytes([byte ^ 1]))
        after = scene.module("services.archive", **env)
        until(lambda: len(list_backups(folder, time.time())) == 2, 60, after.text)
        assert [each["file"] for each in after.logs("backup.damaged")] == [made.file]
        report = until(lambda: BackupReport.parse(scene.system.cmd("GET", "archive:backup").encode()))
        assert report.damaged == made.file
        newest = list_backups(folder, time.time())[0]
        assert asyncio.run(verify_backup(archive_url, folder / newest.file, postgres.programs)) == newest


NUMBERS = st.one_of(
    st.floats(width=64).map(repr),
    st.integers(-(2**70), 2**70).map(str),
    st.sampled_from(["0", "1", "-0.0", "1e18", "1e-320", "5e-324", "1.5", "1793000040000", "-5364662400000"]),
).map(str.encode)
TEXTS = st.one_of(
    st.binary(max_size=130),
    st.text(max_size=20).map(str.encode),
    st.sampled_from(
        [b"SPY", b"^VIX", b"EUR/USD", b"1m", b"1mo", b"stocks", b"crypto", b"bars", b"\xff\x00", b"0"]
    ),
)
ANY = st.fixed_dictionaries(
    {b"sym": st.sampled_from([b"SPY", b"A.B", b"a" * 40]), b"asset": st.sampled_from([b"stocks", b"forex"])},
    optional={
        **{name: st.sampled_from([b"10", b"11", b"9.5"]) for name in (b"open", b"high", b"low", b"close")},
        **dict.fromkeys((b"volume", b"vwap", b"trades", b"price", b"bid", b"value", b"rev"), NUMBERS),
        **dict.fromkeys((b"asked_at", b"took_ms", b"status", b"bytes", b"records"), NUMBERS),
        **dict.fromkeys((b"source", b"digest", b"url", b"reason", b"outcome", b"series", b"symbol"), TEXTS),
        b"timeframe": st.sampled_from([b"1m", b"1d", b"1mo"]),
        b"start": st.one_of(NUMBERS, st.integers(-5_364_662_400_000, 4_102_444_800_000).map(b"%d".__mod__)),
        b"at": st.integers(-5_364_662_400_000, 4_102_444_800_000).map(b"%d".__mod__),
        b"final": st.sampled_from([b"0", b"1"]),
        b"replay": st.sampled_from([b"0", b"1"]),
        b"day": st.sampled_from([b"2026-10-26", b"1969-12-31", b"2100-01-01", b"yesterday"]),
        b"kind": st.sampled_from([b"bars", b"quotes"]),
        b"values": st.dictionaries(st.sampled_from(["a", "b1"]), st.floats(allow_nan=False)).map(
            lambda values: str(values).replace("'", '"').encode()
        ),
        b"event": st.binary(max_size=60),
    },
)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(ANY, min_size=20, max_size=40),
    st.one_of(st.integers(0, 10**15), st.sampled_from([1_793_000_040_000, 2**43 - 1, 2**43, 2**63 - 1])),
)
def test_postgresql_takes_every_row_that_is_made_of_any_entry(archive_url, batch, first_ms):
    typed = []
    for place, fields in enumerate(batch):
        for stream, (table, make) in STREAMS.items():
            ident = b"%d-%d" % (first_ms, place)
            try:
                typed.append(TypedEntry(stream, ident, table, *make(ident, fields)))
            except EntryError:
                continue

    async def write_all():
        database = Database(archive_url)
        refused = await Writer(database).write(typed)
        await database.aclose()
        return refused

    assert asyncio.run(write_all()) == []


async def test_a_day_of_too_few_minutes_is_left_out_by_the_shares_of_the_truth(archive_url, connection):
    chance = random.Random(8)
    whole, thin = daily_bars("AAPL", chance), daily_bars("SPY", chance)
    option, low = daily_bars("O:SPY", chance), daily_bars("LOW", chance)

    def build(row, minutes):
        return row._replace(minutes=minutes, missing=390 - minutes)

    # each tenth day has a quarter of its minutes less one, and each fifth one a quarter of them
    few = {n: 97 if n % 10 == 0 else 98 if n % 5 == 0 else 390 for n in range(DAYS)}
    built = [[build(row, few[n]) for n, row in enumerate(rows)] for rows in (thin, option, low)]
    await write(archive_url, [*whole, *(row for rows in built for row in rows)])
    await connection.execute("UPDATE symbols SET asset = 'options' WHERE symbol = 'O:SPY'")
    last = (FIRST + timedelta(days=DAYS - 1)).date()
    bars = Service(heartbeat=Heartbeat(), endpoints=[{"symbols": ["LOW"], "checks": {"day_share": 0.1}}])
    await compute(connection, last, shares=list_day_shares(bars))
    found = {row["b"]: row for row in await connection.fetch("SELECT * FROM correlations WHERE a = 'AAPL'")}
    for symbol, rows in (
        ("SPY", [row for n, row in enumerate(thin) if n % 10]),
        ("O:SPY", option),
        ("LOW", low),
    ):
        value, n = expected_correlation(whole, rows, last, 60)
        assert (found[symbol]["value"], found[symbol]["n"]) == (pytest.approx(value, abs=1e-9), n), symbol


async def test_correlations_are_computed_again_when_other_days_count(archive_url, connection):
    chance = random.Random(8)
    await write(archive_url, [*daily_bars("AAPL", chance), *daily_bars("SPY", chance)])
    for day, made_of in (await changed_days(connection)).items():
        await compute(connection, day, made_of)
    assert await changed_days(connection) == {}
    bars = Service(heartbeat=Heartbeat(), endpoints=[{"checks": {"day_share": 0.1}}])
    compared = Compared(60, 10, list_day_shares(bars))
    assert len(await list_changed_days(connection, compared)) == 5
