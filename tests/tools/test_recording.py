"""tools/recording.py on files made here, in the form of its origins."""

import importlib.util
import sys
import zipfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "recording.py"
OPEN_MS = 34_200_000
"""Half past nine, as milliseconds of a day."""


@pytest.fixture(scope="module")
def tool():
    found = importlib.util.spec_from_file_location("recording_tool", TOOL)
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # dataclasses look there for their module
    found.loader.exec_module(module)
    yield module
    del sys.modules[found.name]


def write_zip(path, text, name="rows.csv"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, text)


def ms(*when):
    return round(datetime(*when, tzinfo=UTC).timestamp() * 1000)


def test_minutes_of_stocks_are_those_of_regular_hours_in_utc_and_in_dollars(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "MINUTE_STOCKS", {tool.STOCKS: (("SPY",), (date(2013, 10, 11),))})
    rows = [(OPEN_MS - 60_000, 1), (OPEN_MS, 2), (OPEN_MS + 60_000, 3), (OPEN_MS + 390 * 60_000, 4)]
    text = "".join(f"{at},1689500,1690000,1689000,1689{at % 7}50,{volume}\n" for at, volume in rows)
    write_zip(tmp_path / "equity/usa/minute/spy/20131011_trade.zip", text)
    quote = f"{OPEN_MS},1,2,0,1689400,10,3,4,2,1689600,20\n"
    write_zip(tmp_path / "equity/usa/minute/spy/20131011_quote.zip", quote)
    first, second = tool.read_stock_minutes(tmp_path, tool.STOCKS)
    # New York is four hours behind UTC in October
    assert (first["start"], second["start"]) == (ms(2013, 10, 11, 13, 30), ms(2013, 10, 11, 13, 31))
    assert (first["open"], first["high"], first["volume"]) == (168.95, 169, 2)
    assert (first["bid"], first["ask"]) == (168.94, 168.96)
    assert "bid" not in second


def test_a_day_is_known_when_the_exchange_closes_also_when_that_is_early(tool):
    early = tool.make_exchange_day("SPY", "stocks", date(2012, 11, 23), (1, 2, 0.5, 1.5, 7))
    assert (early["start"], early["known"]) == (ms(2012, 11, 23, 14, 30), ms(2012, 11, 23, 18, 0))
    assert (early["close"], early["volume"]) == (1.5, 7)


def test_the_trading_days_of_a_pair_are_put_together_from_seventeen_to_seventeen(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "MINUTE_PAIRS", {"EUR/USD": ("forex", "forex/oanda")})
    monkeypatch.setattr(tool, "PAIR_DAYS", (date(2014, 5, 7),))
    hours = [("20140505 20:00", 1.5), ("20140505 21:00", 1.25), ("20140506 20:00", 1.75)]
    text = "".join(f"{at},{bid},{bid + 0.5},{bid - 0.5},{bid},0,9,9,9,9,0\n" for at, bid in hours)
    write_zip(tmp_path / "forex/oanda/hour/eurusd.zip", text)
    # the hours of a day that has minutes do not count
    minute = "0,2.5,2.75,2.25,2.5,0,9,9,9,2.625,0\n"
    write_zip(tmp_path / "forex/oanda/minute/eurusd/20140507_quote.zip", minute)
    before, day, last = tool.make_pair_days(tmp_path)
    assert before["known"] == day["start"] == ms(2014, 5, 5, 21, 0)
    assert [day[name] for name in ("open", "high", "low", "close")] == [1.25, 2.25, 0.75, 1.75]
    assert (last["start"], last["close"]) == (ms(2014, 5, 6, 21, 0), 2.5)


def test_a_dividend_is_what_its_factor_takes_from_the_close_before_and_a_split_has_a_factor_of_its_own(
    tool, tmp_path, monkeypatch
):
    monkeypatch.setattr(tool, "DAILY_STOCKS", {tool.STOCKS: ("AAPL", "FB")})  # FB has no such file
    folder = tmp_path / "equity/usa/factor_files"
    folder.mkdir(parents=True)
    rows = (
        "20110501,0.8,0.5,600",  # before the recording
        "20120810,0.8613657,0.5,619.86",  # a Friday
        "20130607,0.8650639,0.5,582.86",
        "20131231,0.8650639,1,500",
        "20501231,1,1,0",
    )
    (folder / "aapl.csv").write_text("\n".join(rows))
    dividend, split = tool.read_actions(tmp_path, tool.STOCKS)
    assert (dividend["ex_day"], dividend["action"], dividend["amount"]) == ("2012-08-13", "dividend", 2.65)
    assert (split["ex_day"], split["action"], split["ratio"]) == ("2013-06-10", "split", 2)
    assert split["known"] == tool.known_ms(split) == ms(2013, 6, 10)


@pytest.mark.parametrize(("names", "pick"), [((), ""), (("a.csv", "b.csv"), ""), (("a.csv",), "b")])
def test_an_archive_without_the_one_file_is_refused(tool, tmp_path, names, pick):
    path = tmp_path / "some.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "1,2\n")
    with pytest.raises(ValueError, match=r"some\.zip: \d files"):
        tool.read_zip(path, pick)


def test_rows_are_in_the_order_in_which_they_were_known(tool):
    minute = tool.make_bar("SPY", "stocks", "1m", tool.STOCKS.play_from, (1, 1, 1, 1))
    day = tool.make_bar("SPY", "stocks", "1d", tool.STOCKS.play_from - timedelta(days=1), (1, 1, 1, 1))
    assert tool.known_ms(day) == tool.epoch_ms(tool.STOCKS.play_from)
    assert tool.known_ms(minute) == tool.known_ms(day) + 60_000
