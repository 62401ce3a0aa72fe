"""`marketswarm backtest run` as a person types it: over a file, and what is told of wrong input."""

import random
import signal
import subprocess
import sys
from types import SimpleNamespace

import orjson
import pytest
import typer
from typer.testing import CliRunner

from marketswarm.cli.options import expand_groups
from marketswarm.exit import Exit
from services.signals import cases, commands
from services.signals.report import BacktestReport

APP = typer.Typer()
APP.command("run")(expand_groups(commands.run_strategy))
HEADER = "symbol,start,end,open,high,low,close,volume"
SPAN = ("--from", "2024-01-01", "--to", "2024-12-31", "--symbols", "SPY")


def write_bars(path, lines=None):
    if lines is None:
        chance, price, lines = random.Random(4), 100.0, []
        for number in range(120):
            month, day = 1 + number // 28, 1 + number % 28
            close = round(price * (1 + chance.gauss(0, 0.02)), 2)
            high, low = max(price, close) + 0.5, min(price, close) - 0.5
            at = f"2024-{month:02}-{day:02}T"
            lines.append(f"SPY,{at}14:30:00Z,{at}21:00:00Z,{price},{high:.2f},{low:.2f},{close},1000")
            price = close
    path.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)

    def run(*words):
        done = CliRunner().invoke(APP, list(words))
        refusal = done.exception if isinstance(done.exception, Exit) else None
        code = int(refusal.code) if refusal else done.exit_code
        said = refusal.message if refusal else done.stdout + done.stderr
        if not refusal and done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return SimpleNamespace(code=code, said=said, stdout=done.stdout)

    return run


def test_it_reports_in_words_as_json_and_as_a_page(run, tmp_path):
    words = ("reversion", "--bars", write_bars(tmp_path / "b.csv"), *SPAN)
    words += ("--param", "bars=5", "--param", "deviations=1")
    said = run(*words, "--html", "page.html").stdout
    assert "Hypothetical: nobody traded." in said
    assert "buy and hold" in said
    assert "wrote page.html" in said
    assert "<svg" in (tmp_path / "page.html").read_text(encoding="utf-8")
    raw = run(*words, "--json").stdout.encode()
    report = BacktestReport.from_json(raw.strip())
    assert report.digest in said
    assert report.counts.fills
    assert report.request.parameters["bars"] == 5
    assert float(report.request.account.periods_per_year) == 365  # some of these days are Sundays
    assert run(*words, "--json").stdout.encode() == raw


def test_costs_and_rules_are_taken_from_the_options(run, tmp_path):
    options = (
        "--fee-percent",
        "0.1",
        "--cash",
        "5000",
        "--leverage",
        "2",
        "--tick",
        "0.05",
        "--lot",
        "10",
        "--session",
        "XNYS",
    )
    words = ("buy_and_hold", "--bars", write_bars(tmp_path / "b.csv"), *SPAN, *options, "--json")
    report = BacktestReport.from_json(run(*words).stdout.encode().strip())
    assert report.request.account.type == "margin"
    assert int(report.fills[0].qty) % 10 == 0
    assert float(report.totals.fees) > 0
    assert "Tick and lot: SPY 0.05 and 10." in report.assumptions


def test_slippage_makes_each_fill_worse_and_is_said(run, tmp_path):
    words = ("buy_and_hold", "--bars", write_bars(tmp_path / "b.csv"), *SPAN, "--json")
    plain = BacktestReport.from_json(run(*words).stdout.encode().strip())
    slipped = run(*words, "--slippage", "0.01", "--slippage-ticks", "2")
    report = BacktestReport.from_json(slipped.stdout.encode().strip())
    assert float(report.fills[0].price) == pytest.approx(float(plain.fills[0].price) * 1.01 + 0.02, abs=0.011)
    assert "Market and stop orders fill worse by 1 % of the price and 2 ticks." in report.assumptions
    assert any(each.startswith("No slippage") for each in plain.assumptions)
    assert report.digest != plain.digest


def test_an_audit_changes_the_input_in_twelve_ways(run, tmp_path):
    words = ("moving_average", "--bars", write_bars(tmp_path / "b.csv"), *SPAN, "--param", "fast=2")
    words += ("--param", "slow=5", "--audit")
    said = run(*words).stdout
    assert sum(" holds" in line or "does not apply" in line for line in said.splitlines()) == 12
    checks = orjson.loads(run(*words, "--json").stdout)["audit"]
    assert len(checks) == 12
    assert not [each for each in checks if each["holds"] is False]
    assert sum(each["holds"] is True for each in checks) >= 9


def test_a_strategy_that_knows_the_future_from_elsewhere_is_found_by_an_audit(run, tmp_path):
    bars = write_bars(tmp_path / "b.csv")
    (tmp_path / "peek.py").write_text(
        "LEFT = []\n"
        "def decide(view):\n"
        "    LEFT.append(view.at)\n"
        "    return {'SPY': 100 if len(LEFT) % 3 else 0}\n",
        encoding="utf-8",
    )
    done = run("./peek.py", "--bars", bars, *SPAN, "--audit")
    assert done.code == 1
    assert "what must follow does not: future_cut" in done.said


def test_a_strategy_of_ones_own_is_a_file(run, tmp_path):
    (tmp_path / "mine.py").write_text('"""Mine."""\ndef decide(view): return {"SPY": 50}\n', encoding="utf-8")
    words = ("--bars", write_bars(tmp_path / "b.csv"), *SPAN, "--json")
    assert BacktestReport.from_json(run("mine.py", *words).stdout.encode().strip()).title == "Mine."
    (tmp_path / "mine.py").write_text("def decide(view):\n    return {}[1]\n", encoding="utf-8")
    done = run("./mine.py", *words)
    assert done.code == 2
    assert done.said.startswith("mine.py: line 2: KeyError: 1 (at the close of 2024-01-01T21:00:00Z)")


def test_what_a_strategy_prints_is_no_part_of_the_json(run, tmp_path):
    text = "print('at first')\ndef decide(view): print('at a close')\n"
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    done = run("mine.py", "--bars", write_bars(tmp_path / "b.csv"), *SPAN, "--json")
    assert orjson.loads(done.stdout)["counts"]["fills"] == 0


@pytest.mark.live
def test_ctrl_c_ends_a_strategy_that_never_returns(tmp_path):
    (tmp_path / "mine.py").write_text(
        "def decide(view):\n    print('in it', flush=True)\n    while True: pass\n", encoding="utf-8"
    )
    words = ("backtest", "run", "./mine.py", "--bars", write_bars(tmp_path / "b.csv"), *SPAN)
    line = [sys.executable, "-m", "marketswarm", *words]
    with subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr.readline() == "in it\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
            assert process.stderr.read() == "marketswarm: interrupted: there is no report\n"
        finally:
            process.kill()


GOOD = "SPY,2024-01-02T14:30:00Z,2024-01-02T21:00:00Z,10,11,9,10,100"
NEXT = "SPY,2024-01-03T14:30:00Z,2024-01-03T21:00:00Z,10,11,9,10,100"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([GOOD.replace("10,11,9", "10,8,9")], "b.csv: line 2: open: is not between low and high"),
        ([GOOD.replace("10,11,9,10", "10,9,11,10")], "b.csv: line 2: open"),
        ([GOOD.replace("11", "NaN")], "b.csv: line 2: high: must be a decimal"),
        ([GOOD.replace("11", "inf")], "b.csv: line 2: high: must be a decimal"),
        ([GOOD, GOOD.replace("100", "101")], "b.csv: line 3: start: is there twice, with other numbers"),
        ([NEXT, GOOD], "b.csv: line 3: start: begins before the bar above it ends"),
        ([GOOD.replace("Z,10", ",10")], "b.csv: line 2: end: must be a time in UTC"),
        ([GOOD.replace("14:30:00Z", "14:30:00+01:00")], "b.csv: line 2: start: must be a time in UTC"),
        ([GOOD + ",5"], "b.csv: line 2: has 9 cells"),
        ([GOOD.replace(",100", ",-5")], "b.csv: line 2: volume: must not be below 0"),
        ([GOOD.replace("SPY", "S Y")], "b.csv: line 2: symbol"),
        ([GOOD.replace("SPY", "QQQ")], "b.csv: symbol: no bar of SPY; "),
        (['"SPY'], "b.csv: line 2: "),
        ([], "b.csv: symbol: no bar of SPY"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_line_and_field(run, tmp_path, lines, said):
    done = run("breakout", "--bars", write_bars(tmp_path / "b.csv", lines), *SPAN)
    assert done.code == 2
    assert done.said.startswith(said)


def test_other_files_are_refused(run, tmp_path, monkeypatch):
    (tmp_path / "b.csv").write_text(f"{HEADER},vwap\n", encoding="utf-8")
    assert "b.csv: line 1: unknown column 'vwap'" in run("breakout", "--bars", "b.csv", *SPAN).said
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    assert "is not UTF-8" in run("breakout", "--bars", "b.csv", *SPAN).said
    assert "none.csv: No such file" in run("breakout", "--bars", "none.csv", *SPAN).said
    monkeypatch.setattr(cases, "MAX_FILE_BYTES", 1)
    done = run("breakout", "--bars", "b.csv", *SPAN)
    assert (done.code, done.said) == (2, "b.csv: is larger than 1 bytes")


def test_a_file_of_more_than_a_gigabyte_is_refused_before_it_is_read(run, tmp_path):
    with (tmp_path / "b.csv").open("wb") as file:
        file.truncate(1_000_000_001)  # a hole: it takes no room
    assert run("breakout", "--bars", "b.csv", *SPAN).said == "b.csv: is larger than 1,000,000,000 bytes"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("--tick", "0"), "--tick"),
        (("--tick", "NaN"), "--tick"),
        (("--lot", "-1"), "--lot"),
        (("--session", "NOPE"), "session NOPE"),
        (("--cash", "0"), "account.cash"),
        (("--cash", "much"), "account.cash"),
        (("--leverage", "0"), "account.leverage"),
        (("--fee-percent", "-1"), "fee.percent"),
        (("--slippage", "0.6"), "account.slippage"),
        (("--slippage", "NaN"), "account.slippage"),
        (("--slippage-ticks", "1.5"), "account.slippage_ticks"),
        (("--fee-min", "inf"), "fee.min_per_order"),
        (("--timeframe", "2d"), "timeframe"),
        (("--adjust", "some"), "--adjust"),
        (("--from", "2024-01-01T00:00"), "from: must be a day"),
        (("--from", "2025-01-01"), "to: is before from"),
        (("--symbols", "SPY"), "symbols: one is there twice"),
        (("--symbols", "S Y"), "symbols"),
        (("--symbols", "QQQ"), "no bar of QQQ"),
        (("--param", "entry"), "--param 'entry': must be NAME=VALUE"),
        (("--param", "depth=5"), "no parameter 'depth'"),
        (("--param", "entry=NaN"), "entry: must be a whole number"),
        (("--html", "no/such/folder.html"), "no/such/folder.html: No such file"),
    ],
)
def test_wrong_options_are_refused_by_name(run, tmp_path, changed, said):
    done = run("breakout", "--bars", write_bars(tmp_path / "b.csv"), *SPAN, *changed)
    assert done.code == 2
    assert said in done.said


def test_without_a_fleet_and_a_file_it_says_what_to_do(run):
    done = run("breakout", *SPAN)
    assert done.code == 2
    assert "start the fleet" in done.said
    assert "no strategy 'nope'; there are: bracket, breakout" in run("nope", *SPAN).said


def test_json_has_all_fills(run, tmp_path):
    words = ("reversion", "--bars", write_bars(tmp_path / "b.csv"), *SPAN)
    words += ("--param", "bars=3", "--param", "deviations=0.1")
    document = orjson.loads(run(*words, "--json").stdout)
    assert len(document["fills"]) == document["counts"]["fills"] > 10


SPLIT = {"kind": "split", "symbol": "SPY", "at": "2024-01-05T14:30:00Z", "new": 2, "old": 1}
DIVIDEND = {"kind": "dividend", "symbol": "SPY", "at": "2024-01-04T14:30:00Z", "per_share": 0.5}


def test_splits_and_dividends_of_a_file_change_the_account(run, tmp_path):
    words = ("buy_and_hold", "--bars", write_bars(tmp_path / "b.csv"), *SPAN, "--json")
    (tmp_path / "a.json").write_bytes(orjson.dumps([SPLIT, DIVIDEND]))
    plain, changed = (orjson.loads(run(*words, *more).stdout) for more in ((), ("--actions", "a.json")))
    held = int(plain["fills"][0]["qty"])
    assert float(changed["totals"]["dividends"]) == held * 0.5
    assert float(changed["points"][4]["positions"]) == pytest.approx(
        2 * float(plain["points"][4]["positions"])
    )
    assert plain["digest"] != changed["digest"]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"{}", "a.json: the list: "),
        (b"[", "a.json: no JSON"),
        (orjson.dumps([{**SPLIT, "new": 0}]), "a.json: 0.split.new: "),
        (orjson.dumps([{**SPLIT, "more": 1}]), "a.json: 0.split.more: "),
        (orjson.dumps([SPLIT, {**DIVIDEND, "per_share": -1}]), "a.json: 1.dividend.per_share: "),
        (orjson.dumps([{**SPLIT, "at": "2024-01-05"}]), "a.json: 0.at: must be a time in UTC"),
        (orjson.dumps([{**SPLIT, "kind": "rename"}]), "a.json: 0: "),
        (b'[{"kind": NaN}]', "a.json: "),
    ],
)
def test_wrong_actions_are_told_with_their_place_and_field(run, tmp_path, document, said):
    (tmp_path / "a.json").write_bytes(document)
    done = run("breakout", "--bars", write_bars(tmp_path / "b.csv"), *SPAN, "--actions", "a.json")
    assert done.code == 2
    assert done.said.startswith(said)


def test_actions_of_a_file_are_for_bars_of_a_file(run, tmp_path):
    (tmp_path / "a.json").write_bytes(b"[]")
    assert "--actions: only with --bars" in run("breakout", *SPAN, "--actions", "a.json").said
    done = run("breakout", "--bars", write_bars(tmp_path / "b.csv"), *SPAN, "--actions", "none.json")
    assert done.said == "none.json: No such file or directory"
