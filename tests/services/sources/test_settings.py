"""What a truth may say of the market's series."""

import orjson
import pytest

from marketswarm.agent.service_config import list_warnings, require_config
from marketswarm.exit import Exit
from marketswarm.fleet.environment import make_child_environ
from marketswarm.settings import read_settings
from marketswarm.truth import Heartbeat, Service, parse_truth
from services.market.records import AssetClass, RecordKind
from services.sources.cascade.missing_keys import is_stream
from services.sources.cascade.series import list_series
from services.sources.catalog.files import load_catalog
from services.sources.settings import (
    SourcesEnvironment,
    SourcesSettings,
    is_stream_of_massive,
    list_key_variables,
)


def section(*endpoints, **settings):
    return Service(heartbeat=Heartbeat(channel="x"), endpoints=list(endpoints), settings=settings)


def refuse(*endpoints, **settings):
    """The message with which a section is refused."""
    with pytest.raises(Exit) as caught:
        require_config(SourcesSettings, "sources", section(*endpoints, **settings))
    return caught.value.message


SPY = {"symbol": "SPY", "from": ["massive", "tiingo"]}
ALONE = {**SPY, "from": ["massive"]}


@pytest.mark.parametrize(
    ("endpoints", "problem"),
    [
        ([{"symbol": "SPY"}], "endpoints[0].from: missing"),
        ([{"symbol": "SPY", "from": []}], "endpoints[0].from: "),
        (
            [{"symbol": "SPY", "from": ["yaho"]}],
            "endpoints[0].from[0]: yaho is no source; did you mean yahoo?; `marketswarm source list`",
        ),
        (
            [{"symbol": "SPY", "from": ["yahoo", "replay"]}],
            "endpoints[0].from[1]: replay is no source; `mark",
        ),
        ([{"symbol": "SPY", "from": ["a1b2c3d4e5"]}], "endpoints[0].from[0]: is no source"),
        ([{"symbol": "SPY", "from": ["yahoo", "yahoo"]}], "endpoints[0].from: names a source twice"),
        ([{"from": ["yahoo"]}], "endpoints[0].symbol: give either"),
        ([{**SPY, "symbols": ["QQQ"]}], "endpoints[0].symbol: give either"),
        ([{**SPY, "symbol": "S P Y"}], "endpoints[0].symbol: must be a symbol"),
        ([{**SPY, "timeframe": "7m"}], "endpoints[0].timeframe: must be one of 1m"),
        ([{**SPY, "session": "../etc"}], "endpoints[0].session: must be 24x7"),
        ([SPY, {**SPY, "from": ["tiingo"]}], "endpoints[1]: SPY is a series of endpoints[0] already"),
        ([{**SPY, "separate": True}], "endpoints[0].separate: needs one source in `from`"),
        ([{**ALONE, "separate": True, "kind": "quotes"}], "endpoints[0].separate: only bars are kept by"),
        (
            [SPY, {**ALONE, "separate": True}, {**ALONE, "separate": True}],
            "endpoints[2]: SPY is a series of endpoints[1] already",
        ),
        (
            [{"symbol": "BTC/USD", "asset": "crypto", "kind": "actions", "from": ["yahoo"]}],
            "endpoints[0].kind: only stocks",
        ),
        ([{"symbols": ["A", "A"], "from": ["yahoo"]}], "endpoints[0]: A is a series of endpoints[0] already"),
    ],
)
def test_a_mistake_in_a_series_is_named_with_its_place(endpoints, problem):
    assert f"services.sources.{problem}" in refuse(*endpoints)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"load": {"refresh": "often"}}, "load.refresh: is neither a cron expression"),
        ({"load": {"concurrency": 0}}, "load.concurrency: 0 is less than 1"),
        ({"limits": {"massive": {"per_minute": 0}}}, "limits.massive.per_minute: 0 is less than 1"),
        ({"limits": {"massive": {"per_min": 5}}}, "limits.massive.per_min: "),
        ({"limits": {"massiv": {"per_minute": 5}}}, "limits: massiv is no source; did you mean massive?"),
        ({"failures": {"kraken": {"recovery_sec": 0}}}, "failures.kraken.recovery_sec: 0 is less than 1"),
        ({"failures": {"kraken": {"retry": 1}}}, "failures.kraken.retry: "),
        ({"failures": {"kraken": {"retries": 6}}}, "failures.kraken.retries: 6 is more than 5"),
        ({"failures": {"krakn": {}}}, "failures: krakn is no source; did you mean kraken?"),
        ({"catalog": "/etc"}, "catalog: must be below the working directory"),
        ({"catalog": "x/../.."}, "catalog: must be below the working directory"),
        ({"gate": {"share": 1.5}}, "gate.share: 1.5 is more than 1"),
        ({"replay": {"file": "x.jsonl.gz", "names": ["Up"]}}, "replay.names: must be different names"),
        ({"replay": {"file": "/etc/shadow"}}, "replay.file: must be below the working directory"),
        ({"replay": {"file": "x/../../a.jsonl.gz"}}, "replay.file: must be below the working directory"),
        ({"replay": {"file": ".marketswarm/a.jsonl.gz"}}, "replay.file: must be below the working directory"),
        ({"replay": {"file": "pyproject.toml"}}, "replay.file: must end in .jsonl.gz or .jsonl"),
        ({"replay": {"file": "x.jsonl.gz", "speed": 0}}, "replay.speed: 0 is not more than 0"),
    ],
)
def test_a_mistake_in_the_settings_is_named_with_its_place(settings, problem):
    assert f"services.sources.settings.{problem}" in refuse(SPY, **settings)


def test_a_recording_has_names_that_series_may_use():
    replay = {"file": "day.jsonl.gz", "names": ["replay_a", "replay_b"]}
    config = require_config(
        SourcesSettings, "sources", section({"symbol": "SPY", "from": ["replay_b"]}, replay=replay)
    )
    assert config.endpoints[0].sources == ("replay_b",)


def test_a_source_that_does_not_serve_a_series_is_a_warning():
    found = list_warnings(
        require_config(
            SourcesSettings,
            "sources",
            section(ALONE, {"symbol": "EUR/USD", "asset": "forex", "from": ["yahoo", "fred", "kraken"]}),
        ),
        "sources",
    )
    assert [str(each) for each in found] == [
        "services.sources.endpoints[1].from[1]: fred does not serve EUR/USD: bars of forex in 1m",
        "services.sources.endpoints[1].from[2]: kraken does not serve EUR/USD: bars of forex in 1m",
    ]


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (
            {"from": ["massive", "yahoo"]},
            "from[1]: yahoo has prices adjusted for splits, and massive raw prices: one series",
        ),
        (
            {"from": ["tiingo", "massive", "stooq"], "timeframe": "1d"},
            "from[2]: stooq has prices adjusted for splits and dividends, and tiingo raw prices",
        ),
        (
            {"from": ["finnhub", "stooq"], "timeframe": "1d"},
            "from[1]: stooq has prices adjusted for splits and",
        ),
        (
            {"from": ["yahoo", "fred", "replay", "tiingo"], "timeframe": "1d"},
            "from[3]: tiingo has raw prices, and yahoo prices",
        ),
    ],
)
def test_a_cascade_that_mixes_raw_and_adjusted_prices_is_refused_with_its_place(entry, problem):
    replay = {"file": "day.jsonl.gz"}
    assert f"services.sources.endpoints[1].{problem}" in refuse(SPY, {"symbol": "X", **entry}, replay=replay)


@pytest.mark.parametrize(
    "entry",
    [
        {"from": ["massive", "tiingo", "alpaca"]},
        {"from": ["finnhub", "tiingo"], "timeframe": "5m"},
        {"from": ["finnhub", "yahoo"], "timeframe": "1d"},
        {"symbol": "EUR/USD", "asset": "forex", "from": ["yahoo", "massive"]},
        {"kind": "quotes", "from": ["yahoo", "tiingo"]},
        {"from": ["yahoo", "kraken", "replay"]},
    ],
)
def test_a_cascade_of_prices_of_one_kind_is_taken(entry):
    replay = {"file": "day.jsonl.gz"}
    require_config(SourcesSettings, "sources", section({"symbol": "X", **entry}, replay=replay))


def test_a_stock_whose_days_are_adjusted_and_its_minutes_are_not_is_a_warning():
    days = {"symbols": ["QQQ", "SPY"], "timeframe": "1d", "from": ["yahoo"]}
    others = {"symbol": "IWM", "timeframe": "1d", "from": ["yahoo"]}
    config = require_config(SourcesSettings, "sources", section(ALONE, days, others))
    (warning,) = [str(each) for each in list_warnings(config, "sources")]
    assert warning.startswith("services.sources.endpoints[1].from: prices adjusted for splits of SPY, and")
    assert "in endpoints[0]: after a split bars" in warning


def test_a_cascade_whose_sources_count_the_trades_of_other_markets_is_a_warning():
    def warn(**entry):
        config = require_config(SourcesSettings, "sources", section(entry))
        return [str(each) for each in list_warnings(config, "sources")]

    (found,) = warn(symbol="SPY", **{"from": ["massive", "tiingo", "alpaca"]})
    assert found.startswith("services.sources.endpoints[0].from: volumes of two kinds, which make no sum: ")
    assert found.endswith("massive consolidated, tiingo venue, alpaca venue")
    assert warn(symbol="SPY", **{"from": ["tiingo", "alpaca"]}) == []
    assert warn(symbol="BTC/USD", asset="crypto", **{"from": ["kraken", "coinbase"]}) == []
    assert len(warn(symbol="BTC/USD", asset="crypto", **{"from": ["kraken", "yahoo"]})) == 1
    assert warn(symbol="EUR/USD", asset="forex", **{"from": ["massive", "oanda", "yahoo"]}) == []


def test_massive_stands_for_its_stream_for_minutes_of_stocks_alone():
    assert is_stream_of_massive("massive", RecordKind.BARS, "1m", AssetClass.STOCKS)
    assert not is_stream_of_massive("massive", RecordKind.BARS, "1d", AssetClass.STOCKS)
    assert not is_stream_of_massive("massive", RecordKind.BARS, "1m", AssetClass.CRYPTO)
    assert not is_stream_of_massive("yahoo", RecordKind.BARS, "1m", AssetClass.STOCKS)


def test_the_keys_of_all_sources_are_declared_so_that_a_fleet_passes_them_on():
    assert {"FRED_API_KEY", "APCA_API_SECRET_KEY", "MARKETDATA_TOKEN"} <= list_key_variables()
    assert SourcesSettings.variables >= list_key_variables() | {"SOURCES_BASE_URLS"}
    assert not any(name.startswith(("SLACK", "NOTIFY")) for name in SourcesSettings.variables)


def test_another_place_for_a_source_is_one_where_a_key_may_go(monkeypatch):
    monkeypatch.setenv(
        "SOURCES_BASE_URLS",
        '{"yahoo": "https://proxy.example/y/", "fred": "http://127.0.0.1:8", "binance_stream": "wss://x.example"}',
    )
    assert read_settings(SourcesEnvironment).sources_base_urls == {
        "yahoo": "https://proxy.example/y",
        "fred": "http://127.0.0.1:8",
        "binance_stream": "wss://x.example",
    }


@pytest.mark.parametrize(
    "value",
    [
        "{",
        "[]",
        '{"a": 1}',
        '{"a": "http://10.0.0.1"}',
        '{"a": "https://u:p@x"}',
        '{"a": "ftp://x"}',
        '{"a": "wss://x.example"}',
        '{"a_stream": "https://x.example"}',
        '{"a_stream": "ws://10.0.0.1"}',
    ],
)
def test_a_place_where_no_key_may_go_is_refused_and_not_repeated(monkeypatch, value):
    monkeypatch.setenv("SOURCES_BASE_URLS", value)
    with pytest.raises(Exit, match="SOURCES_BASE_URLS") as caught:
        read_settings(SourcesEnvironment)
    assert "u:p" not in caught.value.message


@pytest.mark.parametrize(
    ("entry", "least", "most"),
    [
        ({"asset": "crypto"}, 7200, 7300),  # five days of 1440 minutes
        ({}, 1950, 5000),  # of stocks five sessions; some sources have the hours before and after them
        ({"asset": "forex"}, 5 * 1440 - 1, 7500),
        ({"timeframe": "1d"}, 502, 540),
        ({"timeframe": "4h", "asset": "crypto"}, 1080, 1090),
        ({"kind": "observations", "asset": "economic"}, 3650, 3660),
        ({"kind": "quotes"}, 1, 1),
        ({"kind": "actions"}, 100, 300),
    ],
)
def test_how_much_a_first_load_brings_is_known_before(entry, least, most):
    config = SourcesSettings.model_validate({"endpoints": [{"symbol": "X", "from": ["yahoo"], **entry}]})
    assert least <= config.first_loads[config.endpoints[0].kind] <= most


@pytest.mark.parametrize("timeframe", ["1w", "1mo"])
def test_a_series_of_weeks_or_months_is_refused_since_they_are_built_of_days(timeframe):
    entry = {"symbol": "SPY", "from": ["yahoo"], "timeframe": timeframe}
    with pytest.raises(ValueError, match="bars builds weeks and months of a series of 1d"):
        SourcesSettings.model_validate({"endpoints": [entry]})
    assert (
        SourcesSettings.model_validate({"endpoints": [entry | {"timeframe": "30m"}]}).endpoints[0].days == 50
    )


@pytest.mark.parametrize("timeframe", ["2m", "2h", ""])
def test_a_series_of_bars_that_the_service_bars_can_not_take_is_refused(timeframe):
    entry = {"symbol": "SPY", "from": ["yahoo"], "timeframe": timeframe}
    with pytest.raises(ValueError, match="must be one of 1m, 5m, 15m, 30m, 1h, 4h, 1d"):
        SourcesSettings.model_validate({"endpoints": [entry]})


def test_a_stream_holds_the_first_loads_of_all_series_and_a_long_one_is_a_warning():
    def configure(count, **keep):
        symbols = [f"S{number}/USD" for number in range(count)]
        entry = {"symbols": symbols, "asset": "crypto", "from": ["kraken"]}
        return SourcesSettings.model_validate({"endpoints": [entry], "settings": {"keep": keep}})

    few, many = configure(20), configure(500)
    assert (few.work.keep.bars, few.work.keep.quotes) == (200_000, 100_000)
    assert many.work.keep.bars == many.first_loads[RecordKind.BARS] >= 500 * 7200
    assert few.work.gate == few.settings.gate
    assert list_warnings(few, "sources") == []
    (warning,) = list_warnings(many, "sources")
    assert str(warning).startswith(
        "services.sources.settings.keep.bars: the stream is so long for the first loads"
    )
    assert "3,600,500 entries, 756 MB" in str(warning)
    assert list_warnings(configure(500, bars=4_000_000), "sources") == [], "somebody knows"


def test_a_session_that_no_calendar_has_is_a_warning():
    def warn(session):
        entry = {"symbol": "SPY", "from": ["yahoo"], "session": session}
        config = SourcesSettings.model_validate({"endpoints": [entry]})
        return [str(each) for each in list_warnings(config, "sources")]

    assert warn("XNYS") == warn("24x5") == warn("XLON") == []
    (unknown,) = warn("XNYX")
    assert unknown.startswith(
        "services.sources.endpoints[0].session: session XNYX: exchange_calendars knows no"
    )
    assert unknown.endswith("it counts as always open")


@pytest.fixture
def warn():
    """The warnings of a truth with these symbols of sources and of bars, and the points of other services."""

    def list_of(
        ours, theirs, kind="bars", subscribe_to=(), *, entry=(), settings=(), more=None, without=(), **others
    ):
        days = [{"symbols": ours, "timeframe": "1d", "from": ["yahoo"]}] if kind == "bars" else []
        sources = {
            "access_points": {"publish_to": [{"bus": "market-redis", "key": "market:bars"}]},
            "endpoints": [
                {"symbols": ours, "kind": kind, "from": ["yahoo"], **dict(entry)},
                *(days if more is None else more),
            ],
            "settings": dict(settings),
        }
        points = {"subscribe_to": list(subscribe_to)}
        bars = {"access_points": points, "endpoints": theirs, "settings": {"without": list(without)}}
        document = {"services": {"sources": sources, "bars": bars, **others}}
        truth = parse_truth(orjson.dumps(document)).truth
        config = require_config(SourcesSettings, "sources", truth.services["sources"])
        return [str(each) for each in list_warnings(config, "sources", truth)]

    return list_of


def test_a_symbol_that_only_bars_names_is_a_warning_and_one_that_only_sources_names_is_taken(warn):
    assert warn(["SPY", "QQQ"], []) == warn(["SPY", "QQQ"], [{"symbols": ["SPY"]}]) == []
    assert warn(["SPY"], [{"symbols": ["SPY", "IBM"]}]) == [
        "services.sources.endpoints: bars names IBM, and no series here brings their bars"
    ]
    assert warn(["SPY"], [{"symbols": ["SPY"], "quotes": True}], kind="quotes") == []
    assert warn(["SPY"], [{"symbols": ["SPY"]}], kind="actions") == [
        "services.sources.endpoints: bars names SPY, and no series here brings their bars"
    ]


CLOSE = (
    "minutes without a series of days: the close of a day is that of its last minute, and not the official "
    "one of the closing auction; add a series of 1d"
)


def test_a_stock_with_minutes_and_no_days_is_a_warning_once_for_each_cascade(warn):
    days = {"symbols": ["IBM"], "timeframe": "1d", "from": ["yahoo"]}
    named = ["SPY", "IBM", *(f"S{n}" for n in range(100))]
    single = [{"symbol": f"T{n}", "from": ["yahoo"]} for n in range(100)]
    other = {"symbols": ["QQQ", "DIA"], "from": ["tiingo"]}
    assert warn(named, [], more=[days, *single, other]) == [
        f"services.sources.endpoints[0]: SPY, S0, S1, S2, S3 and 196 more: {CLOSE}",
        f"services.sources.endpoints[102]: QQQ, DIA: {CLOSE}",
    ]
    for fine in (
        {"entry": {"timeframe": "1h"}},
        {"entry": {"asset": "crypto", "from": ["kraken"]}, "ours": ["BTC/USD"]},
        {"settings": {"disabled": ["SPY"]}},
        {"without": ["SPY"]},
    ):
        assert warn(**{"ours": ["SPY"], "theirs": [], "more": [], **fine}) == [], fine
    assert len(warn(["SPY"], [], more=[{**days, "symbols": ["SPY"], "kind": "actions"}])) == 1


def test_a_disabled_symbol_is_not_loaded_and_named_in_vain_nowhere(warn):
    entry = {"symbols": ["SPY", "QQQ"], "from": ["yahoo"]}
    config = SourcesSettings.model_validate({"endpoints": [entry], "settings": {"disabled": ["QQQ", "IBM"]}})
    assert [each.symbol for each in list_series(config)] == ["SPY"]
    assert [str(each) for each in list_warnings(config, "sources")] == [
        "services.sources.settings.disabled: no series has IBM"
    ]
    named = [{"symbols": ["SPY", "QQQ"]}]
    assert warn(["SPY", "QQQ"], named, settings={"disabled": ["QQQ"]}) == []


def test_a_first_load_of_more_minutes_than_bars_takes_is_a_warning(warn):
    taken = [{"symbols": ["SPY"]}]
    assert warn(["SPY"], taken, entry={"history_days": 5}) == []
    (found,) = warn(["SPY"], taken, entry={"history_days": 30})
    assert found.startswith("services.sources.endpoints[0].history_days: bars takes minutes of 6 days")
    assert found.endswith("set its `revise_days` above 30")
    assert warn(["SPY"], taken, entry={"history_days": 30, "timeframe": "5m"}) == []


def test_a_writer_of_the_same_stream_that_wants_more_of_it_is_a_warning(warn):
    point = {"publish_to": [{"bus": "market-redis", "key": "market:bars"}]}
    massive = {"access_points": point, "settings": {"market": {"keep": 500_000}}}
    (found,) = warn(["SPY"], [{"symbols": ["SPY"]}], massive=massive)
    assert found.startswith("services.sources.settings.keep.bars: massive writes to market:bars, too")
    massive["settings"]["market"]["keep"] = 150_000
    assert warn(["SPY"], [{"symbols": ["SPY"]}], massive=massive) == []


def test_another_stream_and_another_writer_are_no_concern_of_sources(warn):
    elsewhere = [{"bus": "market-redis", "key": "own:bars"}]
    assert warn(["SPY"], [{"symbols": ["IBM"]}], subscribe_to=elsewhere) == []
    massive = {"access_points": {"publish_to": [{"bus": "market-redis", "key": "market:bars"}]}}
    assert warn(["SPY"], [{"symbols": ["SPY", "IBM"]}], massive=massive) == []
    assert warn(["SPY"], ["odd", {"symbols": 5}, {"symbols": [5, "SPY", "\x00"]}]) == []


OWN = """\
name = "my_bank"
title = "A bank of mine"
docs = ["https://example.org/api"]
base_url = "https://api.example.org"

[auth]
place = "header"
name = "X-Key"
env = "MY_BANK_KEY"

[serves.rates]
kind = "observations"
assets = ["economic"]
path = "/rates/{symbol}"

[serves.rates.fields]
start = { path = "day", format = "period" }
value = { path = "rate" }
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with a source file of one's own, in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "my_bank.toml").write_text(OWN, encoding="utf-8")
    return tmp_path / "mine"


RATE = {"symbol": "EU.RATE", "asset": "economic", "kind": "observations", "from": ["my_bank", "ecb"]}


def test_a_source_file_of_ones_own_is_known_and_a_wrong_one_costs_itself_alone(own):
    config = require_config(SourcesSettings, "sources", section(RATE, catalog="mine"))
    served, unserved = load_catalog("mine")[0]["my_bank"], "ecb does not serve EU.RATE"
    assert served.title == "A bank of mine"
    (warning,) = list_warnings(config, "sources")
    assert unserved in str(warning)
    assert "my_bank is no source" in refuse(RATE)
    (own / "odd.toml").write_text("name = 5", encoding="utf-8")
    wrong, warning = map(str, list_warnings(config, "sources"))
    assert wrong.startswith("services.sources.settings.catalog: odd.toml: name: ")
    assert unserved in warning
    (own / "kraken.toml").write_text(OWN.replace("my_bank", "kraken"), encoding="utf-8")
    assert load_catalog("mine")[0]["kraken"].title == "A bank of mine"


def test_where_the_folder_is_missing_a_name_may_be_that_of_a_file_in_it():
    config = require_config(SourcesSettings, "sources", section(RATE, catalog="elsewhere"))
    assert str(list_warnings(config, "sources")[0]) == (
        "services.sources.settings.catalog: elsewhere is not a folder here, so its sources are unknown"
    )


def test_the_key_of_a_source_of_ones_own_is_passed_on(own):
    document = {"services": {"sources": {"endpoints": [RATE], "settings": {"catalog": own.name}}}}
    truth = parse_truth(orjson.dumps(document)).truth
    environ = {"MY_BANK_KEY": "k", "OTHER_KEY": "o", "FRED_API_KEY": "f"}
    passed = make_child_environ("services.sources", "sources", truth, environ)
    assert passed == {"MY_BANK_KEY": "k", "FRED_API_KEY": "f"}
    document["services"]["sources"]["settings"] = {"catalog": "../elsewhere"}
    truth = parse_truth(orjson.dumps(document)).truth
    assert make_child_environ("services.sources", "sources", truth, environ) == {"FRED_API_KEY": "f"}


def test_the_bars_of_one_source_are_a_series_of_their_own_and_no_stream_brings_them():
    entries = [SPY, {**ALONE, "separate": True}, {**SPY, "from": ["tiingo"], "separate": True}]
    config = require_config(SourcesSettings, "sources", section(*entries))
    merged, massive, tiingo = list_series(config)
    assert [each.id for each in (merged, massive, tiingo)] == [
        "SPY:bars:1m",
        "SPY:bars:1m@massive",
        "SPY:bars:1m@tiingo",
    ]
    assert [each.name_entry("SPY") for each in (merged, massive)] == ["SPY", "SPY@massive"]
    assert (is_stream(merged, "massive"), is_stream(massive, "massive")) == (True, False)
    assert (merged.may_stream, massive.may_stream) == (True, False)


def test_a_source_that_can_not_give_the_timeframe_of_its_own_series_is_named_by_its_path():
    entry = {"symbol": "SPY", "from": ["alpha_vantage"], "separate": True}
    found = [str(each) for each in find({**entry, "timeframe": "4h"}, {**entry, "timeframe": "1d"})]
    assert found == [
        "services.sources.endpoints[0].from[0]: alpha_vantage does not serve SPY: bars of stocks in 4h"
    ]


def find(*endpoints):
    config = require_config(SourcesSettings, "sources", section(*endpoints))
    return list_warnings(config, "sources")
