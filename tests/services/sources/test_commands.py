"""`marketswarm source …` as a user runs it, at a stand-in that answers as Kraken and FRED document it."""

import json
import time
from datetime import date

import orjson
import pytest

from marketswarm.cli.local_time import format_moment
from marketswarm.exit import Mistake
from services.sources.access.trial import encode_report, try_sources
from services.sources.access.tried import read_tried, write_tried
from services.sources.catalog.files import shipped_catalog
from services.sources.commands import describe_status, select_status, update_status
from support.rig.receiver import Answer, Receiver
from support.rig.shell import Shell

pytestmark = pytest.mark.live
NOW = 1000.0
MINE = """\
name = "mine"
title = "A source of mine"
docs = ["https://example.org/api"]
base_url = "https://api.example.org"

[serves.rates]
kind = "observations"
assets = ["economic"]
path = "/rates/{symbol}"

[serves.rates.fields]
start = { path = "day", format = "%d.%m.%Y" }
value = { path = "rate" }
"""
"""A source of one's own, as a file."""


def kraken(request):
    """Answer as Kraken does: with the bars of the last ten minutes, or the ticker."""
    now = int(time.time()) // 60 * 60
    bars = [[now - 60 * n, "1", "3", "0.5", "2", "1.5", "10", 4] for n in range(10, 0, -1)]
    ticker = {"a": ["2.1", "1", "1"], "b": ["1.9", "1", "1"], "c": ["2", "1"], "v": ["5", "9"]}
    found = {"XXBTZUSD": bars, "last": now} if "/OHLC" in request.path else {"XXBTZUSD": ticker}
    return Answer(200, {}, orjson.dumps({"error": [], "result": found}))


@pytest.fixture
def site():
    with Receiver() as site:
        site.choose = kraken
        yield site


@pytest.fixture
def shell(tmp_path):
    return Shell(tmp_path)


def base(site):
    return "--base-url", f"http://127.0.0.1:{site.port}/"


def test_a_source_that_answers_as_its_file_says_is_tried_with_code_0(shell, site):
    ended = shell("source", "try", "kraken", "BTC/USD", *base(site))
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout
    lines = ended.stdout.splitlines()
    assert lines[0] == "✓ bars: bars of BTC/USD in 1m: ok, 10 records"
    assert lines[1].startswith("    asked https://api.kraken.com/0/public/OHLC?pair=XBTUSD&interval=1: 200, ")
    assert "open 1 high 3 low 0.5 close 2 volume 10" in lines[2]
    assert any(line.startswith("✓ quote: quotes of BTC/USD: ok, 1 records") for line in lines)


def test_what_does_not_fit_is_shown_with_code_1_and_the_answer_on_request(shell, site):
    site.choose, bars = None, [[1, "x", "3", "0.5", "2", "1.5", "10", 4]]
    site.always = Answer(200, {}, orjson.dumps({"error": [], "result": {"XXBTZUSD": bars, "last": 1}}))
    ended = shell("source", "try", "kraken", "--only", "bars", "--raw", *base(site))
    assert ended.returncode == 1
    assert "✗ bars: bars of BTC/USD in 1m: failed, no row fits" in ended.stdout
    assert '"XXBTZUSD":[[1,"x"' in ended.stdout
    told = orjson.loads(shell("source", "try", "kraken", "--only", "bars", "--json", *base(site)).stdout)
    assert [(each["endpoint"], each["outcome"]) for each in told] == [("bars", "failed")]


def test_a_key_is_needed_where_the_file_says_so_and_never_shown(shell, site):
    ended = shell("source", "try", "fred", *base(site))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "marketswarm: fred needs a key: put it into FRED_API_KEY\n"
    shell.env["FRED_API_KEY"] = "s3cret-key"
    site.choose = None
    site.always = Answer(400, {}, b'{"error_message": "The api_key s3cret-key is not registered"}')
    ended = shell("source", "try", "fred", "US.CPI", "--raw", *base(site))
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "The api_key KEY is not registered" in ended.stdout
    assert "s3cret-key" not in ended.stdout
    assert "api_key=s3cret-key" in site.seen[-1].path


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://proxy.example/fred", "must be https://, since keys are sent there"),
        ("ftp://127.0.0.1/", "must be https://host"),
        ("127.0.0.1", "must be https://host"),
        ("https://u@x.example", "must have no user"),
    ],
)
def test_a_key_is_sent_to_no_address_in_plain_text(shell, url, why):
    shell.env["FRED_API_KEY"] = "s3cret-key"
    ended = shell("source", "try", "fred", "--base-url", url)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"marketswarm: --base-url: {why}")


def test_a_file_of_ones_own_is_tried_as_those_of_the_catalogue(shell, site, tmp_path):
    (tmp_path / "mine.toml").write_text(MINE, encoding="utf-8")
    site.choose, site.always = None, Answer(200, {}, b'[{"day": "20.11.2026", "rate": "1.25"}]')
    ended = shell("source", "try", "mine.toml", "EU.RATE", *base(site))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "first 2026-11-20 00:00:00 value 1.25" in ended.stdout
    (tmp_path / "mine.toml").write_text("name = 'mine'\n", encoding="utf-8")
    ended = shell("source", "show", "mine.toml")
    assert ended.returncode == 2
    assert "mine.toml: title: Field required" in ended.stderr


def test_the_catalogue_is_listed_and_each_source_shown(shell):
    listed = orjson.loads(shell("source", "list", "--json").stdout)
    assert {"kraken", "fred", "massive"} <= {each["name"] for each in listed}
    assert len(shell("source", "list").stdout.splitlines()) > 50
    shown = shell("source", "show", "kraken")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "  mapped by https://" in shown.stdout
    assert "  limits: 1 a second" in shown.stdout
    ended = shell("source", "show", "krakn")
    assert (ended.returncode, ended.stderr) == (
        2,
        "marketswarm: there is no source krakn; did you mean kraken?\n",
    )
    assert shell("source", "try", "kraken", "US.CPI").returncode == 2


@pytest.mark.parametrize(
    ("stored", "status", "words"),
    [
        ({"status": "fresh", "fresh_until": 1000.0}, "fresh", "fresh"),
        ({"status": "closed", "fresh_until": 1000.0}, "closed", "closed"),
        ({"status": "fresh", "fresh_until": 940.0}, "late", f"late since {format_moment(940.0, NOW)}"),
        ({"status": "closed", "fresh_until": 940.0}, "late", f"late since {format_moment(940.0, NOW)}"),
        ({"status": "failed", "fresh_until": 940.0}, "failed", f"failed since {format_moment(940.0, NOW)}"),
        ({"status": "failed", "fresh_until": 0.0}, "failed", "failed"),
        ({"status": "fresh", "fresh_until": "soon"}, "late", "late"),
        ({}, None, ""),
    ],
)
def test_the_status_of_a_series_is_that_of_now_and_not_of_its_last_load(stored, status, words):
    series = update_status(stored, NOW)
    assert (series["status"], describe_status(series, NOW)) == (status, words)


def test_a_source_that_no_series_names_is_refused_with_the_nearest_name():
    series = {"name": "BTC/USD:bars:1m", "from": ["kraken", "okx"]}
    view = {"sources": [{"name": "kraken"}], "series": [series]}
    assert select_status(view, "okx", None)["series"] == [series]
    with pytest.raises(Mistake, match=r"no series names krakn; did you mean kraken\?"):
        select_status(view, "krakn", None)


def test_symbols_are_listed_added_and_disabled_in_the_truth_file(shell, tmp_path):
    truth = tmp_path / "truth.json"
    crypto = {"symbols": ["BTC/USD"], "asset": "crypto", "from": ["kraken"]}
    truth.write_text(json.dumps({"services": {"sources": {"endpoints": [crypto]}}}, indent=2))
    refused = shell("symbol", "add", "ETH/USD", "--yes")
    assert (refused.returncode, refused.stderr) == (
        2,
        "marketswarm: ETH/USD is a pair: say --asset crypto, forex or commodities\n",
    )
    refused = shell("symbol", "add", "BTC/MOON", "--like", "BTC/USD", "--timeframe", "1d")
    assert (refused.returncode, refused.stderr.count("say --from, too")) == (2, 1)
    added = shell("symbol", "add", "ETH/USD", "--asset", "crypto", "--yes")
    assert added.returncode == 0, added.stderr
    assert '"ETH/USD"' in added.stdout
    assert shell("symbol", "disable", "BTC/USD", "--yes").returncode == 0
    listed = orjson.loads(shell("symbol", "list", "--truth", "truth.json", "--json").stdout)
    shown = {"asset": "crypto", "group": None, "series": ["1m"], "from": ["kraken"]}
    assert listed == [
        {"symbol": "BTC/USD", **shown, "disabled": True},
        {"symbol": "ETH/USD", **shown, "disabled": False},
    ]


@pytest.mark.parametrize("symbol", ["US.CPI", "GD"])  # the second stands within the text of the truth
def test_a_symbol_that_no_source_of_its_model_serves_is_refused_with_sources_that_do(shell, tmp_path, symbol):
    entry = {"symbol": "GDP", "asset": "crypto", "from": ["binance_us"]}
    (tmp_path / "truth.json").write_text(json.dumps({"services": {"sources": {"endpoints": [entry]}}}))
    refused = shell("symbol", "add", symbol, "--like", "GDP", "--yes")
    assert refused.returncode == 2
    assert f"binance_us: not known to have bars of 1m of {symbol}" in refused.stderr


def test_a_symbol_whose_source_has_a_file_of_ones_own_is_added(shell, tmp_path):
    entry = {"symbol": "EU.RATE", "asset": "economic", "kind": "observations", "from": ["mine"]}
    sources = {"endpoints": [entry], "settings": {"catalog": "mine"}}
    (tmp_path / "truth.json").write_text(json.dumps({"services": {"sources": sources}}))
    (tmp_path / "mine").mkdir()
    only = '[symbols.economic]\nonly = true\nnames = { "EU.RATE" = "R", "EU.OTHER" = "O" }\n'
    (tmp_path / "mine" / "mine.toml").write_text(f"{MINE}\n{only}", encoding="utf-8")
    refused = shell("symbol", "add", "EU.NONE", "--like", "EU.RATE", "--yes")
    assert (refused.returncode, refused.stderr.count("mine: not known to have observations")) == (2, 1)
    added = shell("symbol", "add", "EU.OTHER", "--like", "EU.RATE", "--yes")
    assert added.returncode == 0, added.stderr
    (tmp_path / "mine").rename(tmp_path / "elsewhere")  # it may be on the machine of the service alone
    added = shell("symbol", "add", "EU.NONE", "--like", "EU.RATE", "--yes")
    assert added.returncode == 0, added.stderr


async def test_several_sources_are_tried_at_a_time_with_a_report_of_each(site):
    """Each is found at a stand-in that speaks as Kraken does, so one of them fits."""
    sources = [shipped_catalog()[name] for name in ("kraken", "coinbase", "world_bank")]
    urls, notes = {each.name: f"http://127.0.0.1:{site.port}" for each in sources}, []
    reports = await try_sources(sources, {}, urls, notes.append)
    assert [(each.source, each.is_good) for each in reports] == [
        ("kraken", True),
        ("coinbase", False),
        ("world_bank", False),
    ]
    assert reports[0].why == ""
    assert reports[1].why.startswith("bars: failed, ")
    assert encode_report(reports[0])["fits"]
    assert [note.split(":")[0] for note in notes] == ["1 of 3", "2 of 3", "3 of 3"]


def test_all_sources_are_tried_without_a_name_and_without_other_options(shell):
    for words in (("--all", "kraken"), ("--all", "--raw"), ()):
        refused = shell("source", "try", *words)
        assert (refused.returncode, refused.stderr.count("or say --all")) == (2, 1)


def test_a_source_is_noted_as_tried_with_its_day_and_those_before_stay(tmp_path):
    write_tried(tmp_path / "data", ["kraken", "fred"], date(2026, 11, 1))
    write_tried(tmp_path / "data", ["kraken"], date(2026, 11, 29))
    assert read_tried(tmp_path / "data") == {"fred": "2026-11-01", "kraken": "2026-11-29"}
    (tmp_path / "data" / "tried.toml").write_text('kraken = 5\n[fred]\ntried = "soon"\n', encoding="utf-8")
    assert read_tried(tmp_path / "data") == {}
