"""The process that plays backtests: real ones, over a real PostgreSQL, with strategies that are hostile."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from marketswarm.agent.worker_process import WorkerError, WorkerFailure
from services.market.sessions import get_session
from services.signals import backtest_process
from services.signals.backtest_process import LIMITS, PlayOutcome, describe_strategies, request_backtest
from services.signals.report import BacktestReport, BacktestRequest
from support.postgres import archive_url, postgres

__all__ = ["archive_url", "postgres"]
pytestmark = pytest.mark.live
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
COUNT = 28
COLUMNS = (
    *("symbol", "timeframe", "start", "open", "high", "low", "close", "volume", "final", "rev"),
    *("source", "asked_at", "digest", "replay"),
)
HEAD = "from services.signals.strategy import Parameter\nPARAMETERS = {'fast': Parameter(3, '', 1, 9)}\n"
STRATEGIES = {
    "calm": "'''Do nothing.'''\n" + HEAD + "def decide(view):\n    return None\n",
    "loops": HEAD + "def decide(view):\n    while True:\n        pass\n",
    "hungry": HEAD + "def decide(view):\n    return bytes(2 << 30)\n",
    "deep": HEAD + "def decide(view):\n    return decide(view)\n",
    "dies": HEAD + "import os\ndef decide(view):\n    os._exit(3)\n",
    "raises": HEAD + "def decide(view):\n    return 1 / 0\n",
    "shouts": HEAD + "import os\nos.write(1, b'x' * 100)\ndef decide(view):\n    return None\n",
}
WORKER = """
from pathlib import Path
from services.signals import backtest_process, strategy
strategy.INSTALLED = Path({folder!r})
backtest_process.main()
"""


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """Have the process find these strategies in the place of those that are installed."""
    folder = tmp_path / "strategies"
    folder.mkdir()
    for name, source in STRATEGIES.items():
        (folder / f"{name}.py").write_text(source)
    (tmp_path / "hostile_backtests.py").write_text(WORKER.format(folder=str(folder)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(backtest_process, "_MODULE", "hostile_backtests")


@pytest.fixture
async def archive(archive_url):
    connection = await asyncpg.connect(archive_url)
    try:
        await connection.execute(
            "insert into symbols values ('BTC/USD', 'crypto', $1, $1, false)",
            FIRST,
        )
        origin = (5.0, True, 0, "kraken", FIRST, "ab" * 32, False)
        prices = [(100.0 + n, 101.0 + n, 99.0 + n, 100.5 + n) for n in range(COUNT)]
        rows = [("BTC/USD", "1d", FIRST + timedelta(days=n), *each, *origin) for n, each in enumerate(prices)]
        await connection.copy_records_to_table("bars", records=rows, columns=COLUMNS)
    finally:
        await connection.close()
    return archive_url


def ask(strategy, **more):
    days = {"from": "2026-01-01", "to": "2026-01-28"}
    return BacktestRequest.from_document({"strategy": strategy, "symbols": ["BTC/USD"], **days, **more})


async def play(url, request, kept=None, sessions=None):
    steps = []
    outcome, rest = await request_backtest(request, url, sessions or {}, kept, steps.append)
    return outcome, rest, steps


async def test_the_installed_strategies_are_described_with_their_parameters():
    found = {each.name: each for each in await describe_strategies()}
    assert {"bracket", "breakout", "buy_and_hold", "moving_average", "reversion"} <= set(found)
    assert found["moving_average"].complete({"fast": "7"})["fast"] == 7


async def test_a_backtest_is_played_with_its_progress_and_not_again_while_no_input_changes(archive):
    request = ask("buy_and_hold")
    outcome, rest, steps = await play(archive, request)
    assert outcome is PlayOutcome.REPORT, rest
    report = BacktestReport.from_json(rest)
    assert report.counts.bars == COUNT
    assert steps == sorted(steps)
    assert len(steps) > 1
    assert await play(archive, request, report.digest) == (PlayOutcome.KEPT, report.digest.encode(), [])
    connection = await asyncpg.connect(archive)
    await connection.execute("update bars set close = close + 0.25 where start = $1", FIRST)
    await connection.close()
    outcome, rest, _ = await play(archive, request, report.digest)
    assert outcome is PlayOutcome.REPORT
    assert BacktestReport.from_json(rest).digest != report.digest


async def test_a_symbol_is_played_in_the_session_that_is_named_for_it(archive):
    connection = await asyncpg.connect(archive)
    await connection.execute("insert into symbols values ('VOD.L', 'stocks', $1, $1, false)", FIRST)
    days = [day for n in range(COUNT) if (day := get_session("XLON").find_date(FIRST.date() + timedelta(n)))]
    opens = [datetime.fromtimestamp(day.open_ms / 1000, UTC) for day in days]
    origin = (100.0, 101.0, 99.0, 100.5, 5.0, True, 0, "yahoo", FIRST, "ab" * 32, False)
    rows = [("VOD.L", "1d", start, *origin) for start in opens]
    await connection.copy_records_to_table("bars", records=rows, columns=COLUMNS)
    await connection.close()
    request = ask("buy_and_hold", symbols=["BTC/USD", "VOD.L"])
    outcome, rest, _ = await play(archive, request)
    assert (outcome, b"no interval of 1d of the session XNYS" in rest) == (PlayOutcome.HISTORY, True)
    sessions = {"VOD.L": "XLON", "SPY": "XNYS"}
    outcome, rest, _ = await play(archive, request, sessions=sessions)
    assert outcome is PlayOutcome.REPORT, rest
    report = BacktestReport.from_json(rest)
    assert report.prices[1].at[0] == f"{days[0].date}T16:30:00Z", "London's close"
    assert (await play(archive, request, report.digest, sessions))[0] is PlayOutcome.KEPT


async def test_what_the_archive_lacks_is_said_in_words(archive):
    outcome, rest, _ = await play(archive, ask("buy_and_hold", symbols=["BTC/EUR"]))
    assert (outcome, b"did you mean BTC/USD?" in rest) == (PlayOutcome.HISTORY, True)
    outcome, rest, _ = await play("postgresql://kim:secret@127.0.0.1:1/none", ask("buy_and_hold"))
    assert outcome is PlayOutcome.DATABASE
    assert b"secret" not in rest


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize(
    ("strategy", "failure"),
    [
        ("loops", WorkerFailure.LATE),
        ("hungry", WorkerFailure.MEMORY),
        ("deep", WorkerFailure.RECURSION),
        ("dies", WorkerFailure.DEAD),
    ],
)
async def test_a_strategy_that_takes_too_much_is_ended_and_its_neighbour_is_played(
    archive, monkeypatch, strategy, failure
):
    assert LIMITS.request_sec == LIMITS.cpu_sec == 60
    if failure is WorkerFailure.LATE:
        monkeypatch.setattr(backtest_process, "LIMITS", replace(LIMITS, request_sec=10.0))
    bad, good = await asyncio.gather(
        play(archive, ask(strategy)), play(archive, ask("calm")), return_exceptions=True
    )
    assert isinstance(bad, WorkerError), bad
    assert bad.failure is failure
    assert not isinstance(good, BaseException), good
    assert good[0] is PlayOutcome.REPORT


@pytest.mark.usefixtures("hostile")
async def test_a_strategy_that_raises_is_named_with_its_line_and_without_a_folder(archive, tmp_path):
    outcome, rest, _ = await play(archive, ask("raises"))
    assert (outcome, rest.startswith(b"raises.py: line 4: ZeroDivisionError")) == (
        PlayOutcome.STRATEGY,
        True,
    ), rest
    assert str(tmp_path).encode() not in rest
    outcome, rest, _ = await play(archive, ask("calm", parameters={"fast": 99}))
    assert (outcome, b"must be from 1 to 9" in rest) == (PlayOutcome.STRATEGY, True)
    with pytest.raises(WorkerError):  # it wrote over the answers
        await play(archive, ask("shouts"))
