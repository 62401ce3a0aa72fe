"""A backtest over the archive: prices as traded whoever gave them, and what is missing is told."""

import asyncio
from datetime import date, timedelta
from decimal import Decimal

import orjson
import pytest
import typer
from typer.testing import CliRunner

from marketswarm.cli.options import expand_groups
from marketswarm.exit import Exit
from services.archive.database import Database
from services.archive.writer import TypedEntry, Writer
from services.market.intervals import Grid, end_period
from services.market.records import DAY_MS
from services.market.sessions import get_session
from services.signals import commands
from services.signals.history import HistoryError, TradingRules, read_archive
from services.signals.lookahead import find_lookahead
from services.signals.report import BacktestReport, BacktestRequest
from services.signals.run import run_backtest
from services.signals.strategy import load_file
from services.tables.rows import BarRow, SymbolRow
from services.tables.tables import BAR_TABLE
from support.rig.one_server import server

__all__ = ["server"]

NYSE, LONDON = get_session("XNYS"), get_session("XLON")
SPLIT_DAY, ASKED = date(2024, 6, 10), date(2024, 7, 1)
# closes of NVIDIA as they were traded
CLOSES = {
    date(2024, 6, 3): 1150.00, date(2024, 6, 4): 1164.37, date(2024, 6, 5): 1224.40,
    date(2024, 6, 6): 1209.98, date(2024, 6, 7): 1208.88, date(2024, 6, 10): 121.79,
    date(2024, 6, 11): 120.91, date(2024, 6, 12): 125.20,
}  # fmt: skip
ACTIONS = """
INSERT INTO actions (symbol, ex_day, kind, ratio, amount, withdrawn, source, replay) VALUES
    ('NVDA', '2024-06-10', 'split', 10, NULL, false, 'massive', false),
    ('NVDA', '2024-06-11', 'dividend', NULL, 0.01, false, 'massive', false),
    ('NVDA', '2024-06-05', 'split', NULL, NULL, true, 'massive', false),
    ('NVDA', '2099-01-05', 'split', 4, NULL, false, 'massive', false),
    ('YNVDA', '2024-06-10', 'split', 10, NULL, false, 'massive', false),
    ('YNVDA', '2024-06-11', 'dividend', NULL, 0.01, false, 'massive', false)
"""
OTHER_ACTIONS = """
INSERT INTO actions (symbol, ex_day, kind, ratio, amount, new_symbol, withdrawn, source, replay) VALUES
    ('NVDA', '2024-06-06', 'spin_off', NULL, NULL, 'NEW', false, 'alpaca', false),
    ('NVDA', '2024-06-07', 'merger', NULL, 1200, NULL, false, 'alpaca', false),
    ('NVDA', '2024-06-12', 'rights', 0.5, NULL, 'NEW', false, 'alpaca', false),
    ('NVDA', '2024-07-01', 'merger', NULL, 1200, NULL, false, 'alpaca', false)
"""
LONDON_SPLIT = """
INSERT INTO actions (symbol, ex_day, kind, ratio, withdrawn, source, replay) VALUES
    ('VOD.L', '2024-06-10', 'split', 10, false, 'yahoo', false)
"""
DAYS = date(2024, 6, 3), date(2024, 6, 12)
_NO_RULES = TradingRules()
APP = typer.Typer()
APP.command("run")(expand_groups(commands.run_strategy))


def bar_row(symbol, day, *, adjusted, known_ms=None, timeframe="1d"):
    """The day of a source with raw prices, or of one that has adjusted them by ASKED."""
    share = 10 if adjusted and day < SPLIT_DAY else 1
    close = round(CLOSES[day] / share, 6)
    start = NYSE.find_date(day).open_ms
    basis = ("splits", ASKED.isoformat()) if adjusted else ("raw", None)
    return BarRow(
        *(symbol, timeframe, start, close, close * 1.01, close * 0.99, close, 1000.0 * share, close, 7),
        *(True, 0, 1, "yahoo" if adjusted else "massive", start, None, False),
        day=day.isoformat(),
        known_at=known_ms,
        adjustment=basis[0],
        adjusted_to=basis[1],
    )


def london_row(day):
    return bar_row("VOD.L", day, adjusted=False)._replace(start=LONDON.find_date(day).open_ms)


def entry(row):
    symbol = SymbolRow(row.symbol, "stocks", row.start, row.start, row.replay)
    return TypedEntry("bars:bars", b"1-0", BAR_TABLE, row, symbol)


@pytest.fixture
async def nvidia(database, connection):
    rows = [
        bar_row(symbol, day, adjusted=symbol == "YNVDA") for day in CLOSES for symbol in ("NVDA", "YNVDA")
    ]
    assert await Writer(database).write([entry(row) for row in rows]) == []
    await connection.execute(ACTIONS)
    return connection


def make_request(symbol, **changes):
    return BacktestRequest.from_document(
        {
            "strategy": "buy_and_hold",
            "symbols": [symbol],
            "from": str(DAYS[0]),
            "to": str(DAYS[1]),
            "parameters": {"percent": 50},
            **changes,
        }
    )


async def read(connection, *symbols, days=DAYS, timeframe="1d", rules=_NO_RULES):
    return await read_archive(connection, symbols, timeframe, days, rules)


async def test_bars_are_as_traded_whoever_gave_them(nvidia):
    history = await read(nvidia, "NVDA", "YNVDA")
    raw, adjusted = (history.symbols[symbol] for symbol in ("NVDA", "YNVDA"))
    assert [bar.close / 10**12 for bar in raw.bars] == list(CLOSES.values())
    assert [bar.close for bar in adjusted.bars] == [bar.close for bar in raw.bars]
    assert [bar.volume for bar in adjusted.bars] == [bar.volume for bar in raw.bars]
    assert [each.account.at_ms for each in raw.actions] == [
        NYSE.find_date(day).open_ms for day in (SPLIT_DAY, date(2024, 6, 11))
    ]


@pytest.mark.parametrize("symbol", ["NVDA", "YNVDA"])
async def test_a_split_of_ten_for_one_is_no_fall_of_ninety_percent(nvidia, symbol):
    report = run_backtest(make_request(symbol), await read(nvidia, symbol))
    (fill,) = report.fills
    assert (fill.qty, fill.price, fill.at) == ("43", "1164.37", "2024-06-04T13:30:00Z")
    # 43 shares became 430, which are worth 125.20 each, and paid 0.01 each
    assert Decimal(report.totals.final_equity) == 100_000 - 43 * Decimal("1164.37") + 430 * Decimal("125.21")
    assert report.totals.dividends == "4.30"
    assert report.totals.max_drawdown < 0.02


# a flat share that is split four for one on a Wednesday in August: bars of months and weeks are as traded on
# their last date, so those of its month and its week hold the split throughout
FLAT_ACTIONS = """
INSERT INTO actions (symbol, ex_day, kind, ratio, amount, withdrawn, source, replay) VALUES
    ('FLAT', '2020-08-26', 'split', 4, NULL, false, 'massive', false),
    ('FLAT', '2020-08-25', 'dividend', NULL, 4, false, 'massive', false)
"""
FLAT_SPAN = {"from": "2020-05-01", "to": "2020-12-31", "account": {"cash": 100_000}}


def flat_rows(timeframe):
    starts = {
        "1mo": [date(2020, month, 1) for month in range(5, 12)],
        "1w": [date(2020, 5, 4) + timedelta(7 * week) for week in range(26)],
    }[timeframe]
    for day in starts:
        interval = Grid(NYSE).find(
            next(NYSE.iter_days(at_ms(day), at_ms(day) + 8 * DAY_MS)).open_ms, timeframe
        )
        close = 100.0 if end_period(day, timeframe) >= date(2020, 8, 26) else 400.0
        row = bar_row("NVDA", date(2024, 6, 12), adjusted=False, timeframe=timeframe)
        yield row._replace(
            symbol="FLAT", start=interval.open_ms, day=day.isoformat(), open=close, high=close, low=close,
            close=close, vwap=close,
        )  # fmt: skip


def at_ms(day):
    return (day - date(1970, 1, 1)).days * DAY_MS


@pytest.fixture
async def flat(database, connection):
    rows = [*flat_rows("1mo"), *flat_rows("1w")]
    assert await Writer(database).write([entry(row) for row in rows]) == []
    await connection.execute(FLAT_ACTIONS)
    return connection


@pytest.mark.parametrize(
    ("timeframe", "first"),  # long before, and so that the order fills at the open of the bar with the split
    [("1w", "2020-05-01"), ("1w", "2020-08-17"), ("1mo", "2020-05-01"), ("1mo", "2020-07-01")],
)
async def test_a_split_within_a_week_or_a_month_makes_no_money(flat, timeframe, first):
    history = await read(flat, "FLAT", days=(date(2020, 5, 1), date(2020, 10, 31)), timeframe=timeframe)
    span = {**FLAT_SPAN, "from": first}
    report = run_backtest(make_request("FLAT", timeframe=timeframe, **span), history)
    assert report.totals.dividends == "500.00"  # 4 for each of 125 shares of before the split, or 1 of after
    assert report.totals.final_equity == "100500.00"
    assert report.totals.max_drawdown == 0
    assert report.buy_and_hold.final_equity == "101000.00"
    assert report.buy_and_hold.max_drawdown == 0


@pytest.mark.parametrize("timeframe", ["1w", "1mo"])
async def test_a_stop_does_not_gap_over_a_split_within_its_bar(flat, timeframe, tmp_path):
    history = await read(flat, "FLAT", days=(date(2020, 5, 1), date(2020, 10, 31)), timeframe=timeframe)
    file = tmp_path / "idea.py"
    file.write_text(
        "from services.signals.strategy import OrderRequest\n"
        "def decide(view):\n"
        "    if view.at.month == 5 and not view.position('FLAT') and not view.count_orders('FLAT'):\n"
        "        yield OrderRequest('FLAT', 'buy', 100, name='in')\n"
        "        yield OrderRequest('FLAT', 'sell', 100, 'stop', 350, parent='in')\n"
    )
    request = make_request("FLAT", strategy="idea", parameters={}, timeframe=timeframe, **FLAT_SPAN)
    report = run_backtest(request, history, strategy=load_file(file))
    assert [fill.side for fill in report.fills] == ["buy"]
    assert report.totals.final_equity == "100400.00"


@pytest.mark.parametrize("timeframe", ["1w", "1mo"])
@pytest.mark.parametrize("adjust", ["splits", "all"])
async def test_a_strategy_sees_a_flat_share_over_a_split_within_a_bar(flat, timeframe, adjust, tmp_path):
    history = await read(flat, "FLAT", days=(date(2020, 5, 1), date(2020, 10, 31)), timeframe=timeframe)
    file, seen = tmp_path / "idea.py", []
    file.write_text("def decide(view):\n    SEEN.append(view.closes('FLAT', 100).tolist())\n")
    strategy = load_file(file)
    strategy.decide.__globals__["SEEN"] = seen
    request = make_request(
        "FLAT", strategy="idea", parameters={}, timeframe=timeframe, adjust=adjust, **FLAT_SPAN
    )
    run_backtest(request, history, strategy=strategy)
    last = seen[-1]
    paid = date(2020, 8, 25)  # by a share of 400 that closed before, 4 on each
    before = sum(end_period(date.fromordinal(day), timeframe) < paid for day in history.symbols["FLAT"].days)
    if adjust == "all":
        assert last[:before] == pytest.approx([99.0] * before)
        assert last[before:] == [100.0] * (len(last) - before)
    else:
        assert last == [100.0] * len(last)
    assert seen[0] == [400.0]
    assert find_lookahead(request, history, strategy) is None


async def test_a_spin_off_a_merger_and_rights_pay_nothing_and_are_named(nvidia):
    before = await read(nvidia, "NVDA")
    plain = run_backtest(make_request("NVDA"), before)
    await nvidia.execute(OTHER_ACTIONS)
    history = await read(nvidia, "NVDA")
    report = run_backtest(make_request("NVDA"), history)
    assert (report.totals, report.points) == (plain.totals, plain.points)
    (told,) = set(report.warnings) - set(plain.warnings)
    assert "NVDA: spin_off 2024-06-06, merger 2024-06-07, rights 2024-06-12." in told
    assert history.digest != before.digest, "the report names them"


async def test_bars_before_the_first_day_are_seen_and_not_played(nvidia):
    days = date(2024, 6, 6), date(2024, 6, 10)
    history = await read(nvidia, "NVDA", days=days)
    assert len(history.symbols["NVDA"].bars) == 6, "those before, and none after the last day"
    report = run_backtest(make_request("NVDA", **{"from": str(days[0]), "to": str(days[1])}), history)
    assert [point.at[:10] for point in report.points] == ["2024-06-06", "2024-06-07", "2024-06-10"]


async def test_a_bar_is_known_since_its_close_or_its_correction(database, nvidia):
    later = NYSE.find_date(date(2024, 6, 12)).close_ms
    row = bar_row("NVDA", date(2024, 6, 4), adjusted=False, known_ms=later)._replace(rev=1)
    assert await Writer(database).write([entry(row)]) == []
    found = (await read(nvidia, "NVDA")).symbols["NVDA"]
    ends = [bar.end_ms for bar in found.bars]
    assert list(found.known_ms) == [ends[0], later, *ends[2:]]


async def test_what_the_archive_lacks_is_told(nvidia):
    for symbols, days, timeframe, said in (
        (["NVDIA"], DAYS, "1d", "the archive has no symbol NVDIA; did you mean NVDA"),
        (["NVDA"], DAYS, "1h", "no final bar of NVDA in 1h from 2024-06-03 to 2024-06-12; it has 1d"),
        (["NVDA"], (date(2020, 1, 1), date(2020, 2, 1)), "1d", "it has those from 2024-06-03 to 2024-06-12"),
    ):
        with pytest.raises(HistoryError) as error:
            await read(nvidia, *symbols, days=days, timeframe=timeframe)
        assert said in str(error.value)
    with pytest.raises(HistoryError, match="no interval of 1d of the session XTKS begins at"):
        await read(nvidia, "NVDA", rules=TradingRules(session="XTKS"))


async def test_each_symbol_trades_in_the_session_that_is_named_for_it(database, nvidia):
    london = [london_row(day) for day in CLOSES]
    assert await Writer(database).write([entry(row) for row in london]) == []
    await nvidia.execute(LONDON_SPLIT)
    with pytest.raises(HistoryError, match=r"1d of the session XNYS begins at .* in the truth, as `session`"):
        await read(nvidia, "NVDA", "VOD.L")
    sessions = {"VOD.L": "XLON", "NVDA": "XNYS"}
    history = await read(nvidia, "NVDA", "VOD.L", rules=TradingRules(sessions=sessions))
    nvda, vodafone = (history.symbols[symbol] for symbol in ("NVDA", "VOD.L"))
    assert (nvda.session, vodafone.session) == ("XNYS", "XLON")
    assert [bar.end_ms for bar in vodafone.bars] == [LONDON.find_date(day).close_ms for day in CLOSES]
    (split,) = vodafone.actions
    assert split.account.at_ms == LONDON.find_date(SPLIT_DAY).open_ms
    alone = await read(nvidia, "NVDA")
    assert (await read(nvidia, "NVDA", rules=TradingRules(sessions=sessions))).digest == alone.digest
    with pytest.raises(HistoryError, match="1d of the session XLON begins at"):  # which is for all symbols
        await read(nvidia, "NVDA", rules=TradingRules(session="XLON", sessions=sessions))


async def test_another_price_is_another_digest(database, nvidia):
    before = await read(nvidia, "NVDA")
    assert (await read(nvidia, "NVDA")).digest == before.digest
    row = bar_row("NVDA", date(2024, 6, 4), adjusted=False)._replace(volume=1.0, rev=1)
    assert await Writer(database).write([entry(row)]) == []
    assert (await read(nvidia, "NVDA")).digest != before.digest


async def test_minutes_are_those_of_their_trading_day(database, connection):
    opens = NYSE.find_date(date(2024, 6, 4)).open_ms
    rows = [
        bar_row("NVDA", date(2024, 6, 4), adjusted=False, timeframe="1m")._replace(
            start=opens + 60_000 * number, day=None
        )
        for number in range(5)
    ]
    assert await Writer(database).write([entry(row) for row in rows]) == []
    day = date(2024, 6, 4)
    found = (await read(connection, "NVDA", days=(day, day), timeframe="1m")).symbols["NVDA"]
    assert [bar.end_ms - bar.start_ms for bar in found.bars] == [60_000] * 5
    assert set(found.days) == {day.toordinal()}
    with pytest.raises(HistoryError):
        await read(connection, "NVDA", days=(day - timedelta(1), day - timedelta(1)), timeframe="1m")


def test_the_command_goes_by_the_sessions_of_the_truth_unless_one_is_given(
    london_url, server, monkeypatch, tmp_path
):
    monkeypatch.setenv("DATABASE_URL", london_url)
    monkeypatch.setenv("SYSTEM_REDIS_URL", server.url)
    monkeypatch.setenv("MARKET_REDIS_URL", server.url)
    words = ["buy_and_hold", "--symbols", "VOD.L", "--from", str(DAYS[0]), "--to", str(DAYS[1])]
    words += ["--data", str(tmp_path), "--json"]
    without = CliRunner().invoke(APP, words)
    assert "session XNYS begins at" in without.exception.message
    assert "no bus has a valid truth" in without.stderr
    assert "each symbol trades in the session of its class" in without.stderr
    truth = {"services": {"bars": {"endpoints": [{"symbols": ["VOD.L"], "session": "XLON"}]}}}
    server.cmd("SET", "truth:doc", orjson.dumps(truth))
    done = CliRunner().invoke(APP, words, catch_exceptions=False)
    assert BacktestReport.from_json(done.stdout.encode().strip()).counts.fills == 1
    assert done.stderr == ""
    wrong = CliRunner().invoke(APP, [*words, "--session", "XTKS"])
    assert "session XTKS begins at" in wrong.exception.message


def test_the_command_reads_the_database_of_the_environment(nvidia_url, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", nvidia_url)
    words = ["buy_and_hold", "--symbols", "NVDA", "--from", str(DAYS[0]), "--to", str(DAYS[1])]
    done = CliRunner().invoke(APP, [*words, "--json"], catch_exceptions=False)
    report = BacktestReport.from_json(done.stdout.encode().strip())
    assert report.source == "the archive"
    assert report.counts.fills == 1
    wrong = CliRunner().invoke(APP, [*words[:2], "NVDIA", *words[3:]])
    assert isinstance(wrong.exception, Exit)
    assert wrong.exception.code == 2


@pytest.fixture
def nvidia_url(archive_url):
    """The database of this test with NVDA in it, for what is not in an event loop."""
    return fill_archive(archive_url, [bar_row("NVDA", day, adjusted=False) for day in CLOSES])


@pytest.fixture
def london_url(archive_url):
    """The same with VOD.L of London."""
    return fill_archive(archive_url, [london_row(day) for day in CLOSES])


def fill_archive(archive_url, rows):
    async def fill():
        database = Database(archive_url)
        try:
            assert await Writer(database).write([entry(row) for row in rows]) == []
        finally:
            await database.aclose()

    asyncio.run(fill())
    return archive_url


@pytest.mark.live
def test_a_database_that_is_away_ends_it_with_a_reason(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody:nothing@127.0.0.1:1/none")
    words = ["buy_and_hold", "--symbols", "NVDA", "--from", str(DAYS[0]), "--to", str(DAYS[1])]
    done = CliRunner().invoke(APP, words)
    assert isinstance(done.exception, Exit)
    assert done.exception.code == commands.FAILED
    assert "nothing" not in done.exception.message
