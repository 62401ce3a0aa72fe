"""Symbols are added, disabled and enabled in the text of a truth, and all other text stays as it is."""

import json

import pytest

from marketswarm.truth.document_edit import EditError, diff_texts
from services.market.records import AssetClass
from services.sources.symbol_edit import NewSymbol, add_symbol, disable_symbol, enable_symbol

TEXT = """\
{
  "services": {
    "sources": {
      "endpoints": [
        {"symbol": "BTC/USD", "asset": "crypto", "critical": true, "every_sec": 60, "from": ["kraken"]},
        {"symbols": ["BTC/USD", "LTC/USD"], "asset": "crypto", "timeframe": "1d", "from": ["kraken"]},
        {"symbols": ["SPY", "QQQ"], "timeframe": "1d", "critical": true, "from": ["yahoo"]}
      ],
      "settings": {"load": {"concurrency": 5}}
    }
  }
}
"""


def change(edit, *args, text=TEXT):
    """What an edit adds and removes, as lines without blanks around them."""
    lines = diff_texts(text, edit(text, *args))
    return [line[0] + line[1:].strip().rstrip(",") for line in lines if line[0] in "+-"]


def read_entries(text):
    return json.loads(text)["services"]["sources"]["endpoints"]


def new(symbol, asset=AssetClass.CRYPTO, **more):
    return NewSymbol(symbol=symbol, asset=asset, **more)


def test_a_new_symbol_is_loaded_as_the_first_one_of_its_class_and_is_not_critical():
    before, after = read_entries(TEXT), read_entries(add_symbol(TEXT, new("ETH/USD")))
    assert [after[0], after[2]] == [before[0], before[2]]
    assert after[1] == {**before[1], "symbols": ["BTC/USD", "LTC/USD", "ETH/USD"]}
    assert after[3:] == [{"symbol": "ETH/USD", "asset": "crypto", "every_sec": 60, "from": ["kraken"]}]
    own = read_entries(add_symbol(TEXT, new("DIA", AssetClass.STOCKS)))
    assert own[3:] == [{"symbol": "DIA", "timeframe": "1d", "from": ["yahoo"]}]


def test_a_new_symbol_is_loaded_as_another_one_that_is_named():
    entries = read_entries(add_symbol(TEXT, new("ETH/USD", like="LTC/USD")))
    assert [entry.get("symbols") for entry in entries if "ETH/USD" in json.dumps(entry)] == [
        ["BTC/USD", "LTC/USD", "ETH/USD"]
    ]
    with pytest.raises(EditError, match="the truth names no LTC; did you mean LTC/USD"):
        add_symbol(TEXT, new("ETH/USD", like="LTC"))


def test_a_new_symbol_gets_no_series_of_one_source_for_itself():
    own = '"from": ["kraken"], "separate": true}'
    text = TEXT.replace('"timeframe": "1d", "from": ["kraken"]}', '"timeframe": "1d", ' + own)
    assert read_entries(text)[1]["separate"]
    after = read_entries(add_symbol(text, new("ETH/USD", like="BTC/USD")))
    assert after[:3] == read_entries(text)
    assert [entry["symbol"] for entry in after[3:]] == ["ETH/USD"]


def test_a_new_symbol_with_sources_of_its_own_has_a_series_of_its_own():
    more = {"sources": ["kraken", "coinbase"], "every_sec": 60.0, "timeframe": "5m", "group": "coins"}
    assert read_entries(add_symbol(TEXT, new("ETH/USD", **more)))[3:] == [
        {
            "symbol": "ETH/USD",
            "group": "coins",
            "asset": "crypto",
            "timeframe": "5m",
            "every_sec": 60,
            "from": ["kraken", "coinbase"],
        }
    ]
    economic = new("US.UNRATE", AssetClass.ECONOMIC, sources=["fred"])
    assert read_entries(add_symbol(TEXT, economic))[3:] == [
        {"symbol": "US.UNRATE", "asset": "economic", "kind": "observations", "from": ["fred"]}
    ]
    for alone in ({"every_sec": 60.0}, {"timeframe": "1d"}, {"group": "coins"}):
        with pytest.raises(EditError, match="say --from"):
            add_symbol(TEXT, new("ETH/USD", **alone))


def test_a_symbol_that_is_there_and_a_class_without_a_series_are_refused_with_a_remedy():
    with pytest.raises(EditError, match=r"sources names SPY already$"):
        add_symbol(TEXT, new("SPY", AssetClass.STOCKS))
    with pytest.raises(EditError, match="and is disabled: `marketswarm symbol enable SPY` has it loaded"):
        add_symbol(disable_symbol(TEXT, "SPY"), new("SPY"))
    with pytest.raises(EditError, match="loads no forex yet: say by --from which sources serve EUR/USD"):
        add_symbol(TEXT, new("EUR/USD", AssetClass.FOREX))
    with pytest.raises(EditError, match="no service sources"):
        add_symbol('{"services": {}}', new("SPY"))


def test_a_symbol_is_disabled_and_enabled_and_nothing_else_changes():
    off = disable_symbol(TEXT, "LTC/USD")
    assert change(disable_symbol, "LTC/USD") == [
        '-"settings": {"load": {"concurrency": 5}}',
        '+"settings": {"load": {"concurrency": 5}, "disabled": ["LTC/USD"]}',
    ]
    both = disable_symbol(off, "SPY")
    assert json.loads(both)["services"]["sources"]["settings"]["disabled"] == ["LTC/USD", "SPY"]
    assert enable_symbol(enable_symbol(both, "LTC/USD"), "SPY") == enable_symbol(off, "LTC/USD") == TEXT


@pytest.mark.parametrize(
    ("edit", "symbol", "why"),
    [
        (disable_symbol, "ETH", "the truth names no ETH; "),
        (enable_symbol, "SPX", "the truth names no SPX; did you mean SPY"),
        (enable_symbol, "SPY", "SPY is not disabled"),
        (
            lambda text, symbol: disable_symbol(disable_symbol(text, symbol), symbol),
            "SPY",
            "disabled already",
        ),
    ],
)
def test_what_can_not_be_done_is_refused(edit, symbol, why):
    with pytest.raises(EditError, match=why):
        edit(TEXT, symbol)
